//! Transposition in blocks that stay in registers.
//!
//! Left to the compiler, each element is a load and a store. With shuffles, eight vectors of eight take 16 instructions:
//! each vector is loaded with four elements of a row and four of the row four below, so that nothing need cross its
//! middle; then pairs of vectors are interleaved by one element, and pairs of those by two.

use std::any::TypeId;

use super::holds;
use crate::math::{vector_bytes, wide};
use crate::real::Real;

/// Rows and columns of a block.
const BLOCK: usize = 8;

/// `y[c][r] = x[r][c]`, with x `[rows x cols]`, whose rows lie `step` apart, and those of y `stride`. Panics if one is too
/// short.
pub(crate) fn transpose<T: Real>(x: &[T], step: usize, [rows, cols]: [usize; 2], y: &mut [T], stride: usize) {
    assert!(holds(x.len(), rows, cols, step) && holds(y.len(), cols, rows, stride), "{rows} x {cols} does not fit");
    let whole = if has_shuffles::<T>() && cols >= BLOCK { [rows, cols].map(|n| n / BLOCK * BLOCK) } else { [0, 0] };
    wide(
        #[inline(always)]
        || {
            #[cfg(target_arch = "x86_64")]
            for r in (0..whole[0]).step_by(BLOCK) {
                // SAFETY: T is `f32`, the processor has AVX2, and all blocks of these rows have been found to fit.
                unsafe { strip(x[r * step..].as_ptr().cast(), step, whole[1], y[r..].as_mut_ptr().cast(), stride) };
            }
            for c in 0..cols {
                for r in if c < whole[1] { whole[0] } else { 0 }..rows {
                    y[c * stride + r] = x[r * step + c];
                }
            }
        },
    );
}

/// The columns of x, whose rows are `cols` wide, one after the other.
pub(crate) fn columns_of<T: Real>(x: &[T], cols: usize, y: &mut [T]) {
    let rows = x.len().checked_div(cols).unwrap_or(0);
    transpose(x, cols, [rows, cols], y, rows);
}

/// Whether blocks of `T` are transposed by shuffles.
fn has_shuffles<T: Real>() -> bool {
    vector_bytes() >= 32 && TypeId::of::<T>() == TypeId::of::<f32>()
}

/// Eight rows of `cols` elements, a multiple of eight.
///
/// # Safety
/// There must be so many elements at both.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn strip(x: *const f32, step: usize, cols: usize, y: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    let by_one = |a, b| [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)];
    let by_two = |a, b| {
        let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
        [_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b))]
    };
    for j in (0..cols).step_by(BLOCK / 2) {
        // SAFETY: rows r and r + 4 have four elements from column j on.
        let load = |r: usize| unsafe { _mm256_loadu2_m128(x.add((r + 4) * step + j), x.add(r * step + j)) };
        let ([a, b], [c, d]) = (by_one(load(0), load(1)), by_one(load(2), load(3)));
        let ([a, b], [c, d]) = (by_two(a, c), by_two(b, d));
        for (i, column) in [a, b, c, d].into_iter().enumerate() {
            // SAFETY: column j + i of eight rows is so many elements of row j + i of y.
            unsafe { _mm256_storeu_ps(y.add((j + i) * stride), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_one_after_the_other() {
        for (rows, cols) in [(1, 1), (8, 8), (7, 20), (64, 88), (19, 5), (3, 0)] {
            let x: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let mut y = vec![-1.0; x.len()];
            columns_of(&x, cols, &mut y);
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                assert!(y[c * rows + r] == x[r * cols + c], "row {r}, column {c} of {rows} x {cols}");
            }
        }
    }

    fn check<T: Real>(rows: usize, cols: usize) {
        let (step, stride) = (cols + 3, rows + 2);
        let x: Vec<T> = (0..rows * step).map(|i| T::from_f64(i as f64)).collect();
        let mut y = vec![-T::ONE; cols * stride];
        transpose(&x, step, [rows, cols], &mut y, stride);
        for (c, r) in (0..cols).flat_map(|c| (0..stride).map(move |r| (c, r))) {
            let expected = if r < rows { x[r * step + c] } else { -T::ONE };
            assert!(y[c * stride + r] == expected, "element {r} {c} of {rows} x {cols}");
        }
    }

    #[test]
    fn every_element_finds_its_place_and_no_other_is_touched() {
        for (rows, cols) in (0..20).flat_map(|rows| (0..20).map(move |cols| (rows, cols))).chain([(64, 88), (32, 67)]) {
            check::<f32>(rows, cols);
            check::<f64>(rows, cols);
        }
    }

    #[test]
    #[should_panic(expected = "8 x 8 does not fit")]
    fn what_is_too_short_is_refused() {
        transpose(&[0.0_f32; 64], 8, [8, 8], &mut [0.0; 63], 8);
    }
}
