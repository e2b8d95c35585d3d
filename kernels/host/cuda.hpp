// What CUDA C++ adds to C++, as far as the kernels use it, for g++. Included before a kernel file; block.cpp runs it.
// `__shared__` is not here: check.sh turns such a declaration into a call of `shared_memory`.
#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __noinline__ __attribute__((noinline))

struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Those of the thread that runs.
extern uint3 threadIdx, blockIdx, blockDim, gridDim;

// A place in a kernel.
using Place = std::source_location;

void __syncthreads(Place place = Place::current());
void __syncwarp(unsigned mask = 0xFFFFFFFFu, Place place = Place::current());
[[noreturn]] void __trap(Place place = Place::current());

// The bits that lane `from` brings to this place; all lanes of the mask must come.
uint64_t shuffle(unsigned mask, uint64_t bits, unsigned from, Place place);

template <typename T>
T shuffle(unsigned mask, T value, unsigned from, Place place) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = shuffle(mask, bits, from, place);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, Place place = Place::current()) {
    return shuffle(mask, value, lane % 32, place);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, Place place = Place::current()) {
    return shuffle(mask, value, (threadIdx.x % 32) ^ lanes, place);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, Place place = Place::current()) {
    unsigned lane = threadIdx.x % 32;
    return shuffle(mask, value, lane + lanes < 32 ? lane + lanes : lane, place);
}

// A block's memory for the declaration at this place, or as much as the launch gives to `extern __shared__`.
void* shared_memory(size_t bytes, Place place);
void* dynamic_shared_memory();

template <typename T>
T& shared_memory(Place place = Place::current()) {
    return *(T*)shared_memory(sizeof(T), place);
}

inline float atomicAdd(float* to, float value) {
    auto* bits = (uint32_t*)to;
    uint32_t seen = __atomic_load_n(bits, __ATOMIC_RELAXED);
    auto sum = [&] { return std::bit_cast<uint32_t>(std::bit_cast<float>(seen) + value); };
    while (!__atomic_compare_exchange_n(bits, &seen, sum(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return std::bit_cast<float>(seen);
}

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
// The standard normal's quantile, by Newton's method on its distribution function.
inline double normcdfinv(double p) {
    double x = 0;
    for (int step = 0; step < 60; step++) x -= (erfc(-x * M_SQRT1_2) / 2 - p) / (exp(-x * x / 2) / sqrt(2 * M_PI) + 1e-30);
    return x;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
