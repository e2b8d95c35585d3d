// y = f_n(.. f_1(x W_1 + b_1) ..), as src/ops/linear.rs: layers one after another.
//
// A block owns 16 M rows: if all layers are narrow, it takes its rows through all of them in one launch (`gridDim.x` is
// 1); otherwise a launch has one layer, and blocks share its columns. M is 4, or 1 where that would leave processors idle.
#include "gemm.cuh"

// The most inputs: MAX_ARITY in src/op.rs.
#define INPUTS 16
#define NONE 0xFFFFFFFFu
// Blocks that a multiprocessor has registers for.
#define BLOCKS PICK(2, 1)

// A layer, in the order of `Linear::table`: its shape, its activation, and where its weight and bias lie in the flat
// vector, its value and slope in `saved` (in elements per row). The last layer's value is the output.
struct Layer {
    unsigned depth, cols, f, weight, bias, value, slope;
};

// Where a column of the first layer's x comes from: an input, its width, and a column of it.
struct Column {
    unsigned input, width, column;
};

// What the op is: how many layers, whether the first one's x is all of the only input, the layers; then of all columns of
// x the inputs, their widths, and the columns there.
struct Table {
    const unsigned* words;
    __device__ int layers() const { return words[0]; }
    __device__ bool whole() const { return words[1]; }
    __device__ Layer layer(int l) const { return ((const Layer*)(words + 2))[l]; }
    __device__ Column column(int k) const {
        const unsigned *first = words + 2 + 7 * layers() + k, depth = layer(0).depth;
        return {first[0], first[depth], first[2 * depth]};
    }
};

// All inputs, or where their adjoints go.
struct Inputs {
    real* of[INPUTS];
};

// Copies them to shared memory, as an index that is not known would send a kernel's argument through local memory.
__device__ inline void share(Inputs& shared, const Inputs& given) {
#pragma unroll
    for (int i = 0; i < INPUTS; i++)
        if (threadIdx.x == 0) shared.of[i] = given.of[i];
    __syncthreads();
}

// The first layer's x, column by column: (column, row), or (row, column).
template <bool ALONG_K>
struct Concatenation {
    const Inputs* inputs;
    Table table;
    static const bool along_k = ALONG_K;
    __device__ bool aligned() const { return false; }
    template <int N>
    __device__ Pack<N> at(int k, int i) const {
        Pack<N> values;
        for (int e = 0; e < N; e++) {
            Column column = table.column((ALONG_K ? k : i) + e);
            values.of[e] = inputs->of[column.input][(size_t)(ALONG_K ? i : k) * column.width + column.column];
        }
        return values;
    }
};

// g = dy f' of the last layer, or what is its g already (no slope).
template <bool ALONG_K>
struct Through {
    Matrix<ALONG_K> dy, slope;
    static const bool along_k = ALONG_K;
    __device__ bool aligned() const { return dy.aligned() && slope.aligned(); }
    template <int N>
    __device__ Pack<N> at(int k, int i) const {
        Pack<N> values = dy.template at<N>(k, i);
        if (!slope.data) return values;
        Pack<N> slopes = slope.template at<N>(k, i);
#pragma unroll
        for (int e = 0; e < N; e++) values.of[e] *= slopes.of[e];
        return values;
    }
};

// The x of a layer that is all of the only input, or the value of the layer before.
template <bool ALONG_K>
__device__ inline Matrix<ALONG_K> x_of(const Table& table, int l, const Inputs& inputs, const real* saved, int rows) {
    return {l == 0 ? inputs.of[0] : saved + (size_t)rows * table.layer(l - 1).value, table.layer(l).depth};
}

struct Activated {
    real y, slope;
};

// A function of its own: inlined at several elements, the nine activations would be most of the kernel.
__device__ __noinline__ Activated activated(int f, real x) {
    Activated result;
    result.y = activation(f, x, result.slope);
    return result;
}

// f(x W + b) for the block's rows. x is a matrix (k, row).
template <int M, typename X>
__device__ inline void forward(
    Scratch& shared, const X& x, const Layer& layer, const real* params, real* y, real* slope, int rows) {
    int cols = layer.cols, row = blockIdx.y * 16 * M;
    Matrix<false> weight = {params + layer.weight, layer.cols};
    for (int col = blockIdx.x * TILE_COLS; col < cols; col += gridDim.x * TILE_COLS) {
        real sum[M][4] = {};
        add_products(sum, shared, x, weight, 0, layer.depth, row, rows, col, cols, [](const real*, int) {});
        for_each(sum, shared, row, rows, col, cols, [&](int i, int j, real value) {
            Activated result = activated(layer.f, layer.bias == NONE ? value : params[layer.bias + j] + value);
            y[(size_t)i * cols + j] = result.y;
            if (slope) slope[(size_t)i * cols + j] = result.slope;
        });
    }
}

template <int M>
__device__ inline void forward_layers(
    Scratch& shared, const Inputs& inputs, const real* params, const Table& table, real* output, real* saved, int keep,
    int first, int last, int rows) {
    for (int l = first; l < last; l++) {
        Layer layer = table.layer(l);
        real* y = l + 1 == table.layers() ? output : saved + (size_t)rows * layer.value;
        real* slope = keep && layer.slope != NONE ? saved + (size_t)rows * layer.slope : nullptr;
        if (l == 0 && !table.whole()) {
            forward<M>(shared, Concatenation<true>{&inputs, table}, layer, params, y, slope, rows);
        } else {
            forward<M>(shared, x_of<true>(table, l, inputs, saved, rows), layer, params, y, slope, rows);
        }
        __syncthreads();
    }
}

// The layers from `first` to before `last`.
KERNEL_OF(THREADS, BLOCKS) linear_forward(
    Inputs inputs, const real* params, Table table, real* output, real* saved, int keep, int first, int last, int rows,
    int tall) {
    __shared__ Scratch shared;
    __shared__ Inputs sources;
    share(sources, inputs);
    if (tall) forward_layers<4>(shared, sources, params, table, output, saved, keep, first, last, rows);
    else forward_layers<1>(shared, sources, params, table, output, saved, keep, first, last, rows);
}

// g of a layer: a hidden layer's takes the place of its slope.
template <bool ALONG_K>
__device__ inline Through<ALONG_K> adjoint_of(const Table& table, int l, const real* dy, const real* saved, int rows) {
    Layer layer = table.layer(l);
    const real* slope = layer.slope == NONE ? nullptr : saved + (size_t)rows * layer.slope;
    bool hidden = l + 1 < table.layers();
    return {{hidden ? slope : dy, layer.cols}, {hidden ? nullptr : slope, layer.cols}};
}

// The layers from `last - 1` down to `first`: the adjoints of their inputs, g W^T, times the slope of the layer before.
template <int M>
__device__ inline void adjoints_of_layers(
    Scratch& shared, const real* dy, const real* params, const Table& table, real* saved, const Inputs& targets,
    unsigned added, int first, int last, int rows) {
    for (int l = last - 1; l >= first; l--) {
        Layer layer = table.layer(l);
        int depth = layer.depth, cols = layer.cols, row = blockIdx.y * 16 * M;
        Through<true> g = adjoint_of<true>(table, l, dy, saved, rows);
        Matrix<true> weight = {params + layer.weight, layer.cols};
        real* before = l > 0 ? saved + (size_t)rows * table.layer(l - 1).slope : nullptr;
        for (int col = blockIdx.x * TILE_COLS; col < depth; col += gridDim.x * TILE_COLS) {
            real sum[M][4] = {};
            add_products(sum, shared, g, weight, 0, cols, row, rows, col, depth, [](const real*, int) {});
            for_each(sum, shared, row, rows, col, depth, [&](int i, int j, real value) {
                if (before) {
                    before[(size_t)i * depth + j] *= value;
                } else if (table.whole()) {
                    Adjoint{targets.of[0], int(added)}.put((size_t)i * depth + j, value);
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

// The bits of `added` say which inputs' adjoints are added to.
KERNEL linear_input_adjoint(
    const real* dy, const real* params, Table table, real* saved, Inputs adjoints, unsigned added, int first, int last,
    int rows, int tall) {
    __shared__ Scratch shared;
    __shared__ Inputs targets;
    share(targets, adjoints);
    if (tall) adjoints_of_layers<4>(shared, dy, params, table, saved, targets, added, first, last, rows);
    else adjoints_of_layers<1>(shared, dy, params, table, saved, targets, added, first, last, rows);
}

// A tile of the gradient of one of the layers, over the rows from `begin` to `end`.
struct Piece {
    int layer, row, col, begin, end;
};

// dW += x^T g and db += the sum of g over the rows. `gradient` is where the flat vector's element 0 would lie.
template <int M, typename X>
__device__ inline void gradient_tile(
    Scratch& shared, const X& x, const Through<false>& g, const Layer& layer, const Piece& piece, real* gradient,
    bool weight, bool bias) {
    int cols = layer.cols, col = piece.col + threadIdx.x;
    real sum[M][4] = {}, of_column = real(0);
    bool summing = piece.row == 0 && bias && threadIdx.x < TILE_COLS;
    auto add_column = [&](const real* rows, int stride) {
        if (summing)
            for (int k = 0; k < DEPTH; k++) of_column += rows[k * stride + threadIdx.x];
    };
    add_products(sum, shared, x, g, piece.begin, piece.end, piece.row, layer.depth, piece.col, cols, add_column);
    if (weight)
        for_each(sum, shared, piece.row, layer.depth, piece.col, cols, [&](int i, int j, real value) {
            gradient[layer.weight + (size_t)i * cols + j] += value;
        });
    if (summing && col < cols) gradient[layer.bias + col] += of_column;
}

// The block's piece: `blockIdx.x` counts the tiles of all layers, and `blockIdx.y` shares of the rows.
template <int M>
__device__ inline Piece piece_of_block(const Table& table, int rows) {
    int share = (rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * share, tile = blockIdx.x;
    for (int l = 0;; l++) {
        int height = 16 * M, depth = table.layer(l).depth, across = (table.layer(l).cols + TILE_COLS - 1) / TILE_COLS;
        int tiles = (depth + height - 1) / height * across;
        if (tile < tiles)
            return {l, tile / across * height, tile % across * TILE_COLS, begin, rows < begin + share ? rows : begin + share};
        tile -= tiles;
    }
}

template <int M>
__device__ inline void gradient_of_layers(
    Scratch& shared, const Inputs& inputs, const real* dy, const real* saved, const Table& table, real* gradient,
    size_t begin, size_t end, int rows) {
    Piece piece = piece_of_block<M>(table, rows);
    Layer layer = table.layer(piece.layer);
    auto trained = [&](unsigned at) { return at != NONE && begin <= at && at < end; };
    bool weight = trained(layer.weight), bias = trained(layer.bias);
    Through<false> g = adjoint_of<false>(table, piece.layer, dy, saved, rows);
    if (piece.layer == 0 && !table.whole()) {
        gradient_tile<M>(shared, Concatenation<false>{&inputs, table}, g, layer, piece, gradient, weight, bias);
    } else {
        Matrix<false> x = x_of<false>(table, piece.layer, inputs, saved, rows);
        gradient_tile<M>(shared, x, g, layer, piece, gradient, weight, bias);
    }
}

// Only parameters from `begin` to `end` are trained. Each share of the rows adds to its own copy of the gradient,
// `stride` elements after that of the share before.
KERNEL linear_gradient(
    Inputs inputs, const real* dy, const real* saved, Table table, real* gradient, size_t stride, size_t begin,
    size_t end, int rows, int tall) {
    __shared__ Scratch shared;
    __shared__ Inputs sources;
    share(sources, inputs);
    gradient += blockIdx.y * stride;
    if (tall) gradient_of_layers<4>(shared, sources, dy, saved, table, gradient, begin, end, rows);
    else gradient_of_layers<1>(shared, sources, dy, saved, table, gradient, begin, end, rows);
}
