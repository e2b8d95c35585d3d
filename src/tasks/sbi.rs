//! Simulators of the SBI benchmark with exact posteriors.
//!
//! Source: Lueckmann, Boelts, Greenberg, Gonçalves and Macke, *Benchmarking simulation-based inference* (2021). There
//! the references are themselves samples of closed forms or of long Markov chains; here every draw is independent and
//! every density normalised.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI, SQRT_2};

use ndarray::{Array1, Array2, ArrayView2};
use rand::RngExt;
use rand_distr::StandardNormal;

use super::{Arc, ln_sum_exp, normal_mass};
use crate::error::{Error, check_length};
use crate::math::normal_ln_pdf;
use crate::rng::Philox;
use crate::sbi::Prior;
use crate::sbi::prior::PriorBuilder;

/// A simulator whose posterior is known.
///
/// ```
/// use retrodict::{Device, simulate, tasks::{Task, TwoMoons}};
/// let simulations = simulate(&Device::cpu(), &TwoMoons.prior()?, 100, 1, |t, rng| TwoMoons.simulate(t, rng))?;
/// let x = simulations.x.row(0).to_vec();
/// let exact = TwoMoons.posterior_sample(&x, 500, 2)?;
/// let densities = TwoMoons.posterior_log_prob(exact.view(), &x)?;
/// assert!(densities.iter().all(|d| d.is_finite()));
/// # Ok::<(), retrodict::Error>(())
/// ```
pub trait Task: Sync {
    /// A name for headings.
    fn name(&self) -> &'static str;

    /// What is known about the parameters before anything is observed.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the task's own settings cannot be.
    fn prior(&self) -> Result<Prior, Error>;

    /// One observation of one parameter vector; NaN if the vector's length is not the prior's.
    fn simulate(&self, theta: &[f64], rng: &mut Philox) -> Vec<f64>;

    /// Independent draws of p(θ | x), `[draws x parameters]`. Row i comes from stream i of `seed`.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::NonFinite`] if `x` cannot be an observation, and [`Error::OutsideSupport`] if no
    /// parameters within the prior explain it.
    fn posterior_sample(&self, x: &[f64], draws: usize, seed: u64) -> Result<Array2<f64>, Error>;

    /// ln p(θ | x) in nats of each row of `theta`, normalised; -∞ outside the prior.
    ///
    /// # Errors
    /// As [`Task::posterior_sample`], and [`Error::Length`] if `theta` has not the prior's number of columns.
    fn posterior_log_prob(&self, theta: ArrayView2<'_, f64>, x: &[f64]) -> Result<Array1<f64>, Error>;
}

/// θ ~ U(-1, 1)², x = (r cos α + 1/4, r sin α) + (-|θ₁ + θ₂|, θ₂ - θ₁) / √2 with α ~ U(-π/2, π/2) and
/// r ~ N(0.1, 0.01²): the posterior is two crescents, each thinner than a fiftieth of the prior.
///
/// In the coordinates s = (θ₁ + θ₂) / √2 and d = (θ₂ - θ₁) / √2, a rotation, x = p + (-|s|, d) with p on a crescent:
/// given x, each p gives d and |s|, and both signs of s are equally probable. Those within the prior remain. (The
/// simulator's r is positive but for one draw in 10²³; here it always is.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwoMoons;

impl TwoMoons {
    const CRESCENT: Arc = Arc { centre: [0.25, 0.0], radius: 0.1, sd: 0.01, angles: [-FRAC_PI_2, FRAC_PI_2] };

    /// ln p(x | θ) of one parameter vector in nats.
    pub fn log_likelihood(&self, theta: &[f64], x: &[f64]) -> f64 {
        let ([s, d], [x0, x1]) = (rotate(pair(theta)), pair(x));
        Self::CRESCENT.ln_density([x0 + s.abs(), x1 - d])
    }

    /// The probability that a point p of the crescent, given x, belongs to parameters within the prior.
    ///
    /// For a given angle, s >= 0 and |s| + |d| <= √2 (the prior's square, turned) bound the radius from both sides, and
    /// its normal mass is in closed form; over the angle by the midpoint rule, relative error about 1e-6.
    fn mass_within(&self, [x0, x1]: [f64; 2]) -> f64 {
        const ANGLES: u32 = 2000;
        let Arc { centre: [shift, _], radius, sd, .. } = Self::CRESCENT;
        let mass = |k: u32| {
            let (sin, cos) = (PI * ((f64::from(k) + 0.5) / f64::from(ANGLES) - 0.5)).sin_cos();
            // Each rule is a r <= b, with s = shift + r cos - x0 and d = x1 - r sin.
            let edge = SQRT_2 - shift + x0;
            let rules = [(-1.0, 0.0), (-cos, shift - x0), (cos - sin, edge - x1), (cos + sin, edge + x1)];
            let (mut low, mut high) = (0.0_f64, f64::INFINITY);
            for (a, b) in rules {
                match a {
                    a if a > 0.0 => high = high.min(b / a),
                    a if a < 0.0 => low = low.max(b / a),
                    _ if b < 0.0 => high = f64::NEG_INFINITY,
                    _ => {}
                }
            }
            if low < high { normal_mass((low - radius) / sd, (high - radius) / sd) } else { 0.0 }
        };
        (0..ANGLES).map(mass).sum::<f64>() / f64::from(ANGLES)
    }

    /// x as two numbers, and the mass of its posterior within the prior.
    fn observe(&self, x: &[f64]) -> Result<([f64; 2], f64), Error> {
        /// Less is seen in about one of 10⁵ observations.
        const LEAST: f64 = 1e-5;
        check_observation(x, 2)?;
        let mass = self.mass_within(pair(x));
        if mass < LEAST { Err(unexplained(x)) } else { Ok((pair(x), mass)) }
    }
}

impl Task for TwoMoons {
    fn name(&self) -> &'static str {
        "two moons"
    }

    fn prior(&self) -> Result<Prior, Error> {
        square(1.0)
    }

    fn simulate(&self, theta: &[f64], rng: &mut Philox) -> Vec<f64> {
        let ([s, d], [p0, p1]) = (rotate(pair(theta)), Self::CRESCENT.draw(rng));
        vec![p0 - s.abs(), p1 + d]
    }

    fn posterior_sample(&self, x: &[f64], draws: usize, seed: u64) -> Result<Array2<f64>, Error> {
        let ([x0, x1], _) = self.observe(x)?;
        Ok(rows(draws, seed, 2, |rng| {
            loop {
                let [p0, p1] = Self::CRESCENT.draw(rng);
                let (s, d) = (if rng.random() { p0 - x0 } else { x0 - p0 }, x1 - p1);
                if p0 >= x0 && s.abs() + d.abs() <= SQRT_2 {
                    break vec![FRAC_1_SQRT_2 * (s - d), FRAC_1_SQRT_2 * (s + d)];
                }
            }
        }))
    }

    fn posterior_log_prob(&self, theta: ArrayView2<'_, f64>, x: &[f64]) -> Result<Array1<f64>, Error> {
        let (_, mass) = self.observe(x)?;
        let prior = self.prior()?;
        // Both signs of s: over all θ the likelihood integrates to twice the crescent's mass.
        densities(theta, 2, |theta| {
            let inside = prior.support().contains(theta);
            if inside { self.log_likelihood(theta, x) - (2.0 * mass).ln() } else { f64::NEG_INFINITY }
        })
    }
}

/// θ ~ N(0, 0.1 I), x ~ N(θ, 0.1 I), both variances: the posterior is N(x / 2, 0.05 I).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaussianLinear {
    /// Number of parameters and of features; 10 in the benchmark.
    pub dim: usize,
}

impl Default for GaussianLinear {
    fn default() -> Self {
        Self { dim: 10 }
    }
}

impl GaussianLinear {
    const VARIANCE: f64 = 0.1;
}

impl Task for GaussianLinear {
    fn name(&self) -> &'static str {
        "Gaussian linear"
    }

    fn prior(&self) -> Result<Prior, Error> {
        let add = |prior: PriorBuilder, j| prior.normal(&name(j), 0.0, Self::VARIANCE.sqrt());
        (0..self.dim).fold(Prior::new(), add).build()
    }

    fn simulate(&self, theta: &[f64], rng: &mut Philox) -> Vec<f64> {
        let sd = if theta.len() == self.dim { Self::VARIANCE.sqrt() } else { f64::NAN };
        (0..self.dim).map(|j| theta.get(j).unwrap_or(&0.0) + sd * rng.sample::<f64, _>(StandardNormal)).collect()
    }

    fn posterior_sample(&self, x: &[f64], draws: usize, seed: u64) -> Result<Array2<f64>, Error> {
        check_observation(x, self.dim)?;
        let sd = (0.5 * Self::VARIANCE).sqrt();
        let draw = |rng: &mut Philox| x.iter().map(|x| 0.5 * x + sd * rng.sample::<f64, _>(StandardNormal)).collect();
        Ok(rows(draws, seed, self.dim, draw))
    }

    fn posterior_log_prob(&self, theta: ArrayView2<'_, f64>, x: &[f64]) -> Result<Array1<f64>, Error> {
        check_observation(x, self.dim)?;
        let sd = (0.5 * Self::VARIANCE).sqrt();
        densities(theta, self.dim, |theta| {
            theta.iter().zip(x).map(|(t, x)| normal_ln_pdf((t - 0.5 * x) / sd) - sd.ln()).sum()
        })
    }
}

/// θ ~ U(-10, 10)², x ~ ½ N(θ, I) + ½ N(θ, 0.01 I), variances: a needle in a haystack of the same centre.
///
/// The posterior is a mixture of the two normals around x, cut off at the prior's bounds; each weighs as much as the
/// part of it that lies within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaussianMixture;

impl GaussianMixture {
    const BOUND: f64 = 10.0;
    const SDS: [f64; 2] = [1.0, 0.1];

    /// Weights and laws of the posterior's parts.
    fn parts(&self, x: &[f64]) -> Result<Vec<(f64, Prior)>, Error> {
        check_observation(x, 2)?;
        let (x, bound) = (pair(x), Self::BOUND);
        let mut parts = Vec::with_capacity(2);
        for sd in Self::SDS {
            let within: f64 = x.iter().map(|x| normal_mass((-bound - x) / sd, (bound - x) / sd)).product();
            // Beyond 30 sd a normal has no mass that a float can hold.
            if within > 0.0 && x.iter().all(|x| x.abs() < bound + 30.0 * sd) {
                let part = Prior::new().truncated_normal(&name(0), x[0], sd, -bound, bound);
                parts.push((within, part.truncated_normal(&name(1), x[1], sd, -bound, bound).build()?));
            }
        }
        let total: f64 = parts.iter().map(|part| part.0).sum();
        parts.iter_mut().for_each(|part| part.0 /= total);
        if parts.is_empty() { Err(unexplained(&x)) } else { Ok(parts) }
    }
}

impl Task for GaussianMixture {
    fn name(&self) -> &'static str {
        "Gaussian mixture"
    }

    fn prior(&self) -> Result<Prior, Error> {
        square(Self::BOUND)
    }

    fn simulate(&self, theta: &[f64], rng: &mut Philox) -> Vec<f64> {
        let sd = Self::SDS[usize::from(rng.random::<bool>())];
        pair(theta).iter().map(|t| t + sd * rng.sample::<f64, _>(StandardNormal)).collect()
    }

    fn posterior_sample(&self, x: &[f64], draws: usize, seed: u64) -> Result<Array2<f64>, Error> {
        let parts = self.parts(x)?;
        Ok(rows(draws, seed, 2, |rng| {
            let first = rng.random::<f64>() < parts[0].0;
            let mut theta = vec![0.0; 2];
            let part = if first { &parts[0] } else { &parts[parts.len() - 1] };
            part.1.sample(rng, &mut theta).expect("theta has two columns");
            theta
        }))
    }

    fn posterior_log_prob(&self, theta: ArrayView2<'_, f64>, x: &[f64]) -> Result<Array1<f64>, Error> {
        let parts = self.parts(x)?;
        densities(theta, 2, |theta| ln_sum_exp(parts.iter().map(|(weight, part)| weight.ln() + part.log_prob(theta))))
    }
}

/// The name of parameter j.
fn name(j: usize) -> String {
    format!("θ{}", j + 1)
}

/// Two parameters, uniform from -bound to bound.
fn square(bound: f64) -> Result<Prior, Error> {
    Prior::new().uniform(&name(0), -bound, bound).uniform(&name(1), -bound, bound).build()
}

/// The first two numbers of exactly two; NaN otherwise.
fn pair(values: &[f64]) -> [f64; 2] {
    values.try_into().unwrap_or([f64::NAN; 2])
}

/// (s, d) = (θ₁ + θ₂, θ₂ - θ₁) / √2
fn rotate([a, b]: [f64; 2]) -> [f64; 2] {
    [FRAC_1_SQRT_2 * (a + b), FRAC_1_SQRT_2 * (b - a)]
}

fn check_observation(x: &[f64], dim: usize) -> Result<(), Error> {
    check_length("x columns", dim, x.len())?;
    match x.iter().position(|v| !v.is_finite()) {
        Some(column) => Err(Error::NonFinite { what: "x", row: 0, column }),
        None => Ok(()),
    }
}

fn unexplained(x: &[f64]) -> Error {
    let why = format!("{x:?} lies so far from every simulation that no parameters within the prior explain it");
    Error::OutsideSupport { name: "x".into(), row: 0, why }
}

/// A table whose row i is drawn from stream i.
fn rows(draws: usize, seed: u64, dim: usize, draw: impl Fn(&mut Philox) -> Vec<f64>) -> Array2<f64> {
    let mut table = Array2::zeros((draws, dim));
    for (i, mut row) in table.rows_mut().into_iter().enumerate() {
        let drawn = draw(&mut Philox::new(seed, i as u64));
        row.iter_mut().zip(drawn).for_each(|(to, value)| *to = value);
    }
    table
}

/// `ln_density` of each row of a table of `dim` columns.
fn densities(theta: ArrayView2<'_, f64>, dim: usize, ln_density: impl Fn(&[f64]) -> f64) -> Result<Array1<f64>, Error> {
    check_length("theta columns", dim, theta.ncols())?;
    Ok(theta.rows().into_iter().map(|row| ln_density(&row.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{POINTS, integral, misfit};
    use super::*;
    use crate::validate::{pit, simultaneous_band};

    fn tasks() -> [Box<dyn Task>; 3] {
        [Box::new(TwoMoons), Box::new(GaussianLinear { dim: 3 }), Box::new(GaussianMixture)]
    }

    fn posterior(task: &dyn Task, theta: [f64; 2], x: &[f64]) -> f64 {
        task.posterior_log_prob(ndarray::arr2(&[theta]).view(), x).unwrap()[0]
    }

    /// If θ ~ prior and x ~ simulator, θ's rank among exact posterior draws is uniform (Talts et al. 2018). This ties
    /// the draws to the simulator, whatever the formulas say.
    #[test]
    fn ranks_among_the_draws_are_uniform() {
        let (repeats, draws) = (1500, 60);
        for task in tasks() {
            let prior = task.prior().unwrap();
            let mut ranks = Array2::zeros((repeats, prior.dim()));
            for (i, mut row) in ranks.rows_mut().into_iter().enumerate() {
                let mut rng = Philox::new(11, i as u64);
                let mut theta = vec![0.0; prior.dim()];
                prior.sample(&mut rng, &mut theta).unwrap();
                let x = task.simulate(&theta, &mut rng);
                let draws = task.posterior_sample(&x, draws, i as u64 + 100).unwrap();
                row.assign(&pit(draws.view(), Array1::from(theta).view()));
            }
            let band = simultaneous_band(repeats, 0.999).unwrap() + 1.0 / draws as f64;
            for column in ranks.columns() {
                let mut sorted = column.to_vec();
                sorted.sort_by(f64::total_cmp);
                for (i, rank) in sorted.iter().enumerate() {
                    let gap = (rank - (i as f64 + 0.5) / repeats as f64).abs();
                    assert!(gap < band, "{}: {gap} at {rank}", task.name());
                }
            }
        }
    }

    /// Observations in the middle, at an edge that cuts a crescent, and where both crescents meet.
    const MOONS: [[f64; 2]; 4] = [[0.0, 0.0], [-0.9, 0.2], [-1.05, 0.02], [0.3, 0.05]];

    /// Prior times likelihood, integrated in (s, d), where the crescents' sharp ends lie along the grid; both signs of s.
    #[test]
    fn two_moons_is_prior_times_likelihood() {
        for x in MOONS {
            let joint = |[s, d]: [f64; 2]| {
                let theta = [FRAC_1_SQRT_2 * (s - d), FRAC_1_SQRT_2 * (s + d)];
                let inside = theta.iter().all(|t| t.abs() <= 1.0);
                if inside { TwoMoons.log_likelihood(&theta, &x) - 4.0_f64.ln() } else { f64::NEG_INFINITY }
            };
            let near = (0.25 - x[0]).max(0.0);
            // Steps of no simple ratio, so that the prior's bounds, at 45 degrees, meet points at every distance.
            let window = [near, near + 0.173, x[1] - 0.16, x[1] + 0.16];
            let evidence = (2.0 * integral(window, 1200, joint)).ln();
            for theta in TwoMoons.posterior_sample(&x, 50, 5).unwrap().rows() {
                let (theta, found) = ([theta[0], theta[1]], posterior(&TwoMoons, [theta[0], theta[1]], &x));
                let exact = joint(rotate(theta)) - evidence;
                assert!((found - exact).abs() < 2e-3, "{x:?}: {found}, not {exact}");
            }
        }
        assert_eq!(posterior(&TwoMoons, [1.1, 0.0], &MOONS[0]), f64::NEG_INFINITY);
    }

    #[test]
    fn draws_of_two_moons_follow_its_likelihood_on_a_grid() {
        let square = [-1.0, 1.0, -1.0, 1.0];
        for x in MOONS {
            // The grid of the cells below: what it makes of the crescents' sharp ends cancels out.
            let evidence = integral(square, 40 * POINTS, |theta| TwoMoons.log_likelihood(&theta, &x)).ln();
            let draws = TwoMoons.posterior_sample(&x, 20_000, 5).unwrap();
            let z = misfit(draws.view(), square, 40, |theta| TwoMoons.log_likelihood(&theta, &x) - evidence);
            assert!(z.abs() < 4.0, "{x:?}: chi-square {z} standard deviations from its mean");
        }
    }

    #[test]
    fn two_moons_has_the_likelihood_of_its_simulator() {
        let theta = [0.4, -0.7];
        let x = rows(20_000, 6, 2, |rng| TwoMoons.simulate(&theta, rng));
        let view = [0.0, 0.2, -0.9, -0.65];
        let z = misfit(x.view(), view, 20, |x| TwoMoons.log_likelihood(&theta, &x));
        assert!(z.abs() < 4.0, "chi-square {z} standard deviations from its mean");
    }

    #[test]
    fn gaussian_linear_is_prior_times_likelihood() {
        let task = GaussianLinear { dim: 2 };
        let (prior, x) = (task.prior().unwrap(), [0.3, -0.8]);
        let sd = 0.1_f64.sqrt();
        let constant = |theta: [f64; 2]| {
            let likelihood: f64 = theta.iter().zip(x).map(|(t, x)| normal_ln_pdf((x - t) / sd) - sd.ln()).sum();
            prior.log_prob(&theta) + likelihood - posterior(&task, theta, &x)
        };
        // The evidence, N(x; 0, 0.2 I).
        let wide = 0.2_f64.sqrt();
        let evidence: f64 = x.iter().map(|x| normal_ln_pdf(x / wide) - wide.ln()).sum();
        for theta in [[0.0, 0.0], [0.5, -0.5], [-1.0, 0.2]] {
            assert!((constant(theta) - evidence).abs() < 1e-12);
        }
        let draws = task.posterior_sample(&x, 20_000, 7).unwrap();
        let z = misfit(draws.view(), [-1.0, 1.5, -1.5, 1.0], 12, |theta| posterior(&task, theta, &x));
        assert!(z.abs() < 4.0, "chi-square {z} standard deviations from its mean");
    }

    #[test]
    fn gaussian_mixture_is_prior_times_likelihood_also_at_the_edge() {
        for x in [[0.5, -3.0], [9.9, -9.95], [10.2, 12.0]] {
            let likelihood = |theta: [f64; 2]| {
                let part = |sd: f64| -> f64 { (0..2).map(|j| normal_ln_pdf((x[j] - theta[j]) / sd) - sd.ln()).sum() };
                ln_sum_exp([part(1.0), part(0.1)].into_iter()) - 2.0_f64.ln()
            };
            // A window around x within the prior; beyond seven standard deviations nothing is left.
            let view = [x[0] - 7.0, (x[0] + 7.0).min(10.0), (x[1] - 7.0).max(-10.0), (x[1] + 7.0).min(10.0)];
            let evidence = integral(view, 1000, likelihood).ln();
            let exact = |theta: [f64; 2]| likelihood(theta) - evidence;
            let inside = [view[1] - 0.05, 0.5 * (view[2] + view[3])];
            assert!((posterior(&GaussianMixture, inside, &x) - exact(inside)).abs() < 3e-4);
            let draws = GaussianMixture.posterior_sample(&x, 20_000, 8).unwrap();
            let z = misfit(draws.view(), view, 40, exact);
            assert!(z.abs() < 4.0, "{x:?}: chi-square {z} standard deviations from its mean");
        }
        assert_eq!(posterior(&GaussianMixture, [10.5, 0.0], &[9.9, 0.0]), f64::NEG_INFINITY);
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(GaussianLinear { dim: 0 }.prior().is_err());
        for task in tasks() {
            let dim = task.prior().unwrap().dim();
            let x = vec![f64::NAN; dim];
            assert_eq!(task.posterior_sample(&x, 1, 0), Err(Error::NonFinite { what: "x", row: 0, column: 0 }));
            assert!(matches!(task.posterior_sample(&[], 1, 0), Err(Error::Length { what: "x columns", .. })));
            let wrong = Array2::zeros((2, dim + 1));
            let found = task.posterior_log_prob(wrong.view(), &vec![0.0; dim]);
            assert!(matches!(found, Err(Error::Length { what: "theta columns", .. })));
            assert_eq!(task.posterior_sample(&vec![0.0; dim], 0, 0).unwrap().dim(), (0, dim));
            let short = task.simulate(&[0.0], &mut Philox::new(0, 0));
            assert!(short.iter().all(|x| x.is_nan()));
        }
        for task in [&TwoMoons as &dyn Task, &GaussianMixture] {
            let far = task.posterior_sample(&[1e6, 0.0], 1, 0);
            assert!(matches!(far, Err(Error::OutsideSupport { row: 0, .. })), "{far:?}");
        }
    }
}
