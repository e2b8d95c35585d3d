// c_0 v_0 + c_1 v_1 + .., as src/ops/combine.rs: one launch for each value, number k of `count`.
#include "math.cuh"
#include "team.cuh"

// A thread has an element.
KERNEL combine_forward(const real* value, const real* coefficients, real* y, int k, int count, int cols, size_t n) {
    size_t i = thread_index();
    if (i >= n) return;
    y[i] = fused(value[i], coefficients[i / cols * count + k], k == 0 ? real(0) : y[i]);
}

// A team has a row.
KERNEL combine_backward(
    const real* dy, const real* value, const real* coefficients, Adjoint to_value, Adjoint to_coefficients, int k,
    int count, int cols, size_t rows) {
    Team team(cols);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0), coefficient = coefficients[row * count + k];
    for (int c = team.lane; c < cols; c += team.size) {
        size_t i = row * cols + c;
        to_value.put(i, coefficient * dy[i]);
        sum += value[i] * dy[i];
    }
    sum = team.sum(sum);
    if (team.lane == 0) to_coefficients.put(row * count + k, sum);
}
