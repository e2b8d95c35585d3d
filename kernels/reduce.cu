// Sums over columns, as src/ops/reduce.rs.
#include "team.cuh"

// A team has a row.
KERNEL sum_cols_forward(const real* x, real* y, real scale, int cols, size_t rows) {
    Team team(cols);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int col = team.lane; col < cols; col += team.size) sum += x[row * cols + col];
    sum = team.sum(sum);
    if (team.lane == 0) y[row] = scale * sum;
}

// A thread has an element.
KERNEL sum_cols_backward(const real* dy, Adjoint dx, real scale, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) dx.put(i, scale * dy[i / cols]);
}
