//! Annealed importance sampling (Neal 2001): the normalising constant of a log-density known up to it.
//!
//! Chains start from N(0, I) and are moved, by trajectories of Hamiltonian Monte Carlo, through
//! $p_\beta \propto N(0, I)^{1 - \beta}\, \tilde p^\beta$ with β rising from 0 to 1. The product of the ratios met on
//! the way, $w = \prod_k (\tilde p / N)^{\beta_{k+1} - \beta_k}$, has the mean Z, however short the trajectories.

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::plan::{Feed, Request};
use crate::progress::Watch;
use crate::real::Real;
use crate::sample::{Draws, Hmc, LogDensity, Transition};

/// Settings of annealed importance sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ais {
    /// How many values β takes after 0, evenly spaced.
    pub temperatures: usize,
    /// The trajectories at each: their number, length and step, which is not adapted.
    pub hmc: Hmc,
}

impl Default for Ais {
    fn default() -> Self {
        let hmc = Hmc { warm_up: 0, trajectories: 2, leapfrog: 5, step: 0.2, ..Hmc::default() };
        Self { temperatures: 100, hmc }
    }
}

/// ln Z with its standard error, from the weights of all chains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LnZ {
    /// ln of the mean weight.
    pub value: f64,
    /// Its standard error, to first order.
    pub error: f64,
    /// Effective number of chains, (Σ w)² / Σ w².
    pub effective: f64,
}

/// The path: context is β.
#[derive(Debug)]
struct Tempered<'a, D: ?Sized>(&'a D);

impl<T: Real, D: LogDensity<T> + ?Sized> LogDensity<T> for Tempered<'_, D> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn context(&self) -> usize {
        1
    }

    fn log_density(&self, graph: &mut Graph<T>, x: Var, beta: &[Var]) -> Result<Var, Error> {
        let (target, base) = (self.0.log_density(graph, x, &[])?, graph.normal_log_density(x)?);
        let difference = graph.sub(target, base)?;
        let tempered = graph.mul(difference, beta[0])?;
        graph.add(base, tempered)
    }
}

impl Ais {
    /// ln Z of an unconditional log-density by `draws.rows` chains.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be, [`Error::Sampling`] where the density is not finite,
    /// [`Error::Cancelled`] if it was stopped.
    pub fn log_z<T: Real>(
        &self,
        device: &Device,
        density: &(impl LogDensity<T> + ?Sized),
        draws: &Draws<'_, T>,
    ) -> Result<LnZ, Error> {
        if self.temperatures == 0 || density.context() != 0 || self.hmc.warm_up != 0 || draws.rows == 0 {
            let why = "needs a temperature, a chain, an unconditional density, and trajectories without warm-up";
            return Err(Error::parameter("ais", why));
        }
        let mut chains = self.hmc.compile(device, &Tempered(density))?;
        let mut graph = Graph::new();
        let x = graph.input("x", density.dim())?;
        let (target, base) = (density.log_density(&mut graph, x, &[])?, graph.normal_log_density(x)?);
        let ratio = graph.sub(target, base)?;
        let mut ratio_plan = graph.compile(device, &Request::outputs(&[ratio]))?;

        let mut x = vec![T::ZERO; draws.rows * density.dim()];
        let (mut ratio, mut ln_weights) = (vec![T::ZERO; draws.rows], vec![0.0; draws.rows]);
        draws.fill_normal(1.0, &mut x)?;
        let share = 1.0 / self.temperatures as f64;
        // The trajectories of one temperature are no progress of their own.
        let silent = Watch::silent(draws.watch.cancel());
        for k in 1..=self.temperatures {
            draws.watch.at(draws.rows, k - 1, self.temperatures)?;
            ratio_plan.forward(draws.weights, draws.rows, &[Feed::Rows(&x)], &mut [&mut ratio])?;
            ln_weights.iter_mut().zip(&ratio).for_each(|(w, r)| *w += share * r.to_f64());
            let beta = [T::from_f64(k as f64 * share)];
            let first = draws.noise.step + k as u32 * self.hmc.noise_steps();
            let context = [Feed::Repeat(&beta)];
            let draws = Draws { context: &context, noise: draws.noise.at(first), watch: &silent, ..*draws };
            chains.advance(&draws, &mut x)?;
        }
        Ok(summary(&ln_weights))
    }
}

fn summary(ln_weights: &[f64]) -> LnZ {
    let top = ln_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sums = ln_weights.iter().map(|l| (l - top).exp()).fold((0.0, 0.0), |(a, b), w| (a + w, b + w * w));
    let (n, effective) = (ln_weights.len() as f64, sums.0 * sums.0 / sums.1);
    LnZ { value: top + (sums.0 / n).ln(), error: (1.0 / effective - 1.0 / n).max(0.0).sqrt(), effective }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::LogDensityFn;

    #[test]
    fn the_constant_of_a_gaussian_is_the_known_one() {
        for (dim, v) in [(1, 0.2), (3, 0.3), (2, 2.0)] {
            let density = LogDensityFn::new(dim, move |x: &[f64], gradient: &mut [f64]| {
                gradient.iter_mut().zip(x).for_each(|(g, x)| *g = -(x - 0.7) / v);
                -0.5 * x.iter().map(|x| (x - 0.7).powi(2)).sum::<f64>() / v
            });
            let watch = Watch::default();
            let found = Ais::default().log_z(&Device::cpu(), &density, &Draws::new(500, &3, &watch)).unwrap();
            let exact = 0.5 * dim as f64 * (std::f64::consts::TAU * v).ln();
            assert!((found.value - exact).abs() < 4.0 * found.error, "{found:?} against {exact}");
            assert!(found.error < 0.1 && found.effective > 100.0, "{found:?}");
        }
    }

    #[test]
    fn equal_weights_have_no_error() {
        assert_eq!(summary(&[2.0; 8]), LnZ { value: 2.0, error: 0.0, effective: 8.0 });
    }
}
