// Kernels with one mistake each, and the same without it. `o` has as many elements as there are threads.
// Each name says what the simulated driver must find, and the sanitizers of kernels/host.

extern "C" __global__ void ok_neighbours(float* o) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    o[threadIdx.x] = s[threadIdx.x ^ 33];
}

extern "C" __global__ void missing_barrier(float* o) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    o[threadIdx.x] = s[threadIdx.x ^ 33];
}

extern "C" __global__ void missing_second_barrier(float* o) {
    __shared__ float s[64];
    for (int i = 0; i < 2; i++) {
        s[threadIdx.x] = threadIdx.x + i;
        __syncthreads();
        o[threadIdx.x] = s[threadIdx.x ^ 33];
    }
}

extern "C" __global__ void ok_warp_barrier(float* o) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    o[threadIdx.x] = s[threadIdx.x ^ 1];
}

extern "C" __global__ void missing_warp_barrier(float* o) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    o[threadIdx.x] = s[threadIdx.x ^ 1];
}

extern "C" __global__ void global_out_of_bounds(float* o) { o[threadIdx.x + 1] = 1.f; }

extern "C" __global__ void global_before_the_start(float* o) { o[(int)threadIdx.x - 1] = 1.f; }

extern "C" __global__ void shared_out_of_bounds(float* o) {
    __shared__ float s[64];
    s[threadIdx.x + 1] = 1.f;
    __syncthreads();
    o[threadIdx.x] = s[threadIdx.x];
}

extern "C" __global__ void dynamic_out_of_bounds(float* o) {
    extern __shared__ float d[];
    d[threadIdx.x + 1] = 1.f;
    __syncthreads();
    o[threadIdx.x] = d[threadIdx.x];
}

extern "C" __global__ void misaligned_float4(float* o) {
    float4 v = *reinterpret_cast<float4*>(o + 1);
    o[threadIdx.x] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void uninitialised_shared(float* o) {
    __shared__ float s[65];
    s[threadIdx.x] = 1.f;
    __syncthreads();
    o[threadIdx.x] = s[threadIdx.x + 1];
}

extern "C" __global__ void divergent_barrier(float* o) {
    if (threadIdx.x < 40) __syncthreads();
    o[threadIdx.x] = 1.f;
}

extern "C" __global__ void two_barriers(float* o) {
    if (threadIdx.x & 1) {
        o[threadIdx.x] = 2.f;
        __syncthreads();
    } else {
        __syncthreads();
        o[threadIdx.x] = 1.f;
    }
}

extern "C" __global__ void race_between_blocks(float* o) {
    if (threadIdx.x == 0) o[0] = o[0] + 1.f;
}

extern "C" __global__ void ok_atomic(float* o) { atomicAdd(&o[0], 1.f); }

extern "C" __global__ void shuffle_without_all(float* o) {
    float v = threadIdx.x;
    if (threadIdx.x < 16) v = __shfl_xor_sync(0xffffffffu, v, 1);
    o[threadIdx.x] = v;
}

extern "C" __global__ void shuffle_not_in_mask(float* o) { o[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 0); }

extern "C" __global__ void shuffle_after_exit(float* o) {
    if (threadIdx.x >= 20) return;
    float v = 1.f;
    v += __shfl_down_sync(0xffffffffu, v, 16);
    o[threadIdx.x] = v;
}

extern "C" __global__ void traps(float* o) {
    if (o[threadIdx.x] > 5.f) __trap();
}

extern "C" __global__ void misaligned_shared_float4(float* o) {
    __shared__ float s[66];
    s[threadIdx.x + 1] = 1.f;
    __syncthreads();
    float4 v = reinterpret_cast<float4*>(s + 1)[threadIdx.x / 4];
    o[threadIdx.x] = v.x + v.y + v.z + v.w;
}
