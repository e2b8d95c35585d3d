//! The workloads of `benches/peers/WORKLOADS.md` for workers written in Rust: the deterministic [`numbers`], the
//! [`Workload`]s with their data and parameters, and the line protocol that a [`worker`] speaks.

pub mod numbers;
pub mod worker;
mod workload;

pub use workload::{
    CHECK_STEPS, DRAWS, HALF_LN_TAU, Kind, LANGEVIN_STEP, LEARNING_RATE, LEVELS, Workload, sigma, sigma_embedding,
};
