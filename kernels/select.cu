// The chosen columns, as src/ops/select.rs.
#include "common.cuh"

// A thread has an element of the output.
KERNEL select_forward(const real* x, real* y, const unsigned* columns, int chosen, int width, size_t n) {
    size_t i = thread_index();
    if (i < n) y[i] = x[i / chosen * width + columns[i % chosen]];
}

// A thread has an element of the input, and adds up the places to which it was copied.
KERNEL select_backward(const real* dy, Adjoint dx, const unsigned* columns, int chosen, int width, size_t n) {
    size_t i = thread_index();
    if (i >= n) return;
    size_t row = i / width, col = i % width;
    real sum = real(0);
    // The last place is read by all threads at once.
    int last = -1;
    for (int j = 0; j < chosen; j++)
        if (columns[j] == col) {
            if (last >= 0) sum += dy[row * chosen + last];
            last = j;
        }
    if (last >= 0) sum += dy[row * chosen + last];
    dx.put(i, sum);
}
