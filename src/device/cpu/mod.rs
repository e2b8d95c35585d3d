//! The processor: threads, small matrix products, and slices shared between tasks.

pub(crate) mod aligned;
pub(crate) mod disjoint;
pub mod gemm;
pub(crate) mod pool;
pub(crate) mod transpose;
