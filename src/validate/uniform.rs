//! Are these numbers uniform, and if not, in which way?
//!
//! Every calibration diagnostic ends in one number u in (0, 1) for each test row, exactly uniform if the posterior is right:
//! a parameter's rank among the draws, the density's, a distance's. A rank r among L draws, r - 1 < (L + 1) u < r + 1,
//! is made continuous by adding a uniform number (randomised PIT; Czado, Gneiting & Held 2009), so that no test depends
//! on how many draws there were.

use std::ops::RangeInclusive;

use super::band::largest_distance;
use super::chi_square::{tails, upper_tail};
use super::envelope::{Envelope, bin_band, counts};
use super::finding::{Curve, Departure, Estimate, Histogram};
use crate::error::Error;
use crate::math::{normal_cdf, normal_quantile};

/// Points at which distribution functions are compared with the uniform one.
pub(super) const LEVELS: usize = 100;

/// The randomised rank of a number among draws of which some are below and some equal, given a uniform number.
///
/// It is divided by the number of draws, never by the largest rank that was seen.
pub(super) fn randomised_rank(below: usize, equal: usize, draws: usize, uniform: f64) -> f64 {
    (below as f64 + uniform * (equal + 1) as f64) / (draws + 1) as f64
}

/// A statistic with its p-value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tested {
    pub value: Estimate,
    pub p_value: f64,
}

/// Numbers of (0, 1) that are uniform if all is right. At least one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uniform<'a>(pub &'a [f64]);

impl Uniform<'_> {
    fn n(&self) -> f64 {
        self.0.len() as f64
    }

    fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.0.iter().map(|&u| f(u)).sum::<f64>() / self.n()
    }

    /// Largest distance from the uniform distribution function, with the binomial standard error of the worst place, and
    /// the p-value of the exact simultaneous envelope.
    pub fn distance(&self, envelope: &Envelope) -> Tested {
        let value = largest_distance(self.0.iter().copied());
        let spread = 0.25 - (0.5 * value).powi(2); // F (1 - F) with F and the level at equal distances from 1/2
        Tested { value: Estimate { value, error: (spread / self.n()).sqrt() }, p_value: envelope.p_value(self.0) }
    }

    /// Pearson's χ² of the counts in equal bins, over its degrees of freedom.
    pub fn chi_square(&self) -> Tested {
        let bins = (self.0.len() / 5).clamp(2, 20);
        let (counts, expected) = (counts(self.0, bins), self.n() / bins as f64);
        let chi2: f64 = counts.windows(2).map(|w| ((w[1] - w[0]) as f64 - expected).powi(2) / expected).sum();
        let freedom = (bins - 1) as f64;
        let value = Estimate { value: chi2 / freedom, error: (2.0 / freedom).sqrt() };
        Tested { value, p_value: upper_tail(chi2, freedom) }
    }

    /// Relative departure of the bins' counts, the part of χ² that chance does not explain: √((χ² - dof) / n).
    pub fn roughness(&self) -> f64 {
        let freedom = ((self.0.len() / 5).clamp(2, 20) - 1) as f64;
        ((self.chi_square().value.value - 1.0).max(0.0) * freedom / self.n()).sqrt()
    }

    /// Mean of Φ⁻¹(u), which is N(0, 1 / n): for a normal posterior, by how many of its standard deviations the truths lie
    /// above its centre.
    pub fn bias(&self) -> Tested {
        let (value, sd) = self.normal_moments();
        let p_value = 2.0 * normal_cdf(-value.abs() * self.n().sqrt());
        Tested { value: Estimate { value, error: sd / self.n().sqrt() }, p_value }
    }

    /// Standard deviation of Φ⁻¹(u), whose square times n - 1 is χ²: for a normal posterior, how many times wider the
    /// truths scatter than it says.
    pub fn spread(&self) -> Tested {
        let (_, value) = self.normal_moments();
        let freedom = self.n() - 1.0;
        let (narrower, wider) = tails(freedom * value * value, freedom);
        let p_value = if freedom > 0.0 { (2.0 * narrower.min(wider)).min(1.0) } else { 1.0 };
        Tested { value: Estimate { value, error: value / (2.0 * freedom.max(1.0)).sqrt() }, p_value }
    }

    fn normal_moments(&self) -> (f64, f64) {
        let mean = self.mean(normal_quantile);
        let variance = self.mean(|u| (normal_quantile(u) - mean).powi(2)) * self.n() / (self.n() - 1.0).max(1.0);
        (mean, variance.sqrt())
    }

    /// In which way they depart most: by their mean (ranks too high: draws too low), or by their spread.
    pub fn departure(&self) -> Departure {
        let n = self.n().sqrt();
        let mean = self.mean(|u| u);
        let location = (mean - 0.5) * n * 12.0_f64.sqrt();
        let scale = (self.mean(|u| (u - mean).powi(2)) - 1.0 / 12.0) * n * 180.0_f64.sqrt();
        match (location.abs() > scale.abs(), location > 0.0, scale > 0.0) {
            _ if location.abs().max(scale.abs()) < 2.0 => Departure::Other,
            (true, true, _) => Departure::TooLow,
            (true, false, _) => Departure::TooHigh,
            (false, _, true) => Departure::TooNarrow,
            (false, _, false) => Departure::TooWide,
        }
    }

    /// How many fall into each of equal bins, and the band in which all of them lie with at least this probability if all
    /// is right.
    pub fn histogram(&self, bins: usize, confidence: f64) -> Result<Histogram, Error> {
        let band = bin_band(self.0.len(), bins, confidence)?;
        let sums = counts(self.0, bins);
        Ok(Histogram {
            counts: sums.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            expected: self.n() / bins as f64,
            lower: *band.start(),
            upper: *band.end(),
        })
    }

    /// The distribution function at evenly spaced levels, between the counts of an envelope's band.
    pub fn curve(&self, band: &[RangeInclusive<usize>]) -> Curve {
        let levels = band.len() + 1;
        let fraction = |count: &usize| *count as f64 / self.n();
        let ends = |inner: Vec<f64>| [vec![0.0], inner, vec![1.0]].concat();
        Curve {
            levels: (0..=levels).map(|k| k as f64 / levels as f64).collect(),
            values: counts(self.0, levels).iter().map(fraction).collect(),
            lower: ends(band.iter().map(|range| fraction(range.start())).collect()),
            upper: ends(band.iter().map(|range| fraction(range.end())).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Philox;
    use rand::RngExt;

    #[test]
    fn the_bins_of_uniform_numbers_leave_their_band_as_seldom_as_it_says() {
        let mut rng = Philox::new(3, 0);
        let leaves = (0..2000).filter(|_| {
            let numbers: Vec<f64> = (0..200).map(|_| rng.random()).collect();
            let Histogram { counts, lower, upper, expected } = Uniform(&numbers).histogram(10, 0.9).unwrap();
            assert_eq!((counts.iter().sum::<usize>(), expected), (200, 20.0));
            counts.iter().any(|count| !(lower..=upper).contains(count))
        });
        let leaves = leaves.count();
        assert!((80..=200).contains(&leaves), "{leaves}"); // 10 % at most; counts are whole
        assert!(Uniform(&[0.5]).histogram(1, 0.9).is_err() && Uniform(&[0.5]).histogram(5, 1.0).is_err());
    }

    /// Φ(scale z + shift) for evenly spread normal z: ranks among a posterior that is `scale` times too narrow, and
    /// lies `shift` below the truth.
    fn ranks(scale: f64, shift: f64, n: u32) -> Vec<f64> {
        let z = (0..n).map(|i| normal_quantile((f64::from(i) + 0.5) / f64::from(n)));
        z.map(|z| normal_cdf(scale * z + shift).clamp(1e-12, 1.0 - 1e-12)).collect()
    }

    #[test]
    fn evenly_spread_numbers_pass_every_test() {
        let even = ranks(1.0, 0.0, 500);
        let even = Uniform(&even);
        for tested in [even.distance(&Envelope::new(500, LEVELS)), even.chi_square(), even.bias()] {
            assert!(tested.p_value > 0.9, "{tested:?}");
        }
        assert!((even.spread().value.value - 1.0).abs() < 0.02);
        assert_eq!(even.departure(), Departure::Other);
    }

    #[test]
    fn the_right_side_is_named() {
        for (scale, shift, side) in [
            (2.0, 0.0, Departure::TooNarrow),
            (0.5, 0.0, Departure::TooWide),
            (1.0, 0.5, Departure::TooLow),
            (1.0, -0.5, Departure::TooHigh),
            (1.0, 30.0, Departure::TooLow),
        ] {
            let found = ranks(scale, shift, 300);
            let found = Uniform(&found);
            assert_eq!(found.departure(), side);
            for tested in [found.distance(&Envelope::new(300, LEVELS)), found.chi_square()] {
                assert!(tested.p_value < 1e-6, "{scale} {shift}: {tested:?}");
            }
        }
    }

    #[test]
    fn bias_and_spread_are_in_units_of_the_posterior() {
        let found = ranks(1.5, 0.3, 2000);
        let (bias, spread) = (Uniform(&found).bias(), Uniform(&found).spread());
        assert!((bias.value.value - 0.3).abs() < 1e-3 && (spread.value.value - 1.5).abs() < 5e-3);
        assert!((spread.value.error - 1.5 / 4000.0_f64.sqrt()).abs() < 1e-3);
        assert!(bias.p_value < 1e-10 && spread.p_value < 1e-10);
    }

    #[test]
    fn a_single_number_says_nothing() {
        let one = Uniform(&[0.4]);
        for tested in [one.distance(&Envelope::new(1, LEVELS)), one.chi_square(), one.bias(), one.spread()] {
            assert!(tested.p_value > 0.1 && tested.value.value.is_finite(), "{tested:?}");
        }
    }

    #[test]
    fn ranks_are_divided_by_the_number_of_draws_whatever_ranks_were_seen() {
        // All truths below all draws of a hundred: not "uniform from 0 to the largest rank".
        assert_eq!(randomised_rank(0, 0, 99, 0.5), 0.005);
        assert_eq!(randomised_rank(99, 0, 99, 0.5), 0.995);
        // Among ties any rank is as likely.
        assert_eq!((randomised_rank(3, 4, 9, 0.0), randomised_rank(3, 4, 9, 1.0)), (0.3, 0.8));
    }

    #[test]
    fn curves_end_at_zero_and_one() {
        let found = ranks(1.0, 0.0, 100);
        let curve = Uniform(&found).curve(&Envelope::new(100, 10).band(0.95).unwrap());
        assert_eq!((curve.values[0], curve.values[10]), (0.0, 1.0));
        assert_eq!((curve.lower[0], curve.upper[10]), (0.0, 1.0));
        assert!((0..=10).all(|k| curve.lower[k] <= curve.values[k] && curve.values[k] <= curve.upper[k]));
    }
}
