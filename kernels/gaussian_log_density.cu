// Log-density of a Gaussian with independent columns, as src/ops/gaussian_log_density.rs. `ln_sigma` has `spread`
// columns, d or 1. A team has a row.
#include "math.cuh"
#include "team.cuh"

// `saved` gets [rows x d] u, then [rows x d] 1 / sigma.
KERNEL gaussian_log_density_forward(
    const real* x, const real* mean, const real* ln_sigma, real* density, real* saved, real norm, int d, int spread,
    size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0), squares = real(0);
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real s = ln_sigma[row * spread + (spread == 1 ? 0 : c)], per_sigma = exponential(-s);
        real u = (x[i] - mean[i]) * per_sigma;
        saved[i] = u;
        saved[rows * d + i] = per_sigma;
        sum += s;
        squares += u * u;
    }
    sum = team.sum(sum);
    squares = team.sum(squares);
    if (team.lane == 0) density[row] = -sum - norm - real(0.5) * squares;
}

KERNEL gaussian_log_density_backward(
    const real* dl, const real* saved, Adjoint dx, Adjoint dmean, Adjoint dln_sigma, int d, int spread, size_t rows) {
    Team team(d);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int c = team.lane; c < d; c += team.size) {
        size_t i = row * d + c;
        real u = saved[i], through = dl[row] * u * saved[rows * d + i], along = dl[row] * (u * u - real(1));
        dx.put(i, -through);
        dmean.put(i, through);
        if (spread == d) dln_sigma.put(i, along);
        sum += along;
    }
    sum = team.sum(sum);
    if (spread != d && team.lane == 0) dln_sigma.put(row, sum);
}
