// Affine coupling, as src/ops/coupling.rs. `signed_clamp` is +a forward and -a in the inverse.
// A team has a row: its lanes share the columns, and their log-scales are added up by shuffles.
#include "math.cuh"
#include "team.cuh"

// `place[c]` is the number of column c among the transformed ones, or -1.
// `saved` is [rows x b] scales e^s, then [rows x b] slopes 1 - tanh^2.
KERNEL coupling_forward(
    const real* x, const real* raw, const real* ln_det, real* y, real* new_ln_det, real* saved, const int* place,
    real signed_clamp, int b, int width, size_t rows) {
    Team team(width);
    size_t row = team.row;
    if (row >= rows) return;
    real per_clamp = real(1) / magnitude(signed_clamp), sum = real(0);
    for (int c = team.lane; c < width; c += team.size) {
        real value = x[row * width + c];
        int j = place[c];
        if (j >= 0) {
            real tanh = hyperbolic_tangent(raw[row * 2 * b + j] * per_clamp), shift = raw[row * 2 * b + b + j];
            real scale = exponential(signed_clamp * tanh);
            value = signed_clamp > real(0) ? value * scale + shift : (value - shift) * scale;
            saved[row * b + j] = scale;
            saved[(rows + row) * b + j] = real(1) - tanh * tanh;
            sum += tanh;
        }
        y[row * width + c] = value;
    }
    sum = team.sum(sum);
    if (team.lane == 0) new_ln_det[row] = ln_det[row] + signed_clamp * sum;
}

// `values` are the inputs forward and the outputs in the inverse.
KERNEL coupling_backward(
    const real* dy, const real* dl, const real* values, const real* saved, const int* place, Adjoint dx, Adjoint draw,
    Adjoint dl_in, int inverse, int b, int width, size_t rows) {
    Team team(width);
    size_t row = team.row;
    if (row >= rows) return;
    real along_l = dl[row];
    for (int c = team.lane; c < width; c += team.size) {
        size_t i = row * width + c;
        real through = dy[i];
        int j = place[c];
        if (j >= 0) {
            real value = values[i], dt;
            through = dy[i] * saved[row * b + j];
            real along = inverse ? -(dy[i] * value + along_l) : through * value + along_l;
            dt = inverse ? -through : dy[i];
            draw.put(row * 2 * b + j, along * saved[(rows + row) * b + j]);
            draw.put(row * 2 * b + b + j, dt);
        }
        dx.put(i, through);
    }
    if (team.lane == 0) dl_in.put(row, along_l);
}
