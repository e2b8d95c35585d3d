// What the simulated driver must compute right. `n` is the number of elements.

// Calls into the double-precision library: functions that are not inlined, tables in device memory, local arrays,
// carries.
extern "C" __global__ void library(const double* x, double* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[4 * i] = sin(x[i]);
        y[4 * i + 1] = pow(fabs(x[i]), 1.7);
        y[4 * i + 2] = erf(x[i]);
        y[4 * i + 3] = lgamma(fabs(x[i]) + 0.5);
    }
}

__device__ __noinline__ int collatz(int n) {
    int steps = 0;
    while (n != 1) {
        n = n & 1 ? 3 * n + 1 : n / 2;
        steps++;
    }
    return steps;
}

// Lanes part in a loop and in a function.
extern "C" __global__ void collatz_steps(int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = collatz(i + 1);
}

// A block's sum by shuffles and shared memory, and votes.
extern "C" __global__ void block_sum(const float* x, float* sum, unsigned* positive, int n) {
    __shared__ float part[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float v = i < n ? x[i] : 0.f;
    unsigned ballot = __ballot_sync(0xffffffffu, v > 0.f);
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        part[warp] = v;
        atomicAdd(positive, __popc(ballot));
    }
    __syncthreads();
    if (warp == 0) {
        v = lane < (blockDim.x + 31) / 32 ? part[lane] : 0.f;
        for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
        if (lane == 0) sum[blockIdx.x] = v;
    }
}

// Rows of four, read and written as vectors; and a transposed copy, whose writes are far apart.
extern "C" __global__ void vectors(const float4* x, float4* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = make_float4(x[i].w, x[i].z, x[i].y, x[i].x);
}

extern "C" __global__ void transpose(const float* x, float* y, int rows, int cols) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * cols) y[i % cols * rows + i / cols] = x[i];
}

// Every thread but the first of its warp hits the same bank.
extern "C" __global__ void conflicts(float* y) {
    __shared__ float s[32 * 32];
    for (int i = threadIdx.x; i < 32 * 32; i += 32) s[i] = i;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x * 32];
}

// o = x + 1, for streams and graphs.
extern "C" __global__ void increment(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += 1.f;
}

// sum += x
extern "C" __global__ void accumulate(const float* x, float* sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] += x[i];
}
