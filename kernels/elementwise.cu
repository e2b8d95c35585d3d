// y = f(x) and dx = dy f'(x), as src/ops/elementwise.rs. A thread has an element.
#include "math.cuh"

KERNEL elementwise_forward(const real* x, real* y, real* slope, int f, size_t n) {
    size_t i = thread_index();
    if (i >= n) return;
    real derivative;
    y[i] = activation(f, x[i], derivative);
    if (slope) slope[i] = derivative;
}

KERNEL elementwise_backward(const real* dy, const real* slope, Adjoint dx, size_t n) {
    size_t i = thread_index();
    if (i < n) dx.put(i, dy[i] * slope[i]);
}
