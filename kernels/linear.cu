// y = f(x W + b), as src/ops/linear.rs.
//
// One block computes a tile of 64 x 64 with 256 threads, 4 x 4 each, from 16 columns and rows of the factors at a time,
// which it keeps in shared memory.
#include "math.cuh"

#define TILE 64
#define DEPTH 16
#define THREADS 256
// Rows of the first factor's copy are wider than the tile, so that its transposition does not hit few banks.
#define ROW (TILE + 4)

struct Factors {
    real a[DEPTH][ROW];
    real b[DEPTH][ROW];
};

// Copies `DEPTH` x `TILE` elements: (k, i) of the copy is element (k0 + k, i0 + i) of a matrix with these strides.
// `along_k` says that neighbours in memory are neighbours in k.
__device__ inline void copy_tile(
    real (*to)[ROW], const real* from, int k0, int i0, int depth, int extent, size_t k_stride, size_t i_stride,
    bool along_k) {
#pragma unroll
    for (int part = 0; part < DEPTH * TILE / THREADS; part++) {
        int at = part * THREADS + threadIdx.x;
        int k = along_k ? at % DEPTH : at / TILE, i = along_k ? at / DEPTH : at % TILE;
        bool inside = k0 + k < depth && i0 + i < extent;
        to[k][i] = inside ? from[(k0 + k) * k_stride + (i0 + i) * i_stride] : real(0);
    }
}

// The thread's 4 x 4 elements of A B, A [m x depth], B [depth x n]; both may be stored transposed.
__device__ inline void tile_product(
    real (&sum)[4][4], Factors& shared, const real* a, const real* b, int m, int n, int depth, bool a_transposed,
    bool b_transposed) {
    int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        copy_tile(shared.a, a, k0, blockIdx.y * TILE, depth, m, a_transposed ? m : 1, a_transposed ? 1 : depth,
                  !a_transposed);
        copy_tile(shared.b, b, k0, blockIdx.x * TILE, depth, n, b_transposed ? 1 : n, b_transposed ? depth : 1,
                  b_transposed);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            real p[4], q[4];
#pragma unroll
            for (int i = 0; i < 4; i++) p[i] = shared.a[k][row + i], q[i] = shared.b[k][col + i];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fused(p[i], q[j], sum[i][j]);
        }
        __syncthreads();
    }
}

struct Activated {
    real y, slope;
};

// A function of its own: inlined at each of a thread's elements, the nine activations would be most of the kernel.
__device__ __noinline__ Activated activated(int f, real x) {
    Activated result;
    result.y = activation(f, x, result.slope);
    return result;
}

// y = f(y or bias or 0 + x W): `add` says that y holds the product with the inputs before, and the last input's launch
// applies f. x [rows x depth], W [depth x cols].
KERNEL linear_forward(
    const real* x, const real* weight, const real* bias, real* y, real* slope, int add, int f, int rows, int cols,
    int depth) {
    __shared__ Factors shared;
    real sum[4][4] = {};
    tile_product(sum, shared, x, weight, rows, cols, depth, false, false);
    int row = blockIdx.y * TILE + threadIdx.x / 16 * 4, col = blockIdx.x * TILE + threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (row + i >= rows || col + j >= cols) continue;
            size_t at = (size_t)(row + i) * cols + col + j;
            real start = add ? y[at] : bias ? bias[col + j] : real(0);
            Activated result = activated(f, start + sum[i][j]);
            y[at] = result.y;
            if (slope) slope[at] = result.slope;
        }
}

// dx = g W^T; g [rows x cols], W [depth x cols].
KERNEL linear_input_adjoint(
    const real* g, const real* weight, Adjoint dx, int rows, int cols, int depth) {
    __shared__ Factors shared;
    real sum[4][4] = {};
    tile_product(sum, shared, g, weight, rows, depth, cols, false, true);
    int row = blockIdx.y * TILE + threadIdx.x / 16 * 4, col = blockIdx.x * TILE + threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (row + i < rows && col + j < depth) dx.put((size_t)(row + i) * depth + col + j, sum[i][j]);
}

// dW += x^T g; x [rows x depth], g [rows x cols].
KERNEL linear_weight_gradient(
    const real* x, const real* g, real* gradient, int rows, int cols, int depth) {
    __shared__ Factors shared;
    real sum[4][4] = {};
    tile_product(sum, shared, x, g, depth, cols, rows, true, false);
    int row = blockIdx.y * TILE + threadIdx.x / 16 * 4, col = blockIdx.x * TILE + threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (row + i < depth && col + j < cols) gradient[(size_t)(row + i) * cols + col + j] += sum[i][j];
}

// g = dy f'. A thread has an element.
KERNEL linear_through_activation(real* dy, const real* slope, size_t n) {
    size_t i = thread_index();
    if (i < n) dy[i] *= slope[i];
}

// db += the sum of g over the rows. A block has 32 columns; each of its 8 warps adds up every eighth row.
KERNEL linear_bias_gradient(const real* g, real* gradient, int rows, int cols) {
    __shared__ real part[8][WARP];
    int warp = threadIdx.x / WARP, lane = lane_index(), col = blockIdx.x * WARP + lane;
    real sum = real(0);
    if (col < cols)
        for (int row = warp; row < rows; row += 8) sum += g[(size_t)row * cols + col];
    part[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || col >= cols) return;
    for (int other = 1; other < 8; other++) sum += part[other][lane];
    gradient[col] += sum;
}
