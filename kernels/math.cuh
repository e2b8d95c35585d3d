// The functions of src/math.rs, operation by operation: the same bits. Products and sums are not contracted (the
// kernels are compiled with --fmad=false), and `fused` is a fused multiply-add.
#pragma once
#include "common.cuh"

#ifdef DOUBLE
#define PICK(single, double) double
#define SIGNIFICAND_BITS 53
#define EPSILON 2.220446049250313e-16
#define MIN_POSITIVE 2.2250738585072014e-308
#define INFINITE __longlong_as_double(0x7FF0000000000000ull)
#define NOT_A_NUMBER __longlong_as_double(0x7FF8000000000000ull)
typedef unsigned long long bits;
__device__ inline bits to_bits(double x) { return __double_as_longlong(x); }
__device__ inline double from_bits(bits x) { return __longlong_as_double(x); }
__device__ inline double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ inline double root(double x) { return __dsqrt_rn(x); }
__device__ inline double magnitude(double x) { return fabs(x); }
__device__ inline double with_sign(double x, double sign) { return copysign(x, sign); }
__device__ inline double round_ties_even(double x) { return rint(x); }
#else
#define PICK(single, double) single
#define SIGNIFICAND_BITS 24
#define EPSILON 1.1920929e-7f
#define MIN_POSITIVE 1.17549435e-38f
#define INFINITE __uint_as_float(0x7F800000u)
#define NOT_A_NUMBER __uint_as_float(0x7FC00000u)
typedef unsigned bits;
__device__ inline bits to_bits(float x) { return __float_as_uint(x); }
__device__ inline float from_bits(bits x) { return __uint_as_float(x); }
__device__ inline float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline float root(float x) { return __fsqrt_rn(x); }
__device__ inline float magnitude(float x) { return fabsf(x); }
__device__ inline float with_sign(float x, float sign) { return copysignf(x, sign); }
__device__ inline float round_ties_even(float x) { return rintf(x); }
#endif

#define BIAS PICK(127, 1023)
#define ROUNDER (real(1.5) / real(EPSILON))
#define LN_2_HIGH real(0.693147180559945309417)
// What that leaves of ln 2, in two parts, since a double has no room for all of its digits.
#define LN_2_LOW real(0.69314718055994530942 - double(LN_2_HIGH) + 2.3190468138462996e-17)

// The sum of c[i] x^i, as even and odd halves E(x^2) + x O(x^2).
template <int N>
__device__ inline real polynomial(real x, const double (&c)[N]) {
    const int odd = (N - 1) % 2 == 1 ? N - 1 : N - 2, even = (N - 1) % 2 == 0 ? N - 1 : N - 2;
    real square = x * x, o = real(c[odd]), e = real(c[even]);
#pragma unroll
    for (int i = odd - 2; i >= 0; i -= 2) o = fused(o, square, real(c[i]));
#pragma unroll
    for (int i = even - 2; i >= 0; i -= 2) e = fused(e, square, real(c[i]));
    return fused(o, x, e);
}

// max and min in which NaN stays NaN.
__device__ inline real at_least(real x, real low) { return x < low ? low : x; }
__device__ inline real at_most(real x, real high) { return x > high ? high : x; }

// 2^n of n + ROUNDER, where that is a normal number.
__device__ inline real exp2_of_rounded(real n) { return from_bits((to_bits(n) + BIAS) << (SIGNIFICAND_BITS - 1)); }

// ln 2 in two parts, the first so short that its product with a whole number is exact.
#define LN_2_SHORT PICK(0.693145751953125, 0.6931471803691238)
#define LN_2_REST real(0.69314718055994530942 - LN_2_SHORT + 2.3190468138462996e-17)

// (r, q, n) with e^(a x) = 2^n (1 + r + r^2 q); n + ROUNDER is returned.
__device__ inline real exp_parts(double a, real x, real& r, real& q) {
    real rounded = fused(x, real(a * 1.4426950408889634), ROUNDER), minus_n = ROUNDER - rounded;
    r = fused(minus_n, LN_2_REST, fused(minus_n, real(LN_2_SHORT), real(a) * x));
#ifdef DOUBLE
    const double c[] = {0.5,
                        0.16666666666666677,
                        0.0416666666666667,
                        0.00833333333332215,
                        0.001388888888886779,
                        0.0001984126988495586,
                        2.480158735906103e-5,
                        2.75572452801203e-6,
                        2.7557243818594806e-7,
                        2.51086936258217e-8,
                        2.0924164494781167e-9};
#else
    const double c[] = {0.4999999345166795, 0.1666652068935921, 0.04166838736832908, 0.00836870988046077,
                        0.001381461307289337};
#endif
    q = polynomial(r, c);
    return rounded;
}

__device__ inline real exponential(real x) {
    x = at_most(at_least(x, real(PICK(-104.0, -746.0))), real(PICK(89.0, 710.0)));
    real r, q, n = exp_parts(1.0, x, r, q), p = fused(q, r * r, r);
    // 2^n in two factors: each is a normal number even where 2^n is not.
    bits sum = to_bits(n) + (bits(2 * BIAS) - to_bits(ROUNDER)), half = sum >> 1;
    real a = from_bits(half << (SIGNIFICAND_BITS - 1)), b = from_bits((sum - half) << (SIGNIFICAND_BITS - 1));
    return fused(a, p, a) * b;
}

// ln((1 + f) 2^k)
__device__ inline real ln_parts(real f, real k) {
    real s = f / (real(2) + f), z = s * s;
#ifdef DOUBLE
    const double c[] = {0.6666666666666731, 0.3999999999943343,  0.2857142873902353, 0.2222219886132183,
                        0.1818355157564107, 0.15314331656173957, 0.147935093088657};
#else
    const double c[] = {0.6666677557240512, 0.3997760697365069, 0.2987054725313613};
#endif
    real r = z * polynomial(z, c), half_square = f * f * real(0.5);
    return fused(k, LN_2_HIGH, f - (half_square - fused(s, half_square + r, k * LN_2_LOW)));
}

// (m, e) with x = m 2^e and m in [sqrt(1/2), sqrt(2)), for a positive normal x.
__device__ inline real split(real x, real& e) {
    const bits low = PICK(0x3F3504F3u, 0x3FE6A09E667F3BCDull), field = SIGNIFICAND_BITS - 1;
    const real scale = real(1) / real(EPSILON);
    bits seen = to_bits(x) - low + to_bits(real(1));
    e = from_bits((seen >> field) | to_bits(scale)) - (scale + real(BIAS));
    return from_bits((seen & ((bits(1) << field) - 1)) + low);
}

__device__ inline real logarithm(real x) {
    bool subnormal = x < real(MIN_POSITIVE);
    real e, m = split(subnormal ? x / real(EPSILON) : x, e);
    real y = ln_parts(m - real(1), subnormal ? e - real(SIGNIFICAND_BITS - 1) : e);
    y = x < INFINITE ? y : x;
    y = x == real(0) ? -INFINITE : y;
    return x < real(0) ? NOT_A_NUMBER : y;
}

// ln u for u in (0, 1], given also w = 1 - u.
__device__ inline real ln_given_complement(real u, real w) {
    real e, m = split(u, e);
    return ln_parts(e == real(0) ? -w : m - real(1), e);
}

// ln(1 + t) for t in [0, 1].
__device__ inline real ln_1p_unit(real t) {
    bool upper = t > real(1.4142135623730951 - 1.0);
    return ln_parts(upper ? (t - real(1)) * real(0.5) : t, upper ? real(1) : real(0));
}

__device__ inline real hyperbolic_tangent(real x) {
    real r, q, n = exp_parts(-2.0, at_most(magnitude(x), real(32)), r, q);
    real p = fused(q, r * r, r), power = exp2_of_rounded(n);
    return with_sign(fused(-power, p, real(1) - power) / fused(power, p, real(1) + power), x);
}

// Where sigmoid(-x) is still a normal number, but hardly any further.
#define SIGMOID_REACH real(PICK(87.33, 708.39))

// t = e^-x and 1 + e^-x, with what lies beyond the reach moved to its end.
__device__ inline void sigmoid_parts(real x, real& t, real& denominator) {
    x = at_most(at_least(x, -SIGMOID_REACH), SIGMOID_REACH);
    real r, q, n = exp_parts(-1.0, x, r, q), power = exp2_of_rounded(n);
    // The one power for which 1 counts, but is lost in 1 + 2^n: it joins the fraction.
    bool absorbs = power == real(2) / real(EPSILON);
    real p = fused(q, r * r, absorbs ? r + real(EPSILON) * real(0.5) : r);
    t = fused(power, p, power);
    denominator = fused(power, p, real(1) + power);
}

// Whether sigmoid(x) is no normal number any more.
__device__ inline bool beyond_reach(real x) { return x <= -SIGMOID_REACH; }

__device__ inline real sigmoid(real x) {
    real t, denominator;
    sigmoid_parts(x, t, denominator);
    return beyond_reach(x) ? real(0) : real(1) / denominator;
}

__device__ inline real silu_with_derivative(real x, real& slope) {
    real t, denominator;
    sigmoid_parts(x, t, denominator);
    real y = beyond_reach(x) ? -real(0) : x / denominator;
    real s = beyond_reach(x) ? real(0) : real(1) / denominator;
    real complement = beyond_reach(x) ? real(1) : t * s;
    slope = fused(at_most(y, SIGMOID_REACH), complement, s);
    return y;
}

__device__ inline real softplus(real x) { return (x > real(0) ? x : real(0)) + ln_1p_unit(exponential(-magnitude(x))); }

// sin and cos of 2 pi u.
__device__ inline void sin_cos_turns(real u, real& sine, real& cosine) {
    u = u - round_ties_even(u);
    real quarter = fused(u, real(4), ROUNDER), r = fused(quarter - ROUNDER, real(-0.25), u), z = r * r;
#ifdef DOUBLE
    const double s[] = {2.24045774486292e-16, -41.34170224039963, 81.60524927594418, -76.70585970321526,
                        42.058684888454586,   -15.09379665919757, 3.7807065797914303};
    const double c[] = {-19.739208802178716, 64.93939402266813,  -85.45681720658145, 60.24464133869085,
                        -26.42625176507581,  7.903129152736863, -1.697499210117126};
#else
    const double s[] = {-1.952329026616733e-7, -41.34166139336631, 81.59234062430123, -75.39290763820187};
    const double c[] = {-19.739208719354828, 64.93933430066952, -85.44447253342913, 59.267443160752926};
#endif
    real sin = fused(r, real(6.283185307179586), r * polynomial(z, s)), cos = fused(z, polynomial(z, c), real(1));
    bool odd = to_bits(quarter) & 1, half = to_bits(quarter) & 2;
    real sign = half ? real(-1) : real(1);
    sine = sign * (odd ? cos : sin);
    cosine = sign * (odd ? -sin : cos);
}

// The functions of ops/elementwise.rs, in the order of `Activation::ALL`: f(x), and f'(x) in `slope`.
__device__ inline real activation(int f, real x, real& slope) {
    real y = x;
    slope = real(1);
    switch (f) {
        case 1:
            y = x < real(0) ? real(0) : x;
            slope = x > real(0) ? real(1) : real(0);
            break;
        case 2:
            y = hyperbolic_tangent(x);
            slope = real(1) - y * y;
            break;
        case 3:
            y = sigmoid(x);
            slope = y * (real(1) - y);
            break;
        case 4: y = silu_with_derivative(x, slope); break;
        case 5:
            y = softplus(x);
            slope = sigmoid(x);
            break;
        case 6: y = slope = exponential(x); break;
        case 7:
            y = logarithm(x);
            slope = real(1) / x;
            break;
        case 8:
            y = x * x;
            slope = real(2) * x;
            break;
    }
    return y;
}
