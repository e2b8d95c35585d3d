//! Randomness from counters, not streams.
//!
//! Philox4x32-10 is a bijection that scrambles a 128-bit counter under a 64-bit key. A random
//! number is the image of a counter that says what it is for, so drawing needs no state, and no
//! number depends on how many were drawn before it, in which order, or by which thread.
//!
//! - [`Noise`] fills blocks of rows inside a computation: the counter is
//!   (row, column block, step, [`NoiseId`]), the key is the seed. [`NoiseRows`] says which rows a batch takes.
//! - [`Philox`] is a stream for `rand` and `rand_distr`: the counter is (position, index), the key
//!   a hash of the seed and of the kind of stream, which keeps it apart from every `Noise`.
//!
//! Source: Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011).

use std::convert::Infallible;
use std::ops::Range;

use rand::TryRng;

use crate::error::{Error, check_length};
use crate::math::{ln_given_complement, sin_cos_turns, wide};
use crate::real::Real;

/// Philox4x32 with 10 rounds: four random words from a counter and a key.
#[inline(always)]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for _ in 0..10 {
        let (p, q) = (u64::from(a) * 0xD251_1F53, u64::from(c) * 0xCD9E_8D57);
        (a, c) = ((q >> 32) as u32 ^ b ^ k, (p >> 32) as u32 ^ d ^ l);
        (b, d) = (q as u32, p as u32);
        // Weyl sequences: the golden ratio and sqrt(3) - 1
        (k, l) = (k.wrapping_add(0x9E37_79B9), l.wrapping_add(0xBB67_AE85));
    }
    [a, b, c, d]
}

/// The two halves of a 64-bit number, the low one first.
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// Names a source of noise in a graph. Sources with different names are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoiseId(pub u32);

/// A table of random numbers, 2^32 rows by 2^34 columns, of which any part can be read.
///
/// The value at (row, column) is a function of the seed, the step, the id, the row and the column
/// and of nothing else: a batch may be cut into tiles of any shape, and evaluated by any number
/// of threads. One Philox block serves the four columns `4 b .. 4 b + 4` of a row; its counter is
/// `(row, b, step, id)`. In `f32` and `f64` the same integers are used, so the values agree to
/// `f32` accuracy.
///
/// ```
/// use retrodict::rng::{Noise, NoiseId};
/// let noise = Noise { seed: 7, step: 0, id: NoiseId(3) };
/// let (mut batch, mut last_row) = ([0.0_f32; 4 * 5], [0.0_f32; 5]);
/// noise.fill_normal(0, 5, &mut batch);
/// noise.fill_normal(3, 5, &mut last_row);
/// assert_eq!(batch[15..], last_row);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Noise {
    /// The key. Different seeds give independent tables.
    pub seed: u64,
    /// The training or sampling step. Different steps give independent tables.
    pub step: u32,
    /// The source of noise.
    pub id: NoiseId,
}

/// How the numbers of a source of noise are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// N(0, 1).
    Normal,
    /// Uniform on (0, 1).
    Uniform,
}

/// The rows of noise that the rows of a batch take: row i of the batch is row g mod `group` of the table with seed
/// `seeds[g / group]`, where g = `first` + i.
///
/// So the draws for one observation, `group` of them under one seed, are the same numbers whatever else is in the
/// batch and wherever the batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseRows<'a> {
    /// One seed for each group of rows.
    pub seeds: &'a [u64],
    /// Rows in a group, at most 2^32.
    pub group: usize,
    /// The first row of the batch.
    pub first: usize,
    /// The training or sampling step.
    pub step: u32,
}

impl<'a> NoiseRows<'a> {
    /// All rows from one table, beginning with its first row, at step 0.
    pub fn new(seed: &'a u64) -> Self {
        Self { seeds: std::slice::from_ref(seed), group: u32::MAX as usize, first: 0, step: 0 }
    }

    /// The same rows at another step.
    pub fn at(self, step: u32) -> Self {
        Self { step, ..self }
    }

    /// `Ok` if there is noise for this many rows.
    pub(crate) fn check(&self, rows: usize) -> Result<(), Error> {
        let (groups, most) = ((self.first + rows).div_ceil(self.group.max(1)), 1 << 32);
        if self.group == 0 || self.group > most {
            return Err(Error::parameter(
                "group",
                format!("{} rows in a group of noise, 1 to {most} are possible", self.group),
            ));
        }
        check_length("seeds of noise (one for each group of rows)", self.seeds.len().max(groups), self.seeds.len())
    }

    /// Fills `out`, rows of `cols` values, with the noise of the given rows of the batch from the source `id`.
    pub(crate) fn fill<T: Real>(&self, from: Distribution, id: NoiseId, rows: Range<usize>, mut out: &mut [T]) {
        let cols = out.len() / rows.len().max(1);
        let mut row = self.first + rows.start;
        while row < self.first + rows.end {
            let (group, within) = (row / self.group, row % self.group);
            let run = (self.group - within).min(self.first + rows.end - row);
            let (head, rest) = out.split_at_mut(run * cols);
            let noise = Noise { seed: self.seeds[group], step: self.step, id };
            match from {
                Distribution::Normal => noise.fill_normal(within as u32, cols, head),
                Distribution::Uniform => noise.fill_uniform(within as u32, cols, head),
            }
            (row, out) = (row + run, rest);
        }
    }
}

/// Philox blocks that are drawn together: enough for the widest SIMD, few enough for the L1 cache.
const BATCH: usize = 64;

impl Noise {
    /// Fills `out`, rows of `cols` values, with standard normals: table rows `row0, row0 + 1, ..`
    /// (modulo 2^32), columns `0 .. cols`. A last row may be shorter; `cols = 0` fills nothing.
    ///
    /// Box-Muller: $z_0, z_1 = \sqrt{-2 \ln u}\,(\cos 2\pi v, \sin 2\pi v)$, where
    /// $u = (x + 1/2) / 2^{32}$ and $v = (y + 1/2) / 2^{32}$ of two words; `y` counts as signed,
    /// which is the same angle. No normal is larger than $\sqrt{66 \ln 2} = 6.76$.
    pub fn fill_normal<T: Real>(&self, row0: u32, cols: usize, out: &mut [T]) {
        wide(
            #[inline(always)]
            || {
                self.fill(
                    (row0, cols, out),
                    #[inline(always)]
                    |words, values| {
                        for pair in [0, 2] {
                            for i in 0..BATCH {
                                let (z0, z1) = box_muller(words[pair][i], words[pair + 1][i]);
                                (values[pair][i], values[pair + 1][i]) = (z0, z1);
                            }
                        }
                    },
                );
            },
        );
    }

    /// Fills `out` like [`fill_normal`](Self::fill_normal), with uniforms of the open interval
    /// (0, 1): $(x + 1/2) / 2^{32}$ of one word `x`.
    ///
    /// 0 is never met: the smallest value is $2^{-33}$. In `f64` the formula is exact; in `f32`
    /// what would round to 1 becomes $1 - 2^{-24}$, the largest `f32` below 1.
    pub fn fill_uniform<T: Real>(&self, row0: u32, cols: usize, out: &mut [T]) {
        wide(
            #[inline(always)]
            || {
                self.fill(
                    (row0, cols, out),
                    #[inline(always)]
                    |words, values| {
                        for j in 0..4 {
                            for i in 0..BATCH {
                                values[j][i] = open_unit(words[j][i]);
                            }
                        }
                    },
                );
            },
        );
    }

    /// Draws the blocks of the table one after the other, [`BATCH`] at a time, and lays them out.
    /// `convert` makes values of words; index `[j][i]` is column `4 b + j` of the `i`-th block.
    #[inline(always)]
    fn fill<T: Real>(
        &self,
        (row0, cols, mut out): (u32, usize, &mut [T]),
        convert: impl Fn(&[[u32; BATCH]; 4], &mut [[T; BATCH]; 4]),
    ) {
        let (key, step, id) = (halves(self.seed), self.step, self.id.0);
        let per_row = u32::try_from(cols.div_ceil(4)).unwrap_or(u32::MAX);
        let mut next = (row0, 0);
        let (mut rows, mut blocks) = ([0; BATCH], [0; BATCH]);
        let mut words = [[0; BATCH]; 4];
        let mut values = [[T::ZERO; BATCH]; 4];
        while cols > 0 && !out.is_empty() {
            for (row, block) in rows.iter_mut().zip(&mut blocks) {
                (*row, *block) = next;
                next.1 += 1;
                if next.1 == per_row {
                    next = (next.0.wrapping_add(1), 0);
                }
            }
            for i in 0..BATCH {
                let block = philox([rows[i], blocks[i], step, id], key);
                for j in 0..4 {
                    words[j][i] = block[j];
                }
            }
            convert(&words, &mut values);
            for i in 0..BATCH {
                let width = (cols - 4 * blocks[i] as usize).min(4).min(out.len());
                let (cell, rest) = std::mem::take(&mut out).split_at_mut(width);
                for (j, z) in cell.iter_mut().enumerate() {
                    *z = values[j][i];
                }
                out = rest;
            }
        }
    }
}

/// $(x + 1/2) / 2^{32}$
#[inline(always)]
fn centred<T: Real>(x: i32) -> T {
    let half = T::from_f64(0.5f64.powi(33));
    T::from_i32(x).mul_add(half + half, half)
}

/// $u = (x + 1/2) / 2^{32}$, in `f32` perhaps rounded to 1, and the distance from `u` to the
/// nearer end of (0, 1), which keeps its relative accuracy also where `u` is close to 1.
#[inline(always)]
fn unit<T: Real>(x: u32) -> (T, T) {
    let x = x as i32;
    let distance = centred(if x < 0 { !x } else { x });
    (if x < 0 { T::ONE - distance } else { distance }, distance)
}

/// [`unit`] with what was rounded to 1 replaced by the largest `T` below 1.
#[inline(always)]
fn open_unit<T: Real>(x: u32) -> T {
    unit::<T>(x).0.min(T::ONE - T::EPSILON * T::from_f64(0.5))
}

/// Two independent standard normals from two random words.
#[inline(always)]
fn box_muller<T: Real>(x: u32, y: u32) -> (T, T) {
    // Both ends of (0, 1) matter: u near 0 makes large normals, u near 1 small ones.
    let (u, distance) = unit::<T>(x);
    let radius = (T::from_f64(-2.0) * ln_given_complement(u, distance)).sqrt();
    let (sin, cos) = sin_cos_turns(centred(y as i32));
    (radius * cos, radius * sin)
}

/// A stream of random words for `rand` and `rand_distr`: simulators, priors, shuffles.
///
/// Streams with different `(seed, index)` are independent, so work seeded by its index gives the
/// same result in any order and on any number of threads. A stream repeats after 2^66 words.
///
/// ```
/// use rand_distr::{Distribution, Normal};
/// use retrodict::rng::Philox;
/// let normal = Normal::new(3.0, 0.5)?;
/// let draw = |seed| normal.sample(&mut Philox::new(seed, 3));
/// assert_eq!(draw(1), draw(1));
/// assert_ne!(draw(1), draw(2));
/// # Ok::<(), rand_distr::NormalError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Philox {
    key: [u32; 2],
    index: u64,
    position: u64,
    block: [u32; 4],
    used: usize,
}

/// What a stream is for. It enters the key, so that no two kinds share a number.
#[derive(Clone, Copy)]
enum Kind {
    Stream = 1,
    Permutation = 2,
}

impl Philox {
    /// Stream number `index` of `seed`, for example the stream of the simulation with that index.
    pub fn new(seed: u64, index: u64) -> Self {
        Self::of_kind(Kind::Stream, seed, index)
    }

    fn of_kind(kind: Kind, seed: u64, index: u64) -> Self {
        let key = halves(mix(seed, [kind as u64]));
        Self { key, index, position: 0, block: [0; 4], used: 4 }
    }

    fn next_word(&mut self) -> u32 {
        if self.used == 4 {
            let ([a, b], [c, d]) = (halves(self.position), halves(self.index));
            self.block = philox([a, b, c, d], self.key);
            self.position = self.position.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// A whole number of `0..n`, each with the same probability; 0 for `n = 0`.
    ///
    /// The high word of `n x` for a random word `x`, except where the low word falls in the
    /// incomplete first `2^32 mod n`. Source: Lemire, *Fast random integer generation in an
    /// interval* (2019).
    fn below(&mut self, n: u32) -> u32 {
        loop {
            let [low, high] = halves(u64::from(n) * u64::from(self.next_word()));
            // The remainder is smaller than n: the division is hardly ever needed.
            if low >= n || low >= n.wrapping_neg().checked_rem(n).unwrap_or(0) {
                return high;
            }
        }
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next_word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let (low, high) = (self.next_word(), self.next_word());
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The numbers `0..n` in an order drawn uniformly from all `n!`, a new one for every
/// `(seed, epoch)`.
///
/// Source: the Fisher-Yates shuffle, Durstenfeld's in-place form (1964).
pub fn permutation(n: u32, seed: u64, epoch: u64) -> Vec<u32> {
    let mut rng = Philox::of_kind(Kind::Permutation, seed, epoch);
    let mut order: Vec<u32> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last as usize, rng.below(last + 1) as usize);
    }
    order
}

/// A key made of a seed and of words, for example of the bits of an observation.
///
/// Each word is folded into the key by an exclusive or, and SplitMix64 scrambles the key; the order
/// and the number of the words count. Not for cryptography.
///
/// Source: Steele, Lea and Flood, *Fast splittable pseudorandom number generators* (2014).
pub fn mix(seed: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(scramble(seed), |key, word| scramble(key ^ word))
}

/// SplitMix64: a step by the golden ratio, then a bijection in which every bit of the result
/// depends on every bit of `x`.
fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::normal_cdf;
    use rand::{Rng, RngExt};
    use rand_distr::{Distribution, Gamma, StandardNormal};

    const NOISE: Noise = Noise { seed: 0x0123_4567_89AB_CDEF, step: 5, id: NoiseId(9) };

    fn normals<T: Real>(noise: Noise, row0: u32, rows: usize, cols: usize) -> Vec<T> {
        let mut out = vec![T::from_f64(f64::NAN); rows * cols];
        noise.fill_normal(row0, cols, &mut out);
        out
    }

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        let check = |counter, key, words| assert_eq!(philox(counter, key), words);
        check([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        let ones = u32::MAX;
        check([ones; 4], [ones; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        check(
            [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
            [0xA409_3822, 0x299F_31D0],
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
        );
    }

    #[test]
    fn counter_is_row_block_step_and_id() {
        let mut out = [0.0_f64; 9];
        NOISE.fill_uniform(u32::MAX, 9, &mut out);
        for (col, u) in out.into_iter().enumerate() {
            let words = philox([u32::MAX, col as u32 / 4, 5, 9], [0x89AB_CDEF, 0x0123_4567]);
            assert_eq!(u, (f64::from(words[col % 4]) + 0.5) / 4_294_967_296.0);
        }
    }

    fn tiles_agree<T: Real>() {
        for cols in [1, 2, 3, 4, 5, 7, 8, 16, 131, 784] {
            let rows = 13;
            // The table wraps around after its last row.
            let row0 = u32::MAX - 6;
            let whole: Vec<T> = normals(NOISE, row0, rows, cols);
            for row in 0..rows {
                let line: Vec<T> = normals(NOISE, row0.wrapping_add(row as u32), 1, cols);
                assert_eq!(line, whole[row * cols..][..cols], "row {row} of {cols} columns");
            }
            for narrow in [1, 3, 4, 6].into_iter().filter(|&narrow| narrow <= cols) {
                let prefix: Vec<T> = normals(NOISE, row0, rows, narrow);
                for (row, line) in prefix.chunks(narrow).enumerate() {
                    assert_eq!(line, &whole[row * cols..][..narrow], "{narrow} of {cols} columns");
                }
            }
            let mut partial = vec![T::ZERO; rows * cols - cols.div_ceil(2)];
            NOISE.fill_normal(row0, cols, &mut partial);
            assert_eq!(partial, whole[..partial.len()], "a last row cut short");
        }
    }

    #[test]
    fn values_do_not_depend_on_the_tiling() {
        tiles_agree::<f32>();
        tiles_agree::<f64>();
    }

    #[test]
    fn empty_and_impossible_shapes_are_harmless() {
        let mut out = [1.0_f32; 3];
        NOISE.fill_normal(0, 5, &mut out[..0]);
        NOISE.fill_normal(0, 0, &mut out);
        assert_eq!(out, [1.0; 3]);
        NOISE.fill_normal(0, usize::MAX, &mut out);
        assert_eq!(out.to_vec(), normals::<f32>(NOISE, 0, 1, 3));
    }

    #[test]
    fn single_and_double_precision_agree() {
        let single: Vec<f32> = normals(NOISE, 0, 40_000, 5);
        let double: Vec<f64> = normals(NOISE, 0, 40_000, 5);
        for (&s, &d) in single.iter().zip(&double) {
            assert!((f64::from(s) - d).abs() < 6e-7 * (1.0 + d.abs()), "{s} and {d}");
        }
    }

    #[test]
    fn extreme_words_stay_in_range() {
        let words = [0, 1, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX - 1, u32::MAX];
        for x in words {
            let exact = (f64::from(x) + 0.5) / 4_294_967_296.0;
            assert_eq!(unit::<f64>(x).0, exact);
            assert!((f64::from(unit::<f32>(x).0) - exact).abs() <= f64::from(f32::EPSILON) / 4.0);
            for y in words {
                let ((a, b), (c, d)) = (box_muller::<f32>(x, y), box_muller::<f64>(x, y));
                let radius = (-2.0 * exact.ln()).sqrt();
                assert!((c.hypot(d) - radius).abs() <= 1e-9 * radius, "{c} {d} {radius}");
                assert!((f64::from(a) - c).abs() <= 1e-6 * radius, "{a} and {c}");
                assert!((f64::from(b) - d).abs() <= 1e-6 * radius, "{b} and {d}");
            }
        }
    }

    #[test]
    fn single_precision_uniforms_are_never_0_or_1() {
        assert_eq!(unit::<f32>(u32::MAX).0, 1.0);
        assert_eq!(open_unit::<f32>(u32::MAX), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(open_unit::<f32>(0), f32::EPSILON / 1024.0);
        let mut out = vec![0.0_f32; 1 << 20];
        NOISE.fill_uniform(0, 1024, &mut out);
        assert!(out.iter().all(|&u| 0.0 < u && u < 1.0));
        let mean = out.iter().map(|&u| f64::from(u)).sum::<f64>() / out.len() as f64;
        assert!((mean - 0.5).abs() < 5.0 / (12.0 * out.len() as f64).sqrt(), "{mean}");
    }

    #[test]
    fn moments_are_normal() {
        let z: Vec<f64> = normals::<f32>(NOISE, 0, 200_000, 5).iter().map(|&z| z.into()).collect();
        let n = z.len() as f64;
        let moment = |k| z.iter().map(|z| z.powi(k)).sum::<f64>() / n;
        // Variance of the k-th raw moment: E z^2k - (E z^k)^2.
        for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let sigmas = (moment(k) - expected) / (variance / n).sqrt();
            assert!(sigmas.abs() < 5.0, "moment {k} is off by {sigmas} sigma");
        }
    }

    #[test]
    fn distribution_is_normal_by_kolmogorov_and_smirnov() {
        for cols in [1, 5, 784] {
            let mut z: Vec<f64> = normals(NOISE, 7, 200_000 / cols, cols);
            z.sort_by(f64::total_cmp);
            let n = z.len() as f64;
            let distance = z.iter().enumerate().fold(0.0_f64, |max, (i, &z)| {
                let cdf = normal_cdf(z);
                max.max(cdf - i as f64 / n).max((i + 1) as f64 / n - cdf)
            });
            assert!(distance * n.sqrt() < 1.95, "p < 0.001 with {cols} columns: {distance}");
        }
    }

    #[test]
    fn neighbours_are_uncorrelated() {
        let (rows, cols) = (20_000, 8);
        let here: Vec<f64> = normals(NOISE, 100, rows, cols);
        let n = here.len() as f64;
        let check = |what: &str, there: &[f64]| {
            let sum: f64 = here.iter().zip(there).map(|(a, b)| a * b).sum();
            assert!(sum.abs() < 5.0 * n.sqrt(), "{what}: {} sigma", sum / n.sqrt());
            let sum: f64 = here.iter().zip(there).map(|(a, b)| (a * a - 1.0) * (b * b - 1.0)).sum();
            assert!(sum.abs() < 10.0 * n.sqrt(), "{what}, squares: {} sigma", sum / (4.0 * n).sqrt());
        };
        check("next row", &normals(NOISE, 101, rows, cols));
        check("next step", &normals(Noise { step: 6, ..NOISE }, 100, rows, cols));
        check("next id", &normals(Noise { id: NoiseId(10), ..NOISE }, 100, rows, cols));
        check("next seed", &normals(Noise { seed: NOISE.seed + 1, ..NOISE }, 100, rows, cols));
        for shift in [1, 2, 3, 4] {
            let mut shifted = here.clone();
            shifted.rotate_left(shift);
            check("next columns", &shifted);
        }
    }

    #[test]
    fn streams_serve_rand_and_rand_distr() {
        let n = 100_000;
        let mean = |draws: &mut dyn FnMut(u64) -> f64| (0..n).map(draws).sum::<f64>() / n as f64;
        let root_n = (n as f64).sqrt();
        // One stream for all draws, then one stream for each.
        let mut rng = Philox::new(1, 0);
        let normal = mean(&mut |_| StandardNormal.sample(&mut rng));
        assert!(normal.abs() < 5.0 / root_n, "{normal}");
        let uniform = mean(&mut |i| Philox::new(1, i).random::<f64>());
        assert!((uniform - 0.5).abs() < 5.0 / (12f64.sqrt() * root_n), "{uniform}");
        let gamma = Gamma::new(2.5, 1.0).unwrap();
        let gamma = mean(&mut |i| gamma.sample(&mut Philox::new(i, 0)));
        assert!((gamma - 2.5).abs() < 5.0 * 2.5f64.sqrt() / root_n, "{gamma}");
    }

    #[test]
    fn a_stream_is_its_words_in_order() {
        let mut rng = Philox::new(3, 4);
        let words: Vec<u32> = (0..11).map(|_| rng.next_u32()).collect();
        let key = halves(mix(3, [1]));
        assert_eq!(words[..4], philox([0, 0, 4, 0], key));
        assert_eq!(words[4..8], philox([1, 0, 4, 0], key));
        assert_eq!(Philox::new(3, 4 << 32).next_u32(), philox([0, 0, 0, 4], key)[0]);
        let mut rng = Philox::new(3, 4);
        assert_eq!(rng.next_u64(), u64::from(words[0]) | u64::from(words[1]) << 32);
        let mut bytes = [0; 5];
        rng.fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], words[2].to_le_bytes());
        assert_eq!(bytes[4], words[3] as u8);
        assert_eq!(rng.next_u32(), words[4]);
    }

    #[test]
    fn streams_and_noise_share_no_number() {
        let key = |kind: u64| halves(mix(NOISE.seed, [kind]));
        let keys = [halves(NOISE.seed), key(1), key(2)];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }

    #[test]
    fn permutations_are_uniform() {
        assert!(permutation(0, 1, 1).is_empty());
        assert_eq!(permutation(1, 1, 1), [0]);
        assert_ne!(permutation(50, 1, 1), permutation(50, 1, 2));
        assert_ne!(permutation(50, 1, 1), permutation(50, 2, 1));
        let mut sorted = permutation(1009, 3, 7);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1009));
        // All 4! orders, chi-squared with 23 degrees of freedom: 5 sigma above its mean.
        let mut counts = std::collections::HashMap::new();
        let draws = 48_000;
        for epoch in 0..draws {
            *counts.entry(permutation(4, 11, epoch)).or_insert(0.0) += 1.0;
        }
        let expected = draws as f64 / 24.0;
        let chi2: f64 = counts.values().map(|c| (c - expected).powi(2) / expected).sum();
        assert_eq!(counts.len(), 24);
        assert!(chi2 < 23.0 + 5.0 * 46f64.sqrt(), "{chi2}");
    }

    #[test]
    fn bounded_draws_are_unbiased_where_a_plain_product_is_not() {
        // With n = 3 2^30 the high word of n x is twice as often a multiple of 3 as it should be.
        let (mut rng, draws) = (Philox::new(5, 5), 30_000);
        let n = 3 << 30;
        let multiples = (0..draws).filter(|_| rng.below(n).is_multiple_of(3)).count() as f64;
        let (mean, sigma) = (draws as f64 / 3.0, (draws as f64 * 2.0 / 9.0).sqrt());
        assert!((multiples - mean).abs() < 5.0 * sigma, "{multiples}");
        assert!((0..100).all(|_| rng.below(1) == 0 && rng.below(0) == 0));
    }

    #[test]
    fn mix_depends_on_every_bit_their_order_and_their_number() {
        let base = mix(1, [2, 3]);
        for other in [mix(2, [2, 3]), mix(1, [3, 2]), mix(1, [2]), mix(1, [2, 3, 0]), mix(1, [])] {
            assert_ne!(base, other);
        }
        // Flipping one bit of a word or of the seed flips half of the 64 bits, 4 sigma per bit.
        let mut flips = 0;
        for bit in 0..64 {
            for other in [mix(1 ^ 1 << bit, [2, 3]), mix(1, [2 ^ 1 << bit, 3]), mix(1, [2, 3 ^ 1 << bit])] {
                let distance = (base ^ other).count_ones();
                assert!((12..=52).contains(&distance), "bit {bit}: {distance}");
                flips += distance;
            }
        }
        let (mean, sigma) = (192.0 * 32.0, (192.0 * 16.0_f64).sqrt());
        assert!((f64::from(flips) - mean).abs() < 5.0 * sigma, "{flips}");
    }

    #[test]
    fn scramble_is_splitmix64() {
        // The first outputs of the reference generator seeded with 1234567.
        let gamma = 0x9E37_79B9_7F4A_7C15_u64;
        let outputs = [0, 1, 2].map(|i| scramble(1_234_567_u64.wrapping_add(gamma.wrapping_mul(i))));
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(outputs, expected);
    }
}
