//! The processor: threads, small matrix products, and slices shared between tasks.

pub(crate) mod aligned;
pub(crate) mod disjoint;
pub mod gemm;
pub(crate) mod pool;
pub(crate) mod transpose;

/// Whether the last of `rows x cols` elements lies within the first `len`.
fn holds(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    let end = |rows: usize| (rows - 1).checked_mul(stride)?.checked_add(cols);
    rows == 0 || cols == 0 || end(rows).is_some_and(|end| end <= len)
}
