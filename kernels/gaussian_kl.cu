// Divergence from the standard normal, as src/ops/gaussian_kl.rs. `ln_sigma` has `spread` columns, d or 1.
// A team has a row.
#include "math.cuh"
#include "team.cuh"

// `saved` gets sigma^2 - 1.
KERNEL gaussian_kl_forward(
    const real* mean, const real* ln_sigma, real* kl, real* saved, int d, int spread, size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real s = ln_sigma[row * spread + (spread == 1 ? 0 : c)], excess = exponential(real(2) * s) - real(1);
        saved[i] = excess;
        sum += real(0.5) * (mean[i] * mean[i] + excess) - s;
    }
    sum = team.sum(sum);
    if (team.lane == 0) kl[row] = sum;
}

KERNEL gaussian_kl_backward(
    const real* dkl, const real* mean, const real* saved, Adjoint dmean, Adjoint dln_sigma, int d, int spread,
    size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real along = dkl[row] * saved[i];
        dmean.put(i, dkl[row] * mean[i]);
        if (spread == d) dln_sigma.put(i, along);
        sum += along;
    }
    sum = team.sum(sum);
    if (spread != d && team.lane == 0) dln_sigma.put(row, sum);
}
