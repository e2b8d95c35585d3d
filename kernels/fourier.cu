// cos and sin of 2 pi f t for m frequencies, as src/ops/fourier.rs.
#include "math.cuh"
#include "team.cuh"

// A thread has a number t and a frequency.
KERNEL fourier_forward(const real* t, const real* frequencies, real* y, int m, size_t n) {
    size_t at = thread_index();
    if (at >= n * m) return;
    size_t i = at / m, j = at % m;
    sin_cos_turns(frequencies[j] * t[i], y[(2 * i + 1) * m + j], y[2 * i * m + j]);
}

// A team has a number t, and its lanes the frequencies.
KERNEL fourier_backward(const real* dy, const real* y, const real* frequencies, Adjoint dt, int m, size_t n) {
    Team team(m);
    if (team.row >= n) return;
    const real *cos = y + 2 * team.row * m, *sin = cos + m, *dcos = dy + 2 * team.row * m, *dsin = dcos + m;
    real sum = real(0);
    for (int j = team.lane; j < m; j += team.size) sum += frequencies[j] * (cos[j] * dsin[j] - sin[j] * dcos[j]);
    sum = team.sum(sum);
    if (team.lane == 0) dt.put(team.row, real(6.283185307179586) * sum);
}
