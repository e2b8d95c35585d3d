// The decisions of Hamiltonian Monte Carlo, as src/sample/hmc.rs. A team has a chain; a state is q, the gradient, the
// log-density, the acceptance of the last trajectory.
#include "team.cuh"

__device__ inline double kinetic(const Team& team, const real* p, int d) {
    double sum = 0;
    for (int i = team.lane; i < d; i += team.size) sum += (double)p[i] * (double)p[i];
    return 0.5 * team.sum(sum);
}

__device__ inline bool finite(double x) { return x - x == 0; }

// Whether all of a state is finite, in all lanes.
__device__ inline bool sound(const Team& team, const real* state, int width) {
    int wrong = 0;
    for (int i = team.lane; i < width; i += team.size) wrong += !finite(state[i]);
    return team.sum(wrong) == 0;
}

KERNEL hmc_trajectory(
    const real* state, const real* proposal, const real* p, const real* p_end, const real* u, real* next,
    const double* numbers, size_t rows) {
    int d = (int)numbers[0], width = 2 * d + 2;
    Team team(width);
    if (team.row >= rows) return;
    state += team.row * width, proposal += team.row * width, next += team.row * width;
    double energy = kinetic(team, p + team.row * d, d) - (double)state[2 * d];
    double gain = energy - (kinetic(team, p_end + team.row * d, d) - (double)proposal[2 * d]);
    double acceptance = sound(team, proposal, width) && finite(gain) ? exp(gain < 0 ? gain : 0) : 0;
    bool taken = (double)u[team.row] < acceptance;
    for (int i = team.lane; i < width; i += team.size)
        next[i] = i == width - 1 ? real(acceptance) : taken ? proposal[i] : state[i];
}

// Dual averaging after a trajectory, as src/sample/step_sizes.rs; a chain's acceptance is the last column of its state. A
// thread has a chain.
KERNEL hmc_adapt(
    const real* state, real* step, double* error, double* average, double target, double centre, double count,
    double root, double rate, int last, int width, size_t rows) {
    size_t i = thread_index();
    if (i >= rows) return;
    double shortfall = target - (double)state[i * width + width - 1];
    double short_so_far = error[i] + (shortfall - error[i]) / count;
    double ln_step = centre - short_so_far * root / 0.05;
    double ln_average = average[i] + rate * (ln_step - average[i]);
    error[i] = short_so_far;
    average[i] = ln_average;
    step[i] = real(exp(last ? ln_average : ln_step));
}

KERNEL hmc_jump(
    const real* state, const real* proposal, const real* base_here, const real* base_there, const real* u, real* next,
    const double* numbers, size_t rows) {
    int d = (int)numbers[0], width = 2 * d + 2;
    Team team(width);
    if (team.row >= rows) return;
    state += team.row * width, proposal += team.row * width, next += team.row * width;
    double here = (double)state[2 * d] - (double)base_here[team.row];
    double gain = (double)proposal[2 * d] - (double)base_there[team.row] - here;
    bool stays = (double)u[team.row] >= exp(gain) || !sound(team, proposal, width);
    for (int i = team.lane; i < width; i += team.size) next[i] = stays ? state[i] : proposal[i];
}
