// What all kernels share. Each file is compiled twice: `real` is float, or double with -DDOUBLE.
#pragma once

#ifdef DOUBLE
typedef double real;
#else
typedef float real;
#endif

// A kernel for blocks of up to so many threads, so many of which a multiprocessor can hold; and as most are launched.
#define KERNEL_OF(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define KERNEL KERNEL_OF(256, 1)

// Lanes of a warp, and all of them.
#define WARP 32
#define ALL_LANES 0xFFFFFFFFu

// This thread among all threads of the grid.
__device__ inline size_t thread_index() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

// The warp of this thread among all warps of the grid, and its lane. Kernels that give a row to a warp stop where
// `warp_index() >= rows`, which holds for whole warps.
__device__ inline size_t warp_index() { return thread_index() / WARP; }
__device__ inline int lane_index() { return threadIdx.x % WARP; }

// The sum over the lanes of a warp, in all of them, always added in the same order.
template <typename T>
__device__ inline T warp_sum(T value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// The largest, ignoring NaN.
template <typename T>
__device__ inline T warp_max(T value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        T other = __shfl_xor_sync(ALL_LANES, value, distance);
        value = other > value || value != value ? other : value;
    }
    return value;
}

// The sum over the threads of a block of at most 1024, in the first warp. `parts` has room for a value of each warp.
template <typename T>
__device__ inline T block_sum(T value, T* parts) {
    int warp = threadIdx.x / WARP, warps = (blockDim.x + WARP - 1) / WARP;
    value = warp_sum(value);
    if (lane_index() == 0) parts[warp] = value;
    __syncthreads();
    if (warp == 0) value = warp_sum(lane_index() < warps ? parts[lane_index()] : T(0));
    return value;
}

// Where an adjoint goes: nowhere, or set, or added to, as `Adjoint` in op.rs.
struct Adjoint {
    real* to;
    int add;
    __device__ void put(size_t i, real value) const {
        if (to) to[i] = add ? to[i] + value : value;
    }
};
