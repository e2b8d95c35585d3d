// A learned linear map by its LU factors, as src/ops/lu_linear.rs. A team has a few rows, and its lanes the columns, as
// many at a time as it has lanes; the factors pass through shared memory, a tile at a time.
#include "math.cuh"
#include "team.cuh"

// Rows of a team.
#define ROWS 4
// One number more than columns, so that a transposition on the way hits all banks alike.
struct Tile {
    real of[WARP][WARP + 1];
};

// A triangular matrix [d x d] with entries right of its diagonal (`upper`) or left of it. The diagonal is 1, or the
// exponential of that of the parameters.
struct Triangle {
    const real* weight;
    int d;
    bool upper, unit, transposed;

    __device__ bool has(int row, int col) const { return upper ? row < col : row > col; }
    __device__ real at(int row, int col) const {
        if (row == col && unit) return real(1);
        real entry = weight[transposed ? col * d + row : row * d + col];
        return row == col ? exponential(entry) : entry;
    }
};

__device__ inline Triangle lower_factor(const real* weight, int d) { return {weight, d, false, true, false}; }
__device__ inline Triangle upper_factor(const real* weight, int d) { return {weight, d, true, false, false}; }
__device__ inline Triangle transposed(const Triangle& a) { return {a.weight, a.d, !a.upper, a.unit, !a.transposed}; }

// The rows of a block's threads. All of them come to every barrier, those without a row too.
struct Rows {
    Team team;
    Tile& tile;
    int d;
    size_t first, rows;

    __device__ Rows(Tile& tile, int d, size_t rows)
        : team(d), tile(tile), d(d), first((size_t)blockIdx.x * blockDim.x / team.size * ROWS), rows(rows) {}

    // Row r of the team: neighbouring teams have neighbouring rows.
    __device__ size_t row(int r) const { return first + r * (blockDim.x / team.size) + threadIdx.x / team.size; }
    __device__ bool has(int r, int col) const { return row(r) < rows && col < d; }

    // The lane's column of its rows.
    __device__ void read(const real* from, int col, real (&v)[ROWS]) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r] = has(r, col) ? from[row(r) * d + col] : real(0);
    }

    // Brings the entries of A from (row, col) on.
    __device__ void bring(const Triangle& a, int row, int col) const {
        __syncthreads();
        for (int at = threadIdx.x; at < WARP * WARP; at += blockDim.x) {
            int i = a.transposed ? at % WARP : at / WARP, j = a.transposed ? at / WARP : at % WARP;
            bool inside = row + i < d && col + j < d && (row + i == col + j || a.has(row + i, col + j));
            tile.of[i][j] = inside ? a.at(row + i, col + j) : real(0);
        }
        __syncthreads();
    }

    // Calls f(place in the rows, value) for the lane's column of its rows.
    template <typename F>
    __device__ void each(int col, const real (&v)[ROWS], F f) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (has(r, col)) f(row(r) * d + col, v[r]);
    }

    // f gets v A.
    template <typename F>
    __device__ void multiply(const real* v, const Triangle& a, F f) const {
        for (int c = 0; c < d; c += team.size) {
            int col = c + team.lane;
            real part[ROWS], sum[ROWS] = {};
            for (int k = a.upper ? 0 : c; k < (a.upper ? c + 1 : d); k += team.size) {
                bring(a, k, c);
                read(v, k + team.lane, part);
                for (int i = 0; i < team.size; i++) {
                    real entry = tile.of[i][team.lane];
                    bool here = k + i == col || a.has(k + i, col);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        real value = fused(team.of_lane(part[r], i), entry, sum[r]);
                        sum[r] = here ? value : sum[r];
                    }
                }
            }
            each(col, sum, f);
        }
    }

    // v A^-1, which `to` gets: each column in turn is taken out of those that it enters.
    __device__ void divide(const real* v, const Triangle& a, real* to) const {
        int last = (d - 1) / team.size * team.size;
        for (int step = 0; step <= last; step += team.size) {
            int c = a.upper ? step : last - step;
            real part[ROWS], rest[ROWS];
            read(v, c + team.lane, rest);
            for (int done = 0; done < step; done += team.size) {
                int k = a.upper ? done : last - done;
                bring(a, k, c);
                read(to, k + team.lane, part);
                for (int i = 0; i < team.size; i++) take_out(part, i, real(1), k + i < d, rest);
            }
            bring(a, c, c);
            for (int s = 0; s < team.size; s++) {
                int i = a.upper ? s : team.size - 1 - s;
                take_out(rest, i, tile.of[i][i], c + i < d && a.has(i, team.lane), rest);
            }
            real diagonal = tile.of[team.lane][team.lane];
#pragma unroll
            for (int r = 0; r < ROWS; r++) rest[r] = rest[r] / diagonal;
            each(c + team.lane, rest, [&](size_t at, real value) { to[at] = value; });
        }
    }

    // Subtracts what column i of `v`, divided by its diagonal, brings to the lane's column, if it enters that.
    __device__ void take_out(const real (&v)[ROWS], int i, real diagonal, bool enters, real (&rest)[ROWS]) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            real value = rest[r] - team.of_lane(v[r], i) / diagonal * tile.of[i][team.lane];
            rest[r] = enters ? value : rest[r];
        }
    }

    // Calls f(row) for the block's rows.
    template <typename F>
    __device__ void each_row(F f) const {
        for (size_t i = threadIdx.x; i < blockDim.x / team.size * ROWS && first + i < rows; i += blockDim.x) f(first + i);
    }
};

// The sum of U's diagonal's logarithms, in the first warp.
__device__ inline real ln_det_of(const real* weight, int d) {
    real sum = real(0);
    if (threadIdx.x < WARP)
        for (int col = threadIdx.x; col < d; col += WARP) sum += weight[col * d + col];
    return warp_sum(sum);
}

// `middle` gets z. `sign` is 1 forward and -1 in the inverse.
KERNEL lu_linear_forward(
    const real* x, const real* ln_det, const real* weight, real* y, real* new_ln_det, real* middle, real sign, int d,
    size_t rows) {
    __shared__ Tile tile;
    __shared__ real own[1];
    Rows of_block(tile, d, rows);
    Triangle lower = lower_factor(weight, d), upper = upper_factor(weight, d);
    real sum = ln_det_of(weight, d);
    if (threadIdx.x == 0) own[0] = sum;
    if (sign > real(0)) {
        of_block.multiply(x, lower, [&](size_t at, real value) { middle[at] = value; });
        of_block.multiply(middle, upper, [&](size_t at, real value) { y[at] = value; });
    } else {
        of_block.divide(x, upper, middle);
        of_block.divide(middle, lower, y);
    }
    of_block.each_row([&](size_t row) { new_ln_det[row] = ln_det[row] + sign * own[0]; });
}

// `through` gets the adjoint of z. In the inverse, `dy` becomes that of the input.
KERNEL lu_linear_backward(
    real* dy, const real* dl, const real* weight, real* through, Adjoint dx, Adjoint dl_in, real sign, int d,
    size_t rows) {
    __shared__ Tile tile;
    Rows of_block(tile, d, rows);
    Triangle lower = transposed(lower_factor(weight, d)), upper = transposed(upper_factor(weight, d));
    if (sign > real(0)) {
        of_block.multiply(dy, upper, [&](size_t at, real value) { through[at] = value; });
        of_block.multiply(through, lower, [&](size_t at, real value) { dx.put(at, value); });
    } else {
        of_block.divide(dy, lower, through);
        of_block.divide(through, upper, dy);
        for (int col = of_block.team.lane; col < d; col += of_block.team.size) {
            real adjoint[ROWS];
            of_block.read(dy, col, adjoint);
            of_block.each(col, adjoint, [&](size_t at, real value) { dx.put(at, value); });
        }
    }
    of_block.each_row([&](size_t row) { dl_in.put(row, dl[row]); });
}

// Rows of a matrix and some of its columns.
__device__ inline void bring_rows(real (*to)[WARP], const real* from, int row, int rows, int col, int d) {
    for (int at = threadIdx.x; at < WARP * WARP; at += blockDim.x) {
        int i = at / WARP, j = at % WARP;
        to[i][j] = row + i < rows && col + j < d ? from[(size_t)(row + i) * d + col + j] : real(0);
    }
}

// The gradient of the parameters: `sign` x^T dx_l left of the diagonal, `sign` z^T dy_u on and right of it, and the
// log-det's own. A block has 32 x 32 elements, and `blockIdx.y` counts shares of the rows, each of which adds to its own
// copy of the gradient, `stride` elements after that of the share before.
KERNEL lu_linear_gradient(
    const real* x, const real* z, const real* along_lower, const real* along_upper, const real* dl, const real* weight,
    real* gradient, size_t stride, real sign, int rows, int d) {
    __shared__ real of_x[WARP][WARP];
    __shared__ real of_z[WARP][WARP];
    __shared__ real of_lower[WARP][WARP];
    __shared__ real of_upper[WARP][WARP];
    int across = (d + WARP - 1) / WARP, first_row = blockIdx.x / across * WARP, first_col = blockIdx.x % across * WARP;
    int share = (rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * share;
    int end = rows < begin + share ? rows : begin + share, i = threadIdx.x / WARP, j = lane_index();
    real sum[4] = {}, own = real(0);
    for (int row = begin; row < end; row += WARP) {
        bring_rows(of_x, x, row, end, first_row, d);
        bring_rows(of_z, z, row, end, first_row, d);
        bring_rows(of_lower, along_lower, row, end, first_col, d);
        bring_rows(of_upper, along_upper, row, end, first_col, d);
        __syncthreads();
        own += row + j < end ? dl[row + j] : real(0);
        for (int k = 0; k < WARP; k++)
#pragma unroll
            for (int part = 0; part < 4; part++) {
                int at = i + 8 * part;
                bool left = first_col + j < first_row + at;
                real product = left ? of_x[k][at] * of_lower[k][j] : of_z[k][at] * of_upper[k][j];
                sum[part] += product;
            }
        __syncthreads();
    }
    own = warp_sum(own);
    gradient += blockIdx.y * stride;
#pragma unroll
    for (int part = 0; part < 4; part++) {
        int row = first_row + i + 8 * part, col = first_col + j, at = row * d + col;
        if (row < d && col < d)
            gradient[at] += sign * (row == col ? sum[part] * exponential(weight[at]) + own : sum[part]);
    }
}
