//! Diffusion models and flow matching: a [`ScoreNetwork`](crate::models::ScoreNetwork) that is trained at all times, drawn
//! from along the reverse diffusion or the probability flow, and evaluated along the latter (Song et al. 2021).

use crate::device::Device;
use crate::error::Error;
use crate::models::{
    AnyFamily, Density, Evaluator, Family, Generative, OnEpoch, Parameterisation, Problem, ScoreModel, ScoreNetwork,
    Times, Trained, Weighting,
};
use crate::noise_schedule::NoiseSchedule;
use crate::real::Real;
use crate::sample::{Corrector, Draws, FromNoise, Heun, LogLikelihood, Ode, ReverseSde, Sampler, Score, Trace};
use crate::store::Layout;

/// How draws are made of the trained network.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum DiffusionSampling {
    /// The probability flow in this many steps of Heun.
    Heun(usize),
    /// The probability flow to this tolerance.
    Ode(f64),
    /// The reverse diffusion in this many steps, with or without a corrector.
    Sde(usize, Option<Corrector>),
}

/// Settings of a continuous diffusion, or of flow matching: a family with a density.
///
/// ```
/// use retrodict::models::{Diffusion, DiffusionSampling};
/// let family = Diffusion { sampling: DiffusionSampling::Sde(500, None), ..Diffusion::variance_preserving() };
/// assert!(family.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Diffusion {
    /// The network and its training.
    pub network: ScoreNetwork,
    /// How draws are made.
    pub sampling: DiffusionSampling,
    /// Tolerance of the integration behind `log_prob`, relative and absolute.
    pub tolerance: f64,
    /// How the divergence behind `log_prob` is computed.
    pub trace: Trace,
}

impl Diffusion {
    /// Variance-preserving diffusion.
    ///
    /// It is trained more often at early times than the uniform law of the literature ([`Times::Uniform`]) would:
    /// that suits images, and leaves one row in a hundred for the noise below a tenth, where densities of few
    /// dimensions have their detail.
    pub fn variance_preserving() -> Self {
        Self::preconditioned(NoiseSchedule::variance_preserving()).at(Times::LogNormal { mean: -2.5, sd: 1.5 })
    }

    /// Sub-variance-preserving diffusion, at the times of [`Diffusion::variance_preserving`].
    pub fn sub_variance_preserving() -> Self {
        Self::preconditioned(NoiseSchedule::sub_variance_preserving()).at(Times::LogNormal { mean: -2.5, sd: 1.5 })
    }

    /// Variance-exploding diffusion.
    pub fn variance_exploding() -> Self {
        Self::preconditioned(NoiseSchedule::variance_exploding())
    }

    /// The noise σ itself as time (Karras et al. 2022), ln σ ~ N(-2, 2²): wider, and with more rows at little noise,
    /// than for images, since posteriors may be far narrower than the prior.
    pub fn edm() -> Self {
        Self::preconditioned(NoiseSchedule::edm()).at(Times::LogNormal { mean: -2.0, sd: 2.0 })
    }

    /// Flow matching along straight lines, at uniform times. Narrow posteriors are learned faster at early ones, such as those
    /// of [`Diffusion::variance_preserving`] (compare Wildberger et al. 2023).
    pub fn flow_matching() -> Self {
        let (parameterisation, weighting) = (Parameterisation::Velocity, Weighting::Network);
        Self::with(ScoreNetwork { parameterisation, weighting, ..ScoreNetwork::new(NoiseSchedule::Linear) })
    }

    fn at(mut self, times: Times) -> Self {
        self.network.times = times;
        self
    }

    fn preconditioned(schedule: NoiseSchedule) -> Self {
        Self::with(ScoreNetwork::preconditioned(schedule))
    }

    fn with(network: ScoreNetwork) -> Self {
        Self { network, sampling: DiffusionSampling::Heun(40), tolerance: 1e-5, trace: Trace::Exact }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the one that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        self.network.check()?;
        match (self.network.schedule, self.sampling) {
            (NoiseSchedule::Geometric { .. }, _) => {
                let why = "geometric levels are no diffusion and have no density; the family for them is `Ncsn`";
                Err(Error::parameter("schedule", why))
            }
            (NoiseSchedule::Linear, DiffusionSampling::Sde(..)) => {
                let why = "the diffusion of straight lines has a pole at its start; draw along the flow (Heun or Ode)";
                Err(Error::parameter("sampling", why))
            }
            _ if !(self.tolerance > 0.0 && self.tolerance.is_finite()) => {
                Err(Error::parameter("tolerance", format!("{} must be positive and finite", self.tolerance)))
            }
            _ => Ok(()),
        }
    }
}

impl<T: Real> Family<T> for Diffusion {
    type Model = dyn Density<T>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<dyn Density<T>>, Error> {
        self.check()?;
        let score = self.network.build(&mut layout.scope("score"), dim, context)?;
        Ok(Box::new(DiffusionModel { settings: *self, score }))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::Diffusion(*self))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, dyn Density<T>>, Error> {
        self.check()?;
        let (score, store, history) = self.network.train(problem, on_epoch)?;
        Ok(Trained { model: Box::new(DiffusionModel { settings: *self, score }), store, history })
    }
}

/// A trained diffusion or flow-matching model.
#[derive(Clone, Debug)]
pub struct DiffusionModel {
    settings: Diffusion,
    score: ScoreModel,
}

impl DiffusionModel {
    /// The score network.
    pub fn score(&self) -> &ScoreModel {
        &self.score
    }

    /// (time at which draws start, standard deviation there, time at which they end)
    fn ends(&self) -> (f64, f64, f64) {
        let schedule = self.settings.network.schedule;
        if self.settings.network.parameterisation == Parameterisation::Velocity {
            return (1.0, 1.0, 0.0);
        }
        let start = schedule.t_max();
        // Standardised data have variance 1.
        (start, schedule.alpha(start).hypot(schedule.sigma(start)), schedule.sampling_t_min())
    }

    /// Dense where there is little noise, unless the schedule itself is.
    fn rho(&self) -> f64 {
        match self.settings.network.schedule {
            NoiseSchedule::Edm { .. } => 7.0,
            NoiseSchedule::VariancePreserving { .. } | NoiseSchedule::SubVariancePreserving { .. } => 3.0,
            _ => 1.0,
        }
    }
}

impl<T: Real> Generative<T> for DiffusionModel {
    fn dim(&self) -> usize {
        Score::<T>::dim(&self.score)
    }

    fn context(&self) -> usize {
        Score::<T>::context(&self.score)
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        let (start, sd, end) = self.ends();
        let (schedule, rho) = (self.settings.network.schedule, self.rho());
        Ok(match self.settings.sampling {
            DiffusionSampling::Heun(steps) => {
                let transition = Heun { start, end, steps, rho }.compile(device, &self.score)?;
                Box::new(FromNoise { sd, transition })
            }
            DiffusionSampling::Ode(tolerance) => {
                let ode = Ode { relative: tolerance, absolute: tolerance, ..Ode::new(start, end) };
                Box::new(FromNoise { sd, transition: ode.compile(device, &self.score)? })
            }
            DiffusionSampling::Sde(steps, corrector) => {
                let sde = ReverseSde { schedule, steps, rho, corrector };
                Box::new(FromNoise { sd, transition: sde.compile(device, &self.score)? })
            }
        })
    }
}

impl<T: Real> Density<T> for DiffusionModel {
    fn evaluator(&self, device: &Device) -> Result<Box<dyn Evaluator<T> + '_>, Error> {
        let (start, sd, end) = self.ends();
        let tolerance = self.settings.tolerance;
        let ode = Ode { relative: tolerance, absolute: tolerance, ..Ode::new(end, start) };
        let flow = ode.compile_log_likelihood(device, &self.score, self.settings.trace)?;
        Ok(Box::new(FlowDensity { flow, sd, dim: Score::<T>::dim(&self.score) }))
    }
}

/// ln p(x) = ln N(z; 0, sd²) + ∫ ∇·v dt, with z where the flow carries x.
struct FlowDensity<T> {
    flow: LogLikelihood<T>,
    sd: f64,
    dim: usize,
}

impl<T: Real> Evaluator<T> for FlowDensity<T> {
    fn log_prob(&mut self, request: &Draws<'_, T>, theta: &[T], log_q: &mut [T]) -> Result<(), Error> {
        let mut z = theta.to_vec();
        self.flow.advance(request, &mut z, log_q)?;
        let norm = self.dim as f64 * (self.sd.ln() + 0.5 * std::f64::consts::TAU.ln());
        for (l, z) in log_q.iter_mut().zip(z.chunks_exact(self.dim)) {
            let squares: f64 = z.iter().map(|z| (z.to_f64() / self.sd).powi(2)).sum();
            *l += T::from_f64(-0.5 * squares - norm);
        }
        Ok(())
    }
}
