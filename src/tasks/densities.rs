//! Densities with exact draws: what a density estimator or a sampler is tried on first.

use std::f64::consts::{PI, TAU};
use std::sync::LazyLock;

use ndarray::Array2;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::{Arc, ln_sum_exp};
use crate::math::normal_ln_pdf;
use crate::rng::Philox;

/// A density with a name; its columns have standard deviations of about 1.
///
/// ```
/// use retrodict::tasks::Target;
/// let draws = Target::TwoMoons.sample(100, 7);
/// assert_eq!(draws.dim(), (100, Target::TwoMoons.dim()));
/// assert!(Target::TwoMoons.log_prob(&[draws[[0, 0]], draws[[0, 1]]]).is_finite());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Two interleaved half rings: sharp ends, and a bend that no affine map straightens.
    TwoMoons,
    /// Eight narrow Gaussians of equal weight on a circle: separate modes.
    EightGaussians,
    /// Uniform on every other cell of a 4 x 4 board: edges and corners.
    Checkerboard,
    /// Four concentric rings of equal mass: holes in which nothing lies.
    Rings,
    /// Five correlated Gaussians in ten dimensions with weights 1/15 to 5/15.
    Mixture10,
}

impl Target {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 5] = [Self::TwoMoons, Self::EightGaussians, Self::Checkerboard, Self::Rings, Self::Mixture10];

    /// The number of columns.
    pub fn dim(self) -> usize {
        if self == Self::Mixture10 { 10 } else { 2 }
    }

    /// A name for headings.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoMoons => "two moons",
            Self::EightGaussians => "eight Gaussians",
            Self::Checkerboard => "checkerboard",
            Self::Rings => "rings",
            Self::Mixture10 => "Gaussian mixture in 10 dimensions",
        }
    }

    /// Independent draws, `[n x dim]`. Row i comes from stream i of `seed`.
    pub fn sample(self, n: usize, seed: u64) -> Array2<f64> {
        let law = self.law();
        let mut draws = Array2::zeros((n, self.dim()));
        for (i, mut row) in draws.rows_mut().into_iter().enumerate() {
            let drawn = law.draw(&mut Philox::new(seed, i as u64));
            row.iter_mut().zip(drawn).for_each(|(to, value)| *to = value);
        }
        draws
    }

    /// ln p(x) in nats, exact and normalised; -∞ where there is no mass, and for what is no point of the space (another
    /// length, numbers that are not finite).
    pub fn log_prob(self, x: &[f64]) -> f64 {
        let point = x.len() == self.dim() && x.iter().all(|v| v.is_finite());
        if point { self.law().ln_density(x) } else { f64::NEG_INFINITY }
    }

    /// The modes of the Gaussian mixtures; empty for the others.
    pub fn modes(self) -> Vec<Gaussian> {
        match self.law() {
            Law::Gaussians(modes) => modes.clone(),
            Law::Arcs(_) | Law::Board => Vec::new(),
        }
    }

    fn law(self) -> &'static Law {
        static LAWS: LazyLock<[Law; 5]> = LazyLock::new(|| Target::ALL.map(Law::of));
        &LAWS[self as usize]
    }
}

/// Mode k of [`Target::Mixture10`]: means on five waves, nearly orthogonal; deviations from 0.2 to 0.56, in another
/// order in each mode; neighbouring columns correlated, with the sign of alternate modes.
fn mode_of_ten(k: i32) -> Gaussian {
    let column = |f: &dyn Fn(i32) -> f64| (0..10).map(f).collect::<Vec<f64>>();
    let mean = column(&|j| 1.3 * (TAU * f64::from((k + 1) * (j + 1)) / 11.0).cos());
    let diagonal = column(&|j| 0.2 + 0.04 * f64::from((3 * j + 2 * k) % 10));
    let lean = column(&|_| if k % 2 == 0 { 0.7 } else { -0.7 });
    Gaussian::new(f64::from(k + 1) / 15.0, mean, diagonal, lean)
}

/// How a target is drawn and evaluated.
enum Law {
    /// Arcs of equal weight.
    Arcs(Vec<Arc>),
    Gaussians(Vec<Gaussian>),
    /// Cells of side 1 of [-2, 2]², those whose column and row add up to an even number.
    Board,
}

impl Law {
    fn of(target: Target) -> Self {
        match target {
            Target::TwoMoons => {
                let moon = |centre, angles| Arc { centre, radius: 1.2, sd: 0.12, angles };
                Self::Arcs(vec![moon([-0.6, -0.3], [0.0, PI]), moon([0.6, 0.3], [-PI, 0.0])])
            }
            Target::Rings => {
                let ring = |k: i32| Arc { centre: [0.0; 2], radius: 0.5 * f64::from(k), sd: 0.08, angles: [-PI, PI] };
                Self::Arcs((1..=4).map(ring).collect())
            }
            Target::EightGaussians => {
                let mode = |k: i32| {
                    let (sin, cos) = (TAU * f64::from(k) / 8.0).sin_cos();
                    Gaussian::new(1.0 / 8.0, vec![1.4 * cos, 1.4 * sin], vec![0.14; 2], vec![0.0; 2])
                };
                Self::Gaussians((0..8).map(mode).collect())
            }
            Target::Mixture10 => Self::Gaussians((0..5).map(mode_of_ten).collect()),
            Target::Checkerboard => Self::Board,
        }
    }

    fn draw(&self, rng: &mut impl Rng) -> Vec<f64> {
        match self {
            Self::Arcs(arcs) => arcs[rng.random_range(0..arcs.len())].draw(rng).to_vec(),
            Self::Gaussians(modes) => {
                let mut left: f64 = rng.random();
                let mode = modes.iter().find(|mode| {
                    left -= mode.weight;
                    left < 0.0
                });
                // Rounding may leave the weights' sum a hair below a draw close to 1.
                mode.unwrap_or(&modes[modes.len() - 1]).draw(rng)
            }
            Self::Board => {
                let (row, half): (i32, i32) = (rng.random_range(-2..2), rng.random_range(-1..1));
                let column = 2 * half + row.rem_euclid(2);
                vec![f64::from(column) + rng.random::<f64>(), f64::from(row) + rng.random::<f64>()]
            }
        }
    }

    fn ln_density(&self, x: &[f64]) -> f64 {
        match self {
            Self::Arcs(arcs) => {
                ln_sum_exp(arcs.iter().map(|arc| arc.ln_density([x[0], x[1]]))) - (arcs.len() as f64).ln()
            }
            Self::Gaussians(modes) => ln_sum_exp(modes.iter().map(|mode| mode.weight.ln() + mode.ln_density(x))),
            Self::Board => {
                let inside = x.iter().all(|v| (-2.0..2.0).contains(v));
                let even = (x[0].floor() + x[1].floor()).rem_euclid(2.0) == 0.0;
                if inside && even { -8.0_f64.ln() } else { f64::NEG_INFINITY }
            }
        }
    }
}

/// One mode of a mixture: x = mean + A z with z standard normal, where
/// $(A z)_j = d_j (z_j + l_j z_{j-1})$: each column leans on the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// Its part of the mixture's mass.
    pub weight: f64,
    /// Its mean, which is where it is densest.
    pub mean: Vec<f64>,
    diagonal: Vec<f64>,
    lean: Vec<f64>,
}

impl Gaussian {
    fn new(weight: f64, mean: Vec<f64>, diagonal: Vec<f64>, lean: Vec<f64>) -> Self {
        Self { weight, mean, diagonal, lean }
    }

    /// Mean, d and l of each column.
    fn columns(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        self.mean.iter().zip(&self.diagonal).zip(&self.lean).map(|((&m, &d), &l)| (m, d, l))
    }

    fn draw(&self, rng: &mut impl Rng) -> Vec<f64> {
        let mut before = 0.0;
        let value = |(mean, d, l)| {
            let z: f64 = rng.sample(StandardNormal);
            mean + d * (z + l * std::mem::replace(&mut before, z))
        };
        self.columns().map(value).collect()
    }

    /// ln N(x; mean, A Aᵀ): z by forward substitution, ln det A = Σ ln d.
    fn ln_density(&self, x: &[f64]) -> f64 {
        let mut z = 0.0;
        let term = |((mean, d, l), &x): ((f64, f64, f64), &f64)| {
            z = (x - mean) / d - l * z;
            normal_ln_pdf(z) - d.ln()
        };
        self.columns().zip(x).map(term).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{integral, misfit};
    use super::*;
    use ndarray::Axis;

    const PLANE: [Target; 4] = [Target::TwoMoons, Target::EightGaussians, Target::Checkerboard, Target::Rings];
    const VIEW: [f64; 4] = [-3.0, 3.0, -3.0, 3.0];

    #[test]
    fn densities_of_the_plane_integrate_to_one() {
        for target in PLANE {
            let total = integral(VIEW, 900, |x| target.log_prob(&x));
            assert!((total - 1.0).abs() < 1e-3, "{}: {total}", target.name());
        }
        let leaning = Gaussian::new(1.0, vec![0.3, -0.2], vec![0.4, 0.3], vec![9.0, -1.5]);
        assert!((integral([-4.0, 4.0, -4.0, 4.0], 400, |x| leaning.ln_density(&x)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn draws_follow_the_density() {
        for target in PLANE {
            let z = misfit(target.sample(20_000, 3).view(), VIEW, 24, |x| target.log_prob(&x));
            assert!(z.abs() < 4.0, "{}: chi-square {z} standard deviations from its mean", target.name());
        }
    }

    /// Stein's identity, E[∂ᵢ ln p (xⱼ - c)] = -δᵢⱼ for any c, ties draws and density in all ten dimensions.
    #[test]
    fn draws_of_ten_dimensions_follow_the_density() {
        let (target, n, h) = (Target::Mixture10, 40_000, 1e-4);
        let draws = target.sample(n, 4);
        let mut sums = Array2::<f64>::zeros((10, 10));
        for row in draws.rows() {
            let mut x = row.to_vec();
            for i in 0..10 {
                x[i] = row[i] + h;
                let above = target.log_prob(&x);
                x[i] = row[i] - h;
                let slope = (above - target.log_prob(&x)) / (2.0 * h);
                x[i] = row[i];
                (0..10).for_each(|j| sums[[i, j]] += slope * row[j] / n as f64);
            }
        }
        // A slope is of order 1 / d <= 5, with lean 7; a column of order 1.
        for ((i, j), sum) in sums.indexed_iter() {
            assert!((sum + f64::from(u8::from(i == j))).abs() < 5.0 * 7.0 / (n as f64).sqrt(), "({i}, {j}): {sum}");
        }
        let weights: f64 = target.modes().iter().map(|mode| mode.weight).sum();
        assert!((weights - 1.0).abs() < 1e-15);
    }

    #[test]
    fn columns_have_about_unit_scale() {
        for target in Target::ALL {
            let draws = target.sample(10_000, 5);
            assert_eq!(draws.ncols(), target.dim());
            for (mean, sd) in draws.mean_axis(Axis(0)).unwrap().iter().zip(draws.std_axis(Axis(0), 0.0)) {
                assert!(mean.abs() < 0.6 && (0.55..1.3).contains(&sd), "{}: {mean} ± {sd}", target.name());
            }
        }
    }

    #[test]
    fn rows_are_streams_of_their_own() {
        let many = Target::Rings.sample(50, 9);
        assert_eq!(many.slice(ndarray::s![..7, ..]), Target::Rings.sample(7, 9));
        assert_ne!(many, Target::Rings.sample(50, 10));
        assert_eq!(Target::Mixture10.sample(0, 1).dim(), (0, 10));
    }

    #[test]
    fn modes_are_where_the_density_is_highest() {
        for (target, number) in [(Target::EightGaussians, 8), (Target::Mixture10, 5)] {
            let modes = target.modes();
            assert_eq!(modes.len(), number);
            for mode in modes {
                let aside: Vec<f64> = mode.mean.iter().map(|m| m + 0.1).collect();
                assert!(target.log_prob(&mode.mean) > target.log_prob(&aside));
            }
        }
        assert!(Target::TwoMoons.modes().is_empty());
    }

    #[test]
    fn what_is_no_point_has_no_density() {
        for target in Target::ALL {
            for bad in [vec![], vec![0.0; 3], vec![f64::NAN; target.dim()], vec![f64::INFINITY; target.dim()]] {
                assert_eq!(target.log_prob(&bad), f64::NEG_INFINITY);
            }
            assert!(!target.log_prob(&vec![0.0; target.dim()]).is_nan());
            assert!(target.log_prob(&vec![1e300; target.dim()]) == f64::NEG_INFINITY);
        }
        assert!(Target::Rings.log_prob(&[0.0, 0.0]).is_finite());
    }
}
