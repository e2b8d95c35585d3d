//! Noise-conditional score networks on discrete levels (Song & Ermon 2019).

use crate::device::Device;
use crate::error::Error;
use crate::models::{AnyFamily, Family, Generative, OnEpoch, Problem, ScoreModel, ScoreNetwork, Trained};
use crate::noise_schedule::NoiseSchedule;
use crate::real::Real;
use crate::sample::{AnnealedLangevin, FromNoise, Sampler, Score};
use crate::store::Layout;

/// Settings of a noise-conditional score network on discrete levels, drawn from by annealed Langevin dynamics (Song &
/// Ermon 2019, 2020): a family without a density.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Ncsn {
    /// The network and its training; its schedule must be [`NoiseSchedule::Geometric`].
    pub network: ScoreNetwork,
    /// Langevin steps at each level.
    pub steps_per_level: usize,
    /// The step at the lowest level, in units of its σ².
    pub epsilon: f64,
    /// Whether a last step removes the lowest level's noise.
    pub denoise: bool,
}

impl Default for Ncsn {
    /// 20 levels from 5 to 0.02 for standardised data, the network preconditioned, 50 steps at each level.
    fn default() -> Self {
        let schedule = NoiseSchedule::Geometric { sigma_max: 5.0, sigma_min: 0.02, levels: 20 };
        let network = ScoreNetwork::preconditioned(schedule);
        Self { network, steps_per_level: 50, epsilon: 0.2, denoise: true }
    }
}

impl Ncsn {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the one that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        self.network.check()?;
        match self.network.schedule {
            NoiseSchedule::Geometric { .. } => Ok(()),
            _ => Err(Error::parameter("schedule", "must be geometric levels; the family for others is `Diffusion`")),
        }
    }
}

impl<T: Real> Family<T> for Ncsn {
    type Model = NcsnModel;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<NcsnModel>, Error> {
        self.check()?;
        let score = self.network.build(&mut layout.scope("score"), dim, context)?;
        Ok(Box::new(NcsnModel { settings: *self, score }))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::Ncsn(*self))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, NcsnModel>, Error> {
        self.check()?;
        let (score, store, history) = self.network.train(problem, on_epoch)?;
        Ok(Trained { model: Box::new(NcsnModel { settings: *self, score }), store, history })
    }
}

/// A trained noise-conditional score network.
#[derive(Clone, Debug)]
pub struct NcsnModel {
    settings: Ncsn,
    score: ScoreModel,
}

impl NcsnModel {
    /// The score network.
    pub fn score(&self) -> &ScoreModel {
        &self.score
    }
}

impl<T: Real> Generative<T> for NcsnModel {
    fn dim(&self) -> usize {
        Score::<T>::dim(&self.score)
    }

    fn context(&self) -> usize {
        Score::<T>::context(&self.score)
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        let Ncsn { network, steps_per_level, epsilon, denoise } = self.settings;
        // From the largest level down, each named by a time at its middle.
        let sigmas = network.schedule.sigma_levels();
        let count = sigmas.len();
        let level = |(i, sigma): (usize, f64)| ((i as f64 + 0.5) / count as f64, sigma);
        let levels: Vec<_> = sigmas.into_iter().enumerate().map(level).rev().collect();
        let (highest, lowest) = (levels[0].1, levels[count - 1].1);
        let epsilon = epsilon * lowest * lowest;
        let annealed = AnnealedLangevin { levels, steps_per_level, epsilon, denoise };
        let transition = annealed.compile(device, &self.score)?;
        Ok(Box::new(FromNoise { sd: highest.hypot(1.0), transition }))
    }
}
