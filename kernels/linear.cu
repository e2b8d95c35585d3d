// y = f_n(.. f_1(x W_1 + b_1) ..), as src/ops/linear.rs: layers one after another.
//
// One block computes tiles of 64 x 64 with 256 threads, 4 x 4 elements each, from 16 columns and rows of the factors at a
// time, which it keeps in shared memory. A block owns 64 rows: if all layers are narrow, it takes its rows through all of
// them in one launch (`gridDim.x` is 1); otherwise a launch has one layer, and blocks share its columns.
#include "math.cuh"

#define TILE 64
#define DEPTH 16
#define THREADS 256
// The rows of the copies are wider than a tile, so that a transposition on the way hits all banks alike.
#define ROW (TILE + 4)
// The most inputs: MAX_ARITY in src/op.rs.
#define INPUTS 16
#define NONE 0xFFFFFFFFu

// A layer, in the order of `Linear::table`: its shape, its activation, and where its weight and bias lie in the flat
// vector, its value and slope in `saved` (in elements per row). The last layer's value is the output.
struct Layer {
    unsigned depth, cols, f, weight, bias, value, slope;
};

// Where a column of the first layer's x comes from: an input, its width, and a column of it.
struct Column {
    unsigned input, width, column;
};

// What the op is: its layers, then the columns of x.
struct Table {
    const unsigned* words;
    __device__ int layers() const { return words[0]; }
    __device__ Layer layer(int l) const { return ((const Layer*)(words + 1))[l]; }
    __device__ Column column(int k) const { return ((const Column*)(words + 1 + 7 * layers()))[k]; }
};

// All inputs, and where their adjoints go, of which the bits of a number say whether they are added to.
struct Inputs {
    const real* of[INPUTS];
};
struct Targets {
    real* of[INPUTS];
};

// A matrix with elements (k, i), of which memory has neighbours in k (`ALONG_K`) or in i side by side.
template <bool ALONG_K>
struct Matrix {
    const real* data;
    size_t stride;
    static const bool along_k = ALONG_K;
    __device__ real operator()(int k, int i) const { return data[ALONG_K ? i * stride + k : k * stride + i]; }
};

// The first layer's x: (column, row), or (row, column).
template <bool ALONG_K>
struct Concatenation {
    const Inputs* inputs;
    Table table;
    static const bool along_k = ALONG_K;
    __device__ real operator()(int k, int i) const {
        Column column = table.column(ALONG_K ? k : i);
        return inputs->of[column.input][(size_t)(ALONG_K ? i : k) * column.width + column.column];
    }
};

// g = dy f' of the last layer, or what is its g already (no slope).
template <bool ALONG_K>
struct Through {
    const real *dy, *slope;
    size_t stride;
    static const bool along_k = ALONG_K;
    __device__ real operator()(int k, int i) const {
        size_t at = ALONG_K ? i * stride + k : k * stride + i;
        return slope ? dy[at] * slope[at] : dy[at];
    }
};

struct Factors {
    alignas(16) real a[DEPTH][ROW];
    alignas(16) real b[DEPTH][ROW];
};

// Four neighbours that are read at once.
struct alignas(16) Four {
    real of[4];
};

// Copies `DEPTH` x `TILE` elements, those outside of `k_end` x `extent` as 0.
template <typename M>
__device__ inline void copy_tile(real (*to)[ROW], const M& from, int k0, int k_end, int i0, int extent) {
#pragma unroll
    for (int part = 0; part < DEPTH * TILE / THREADS; part++) {
        int at = part * THREADS + threadIdx.x;
        int k = M::along_k ? at % 8 + at / 512 * 8 : at / TILE, i = M::along_k ? at / 8 % TILE : at % TILE;
        bool inside = k0 + k < k_end && i0 + i < extent;
        to[k][i] = inside ? from(k0 + k, i0 + i) : real(0);
    }
}

// A thread's place in a tile: 4 rows from `row` on, and every 16th column from `col` on.
__device__ inline int row_of_thread() { return threadIdx.x / 16 * 4; }
__device__ inline int col_of_thread() { return threadIdx.x % 16; }

// Adds the products over k of a(k, i) and b(k, j) to the thread's elements of the tile at (i0, j0). `column_sum` is told
// the copies of b.
template <typename A, typename B, typename F>
__device__ inline void add_products(
    real (&sum)[4][4], Factors& shared, const A& a, const B& b, int k_begin, int k_end, int i0, int m, int j0, int n,
    F column_sum) {
    int row = row_of_thread(), col = col_of_thread();
    for (int k0 = k_begin; k0 < k_end; k0 += DEPTH) {
        copy_tile(shared.a, a, k0, k_end, i0, m);
        copy_tile(shared.b, b, k0, k_end, j0, n);
        __syncthreads();
        column_sum(shared.b);
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            Four p = *(const Four*)&shared.a[k][row];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                real q = shared.b[k][col + 16 * j];
#pragma unroll
                for (int i = 0; i < 4; i++) sum[i][j] = fused(p.of[i], q, sum[i][j]);
            }
        }
        __syncthreads();
    }
}

// Calls f(row, col, sum) for the thread's elements of the tile at (i0, j0) that lie in m x n.
template <typename F>
__device__ inline void for_each(const real (&sum)[4][4], int i0, int m, int j0, int n, F f) {
    int row = i0 + row_of_thread(), col = j0 + col_of_thread();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (row + i < m && col + 16 * j < n) f(row + i, col + 16 * j, sum[i][j]);
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

// f(x W + b) for the block's rows. x is a matrix (k, row).
template <typename X>
__device__ inline void forward(
    Factors& shared, const X& x, const Layer& layer, const real* params, real* y, real* slope, int rows) {
    int depth = layer.depth, cols = layer.cols, row = blockIdx.y * TILE;
    Matrix<false> weight = {params + layer.weight, layer.cols};
    for (int col = blockIdx.x * TILE; col < cols; col += gridDim.x * TILE) {
        real sum[4][4] = {};
        add_products(sum, shared, x, weight, 0, depth, row, rows, col, cols, [](real (*)[ROW]) {});
        for_each(sum, row, rows, col, cols, [&](int i, int j, real value) {
            Activated result = activated(layer.f, layer.bias == NONE ? value : params[layer.bias + j] + value);
            y[(size_t)i * cols + j] = result.y;
            if (slope) slope[(size_t)i * cols + j] = result.slope;
        });
    }
}

// The layers from `first` to before `last`.
KERNEL linear_forward(
    Inputs inputs, const real* params, Table table, real* output, real* saved, int keep, int first, int last, int rows) {
    __shared__ Factors shared;
    __shared__ Inputs sources;
    // Copied, as an index that is not known would send the parameters through local memory.
#pragma unroll
    for (int i = 0; i < INPUTS; i++)
        if (threadIdx.x == 0) sources.of[i] = inputs.of[i];
    __syncthreads();
    for (int l = first; l < last; l++) {
        Layer layer = table.layer(l);
        real* y = l + 1 == table.layers() ? output : saved + (size_t)rows * layer.value;
        real* slope = keep && layer.slope != NONE ? saved + (size_t)rows * layer.slope : nullptr;
        if (l == 0) {
            forward(shared, Concatenation<true>{&sources, table}, layer, params, y, slope, rows);
        } else {
            const real* x = saved + (size_t)rows * table.layer(l - 1).value;
            forward(shared, Matrix<true>{x, layer.depth}, layer, params, y, slope, rows);
        }
        __syncthreads();
    }
}

// g of a layer: a hidden layer's takes the place of its slope.
template <bool ALONG_K>
__device__ inline Through<ALONG_K> adjoint_of(const Table& table, int l, const real* dy, const real* saved, int rows) {
    Layer layer = table.layer(l);
    const real* slope = layer.slope == NONE ? nullptr : saved + (size_t)rows * layer.slope;
    bool hidden = l + 1 < table.layers();
    return {hidden ? slope : dy, hidden ? nullptr : slope, layer.cols};
}

// The layers from `last - 1` down to `first`: the adjoints of their inputs, g W^T, times the slope of the layer before.
KERNEL linear_input_adjoint(
    const real* dy, const real* params, Table table, real* saved, Targets adjoints, unsigned added, int first, int last,
    int rows) {
    __shared__ Factors shared;
    __shared__ Targets targets;
#pragma unroll
    for (int i = 0; i < INPUTS; i++)
        if (threadIdx.x == 0) targets.of[i] = adjoints.of[i];
    __syncthreads();
    for (int l = last - 1; l >= first; l--) {
        Layer layer = table.layer(l);
        int depth = layer.depth, cols = layer.cols, row = blockIdx.y * TILE;
        Through<true> g = adjoint_of<true>(table, l, dy, saved, rows);
        Matrix<true> weight = {params + layer.weight, layer.cols};
        real* before = l > 0 ? saved + (size_t)rows * table.layer(l - 1).slope : nullptr;
        for (int col = blockIdx.x * TILE; col < depth; col += gridDim.x * TILE) {
            real sum[4][4] = {};
            add_products(sum, shared, g, weight, 0, cols, row, rows, col, depth, [](real (*)[ROW]) {});
            for_each(sum, row, rows, col, depth, [&](int i, int j, real value) {
                if (before) {
                    before[(size_t)i * depth + j] *= value;
                } else {
                    Column column = table.column(j);
                    Adjoint to = {targets.of[column.input], int(added >> column.input & 1)};
                    to.put((size_t)i * column.width + column.column, value);
                }
            });
        }
        __syncthreads();
    }
}

// dW += x^T g and db += the sum of g over the rows, for a tile of one of the layers over one lane's share of the rows.
// Lane l adds to its own copy of the gradient, `stride` elements after that of lane l - 1; `gradient` is where the flat
// vector's element 0 would lie, and only parameters from `begin` to `end` are trained.
template <typename X>
__device__ inline void gradient_tile(
    Factors& shared, const X& x, const Through<false>& g, const Layer& layer, int tile, real* gradient, bool weight,
    bool bias, int begin, int end) {
    int depth = layer.depth, cols = layer.cols, across = (cols + TILE - 1) / TILE;
    int row = tile / across * TILE, col = tile % across * TILE;
    real sum[4][4] = {}, of_column = real(0);
    bool summing = row == 0 && bias && threadIdx.x < TILE;
    add_products(sum, shared, x, g, begin, end, row, depth, col, cols, [&](real (*copy)[ROW]) {
        if (summing)
            for (int k = 0; k < DEPTH; k++) of_column += copy[k][threadIdx.x];
    });
    if (weight)
        for_each(sum, row, depth, col, cols, [&](int i, int j, real value) {
            gradient[layer.weight + (size_t)i * cols + j] += value;
        });
    if (summing && col + threadIdx.x < cols) gradient[layer.bias + col + threadIdx.x] += of_column;
}

KERNEL linear_gradient(
    Inputs inputs, const real* dy, const real* saved, Table table, real* gradient, size_t stride, size_t begin,
    size_t end, int rows) {
    __shared__ Factors shared;
    __shared__ Inputs sources;
#pragma unroll
    for (int i = 0; i < INPUTS; i++)
        if (threadIdx.x == 0) sources.of[i] = inputs.of[i];
    __syncthreads();
    int l = 0, tile = blockIdx.x;
    Layer layer = table.layer(0);
    for (;;) {
        int tiles = ((layer.depth + TILE - 1) / TILE) * ((layer.cols + TILE - 1) / TILE);
        if (tile < tiles) break;
        tile -= tiles;
        layer = table.layer(++l);
    }
    int share = (rows + gridDim.y - 1) / gridDim.y, from = blockIdx.y * share, to = rows < from + share ? rows : from + share;
    auto trained = [&](unsigned at) { return at != NONE && begin <= at && at < end; };
    bool weight = trained(layer.weight), bias = trained(layer.bias);
    Through<false> g = adjoint_of<false>(table, l, dy, saved, rows);
    gradient += blockIdx.y * stride;
    if (l == 0) {
        gradient_tile(shared, Concatenation<false>{&sources, table}, g, layer, tile, gradient, weight, bias, from, to);
    } else {
        const real* x = saved + (size_t)rows * table.layer(l - 1).value;
        gradient_tile(shared, Matrix<false>{x, layer.depth}, g, layer, tile, gradient, weight, bias, from, to);
    }
}
