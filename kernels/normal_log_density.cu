// log N(z; 0, I) of each row, as src/ops/normal_log_density.rs.
#include "team.cuh"

// A team has a row.
KERNEL normal_log_density_forward(const real* z, real* density, real norm, int cols, size_t rows) {
    Team team(cols);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int col = team.lane; col < cols; col += team.size) sum += z[row * cols + col] * z[row * cols + col];
    sum = team.sum(sum);
    if (team.lane == 0) density[row] = real(-0.5) * sum - norm;
}

// A thread has an element.
KERNEL normal_log_density_backward(const real* dl, const real* z, Adjoint dz, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) dz.put(i, -(dl[i / cols] * z[i]));
}
