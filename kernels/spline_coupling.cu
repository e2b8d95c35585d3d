// Coupling by rational-quadratic splines, as src/ops/spline_coupling.rs, where the equations are.
// A team has a row, and its lanes the columns; each transformed column is one element.
#include "math.cuh"
#include "team.cuh"

#define MAX_RAW_SLOPE real(1e3)

// One bin, in coordinates in which both its sides are 1.
struct Bin {
    real chord, left, right;

    __device__ real denominator(real xi, real zeta) const {
        return chord * (xi * xi + zeta * zeta) + (left + right) * (xi * zeta);
    }

    __device__ real numerator(real xi, real zeta) const {
        real cross = chord * xi * zeta;
        return right * xi * xi + (cross + cross) + left * zeta * zeta;
    }

    __device__ real forward(real xi) const {
        real zeta = real(1) - xi;
        return xi * (chord * xi + left * zeta) / denominator(xi, zeta);
    }

    __device__ real inverse(real eta) const {
        real rest = real(1) - eta, twice = chord + chord, e = left * rest - right * eta;
        bool from_left = e >= real(0);
        real near = twice * (from_left ? eta : rest);
        real xi = near / (magnitude(e) + near + root(e * e + twice * twice * (eta * rest)));
        return from_left ? xi : real(1) - xi;
    }

    __device__ real slope(real xi) const {
        real zeta = real(1) - xi, ratio = chord / denominator(xi, zeta);
        return ratio * ratio * numerator(xi, zeta);
    }

    __device__ real log_slope_derivative(real xi) const {
        real zeta = real(1) - xi, skew = zeta - xi;
        real above = right * xi - left * zeta + chord * skew, below = (left + right - real(2) * chord) * skew;
        return real(2) * (above / numerator(xi, zeta) - below / denominator(xi, zeta));
    }

    // The adjoints of xi and of the three slopes, given those of eta and of the logarithm of the slope.
    __device__ Bin gradient(real xi, real d_eta, real dl, real& position) const {
        real zeta = real(1) - xi, cross = xi * zeta, l = left * zeta, r = right * xi;
        real per_e = real(1) / denominator(xi, zeta), n = numerator(xi, zeta);
        real along = d_eta * per_e * per_e, dl_n = dl / n, dl_e = real(2) * dl * per_e;
        position = along * chord * n + dl * log_slope_derivative(xi);
        Bin adjoint;
        adjoint.chord = along * cross * (r * xi - l * zeta) + real(2) * dl / chord + real(2) * dl_n * cross -
                        dl_e * (xi * xi + zeta * zeta);
        adjoint.left = along * cross * zeta * (chord * zeta + r) + dl_n * zeta * zeta - dl_e * cross;
        adjoint.right = dl_n * xi * xi - dl_e * cross - along * cross * xi * (chord * xi + l);
        return adjoint;
    }
};

// A bin along one axis: its lower edge and its length.
struct Side {
    int number;
    real low, length;
};

// The numbers of `SplineCoupling` in the Rust file.
struct Spline {
    int bins;
    real bound, least, free, floor, offset;

    __device__ real side(real share) const { return fused(share, free, least); }

    __device__ real slope(real raw) const {
        return floor + softplus(offset + (raw > MAX_RAW_SLOPE ? MAX_RAW_SLOPE : raw));
    }

    __device__ real slope_derivative(real raw) const {
        return raw > MAX_RAW_SLOPE ? real(0) : sigmoid(offset + raw);
    }

    __device__ Bin bin(real width, real height, real left, real right) const {
        Bin bin = {height / width, slope(left), slope(right)};
        return bin;
    }

    // The softmax of the raw sides of one element, `step` apart, one pass over which leaves the shares, `plane` apart, and
    // finds the side of bin `number`; or, to `search`, of the bin in which x lies, whose number is -1 outside.
    __device__ Side sides(
        const real* raw, int step, real* shares, size_t plane, bool search, real x, int number) const {
        real most = raw[0], sum = real(0), edge = -bound;
        for (int k = 1; k < bins; k++) most = raw[k * step] > most ? raw[k * step] : most;
        for (int k = 0; k < bins; k++) sum += exponential(raw[k * step] - most);
        real per_sum = real(1) / sum;
        Side found = {number, real(0), real(1)};
        for (int k = 0; k < bins; k++) {
            real share = exponential(raw[k * step] - most) * per_sum;
            shares[k * plane] = share;
            real next = k + 1 == bins ? bound : edge + side(share);
            // The last bin that begins at or before x.
            if (search ? k == 0 || x >= edge : k == number) found = {k, edge, next - edge};
            edge = next;
        }
        if (search && !(-bound < x && x < bound)) found.number = -1;
        return found;
    }
};

// What the forward leaves, in planes of one number per element: K shares of widths, K of heights, then these.
enum { NUMBER, POSITION, WIDTH, HEIGHT, LEFT, RIGHT };

KERNEL spline_coupling_forward(
    const real* x, const real* raw, const real* ln_det, real* y, real* new_ln_det, real* saved, const int* place,
    int bins, real bound, real least, real free, real floor, real offset, int inverse, int b, int width, size_t rows) {
    Team team(width);
    size_t row = team.row, plane = rows * b;
    if (row >= rows) return;
    Spline spline = {bins, bound, least, free, floor, offset};
    raw += row * b * (3 * bins - 1);
    real sum = real(0);
    for (int c = team.lane; c < width; c += team.size) {
        real value = x[row * width + c];
        int j = place[c];
        if (j >= 0) {
            real *widths = saved + row * b + j, *heights = widths + bins * plane, *single = heights + bins * plane;
            const real *raw_widths = raw + j, *raw_heights = raw_widths + bins * b, *slopes = raw_heights + bins * b;
            Side along = spline.sides(inverse ? raw_heights : raw_widths, b, inverse ? heights : widths, plane, true,
                                      value, 0);
            int number = along.number;
            Side across = spline.sides(inverse ? raw_widths : raw_heights, b, inverse ? widths : heights, plane, false,
                                       value, number);
            real position = real(0), w = real(1), h = real(1), left = real(0), right = real(0);
            if (number >= 0) {
                w = inverse ? across.length : along.length;
                h = inverse ? along.length : across.length;
                position = (value - along.low) / along.length;
                if (number > 0) left = slopes[(number - 1) * b];
                if (number + 1 < bins) right = slopes[number * b];
                value = across.low;
            }
            Bin bin = spline.bin(w, h, left, right);
            if (inverse) position = bin.inverse(position);
            value += inverse ? w * position : h * bin.forward(position);
            sum += logarithm(bin.slope(position));
            single[NUMBER * plane] = real(number);
            single[POSITION * plane] = position;
            single[WIDTH * plane] = w;
            single[HEIGHT * plane] = h;
            single[LEFT * plane] = left;
            single[RIGHT * plane] = right;
        }
        y[row * width + c] = value;
    }
    sum = team.sum(sum);
    if (team.lane == 0) new_ln_det[row] = ln_det[row] + (inverse ? -sum : sum);
}

// The adjoints of the raw sides along one axis, from those of the bin's lower edge and side.
__device__ inline void pull_back_sides(
    const Spline& spline, const real* shares, size_t plane, int number, real edge, real side, Adjoint draw, size_t at,
    int step) {
    real mean = real(0);
    for (int k = 0; k < spline.bins; k++) {
        real of_share = spline.free * (number > k ? edge : number == k ? side : real(0));
        mean += shares[k * plane] * of_share;
    }
    for (int k = 0; k < spline.bins; k++) {
        real of_share = spline.free * (number > k ? edge : number == k ? side : real(0));
        draw.put(at + k * step, shares[k * plane] * (of_share - mean));
    }
}

KERNEL spline_coupling_backward(
    const real* dy, const real* dl, const real* saved, const int* place, Adjoint dx, Adjoint draw, Adjoint dl_in,
    int bins, real bound, real least, real free, real floor, real offset, int inverse, int b, int width, size_t rows) {
    Team team(width);
    size_t row = team.row, plane = rows * b;
    if (row >= rows) return;
    Spline spline = {bins, bound, least, free, floor, offset};
    real along_l = dl[row];
    for (int c = team.lane; c < width; c += team.size) {
        real adjoint = dy[row * width + c];
        int j = place[c];
        if (j >= 0) {
            const real *widths = saved + row * b + j, *heights = widths + bins * plane;
            const real* single = heights + bins * plane;
            int number = (int)single[NUMBER * plane];
            real xi = single[POSITION * plane], w = single[WIDTH * plane], h = single[HEIGHT * plane];
            real left = single[LEFT * plane], right = single[RIGHT * plane];
            Bin bin = spline.bin(w, h, left, right);
            real along = inverse ? -along_l : along_l, per_w = real(1) / w, position;
            // The forward's adjoint of y; in the inverse, minus that of the input.
            real value = inverse ? -(adjoint + along * bin.log_slope_derivative(xi) * per_w) / bin.slope(xi) : adjoint;
            Bin pulled = bin.gradient(xi, value * h, along, position);
            real to_width = -(position * xi + pulled.chord * bin.chord) * per_w;
            real to_height = value * bin.forward(xi) + pulled.chord * per_w;
            // What counts from the element's own edge, and what is added to the result's.
            real own = inverse ? value : -position * per_w;
            real x_edge = inverse ? adjoint : own, y_edge = inverse ? own : adjoint;
            size_t at = row * b * (3 * bins - 1) + j;
            pull_back_sides(spline, widths, plane, number, x_edge, to_width, draw, at, b);
            pull_back_sides(spline, heights, plane, number, y_edge, to_height, draw, at + bins * b, b);
            real to_left = pulled.left * spline.slope_derivative(left);
            real to_right = pulled.right * spline.slope_derivative(right);
            for (int k = 0; k + 1 < bins; k++) {
                real to = number == k + 1 ? to_left : number == k ? to_right : real(0);
                draw.put(at + (2 * bins + k) * b, to);
            }
            adjoint = -own;
        }
        dx.put(row * width + c, adjoint);
    }
    if (team.lane == 0) dl_in.put(row, along_l);
}
