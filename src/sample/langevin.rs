//! Langevin dynamics: chains that drift along the score and diffuse, whose stationary law is the density.

use std::iter::repeat_n;

use crate::device::Device;
use crate::error::Error;
use crate::real::Real;
use crate::sample::{Draws, Score, Step, Transition};

/// The size of a Langevin step, in either convention of the literature; they are the same step for ε = 2 η.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LangevinStep {
    /// x + (ε/2) s + √ε z, as in stochastic-gradient Langevin dynamics (Welling & Teh 2011) and Algorithm 1 of NCSN
    /// (Song & Ermon 2019).
    Epsilon(f64),
    /// x + η s + √(2η) z, as in statistical physics (Roberts & Tweedie 1996) and the code of NCSN.
    Eta(f64),
}

impl LangevinStep {
    /// The step in the convention of η: half of ε.
    pub fn eta(self) -> f64 {
        match self {
            Self::Epsilon(epsilon) => 0.5 * epsilon,
            Self::Eta(eta) => eta,
        }
    }

    /// The step in the convention of ε: twice η.
    pub fn epsilon(self) -> f64 {
        2.0 * self.eta()
    }

    /// Coefficients of (x, s, z).
    pub(crate) fn coefficients(self) -> [f64; 3] {
        [1.0, self.eta(), self.epsilon().sqrt()]
    }

    /// `Ok` if the step is positive and finite.
    pub(crate) fn check(self) -> Result<(), Error> {
        if self.eta() > 0.0 && self.eta().is_finite() {
            return Ok(());
        }
        Err(Error::parameter("step", format!("{self:?} must be positive and finite")))
    }
}

/// Unadjusted Langevin dynamics at one noise level.
///
/// The stationary law is the density as the step goes to 0; with a step η, a Gaussian of variance σ² is sampled with
/// the variance σ² / (1 - η / 2σ²) (a Metropolis step removes this error).
///
/// ```
/// use retrodict::Device;
/// use retrodict::progress::Watch;
/// use retrodict::sample::{Draws, FromNoise, Langevin, LangevinStep, Sampler, ScoreFn};
///
/// // N(3, 1)
/// let score = ScoreFn::new(1, |x: &[f64], _, s: &mut [f64]| s[0] = 3.0 - x[0]);
/// let langevin = Langevin { step: LangevinStep::Eta(0.05), steps: 200, level: 0.0 };
/// let mut sampler = FromNoise { sd: 1.0, transition: langevin.compile(&Device::cpu(), &score)? };
/// let mut x = vec![0.0; 1000];
/// sampler.sample(&Draws::new(1000, &7, &Watch::default()), &mut x)?;
/// assert!((x.iter().sum::<f64>() / 1000.0 - 3.0).abs() < 0.2);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Langevin {
    /// The size of a step.
    pub step: LangevinStep,
    /// How many.
    pub steps: usize,
    /// The noise level at which the score is taken.
    pub level: f64,
}

impl Langevin {
    /// Compiles the step for a score.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless the step is positive and finite; what recording the score says.
    pub fn compile<T: Real>(&self, device: &Device, score: &(impl Score<T> + ?Sized)) -> Result<Langevins<T>, Error> {
        self.step.check()?;
        Langevins::compile(device, score, vec![Stage { level: self.level, step: self.step, steps: self.steps }])
    }
}

/// Annealed Langevin dynamics (Song & Ermon 2019, Algorithm 1).
///
/// At each noise level σᵢ, from the highest to the lowest, T Langevin steps of size αᵢ = ε σᵢ² / σ_L²: the chains find
/// all modes while the density is smooth, and their weights between them.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnealedLangevin {
    /// (level as the score counts it, its σ), highest σ first.
    pub levels: Vec<(f64, f64)>,
    /// T, the steps at each level.
    pub steps_per_level: usize,
    /// The step ε at the lowest level.
    pub epsilon: f64,
    /// Whether a last step x + σ_L² s without noise leads to the mean of the lowest level's denoised samples
    /// (Jolicoeur-Martineau et al. 2021).
    pub denoise: bool,
}

impl AnnealedLangevin {
    /// `levels` noise levels in geometric progression from `sigma_max` to `sigma_min`, which a score counts as σ
    /// itself; 100 steps at each, and a last denoising step.
    pub fn geometric(sigma_max: f64, sigma_min: f64, levels: usize) -> Self {
        let last = levels.saturating_sub(1).max(1) as f64;
        let sigma = |i: usize| sigma_max * (sigma_min / sigma_max).powf(i as f64 / last);
        let levels = (0..levels).map(|i| (sigma(i), sigma(i))).collect();
        Self { levels, steps_per_level: 100, epsilon: 0.1 * sigma_min * sigma_min, denoise: true }
    }

    /// Compiles the step for a score.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no level, a σ or ε is not positive and finite, or a σ rises; what recording
    /// the score says.
    pub fn compile<T: Real>(&self, device: &Device, score: &(impl Score<T> + ?Sized)) -> Result<Langevins<T>, Error> {
        self.check()?;
        let lowest = self.levels[self.levels.len() - 1];
        let stage = |&(level, sigma): &(f64, f64)| {
            let step = LangevinStep::Epsilon(self.epsilon * (sigma / lowest.1).powi(2));
            Stage { level, step, steps: self.steps_per_level }
        };
        let mut sampler = Langevins::compile(device, score, self.levels.iter().map(stage).collect())?;
        sampler.denoise = self.denoise.then_some(lowest);
        Ok(sampler)
    }

    fn check(&self) -> Result<(), Error> {
        if self.levels.is_empty() {
            return Err(Error::parameter("levels", "there must be at least one"));
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if let Some((_, sigma)) = self.levels.iter().find(|(_, sigma)| !positive(*sigma)) {
            return Err(Error::parameter("levels", format!("σ = {sigma} must be positive and finite")));
        }
        if let Some(pair) = self.levels.windows(2).find(|pair| pair[1].1 > pair[0].1) {
            return Err(Error::parameter(
                "levels",
                format!("σ rises from {} to {}; it must fall", pair[0].1, pair[1].1),
            ));
        }
        if positive(self.epsilon) {
            return Ok(());
        }
        Err(Error::parameter("epsilon", format!("{} must be positive and finite", self.epsilon)))
    }
}

/// Steps of one size at one noise level.
#[derive(Clone, Copy, Debug)]
struct Stage {
    level: f64,
    step: LangevinStep,
    steps: usize,
}

/// Compiled Langevin dynamics, plain or annealed.
#[derive(Debug)]
pub struct Langevins<T> {
    step: Step<T>,
    stages: Vec<Stage>,
    /// The level, and its σ, of a last step without noise.
    denoise: Option<(f64, f64)>,
}

impl<T: Real> Langevins<T> {
    fn compile(device: &Device, score: &(impl Score<T> + ?Sized), stages: Vec<Stage>) -> Result<Self, Error> {
        let widths = (score.dim(), score.context(), 4);
        let step = Step::compile(device, widths, |graph, x, numbers, context| {
            let level = graph.select(numbers, &[0])?;
            let coefficients = graph.select(numbers, &[1, 2, 3])?;
            let s = score.score(graph, x, level, context)?;
            let z = graph.normal(score.dim())?;
            graph.combine(&[x, s, z], coefficients)
        })?;
        Ok(Self { step, stages, denoise: None })
    }
}

impl<T: Real> Transition<T> for Langevins<T> {
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        let steps = self.stages.iter().map(|stage| stage.steps).sum::<usize>() + usize::from(self.denoise.is_some());
        let numbers = self.stages.iter().flat_map(|stage| {
            let [a, b, c] = stage.step.coefficients();
            repeat_n([stage.level, a, b, c], stage.steps)
        });
        let last = self.denoise.map(|(level, sigma)| [level, 1.0, sigma * sigma, 0.0]);
        self.step.run(draws, (0, steps), numbers.chain(last), x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Cancel, Watch};
    use crate::sample::{FromNoise, LogDensityFn, Sampler, ScoreFn, ScoreOf};

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    #[test]
    fn the_two_conventions_are_one_step() {
        assert_eq!(LangevinStep::Epsilon(0.2).eta(), 0.1);
        assert_eq!(LangevinStep::Epsilon(0.2).coefficients(), LangevinStep::Eta(0.1).coefficients());
    }

    #[test]
    fn the_stationary_law_of_a_gaussian_is_the_known_one() {
        // x' = (1 - η/σ²) x + √(2η) z is stationary with variance σ² / (1 - η/2σ²).
        let (sigma2, eta, rows) = (4.0, 1.0, 40_000);
        let score = ScoreFn::new(1, move |x: &[f64], _, s: &mut [f64]| s[0] = (1.0 - x[0]) / sigma2);
        let settings = Langevin { step: LangevinStep::Eta(eta), steps: 60, level: 0.0 };
        let transition = settings.compile(&Device::cpu(), &score).unwrap();
        let mut x = vec![0.0; rows];
        FromNoise { sd: 1.0, transition }.sample(&Draws::new(rows, &3, &Watch::default()), &mut x).unwrap();
        let (mean, variance) = moments(&x);
        let expected = sigma2 / (1.0 - eta / (2.0 * sigma2));
        // Three standard errors.
        assert!((mean - 1.0).abs() < 3.0 * (expected / rows as f64).sqrt(), "mean {mean}");
        assert!(
            (variance / expected - 1.0).abs() < 3.0 * (2.0 / rows as f64).sqrt(),
            "variance {variance}, {expected}"
        );
    }

    #[test]
    fn a_log_density_gives_the_same_chains_as_its_score() {
        let score = ScoreFn::new(2, |x: &[f64], _, s: &mut [f64]| s.copy_from_slice(&[-x[0], -4.0 * x[1]]));
        let density = LogDensityFn::new(2, |x: &[f64], gradient: &mut [f64]| {
            gradient.copy_from_slice(&[-x[0], -4.0 * x[1]]);
            -0.5 * x[0] * x[0] - 2.0 * x[1] * x[1]
        });
        let settings = Langevin { step: LangevinStep::Epsilon(0.1), steps: 20, level: 0.0 };
        let device = Device::cpu();
        let mut chains = [settings.compile(&device, &score), settings.compile(&device, &ScoreOf(&density))].map(|s| {
            let mut x = vec![1.0; 2 * 777];
            s.unwrap().advance(&Draws::new(777, &1, &Watch::default()), &mut x).unwrap();
            x
        });
        let (a, b) = chains.split_at_mut(1);
        assert_eq!(a, b);
    }

    #[test]
    fn chains_do_not_depend_on_batch_mates_or_threads() {
        let score = ScoreFn::new(3, |x: &[f32], _, s: &mut [f32]| s.iter_mut().zip(x).for_each(|(s, x)| *s = -x));
        let settings = Langevin { step: LangevinStep::Epsilon(0.1), steps: 5, level: 0.0 };
        let run = |threads: usize, rows: usize| {
            let mut x = vec![0.5; 3 * rows];
            let mut sampler = settings.compile(&Device::cpu_with_threads(threads), &score).unwrap();
            sampler.advance(&Draws::new(rows, &1, &Watch::default()), &mut x).unwrap();
            x
        };
        let all = run(1, 1000);
        assert_eq!(run(2, 1000), all);
        assert_eq!(run(2, 13), all[..39]);
    }

    #[test]
    fn annealing_gives_the_modes_their_weights() {
        // 0.2 N(-4, 0.1²) + 0.8 N(4, 0.1²); blurred by σ each variance grows by σ².
        let score = ScoreFn::new(1, |x: &[f64], sigma, s: &mut [f64]| {
            let v = 0.01 + sigma * sigma;
            let part = |w: f64, m: f64| w * (-(x[0] - m).powi(2) / (2.0 * v)).exp();
            let (a, b) = (part(0.2, -4.0), part(0.8, 4.0));
            let right = if a + b > 0.0 { b / (a + b) } else { f64::from(u8::from(x[0] > 0.0)) };
            s[0] = ((1.0 - right) * (-4.0 - x[0]) + right * (4.0 - x[0])) / v;
        });
        let annealed = AnnealedLangevin { steps_per_level: 100, ..AnnealedLangevin::geometric(10.0, 0.05, 40) };
        let rows = 2000;
        let mut sampler = FromNoise { sd: 10.0, transition: annealed.compile(&Device::cpu(), &score).unwrap() };
        let mut x = vec![0.0; rows];
        sampler.sample(&Draws::new(rows, &5, &Watch::default()), &mut x).unwrap();
        let right = x.iter().filter(|&&x| x > 0.0).count() as f64 / rows as f64;
        assert!((right - 0.8).abs() < 3.0 * (0.16 / rows as f64).sqrt(), "{right}");
        let (_, spread) = moments(&x.iter().map(|x| x.abs()).collect::<Vec<_>>());
        assert!((0.08..0.13).contains(&spread.sqrt()), "{}", spread.sqrt());
    }

    #[test]
    fn a_chain_that_diverges_is_named_and_a_run_can_be_stopped() {
        let score = ScoreFn::new(2, |x: &[f64], _, s: &mut [f64]| {
            s.fill(if x[0] > 5.0 { f64::NAN } else { 0.0 });
        });
        let settings = Langevin { step: LangevinStep::Epsilon(1e-6), steps: 5, level: 0.0 };
        let mut sampler = settings.compile(&Device::cpu(), &score).unwrap();
        let mut x = vec![0.0; 2 * 10];
        x[14] = 6.0;
        let error = sampler.advance(&Draws::new(10, &1, &Watch::default()), &mut x).unwrap_err();
        assert!(matches!(error, Error::Sampling { step: 1, chain: 7, .. }), "{error}");

        let cancel = Cancel::default();
        cancel.cancel();
        let error = sampler.advance(&Draws::new(10, &1, &Watch::silent(&cancel)), &mut [0.0; 20]).unwrap_err();
        assert_eq!(error, Error::Cancelled { step: 0, steps: 5 });
    }

    #[test]
    fn impossible_settings_are_errors() {
        let score = ScoreFn::<f32>::new(1, |_, _, _| {});
        let device = Device::cpu();
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let settings = Langevin { step: LangevinStep::Eta(step), steps: 1, level: 0.0 };
            assert!(settings.compile(&device, &score).is_err());
        }
        let good = AnnealedLangevin::geometric(1.0, 0.1, 3);
        assert!(AnnealedLangevin { levels: Vec::new(), ..good.clone() }.compile(&device, &score).is_err());
        assert!(
            AnnealedLangevin { levels: vec![(0.0, 0.1), (0.0, 1.0)], ..good.clone() }.compile(&device, &score).is_err()
        );
        assert!(AnnealedLangevin { epsilon: 0.0, ..good }.compile(&device, &score).is_err());
    }
}
