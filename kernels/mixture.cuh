// Gaussian mixtures, as src/ops/mixture_log_density.rs and mixture_sample.rs describe them.
#pragma once
#include "math.cuh"

#define CLAMP 10.0

// Where the parameters of component c stand in a row of `raw`, as `Mixture` in the Rust file.
struct Mixture {
    int k, d, full;
    __device__ int mean(int c) const { return k + c * d; }
    __device__ int ln_diagonal(int c) const { return k + (k + c) * d; }
    // Row i of the factor, up to its diagonal: `below_length(i)` numbers.
    __device__ int below(int c, int i) const { return k * (1 + 2 * d) + c * (d * (d - 1) / 2) + i * (i - 1) / 2; }
    __device__ int below_length(int i) const { return full ? i : 0; }
};

// Turns k logarithms into the shares of their exponentials, and returns the logarithm of their sum.
__device__ inline real softmax(real* logarithms, int k) {
    real largest = -INFINITE, sum = real(0);
    for (int c = lane_index(); c < k; c += WARP) largest = logarithms[c] > largest ? logarithms[c] : largest;
    largest = warp_max(largest);
    real shift = magnitude(largest) < INFINITE ? largest : real(0);
    for (int c = lane_index(); c < k; c += WARP) sum += exponential(logarithms[c] - shift);
    sum = warp_sum(sum);
    for (int c = lane_index(); c < k; c += WARP) logarithms[c] = exponential(logarithms[c] - shift) / sum;
    return shift + logarithm(sum);
}
