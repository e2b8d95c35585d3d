// A Gaussian draw, as src/ops/gaussian_sample.rs. `ln_sigma` has `spread` columns, d or 1. A team has a row.
#include "math.cuh"
#include "team.cuh"

// `saved` gets sigma.
KERNEL gaussian_sample_forward(
    const real* mean, const real* ln_sigma, const real* eps, real* z, real* saved, int d, int spread, size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real sigma = exponential(ln_sigma[row * spread + (spread == 1 ? 0 : c)]);
        saved[i] = sigma;
        z[i] = fused(sigma, eps[i], mean[i]);
    }
}

KERNEL gaussian_sample_backward(
    const real* dz, const real* saved, const real* eps, Adjoint dmean, Adjoint dln_sigma, Adjoint deps, int d,
    int spread, size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real through = dz[i] * saved[i], along = through * eps[i];
        dmean.put(i, dz[i]);
        deps.put(i, through);
        if (spread == d) dln_sigma.put(i, along);
        sum += along;
    }
    sum = team.sum(sum);
    if (spread != d && team.lane == 0) dln_sigma.put(row, sum);
}
