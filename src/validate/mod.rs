//! Is the posterior right?
//!
//! [`Validation`] holds diagnostics on held-out simulations, all fed by one sampling pass. [`C2st`] compares two
//! samples, for example draws of a posterior with exact ones; [`ModeCoverage`] asks what a generator leaves out.

mod band;
mod c2st;
mod coverage;
mod mode_coverage;
mod pit;

pub use band::simultaneous_band;
pub use c2st::C2st;
pub use coverage::{Coverage, coverage};
pub use mode_coverage::{ModeCoverage, expected_coverage};
pub use pit::pit;

use ndarray::{Array1, Array2, ArrayView2};

use crate::error::{Error, check_length};
use crate::models::Density;
use crate::real::Real;
use crate::rng::Philox;
use crate::sbi::Posterior;

/// A figure with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// How a posterior does on simulations that it was not trained on.
#[derive(Clone, Debug)]
pub struct Validation {
    /// log q(θ | x) of each test row, in nats: the density itself, not an estimate from draws.
    pub log_prob: Array1<f64>,
    /// PIT values, `[test rows x parameters]`: the fraction of draws below the true parameter.
    pub pit: Array2<f64>,
    /// For each test row, the posterior mass of higher density than the true parameters have: the smallest level at
    /// which a highest-density region covers them.
    pub hpd_level: Array1<f64>,
    /// Number of draws for each test row.
    pub draws: usize,
}

impl Validation {
    /// Draws once from the posterior of each row of `x` and compares the draws with the row of `theta` behind it.
    ///
    /// # Errors
    /// [`Error::Length`] for tables that do not fit, no row, or no draw; [`Error::NonFinite`] for numbers that are
    /// not finite.
    pub fn run<T: Real, M: Density<T> + ?Sized>(
        posterior: &Posterior<T, M>,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        check_length("test rows", theta.nrows().max(1), theta.nrows())?;
        check_length("draws for each test row", draws.max(1), draws)?;
        let log_prob = posterior.log_prob_many(theta, x)?;
        let mut ranks = Array2::zeros(theta.dim());
        let mut hpd_level = Array1::zeros(theta.nrows());
        let mut failure = None;
        posterior.sample_each(x, draws, seed, |row, sample| {
            ranks.row_mut(row).assign(&pit(sample, theta.row(row)));
            match posterior.log_prob(sample, x.row(row)) {
                Ok(densities) => {
                    let higher = densities.iter().filter(|&&q| q > log_prob[row]).count();
                    hpd_level[row] = higher as f64 / draws as f64;
                }
                Err(e) => failure = Some(e),
            }
        })?;
        match failure {
            Some(e) => Err(e),
            None => Ok(Self { log_prob, pit: ranks, hpd_level, draws }),
        }
    }

    /// Mean log q(θ | x) over the test rows, in nats, with a bootstrap error.
    pub fn mean_log_prob(&self, seed: u64) -> Estimate {
        bootstrap_mean(self.log_prob.view().as_slice().unwrap_or(&[]), 1000, seed)
    }

    /// Largest distance between the empirical distribution of each parameter's PIT values and the uniform one.
    pub fn pit_distances(&self) -> Vec<f64> {
        self.pit.columns().into_iter().map(|column| band::largest_distance(column.iter().copied())).collect()
    }

    /// Half-width of the band that contains the whole empirical distribution of one parameter's PIT values with this
    /// probability, if the posterior is right.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < confidence < 1.
    pub fn band(&self, confidence: f64) -> Result<f64, Error> {
        simultaneous_band(self.log_prob.len(), confidence)
    }

    /// Expected coverage of highest-density regions at evenly spaced levels.
    pub fn coverage(&self, levels: usize) -> Coverage {
        coverage(self.hpd_level.view(), levels)
    }
}

/// Mean and bootstrap standard error.
fn bootstrap_mean(values: &[f64], resamples: usize, seed: u64) -> Estimate {
    use rand::RngExt;
    let n = values.len();
    let mean = |rng: &mut Philox| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    let means: Vec<f64> = (0..resamples).map(|b| mean(&mut Philox::new(seed, b as u64))).collect();
    let centre = means.iter().sum::<f64>() / resamples as f64;
    let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / (resamples - 1) as f64;
    Estimate { value: values.iter().sum::<f64>() / n as f64, error: variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_error_is_the_standard_error() {
        let values: Vec<f64> = (1..400).map(|i| crate::math::normal_quantile(f64::from(i) / 400.0)).collect();
        let estimate = bootstrap_mean(&values, 2000, 5);
        assert!(estimate.value.abs() < 1e-12);
        assert!((estimate.error - 1.0 / 400.0_f64.sqrt()).abs() < 0.003, "{}", estimate.error);
    }
}
