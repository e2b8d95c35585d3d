// What a nested program needs beside its ops, as src/plan/nested.rs.
#include "common.cuh"

// Rows of the unit vector along column `i`. A thread has an element.
KERNEL unit_rows(real* rows, int i, int cols, size_t n) {
    size_t at = thread_index();
    if (at < n) rows[at] = real(at % cols == i);
}

// trace = its elements in column `i`, or += them after the first column. A thread has a row.
KERNEL add_column(const real* gradient, real* trace, int i, int cols, size_t rows) {
    size_t row = thread_index();
    if (row < rows) trace[row] = (i == 0 ? real(0) : trace[row]) + gradient[row * cols + i];
}
