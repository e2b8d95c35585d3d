// A learned linear map by its LU factors, as src/ops/lu_linear.rs. A team has a row, and its lanes the columns.
#include "math.cuh"
#include "team.cuh"

// A triangular matrix [d x d] with entries right of its diagonal (`upper`) or left of it. The diagonal is 1, or the
// exponential of that of the parameters.
struct Triangle {
    const real* weight;
    int d, row_stride, col_stride;
    bool upper, unit;

    __device__ real at(int row, int col) const { return weight[row * row_stride + col * col_stride]; }
    // A function of its own: inlined everywhere, the exponential would be most of the kernels.
    __device__ __noinline__ real diagonal(int i) const { return unit ? real(1) : exponential(at(i, i)); }
    __device__ bool has(int row, int col) const { return upper ? row < col : row > col; }

    // Column `col` of v A.
    __device__ real product(const real* v, int col) const {
        real sum = v[col] * diagonal(col);
#pragma unroll 1
        for (int row = upper ? 0 : col + 1; row < (upper ? col : d); row++) sum += v[row] * at(row, col);
        return sum;
    }

    // v A^-1 in place: each column in turn is taken out of those that it enters.
    __device__ void divide(const Team& team, real* v) const {
#pragma unroll 1
        for (int step = 0; step < d; step++) {
            int row = upper ? step : d - 1 - step;
            real quotient = v[row] / diagonal(row);
            for (int col = team.lane; col < d; col += team.size)
                if (has(row, col)) v[col] -= quotient * at(row, col);
            team.meet();
        }
        for (int col = team.lane; col < d; col += team.size) v[col] = v[col] / diagonal(col);
        team.meet();
    }
};

__device__ inline Triangle lower_factor(const real* weight, int d) { return {weight, d, d, 1, false, true}; }
__device__ inline Triangle upper_factor(const real* weight, int d) { return {weight, d, d, 1, true, false}; }
__device__ inline Triangle transposed(const Triangle& a) {
    return {a.weight, a.d, a.col_stride, a.row_stride, !a.upper, a.unit};
}

__device__ inline void copy_row(const Team& team, const real* from, real* to, int d) {
    for (int col = team.lane; col < d; col += team.size) to[col] = from[col];
    team.meet();
}

// `middle` gets z. `sign` is 1 forward and -1 in the inverse.
KERNEL lu_linear_forward(
    const real* x, const real* ln_det, const real* weight, real* y, real* new_ln_det, real* middle, real sign, int d,
    size_t rows) {
    Team team(d);
    if (team.row >= rows) return;
    Triangle lower = lower_factor(weight, d), upper = upper_factor(weight, d);
    x += team.row * d, y += team.row * d, middle += team.row * d;
    if (sign > real(0)) {
        for (int col = team.lane; col < d; col += team.size) middle[col] = lower.product(x, col);
        team.meet();
        for (int col = team.lane; col < d; col += team.size) y[col] = upper.product(middle, col);
    } else {
        copy_row(team, x, middle, d);
        upper.divide(team, middle);
        copy_row(team, middle, y, d);
        lower.divide(team, y);
    }
    real sum = real(0);
    for (int col = team.lane; col < d; col += team.size) sum += upper.at(col, col);
    sum = team.sum(sum);
    if (team.lane == 0) new_ln_det[team.row] = ln_det[team.row] + sign * sum;
}

// `through` gets the adjoint of z. In the inverse, `dy` becomes that of the input.
KERNEL lu_linear_backward(
    real* dy, const real* dl, const real* weight, real* through, Adjoint dx, Adjoint dl_in, real sign, int d,
    size_t rows) {
    Team team(d);
    if (team.row >= rows) return;
    Triangle lower = transposed(lower_factor(weight, d)), upper = transposed(upper_factor(weight, d));
    size_t start = team.row * d;
    dy += start, through += start;
    if (sign > real(0)) {
        for (int col = team.lane; col < d; col += team.size) through[col] = upper.product(dy, col);
        team.meet();
        for (int col = team.lane; col < d; col += team.size) dx.put(start + col, lower.product(through, col));
    } else {
        copy_row(team, dy, through, d);
        lower.divide(team, through);
        copy_row(team, through, dy, d);
        upper.divide(team, dy);
        for (int col = team.lane; col < d; col += team.size) dx.put(start + col, dy[col]);
    }
    if (team.lane == 0) dl_in.put(team.row, dl[team.row]);
}

// The gradient of the parameters: `sign` x^T dx_l left of the diagonal, `sign` z^T dy_u on and right of it, and the
// log-det's own. A block has 32 elements; each of its 8 warps adds up every eighth row.
KERNEL lu_linear_gradient(
    const real* x, const real* z, const real* along_lower, const real* along_upper, const real* dl, const real* weight,
    real* gradient, real sign, int rows, int d) {
    __shared__ real parts[8][WARP];
    int warp = threadIdx.x / WARP, lane = lane_index(), at = blockIdx.x * WARP + lane, i = at / d, j = at % d;
    bool inside = at < d * d, left = j < i;
    real sum = real(0), scale = inside && i == j ? exponential(weight[at]) : real(1);
    if (inside)
        for (int row = warp; row < rows; row += 8) {
            size_t start = (size_t)row * d;
            real product = left ? x[start + i] * along_lower[start + j] : z[start + i] * along_upper[start + j];
            sum += i == j ? product * scale + dl[row] : product;
        }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || !inside) return;
    for (int other = 1; other < 8; other++) sum += parts[other][lane];
    gradient[at] += sign * sum;
}
