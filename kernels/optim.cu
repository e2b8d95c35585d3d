// Adam with clipping and a moving average of the weights, as src/optim.rs.
#include "math.cuh"

// The settings of one step, in the order of `Step` in src/optim.rs.
struct Step {
    double rate, clip, beta_1, beta_2, correction_1, correction_2, epsilon, decay, ema;
};

// The squares of `g`, added up by each block; the second stage adds up the blocks.
KERNEL squares(const real* g, double* sums, size_t n) {
    __shared__ double parts[WARP];
    double value = 0;
    for (size_t i = thread_index(); i < n; i += (size_t)gridDim.x * blockDim.x) value += (double)g[i] * (double)g[i];
    value = block_sum(value, parts);
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
}

// The norm from the sums of all blocks. One block.
KERNEL norm(const double* sums, double* norm, int count) {
    __shared__ double parts[WARP];
    double value = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) value += sums[i];
    value = block_sum(value, parts);
    if (threadIdx.x == 0) *norm = __dsqrt_rn(value);
}

// Adds the sum of a step's losses and its norm to what the steps before it came to, `course` in src/train/course.rs. From
// the first step on at which one of them is not finite it counts the steps instead, and takes their norms away, so that
// they change nothing. One thread.
KERNEL follow(const double* loss, double* norm, double* course) {
    if (thread_index() > 0) return;
    double none = (*loss - *loss) + (*norm - *norm);
    if (course[2] > 0 || none != 0) {
        course[2] += 1;
        *norm = __longlong_as_double(0x7FF8000000000000ull);
    } else {
        course[0] += *loss;
        course[1] += *norm;
    }
}

// One pass over the flat vectors; a thread has an element. A norm that is not finite changes nothing.
KERNEL adam(const real* g, real* w, real* m, real* v, real* e, const Step* step, const double* norm, size_t n) {
    size_t i = thread_index();
    double length = *norm;
    if (i >= n || !(length < __longlong_as_double(0x7FF0000000000000ull))) return;
    real b1 = real(step->beta_1), b2 = real(step->beta_2);
    real clipped = g[i] * real(length > step->clip ? step->clip / length : 1.0);
    real first = b1 * m[i] + (real(1) - b1) * clipped;
    real second = b2 * v[i] + (real(1) - b2) * clipped * clipped;
    real through = first * real(step->correction_1) / (root(second * real(step->correction_2)) + real(step->epsilon));
    real weight = w[i] - real(step->rate) * (through + real(step->decay) * w[i]);
    m[i] = first;
    v[i] = second;
    w[i] = weight;
    e[i] += (real(1) - real(step->ema)) * (weight - e[i]);
}
