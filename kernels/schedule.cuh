// Noise schedules in double precision, as src/noise_schedule.rs.
#pragma once
#include "common.cuh"

// In the order of `NoiseSchedule::numbers`.
enum { VARIANCE_EXPLODING, VARIANCE_PRESERVING, SUB_VARIANCE_PRESERVING, EDM, GEOMETRIC, LINEAR };

struct Schedule {
    int kind;
    // sigma_min and sigma_max, or beta_min and beta_max.
    double low, high, levels;
    __device__ explicit Schedule(const double* numbers)
        : kind((int)numbers[0]), low(numbers[1]), high(numbers[2]), levels(numbers[3]) {}

    __device__ double rate(double t) const { return low + t * (high - low); }
    __device__ double integral(double t) const { return t * (low + 0.5 * t * (high - low)); }
    // 1 - e^-B, without cancellation at small times.
    __device__ double lost(double t) const { return -expm1(-integral(t)); }
    __device__ double geometric(double t) const { return low * exp(t * log(high / low)); }

    // Functions of their own: double precision's exponentials are long.
    __device__ __noinline__ double alpha(double t) const {
        switch (kind) {
            case VARIANCE_PRESERVING:
            case SUB_VARIANCE_PRESERVING: return exp(-0.5 * integral(t));
            case LINEAR: return 1 - t;
            default: return 1;
        }
    }

    __device__ __noinline__ double sigma(double t) const {
        switch (kind) {
            case VARIANCE_EXPLODING: return geometric(t);
            case VARIANCE_PRESERVING: return __dsqrt_rn(lost(t));
            case SUB_VARIANCE_PRESERVING: return lost(t);
            case GEOMETRIC: {
                double level = floor(t * levels), last = levels - 1;
                // Written so that a NaN passes.
                level = level < 0 ? 0 : level;
                level = level > last ? last : level;
                return geometric(level / last);
            }
            default: return t;
        }
    }

    __device__ double drift(double t) const {
        switch (kind) {
            case VARIANCE_PRESERVING:
            case SUB_VARIANCE_PRESERVING: return -0.5 * rate(t);
            case LINEAR: return -1 / (1 - t);
            default: return 0;
        }
    }

    __device__ __noinline__ double diffusion_squared(double t) const {
        switch (kind) {
            case VARIANCE_EXPLODING: return 2 * geometric(t) * geometric(t) * log(high / low);
            case VARIANCE_PRESERVING: return rate(t);
            case SUB_VARIANCE_PRESERVING: return rate(t) * -expm1(-2 * integral(t));
            case EDM: return 2 * t;
            case GEOMETRIC: return 0;
            default: return 2 * t / (1 - t);
        }
    }
};
