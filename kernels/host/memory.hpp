// A kernel's arguments, and what must be true of a run: buffers of exactly their size, every output written and finite,
// and the same in every order of threads.
#pragma once
#include <set>
#include <tuple>

#include "block.hpp"
#include "common.cuh"

struct Buffer {
    std::unique_ptr<char[]> bytes;
    // For outputs: how many elements, and element i as a number.
    size_t count;
    std::function<double(size_t)> element;
};

inline std::vector<Buffer> buffers;
inline std::set<std::string> kernels_run;
inline std::string last_kernel;

// Element i of the buffer that is a launch's b-th, in (-1, 1) and not 0.
inline double drawn(size_t b, size_t i) {
    double turns = (double(i) + 0.37) * 0.6180339887498949 + double(b) * 0.7548776662466927;
    return 2 * (turns - floor(turns)) - 1;
}

template <typename T, typename F>
T* buffer(size_t n, F element) {
    buffers.push_back({std::make_unique<char[]>(n * sizeof(T)), 0, nullptr});
    T* memory = (T*)buffers.back().bytes.get();
    for (size_t i = 0; i < n; i++) memory[i] = element(i);
    return memory;
}

template <typename T, typename F>
T* output(size_t n, F element) {
    T* memory = buffer<T>(n, element);
    buffers.back().count = n;
    buffers.back().element = [memory](size_t i) { return double(memory[i]); };
    return memory;
}

inline auto drawn() {
    return [b = buffers.size()](size_t i) { return drawn(b, i); };
}

// An input, drawn or given.
inline const real* in(size_t n) { return buffer<real>(n, drawn()); }
template <typename F>
auto in(size_t n, F element) -> const decltype(element(n))* {
    return buffer<decltype(element(n))>(n, element);
}

// What is written, or changed.
template <typename T = real>
T* out(size_t n) {
    return output<T>(n, [](size_t) { return NAN; });
}
inline real* changed(size_t n) { return output<real>(n, drawn()); }
template <typename F>
real* changed(size_t n, F element) {
    return output<real>(n, element);
}
inline Adjoint set(size_t n) { return {out(n), 0}; }
inline Adjoint added(size_t n) { return {changed(n), 1}; }

[[noreturn]] inline void wrong(size_t b, size_t i, const char* what) {
    fprintf(stderr, "%s: element %zu of buffer %zu %s\n", last_kernel.c_str(), i, b, what);
    exit(1);
}

// `arguments` makes them anew for each order.
template <typename... Parameters, typename Arguments>
void run(const char* name, void (*kernel)(Parameters...), Grid grid, Arguments arguments) {
    std::vector<Buffer> first;
    last_kernel = name;
    kernels_run.insert(name);
    for (unsigned order = 0; order < 3; order++) {
        buffers.clear();
        auto given = arguments();
        launch(name, grid, 0, order, [&] { std::apply(kernel, given); });
        for (size_t b = 0; b < buffers.size(); b++)
            for (size_t i = 0; i < buffers[b].count; i++) {
                double value = buffers[b].element(i);
                if (!std::isfinite(value)) wrong(b, i, "is not written, or not finite");
                if (order > 0 && value != first[b].element(i)) wrong(b, i, "depends on the order of threads");
            }
        if (order == 0) first = std::move(buffers);
    }
}

// Launches a kernel with these arguments, in three orders. The b-th buffer among them has the elements `drawn(b, i)`.
#define RUN(grid, kernel, ...) run(#kernel, kernel, grid, [&] { return std::tuple{__VA_ARGS__}; })

// The b-th buffer of the last run has these elements.
template <typename F>
void expect(size_t b, F element) {
    for (size_t i = 0; i < buffers[b].count; i++) {
        double right = element(i), is = buffers[b].element(i);
        if (!(fabs(is - right) <= 1e-4 * (1 + fabs(right)))) wrong(b, i, "is wrong");
    }
}
