// Parts of warps that share a row.
#pragma once
#include "common.cuh"

// The lanes that share a row of some columns: a power of two of them, so that neighbouring lanes have neighbouring
// elements and short rows leave few lanes idle. Kernels stop where `row >= rows`, which holds for whole teams.
struct Team {
    size_t row;
    int lane, size;
    unsigned mask;
    __device__ explicit Team(int cols) {
        size = 1;
        while (size < cols && size < WARP) size *= 2;
        row = thread_index() / size;
        lane = threadIdx.x % size;
        mask = ALL_LANES >> (WARP - size) << (lane_index() - lane);
    }
    // What the lanes have written to memory can be read by all of them.
    __device__ void meet() const { __syncwarp(mask); }
    // The value of one of the lanes, in all of them.
    template <typename T>
    __device__ T of_lane(T value, int number) const {
        return __shfl_sync(mask, value, lane_index() - lane + number);
    }
    // The sum over the lanes, in all of them, always added in the same order.
    template <typename T>
    __device__ T sum(T value) const {
        for (int distance = size / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(mask, value, distance);
        return value;
    }
};
