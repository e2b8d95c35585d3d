// What a plan does around its ops.
#include "philox.cuh"

// to = from, or to += from. A thread has an element.
KERNEL copy(const real* from, Adjoint to, size_t n) {
    size_t i = thread_index();
    if (i < n) to.put(i, from[i]);
}

// Row i is row index[i] of a table. A thread has an element.
KERNEL gather(const real* table, const unsigned* index, real* to, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) to[i] = table[index[i / cols] * (size_t)cols + i % cols];
}

// All rows the same. A thread has an element.
KERNEL repeat(const real* row, real* to, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) to[i] = row[i % cols];
}

// The sum of the lanes of a gradient, first to last. A thread has an element.
KERNEL add_lanes(const real* lanes, real* sum, int count, size_t n) {
    size_t i = thread_index();
    if (i >= n) return;
    real value = lanes[i];
    for (int lane = 1; lane < count; lane++) value += lanes[lane * n + i];
    sum[i] = value;
}

// All elements the same. A thread has an element.
KERNEL fill(Adjoint to, real value, size_t n) {
    size_t i = thread_index();
    if (i < n) to.put(i, value);
}

// The sum in double precision. One block.
KERNEL_OF(1024, 1) total(const real* x, double* sum, size_t n) {
    __shared__ double parts[WARP];
    double value = 0;
    for (size_t i = threadIdx.x; i < n; i += blockDim.x) value += x[i];
    value = block_sum(value, parts);
    if (threadIdx.x == 0) *sum = value;
}

// The numbers of a Philox block, four columns of a row.
__device__ inline void draw(
    const unsigned long long* control, unsigned id, bool uniform, size_t row, size_t block, real (&values)[4]) {
    unsigned long long group = control[0], global = control[1] + row, seed = control[3 + global / group];
    uint4 counter = make_uint4((unsigned)(global % group), (unsigned)block, (unsigned)control[2], id);
    uint4 words = philox(counter, make_uint2((unsigned)seed, (unsigned)(seed >> 32)));
    if (uniform) {
        values[0] = open_unit(words.x), values[1] = open_unit(words.y);
        values[2] = open_unit(words.z), values[3] = open_unit(words.w);
    } else {
        box_muller(words.x, words.y, values[0], values[1]);
        box_muller(words.z, words.w, values[2], values[3]);
    }
}

// The noise of src/rng.rs for the rows of a batch. `control` is: rows in a group, first row, step, then the seed of each
// group. A thread has a Philox block. The numbers of a block of threads pass through shared memory, so that neighbouring
// threads write neighbouring numbers; every 32nd place is left out, so that those of a warp lie in all banks.
KERNEL noise(real* out, const unsigned long long* control, unsigned id, int uniform, int cols, size_t rows) {
    __shared__ real drawn[256 * 4 + 32];
    size_t blocks = (cols + 3) / 4, at = thread_index(), row = at / blocks, block = at % blocks;
    auto start = [&](size_t at) { return at / blocks * cols + at % blocks * 4; };
    size_t first = start((size_t)blockIdx.x * blockDim.x), end = start((size_t)(blockIdx.x + 1) * blockDim.x);
    if (row < rows) {
        real values[4];
        draw(control, id, uniform, row, block, values);
        int place = (int)(start(at) - first);
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (4 * block + j < cols) drawn[place + j + (place + j) / 32] = values[j];
    }
    __syncthreads();
    for (size_t i = threadIdx.x; first + i < end && first + i < rows * cols; i += blockDim.x)
        out[first + i] = drawn[i + i / 32];
}
