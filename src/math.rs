//! Elementary functions that vectorise, and the normal distribution's special functions.
//!
//! The generic functions are branch-free (selects only, no tables) and `#[inline(always)]`, so
//! that a plain loop over them becomes SIMD code; [`wide`] compiles such a loop for the widest
//! SIMD of the machine it runs on. NaN in gives NaN out. Largest errors, in units in the last
//! place (ulp) of the exact result, each held by a test:
//!
//! | function              | `f32` | `f64` |
//! |-----------------------|-------|-------|
//! | [`exp`]               | 1.1   | 1     |
//! | [`ln`]                | 1     | 1     |
//! | [`tanh`]              | 2     | 2     |
//! | [`sigmoid`]           | 2     | 2     |
//! | [`silu`]              | 2     | 2     |
//! | [`softplus`]          | 2     | 2     |
//! | [`sin_cos_turns`]     | 1.2   | 1.2   |
//!
//! **The same bits everywhere.** Additions, products, quotients and square roots are those of
//! IEEE 754, and [`Real::mul_add`] is a *fused* multiply-add wherever it runs, so the results do
//! not depend on the machine or on its SIMD level. The price is paid by x86 processors older than
//! 2013: without FMA instructions each `mul_add` is a call to a software routine, correct but tens
//! of times slower.
//!
//! Polynomials are minimax fits (Remez exchange on the relative error) over the reduced range. The
//! tables are written in double precision and rounded to `T`; their lengths are what differs
//! between `f32` and `f64`.

use crate::real::Real;
use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E, SQRT_2, TAU};
use std::sync::LazyLock;

/// ln 2 - `LN_2`: the digits of ln 2 that a double has no room for.
const LN_2_TAIL: f64 = 2.319_046_813_846_299_6e-17;

/// Runs `f` compiled for the widest SIMD this machine has: AVX-512 or AVX2 + FMA where an x86-64 processor offers them,
/// the build's own target otherwise.
///
/// Programs are usually built for the x86-64 of 2003, with four-lane SIMD and no FMA. The trick:
/// `f` is inlined into a function that is compiled *with* these features, so the compiler vectorises
/// its loops at that level, and that function is called only after the processor has been asked.
/// What is not inlined into `f` stays at the build's level, so mark the closure and what its loops
/// call `#[inline(always)]`:
///
/// ```
/// use retrodict::math::{tanh, wide};
/// let mut x = vec![0.5_f32; 1000];
/// wide(#[inline(always)] || x.iter_mut().for_each(|x| *x = tanh(*x)));
/// assert_eq!(x[7], tanh(0.5));
/// ```
///
/// The result does not depend on the level (see the [module](self)).
///
/// A function's bare name (`map_in_place(x, tanh)`) is a closure the compiler need not inline
/// either; `#[inline(always)] |x| tanh(x)` is.
#[inline]
pub fn wide<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2_fma<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        match vector_bytes() {
            // SAFETY: the processor has been found to have all of these features.
            64 => return unsafe { with_avx512(f) },
            // SAFETY: likewise.
            32 => return unsafe { with_avx2_fma(f) },
            _ => {}
        }
    }
    f()
}

/// Bytes of the vectors for which [`wide`] compiles on this machine: 64, 32, or 16 for the build's own target.
#[inline]
pub(crate) fn vector_bytes() -> usize {
    static BYTES: LazyLock<usize> = LazyLock::new(detected_vector_bytes);
    *BYTES
}

fn detected_vector_bytes() -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wider = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if wider { 64 } else { 32 };
    }
    16
}

/// `f(n)` by [`wide`], compiled for each small n: loops of n steps, too short for vectors of their own, become straight
/// code.
#[inline(always)]
pub(crate) fn unrolled(n: usize, f: impl FnOnce(usize)) {
    wide(
        #[inline(always)]
        || match n {
            1 => f(1),
            2 => f(2),
            3 => f(3),
            4 => f(4),
            5 => f(5),
            6 => f(6),
            7 => f(7),
            8 => f(8),
            _ => f(n),
        },
    );
}

/// `x[i] = f(x[i])` for all `i`, vectorised by [`wide`].
#[inline]
pub fn map_in_place<T: Real>(x: &mut [T], f: impl Fn(T) -> T) {
    wide(
        #[inline(always)]
        || {
            for x in x {
                *x = f(*x);
            }
        },
    );
}

/// The first value for `f32`, the second for `f64`.
#[inline(always)]
fn pick<T: Real, C: Copy>(single: C, double: C) -> C {
    if T::SIGNIFICAND_BITS == f32::SIGNIFICAND_BITS { single } else { double }
}

/// $\sum_i c_i x^i$ from the table of the precision of `T`, as even and odd halves
/// $E(x^2) + x O(x^2)$: two short chains of dependent operations run side by side.
#[inline(always)]
fn polynomial<T: Real>(x: T, single: &'static [f64], double: &'static [f64]) -> T {
    let c = pick::<T, _>(single, double);
    let square = x * x;
    let horner = |p: T, c: T| p.mul_add(square, c);
    let half =
        |start: usize| c.iter().skip(start).step_by(2).rev().map(|&c| T::from_f64(c)).reduce(horner).unwrap_or(T::ZERO);
    half(1).mul_add(x, half(0))
}

/// `max(x, low)`, but NaN stays NaN.
#[inline(always)]
fn at_least<T: Real>(x: T, low: f64) -> T {
    let low = T::from_f64(low);
    if x < low { low } else { x }
}

/// `min(x, high)`, but NaN stays NaN.
#[inline(always)]
fn at_most<T: Real>(x: T, high: f64) -> T {
    let high = T::from_f64(high);
    if x > high { high } else { x }
}

/// `ln 2` in two parts: the nearest `T` and the nearest `T` to what that leaves.
#[inline(always)]
fn ln_2<T: Real>() -> (T, T) {
    let high = T::from_f64(LN_2);
    (high, T::from_f64(LN_2 - high.to_f64() + LN_2_TAIL))
}

/// `(r, q, n)` with $e^{ax} = 2^n (1 + r + r^2 q)$, `n` whole, given as `n` + [`Real::ROUNDER`]; `a` is a power of two
/// or minus that.
///
/// With $r = ax - n \ln 2$, $|r| \le \ln(2) / 2$, and the relative error of the polynomial $q$ for $(e^r - 1 - r) / r^2$
/// such that that of $e^r$ is $2^{-28}$ (`f32`) or $2^{-61}$ (`f64`). The first part of ln 2 is so short that its product
/// with `n` is exact (Cody and Waite), and so is what it leaves of `ax`.
#[inline(always)]
fn exp_parts<T: Real>(a: f64, x: T) -> (T, T, T) {
    let rounded = x.mul_add(T::from_f64(a * LOG2_E), T::ROUNDER);
    let minus_n = T::ROUNDER - rounded;
    let high = pick::<T, _>(0.693_145_751_953_125, 0.693_147_180_369_123_8);
    let low = T::from_f64(LN_2 - high + LN_2_TAIL);
    let r = minus_n.mul_add(low, minus_n.mul_add(T::from_f64(high), T::from_f64(a) * x));
    let q = polynomial(
        r,
        &[
            0.499_999_934_516_679_5,
            0.166_665_206_893_592_1,
            0.041_668_387_368_329_08,
            0.008_368_709_880_460_77,
            0.001_381_461_307_289_337,
        ],
        &[
            0.5,
            0.166_666_666_666_666_77,
            0.041_666_666_666_666_7,
            0.008_333_333_333_322_15,
            0.001_388_888_888_886_779,
            0.000_198_412_698_849_558_6,
            2.480_158_735_906_103e-5,
            2.755_724_528_012_03e-6,
            2.755_724_381_859_480_6e-7,
            2.510_869_362_582_17e-8,
            2.092_416_449_478_116_7e-9,
        ],
    );
    (r, q, rounded)
}

/// $e^x$. Overflows to infinity; underflows gradually, through subnormals, to 0.
#[inline(always)]
pub fn exp<T: Real>(x: T) -> T {
    // Beyond these bounds the scaling below gives 0 and infinity by itself.
    let x = at_most(at_least(x, pick::<T, _>(-104.0, -746.0)), pick::<T, _>(89.0, 710.0));
    let (r, q, n) = exp_parts(1.0, x);
    let p = q.mul_add(r * r, r);
    // 2^n in two factors: each is a normal number even where 2^n is not.
    let (a, b) = n.exp2_factors_of_rounded();
    a.mul_add(p, a) * b
}

/// $\ln((1 + f) 2^k)$ for $1 + f$ in $[\sqrt{1/2}, \sqrt 2)$.
///
/// With $s = f / (2 + f)$: $\ln(1 + f) = 2 \operatorname{artanh} s = f - f^2/2 + s (f^2/2 + R)$,
/// $R = s^2 P(s^2)$. The form (not the coefficients) is that of Sun's FDLIBM `e_log.c`: the only
/// large term, $f$, is exact. Relative error of the polynomial $2^{-30}$ or $2^{-59}$.
#[inline(always)]
fn ln_parts<T: Real>(f: T, k: T) -> T {
    let s = f / (T::from_f64(2.0) + f);
    let z = s * s;
    let r = z * polynomial(
        z,
        &[0.666_667_755_724_051_2, 0.399_776_069_736_506_9, 0.298_705_472_531_361_3],
        &[
            0.666_666_666_666_673_1,
            0.399_999_999_994_334_3,
            0.285_714_287_390_235_3,
            0.222_221_988_613_218_3,
            0.181_835_515_756_410_7,
            0.153_143_316_561_739_57,
            0.147_935_093_088_657,
        ],
    );
    let half_square = f * f * T::from_f64(0.5);
    let (high, low) = ln_2::<T>();
    k.mul_add(high, f - (half_square - s.mul_add(half_square + r, k * low)))
}

/// $\ln x$, also of subnormal `x`. `ln(0)` (either zero) is minus infinity, the logarithm of a
/// negative number NaN.
#[inline(always)]
pub fn ln<T: Real>(x: T) -> T {
    let infinity = T::from_f64(f64::INFINITY);
    let subnormal = x < T::MIN_POSITIVE;
    let shift = T::from_i32(T::SIGNIFICAND_BITS as i32 - 1);
    let (m, e) = if subnormal { x / T::EPSILON } else { x }.split();
    let y = ln_parts(m - T::ONE, if subnormal { e - shift } else { e });
    let y = if x < infinity { y } else { x };
    let y = if x == T::ZERO { -infinity } else { y };
    if x < T::ZERO { T::from_f64(f64::NAN) } else { y }
}

/// $\ln u$ for `u` in (0, 1], normal, given also `w` = 1 - u: where `u` is so close to 1 that it
/// has lost its last digits, `w` still has them, and the result is good to all digits of `w`.
#[inline(always)]
pub(crate) fn ln_given_complement<T: Real>(u: T, w: T) -> T {
    let (m, e) = u.split();
    ln_parts(if e == T::ZERO { -w } else { m - T::ONE }, e)
}

/// $\ln(1 + t)$ for `t` in [0, 1].
#[inline(always)]
fn ln_1p_unit<T: Real>(t: T) -> T {
    let upper = t > T::from_f64(SQRT_2 - 1.0);
    let f = if upper { (t - T::ONE) * T::from_f64(0.5) } else { t };
    ln_parts(f, if upper { T::ONE } else { T::ZERO })
}

/// $\tanh x$: exactly odd, to full relative accuracy near 0, exactly ±1 for large `x`.
#[inline(always)]
pub fn tanh<T: Real>(x: T) -> T {
    // tanh |x| = (1 - t) / (1 + t) with t = e^(-2|x|) = 2^n p + 2^n: nothing cancels, and each is rounded once.
    // Beyond |x| = 32 the result has long been 1.
    let (r, q, n) = exp_parts(-2.0, at_most(x.abs(), 32.0));
    let (p, power) = (q.mul_add(r * r, r), n.exp2_of_rounded());
    ((-power).mul_add(p, T::ONE - power) / power.mul_add(p, T::ONE + power)).copysign(x)
}

/// Where $\sigma(-x)$ is still a normal number, but hardly any further.
#[inline(always)]
fn sigmoid_reach<T: Real>() -> f64 {
    pick::<T, _>(87.33, 708.39)
}

/// $(e^{-x}, 1 + e^{-x})$, the last rounded once, with what lies beyond the reach moved to its end.
#[inline(always)]
fn sigmoid_parts<T: Real>(x: T) -> (T, T) {
    let x = at_most(at_least(x, -sigmoid_reach::<T>()), sigmoid_reach::<T>());
    let (r, q, n) = exp_parts(-1.0, x);
    let power = n.exp2_of_rounded();
    // The one power for which 1 counts, but is lost in 1 + 2^n: it joins the fraction.
    let absorbs = power == T::from_f64(2.0) / T::EPSILON;
    let p = q.mul_add(r * r, if absorbs { r + T::EPSILON * T::from_f64(0.5) } else { r });
    (power.mul_add(p, power), power.mul_add(p, T::ONE + power))
}

/// Whether $\sigma(x)$ is no normal number any more.
#[inline(always)]
fn beyond_reach<T: Real>(x: T) -> bool {
    x <= T::from_f64(-sigmoid_reach::<T>())
}

/// $\sigma(x) = 1 / (1 + e^{-x})$, to full relative accuracy also far to the left, where it is
/// $e^x$; what would be subnormal (`x < -87` in `f32`, `-708` in `f64`) is 0.
#[inline(always)]
pub fn sigmoid<T: Real>(x: T) -> T {
    let (_, denominator) = sigmoid_parts(x);
    if beyond_reach(x) { T::ZERO } else { T::ONE / denominator }
}

/// $\operatorname{silu}(x) = x \sigma(x)$; `silu(-inf)` is -0.
///
/// The relative accuracy ends where that of [`sigmoid`] does.
///
/// Source: Elfwing, Uchibe and Doya, *Sigmoid-weighted linear units* (2018).
#[inline(always)]
pub fn silu<T: Real>(x: T) -> T {
    silu_with_derivative(x).0
}

/// `(silu(x), silu'(x))`, with $\operatorname{silu}'(x) = \sigma(x) + \operatorname{silu}(x) \sigma(-x)$.
///
/// The value is that of [`silu`]; the error of the slope is below 2 [`Real::EPSILON`], and of the sum of the two terms'
/// magnitudes where that is less, far to the left.
#[inline(always)]
pub fn silu_with_derivative<T: Real>(x: T) -> (T, T) {
    let (t, denominator) = sigmoid_parts(x);
    // A choice for each quotient, not one for both: so each becomes a division under a mask.
    let y = if beyond_reach(x) { -T::ZERO } else { x / denominator };
    let s = if beyond_reach(x) { T::ZERO } else { T::ONE / denominator };
    // sigma(-x) is t s, without cancellation.
    let complement = if beyond_reach(x) { T::ONE } else { t * s };
    // Where the second term is as good as 0 it would not be for an infinite y.
    (y, at_most(y, sigmoid_reach::<T>()).mul_add(complement, s))
}

/// $\ln(1 + e^x) = \max(x, 0) + \ln(1 + e^{-|x|})$; its derivative is [`sigmoid`].
#[inline(always)]
pub fn softplus<T: Real>(x: T) -> T {
    (if x > T::ZERO { x } else { T::ZERO }) + ln_1p_unit(exp(-x.abs()))
}

/// $(\sin 2\pi u, \cos 2\pi u)$. The argument counts turns, so that its reduction is exact for
/// every finite `u`.
#[inline(always)]
pub fn sin_cos_turns<T: Real>(u: T) -> (T, T) {
    // u = whole turns + quarter / 4 + r with r in [-1/8, 1/8]
    let u = u - u.round_ties_even();
    let quarter = u.mul_add(T::from_f64(4.0), T::ROUNDER);
    let r = (quarter - T::ROUNDER).mul_add(T::from_f64(-0.25), u);
    let z = r * r;
    // sin(2 pi r) = r tau + r S(r^2) with tau = 2 pi rounded, relative error 2^-28 or 2^-58
    let tau = T::from_f64(TAU);
    let sin = r * polynomial(
        z,
        &[-1.952_329_026_616_733e-7, -41.341_661_393_366_31, 81.592_340_624_301_33, -75.392_907_638_201_87],
        &[
            2.240_457_744_862_92e-16,
            -41.341_702_240_399_63,
            81.605_249_275_944_18,
            -76.705_859_703_215_26,
            42.058_684_888_454_586,
            -15.093_796_659_197_57,
            3.780_706_579_791_430_3,
        ],
    );
    let sin = r.mul_add(tau, sin);
    // cos(2 pi r) = 1 + r^2 C(r^2), relative error 2^-33 or 2^-63
    let cos = z.mul_add(
        polynomial(
            z,
            &[-19.739_208_719_354_828, 64.939_334_300_669_52, -85.444_472_533_429_13, 59.267_443_160_752_926],
            &[
                -19.739_208_802_178_716,
                64.939_394_022_668_13,
                -85.456_817_206_581_45,
                60.244_641_338_690_85,
                -26.426_251_765_075_81,
                7.903_129_152_736_863,
                -1.697_499_210_117_126,
            ],
        ),
        T::ONE,
    );
    // A quarter turn makes (cos, -sin) of (sin, cos), half a turn (-sin, -cos).
    let (odd, half) = (quarter.bit_of_rounded(0), quarter.bit_of_rounded(1));
    let (sin, cos) = if odd { (cos, -sin) } else { (sin, cos) };
    let sign = if half { -T::ONE } else { T::ONE };
    (sign * sin, sign * cos)
}

/// $\Phi(x)$, the standard normal distribution function: $\tfrac12 \operatorname{erfc}(-x/\sqrt2)$.
///
/// The relative error grows to the left as $x^2$ [`Real::EPSILON`], the change of $\Phi$ when `x`
/// changes by a rounding: 3e-13 at the far end of the lower tail, `x = -37.5`.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// $\ln \varphi(x) = -x^2/2 - \ln(2\pi)/2$, the log-density of the standard normal distribution.
pub fn normal_ln_pdf(x: f64) -> f64 {
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
    -0.5 * x * x - HALF_LN_TAU
}

/// $\Phi^{-1}(p)$, the standard normal quantile, relative error about 1e-15.
///
/// 0 and 1 give minus and plus infinity; NaN and what lies outside `[0, 1]` give NaN.
///
/// Source: M. J. Wichura, *Algorithm AS 241: The percentage points of the normal distribution*,
/// Applied Statistics 37 (1988), routine PPND16.
pub fn normal_quantile(p: f64) -> f64 {
    let [centre, near_tail, far_tail] = &PPND16;
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * rational(centre, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail == 0.0 {
        return f64::INFINITY.copysign(q);
    }
    let r = (-libm::log(tail)).sqrt(); // NaN for a p outside [0, 1]
    let x = if r <= 5.0 { rational(near_tail, r - 1.6) } else { rational(far_tail, r - 5.0) };
    x.copysign(q)
}

/// Coefficients of a numerator and of a denominator, constant terms first.
type Rational = [[f64; 8]; 2];

fn rational([numerator, denominator]: &Rational, x: f64) -> f64 {
    let horner = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
    horner(numerator) / horner(denominator)
}

/// AS 241's approximations for the centre, the tails and the far tails.
#[allow(clippy::excessive_precision)] // the digits as published
const PPND16: [Rational; 3] = [
    // |p - 1/2| <= 0.425, in 0.425^2 - (p - 1/2)^2
    [
        [
            3.387_132_872_796_366_608_0e0,
            1.331_416_678_917_843_774_5e2,
            1.971_590_950_306_551_442_7e3,
            1.373_169_376_550_946_112_5e4,
            4.592_195_393_154_987_145_7e4,
            6.726_577_092_700_870_085_3e4,
            3.343_057_558_358_812_810_5e4,
            2.509_080_928_730_122_672_7e3,
        ],
        [
            1.0,
            4.231_333_070_160_091_125_2e1,
            6.871_870_074_920_579_083_0e2,
            5.394_196_021_424_751_107_7e3,
            2.121_379_430_158_659_586_7e4,
            3.930_789_580_009_271_061_0e4,
            2.872_908_573_572_194_267_4e4,
            5.226_495_278_852_854_561_0e3,
        ],
    ],
    // sqrt(-ln p) <= 5, in sqrt(-ln p) - 1.6
    [
        [
            1.423_437_110_749_683_577_34e0,
            4.630_337_846_156_545_295_90e0,
            5.769_497_221_460_691_405_50e0,
            3.647_848_324_763_204_605_04e0,
            1.270_458_252_452_368_382_58e0,
            2.417_807_251_774_506_117_70e-1,
            2.272_384_498_926_918_458_33e-2,
            7.745_450_142_783_414_076_40e-4,
        ],
        [
            1.0,
            2.053_191_626_637_758_821_87e0,
            1.676_384_830_183_803_849_40e0,
            6.897_673_349_851_000_045_50e-1,
            1.481_039_764_274_800_745_90e-1,
            1.519_866_656_361_645_719_66e-2,
            5.475_938_084_995_344_946_00e-4,
            1.050_750_071_644_416_843_24e-9,
        ],
    ],
    // sqrt(-ln p) > 5, in sqrt(-ln p) - 5
    [
        [
            6.657_904_643_501_103_777_20e0,
            5.463_784_911_164_114_369_90e0,
            1.784_826_539_917_291_335_80e0,
            2.965_605_718_285_048_912_30e-1,
            2.653_218_952_657_612_309_30e-2,
            1.242_660_947_388_078_438_60e-3,
            2.711_555_568_743_487_578_15e-5,
            2.010_334_399_292_288_132_65e-7,
        ],
        [
            1.0,
            5.998_322_065_558_879_376_90e-1,
            1.369_298_809_227_358_053_10e-1,
            1.487_536_129_085_061_485_25e-2,
            7.868_691_311_456_132_591_00e-4,
            1.846_318_317_510_054_681_80e-5,
            1.421_511_758_316_445_888_70e-7,
            2.044_263_103_389_939_785_64e-15,
        ],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Continuous, ContinuousCDF, Normal};

    type Function<T> = fn(T) -> T;

    fn functions<T: Real>() -> Vec<(&'static str, Function<T>)> {
        vec![
            ("exp", exp),
            ("ln", ln),
            ("tanh", tanh),
            ("sigmoid", sigmoid),
            ("silu", silu),
            ("silu'", |x| silu_with_derivative(x).1),
            ("softplus", softplus),
            ("sin", |x| sin_cos_turns(x).0),
            ("cos", |x| sin_cos_turns(x).1),
        ]
    }

    fn is_nan<T: Real>(x: T) -> bool {
        x.to_f64().is_nan()
    }

    /// Numbers of every magnitude, with both signs, denser between 2^-6 and 2^7.
    fn inputs<T: Real>() -> Vec<T> {
        let dense = (0..26_000).map(|i| (f64::from(i) / 2000.0 - 6.0).exp2());
        let sparse = (0..4200).map(|i| (f64::from(i) * 0.517 - 1080.0).exp2());
        dense.chain(sparse).flat_map(|x| [T::from_f64(x), T::from_f64(-x)]).collect()
    }

    fn special<T: Real>() -> [T; 12] {
        let infinity = f64::INFINITY;
        [0.0, -0.0, 1.0, -1.0, infinity, -infinity, f64::NAN, 1e-300, 1e300, -1e300, 5e-324, 1e-40].map(T::from_f64)
    }

    /// |y - exact| in units in the last place of `exact`; the last place of a subnormal, of 0, is
    /// that of the smallest normal number.
    fn ulps<T: Real>(y: T, exact: f64) -> f64 {
        let same_infinity = T::from_f64(exact) == y && !y.is_finite();
        if same_infinity || (exact.is_nan() && is_nan(y)) {
            return 0.0;
        }
        (y.to_f64() - exact).abs() / ulp::<T>(exact)
    }

    fn ulp<T: Real>(exact: f64) -> f64 {
        let magnitude = exact.abs().max(T::MIN_POSITIVE.to_f64());
        f64::from_bits(magnitude.to_bits() >> 52 << 52) * T::EPSILON.to_f64()
    }

    /// Compares with a reference in double precision, itself within about `slack` ulp.
    fn assert_within<T: Real>(bound: f64, f: impl Fn(T) -> T, reference: impl Fn(f64) -> f64, xs: &[T]) {
        for &x in xs {
            let (y, exact) = (f(x), reference(x.to_f64()));
            let error = ulps(y, exact);
            assert!(error <= bound, "f({x:?}) = {y:?}, not {exact:e}: {error} ulp");
        }
    }

    fn reference_sigmoid(x: f64) -> f64 {
        if x < 0.0 { libm::exp(x) / (1.0 + libm::exp(x)) } else { 1.0 / (1.0 + libm::exp(-x)) }
    }

    /// The same, 0 where `T` has no normal number for it.
    fn normal_sigmoid<T: Real>(x: f64) -> f64 {
        if x <= -sigmoid_reach::<T>() { 0.0 } else { reference_sigmoid(x) }
    }

    fn reference_sin(turns: f64) -> f64 {
        let u = turns - turns.round_ties_even();
        let quarter = (4.0 * u).round_ties_even();
        let angle = TAU * (u - quarter / 4.0);
        match quarter as i32 {
            0 => libm::sin(angle),
            1 => libm::cos(angle),
            -1 => -libm::cos(angle),
            _ => -libm::sin(angle),
        }
    }

    fn reference_cos(turns: f64) -> f64 {
        // Exact: the reduced argument is a multiple of its own last place, at most 1/2.
        let u = (turns - turns.round_ties_even()).abs();
        if u <= 0.125 { libm::cos(TAU * u) } else { reference_sin(0.25 - u) }
    }

    /// Bounds in ulp for exp, ln, tanh, sigmoid, silu, softplus, sin and cos, in this order. The
    /// references are good to one ulp of a double, which counts for `f64` only.
    fn check_accuracy<T: Real>(bounds: [f64; 8]) {
        let xs: Vec<T> = inputs().into_iter().chain(special()).collect();
        let ordinary: Vec<T> = xs.iter().copied().filter(|x| x.abs() < T::from_f64(87.0)).collect();
        assert_within(bounds[0], exp, libm::exp, &xs);
        assert_within(bounds[1], ln, libm::log, &xs);
        assert_within(bounds[2], tanh, libm::tanh, &xs);
        assert_within(bounds[3], sigmoid, normal_sigmoid::<T>, &xs);
        assert_within(bounds[4], silu, |x| x * reference_sigmoid(x), &ordinary);
        assert_within(bounds[5], softplus, |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())), &ordinary);
        assert_within(bounds[6], |x| sin_cos_turns(x).0, reference_sin, &xs);
        assert_within(bounds[7], |x| sin_cos_turns(x).1, reference_cos, &xs);
    }

    #[test]
    fn errors_stay_within_the_documented_bounds() {
        check_accuracy::<f32>([1.1, 1.0, 2.0, 2.0, 2.0, 2.0, 1.2, 1.2]);
        check_accuracy::<f64>([1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.2, 1.2].map(|ulp| ulp + 1.0));
    }

    fn check_edges<T: Real>() {
        let c = T::from_f64;
        let (infinity, nan) = (c(f64::INFINITY), c(f64::NAN));
        for (name, f) in functions::<T>() {
            assert!(is_nan(f(nan)), "{name}(NaN) is {}", f(nan));
        }
        let table: [(Function<T>, [T; 3]); 7] = [
            (exp, [T::ZERO, T::ONE, infinity]),
            (ln, [nan, -infinity, infinity]),
            (tanh, [-T::ONE, T::ZERO, T::ONE]),
            (sigmoid, [T::ZERO, c(0.5), T::ONE]),
            (silu, [T::ZERO, T::ZERO, infinity]),
            (|x| silu_with_derivative(x).1, [T::ZERO, c(0.5), T::ONE]),
            (softplus, [T::ZERO, c(LN_2), infinity]),
        ];
        for (i, (f, expected)) in table.into_iter().enumerate() {
            for (x, y) in [-infinity, T::ZERO, infinity].into_iter().zip(expected) {
                assert!(f(x) == y || is_nan(y) && is_nan(f(x)), "function {i} of {x} is {}, not {y}", f(x));
            }
        }
        assert_eq!(ln(-T::ZERO), -infinity);
        assert!(is_nan(ln(-T::MIN_POSITIVE)), "the logarithm of a negative number");
        assert_eq!(ln(T::ONE), T::ZERO);
        assert!((T::ONE / tanh(-T::ZERO)).to_f64() < 0.0, "tanh(-0) is -0");
        assert_eq!(tanh(T::MIN_POSITIVE * T::EPSILON), T::MIN_POSITIVE * T::EPSILON);
        for x in inputs::<T>() {
            assert_eq!(tanh(-x), -tanh(x));
            assert!(tanh(x).abs() <= T::ONE && sigmoid(x) <= T::ONE && exp(x) >= T::ZERO);
            assert_eq!(silu_with_derivative(x).0, silu(x));
        }
        assert_eq!(sin_cos_turns(c(1e30)), (T::ZERO, T::ONE));
        assert!(is_nan(sin_cos_turns(infinity).0));
    }

    #[test]
    fn edges_are_right() {
        check_edges::<f32>();
        check_edges::<f64>();
    }

    #[test]
    fn exp_overflows_and_underflows_where_it_should() {
        assert!(exp(88.722_83_f32).is_finite() && exp(88.722_84_f32).is_infinite());
        assert!(exp(709.782_712_893_383_9_f64).is_finite() && exp(709.782_712_893_384_1_f64).is_infinite());
        // Half the smallest subnormal is the border between it and 0.
        assert!(exp(-103.97_f32) == 1e-45 && exp(-103.98_f32) == 0.0);
        assert!(exp(-745.13) == 5e-324 && exp(-745.14) == 0.0);
    }

    fn check_silu_derivative<T: Real>() {
        for x in inputs::<T>().into_iter().filter(|x| x.is_finite()) {
            let (s, x64) = (reference_sigmoid(x.to_f64()), x.to_f64());
            let expected = s * (1.0 + x64 * reference_sigmoid(-x64));
            let error = (silu_with_derivative(x).1.to_f64() - expected).abs();
            // The reference has a rounding of its own.
            let bound = 2.0 * T::EPSILON.to_f64() + f64::EPSILON;
            assert!(error <= bound, "silu'({x}) is off by {error:e}");
            // Of a term that is subnormal, nothing is left.
            let terms = s + (x64 * s * reference_sigmoid(-x64)).abs();
            let bound = (2.0 * T::EPSILON.to_f64() + 2.0 * f64::EPSILON) * terms + 90.0 * T::MIN_POSITIVE.to_f64();
            assert!(error <= bound, "silu'({x}) is off by {error:e}");
        }
    }

    #[test]
    fn silu_derivative_is_right() {
        check_silu_derivative::<f32>();
        check_silu_derivative::<f64>();
    }

    fn check_ln_given_complement<T: Real>() {
        for i in 1..=1000 {
            let small = 0.97_f64.powi(i);
            for (u, w) in [(small, 1.0 - small), (1.0 - small, small)] {
                let w = T::from_f64(w);
                let exact = if u < 0.5 { u.ln() } else { (-w.to_f64()).ln_1p() };
                let y = ln_given_complement(T::from_f64(u), w).to_f64();
                assert!((y - exact).abs() <= 2.0 * ulp::<T>(exact), "ln {u:e} is {y:e}, not {exact:e}");
            }
        }
    }

    #[test]
    fn complement_keeps_the_digits_of_a_logarithm_near_1() {
        check_ln_given_complement::<f32>();
        check_ln_given_complement::<f64>();
    }

    fn check_wide<T: Real>() {
        let xs: Vec<T> = inputs().into_iter().chain(special()).collect();
        let bits = |x: &T| if is_nan(*x) { f64::NAN.to_bits() } else { x.to_f64().to_bits() };
        macro_rules! check {
            ($($f:expr),*) => {$({
                let plain: Vec<T> = xs.iter().map(|&x| $f(x)).collect();
                let mut wide = xs.clone();
                map_in_place(&mut wide, #[inline(always)] |x| $f(x));
                assert!(plain.iter().map(bits).eq(wide.iter().map(bits)), stringify!($f));
            })*};
        }
        check!(exp, ln, tanh, sigmoid, silu, softplus);
        check!(|x| silu_with_derivative(x).0, |x| silu_with_derivative(x).1);
        check!(|x| sin_cos_turns(x).0, |x| sin_cos_turns(x).1);
    }

    #[test]
    fn simd_level_does_not_change_a_bit() {
        check_wide::<f32>();
        check_wide::<f64>();
    }

    #[test]
    fn wide_returns_what_its_closure_returns() {
        assert_eq!(wide(|| vec![1, 2]), [1, 2]);
        map_in_place(&mut [0.0_f32; 0], exp);
    }

    /// $\Phi^{-1}(p)$ to 20 digits, computed with 50.
    const QUANTILES: [(f64, f64); 24] = [
        (5e-324, -38.467405617144344),
        (1e-320, -38.26912534303265),
        (2.2250738585072014e-308, -37.5193793471445),
        (1e-300, -37.0470962993612),
        (1e-200, -30.20559417957964),
        (1e-100, -21.273453560965326),
        (1e-50, -14.933337534788489),
        (1e-20, -9.262340089798407),
        (1.3e-11, -6.667611456510741),
        (1.4e-11, -6.656723091518184),
        (1e-8, -5.612001244174789),
        (0.001, -3.0902323061678136),
        (0.02, -2.053748910631823),
        (0.0749, -1.4402382675279637),
        (0.0751, -1.43882539275254),
        (0.1, -1.2815515655446004),
        (0.25, -0.6744897501960817),
        (0.4, -0.2533471031357997),
        (0.4999999, -2.5066282747031063e-7),
        (0.5, 0.0),
        (0.5000001, 2.506628273311648e-7),
        (0.7, 0.5244005127080407),
        (0.9251, 1.440238267527964),
        (0.9999999990686774, 6.009353565530744),
    ];

    #[test]
    fn quantile_is_right_on_all_branches() {
        for (p, x) in QUANTILES {
            let found = normal_quantile(p);
            assert!((found - x).abs() <= 2e-15 * x.abs(), "quantile of {p:e} is {found}, not {x}");
        }
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        for p in [-1e-300, -0.5, 1.0 + f64::EPSILON, 2.0, f64::INFINITY, -f64::INFINITY, f64::NAN] {
            assert!(normal_quantile(p).is_nan(), "{p}");
        }
    }

    #[test]
    fn cdf_is_right_in_both_tails() {
        let table = [
            (-37.5, 4.605353009581955e-308),
            (-30.0, 4.906713927148187e-198),
            (-20.0, 2.7536241186062337e-89),
            (-10.0, 7.619853024160525e-24),
            (-5.0, 2.866515718791939e-7),
            (-1.06, 0.14457229966390955),
            (-1.5, 0.06680720126885807),
            (-0.3, 0.3820885778110474),
            (0.0, 0.5),
            (2.0, 0.9772498680518208),
            (5.0, 0.9999997133484281),
        ];
        for (x, p) in table {
            let found: f64 = normal_cdf(x);
            let tolerance = (2.0 + x * x) * f64::EPSILON * p;
            assert!((found - p).abs() <= tolerance, "cdf of {x} is {found:e}, not {p:e}");
        }
        assert_eq!((normal_cdf(f64::NEG_INFINITY), normal_cdf(f64::INFINITY)), (0.0, 1.0));
        assert!(normal_cdf(f64::NAN).is_nan());
    }

    #[test]
    fn normal_functions_agree_with_statrs() {
        // Wide bounds for the two functions that statrs computes to ten digits only; the tables
        // above hold them to the last ones.
        let normal = Normal::standard();
        for i in -800..=800 {
            let x = f64::from(i) / 100.0;
            assert!((normal_cdf(x) - normal.cdf(x)).abs() <= 1e-10, "cdf({x})");
            assert!((normal_ln_pdf(x) - normal.ln_pdf(x)).abs() <= 1e-14 * (1.0 + x * x), "ln_pdf({x})");
        }
        for i in 1..1000 {
            let p = f64::from(i) / 1000.0;
            let expected = normal.inverse_cdf(p);
            assert!((normal_quantile(p) - expected).abs() <= 1e-9, "quantile({p})");
        }
    }

    #[test]
    fn quantile_inverts_cdf() {
        for i in 0..=3750 {
            let x = -f64::from(i) / 100.0;
            let p = normal_cdf(x);
            assert!((normal_quantile(p) - x).abs() <= 1e-12 * (1.0 - x), "lower tail: {x}");
            // Above 1/2 the rounding of p itself moves x, by EPSILON / (2 density).
            let (upper, density) = (normal_cdf(-x), normal_ln_pdf(x).exp());
            let tolerance = 1e-12 + f64::EPSILON / density;
            let back = normal_quantile(upper);
            assert!(upper == 1.0 || (back + x).abs() <= tolerance, "upper tail: {}", -x);
        }
        for i in 1..1000 {
            let p = 0.5_f64.powi(i);
            let back = normal_cdf(normal_quantile(p));
            assert!((back - p).abs() <= 1e-12 * p, "p = 2^-{i}: {back:e}");
        }
    }
}
