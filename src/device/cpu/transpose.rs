//! Transposition in blocks that stay in registers.
//!
//! Left to the compiler, each element is a load and a store. With shuffles, eight vectors of eight take 24 instructions:
//! pairs of rows are interleaved by one element, pairs of those by two, and then the halves of the vectors change places.

use std::any::Any;
use std::array;

use crate::math::{vector_bytes, wide};
use crate::real::Real;

/// Rows and columns of a block.
const BLOCK: usize = 8;

type Block<T> = [[T; BLOCK]; BLOCK];

/// `y[p][j] = x(j)[p]`, for each row of `y`. Panics if an x is shorter.
pub(crate) fn transpose<'a, T: Real, const W: usize>(x: impl Fn(usize) -> &'a [T], y: &mut [[T; W]]) {
    let blocks = if W.is_multiple_of(BLOCK) { y.len() / BLOCK } else { 0 };
    wide(
        #[inline(always)]
        || {
            for j in (0..W).step_by(BLOCK).filter(|_| blocks > 0) {
                let x: [&[[T; BLOCK]]; BLOCK] = array::from_fn(|i| &x(j + i).as_chunks().0[..blocks]);
                for (q, y) in y.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    let mut block = array::from_fn(|i| x[i][q]);
                    transpose_block(&mut block);
                    y.iter_mut().zip(&block).for_each(|(y, row)| y[j..j + BLOCK].copy_from_slice(row));
                }
            }
            for (p, y) in y.iter_mut().enumerate().skip(blocks * BLOCK) {
                *y = array::from_fn(|j| x(j)[p]);
            }
        },
    );
}

/// The columns of x, whose rows are `cols` wide, one after the other.
pub(crate) fn columns_of<T: Real>(x: &[T], cols: usize, y: &mut [T]) {
    let rows = x.len().checked_div(cols).unwrap_or(0);
    wide(
        #[inline(always)]
        || {
            for (i, j) in (0..rows).step_by(BLOCK).flat_map(|i| (0..cols).step_by(BLOCK).map(move |j| (i, j))) {
                if i + BLOCK <= rows && j + BLOCK <= cols {
                    let mut block = array::from_fn(|r| *x[(i + r) * cols + j..].first_chunk().expect("a whole block"));
                    transpose_block(&mut block);
                    for (c, column) in block.iter().enumerate() {
                        y[(j + c) * rows + i..][..BLOCK].copy_from_slice(column);
                    }
                } else {
                    for (r, c) in (i..rows.min(i + BLOCK)).flat_map(|r| (j..cols.min(j + BLOCK)).map(move |c| (r, c))) {
                        y[c * rows + r] = x[r * cols + c];
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn transpose_block<T: Real>(block: &mut Block<T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(block) = (block as &mut dyn Any).downcast_mut()
        && vector_bytes() >= 32
    {
        // SAFETY: the processor has been found to have AVX2.
        return unsafe { transpose_avx2(block) };
    }
    *block = array::from_fn(|i| array::from_fn(|j| block[j][i]));
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_avx2(block: &mut Block<f32>) {
    use std::arch::x86_64::*;
    let by_one = |a, b| [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)];
    let by_two = |a, b| {
        let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
        [_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b))]
    };
    // Columns i and i + 4 of four rows.
    let four = |a, b, c, d| {
        let ([a, b], [c, d]) = (by_one(a, b), by_one(c, d));
        let ([a, b], [c, d]) = (by_two(a, c), by_two(b, d));
        [a, b, c, d]
    };
    // SAFETY: both are eight times eight `f32`.
    let [a, b, c, d, e, f, g, h]: [__m256; BLOCK] = unsafe { std::mem::transmute(*block) };
    let (upper, lower) = (four(a, b, c, d), four(e, f, g, h));
    let mut columns = [a; BLOCK];
    for i in 0..4 {
        columns[i] = _mm256_permute2f128_ps::<0x20>(upper[i], lower[i]);
        columns[i + 4] = _mm256_permute2f128_ps::<0x31>(upper[i], lower[i]);
    }
    // SAFETY: likewise.
    *block = unsafe { std::mem::transmute::<[__m256; BLOCK], Block<f32>>(columns) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Real, const W: usize>(rows: usize) {
        let x: Vec<Vec<T>> = (0..W).map(|j| (0..rows).map(|p| T::from_f64((j * 1000 + p) as f64)).collect()).collect();
        let mut y = vec![[T::ZERO; W]; rows];
        transpose(|j| &x[j], &mut y);
        for (p, j) in (0..rows).flat_map(|p| (0..W).map(move |j| (p, j))) {
            assert!(y[p][j] == x[j][p], "element {p} {j} of {rows} x {W}");
        }
    }

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

    #[test]
    fn every_element_finds_its_place() {
        for rows in 0..40 {
            check::<f32, 32>(rows);
            check::<f32, 8>(rows);
            check::<f32, 4>(rows);
            check::<f64, 16>(rows);
        }
    }
}
