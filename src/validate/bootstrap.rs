//! Standard errors and bands by resampling rows. Resample b takes its rows from stream b of the seed.

use rand::RngExt;

use super::finding::{Curve, Estimate};
use crate::error::Error;
use crate::rng::Philox;

/// Resamples of a mean.
const MEANS: usize = 1000;
/// Resamples of a curve.
const CURVES: usize = 400;

/// Rows of one resample, drawn with replacement.
fn rows(n: usize, seed: u64, resample: usize) -> impl Iterator<Item = usize> {
    let mut rng = Philox::new(seed, resample as u64);
    (0..n).map(move |_| rng.random_range(0..n))
}

/// Mean and bootstrap standard error. An infinite value makes the mean infinite, and its error NaN.
pub(super) fn mean(values: &[f64], seed: u64) -> Estimate {
    let n = values.len() as f64;
    let resampled = |b| rows(values.len(), seed, b).map(|i| values[i]).sum::<f64>() / n;
    let means: Vec<f64> = (0..MEANS).map(resampled).collect();
    Estimate { value: values.iter().sum::<f64>() / n, error: deviation(&means) }
}

/// Standard deviation, by n - 1.
pub(super) fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()
}

/// The distribution function of numbers in (0, 1) at evenly spaced levels, between the quantiles of its resamples that
/// hold `confidence` at each level.
pub(super) fn curve(values: &[f64], levels: usize, confidence: f64, seed: u64) -> Result<Curve, Error> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::parameter("confidence", format!("{confidence} must lie between 0 and 1")));
    }
    let (n, levels) = (values.len(), levels.max(1));
    let distribution = |values: &mut dyn Iterator<Item = f64>| -> Vec<f64> {
        let counts = super::envelope::counts(&values.collect::<Vec<_>>(), levels);
        counts.iter().map(|&count| count as f64 / n as f64).collect()
    };
    let resamples: Vec<_> = (0..CURVES).map(|b| distribution(&mut rows(n, seed, b).map(|i| values[i]))).collect();
    let quantile = |q: f64| -> Vec<f64> {
        let at = |k: usize| {
            let mut values: Vec<f64> = resamples.iter().map(|curve| curve[k]).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[((CURVES - 1) as f64 * q).round() as usize]
        };
        (0..=levels).map(at).collect()
    };
    Ok(Curve {
        levels: (0..=levels).map(|k| k as f64 / levels as f64).collect(),
        values: distribution(&mut values.iter().copied()),
        lower: quantile(0.5 * (1.0 - confidence)),
        upper: quantile(0.5 * (1.0 + confidence)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_error_is_the_standard_error() {
        let values: Vec<f64> = (1..400).map(|i| crate::math::normal_quantile(f64::from(i) / 400.0)).collect();
        let estimate = mean(&values, 5);
        assert!(estimate.value.abs() < 1e-12);
        assert!((estimate.error - 1.0 / 400.0_f64.sqrt()).abs() < 0.004, "{}", estimate.error);
    }

    #[test]
    fn the_band_of_a_curve_has_binomial_width() {
        let values: Vec<f64> = (0..400).map(|i| (f64::from(i) + 0.5) / 400.0).collect();
        let curve = curve(&values, 4, 0.95, 3).unwrap();
        assert_eq!(curve.values, [0.0, 0.25, 0.5, 0.75, 1.0]);
        let expected = 2.0 * 1.96 * 0.5 / 20.0;
        assert!(((curve.upper[2] - curve.lower[2]) / expected - 1.0).abs() < 0.15, "{curve:?}");
    }
}
