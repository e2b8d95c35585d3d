// The product of two matrices by a block of 256 threads.
//
// A block computes tiles of 16 M x 64 elements, of which a thread has M rows and 4 columns in registers. The factors pass
// through shared memory, 16 terms of the sums at a time, while the next ones are on their way to registers. A factor whose
// rows are whole numbers of 16 bytes is read so many at a time. An element is summed by one thread, term by term in order,
// so its bits depend neither on M nor on its place in a tile.
#pragma once
#include "math.cuh"

#define THREADS 256
#define DEPTH 16
#define TILE_COLS 64
// As many numbers as 16 bytes hold, which is the most that a thread reads at once, and as a sector holds, which is the
// least that memory moves.
#define VECTOR (16 / (int)sizeof(real))
#define SECTOR (32 / (int)sizeof(real))

// Neighbours in memory: one, or as many as move at once.
template <int N>
struct Pack {
    real of[N];
};

// By the types of the language that stand for one instruction: of a struct the compiler may read some parts twice.
template <int N>
__device__ inline Pack<N> load(const real* from);
template <int N>
__device__ inline void store(real* to, const Pack<N>& values);
template <>
__device__ inline Pack<1> load(const real* from) {
    return {{*from}};
}
template <>
__device__ inline void store(real* to, const Pack<1>& values) {
    *to = values.of[0];
}
#ifdef DOUBLE
template <>
__device__ inline Pack<2> load(const real* from) {
    double2 values = *(const double2*)from;
    return {{values.x, values.y}};
}
template <>
__device__ inline void store(real* to, const Pack<2>& values) {
    *(double2*)to = make_double2(values.of[0], values.of[1]);
}
#else
template <>
__device__ inline Pack<4> load(const real* from) {
    float4 values = *(const float4*)from;
    return {{values.x, values.y, values.z, values.w}};
}
template <>
__device__ inline void store(real* to, const Pack<4>& values) {
    *(float4*)to = make_float4(values.of[0], values.of[1], values.of[2], values.of[3]);
}
#endif

// N numbers, as many at once as can be.
template <int N>
__device__ inline void copy(const real* from, real* to) {
    const int few = N < VECTOR ? N : VECTOR;
#pragma unroll
    for (int i = 0; i < N; i += few) {
        Pack<few> values = load<few>(from + i);
#pragma unroll
        for (int e = 0; e < few; e++) to[i + e] = values.of[e];
    }
}

// A matrix with elements (k, i), of which memory has neighbours in k (`ALONG_K`) or in i side by side.
template <bool ALONG_K>
struct Matrix {
    const real* data;
    size_t stride;
    static const bool along_k = ALONG_K;
    __device__ bool aligned() const { return stride % VECTOR == 0 && (size_t)data % 16 == 0; }
    // The element and its neighbours in memory.
    template <int N>
    __device__ Pack<N> at(int k, int i) const {
        return load<N>(data + (ALONG_K ? i * stride + k : k * stride + i));
    }
};

// Room for a tile of the result; or for a part of each factor, a row for each term of the sums.
struct Scratch {
    alignas(16) real of[4 * 16 * TILE_COLS];
    __device__ real* a() { return of; }
    __device__ real* b() { return of + DEPTH * (TILE_COLS + 4); }
};

// A part of a factor, DEPTH x COLS, in shared memory, and on its way there.
template <typename M, int COLS>
struct Part {
    // Four more than columns where it is transposed on the way, which then hits all banks alike.
    static const int row = M::along_k ? COLS + 4 : COLS;
    static const int size = DEPTH * COLS;
    real* shared;
    bool aligned;
    real of[size / THREADS > VECTOR ? size / THREADS : VECTOR];

    __device__ Part(const M& from, real* shared) : shared(shared), aligned(from.aligned()) {}

    // Where the thread's `N` neighbours number `at` lie: the lanes of a warp share sectors.
    template <int N>
    __device__ static void place(int at, int& k, int& i) {
        const int lanes = SECTOR / N;
        k = M::along_k ? at % lanes * N + at / (lanes * COLS) * SECTOR : at * N / COLS;
        i = M::along_k ? at / lanes % COLS : at * N % COLS;
    }

    // Reads the terms from k0 on, those outside of k_end x extent as 0.
    template <int N>
    __device__ void read(const M& from, int k0, int k_end, int i0, int extent) {
#pragma unroll
        for (int part = 0; part * THREADS * N < size; part++) {
            int k, i, at = part * THREADS + threadIdx.x;
            place<N>(at, k, i);
            Pack<N> values = {};
            if (at * N < size && k0 + k < k_end && i0 + i < extent) values = from.template at<N>(k0 + k, i0 + i);
#pragma unroll
            for (int e = 0; e < N; e++) of[part * N + e] = values.of[e];
        }
    }

    // Writes to shared memory what was read.
    template <int N>
    __device__ void write() const {
#pragma unroll
        for (int part = 0; part * THREADS * N < size; part++) {
            int k, i, at = part * THREADS + threadIdx.x;
            place<N>(at, k, i);
            if (at * N >= size) break;
            Pack<N> values;
#pragma unroll
            for (int e = 0; e < N; e++) {
                values.of[e] = of[part * N + e];
                if (M::along_k) shared[(k + e) * row + i] = values.of[e];
            }
            if (!M::along_k) store(shared + k * row + i, values);
        }
    }

    __device__ void read(const M& from, int k0, int k_end, int i0, int extent) {
        aligned ? read<VECTOR>(from, k0, k_end, i0, extent) : read<1>(from, k0, k_end, i0, extent);
    }
    __device__ void write() const { aligned ? write<VECTOR>() : write<1>(); }
};

// A thread's place in a tile: M rows from `row_of_thread` on, and of its 4 columns those of a vector side by side.
template <int M>
__device__ inline int row_of_thread() { return threadIdx.x / 16 * M; }
__device__ inline int col_of_thread(int vector) { return (vector * 16 + threadIdx.x % 16) * VECTOR; }

// Adds one term: a's row times b's row.
template <int M>
__device__ inline void add_term(real (&sum)[M][4], const real* a, const real* b) {
    real p[M], q[4];
    copy<M>(a + row_of_thread<M>(), p);
#pragma unroll
    for (int j = 0; j < 4; j += VECTOR) copy<VECTOR>(b + col_of_thread(j / VECTOR), q + j);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = fused(p[i], q[j], sum[i][j]);
}

// Adds the products over k of a(k, i) and b(k, j) to the thread's elements of the tile at (i0, j0) of an m x n matrix.
// `on_part` is told the rows of b, and how many elements a row has.
template <int M, typename A, typename B, typename F>
__device__ inline void add_products(
    real (&sum)[M][4], Scratch& shared, const A& a, const B& b, int k_begin, int k_end, int i0, int m, int j0, int n,
    F on_part) {
    Part<A, 16 * M> of_a(a, shared.a());
    Part<B, TILE_COLS> of_b(b, shared.b());
    for (int next = k_begin, k_here = k_begin;; k_here = next, next += DEPTH) {
        if (next < k_end) {
            of_a.read(a, next, k_end, i0, m);
            of_b.read(b, next, k_end, j0, n);
        }
        if (k_here < next) on_part(of_b.shared, of_b.row);
        for (int k = 0; k_here + k < next; k += 8)
#pragma unroll
            for (int term = 0; term < 8; term++)
                add_term<M>(sum, of_a.shared + (k + term) * of_a.row, of_b.shared + (k + term) * of_b.row);
        if (next >= k_end) break;
        __syncthreads();
        of_a.write();
        of_b.write();
        __syncthreads();
    }
}

// Calls f(row, col, sum) for the elements of the tile at (i0, j0) that lie in m x n. The sums pass through shared memory,
// so that neighbouring threads have neighbouring columns.
template <int M, typename F>
__device__ inline void for_each(const real (&sum)[M][4], Scratch& shared, int i0, int m, int j0, int n, F f) {
    real* tile = shared.of;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < 4; j += VECTOR) {
            Pack<VECTOR> values;
#pragma unroll
            for (int e = 0; e < VECTOR; e++) values.of[e] = sum[i][j + e];
            store(tile + (row_of_thread<M>() + i) * TILE_COLS + col_of_thread(j / VECTOR), values);
        }
    __syncthreads();
#pragma unroll 4
    for (int at = threadIdx.x; at < 16 * M * TILE_COLS; at += THREADS) {
        int row = i0 + at / TILE_COLS, col = j0 + at % TILE_COLS;
        if (row < m && col < n) f(row, col, tile[at]);
    }
}
