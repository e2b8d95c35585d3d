// Log-density of a Gaussian mixture, as src/ops/mixture_log_density.rs. A warp has a row, and its lanes the components.
#include "mixture.cuh"

// What the backward needs, as `blocks` in the Rust file: w and r [rows x K]; e^a, da/da~ and z [rows x K d].
struct Saved {
    real *prior, *posterior, *scale, *slope, *z;
    __device__ Saved(real* saved, size_t rows, int k, int d) {
        prior = saved;
        posterior = prior + rows * k;
        scale = posterior + rows * k;
        slope = scale + rows * k * d;
        z = slope + rows * k * d;
    }
};

KERNEL mixture_log_density_forward(
    const real* x, const real* raw, real* density, real* memory, real norm, int k, int d, int full, int width,
    size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    Mixture mixture = {k, d, full};
    Saved saved(memory, rows, k, d);
    x += row * d;
    raw += row * width;
    real *prior = saved.prior + row * k, *posterior = saved.posterior + row * k;
    for (int c = lane_index(); c < k; c += WARP) prior[c] = raw[c];
    real ln_total = softmax(prior, k);
    for (int c = lane_index(); c < k; c += WARP) {
        size_t of = (row * k + c) * d;
        real *scale = saved.scale + of, *slope = saved.slope + of, *z = saved.z + of, sum = real(0), squares = real(0);
        for (int i = 0; i < d; i++) {
            real tanh = hyperbolic_tangent(raw[mixture.ln_diagonal(c) + i] * real(1.0 / CLAMP));
            real a = tanh * real(CLAMP);
            slope[i] = real(1) - tanh * tanh;
            scale[i] = exponential(a);
            z[i] = x[i] - raw[mixture.mean(c) + i];
            sum += a;
        }
        // From the last row up, so that the rows above still find e.
        for (int i = d - 1; i >= 0; i--) {
            real dot = real(0);
            for (int j = 0; j < mixture.below_length(i); j++) dot += raw[mixture.below(c, i) + j] * z[j];
            z[i] = scale[i] * z[i] + dot;
            squares += z[i] * z[i];
        }
        posterior[c] = raw[c] - ln_total + sum - norm - real(0.5) * squares;
    }
    real value = softmax(posterior, k);
    if (lane_index() == 0) density[row] = value;
}

KERNEL mixture_log_density_backward(
    const real* x, const real* raw, const real* dl, real* memory, Adjoint dx, Adjoint draw, int k, int d, int full,
    int width, size_t rows) {
    size_t row = warp_index();
    if (row >= rows) return;
    Mixture mixture = {k, d, full};
    Saved saved(memory, rows, k, d);
    x += row * d;
    raw += row * width;
    real along = dl[row];
    for (int c = lane_index(); c < k; c += WARP) {
        size_t of = (row * k + c) * d;
        real share = along * saved.posterior[row * k + c], *z = saved.z + of;
        draw.put(row * width + c, along * (saved.posterior[row * k + c] - saved.prior[row * k + c]));
        for (int i = 0; i < d; i++) {
            real v = share * z[i], e = x[i] - raw[mixture.mean(c) + i];
            z[i] = v;
            draw.put(row * width + mixture.ln_diagonal(c) + i,
                     (share - v * e * saved.scale[of + i]) * saved.slope[of + i]);
            for (int j = 0; j < mixture.below_length(i); j++)
                draw.put(row * width + mixture.below(c, i) + j, v * (raw[mixture.mean(c) + j] - x[j]));
        }
    }
    // The means' adjoints, L^T v, and their sum.
    for (int i = 0; i < d; i++) {
        real sum = real(0);
        for (int c = lane_index(); c < k; c += WARP) {
            size_t of = (row * k + c) * d;
            real adjoint = saved.scale[of + i] * saved.z[of + i];
            for (int j = i + 1; j < d && full; j++) adjoint += raw[mixture.below(c, j) + i] * saved.z[of + j];
            draw.put(row * width + mixture.mean(c) + i, adjoint);
            sum += adjoint;
        }
        sum = warp_sum(sum);
        if (lane_index() == 0) dx.put(row * d + i, -sum);
    }
}
