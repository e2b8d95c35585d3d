// What a step of chains does around its program, as src/plan/cuda/chains.rs.
#include "team.cuh"

// x = next. `since` counts, for each chain, the steps since it left the finite numbers. A team has a chain.
KERNEL advance(const real* next, real* x, unsigned* since, int cols, size_t rows) {
    Team team(cols);
    if (team.row >= rows) return;
    int wrong = 0;
    for (int col = team.lane; col < cols; col += team.size) {
        size_t i = team.row * cols + col;
        real value = next[i];
        wrong += !(value - value == real(0));
        x[i] = value;
    }
    wrong = team.sum(wrong);
    if (team.lane == 0 && (wrong || since[team.row])) since[team.row]++;
}
