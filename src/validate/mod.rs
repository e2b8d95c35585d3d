//! Is the posterior right?
//!
//! | question | asked by |
//! |---|---|
//! | is it right on average over held-out simulations? | [`Validation`]: density, ranks, coverage, TARP, all from one sampling pass |
//! | is it right for this observation? | [`LocalC2st`] |
//! | is this observation like the simulations at all? | [`SimulatedCloud`] |
//! | does it predict this observation? | [`PosteriorPredictive`] |
//! | are two samples of one distribution? | [`C2st`], [`SlicedWasserstein`], [`Mmd`], [`PqMass`]; [`ModeCoverage`] for what is missing |
//! | have Markov chains converged? | [`convergence()`] |
//!
//! What each of them found is a list of [`Finding`]s: a figure, its uncertainty, a [`Verdict`] and a sentence.

mod band;
mod bootstrap;
mod c2st;
mod calibration;
mod chi_square;
mod cholesky;
mod classifier;
mod convergence;
mod envelope;
mod finding;
mod local_c2st;
mod misspecification;
mod mmd;
mod mode_coverage;
mod pit;
mod pqmass;
mod predictive;
mod ranking;
mod samples;
mod tarp;
mod uniform;
mod validation;
mod wasserstein;

pub use band::simultaneous_band;
pub use c2st::C2st;
pub use convergence::{Convergence, convergence};
pub use finding::{Curve, Departure, Estimate, Finding, Histogram, Verdict};
pub use local_c2st::{LocalC2st, LocalC2stTest};
pub use misspecification::{Misspecification, SimulatedCloud};
pub use mmd::{Mmd, MmdTest};
pub use mode_coverage::{ModeCoverage, expected_coverage};
pub use pit::pit;
pub use pqmass::{PqMass, PqMassTest};
pub use predictive::PosteriorPredictive;
pub use validation::{TestDensities, Validation};
pub use wasserstein::{SlicedWasserstein, WassersteinTest};

#[cfg(test)]
mod tests {
    use super::Validation;
    use crate::Device;
    use crate::math::normal_ln_pdf;
    use crate::rng::{Noise, NoiseId};
    use crate::tasks::{GaussianLinear, Task};
    use ndarray::{Array1, Array2, Array3, Axis};

    /// Independent standard normals, `[rows x columns]`.
    pub(super) fn normals(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut values = vec![0.0; rows * columns];
        Noise { seed, step: 0, id: NoiseId(0) }.fill_normal(0, columns, &mut values);
        Array2::from_shape_vec((rows, columns), values).unwrap()
    }

    /// As many p-values are small as should be, to within four standard errors.
    pub(super) fn assert_uniform(p_values: impl Iterator<Item = f64>) {
        let p: Vec<f64> = p_values.collect();
        for level in [0.1, 0.5, 0.9] {
            let below = p.iter().filter(|&&p| p <= level + 1e-9).count() as f64 / p.len() as f64;
            let error = (level * (1.0 - level) / p.len() as f64).sqrt();
            assert!((below - level).abs() < 4.0 * error, "{below} of the p-values are below {level}");
        }
    }

    const TASK: GaussianLinear = GaussianLinear { dim: 2 };
    /// θ | x is N(x / 2, 0.05 I).
    const VARIANCE: f64 = 0.05;
    pub(super) const ROWS: usize = 600;
    pub(super) const DRAWS: usize = 100;

    /// How a posterior is wrong at x: the width of its standard deviation and the shift of its mean, both in units of the
    /// exact standard deviation.
    pub(super) type Distortion = fn(&[f64]) -> (f64, f64);

    /// Draws of the distorted posterior.
    pub(super) fn gaussian_draws(x: &[f64], distortion: Distortion, draws: usize, seed: u64) -> Array2<f64> {
        let (width, shift) = distortion(x);
        let exact = TASK.posterior_sample(x, draws, seed).unwrap();
        let centre = Array1::from(x.to_vec()) * 0.5;
        (exact - &centre) * width + centre + shift * VARIANCE.sqrt()
    }

    /// Validates the distorted posterior on simulations; returns them too, `[rows x features]`.
    pub(super) fn gaussian(distortion: Distortion, threads: usize) -> (Validation, Array2<f64>) {
        let device = Device::cpu_with_threads(threads);
        let prior = TASK.prior().unwrap();
        let test = crate::simulate(&device, &prior, ROWS, 1, |theta, rng| TASK.simulate(theta, rng)).unwrap();
        let mut draws = Array3::zeros((ROWS, DRAWS, 2));
        let (mut of_draws, mut of_truth) = (Array2::zeros((ROWS, DRAWS)), Array1::zeros(ROWS));
        for (i, mut block) in draws.outer_iter_mut().enumerate() {
            let x = test.x.row(i).to_vec();
            let (width, shift) = distortion(&x);
            let sd = VARIANCE.sqrt();
            let log_q = |theta: ndarray::ArrayView1<'_, f64>| -> f64 {
                let z = |j: usize| (theta[j] - 0.5 * x[j] - shift * sd) / (width * sd);
                (0..2).map(|j| normal_ln_pdf(z(j)) - (width * sd).ln()).sum()
            };
            block.assign(&gaussian_draws(&x, distortion, DRAWS, 1000 + i as u64));
            of_draws.row_mut(i).assign(&block.map_axis(Axis(1), log_q));
            of_truth[i] = log_q(test.theta.row(i));
        }
        let log_prob = Some((of_truth.view(), of_draws.view()));
        let found = Validation::from_draws(&device, &["a", "b"], test.theta.view(), draws.view(), log_prob, 7).unwrap();
        (found.with_prior(&prior).unwrap(), test.x)
    }
}
