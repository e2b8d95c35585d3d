// The times of a score network and their numbers, as src/models/diffusion.rs. A thread has a row.
#include "schedule.cuh"

// In the order of `ScoreNetwork::numbers`, after the schedule's.
enum { SCORE, EPSILON_NOISE, EDM_NETWORK, VELOCITY };
enum { SIGMA_SQUARED, LIKELIHOOD, NETWORK };
enum { UNIFORM, LOG_NORMAL };

struct Settings {
    int parameterisation, weighting, times;
    double sigma_data, first, last, mean, sd;
    __device__ explicit Settings(const double* numbers)
        : parameterisation((int)numbers[0]), weighting((int)numbers[2]), times((int)numbers[3]),
          sigma_data(numbers[1]), first(numbers[4]), last(numbers[5]), mean(numbers[6]), sd(numbers[7]) {}
};

// The time of a uniform number.
KERNEL diffusion_time(const real* uniform, real* t, const double* numbers, size_t rows) {
    size_t row = thread_index();
    if (row >= rows) return;
    Settings settings(numbers + 4);
    double u = uniform[row], time = settings.first + (settings.last - settings.first) * u;
    if (settings.times == LOG_NORMAL) {
        time = exp(settings.mean + settings.sd * normcdfinv(u));
        time = time < settings.first ? settings.first : time > settings.last ? settings.last : time;
    }
    t[row] = real(time);
}

// What the network is told of a time.
__device__ inline double ln_noise_over_data(const Schedule& schedule, double t) {
    return log(schedule.sigma(t) / schedule.alpha(t));
}
__device__ inline double clock_of(const Schedule& schedule, const Settings& settings, double t) {
    if (schedule.kind == LINEAR) return t;
    double first = ln_noise_over_data(schedule, settings.first), last = ln_noise_over_data(schedule, settings.last);
    return (ln_noise_over_data(schedule, t) - first) / (last - first);
}

#define COLUMNS 11

// The numbers of a time, in the order of the columns in the Rust file.
__device__ inline void numbers_of(double time, const double* numbers, real* level) {
    Schedule schedule(numbers);
    Settings settings(numbers + 4);
    double alpha = schedule.alpha(time), sigma = schedule.sigma(time), sigma_data = settings.sigma_data;
    double data = 0, noise = 1, skip = 0, gain = 1, n;
    switch (settings.parameterisation) {
        case SCORE: noise = -1 / sigma, gain = -sigma; break;
        case EDM_NETWORK:
            n = hypot(sigma, alpha * sigma_data);
            noise = gain = -alpha * sigma_data / n;
            data = sigma / (n * sigma_data), skip = sigma / (n * n);
            break;
        case VELOCITY: data = -1, skip = 1, gain = alpha; break;
    }
    double g2 = schedule.diffusion_squared(time), weight = 1;
    if (settings.weighting == SIGMA_SQUARED) weight = gain * gain;
    if (settings.weighting == LIKELIHOOD) weight = g2 * gain * gain / (sigma * sigma);
    // v = f x + (g^2 / 2 sigma) eps; on straight lines the poles of f and g^2 cancel.
    bool straight = settings.parameterisation == VELOCITY;
    double pull = 0.5 * g2 / sigma;
    double of_x = straight ? 0 : schedule.drift(time) + pull * skip, of_output = straight ? 1 : pull * gain;
    double columns[COLUMNS] = {alpha, sigma,     data,   noise,                     -skip / sigma,
                          -gain / sigma, of_x, of_output, weight, 1 / hypot(alpha, sigma),
                          clock_of(schedule, settings, time)};
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) level[c] = real(columns[c]);
}

// The rows of a block go through shared memory, so that neighbouring threads write neighbouring numbers.
KERNEL diffusion_level(const real* t, real* level, const double* numbers, size_t rows) {
    __shared__ real block[256 * COLUMNS];
    size_t row = thread_index(), first = (size_t)blockIdx.x * blockDim.x;
    if (row < rows) numbers_of(t[row], numbers, block + threadIdx.x * COLUMNS);
    __syncthreads();
    for (size_t i = threadIdx.x; i < blockDim.x * COLUMNS && first * COLUMNS + i < rows * COLUMNS; i += blockDim.x)
        level[first * COLUMNS + i] = block[i];
}
