//! Is the posterior right?
//!
//! [`Validation`] holds diagnostics on held-out simulations, all fed by one sampling pass. [`C2st`] compares two
//! samples, for example draws of a posterior with exact ones; [`ModeCoverage`] asks what a generator leaves out.
//!
//! What each of them found is a list of [`Finding`]s: a figure, its uncertainty, a [`Verdict`] and a sentence.

mod band;
mod bootstrap;
mod c2st;
mod calibration;
mod chi_square;
mod envelope;
mod finding;
mod mode_coverage;
mod pit;
mod tarp;
mod uniform;
mod validation;

pub use band::simultaneous_band;
pub use c2st::C2st;
pub use finding::{Curve, Departure, Estimate, Finding, Verdict};
pub use mode_coverage::{ModeCoverage, expected_coverage};
pub use pit::pit;
pub use validation::{TestDensities, Validation};
