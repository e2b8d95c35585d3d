// Every kernel at awkward shapes: one row, primes, a tile and a bit. A kernel needs one line here.
#include "memory.hpp"
#include "gemm.cuh"
#include "mixture.cuh"
#include "philox.cuh"
#include "schedule.cuh"
#include "team.cuh"

namespace affine {
#include "affine.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    RUN(threads(n), affine_forward, in(n), out(n), real(0.7), real(-2), n);
    expect(1, [](size_t i) { return 0.7 * drawn(0, i) - 2; });
    RUN(threads(n), affine_backward, in(n), set(n), real(0.7), n);
}
}  // namespace affine

namespace arithmetic {
#include "arithmetic.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    for (int operation : {ADD, SUB, MUL})
        RUN(threads(n), arithmetic_forward, in(n), in(rows), out(n), operation, cols, cols, 1, n);
    expect(2, [&](size_t i) { return drawn(0, i) * drawn(1, i / cols); });
    RUN(teams(rows, cols), arithmetic_backward, in(n), in(rows), added(n), real(1), cols, cols, 1, rows);
    RUN(teams(rows, cols), arithmetic_backward, in(n), in(n), set(rows), real(1), cols, 1, cols, rows);
    RUN(teams(rows, cols), arithmetic_backward, in(n), nullptr, set(rows), real(-1), cols, 1, 1, rows);
    expect(1, [&](size_t row) {
        double sum = 0;
        for (size_t col = 0; col < cols; col++) sum -= drawn(0, row * cols + col);
        return sum;
    });
}
}  // namespace arithmetic

namespace chains {
#include "chains.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    auto next = [](size_t i) { return i ? real(drawn(0, i)) : real(NAN); };
    auto since = [](size_t i) { return unsigned(i == 0 ? 0 : i - 1); };
    RUN(teams(rows, cols), advance, in(n), out(n), output<unsigned>(rows, since), cols, rows);
    expect(1, [](size_t i) { return drawn(0, i); });
    expect(2, [](size_t row) { return row < 2 ? 0. : double(row); });
    RUN(teams(rows, cols), advance, in(n, next), buffer<real>(n, next), output<unsigned>(rows, since), cols, rows);
    expect(2, [](size_t row) { return row == 1 ? 0. : row ? double(row) : 1.; });
}
}  // namespace chains

namespace combine {
#include "combine.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols, count = 3;
    RUN(threads(n), combine_forward, in(n), in(rows * count), out(n), 0, count, cols, n);
    RUN(threads(n), combine_forward, in(n), in(rows * count), changed(n), 2, count, cols, n);
    expect(2, [&](size_t i) { return drawn(2, i) + drawn(0, i) * drawn(1, i / cols * count + 2); });
    RUN(teams(rows, cols), combine_backward, in(n), in(n), in(rows * count), set(n), added(rows * count), 2, count, cols,
        rows);
}
}  // namespace combine

namespace concat {
#include "concat.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    RUN(threads(n), concat_forward, in(n), changed(rows * (cols + 3)), cols, 2, cols + 3, n);
    RUN(threads(n), concat_backward, in(rows * (cols + 3)), added(n), cols, 3, cols + 3, n);
}
}  // namespace concat

namespace constant {
#include "constant.cu"
void cases(size_t rows, size_t cols) {
    RUN(threads(rows * cols), constant_forward, out(rows * cols), real(3), rows * cols);
}
}  // namespace constant

// Every second column, from the second on, is transformed.
int place_of(size_t column) { return column % 2 ? int(column / 2) : -1; }

namespace coupling {
#include "coupling.cu"
void cases(size_t rows, size_t cols) {
    size_t b = cols / 2, n = rows * cols, m = rows * b;
    for (real clamp : {2, -2})
        RUN(teams(rows, cols), coupling_forward, in(n), in(2 * m), in(rows), out(n), out(rows), out(2 * m),
            in(cols, place_of), clamp, b, cols, rows);
    for (int inverse : {0, 1})
        RUN(teams(rows, cols), coupling_backward, in(n), in(rows), in(n), in(2 * m), in(cols, place_of), set(n), set(2 * m),
            added(rows), inverse, b, cols, rows);
}
}  // namespace coupling

// A variance-preserving schedule; EDM's network, weighted by the likelihood; times from 1e-5 to 1, ln t ~ N(-2, 1).
double diffusion_numbers(size_t i) {
    const double numbers[] = {VARIANCE_PRESERVING, 0.1, 20, 0, 2, 1, 1, 1, 1e-5, 1, -2, 1};
    return numbers[i];
}

namespace diffusion {
#include "diffusion.cu"
void cases(size_t rows, size_t) {
    auto uniform = [](size_t i) { return real(0.5 + 0.45 * drawn(0, i)); };
    RUN(threads(rows), diffusion_time, in(rows, uniform), out(rows), in(12, diffusion_numbers), rows);
    RUN(threads(rows), diffusion_level, in(rows, uniform), out(11 * rows), in(12, diffusion_numbers), rows);
    expect(1, [&](size_t i) {
        double t = uniform(i / 11), b = t * (0.1 + 0.5 * t * 19.9), alpha = exp(-0.5 * b), sigma = sqrt(-expm1(-b));
        // n = 1: EDM's numbers are alpha and sigma themselves.
        const double columns[] = {alpha, sigma, sigma, -alpha, -1, alpha / sigma};
        return i % 11 < 6 ? columns[i % 11] : buffers[1].element(i);
    });
}
}  // namespace diffusion

namespace elementwise {
#include "elementwise.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    auto positive = [](size_t i) { return real(1 + drawn(0, i)); };
    for (int f = 0; f <= 8; f++) RUN(threads(n), elementwise_forward, in(n, positive), out(n), out(n), f, n);
    RUN(threads(n), elementwise_forward, in(n), out(n), nullptr, 6, n);
    expect(1, [](size_t i) { return exp(drawn(0, i)); });
    RUN(threads(n), elementwise_backward, in(n), in(n), added(n), n);
}
}  // namespace elementwise

namespace fourier {
#include "fourier.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * 3, m = cols;
    RUN(threads(n * m), fourier_forward, in(n), in(m), out(2 * n * m), m, n);
    expect(2, [&](size_t i) {
        double phase = 2 * M_PI * drawn(0, i / (2 * m)) * drawn(1, i % m);
        return i / m % 2 ? sin(phase) : cos(phase);
    });
    RUN(teams(n, m), fourier_backward, in(2 * n * m), in(2 * n * m), in(m), set(n), m, n);
}
}  // namespace fourier

namespace gaussian_kl {
#include "gaussian_kl.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    for (size_t spread : {size_t(1), cols}) {
        RUN(teams(rows, cols), gaussian_kl_forward, in(n), in(rows * spread), out(rows), out(n), cols, spread, rows);
        RUN(teams(rows, cols), gaussian_kl_backward, in(rows), in(n), in(n), set(n), added(rows * spread), cols, spread,
            rows);
    }
}
}  // namespace gaussian_kl

namespace gaussian_log_density {
#include "gaussian_log_density.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    for (size_t spread : {size_t(1), cols}) {
        RUN(teams(rows, cols), gaussian_log_density_forward, in(n), in(n), in(rows * spread), out(rows), out(2 * n),
            real(0.9), cols, spread, rows);
        RUN(teams(rows, cols), gaussian_log_density_backward, in(rows), in(2 * n), set(n), added(n), set(rows * spread), cols,
            spread, rows);
    }
}
}  // namespace gaussian_log_density

namespace gaussian_sample {
#include "gaussian_sample.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    for (size_t spread : {size_t(1), cols}) {
        RUN(teams(rows, cols), gaussian_sample_forward, in(n), in(rows * spread), in(n), out(n), out(n), cols, spread, rows);
        RUN(teams(rows, cols), gaussian_sample_backward, in(n), in(n), in(n), set(n), set(rows * spread), added(n), cols,
            spread, rows);
    }
}
}  // namespace gaussian_sample

namespace hmc {
#include "hmc.cu"
void cases(size_t rows, size_t cols) {
    size_t d = cols % 17 + 1, n = rows * (2 * d + 2);
    auto dim = [&](size_t) { return double(d); };
    auto uniform = [](size_t i) { return real(0.5 + 0.4 * drawn(4, i)); };
    RUN(teams(rows, 2 * d + 2), hmc_trajectory, in(n), in(n), in(rows * d), in(rows * d), in(rows, uniform), out(n),
        in(1, dim), rows);
    for (int last : {0, 1}) {
        size_t width = 2 * d + 2;
        RUN(threads(rows), hmc_adapt, in(n), out(rows), output<double>(rows, [](size_t) { return 0.5; }),
            output<double>(rows, [](size_t) { return -1.; }), 0.8, 0.25, 12., 2., 0.5, last, width, rows);
        auto ln_step = [=](size_t row) {
            double shortfall = 0.8 - drawn(0, row * width + width - 1);
            return 0.25 - (0.5 + (shortfall - 0.5) / 12) * 2 / 0.05;
        };
        expect(1, [=](size_t row) { return exp(last ? -1 + 0.5 * (ln_step(row) + 1) : ln_step(row)); });
    }
    RUN(teams(rows, 2 * d + 2), hmc_jump, in(n), in(n), in(rows), in(rows), in(rows, uniform), out(n), in(1, dim),
        rows);
    expect(5, [&](size_t i) {
        size_t row = i / (2 * d + 2), ln_p = row * (2 * d + 2) + 2 * d;
        double gain = drawn(1, ln_p) - drawn(3, row) - drawn(0, ln_p) + drawn(2, row);
        return uniform(row) < exp(gain) ? drawn(1, i) : drawn(0, i);
    });
}
}  // namespace hmc

namespace linear {
#include "linear.cu"
// Two layers: tanh on some columns of one input, in reverse, and on two columns of another; then a map to 3 columns.
void several(size_t rows, size_t cols, int tall) {
    unsigned hidden = cols, depth = cols + 2, bias = depth * hidden, second = bias + hidden, n = second + 3 * hidden;
    size_t height = tall ? 64 : 16;
    std::vector<unsigned> words = {2, 0, depth, hidden, 2, 0, bias, hidden, 0, hidden, 3, 0, second, NONE, NONE, NONE};
    for (unsigned k = 0; k < depth; k++) words.push_back(k >= cols);
    for (unsigned k = 0; k < depth; k++) words.push_back(k < cols ? cols + 3 : 2);
    for (unsigned k = 0; k < depth; k++) words.push_back(k < cols ? cols - 1 - k : k - cols);
    auto word = [&](size_t i) { return words[i]; };
    // Column k of what the first layer sees of the inputs, the launch's first buffers.
    auto x = [&](size_t row, size_t k) {
        return k < cols ? drawn(0, row * (cols + 3) + cols - 1 - k) : drawn(1, row * 2 + k - cols);
    };
    auto inputs = [&] { return Inputs{changed(rows * (cols + 3)), changed(rows * 2)}; };
    RUN(tiles(rows, 1, height, TILE_COLS), linear_forward, inputs(), in(n), Table{in(words.size(), word)}, out(rows * 3),
        out(rows * 2 * hidden), 1, 0, 2, rows, tall);
    expect(4, [&](size_t i) {
        double sum = 0;
        for (size_t j = 0; j < hidden; j++) {
            double inner = drawn(2, bias + j);
            for (size_t k = 0; k < depth; k++) inner += x(i / 3, k) * drawn(2, k * hidden + j);
            sum += tanh(inner) * drawn(2, second + j * 3 + i % 3);
        }
        return sum;
    });
    RUN(tiles(rows, cols, height, TILE_COLS), linear_forward, inputs(), in(n), Table{in(words.size(), word)}, nullptr,
        changed(rows * 2 * hidden), 0, 0, 1, rows, tall);
    RUN(tiles(rows, 1, height, TILE_COLS), linear_input_adjoint, in(rows * 3), in(n), Table{in(words.size(), word)},
        changed(rows * 2 * hidden), inputs(), 3u, 0, 2, rows, tall);
    expect(5, [&](size_t i) {
        double sum = drawn(5, i);
        for (size_t j = 0; j < hidden; j++) {
            double g = 0;
            for (size_t c = 0; c < 3; c++) g += drawn(0, i / 2 * 3 + c) * drawn(1, second + j * 3 + c);
            sum += g * drawn(3, i / 2 * hidden + j) * drawn(1, (cols + i % 2) * hidden + j);
        }
        return sum;
    });
    size_t across = (hidden + TILE_COLS - 1) / TILE_COLS, lanes = 2;
    size_t down = (depth + height - 1) / height * across + (hidden + height - 1) / height;
    Grid grid = {unsigned(down), unsigned(lanes), 256};
    RUN(grid, linear_gradient, inputs(), in(rows * 3), in(rows * 2 * hidden), Table{in(words.size(), word)},
        changed(lanes * n), n, 0, n, rows, tall);
    expect(5, [&](size_t i) {
        size_t at = i % n, share = (rows + lanes - 1) / lanes, from = i / n * share;
        double sum = drawn(5, i);
        for (size_t row = from; row < std::min(from + share, rows); row++) {
            if (at < second) sum += drawn(3, row * hidden + at % hidden) * (at < bias ? x(row, at / hidden) : 1);
            else sum += drawn(3, (rows + row) * hidden + (at - second) / 3) * drawn(2, row * 3 + (at - second) % 3);
        }
        return sum;
    });
}

// One layer on all of one input, without a bias, of rows that are whole numbers of 16 bytes.
void whole(size_t rows, size_t cols, int tall) {
    size_t d = (cols + 3) / 4 * 4, height = tall ? 64 : 16, n = rows * d;
    std::vector<unsigned> words = {1, 1, unsigned(d), unsigned(d), 0, 0, NONE, NONE, NONE};
    auto word = [&](size_t i) { return words[i]; };
    auto product = [&](auto a, auto b) {
        return [=](size_t i) {
            double sum = 0;
            for (size_t k = 0; k < d; k++) sum += a(i / d * d + k) * b(k, i % d);
            return sum;
        };
    };
    RUN(tiles(rows, d, height, TILE_COLS), linear_forward, (Inputs{changed(n)}), in(d * d), Table{in(words.size(), word)},
        out(n), nullptr, 1, 0, 1, rows, tall);
    expect(3, product([](size_t i) { return drawn(0, i); }, [&](size_t k, size_t j) { return drawn(1, k * d + j); }));
    RUN(tiles(rows, d, height, TILE_COLS), linear_input_adjoint, in(n), in(d * d), Table{in(words.size(), word)}, nullptr,
        (Inputs{out(n)}), 0u, 0, 1, rows, tall);
    expect(3, product([](size_t i) { return drawn(0, i); }, [&](size_t k, size_t j) { return drawn(1, j * d + k); }));
    Grid grid = {unsigned((d + height - 1) / height * ((d + TILE_COLS - 1) / TILE_COLS)), 1, 256};
    RUN(grid, linear_gradient, (Inputs{changed(n)}), in(n), nullptr, Table{in(words.size(), word)}, changed(d * d), d * d,
        0, d * d, rows, tall);
    expect(3, [&](size_t i) {
        double sum = drawn(3, i);
        for (size_t row = 0; row < rows; row++) sum += drawn(0, row * d + i / d) * drawn(1, row * d + i % d);
        return sum;
    });
}

void cases(size_t rows, size_t cols) {
    for (int tall : {0, 1}) {
        several(rows, cols, tall);
        whole(rows, cols, tall);
    }
}
}  // namespace linear

namespace lu_linear {
#include "lu_linear.cu"
void cases(size_t rows, size_t cols) {
    size_t d = cols % 41 + 1, n = rows * d;
    // Far from singular, so that the inverse of many columns stays finite.
    auto weight = [&](size_t i) { return real(drawn(2, i) / double(d)); };
    for (real sign : {1, -1}) {
        size_t few = (rows + ROWS - 1) / ROWS;
        RUN(teams(few, d), lu_linear_forward, in(n), in(rows), in(d * d, weight), out(n), out(rows), out(n), sign, d,
            rows);
        RUN(teams(few, d), lu_linear_backward, changed(n), in(rows), in(d * d, weight), out(n), added(n), set(rows),
            sign, d, rows);
        size_t lanes = 2, across = (d + 31) / 32;
        Grid grid = {unsigned(across * across), unsigned(lanes), 256};
        RUN(grid, lu_linear_gradient, in(n), in(n), in(n), in(n), in(rows), in(d * d, weight), changed(lanes * d * d),
            d * d, sign, rows, d);
        expect(6, [&](size_t i) {
            size_t at = i % (d * d), row = at / d, col = at % d, share = (rows + lanes - 1) / lanes, begin = i / (d * d) * share;
            double sum = 0, own = 0, scale = row == col ? exp(weight(at)) : 1;
            for (size_t r = begin; r < std::min(begin + share, rows); r++) {
                bool left = col < row;
                sum += drawn(left ? 0 : 1, r * d + row) * drawn(left ? 2 : 3, r * d + col);
                own += drawn(4, r);
            }
            return drawn(6, i) + double(sign) * (row == col ? sum * scale + own : sum);
        });
    }
}
}  // namespace lu_linear

namespace mixture_log_density {
#include "mixture_log_density.cu"
void cases(size_t rows, size_t cols) {
    for (size_t full : {0, 1})
        for (size_t k : {1, 35}) {
            size_t d = cols % 7 + 1, n = rows * d, width = k * (1 + 2 * d + full * (d * (d - 1) / 2));
            size_t saved = rows * k * (2 + 3 * d);
            RUN(warps(rows), mixture_log_density_forward, in(n), in(rows * width), out(rows), out(saved), real(0.9), k,
                d, full, width, rows);
            RUN(warps(rows), mixture_log_density_backward, in(n), in(rows * width), in(rows), in(saved), added(n),
                set(rows * width), k, d, full, width, rows);
        }
}
}  // namespace mixture_log_density

namespace mixture_sample {
#include "mixture_sample.cu"
void cases(size_t rows, size_t cols) {
    for (size_t full : {0, 1})
        for (size_t k : {1, 35}) {
            size_t d = cols % 7 + 1, width = k * (1 + 2 * d + full * (d * (d - 1) / 2));
            auto uniform = [](size_t i) { return real(0.5 + 0.49 * drawn(2, i)); };
            RUN(warps(rows), mixture_sample_forward, in(rows * width), in(rows * d), in(rows, uniform), out(rows * d),
                out(rows * k), k, d, full, width, rows);
        }
}
}  // namespace mixture_sample

namespace nested {
#include "nested.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols, i = cols / 2;
    RUN(threads(n), unit_rows, out(n), i, cols, n);
    expect(0, [&](size_t at) { return double(at % cols == i); });
    RUN(threads(rows), add_column, in(n), changed(rows), i, cols, rows);
    expect(1, [&](size_t row) { return (i ? drawn(1, row) : 0) + drawn(0, row * cols + i); });
}
}  // namespace nested

namespace noise_schedule {
#include "noise_schedule.cu"
void cases(size_t rows, size_t) {
    for (int kind : {VARIANCE_EXPLODING, VARIANCE_PRESERVING, SUB_VARIANCE_PRESERVING, EDM, GEOMETRIC, LINEAR}) {
        auto numbers = [&](size_t i) { return i == 0 ? double(kind) : i == 3 ? 10.0 : 0.1 * double(i); };
        auto time = [](size_t i) { return real(0.5 + 0.49 * drawn(0, i)); };
        RUN(threads(rows), noise_schedule_forward, in(rows, time), out(rows), out(rows), out(rows), out(rows),
            in(4, numbers), rows);
    }
}
}  // namespace noise_schedule

namespace normal_log_density {
#include "normal_log_density.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    RUN(teams(rows, cols), normal_log_density_forward, in(n), out(rows), real(0.9), cols, rows);
    RUN(threads(n), normal_log_density_backward, in(rows), in(n), set(n), cols, n);
}
}  // namespace normal_log_density

namespace optim {
#include "optim.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols, sums = 3;
    RUN(blocks(sums), squares, in(n), out<double>(sums), n);
    RUN(blocks(1), norm, in(n, [](size_t i) { return 1 + drawn(0, i); }), out<double>(1), n);
    expect(1, [&](size_t) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += 1 + drawn(0, i);
        return sqrt(sum);
    });
    auto number = [](size_t i) { return i < 2 ? 2.0 : 0.0; };
    RUN(blocks(1), follow, in(1, number), output<double>(1, number), output<double>(3, number));
    expect(2, [](size_t i) { return i < 2 ? 4.0 : 0.0; });
    auto step = [](size_t) { return Step{1e-3, 1, 0.9, 0.999, 10, 1000, 1e-8, 0.01, 0.99}; };
    auto moment = [](size_t i) { return real(1 + drawn(0, i)); };
    RUN(threads(n), adam, in(n), changed(n), changed(n), changed(n, moment), changed(n), in(1, step),
        in(1, [](size_t) { return 2.0; }), n);
}
}  // namespace optim

namespace plan {
#include "plan.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    RUN(threads(n), copy, in(n), added(n), n);
    RUN(threads(n), fill, set(n), real(2), n);
    RUN(threads(n), gather, in(n), in(rows, [&](size_t i) { return unsigned(rows - 1 - i); }), out(n), cols, n);
    expect(2, [&](size_t i) { return drawn(0, (rows - 1 - i / cols) * cols + i % cols); });
    RUN(threads(n), repeat, in(cols), out(n), cols, n);
    expect(1, [&](size_t i) { return drawn(0, i % cols); });
    RUN(threads(n), add_lanes, in(3 * n), out(n), 3, n);
    expect(1, [&](size_t i) { return drawn(0, i) + drawn(0, n + i) + drawn(0, 2 * n + i); });
    RUN(blocks(1, 1024), total, in(n), out<double>(1), n);
    expect(1, [&](size_t) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += drawn(0, i);
        return sum;
    });
    auto control = [](size_t i) { return i == 0 ? 5ull : 11ull * i; };
    size_t groups = (11 + rows + 4) / 5;
    for (int uniform : {0, 1})
        RUN(threads(rows * ((cols + 3) / 4)), noise, out(n), in(3 + groups, control), 7u, uniform, cols, rows);
}
}  // namespace plan

namespace reduce {
#include "reduce.cu"
void cases(size_t rows, size_t cols) {
    RUN(teams(rows, cols), sum_cols_forward, in(rows * cols), out(rows), real(0.5), cols, rows);
    expect(1, [&](size_t row) {
        double sum = 0;
        for (size_t col = 0; col < cols; col++) sum += drawn(0, row * cols + col);
        return 0.5 * sum;
    });
    RUN(threads(rows * cols), sum_cols_backward, in(rows), added(rows * cols), real(0.5), cols, rows * cols);
}
}  // namespace reduce

namespace scale_shift {
#include "scale_shift.cu"
void cases(size_t rows, size_t cols) {
    size_t n = rows * cols;
    for (real sign : {1, -1}) {
        RUN(teams(rows, cols), scale_shift_forward, in(n), in(rows), in(cols), in(cols), out(n), out(rows), sign, cols, rows);
        RUN(teams(rows, cols), scale_shift_backward, in(n), in(rows), in(cols), set(n), added(rows), sign, cols, rows);
        Grid grid = {unsigned((cols + 31) / 32), 2, 256};
        RUN(grid, scale_shift_gradient, in(n), in(rows), in(n), in(cols), changed(2 * cols), changed(2 * cols), cols, sign,
            rows, cols);
        expect(5, [&](size_t i) {
            size_t col = i % cols, share = (rows + 1) / 2, begin = i / cols * share;
            double sum = 0;
            for (size_t row = begin; row < std::min(begin + share, rows); row++) sum += drawn(0, row * cols + col);
            return drawn(5, i) + (sign > 0 ? sum : -sum * exp(-drawn(3, col)));
        });
    }
}
}  // namespace scale_shift

namespace select_columns {
#include "select.cu"
void cases(size_t rows, size_t cols) {
    size_t chosen = cols / 2 + 2;
    auto columns = [&](size_t i) { return unsigned(i * 7 % cols); };
    RUN(threads(rows * chosen), select_forward, in(rows * cols), out(rows * chosen), in(chosen, columns), chosen, cols,
        rows * chosen);
    RUN(threads(rows * cols), select_backward, in(rows * chosen), set(rows * cols), in(chosen, columns), chosen, cols,
        rows * cols);
}
}  // namespace select_columns

namespace spline_coupling {
#include "spline_coupling.cu"
void cases(size_t rows, size_t cols) {
    size_t b = cols / 2, n = rows * cols, bins = 5, m = rows * b;
    real bound = real(0.8), least = real(0.01), free = 2 * bound - bins * least, floor = real(0.3), offset = real(0.5);
    auto positive = [](size_t i) { return real(1.01 + drawn(2, i)); };
    for (int inverse : {0, 1}) {
        RUN(teams(rows, cols), spline_coupling_forward, in(n), in(m * (3 * bins - 1)), in(rows), out(n), out(rows),
            out(m * (2 * bins + 6)), in(cols, place_of), bins, bound, least, free, floor, offset, inverse, b, cols,
            rows);
        RUN(teams(rows, cols), spline_coupling_backward, in(n), in(rows), in(m * (2 * bins + 6), positive),
            in(cols, place_of), set(n), set(m * (3 * bins - 1)), added(rows), bins, bound, least, free, floor, offset,
            inverse, b, cols, rows);
    }
}
}  // namespace spline_coupling

int main() {
    const size_t shapes[][2] = {{1, 1}, {1, 37}, {13, 2}, {7, 67}, {65, 5}};
    for (auto [rows, cols] : shapes)
        for (auto cases :
            {affine::cases, arithmetic::cases, chains::cases, combine::cases, concat::cases, constant::cases, coupling::cases,
                diffusion::cases, elementwise::cases, fourier::cases, gaussian_kl::cases, gaussian_log_density::cases,
                gaussian_sample::cases, hmc::cases, linear::cases, lu_linear::cases, mixture_log_density::cases,
                mixture_sample::cases, nested::cases, noise_schedule::cases, normal_log_density::cases, optim::cases,
                plan::cases, reduce::cases, scale_shift::cases, select_columns::cases, spline_coupling::cases})
            cases(rows, cols);
    int missing = 0;
    for (const char* kernel : {
#include "kernels.list"
         })
        if (!kernels_run.count(kernel)) missing = fprintf(stderr, "no line in kernels/host/cases.cpp: %s\n", kernel);
    return missing ? 1 : 0;
}
