//! The two number types of the engine, behind one sealed trait.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` (training) or `f64` (checks). Sealed: the engine's kernels know exactly these two.
pub trait Real:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Debug
    + Display
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;

    /// Bits of the significand, the hidden one included: 24 or 53.
    const SIGNIFICAND_BITS: u32;
    /// The gap between 1 and the next larger value: `2^(1 - SIGNIFICAND_BITS)`.
    const EPSILON: Self;
    /// The smallest positive normal value; what lies between it and 0 is subnormal.
    const MIN_POSITIVE: Self;
    /// `1.5 / EPSILON`, where the last bit is worth 1: `x + ROUNDER` carries `x` rounded to a whole
    /// number `n` (ties to even) in its low bits, for `|x| < 0.25 / EPSILON`.
    const ROUNDER: Self;

    /// The nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// The nearest value of this type.
    fn from_i32(x: i32) -> Self;
    /// The nearest value of this type.
    fn from_u32(x: u32) -> Self;
    /// The same value in double precision.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once on every machine.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// The larger of two, ignoring a NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two, ignoring a NaN.
    fn min(self, other: Self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// The nearest whole number; a tie goes to the even one.
    fn round_ties_even(self) -> Self;
    /// `2^n` from `n + ROUNDER`, where that is a normal number (-126..=127 or -1022..=1023); any
    /// other `n` gives an unspecified value.
    fn exp2_of_rounded(self) -> Self;
    /// Two normal numbers whose product is `2^n`, from `n + ROUNDER`, for `n` in -252..=254 or
    /// -2044..=2046.
    fn exp2_factors_of_rounded(self) -> (Self, Self);
    /// Bit `i` of the whole number `n` in two's complement, from `n + ROUNDER`.
    fn bit_of_rounded(self, i: u32) -> bool;
    /// `(m, e)` with `x = m 2^e`, `e` whole and `m` in `[sqrt(1/2), sqrt(2))`, for a positive
    /// normal `x`; anything else gives an unspecified pair.
    fn split(self) -> (Self, Self);
}

macro_rules! real {
    ($T:ident, $Bits:ident) => {
        impl Real for $T {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const SIGNIFICAND_BITS: u32 = $T::MANTISSA_DIGITS;
            const EPSILON: Self = $T::EPSILON;
            const MIN_POSITIVE: Self = $T::MIN_POSITIVE;
            const ROUNDER: Self = 1.5 / $T::EPSILON;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $T
            }
            #[inline(always)]
            fn from_i32(x: i32) -> Self {
                x as $T
            }
            #[inline(always)]
            fn from_u32(x: u32) -> Self {
                x as $T
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $T::mul_add(self, a, b)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $T::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $T::sqrt(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $T::max(self, other)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                $T::min(self, other)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $T::is_finite(self)
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                $T::copysign(self, sign)
            }
            #[inline(always)]
            fn round_ties_even(self) -> Self {
                $T::round_ties_even(self)
            }
            #[inline(always)]
            fn exp2_of_rounded(self) -> Self {
                // The shift keeps the low bits only and moves n + bias to the exponent's place.
                const BIAS: $Bits = ($T::MAX_EXP - 1) as $Bits;
                $T::from_bits(self.to_bits().wrapping_add(BIAS) << ($T::MANTISSA_DIGITS - 1))
            }
            #[inline(always)]
            fn exp2_factors_of_rounded(self) -> (Self, Self) {
                const TWO_BIASES: $Bits = 2 * ($T::MAX_EXP - 1) as $Bits;
                const OFFSET: $Bits = TWO_BIASES.wrapping_sub($T::ROUNDER.to_bits());
                let sum = self.to_bits().wrapping_add(OFFSET);
                let half = sum >> 1;
                let power = |exponent| $T::from_bits(exponent << ($T::MANTISSA_DIGITS - 1));
                (power(half), power(sum.wrapping_sub(half)))
            }
            #[inline(always)]
            fn bit_of_rounded(self, i: u32) -> bool {
                self.to_bits() & (1 << i) != 0
            }
            #[inline(always)]
            fn split(self) -> (Self, Self) {
                // Seen from sqrt(1/2) instead of 1, the exponent field counts the octaves
                // [sqrt(1/2), sqrt(2)) 2^e. It becomes a float as the low bits of 1 / EPSILON.
                const FIELD: u32 = $T::MANTISSA_DIGITS - 1;
                const LOW: $Bits = std::$T::consts::FRAC_1_SQRT_2.to_bits();
                const BIAS: $T = ($T::MAX_EXP - 1) as $T;
                let bits = self.to_bits().wrapping_sub(LOW).wrapping_add((1.0 as $T).to_bits());
                let m = $T::from_bits((bits & ((1 << FIELD) - 1)) + LOW);
                let e = $T::from_bits((bits >> FIELD) | (1.0 / $T::EPSILON).to_bits());
                (m, e - (1.0 / $T::EPSILON + BIAS))
            }
        }
    };
}

real!(f32, u32);
real!(f64, u64);

#[cfg(test)]
mod tests {
    use super::Real;

    fn check<T: Real>(exponents: std::ops::RangeInclusive<i32>) {
        let root_half = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
        for n in exponents {
            let power = (T::from_i32(n) + T::ROUNDER).exp2_of_rounded();
            assert_eq!(power.to_f64(), 2f64.powi(n), "2^{n}");
            let (a, b) = (T::from_i32(2 * n) + T::ROUNDER).exp2_factors_of_rounded();
            assert_eq!((a, b), (power, power), "2^{n} squared");
            let (a, b) = (T::from_i32(2 * n + 1) + T::ROUNDER).exp2_factors_of_rounded();
            assert_eq!((a, b), (power, power + power), "2^{n} 2^({n} + 1)");
            for x in [power, power * T::from_f64(1.3), power * T::from_f64(1.9)] {
                let (m, e) = x.split();
                assert!(root_half <= m && m < root_half + root_half, "{x} = {m} 2^{e}");
                assert_eq!(m.to_f64() * 2f64.powi(e.to_f64() as i32), x.to_f64());
            }
        }
        let (m, e) = root_half.split();
        assert_eq!((m, e), (root_half, T::ZERO));
    }

    #[test]
    fn powers_of_two_and_octaves_are_exact() {
        check::<f32>(-126..=126);
        check::<f64>(-1022..=1022);
    }

    #[test]
    fn rounded_numbers_show_their_bits() {
        for n in [-5, -2, -1, 0, 1, 2, 3, 6] {
            for i in 0..3 {
                let bit = n & (1 << i) != 0;
                assert_eq!((f32::from_i32(n) + f32::ROUNDER).bit_of_rounded(i), bit, "{n} bit {i}");
                assert_eq!((f64::from_i32(n) + f64::ROUNDER).bit_of_rounded(i), bit, "{n} bit {i}");
            }
        }
    }

    #[test]
    fn rounder_rounds_ties_to_even() {
        for (x, n) in [(0.5_f32, 0.0), (1.5, 2.0), (-2.5, -2.0), (-3.5, -4.0), (7.4, 7.0)] {
            assert_eq!((x + f32::ROUNDER) - f32::ROUNDER, n);
            assert_eq!((x as f64 + f64::ROUNDER) - f64::ROUNDER, n as f64);
        }
    }
}
