// y = a x + b, as src/ops/affine.rs. A thread has an element.
#include "math.cuh"

KERNEL affine_forward(const real* x, real* y, real scale, real shift, size_t n) {
    size_t i = thread_index();
    if (i < n) y[i] = fused(x[i], scale, shift);
}

KERNEL affine_backward(const real* dy, Adjoint dx, real scale, size_t n) {
    size_t i = thread_index();
    if (i < n) dx.put(i, dy[i] * scale);
}
