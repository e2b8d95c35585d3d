// Log-density of a Gaussian mixture, as src/ops/mixture_log_density.rs. A warp has a row, its
// parts the components one after another, and their lanes the columns.
#include "mixture.cuh"
#include "team.cuh"

// What the backward needs, as `blocks` in the Rust file: w and r [rows x K]; e^a, da/da~ and z [rows x K d].
template <typename T>
struct Saved {
    T *prior, *posterior, *scale, *slope, *z;
    __device__ Saved(T* saved, size_t rows, int k, int d) {
        prior = saved;
        posterior = prior + rows * k;
        scale = posterior + rows * k;
        slope = scale + rows * k * d;
        z = slope + rows * k * d;
    }
};

// The component with which a team begins, and how many teams a warp has.
__device__ inline int first_component(const Team& team) { return lane_index() / team.size; }
__device__ inline int components_at_once(const Team& team) { return WARP / team.size; }

// Row i of the factor left of its diagonal, times e = x - mean.
__device__ inline real below_times(
    const Team& team, const Mixture& mixture, int c, int i, const real* x, const real* raw) {
    real dot = real(0);
    for (int first = 0; first < mixture.below_length(mixture.d); first += team.size) {
        int own = first + team.lane;
        real e = own < mixture.d ? x[own] - raw[mixture.mean(c) + own] : real(0);
        for (int j = first; j < first + team.size; j++) {
            real other = team.of_lane(e, j - first);
            if (i < mixture.d && j < i) dot += raw[mixture.below(c, i) + j] * other;
        }
    }
    return dot;
}

KERNEL mixture_log_density_forward(
    const real* x, const real* raw, real* density, real* memory, real norm, int k, int d, int full, int width,
    size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    Mixture mixture = {k, d, full};
    Saved<real> saved(memory, rows, k, d);
    Team team(d);
    x += row * d;
    raw += row * width;
    real *prior = saved.prior + row * k, *posterior = saved.posterior + row * k;
    for (int c = lane_index(); c < k; c += WARP) prior[c] = raw[c];
    real ln_total = softmax(prior, k);
    for (int c = first_component(team); c < k; c += components_at_once(team)) {
        size_t of = (row * k + c) * d;
        real sum = real(0), squares = real(0);
        for (int first = 0; first < d; first += team.size) {
            int i = first + team.lane;
            real dot = below_times(team, mixture, c, i, x, raw);
            if (i >= d) continue;
            real tanh = hyperbolic_tangent(raw[mixture.ln_diagonal(c) + i] * real(1.0 / CLAMP));
            real a = tanh * real(CLAMP), scale = exponential(a);
            real z = scale * (x[i] - raw[mixture.mean(c) + i]) + dot;
            saved.slope[of + i] = real(1) - tanh * tanh;
            saved.scale[of + i] = scale;
            saved.z[of + i] = z;
            sum += a;
            squares += z * z;
        }
        sum = team.sum(sum);
        squares = team.sum(squares);
        if (team.lane == 0) posterior[c] = raw[c] - ln_total + sum - norm - real(0.5) * squares;
    }
    __syncwarp();
    real value = softmax(posterior, k);
    if (lane_index() == 0) density[row] = value;
}

// What the rows of the factor below row i bring to column i: the sum of L(j, i) v(j) with v = `share` z. The adjoints of
// these entries, -v(j) e(i), are put.
__device__ inline real below_transposed(
    const Team& team, const Mixture& mixture, int c, int i, const real* z, const real* raw, real share, real e,
    Adjoint draw, size_t start) {
    real sum = real(0);
    for (int first = 0; first < mixture.below_length(mixture.d); first += team.size) {
        int own = first + team.lane;
        real v = own < mixture.d ? share * z[own] : real(0);
        for (int j = first; j < first + team.size; j++) {
            real other = team.of_lane(v, j - first);
            if (j >= mixture.d || i >= j) continue;
            size_t at = mixture.below(c, j) + i;
            sum += raw[at] * other;
            draw.put(start + at, -other * e);
        }
    }
    return sum;
}

KERNEL mixture_log_density_backward(
    const real* x, const real* raw, const real* dl, const real* memory, Adjoint dx, Adjoint draw, int k, int d, int full,
    int width, size_t rows) {
    size_t row = warp_index(), start = row * width;
    if (row >= rows) return;
    Mixture mixture = {k, d, full};
    Saved<const real> saved(memory, rows, k, d);
    Team team(d);
    x += row * d;
    raw += start;
    real along = dl[row];
    const real* posterior = saved.posterior + row * k;
    for (int c = lane_index(); c < k; c += WARP) draw.put(start + c, along * (posterior[c] - saved.prior[row * k + c]));
    for (int first = 0; first < d; first += team.size) {
        int i = first + team.lane;
        real across = real(0);
        for (int c = first_component(team); c < k; c += components_at_once(team)) {
            size_t of = (row * k + c) * d;
            real share = along * posterior[c], e = i < d ? x[i] - raw[mixture.mean(c) + i] : real(0);
            real below = below_transposed(team, mixture, c, i, saved.z + of, raw, share, e, draw, start);
            if (i >= d) continue;
            real v = share * saved.z[of + i], scale = saved.scale[of + i], adjoint = scale * v + below;
            draw.put(start + mixture.ln_diagonal(c) + i, (share - v * e * scale) * saved.slope[of + i]);
            draw.put(start + mixture.mean(c) + i, adjoint);
            across += adjoint;
        }
        // The sum over the components, which the teams share.
        for (int distance = WARP / 2; distance >= team.size; distance /= 2)
            across += __shfl_xor_sync(ALL_LANES, across, distance);
        if (lane_index() < team.size && i < d) dx.put(row * d + i, -across);
    }
}
