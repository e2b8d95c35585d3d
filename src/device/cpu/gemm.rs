//! Small matrix products for tiles of rows: C = start + op(A) op(B).
//!
//! The products of a dense layer Y = X W + b and of its adjoint,
//! $$Y = XW + b, \qquad \bar X = \bar Y W^\top, \qquad \bar W \mathrel{+}= X^\top \bar Y,$$
//! with m tile rows (1 to a few hundred) and layer widths k and n (2 to a thousand). The shape of
//! the algorithm is that of Goto and van de Geijn (*Anatomy of High-Performance Matrix
//! Multiplication*, ACM TOMS 34, 2008), less what small matrices do not need: B is packed in
//! panels of columns, beforehand ([`Packed`]: the weights, which all tiles share) or one panel at
//! a time, unless its rows lie near each other; A is read where it lies, and nothing is allocated. A product with few
//! columns is computed as its transpose.
//!
//! Element (i, j) is one chain of fused multiply-adds over p = 0, 1, .., k-1, begun at its
//! starting value. Neither m nor n nor the place in a tile changes that order, so a row's result
//! is the same, bit for bit, in whatever tile it is computed.

use std::array;

use super::holds;
use super::transpose::transpose;
use crate::math;
use crate::real::Real;

/// Most columns of C held in registers at once, in `f32`; `f64` has half as many. See [`shape`].
const NR: usize = 32;
/// Most rows of C held in registers at once.
const MR: usize = 8;
/// As many rows of a ragged tile, or fewer, are computed by themselves.
const HALF: usize = 4;
/// Rows of B packed at once: a full panel takes 32 KiB, the size of a small L1 cache.
const DEPTH: usize = 256;
/// Most columns of C that are computed by vectors along the rows. See [`narrow`].
const NARROW: usize = 8;
/// Fewest rows of which such vectors are made.
const LANES: usize = 16;

/// A matrix seen through two strides, so that a transposition moves no data.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// `[rows x cols]`, row after row without gaps. Panics if `data` is too short.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `[rows x cols]`, the rows `stride` elements apart. Panics if `data` is too short.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(holds(data.len(), rows, cols, stride), "{rows} x {cols} does not fit in the data");
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// The transpose, `[cols x rows]`.
    pub fn t(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// The data from element (i, j) on.
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> &'a [T] {
        self.data.get(i * self.row_stride + j * self.col_stride..).unwrap_or_default()
    }

    /// The block of `rows x cols` elements whose first is (i, j).
    fn block(self, i: usize, j: usize, rows: usize, cols: usize) -> Self {
        debug_assert!(i + rows <= self.rows && j + cols <= self.cols);
        Self { data: self.at(i, j), rows, cols, ..self }
    }
}

/// The value each sum starts from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a, T> {
    /// Zero: C = A B.
    Zero,
    /// What C holds: C += A B.
    Add,
    /// The same row for all: C = A B + b, b of length n.
    Bias(&'a [T]),
}

/// Working memory of [`gemm`], owned by whoever calls it again and again.
#[derive(Debug)]
#[repr(align(64))] // no vector of a panel straddles two cache lines
pub struct Scratch<T> {
    /// Rows of B, each cut to the panel's width.
    panel: [T; NR * DEPTH],
    /// A tile at the ragged edge of C.
    edge: [T; NR * MR],
}

impl<T: Real> Scratch<T> {
    /// About 35 KiB in `f32`.
    pub fn boxed() -> Box<Self> {
        Box::new(Self { panel: [T::ZERO; NR * DEPTH], edge: [T::ZERO; NR * MR] })
    }
}

/// Bytes between rows of B up to which they are multiplied where they lie: a tile's rows of a panel then still share the
/// L1 cache. Farther apart, they fall into few of its sets.
const NEAR: usize = 512;

/// Rows of W columns of B, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a, T, const W: usize> {
    data: &'a [T],
    rows: usize,
    stride: usize,
}

impl<'a, T, const W: usize> Panel<'a, T, W> {
    /// Panics if `data` is too short.
    fn new(data: &'a [T], rows: usize, stride: usize) -> Self {
        assert!(holds(data.len(), rows, W, stride), "a panel of {rows} rows does not fit in the data");
        Self { data, rows, stride }
    }

    #[inline(always)]
    fn row(&self, p: usize) -> &'a [T; W] {
        debug_assert!(p < self.rows);
        // SAFETY: `new` has checked that W elements follow the beginning of each row.
        unsafe { &*self.data.as_ptr().add(p * self.stride).cast() }
    }
}

/// The right factor of a product, in panels of W columns.
pub trait Right<T>: Copy {
    /// Rows and columns.
    fn size(&self) -> (usize, usize);

    /// Rows p, p + 1, .. of W columns from j on, as many as there is `room` for. What lies beyond the last column is
    /// arbitrary: it only reaches columns of a tile that are not copied to C.
    fn panel<'p, const W: usize>(&'p self, p: usize, j: usize, room: &'p mut [[T; W]]) -> Panel<'p, T, W>;

    /// The transpose of rows p, p + 1, .., as many as `depth`, if there are no more columns than `NARROW`.
    fn transposed(&self, p: usize, depth: usize) -> Mat<'_, T>;
}

impl<T: Real> Right<T> for Mat<'_, T> {
    fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn panel<'p, const W: usize>(&'p self, p: usize, j: usize, room: &'p mut [[T; W]]) -> Panel<'p, T, W> {
        let block = self.block(p, j, room.len(), W.min(self.cols - j));
        if self.col_stride == 1 && block.cols == W && self.row_stride * size_of::<T>() <= NEAR {
            return Panel::new(block.data, block.rows, self.row_stride);
        }
        block.pack_into(room);
        Panel::new(room.as_flattened(), room.len(), W)
    }

    fn transposed(&self, p: usize, depth: usize) -> Mat<'_, T> {
        self.block(p, 0, depth, self.cols).t()
    }
}

/// A matrix that has been packed: all rows of the first panel, then of the next.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
}

impl<'a, T: Real> Packed<'a, T> {
    /// Elements that `rows x cols` take.
    pub fn len(rows: usize, cols: usize) -> usize {
        rows * cols.next_multiple_of(NR)
    }

    /// The next of several packed matrices. Panics if it is not there.
    pub fn take(packed: &mut &'a [T], rows: usize, cols: usize) -> Self {
        let (data, rest) = packed.split_at(Self::len(rows, cols));
        *packed = rest;
        Self { data, rows, cols }
    }
}

impl<T: Real> Right<T> for Packed<'_, T> {
    fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn panel<'p, const W: usize>(&'p self, p: usize, j: usize, room: &'p mut [[T; W]]) -> Panel<'p, T, W> {
        Panel::new(&self.data[self.rows * j + p * W..], room.len(), W)
    }

    fn transposed(&self, p: usize, depth: usize) -> Mat<'_, T> {
        let width = shape::<T, Self>(self.cols).width;
        Mat::strided(&self.data[p * width..], depth, self.cols, width).t()
    }
}

/// C = start + A B, with A `[m x k]`, B `[k x n]` and C `[m x n]`, whose rows lie `stride` apart.
///
/// Allocates nothing. Panics if the shapes do not fit together: it is called by a compiled plan,
/// which has checked them.
pub fn gemm<T: Real, B: Right<T>>(
    a: Mat<T>,
    b: B,
    start: Start<T>,
    c: &mut [T],
    stride: usize,
    scratch: &mut Scratch<T>,
) {
    let (m, k, (rows, n)) = (a.rows, a.cols, b.size());
    assert!(rows == k, "{m} x {k} times {rows} x {n}");
    assert!(n <= stride && holds(c.len(), m, n, stride), "C does not hold {m} x {n}");
    if m == 0 || n == 0 {
        return;
    }
    // With k = 0 the one empty block still writes the start.
    for p in (0..k.max(1)).step_by(DEPTH) {
        let a = a.block(0, p, m, DEPTH.min(k - p));
        let start = if p == 0 { start } else { Start::Add };
        if is_narrow(a, n) {
            narrow_shape(n)(a, b.transposed(p, a.cols), start, c, stride, scratch);
            continue;
        }
        let mut j = 0;
        while j < n {
            let Shape { width, columns, .. } = shape::<T, B>(n - j);
            columns(a, &b, (p, j), start, &mut c[j..], stride, scratch);
            j += width;
        }
    }
}

/// How panels of one width are packed and multiplied.
struct Shape<T, B> {
    width: usize,
    pack: fn(Mat<T>, usize, &mut [T]),
    columns: Columns<T, B>,
}

/// The product with rows p.. of the panel of B that begins at column j.
type Columns<T, B> = fn(Mat<T>, &B, (usize, usize), Start<T>, &mut [T], usize, &mut Scratch<T>);

/// The next panel if `n` columns are left: as wide as two vectors of this machine, but no wider than `n` needs in
/// vectors of some size.
///
/// Some eight fused multiply-adds are under way at once, so eight rows hide their latency, with two vectors a row also
/// that of the loads; 16 registers of 256 bits have room for the sums of six such rows beside the operands.
fn shape<T: Real, B: Right<T>>(n: usize) -> Shape<T, B> {
    fn of<T: Real, B: Right<T>, const R: usize, const W: usize>() -> Shape<T, B> {
        Shape { width: W, pack: pack_panel::<T, W>, columns: columns::<T, B, R, W> }
    }
    let (vector, smallest) = (math::vector_bytes().max(32), 16 / size_of::<T>());
    let w = n.div_ceil(smallest).next_power_of_two() * smallest;
    match w.min(2 * vector / size_of::<T>()) {
        2 => of::<T, B, 8, 2>(),
        4 => of::<T, B, 8, 4>(),
        8 if size_of::<T>() == 8 && vector == 32 => of::<T, B, 6, 8>(),
        16 if size_of::<T>() == 4 && vector == 32 => of::<T, B, 6, 16>(),
        8 => of::<T, B, 8, 8>(),
        16 => of::<T, B, 8, 16>(),
        _ => of::<T, B, 8, 32>(),
    }
}

/// The product with one panel of at most W columns of B, R rows of C at a time.
fn columns<T: Real, B: Right<T>, const R: usize, const W: usize>(
    a: Mat<T>,
    b: &B,
    (p, j): (usize, usize),
    start: Start<T>,
    c: &mut [T],
    stride: usize,
    scratch: &mut Scratch<T>,
) {
    let Scratch { panel, edge } = scratch;
    let panel = b.panel(p, j, &mut panel.as_chunks_mut::<W>().0[..a.cols]);
    let cols = W.min(b.size().1 - j);
    let first = if let Start::Bias(bias) = start { padded(&bias[j..j + cols]) } else { [T::ZERO; W] };
    let first = if matches!(start, Start::Add) { None } else { Some(&first) };
    for i in (0..a.rows).step_by(R) {
        let (rows, c) = (R.min(a.rows - i), &mut c[i * stride..]);
        if rows == R && cols == W {
            tile::<T, R, W>(a, i, panel, first, c, stride);
        } else {
            // A ragged tile is computed whole beside C; only its part in C is copied.
            if first.is_none() {
                copy(rows, cols, c, stride, edge, NR);
            }
            let tile = if rows <= HALF { ragged_tile::<T, HALF, W> } else { ragged_tile::<T, R, W> };
            tile(a, i, panel, first, edge);
            copy(rows, cols, edge, NR, c, stride);
        }
    }
}

/// Whether a product with `n` columns has too few of them for vectors, but enough rows, which lie side by side or are
/// quickly transposed.
fn is_narrow<T>(a: Mat<T>, n: usize) -> bool {
    n <= NARROW && a.rows >= LANES && (a.row_stride == 1 || size_of::<T>() == 4)
}

/// A product with few columns, given B^T.
type Narrow<T> = fn(Mat<T>, Mat<T>, Start<T>, &mut [T], usize, &mut Scratch<T>);

/// The product with `n` columns, at most [`NARROW`], by vectors along the rows: two for each column, or one where 16
/// registers have no room for more.
fn narrow_shape<T: Real>(n: usize) -> Narrow<T> {
    fn of<T: Real, const W: usize>(n: usize) -> Narrow<T> {
        match n {
            1 => narrow::<T, 1, W>,
            2 => narrow::<T, 2, W>,
            3 => narrow::<T, 3, W>,
            4 => narrow::<T, 4, W>,
            5 => narrow::<T, 5, W>,
            6 => narrow::<T, 6, W>,
            7 => narrow::<T, 7, W>,
            _ => narrow::<T, 8, W>,
        }
    }
    let vector = math::vector_bytes().max(32);
    let vectors = if vector == 32 && n > 6 { 1 } else { 2 };
    match vectors * vector / size_of::<T>() {
        4 => of::<T, 4>(n),
        8 => of::<T, 8>(n),
        16 => of::<T, 16>(n),
        _ => of::<T, 32>(n),
    }
}

/// C^T = start + B^T A^T, N x W elements at a time: along its few columns C would leave most of a vector empty.
fn narrow<T: Real, const N: usize, const W: usize>(
    a: Mat<T>,
    b: Mat<T>,
    start: Start<T>,
    c: &mut [T],
    stride: usize,
    scratch: &mut Scratch<T>,
) {
    let Scratch { panel, edge } = scratch;
    let panel = &mut panel.as_chunks_mut::<W>().0[..a.cols];
    let across = &mut edge.as_chunks_mut::<W>().0[..NARROW];
    let mut rows = [[T::ZERO; NARROW]; W];
    for i in (0..a.rows).step_by(W) {
        let c = &mut c[i * stride..];
        let count = W.min(a.rows - i);
        match start {
            Start::Zero => across.fill([T::ZERO; W]),
            Start::Bias(bias) => across.iter_mut().zip(bias).for_each(|(row, &bias)| row.fill(bias)),
            Start::Add => {
                rows[..count].iter_mut().zip(c.chunks(stride)).for_each(|(row, c)| row[..N].copy_from_slice(&c[..N]));
                transpose(rows.as_flattened(), NARROW, [W, NARROW], across.as_flattened_mut(), W);
            }
        }
        let a = a.t();
        tile::<T, N, W>(b, 0, a.panel(0, i, panel), None, across.as_flattened_mut(), W);
        transpose(across.as_flattened(), W, [NARROW, W], rows.as_flattened_mut(), NARROW);
        c.chunks_mut(stride).zip(&rows[..count]).for_each(|(c, row)| c[..N].copy_from_slice(&row[..N]));
    }
}

impl<T: Real> Mat<'_, T> {
    /// Packs the matrix into the first [`Packed::len`] elements, and leaves the others.
    pub fn pack(self, to: &mut &mut [T]) {
        let (all, rest) = std::mem::take(to).split_at_mut(Packed::<T>::len(self.rows, self.cols));
        *to = rest;
        let mut j = 0;
        while j < self.cols {
            let Shape { width, pack, .. } = shape::<T, Self>(self.cols - j);
            pack(self, j, &mut all[self.rows * j..][..self.rows * width]);
            j += width;
        }
    }

    /// Its rows, each as W contiguous elements. Those beyond the last column are arbitrary.
    fn pack_into<const W: usize>(self, panel: &mut [[T; W]]) {
        if self.row_stride == 1 && self.col_stride != 1 {
            return transpose(self.data, self.col_stride, [self.cols, self.rows], panel.as_flattened_mut(), W);
        }
        debug_assert_eq!(self.col_stride, 1);
        math::wide(
            #[inline(always)]
            || {
                for (p, row) in panel.iter_mut().enumerate() {
                    let x = self.at(p, 0);
                    match x.first_chunk() {
                        Some(x) => *row = *x,
                        None => *row = padded(x),
                    }
                }
            },
        );
    }
}

fn pack_panel<T: Real, const W: usize>(b: Mat<T>, j: usize, to: &mut [T]) {
    b.block(0, j, b.rows, W.min(b.cols - j)).pack_into::<W>(to.as_chunks_mut().0);
}

/// The start of a row of W, the rest zero.
#[inline(never)]
fn padded<T: Real, const W: usize>(x: &[T]) -> [T; W] {
    array::from_fn(|j| x.get(j).copied().unwrap_or(T::ZERO))
}

fn copy<T: Copy>(rows: usize, cols: usize, from: &[T], step: usize, to: &mut [T], stride: usize) {
    for (to, from) in to.chunks_mut(stride).zip(from.chunks(step)).take(rows) {
        to[..cols].copy_from_slice(&from[..cols]);
    }
}

/// Rows i to i + R of the product with a panel; each sum starts from its column's `start`, or from C.
///
/// Never inlined: in a function of its own, its arrays coming from memory and going back to it,
/// every sum of the kernel becomes a lane of a vector register; among its neighbours, few do.
#[inline(never)]
fn tile<T: Real, const R: usize, const W: usize>(
    a: Mat<T>,
    i: usize,
    panel: Panel<T, W>,
    start: Option<&[T; W]>,
    c: &mut [T],
    stride: usize,
) {
    assert!(panel.rows == a.cols && i + R <= a.rows && holds(c.len(), R, W, stride));
    math::wide(
        #[inline(always)]
        move || {
            let rows = array::from_fn(|r| (i + r) * a.row_stride);
            // SAFETY: rows of A and a place in C, as asserted.
            unsafe { kernel::<T, R, W>(a, rows, panel, start, c, stride) };
        },
    );
}

/// The same beside C. Beyond its end the last row of A is repeated; that part of the tile is not copied to C.
#[inline(never)]
fn ragged_tile<T: Real, const R: usize, const W: usize>(
    a: Mat<T>,
    i: usize,
    panel: Panel<T, W>,
    start: Option<&[T; W]>,
    edge: &mut [T; NR * MR],
) {
    assert!(panel.rows == a.cols && i < a.rows && R <= MR && W <= NR);
    math::wide(
        #[inline(always)]
        move || {
            let rows = array::from_fn(|r| (i + r).min(a.rows - 1) * a.row_stride);
            // SAFETY: likewise.
            unsafe { kernel::<T, R, W>(a, rows, panel, start, edge, NR) };
        },
    );
}

/// The product of the rows of A that begin at these elements with a panel.
///
/// # Safety
/// They must be rows of A, with as many columns as the panel has rows, and C must hold R rows of W elements.
#[inline(always)]
unsafe fn kernel<T: Real, const R: usize, const W: usize>(
    a: Mat<T>,
    rows: [usize; R],
    panel: Panel<T, W>,
    start: Option<&[T; W]>,
    c: &mut [T],
    stride: usize,
) {
    let mut sum = [start.copied().unwrap_or([T::ZERO; W]); R];
    // SAFETY: the caller's promise.
    let mut place = |r: usize| unsafe { &mut *c.as_mut_ptr().add(r * stride).cast::<[T; W]>() };
    if start.is_none() {
        sum.iter_mut().enumerate().for_each(|(r, sum)| *sum = *place(r));
    }
    for p in 0..panel.rows {
        // Of a copy of the row the compiler makes two loads, of the row itself many and shuffles; with rows of one vector
        // it fails on the copy.
        let copy: [T; W];
        let mut b = panel.row(p);
        if W == NR {
            copy = *b;
            b = &copy;
        }
        for (sum, row) in sum.iter_mut().zip(rows) {
            // SAFETY: this is the element in one of A's rows and a column p < a.cols, which the
            // data hold: checked where a `Mat` is made, kept by `t` and by `block`. Half as fast
            // again as with the check.
            let x = unsafe { *a.data.get_unchecked(row + p * a.col_stride) };
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum = x.mul_add(*b, *sum);
            }
        }
    }
    sum.iter().enumerate().for_each(|(r, sum)| *place(r) = *sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without structure, exactly representable nowhere near the rounding of a sum.
    fn values<T: Real>(n: usize, seed: usize) -> Vec<T> {
        (0..n).map(|i| T::from_f64(((i * 7919 + seed) as f64).sin())).collect()
    }

    /// What [`gemm`] promises, element by element.
    fn naive<T: Real>(a: Mat<T>, b: Mat<T>, start: Start<T>, c: &mut [T], stride: usize) {
        for i in 0..a.rows {
            for j in 0..b.cols {
                let c = &mut c[i * stride + j];
                *c = match start {
                    Start::Zero => T::ZERO,
                    Start::Add => *c,
                    Start::Bias(bias) => bias[j],
                };
                for p in 0..a.cols {
                    *c = a.at(i, p)[0].mul_add(b.at(p, j)[0], *c);
                }
            }
        }
    }

    /// Equal bit for bit, except that all NaN are one.
    fn assert_same<T: Real>(x: &[T], y: &[T], what: &str) {
        assert_eq!(x.len(), y.len());
        let bits = |x: &T| if x.to_f64().is_nan() { f64::NAN } else { x.to_f64() }.to_bits();
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            assert!(bits(x) == bits(y), "{what}: element {i} is {x}, not {y}");
        }
    }

    /// A `rows x cols` matrix with `gap` elements between rows, or the transpose of one.
    fn view<T: Real>(data: &[T], rows: usize, cols: usize, gap: usize, t: bool) -> Mat<'_, T> {
        if t { Mat::strided(data, cols, rows, rows + gap).t() } else { Mat::strided(data, rows, cols, cols + gap) }
    }

    fn check<T: Real>(m: usize, k: usize, n: usize) {
        let (a, b) = (values::<T>((m + 3) * (k + 3), 1), values::<T>((k + 3) * (n + 3), 2));
        let (bias, c) = (values::<T>(n, 3), values::<T>(m * (n + 2), 4));
        let mut scratch = Scratch::boxed();
        for (ta, tb, gap) in [(false, false, 0), (false, true, 1), (true, false, 2), (true, true, 3)] {
            let (a, b) = (view(&a, m, k, gap, ta), view(&b, k, n, gap, tb));
            for start in [Start::Zero, Start::Add, Start::Bias(&bias[..])] {
                let (mut found, mut expected) = (c.clone(), c.clone());
                gemm(a, b, start, &mut found, n + 2, &mut scratch);
                naive(a, b, start, &mut expected, n + 2);
                assert_same(&found, &expected, &format!("{m} x {k} x {n}, {ta} {tb} {start:?}"));
                let mut packed = vec![T::ZERO; Packed::<T>::len(k, n)];
                b.pack(&mut &mut packed[..]);
                found.copy_from_slice(&c);
                gemm(a, Packed::take(&mut &packed[..], k, n), start, &mut found, n + 2, &mut scratch);
                assert_same(&found, &expected, &format!("{m} x {k} x {n} packed, {ta} {tb} {start:?}"));
            }
        }
    }

    #[test]
    fn every_element_is_one_chain_of_fused_sums() {
        for (m, k, n) in [(1, 1, 1), (64, 59, 64), (64, 64, 10), (13, 257, 17), (7, 600, 3), (6, 256, 16)] {
            check::<f32>(m, k, n);
            check::<f64>(m, k, n);
        }
    }

    #[test]
    fn ragged_edges_of_every_size() {
        for m in 0..14 {
            for n in 0..35 {
                check::<f32>(m, 5, n);
                check::<f64>(m, 5, n);
            }
        }
        (0..9).for_each(|k| check::<f32>(7, k, 18));
    }

    #[test]
    fn few_columns() {
        for m in [15, 16, 17, 31, 32, 33, 70] {
            for n in 1..9 {
                check::<f32>(m, 37, n);
                check::<f64>(m, 37, n);
            }
        }
        check::<f32>(40, 600, 3);
        // As on machines with shorter vectors.
        let (a, b) = (values::<f32>(9 * 5, 1), values::<f32>(5 * 7, 2));
        let (a, b) = (Mat::new(&a, 9, 5), Mat::new(&b, 5, 7));
        let (mut found, mut expected) = ([0.0; 63], [0.0; 63]);
        naive(a, b, Start::Zero, &mut expected, 7);
        for product in [narrow::<f32, 7, 4>, narrow::<f32, 7, 8>, narrow::<f32, 7, 16>] {
            product(a, b.t(), Start::Zero, &mut found, 7, &mut Scratch::boxed());
            assert_same(&found, &expected, "9 x 5 x 7");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_tile() {
        [59, 5].into_iter().for_each(check_tiles);
    }

    fn check_tiles(n: usize) {
        let (m, k) = (64, 300);
        let (a, b, bias) = (values::<f32>(m * k, 1), values(k * n, 2), values(n, 3));
        let mut scratch = Scratch::boxed();
        let mut run = |rows: std::ops::Range<usize>| {
            let mut c = vec![0.0; rows.len() * n];
            let a = Mat::new(&a[rows.start * k..], rows.len(), k);
            gemm(a, Mat::new(&b, k, n), Start::Bias(&bias), &mut c, n, &mut scratch);
            c
        };
        let whole = run(0..m);
        for split in [1, 2, 5, 6, 7, 31, 63] {
            let parts = [run(0..split), run(split..m)].concat();
            assert_same(&parts, &whole, &format!("split at row {split}"));
        }
    }

    #[test]
    fn what_is_not_finite_stays_in_its_row_and_column() {
        let (m, k, n) = (8, 5, 18);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE] {
            let (mut a, mut b) = (values::<f64>(m * k, 1), values::<f64>(k * n, 2));
            (a[7 * k + 2], b[3 * n + 17]) = (bad, bad);
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
            let (mut found, mut expected) = (vec![0.0; m * n], vec![0.0; m * n]);
            gemm(a, b, Start::Zero, &mut found, n, &mut Scratch::boxed());
            naive(a, b, Start::Zero, &mut expected, n);
            assert_same(&found, &expected, &format!("{bad}"));
            let clean = (0..7).all(|i| found[i * n..][..17].iter().all(|x| x.abs() < 5.0));
            assert!(clean, "{bad} leaked");
        }
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_matrix_larger_than_its_data_is_refused() {
        Mat::strided(&[0.0f32; 20], 2, 3, usize::MAX);
    }

    #[test]
    #[should_panic(expected = "2 x 3 times 4")]
    fn factors_that_do_not_meet_are_refused() {
        let (a, b, mut c) = ([0.0f32; 6], [0.0; 8], [0.0; 4]);
        let (a, b) = (Mat::new(&a, 2, 3), Mat::new(&b, 4, 2));
        gemm(a, b, Start::Zero, &mut c, 2, &mut Scratch::boxed());
    }

    #[test]
    #[should_panic(expected = "C does not hold")]
    fn a_product_larger_than_its_place_is_refused() {
        let (a, b, mut c) = ([0.0f32; 6], [0.0; 6], [0.0; 3]);
        let (a, b) = (Mat::new(&a, 2, 3), Mat::new(&b, 3, 2));
        gemm(a, b, Start::Zero, &mut c, 2, &mut Scratch::boxed());
    }
}
