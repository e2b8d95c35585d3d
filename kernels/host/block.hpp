// Launching a kernel on this machine.
#pragma once
#include <algorithm>

#include "cuda.hpp"

struct Grid {
    unsigned columns, rows, threads;
};

// A thread for each of n elements, a warp for each of n rows, 256 threads for each tile, as src/device/cuda/launch.rs.
inline Grid threads(size_t n) { return {unsigned(n + 255) / 256, 1, 256}; }
inline Grid warps(size_t n) { return {unsigned(n + 7) / 8, 1, 256}; }
inline Grid teams(size_t n, size_t cols) { return threads(n * std::min(std::bit_ceil(cols), size_t(32))); }
inline Grid blocks(size_t n, unsigned threads = 256) { return {unsigned(n), 1, threads}; }
inline Grid tiles(size_t rows, size_t cols, size_t height, size_t width) {
    return {unsigned((cols + width - 1) / width), unsigned((rows + height - 1) / height), 256};
}

// Runs the kernel's threads, each from one wait to the next, in an order that depends on `order`: 0 is that of their
// numbers, 1 the reverse, any other a seed. A kernel that waits where it must not ends the program with a message.
void launch(const char* name, Grid grid, size_t dynamic_bytes, unsigned order, const std::function<void()>& kernel);
