// a + b, a - b, a b with a one-column operand spread over the columns, as src/ops/arithmetic.rs.
#include "team.cuh"

enum { ADD, SUB, MUL };

// A thread has an element.
KERNEL arithmetic_forward(
    const real* a, const real* b, real* y, int operation, int cols, int a_cols, int b_cols, size_t n) {
    size_t i = thread_index();
    if (i >= n) return;
    size_t row = i / cols, col = i % cols;
    real p = a[row * a_cols + (a_cols == 1 ? 0 : col)], q = b[row * b_cols + (b_cols == 1 ? 0 : col)];
    y[i] = operation == ADD ? p + q : operation == SUB ? p - q : p * q;
}

// The adjoint of one operand, dy times `sign` or times the other operand (if that is given), summed over the row where
// that operand is one column. A team has a row.
KERNEL arithmetic_backward(
    const real* dy, const real* other, Adjoint to, real sign, int cols, int width, int other_cols, size_t rows) {
    Team team(cols);
    size_t row = team.row;
    if (row >= rows) return;
    real sum = real(0);
    for (int col = team.lane; col < cols; col += team.size) {
        real factor = other ? other[row * other_cols + (other_cols == 1 ? 0 : col)] : sign;
        real adjoint = dy[row * cols + col] * factor;
        if (width == cols) to.put(row * cols + col, adjoint);
        sum += adjoint;
    }
    sum = team.sum(sum);
    if (width != cols && team.lane == 0) to.put(row, sum);
}
