//! The Metropolis-adjusted Langevin algorithm (Roberts & Tweedie 1996): Langevin steps whose law is exactly the density,
//! whatever their size.
//!
//! The proposal $x' = x + \eta \nabla \ln p(x) + \sqrt{2 \eta}\, z$ is one leapfrog step of size $h = \sqrt{2 \eta}$
//! with the momentum z, and the ratio $p(x')\, q(x \mid x') / p(x)\, q(x' \mid x)$ by which it is accepted is that of the
//! energies (Neal 2011, 5.2): MALA is [`Hmc`] with trajectories of one step.

use crate::device::Device;
use crate::error::Error;
use crate::real::Real;
use crate::sample::{Hmc, HmcChains, LangevinStep, LogDensity};

/// Settings of the Metropolis-adjusted Langevin algorithm.
///
/// Each chain finds a step of its own in the warm-up, by dual averaging towards the target acceptance, and keeps it.
///
/// ```
/// use retrodict::Device;
/// use retrodict::progress::Watch;
/// use retrodict::sample::{Draws, LogDensityFn, Mala, Transition};
///
/// // N(3, 1)
/// let density = LogDensityFn::new(1, |x: &[f64], gradient: &mut [f64]| {
///     gradient[0] = 3.0 - x[0];
///     -0.5 * (x[0] - 3.0).powi(2)
/// });
/// let mut chains = Mala::default().compile(&Device::cpu(), &density)?;
/// let mut x = vec![0.0; 1000];
/// chains.advance(&Draws::new(1000, &7, &Watch::default()), &mut x)?;
/// assert!((x.iter().sum::<f64>() / 1000.0 - 3.0).abs() < 0.2);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mala {
    /// The size of a step at the start.
    pub step: LangevinStep,
    /// Acceptance that the step size aims at.
    pub target: f64,
    /// Steps in which the size is found.
    pub warm_up: usize,
    /// Steps after that.
    pub steps: usize,
}

impl Default for Mala {
    /// Acceptance 0.574, the best in many dimensions (Roberts & Rosenthal 1998).
    fn default() -> Self {
        Self { step: LangevinStep::Eta(0.01), target: 0.574, warm_up: 100, steps: 200 }
    }
}

impl Mala {
    /// Compiles a step for a log-density.
    ///
    /// [`HmcChains::chains`] tells the size of each chain's step as h = √(2η).
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be; what recording the density says.
    pub fn compile<T: Real>(
        &self,
        device: &Device,
        density: &(impl LogDensity<T> + ?Sized),
    ) -> Result<HmcChains<T>, Error> {
        self.step.check()?;
        let Self { step, target, warm_up, steps } = *self;
        let step = step.epsilon().sqrt();
        let hmc = Hmc { leapfrog: 1, step, target, warm_up, trajectories: steps, jumps: 0, ..Hmc::default() };
        hmc.compile(device, density)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Watch;
    use crate::sample::{Draws, LogDensityFn, Transition};

    /// (mean, variance) of chains from N(0, 1).
    fn moments(settings: Mala, density: &LogDensityFn<f64>, rows: usize) -> (f64, f64) {
        let mut chains = settings.compile(&Device::cpu(), density).unwrap();
        let (mut x, watch) = (vec![0.0; rows], Watch::default());
        Draws::new(rows, &3, &watch).fill_normal(1.0, &mut x).unwrap();
        chains.advance(&Draws::new(rows, &5, &watch), &mut x).unwrap();
        let mean = x.iter().sum::<f64>() / rows as f64;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64)
    }

    #[test]
    fn a_step_that_unadjusted_dynamics_would_feel_leaves_no_trace() {
        // N(1, 0.25): without the decision, a step of η = 0.25 would make the variance 0.5.
        let density = LogDensityFn::new(1, |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = -4.0 * (x[0] - 1.0);
            -2.0 * (x[0] - 1.0).powi(2)
        });
        let rows = 40_000;
        let settings = Mala { step: LangevinStep::Eta(0.25), warm_up: 0, steps: 40, ..Mala::default() };
        let (mean, variance) = moments(settings, &density, rows);
        // Four standard errors.
        assert!((mean - 1.0).abs() < 4.0 * (0.25 / rows as f64).sqrt(), "{mean}");
        assert!((variance / 0.25 - 1.0).abs() < 4.0 * (2.0 / rows as f64).sqrt(), "{variance}");
    }

    #[test]
    fn a_skewed_density_is_sampled_whatever_the_first_step() {
        // x = ln of an exponential variable, ln p = x - eˣ: mean -γ, variance π²/6.
        let density = LogDensityFn::new(1, |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = 1.0 - x[0].exp();
            x[0] - x[0].exp()
        });
        let (rows, variance) = (20_000, std::f64::consts::PI.powi(2) / 6.0);
        for eta in [1e-4, 30.0] {
            let settings = Mala { step: LangevinStep::Eta(eta), ..Mala::default() };
            let (mean, found) = moments(settings, &density, rows);
            assert!((mean + 0.577_216).abs() < 4.0 * (variance / rows as f64).sqrt(), "η {eta}: mean {mean}");
            // The kurtosis is 5.4, so the variance of the variance is 4.4 v² / n.
            assert!((found / variance - 1.0).abs() < 4.0 * (4.4 / rows as f64).sqrt(), "η {eta}: variance {found}");
        }
    }

    #[test]
    fn the_step_is_adapted_to_the_target() {
        let density = LogDensityFn::new(3, |x: &[f64], gradient: &mut [f64]| {
            gradient.iter_mut().zip(x).for_each(|(g, x)| *g = -100.0 * x);
            -50.0 * x.iter().map(|x| x * x).sum::<f64>()
        });
        let mut chains = Mala::default().compile(&Device::cpu(), &density).unwrap();
        let mut x = vec![0.0; 3 * 500];
        chains.advance(&Draws::new(500, &5, &Watch::default()), &mut x).unwrap();
        let (acceptance, step): (Vec<_>, Vec<_>) = chains.chains().unzip();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / 500.0;
        // The average of the warm-up's ln steps, which is kept, lies a little below what the target asks for.
        assert!((0.5..0.75).contains(&mean(&acceptance)), "{}", mean(&acceptance));
        // Of the order of the standard deviation, 0.1.
        assert!((0.05..0.3).contains(&mean(&step)), "{}", mean(&step));
        assert!(Mala { step: LangevinStep::Eta(0.0), ..Mala::default() }.compile(&Device::cpu(), &density).is_err());
    }
}
