// The noise of src/rng.rs: the same integers, and the same bits of every number made of them.
#pragma once
#include "math.cuh"

// Philox4x32 with 10 rounds.
__device__ inline uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned p_high = __umulhi(counter.x, 0xD2511F53u), p_low = counter.x * 0xD2511F53u;
        unsigned q_high = __umulhi(counter.z, 0xCD9E8D57u), q_low = counter.z * 0xCD9E8D57u;
        counter = make_uint4(q_high ^ counter.y ^ key.x, q_low, p_high ^ counter.w ^ key.y, p_low);
        key = make_uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
    }
    return counter;
}

// (x + 1/2) / 2^32
__device__ inline real centred(int x) {
    const real half = real(1.1641532182693481e-10);
    return fused(real(x), half + half, half);
}

// u = (x + 1/2) / 2^32, and its distance from the nearer end of (0, 1).
__device__ inline real unit(unsigned word, real& distance) {
    int x = (int)word;
    distance = centred(x < 0 ? ~x : x);
    return x < 0 ? real(1) - distance : distance;
}

// u, with what was rounded to 1 replaced by the largest number below 1.
__device__ inline real open_unit(unsigned word) {
    real distance, u = unit(word, distance), below = real(1) - real(EPSILON) * real(0.5);
    return u < below ? u : below;
}

// Two independent standard normals from two words.
__device__ inline void box_muller(unsigned x, unsigned y, real& z0, real& z1) {
    real distance, u = unit(x, distance), sine, cosine;
    real radius = root(real(-2) * ln_given_complement(u, distance));
    sin_cos_turns(centred((int)y), sine, cosine);
    z0 = radius * cosine;
    z1 = radius * sine;
}
