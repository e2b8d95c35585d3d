// A draw from a Gaussian mixture, as src/ops/mixture_sample.rs. A warp has a row.
#include "mixture.cuh"

// The first component whose cumulative weight reaches u of the whole; k if none does.
__device__ inline int component(const real* weights, real u, int k) {
    real whole = real(0), sum = real(0);
    for (int c = 0; c < k; c++) whole += weights[c];
    for (int c = 0; c < k; c++) {
        sum += weights[c];
        if (sum >= u * whole) return c;
    }
    return k;
}

KERNEL mixture_sample_forward(
    const real* raw, const real* normal, const real* uniform, real* x, real* memory, int k, int d, int full, int width,
    size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    Mixture mixture = {k, d, full};
    real* weights = memory + row * k;
    raw += row * width, normal += row * d, x += row * d;
    for (int c = lane_index(); c < k; c += WARP) weights[c] = raw[c];
    softmax(weights, k);
    __syncwarp();
    int c = component(weights, uniform[row], k);
    // From the first column on: each row of the factor needs what stands above it.
    for (int i = 0; i < d; i++) {
        real known = real(0);
        for (int j = lane_index(); j < i && j < mixture.below_length(i) && c < k; j += WARP)
            known += raw[mixture.below(c, i) + j] * x[j];
        known = warp_sum(known);
        if (lane_index() == 0) {
            real a = c < k ? real(CLAMP) * hyperbolic_tangent(raw[mixture.ln_diagonal(c) + i] * real(1.0 / CLAMP))
                           : NOT_A_NUMBER;
            x[i] = (normal[i] - known) * exponential(-a);
        }
        __syncwarp();
    }
    for (int i = lane_index(); i < d && c < k; i += WARP) x[i] += raw[mixture.mean(c) + i];
}
