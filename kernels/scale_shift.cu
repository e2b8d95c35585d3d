// A learned scale and shift of each column, as src/ops/scale_shift.rs. `sign` is 1 forward and -1 in the inverse.
#include "math.cuh"
#include "team.cuh"

// A team has a row.
KERNEL scale_shift_forward(
    const real* x, const real* ln_det, const real* log_scale, const real* shift, real* y, real* new_ln_det, real sign,
    int width, size_t rows) {
    Team team(width);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int c = team.lane; c < width; c += team.size) {
        real scale = exponential(sign * log_scale[c]), value = x[row * width + c];
        y[row * width + c] = sign > real(0) ? value * scale + shift[c] : (value - shift[c]) * scale;
        sum += log_scale[c];
    }
    sum = team.sum(sum);
    if (team.lane == 0) new_ln_det[row] = ln_det[row] + sign * sum;
}

// A team has a row.
KERNEL scale_shift_backward(
    const real* dy, const real* dl, const real* log_scale, Adjoint dx, Adjoint dl_in, real sign, int width,
    size_t rows) {
    Team team(width);
    size_t row = team.row;
    if (row >= rows) return;
    for (int c = team.lane; c < width; c += team.size)
        dx.put(row * width + c, dy[row * width + c] * exponential(sign * log_scale[c]));
    if (team.lane == 0) dl_in.put(row, dl[row]);
}

// The parameters' gradients, either of which may be missing. `values` are the inputs forward and the outputs in the
// inverse. A block has 32 columns, and `blockIdx.y` counts shares of the rows, each of which adds to its own copy of the
// gradient, `stride` elements after that of the share before; each of a block's 8 warps adds up every eighth row.
KERNEL scale_shift_gradient(
    const real* dy, const real* dl, const real* values, const real* log_scale, real* ds, real* dt, size_t stride,
    real sign, int rows, int width) {
    __shared__ real parts[3][8][WARP];
    int warp = threadIdx.x / WARP, lane = lane_index(), col = blockIdx.x * WARP + lane;
    int share = (rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * share;
    int end = rows < begin + share ? rows : begin + share;
    real along = real(0), plain = real(0), own = real(0);
    if (col < width)
        for (int row = begin + warp; row < end; row += 8) {
            size_t i = (size_t)row * width + col;
            along += dy[i] * values[i];
            plain += dy[i];
            own += dl[row];
        }
    parts[0][warp][lane] = along;
    parts[1][warp][lane] = plain;
    parts[2][warp][lane] = own;
    __syncthreads();
    if (warp != 0 || col >= width) return;
    for (int other = 1; other < 8; other++) {
        along += parts[0][other][lane];
        plain += parts[1][other][lane];
        own += parts[2][other][lane];
    }
    real scale = exponential(sign * log_scale[col]);
    bool forward = sign > real(0);
    size_t at = blockIdx.y * stride + col;
    if (ds) ds[at] += forward ? along * scale + own : -(along + own);
    if (dt) dt[at] += forward ? plain : -(plain * scale);
}
