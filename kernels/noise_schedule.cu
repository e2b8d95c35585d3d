// A noise schedule at the time of each row, as src/ops/noise_schedule.rs. A thread has a row.
#include "schedule.cuh"

KERNEL noise_schedule_forward(
    const real* t, real* alpha, real* sigma, real* drift, real* diffusion_squared, const double* numbers, size_t rows) {
    size_t row = thread_index();
    if (row >= rows) return;
    Schedule schedule(numbers);
    double time = t[row];
    alpha[row] = real(schedule.alpha(time));
    sigma[row] = real(schedule.sigma(time));
    drift[row] = real(schedule.drift(time));
    diffusion_squared[row] = real(schedule.diffusion_squared(time));
}
