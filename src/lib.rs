//! A from-scratch reverse-mode autodiff tape and neural-net engine made for simulation-based inference.
//!
//! From the bottom of the house to its top:
//!
//! - [`math`], [`rng`], [`real`]: vectorised elementary functions, counter-based noise, `f32` or `f64`;
//! - [`graph`], [`op`], [`plan`], [`store`]: record a model once, compile it, replay it many times without allocating;
//! - [`ops`]: one op a file, its backward right under its forward; [`check`] holds each against differences;
//! - [`nn`], [`optim`], [`train`], [`sample`], [`models`]: modules, Adam, the fit loop, samplers, the density families;
//! - [`sbi`]: prior -> [`simulate()`] -> [`Dataset`] -> [`Npe`] -> [`Posterior`];
//! - [`validate`] and `report` (feature `plots`): is it right, and what does it look like;
//! - [`tasks`]: problems whose answer is known.
//!
//! The README has a whole inference in twenty lines.

pub mod check;
pub mod device;
mod error;
pub mod files;
pub mod graph;
pub mod math;
pub mod models;
pub mod nn;
pub mod noise_schedule;
pub mod op;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod progress;
pub mod real;
#[cfg(feature = "plots")]
pub mod report;
pub mod rng;
pub mod sample;
pub mod sbi;
pub mod store;
pub mod tasks;
pub mod train;
pub mod validate;
mod vector;

pub use device::Device;
pub use error::Error;
pub use graph::{Graph, Var};
pub use ndarray;
pub use noise_schedule::NoiseSchedule;
pub use plan::{Batch, Feed, Plan, Request};
pub use real::Real;
pub use sbi::{Dataset, Npe, Posterior, Prior, Support, simulate, simulate_joint};
pub use store::{Layout, Store};
pub use validate::Validation;

/// The README's code, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
