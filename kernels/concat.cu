// Values side by side, as src/ops/concat.rs: one launch for each of them. A thread has an element of the part.
#include "common.cuh"

KERNEL concat_forward(const real* x, real* y, int width, int start, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) y[i / width * cols + start + i % width] = x[i];
}

KERNEL concat_backward(const real* dy, Adjoint dx, int width, int start, int cols, size_t n) {
    size_t i = thread_index();
    if (i < n) dx.put(i, dy[i / width * cols + start + i % width]);
}
