// Sums over columns, as src/ops/reduce.rs.
#include "common.cuh"

// A warp has a row.
KERNEL sum_cols_forward(const real* x, real* y, real scale, int cols, size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    real sum = real(0);
    for (int col = lane_index(); col < cols; col += WARP) sum += x[row * cols + col];
    sum = warp_sum(sum);
    if (lane_index() == 0) y[row] = scale * sum;
}

// A thread has an element.
KERNEL sum_cols_backward(const real* dy, Adjoint dx, real scale, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) dx.put(i, scale * dy[i / cols]);
}
