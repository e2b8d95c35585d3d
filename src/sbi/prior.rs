//! What is known about the parameters before anything is observed.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma, Open01, StandardNormal};

use super::scalar::Scalar;
use super::shares::Shares;
#[cfg(feature = "weights")]
use super::support::Named;
use super::support::{Support, SupportBuilder};
use crate::error::{Error, check_length};

/// Named parameters with independent laws, single or in blocks.
///
/// In the coordinates `u` of its [`support`](Prior::support) every law of one parameter, and a
/// Dirichlet law with all concentrations one, is exactly the standard normal.
///
/// ```
/// use rand::{SeedableRng, rngs::SmallRng};
/// use retrodict::Prior;
///
/// let prior = Prior::new()
///     .uniform("log_mass", 8.0, 12.0)
///     .truncated_normal("dust", 0.3, 1.0, 0.0, 4.0)
///     .ordered_dirichlet(&["t25", "t50", "t75"], &[1.0; 4])
///     .build()?;
/// let mut theta = [0.0; 5];
/// prior.sample(&mut SmallRng::seed_from_u64(1), &mut theta);
/// assert!(prior.support().contains(&theta) && prior.log_prob(&theta).is_finite());
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<Named<Law>>", into = "Vec<Named<Law>>")
)]
pub struct Prior {
    support: Support,
    /// One for each block of the support.
    laws: Vec<Law>,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(untagged))]
pub(super) enum Law {
    Scalar(Scalar),
    Dirichlet(Dirichlet),
}

#[cfg(feature = "weights")]
impl From<Prior> for Vec<Named<Law>> {
    fn from(prior: Prior) -> Self {
        let names = prior.support.columns().map(|columns| prior.support.names()[columns].to_vec());
        names.zip(prior.laws.clone()).map(|(names, law)| Named { names, law }).collect()
    }
}

#[cfg(feature = "weights")]
impl TryFrom<Vec<Named<Law>>> for Prior {
    type Error = Error;

    fn try_from(blocks: Vec<Named<Law>>) -> Result<Self, Error> {
        let add = |builder: PriorBuilder, Named { names, law }: Named<Law>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match law {
                Law::Scalar(scalar) => builder.scalar(names.first().unwrap_or(&""), scalar),
                Law::Dirichlet(Dirichlet { form, alpha, .. }) => builder.shares(&names, form, &alpha),
            }
        };
        if let Some(block) = blocks.iter().find(|b| matches!(b.law, Law::Scalar(_)) && b.names.len() != 1) {
            return Err(Error::parameter(block.names.join(", "), "this law is that of a single name"));
        }
        blocks.into_iter().fold(Prior::new(), add).build()
    }
}

impl Prior {
    /// Starts an empty list of parameters; add some, then [`build`](PriorBuilder::build).
    #[expect(clippy::new_ret_no_self, reason = "an empty prior is not a prior yet")]
    pub fn new() -> PriorBuilder {
        PriorBuilder { support: Support::new(), laws: Vec::new() }
    }

    /// The number of parameters.
    pub fn dim(&self) -> usize {
        self.support.dim()
    }

    /// The parameters' names, one for each column.
    pub fn names(&self) -> &[String] {
        self.support.names()
    }

    /// Where the prior is not zero, with the bijection to unconstrained coordinates.
    pub fn support(&self) -> &Support {
        &self.support
    }

    /// The columns and the law of each block.
    #[cfg(feature = "toml")]
    pub(super) fn blocks(&self) -> impl Iterator<Item = (std::ops::Range<usize>, &Law)> {
        self.support.columns().zip(&self.laws)
    }

    /// Draws one row of parameters.
    ///
    /// # Errors
    /// [`Error::Length`] unless `theta` has [`dim`](Self::dim) values.
    pub fn sample<R: Rng + ?Sized>(&self, rng: &mut R, theta: &mut [f64]) -> Result<(), Error> {
        check_length("theta columns", self.dim(), theta.len())?;
        for (columns, law) in self.support.columns().zip(&self.laws) {
            let theta = &mut theta[columns];
            match law {
                Law::Scalar(scalar) => theta[0] = scalar.constrain(rng.sample(StandardNormal)),
                Law::Dirichlet(dirichlet) => dirichlet.sample(rng, theta),
            }
        }
        Ok(())
    }

    /// `ln p(theta)`, normalised; `-inf` where [`Support::contains`] says no.
    ///
    /// A share that is zero is read as the smallest float above zero, so that a density which is
    /// zero or infinite there stays finite.
    pub fn log_prob(&self, theta: &[f64]) -> f64 {
        if !self.support.contains(theta) {
            return f64::NEG_INFINITY;
        }
        let blocks = self.support.columns().zip(&self.laws);
        let ln_densities = blocks.map(|(columns, law)| match law {
            Law::Scalar(scalar) => scalar.ln_density(theta[columns.start]),
            Law::Dirichlet(dirichlet) => dirichlet.ln_density(&theta[columns]),
        });
        ln_densities.sum()
    }
}

/// The Dirichlet law of `K` shares, its density
/// $\Gamma(\sum_k \alpha_k) \prod_k g_k^{\alpha_k - 1} / \Gamma(\alpha_k)$.
///
/// Running sums of the shares are a map of determinant one, so both forms have this density.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "DirichletForm", into = "DirichletForm")
)]
pub(super) struct Dirichlet {
    pub(super) form: Shares,
    pub(super) alpha: Vec<f64>,
    /// The `k`-th break of the stick is Beta(alpha_k, sum of the later alphas).
    breaks: Vec<(LnGamma, LnGamma)>,
    ln_norm: f64,
}

/// The law as a file tells it.
#[cfg(feature = "weights")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DirichletForm {
    shares: Shares,
    concentrations: Vec<f64>,
}

#[cfg(feature = "weights")]
impl From<Dirichlet> for DirichletForm {
    fn from(Dirichlet { form, alpha, .. }: Dirichlet) -> Self {
        Self { shares: form, concentrations: alpha }
    }
}

#[cfg(feature = "weights")]
impl TryFrom<DirichletForm> for Dirichlet {
    type Error = String;

    fn try_from(DirichletForm { shares, concentrations }: DirichletForm) -> Result<Self, String> {
        Self::new(shares, concentrations.len().saturating_sub(1), concentrations)
    }
}

/// Outside, a float holds neither the draws nor the normalisation.
const CONCENTRATIONS: RangeInclusive<f64> = 1e-9..=1e9;

impl Dirichlet {
    /// The law of `breaks + 1` shares, or what is wrong with the concentrations.
    fn new(form: Shares, breaks: usize, alpha: Vec<f64>) -> Result<Self, String> {
        if alpha.len() != breaks + 1 {
            return Err(format!(
                "{} concentrations; it must be {}, one for each name and one for what remains",
                alpha.len(),
                breaks + 1
            ));
        }
        if let Some(k) = alpha.iter().position(|a| !CONCENTRATIONS.contains(a)) {
            let (least, most) = (CONCENTRATIONS.start(), CONCENTRATIONS.end());
            return Err(format!("concentration {k} is {}; it must lie between {least:e} and {most:e}", alpha[k]));
        }
        let ln_norm = libm::lgamma(alpha.iter().sum()) - alpha.iter().map(|&a| libm::lgamma(a)).sum::<f64>();
        let breaks = (0..breaks)
            .map(|k| Ok((LnGamma::new(alpha[k])?, LnGamma::new(alpha[k + 1..].iter().sum())?)))
            .collect::<Result<_, rand_distr::GammaError>>()
            .map_err(|why| why.to_string())?;
        Ok(Self { form, alpha, breaks, ln_norm })
    }

    fn sample<R: Rng + ?Sized>(&self, rng: &mut R, theta: &mut [f64]) {
        self.form.break_stick(theta, |k| {
            // v = x / (x + y) with x, y ~ Gamma, from the logarithms: neither v nor 1 - v
            // is lost when one of the draws is far below the other.
            let (x, y) = &self.breaks[k];
            let ln_odds = x.sample(rng) - y.sample(rng);
            (1.0 / (1.0 + (-ln_odds).exp()), 1.0 / (1.0 + ln_odds.exp()))
        });
    }

    fn ln_density(&self, theta: &[f64]) -> f64 {
        let term = |share: f64, alpha: f64| (alpha - 1.0) * share.max(f64::MIN_POSITIVE).ln();
        let mut remainder = 1.0;
        let mut ln_density = self.ln_norm;
        for ((share, rest), &alpha) in self.form.parts(theta).zip(&self.alpha) {
            ln_density += term(share, alpha);
            remainder = rest;
        }
        ln_density + term(remainder, self.alpha[theta.len()])
    }
}

/// The logarithm of a Gamma(alpha, 1) draw, by `Gamma(alpha) = Gamma(alpha + 1) U^(1/alpha)`,
/// which stays a number where the draw itself is below every float (small alpha).
#[derive(Debug, Clone, Copy, PartialEq)]
struct LnGamma {
    alpha: f64,
    boosted: Gamma<f64>,
}

impl LnGamma {
    fn new(alpha: f64) -> Result<Self, rand_distr::GammaError> {
        Ok(Self { alpha, boosted: Gamma::new(alpha + 1.0, 1.0)? })
    }
}

impl Distribution<f64> for LnGamma {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        let uniform: f64 = rng.sample(Open01);
        self.boosted.sample(rng).ln() + uniform.ln() / self.alpha
    }
}

/// The parameters of a [`Prior`] to be, in the order of the columns.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct PriorBuilder {
    support: SupportBuilder,
    laws: Vec<Result<Law, Error>>,
}

impl PriorBuilder {
    /// Uniform on `[lo, hi]`.
    pub fn uniform(self, name: &str, lo: f64, hi: f64) -> Self {
        self.scalar(name, Scalar::Uniform { lo, hi })
    }

    /// Uniform in `ln theta` on `[lo, hi]`, `lo > 0`.
    pub fn log_uniform(self, name: &str, lo: f64, hi: f64) -> Self {
        self.scalar(name, Scalar::LogUniform { lo, hi })
    }

    /// The normal law of mean `mean` and standard deviation `sd`.
    pub fn normal(self, name: &str, mean: f64, sd: f64) -> Self {
        self.scalar(name, Scalar::Normal { mean, sd })
    }

    /// A positive number whose logarithm is normal with mean `mean` and standard deviation `sd`.
    pub fn log_normal(self, name: &str, mean: f64, sd: f64) -> Self {
        self.scalar(name, Scalar::LogNormal { lo: 0.0, mean, sd })
    }

    /// The normal law given that it falls into `[lo, hi]`, renormalised. For a cut on one side
    /// put the other bound many `sd` away.
    pub fn truncated_normal(self, name: &str, mean: f64, sd: f64, lo: f64, hi: f64) -> Self {
        self.scalar(name, Scalar::TruncatedNormal { mean, sd, lo, hi })
    }

    /// `K` shares of one with concentrations `alpha`: the `K - 1` named ones, and what remains.
    /// With one name this is the beta law.
    pub fn dirichlet(self, names: &[&str], alpha: &[f64]) -> Self {
        self.shares(names, Shares::Simplex, alpha)
    }

    /// The running sums of `K` shares of one with concentrations `alpha`: an increasing sequence
    /// of `K - 1` numbers of `[0, 1]`. The fractions of cosmic time at which a galaxy had formed
    /// a quarter, a half, ... of its stars have such a prior (Iyer et al. 2019).
    pub fn ordered_dirichlet(self, names: &[&str], alpha: &[f64]) -> Self {
        self.shares(names, Shares::Ordered { lo: 0.0, hi: 1.0 }, alpha)
    }

    fn scalar(mut self, name: &str, scalar: Scalar) -> Self {
        self.support = self.support.scalar(name, scalar);
        self.laws.push(Ok(Law::Scalar(scalar)));
        self
    }

    fn shares(mut self, names: &[&str], form: Shares, alpha: &[f64]) -> Self {
        self.support = self.support.shares(names, form);
        let law = Dirichlet::new(form, names.len(), alpha.to_vec());
        let error = |why| Error::parameter(names.join(", "), why);
        self.laws.push(law.map(Law::Dirichlet).map_err(error));
        self
    }

    /// The finished prior.
    ///
    /// # Errors
    /// [`Error::Parameter`] as [`SupportBuilder::build`]; if a mean is not finite or an `sd` not
    /// above zero; if a truncated normal has no mass between its bounds; and if there is not one
    /// concentration for each name and one more, each between 1e-9 and 1e9.
    pub fn build(self) -> Result<Prior, Error> {
        let support = self.support.build()?;
        let laws = self.laws.into_iter().collect::<Result<_, _>>()?;
        Ok(Prior { support, laws })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::normal_cdf;
    use rand::{SeedableRng, rngs::SmallRng};

    const DRAWS: usize = 20_000;

    /// Columns of draws from the prior.
    fn draws(prior: &Prior, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut columns = vec![Vec::with_capacity(DRAWS); prior.dim()];
        let mut theta = vec![0.0; prior.dim()];
        for _ in 0..DRAWS {
            prior.sample(&mut rng, &mut theta).unwrap();
            assert!(prior.support().contains(&theta), "{theta:?}");
            assert!(prior.log_prob(&theta).is_finite(), "{theta:?}");
            columns.iter_mut().zip(&theta).for_each(|(column, &t)| column.push(t));
        }
        columns
    }

    /// Mean and variance agree with the law to five standard errors.
    fn check_moments(x: &[f64], mean: f64, variance: f64) {
        let n = x.len() as f64;
        let moment = |k: i32| x.iter().map(|x| (x - mean).powi(k)).sum::<f64>() / n;
        let (m1, m2, m4) = (moment(1), moment(2), moment(4));
        assert!(m1.abs() < 5.0 * (variance / n).sqrt(), "mean {} of {mean}", mean + m1);
        let error = 5.0 * ((m4 - m2 * m2) / n).sqrt();
        assert!((m2 - variance).abs() < error, "variance {m2} of {variance}");
    }

    /// Kolmogorov's test at the level 1e-4: sqrt(n) sup |F_n - F| < 2.23.
    fn check_law(x: &[f64], cdf: impl Fn(f64) -> f64) {
        let mut p: Vec<f64> = x.iter().map(|&x| cdf(x)).collect();
        p.sort_by(f64::total_cmp);
        let n = p.len() as f64;
        let gap = |(k, p): (usize, &f64)| (p - k as f64 / n).max((k + 1) as f64 / n - p);
        let distance = p.iter().enumerate().map(gap).fold(0.0, f64::max);
        assert!(distance * n.sqrt() < 2.23, "distance {distance}");
    }

    /// In `u` the draws are standard normal.
    fn check_gaussianised(prior: &Prior, columns: &[Vec<f64>]) {
        let mut us = vec![Vec::new(); prior.dim()];
        let mut u = vec![0.0; prior.dim()];
        for row in 0..DRAWS {
            let theta: Vec<f64> = columns.iter().map(|column| column[row]).collect();
            prior.support().unconstrain(&theta, &mut u).unwrap();
            us.iter_mut().zip(&u).for_each(|(column, &u)| column.push(u));
        }
        us.iter().for_each(|u| check_law(u, normal_cdf));
        // Independent, too: products of two coordinates have mean 0 and variance 1.
        for (j, a) in us.iter().enumerate() {
            for b in &us[..j] {
                let product: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * b).collect();
                check_moments(&product, 0.0, 1.0);
            }
        }
    }

    /// The midpoint rule for a law of one parameter.
    fn integral(prior: &Prior, lo: f64, hi: f64) -> f64 {
        let n = 200_000;
        let h = (hi - lo) / n as f64;
        (0..n).map(|k| h * prior.log_prob(&[lo + (k as f64 + 0.5) * h]).exp()).sum()
    }

    #[test]
    fn uniform() {
        let prior = Prior::new().uniform("a", -1.0, 3.0).build().unwrap();
        let x = draws(&prior, 1);
        check_moments(&x[0], 1.0, 16.0 / 12.0);
        check_law(&x[0], |x| (x + 1.0) / 4.0);
        check_gaussianised(&prior, &x);
        assert!((integral(&prior, -2.0, 4.0) - 1.0).abs() < 1e-4);
        assert_eq!(prior.log_prob(&[3.0]), -4.0_f64.ln());
        assert_eq!(prior.log_prob(&[3.0001]), f64::NEG_INFINITY);
        assert_eq!(prior.log_prob(&[f64::NAN]), f64::NEG_INFINITY);
        assert_eq!(prior.log_prob(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn log_uniform() {
        let prior = Prior::new().log_uniform("a", 0.1, 10.0).build().unwrap();
        let x = draws(&prior, 2);
        let width = 100.0_f64.ln();
        let mean = 9.9 / width;
        check_moments(&x[0], mean, (100.0 - 0.01) / (2.0 * width) - mean * mean);
        check_law(&x[0], |x| (x / 0.1).ln() / width);
        check_gaussianised(&prior, &x);
        assert!((integral(&prior, 0.1, 10.0) - 1.0).abs() < 1e-7);
    }

    #[test]
    fn normal() {
        let prior = Prior::new().normal("a", 5.0, 0.2).build().unwrap();
        let x = draws(&prior, 3);
        check_moments(&x[0], 5.0, 0.04);
        check_law(&x[0], |x| normal_cdf((x - 5.0) / 0.2));
        check_gaussianised(&prior, &x);
        assert!((integral(&prior, 3.0, 7.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn log_normal() {
        let prior = Prior::new().log_normal("a", -1.0, 0.5).build().unwrap();
        let x = draws(&prior, 4);
        let mean = (-1.0 + 0.125_f64).exp();
        check_moments(&x[0], mean, mean * mean * 0.25_f64.exp_m1());
        check_law(&x[0], |x| normal_cdf((x.ln() + 1.0) / 0.5));
        check_gaussianised(&prior, &x);
        assert!((integral(&prior, 0.0, 30.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn truncated_normal() {
        let prior = Prior::new().truncated_normal("a", 1.0, 2.0, 0.0, 4.0).build().unwrap();
        let x = draws(&prior, 5);
        // With a = -1/2, b = 3/2 in standard units: textbook moments.
        let density = |z: f64| (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        let (a, b) = (-0.5, 1.5);
        let mass = normal_cdf(b) - normal_cdf(a);
        let shift = (density(a) - density(b)) / mass;
        let variance = 1.0 + (a * density(a) - b * density(b)) / mass - shift * shift;
        check_moments(&x[0], 1.0 + 2.0 * shift, 4.0 * variance);
        check_law(&x[0], |x| (normal_cdf((x - 1.0) / 2.0) - normal_cdf(a)) / mass);
        check_gaussianised(&prior, &x);
        assert!((integral(&prior, 0.0, 4.0) - 1.0).abs() < 1e-9);
        assert_eq!(prior.log_prob(&[-0.1]), f64::NEG_INFINITY);

        // Far out, the law is nearly exponential above the cut: rate 20 + 1/20 - ...
        let tail = Prior::new().truncated_normal("a", 0.0, 1.0, 20.0, 30.0).build().unwrap();
        assert!((integral(&tail, 20.0, 22.0) - 1.0).abs() < 1e-8);
        check_gaussianised(&tail, &draws(&tail, 6));
    }

    #[test]
    fn dirichlet() {
        for alpha in [[1.0; 4], [2.0, 0.5, 3.0, 1.5], [0.1, 0.2, 5.0, 0.3], [40.0, 10.0, 1e3, 7.0]] {
            let prior = Prior::new().dirichlet(&["a", "b", "c"], &alpha).build().unwrap();
            let mut x = draws(&prior, 7);
            if alpha == [1.0; 4] {
                check_gaussianised(&prior, &x);
                check_law(&x[2], |x| 1.0 - (1.0 - x).powi(3));
            }
            x.push((0..DRAWS).map(|k| 1.0 - x[0][k] - x[1][k] - x[2][k]).collect());
            let total: f64 = alpha.iter().sum();
            for (x, alpha) in x.iter().zip(alpha) {
                let mean = alpha / total;
                check_moments(x, mean, mean * (1.0 - mean) / (total + 1.0));
            }
        }
    }

    #[test]
    fn ordered_dirichlet() {
        let names = ["t25", "t50", "t75"];
        let flat = Prior::new().ordered_dirichlet(&names, &[1.0; 4]).build().unwrap();
        let x = draws(&flat, 8);
        check_gaussianised(&flat, &x);
        check_law(&x[0], |x| 1.0 - (1.0 - x).powi(3));
        check_law(&x[2], |x| x.powi(3));
        assert!((flat.log_prob(&[0.1, 0.2, 0.9]) - 6.0_f64.ln()).abs() < 1e-14);
        assert_eq!(flat.log_prob(&[0.2, 0.1, 0.9]), f64::NEG_INFINITY);

        // Sums of shares are beta-distributed.
        let alpha = [2.0, 0.5, 3.0, 1.5];
        let prior = Prior::new().ordered_dirichlet(&names, &alpha).build().unwrap();
        let x = draws(&prior, 9);
        for k in 0..3 {
            let mean = alpha[..=k].iter().sum::<f64>() / 7.0;
            check_moments(&x[k], mean, mean * (1.0 - mean) / 8.0);
        }
        let shares = Prior::new().dirichlet(&names, &alpha).build().unwrap();
        let (a, b) = (prior.log_prob(&[0.1, 0.4, 0.8]), shares.log_prob(&[0.1, 0.3, 0.4]));
        assert!((a - b).abs() < 1e-13);
    }

    #[test]
    fn dirichlet_density_integrates_to_one() {
        let alpha = [2.0, 3.5, 1.5];
        let shares = Prior::new().dirichlet(&["a", "b"], &alpha).build().unwrap();
        let sums = Prior::new().ordered_dirichlet(&["a", "b"], &alpha).build().unwrap();
        let n = 1000;
        let (mut total, mut total_sums) = (0.0, 0.0);
        for i in 0..n {
            for j in 0..n {
                // The triangle as a square: b = (1 - a) t.
                let (a, t) = ((i as f64 + 0.5) / n as f64, (j as f64 + 0.5) / n as f64);
                let (b, area) = ((1.0 - a) * t, (1.0 - a) / (n * n) as f64);
                total += area * shares.log_prob(&[a, b]).exp();
                total_sums += area * sums.log_prob(&[a, a + b]).exp();
            }
        }
        assert!((total - 1.0).abs() < 1e-4 && (total_sums - 1.0).abs() < 1e-4, "{total}");
        // One name: the beta law, here 12 x^2 (1 - x).
        let beta = Prior::new().dirichlet(&["a"], &[3.0, 2.0]).build().unwrap();
        assert!((beta.log_prob(&[0.25]) - (12.0_f64 * 0.0625 * 0.75).ln()).abs() < 1e-13);
    }

    #[test]
    fn densities_are_standard_normal_in_u() {
        let prior = Prior::new()
            .uniform("a", 8.0, 12.0)
            .normal("b", 3.0, 0.1)
            .log_uniform("c", 1e-4, 1e2)
            .truncated_normal("d", 0.0, 1.0, 0.0, 5.0)
            .log_normal("e", 0.4, 0.5)
            .dirichlet(&["f", "g"], &[1.0; 3])
            .ordered_dirichlet(&["h", "i", "j"], &[1.0; 4])
            .build()
            .unwrap();
        let (mut theta, mut u) = ([0.0; 10], [0.0; 10]);
        let mut rng = SmallRng::seed_from_u64(10);
        for _ in 0..1000 {
            prior.sample(&mut rng, &mut theta).unwrap();
            prior.support().unconstrain(&theta, &mut u).unwrap();
            let normal: f64 = u.iter().map(|&u| crate::math::normal_ln_pdf(u)).sum();
            let want = normal - prior.support().ln_det(&u).unwrap();
            assert!((prior.log_prob(&theta) - want).abs() < 1e-9 * want.abs().max(1.0));
        }
        assert_eq!((prior.dim(), prior.names()[6].as_str()), (10, "g"));
    }

    #[test]
    fn extreme_concentrations_stay_in_the_support() {
        for alpha in [[1e-9; 3], [1e9; 3], [1e-9, 1e9, 1.0], [1e-3, 1e-3, 1e-3]] {
            for builder in
                [Prior::new().dirichlet(&["a", "b"], &alpha), Prior::new().ordered_dirichlet(&["a", "b"], &alpha)]
            {
                draws(&builder.build().unwrap(), 11);
            }
        }
        let corner = Prior::new().dirichlet(&["a", "b"], &[0.5, 2.0, 1.0]).build().unwrap();
        assert!(corner.log_prob(&[0.0, 0.0]).is_finite());
    }

    #[test]
    fn what_cannot_be_built() {
        let message = |builder: PriorBuilder| builder.build().unwrap_err().to_string();
        let new = Prior::new;
        assert!(message(new()).contains("no names"));
        assert_eq!(message(new().uniform("a", 12.0, 8.0)), "parameter `a`: [12, 8] is empty; it must be lo < hi");
        assert_eq!(
            message(new().normal("a", 0.0, 1.0).uniform("a", 0.0, 1.0)),
            "parameter `a`: there are two of this name; names must differ"
        );
        assert!(message(new().log_uniform("a", -1.0, 8.0)).contains("0 < lo < hi"));
        for sd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(message(new().normal("a", 0.0, sd)).contains("above zero"));
            assert!(message(new().log_normal("a", 0.0, sd)).contains("above zero"));
            assert!(message(new().truncated_normal("a", 0.0, sd, 0.0, 1.0)).contains("above zero"));
        }
        assert_eq!(message(new().normal("a", f64::NAN, 1.0)), "parameter `a`: mean = NaN; it must be finite");
        assert!(message(new().truncated_normal("a", 0.0, 1.0, 1.0, 0.0)).contains("lo < hi"));
        assert!(message(new().truncated_normal("a", 0.0, 1.0, 40.0, 50.0)).contains("within 36 sd"));
        assert_eq!(
            message(new().dirichlet(&["a", "b"], &[1.0, 1.0])),
            "parameter `a, b`: 2 concentrations; it must be 3, one for each name and one for \
             what remains"
        );
        assert_eq!(
            message(new().dirichlet(&["a", "b"], &[1.0, 0.0, 1.0])),
            "parameter `a, b`: concentration 1 is 0; it must lie between 1e-9 and 1e9"
        );
        for alpha in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(message(new().ordered_dirichlet(&["a"], &[1.0, alpha])).contains("1e9"));
        }
        assert!(message(new().dirichlet(&[], &[1.0])).contains("no names"));
    }
}
