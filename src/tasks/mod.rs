//! Problems whose answer is known, for tests, benches and lessons.
//!
//! - [`Target`]: densities that are hard to learn and easy to look at, with exact draws and log-densities.
//! - [`Task`]: simulators of the SBI benchmark (Lueckmann et al. 2021) whose posterior can be drawn from and evaluated
//!   exactly: [`TwoMoons`], [`GaussianLinear`], [`GaussianMixture`].

mod densities;
mod sbi;

pub use densities::{Gaussian, Target};
pub use sbi::{GaussianLinear, GaussianMixture, Task, TwoMoons};

use std::f64::consts::TAU;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::math::{normal_cdf, normal_ln_pdf};

/// An arc of a ring in the plane: the angle is uniform and the radius normal, given that it is positive.
///
/// In polar coordinates around the centre dx dy = ρ dρ dα, so the density is
/// $p = \mathcal N(\rho;\, r, \sigma^2) \,/\, (\Phi(r / \sigma)\, (\beta - \alpha)\, \rho)$ between the angles α and β.
#[derive(Clone, Copy, Debug)]
struct Arc {
    centre: [f64; 2],
    radius: f64,
    sd: f64,
    /// From, to, in radians; all of the ring if they are 2π apart.
    angles: [f64; 2],
}

impl Arc {
    fn draw(&self, rng: &mut impl Rng) -> [f64; 2] {
        let [from, to] = self.angles;
        let (sin, cos) = rng.random_range(from..to).sin_cos();
        let radius = loop {
            let radius = self.radius + self.sd * rng.sample::<f64, _>(StandardNormal);
            if radius > 0.0 {
                break radius;
            }
        };
        [self.centre[0] + radius * cos, self.centre[1] + radius * sin]
    }

    /// ln p. The pole 1 / ρ of the centre is cut off at the smallest float.
    fn ln_density(&self, x: [f64; 2]) -> f64 {
        let [dx, dy] = [x[0] - self.centre[0], x[1] - self.centre[1]];
        let (rho, [from, to]) = (dx.hypot(dy).max(f64::MIN_POSITIVE), self.angles);
        if (dy.atan2(dx) - from).rem_euclid(TAU) > to - from {
            return f64::NEG_INFINITY;
        }
        let ln_norm = (self.sd * normal_cdf(self.radius / self.sd) * (to - from)).ln();
        normal_ln_pdf((rho - self.radius) / self.sd) - ln_norm - rho.ln()
    }
}

/// Φ(b) - Φ(a) for a <= b, without cancellation in the upper tail.
fn normal_mass(a: f64, b: f64) -> f64 {
    if a > 0.0 { normal_cdf(-a) - normal_cdf(-b) } else { normal_cdf(b) - normal_cdf(a) }
}

/// ln Σ exp(v), without overflow; -∞ for no terms.
fn ln_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() { largest } else { largest + values.map(|v| (v - largest).exp()).sum::<f64>().ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayView2;

    /// Midpoint rule for exp of `ln_density` over [x0, x1] x [y0, y1] with n x n points.
    pub(super) fn integral([x0, x1, y0, y1]: [f64; 4], n: usize, ln_density: impl Fn([f64; 2]) -> f64) -> f64 {
        let (dx, dy) = ((x1 - x0) / n as f64, (y1 - y0) / n as f64);
        let point = |k: usize| [x0 + (0.5 + (k % n) as f64) * dx, y0 + (0.5 + (k / n) as f64) * dy];
        (0..n * n).map(|k| ln_density(point(k)).exp()).sum::<f64>() * dx * dy
    }

    /// Points of the midpoint rule along a cell's side in [`misfit`].
    pub(super) const POINTS: usize = 50;

    /// Pearson's chi-square of draws in `cells` x `cells` cells against the density's mass in each, as the number of
    /// standard deviations by which it exceeds its mean. What lies outside, or in cells that expect few, is one cell.
    pub(super) fn misfit(
        draws: ArrayView2<'_, f64>,
        [x0, x1, y0, y1]: [f64; 4],
        cells: usize,
        ln_density: impl Fn([f64; 2]) -> f64,
    ) -> f64 {
        let (w, h) = ((x1 - x0) / cells as f64, (y1 - y0) / cells as f64);
        let total = draws.nrows() as f64;
        let mut counts = vec![0.0; cells * cells];
        for row in draws.rows() {
            let (i, j) = (((row[0] - x0) / w).floor(), ((row[1] - y0) / h).floor());
            if (0.0..cells as f64).contains(&i) && (0.0..cells as f64).contains(&j) {
                counts[j as usize * cells + i as usize] += 1.0;
            }
        }
        let (mut rest, mut chi2, mut freedom) = ([total, total], 0.0, 0.0);
        let mut compare = |count: f64, expected: f64| {
            chi2 += (count - expected).powi(2) / expected;
            freedom += 1.0;
        };
        for (k, &count) in counts.iter().enumerate() {
            let (left, low) = (x0 + w * (k % cells) as f64, y0 + h * (k / cells) as f64);
            let expected = total * integral([left, left + w, low, low + h], POINTS, &ln_density);
            if expected >= 10.0 {
                compare(count, expected);
                rest = [rest[0] - count, rest[1] - expected];
            }
        }
        if rest[1] >= 10.0 {
            compare(rest[0], rest[1]);
        } else {
            assert!(rest[0] < 40.0, "{} draws where {} are expected", rest[0], rest[1]);
        }
        (chi2 - (freedom - 1.0)) / (2.0 * (freedom - 1.0)).sqrt()
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        assert!((ln_sum_exp([1e4, 1e4].into_iter()) - 1e4 - 2.0_f64.ln()).abs() < 1e-11);
        assert!((ln_sum_exp([-1e4, f64::NEG_INFINITY].into_iter()) + 1e4).abs() < 1e-11);
        assert_eq!(ln_sum_exp([f64::NEG_INFINITY; 3].into_iter()), f64::NEG_INFINITY);
        assert_eq!(ln_sum_exp([].into_iter()), f64::NEG_INFINITY);
    }

    #[test]
    fn the_upper_tail_has_the_mass_of_the_lower() {
        assert_eq!(normal_mass(20.0, 21.0), normal_mass(-21.0, -20.0));
        assert!(normal_mass(20.0, 21.0) > 0.0);
        assert!((normal_mass(-1.0, 2.0) - 0.818_594_614_120_364).abs() < 1e-12);
    }
}
