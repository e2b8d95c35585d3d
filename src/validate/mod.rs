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
mod convergence;
mod envelope;
mod finding;
mod mmd;
mod mode_coverage;
mod pit;
mod pqmass;
mod samples;
mod tarp;
mod uniform;
mod validation;
mod wasserstein;

pub use band::simultaneous_band;
pub use c2st::C2st;
pub use convergence::{Convergence, convergence};
pub use finding::{Curve, Departure, Estimate, Finding, Verdict};
pub use mmd::{Mmd, MmdTest};
pub use mode_coverage::{ModeCoverage, expected_coverage};
pub use pit::pit;
pub use pqmass::{PqMass, PqMassTest};
pub use validation::{TestDensities, Validation};
pub use wasserstein::{SlicedWasserstein, WassersteinTest};

#[cfg(test)]
mod tests {
    use crate::rng::{Noise, NoiseId};
    use ndarray::Array2;

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
}
