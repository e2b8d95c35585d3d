//! The processor: threads, small matrix products, and slices shared between tasks.

pub(crate) mod disjoint;
pub mod gemm;
pub(crate) mod pool;
