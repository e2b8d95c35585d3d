// Divergence from the standard normal, as src/ops/gaussian_kl.rs. `ln_sigma` has `spread` columns, d or 1.
// A warp has a row.
#include "math.cuh"

// `saved` gets sigma^2 - 1.
KERNEL gaussian_kl_forward(
    const real* mean, const real* ln_sigma, real* kl, real* saved, int d, int spread, size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    real sum = real(0);
    for (int c = lane_index(); c < d; c += WARP) {
        size_t i = row * d + c;
        real s = ln_sigma[row * spread + (spread == 1 ? 0 : c)], excess = exponential(real(2) * s) - real(1);
        saved[i] = excess;
        sum += real(0.5) * (mean[i] * mean[i] + excess) - s;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) kl[row] = sum;
}

KERNEL gaussian_kl_backward(
    const real* dkl, const real* mean, const real* saved, Adjoint dmean, Adjoint dln_sigma, int d, int spread,
    size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    real sum = real(0);
    for (int c = lane_index(); c < d; c += WARP) {
        size_t i = row * d + c;
        real along = dkl[row] * saved[i];
        dmean.put(i, dkl[row] * mean[i]);
        if (spread == d) dln_sigma.put(i, along);
        sum += along;
    }
    sum = warp_sum(sum);
    if (spread != d && lane_index() == 0) dln_sigma.put(row, sum);
}
