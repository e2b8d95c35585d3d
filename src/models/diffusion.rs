//! Diffusion models: the score of noised data, learned by denoising, and flow matching on the same network.
//!
//! Along a Gaussian path $x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon$ a network F is trained on what can be computed
//! from data and noise,
//! $$ L = \mathbb E_{t, x_0, \epsilon}\; \tfrac12 w(t)\, \left| F(x_t, t) - F^* \right|^2,
//!    \qquad F^* = p(t)\, x_0 + q(t)\, \epsilon, $$
//! and its optimum is the mean of F* given x_t, from which the noise $\hat\epsilon = a\, x_t + b\, F$ follows, and with
//! it the score $\nabla \ln p_t(x) = -\hat\epsilon / \sigma$ (Vincent 2011; Song & Ermon 2019) and the velocity of the
//! probability flow, $f x + (g^2 / 2\sigma)\, \hat\epsilon$. Parameterisations differ in what F stands for:
//!
//! | F is | F* | a | b | $w$ for $\lambda = \sigma^2$ |
//! |---|---|---|---|---|
//! | the score | $-\epsilon / \sigma$ | 0 | $-\sigma$ | $\sigma^2$ |
//! | the noise | $\epsilon$ | 0 | 1 | 1 |
//! | EDM's, $n^2 = \sigma^2 + \alpha^2 \sigma_d^2$ | $(\sigma x_0 - \alpha \sigma_d^2 \epsilon) / n \sigma_d$ | $\sigma / n^2$ | $-\alpha \sigma_d / n$ | $b^2$ |
//! | the velocity of straight lines | $\epsilon - x_0$ | 1 | $\alpha$ | $\alpha^2$ |
//!
//! since in every row $\hat\epsilon - \epsilon = b\,(F - F^*)$: the loss is
//! $\tfrac12 \lambda\, |s + \epsilon / \sigma|^2$, denoising score matching, with $w = \lambda b^2 / \sigma^2$.

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::math::normal_quantile;
use crate::models::{AnyFamily, Density, Evaluator, Family, Generative, OnEpoch, Problem, Trained, check_widths};
use crate::nn::NoiseConditionedMlp;
use crate::noise_schedule::NoiseSchedule;
use crate::ops::elementwise::Activation;
use crate::ops::function::Twin;
use crate::plan::Feed;
use crate::progress::Watch;
use crate::real::Real;
use crate::rng::NoiseRows;
use crate::sample::{
    AnnealedLangevin, Corrector, Draws, FromNoise, Heun, LogLikelihood, Ode, ReverseSde, Sampler, Score, Trace,
    Velocity,
};
use crate::store::{Layout, Scope};

/// What the network stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Parameterisation {
    /// The score itself (Song & Ermon 2019).
    Score,
    /// The noise (Ho et al. 2020).
    Epsilon,
    /// What is missing in a denoiser that is already right for Gaussian data of this standard deviation (Karras et al.
    /// 2022).
    Edm {
        /// σ_d; learned coordinates are standardised, so 1.
        sigma_data: f64,
    },
    /// The velocity dx/dt = ε - x₀ of straight lines; only on the schedule [`NoiseSchedule::Linear`] (Lipman et al.
    /// 2023; Liu et al. 2023).
    Velocity,
}

/// The weight λ(t) of denoising score matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Weighting {
    /// λ = σ²: the noise is equally well predicted at all levels (Song & Ermon 2019).
    SigmaSquared,
    /// λ = g²: the loss bounds the likelihood (Song et al. 2021b).
    Likelihood,
    /// w = 1: the network's own output is equally well predicted at all levels (Karras et al. 2022; flow matching).
    Network,
}

/// The law of the times at which the network is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Times {
    /// Uniform over the schedule's times.
    Uniform,
    /// ln t normal, and t within the schedule's times: for EDM, where t is σ.
    LogNormal {
        /// Mean of ln t.
        mean: f64,
        /// Standard deviation of ln t.
        sd: f64,
    },
}

/// The score network and how it is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ScoreNetwork {
    /// How noise comes in.
    pub schedule: NoiseSchedule,
    /// What the network stands for.
    pub parameterisation: Parameterisation,
    /// λ(t).
    pub weighting: Weighting,
    /// Where it is trained.
    pub times: Times,
    /// Width of the network.
    pub hidden: usize,
    /// Its residual blocks.
    pub blocks: usize,
    /// Octaves of sines and cosines of each column that it sees beside it. Networks are slow to learn fine structure
    /// (Rahaman et al. 2019): with 3, thin rings are learned that otherwise stay a Gaussian; with 0, the default, smooth
    /// densities are learned from fewer rows.
    #[cfg_attr(feature = "weights", serde(default))]
    pub waves: u8,
}

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

    /// Flow matching along straight lines.
    pub fn flow_matching() -> Self {
        Self::of(NoiseSchedule::Linear, Parameterisation::Velocity, Weighting::Network)
    }

    fn at(mut self, times: Times) -> Self {
        self.network.times = times;
        self
    }

    /// The network starts from the right score of Gaussian data, as which all are standardised: densities need several
    /// times fewer steps than where it predicts the noise from nothing.
    fn preconditioned(schedule: NoiseSchedule) -> Self {
        Self::of(schedule, Parameterisation::Edm { sigma_data: 1.0 }, Weighting::Network)
    }

    fn of(schedule: NoiseSchedule, parameterisation: Parameterisation, weighting: Weighting) -> Self {
        let network = ScoreNetwork { parameterisation, weighting, ..ScoreNetwork::new(schedule) };
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

impl ScoreNetwork {
    /// Noise prediction with λ = σ² at uniform times, 4 residual blocks of width 128.
    pub fn new(schedule: NoiseSchedule) -> Self {
        Self {
            schedule,
            parameterisation: Parameterisation::Epsilon,
            weighting: Weighting::SigmaSquared,
            times: Times::Uniform,
            hidden: 128,
            blocks: 4,
            waves: 0,
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.schedule.check()?;
        if self.waves > 8 {
            let why = format!("{}; at most 8: the finest has 2^(waves - 2) periods for each unit", self.waves);
            return Err(Error::parameter("waves", why));
        }
        let straight = self.schedule == NoiseSchedule::Linear;
        match self.parameterisation {
            Parameterisation::Velocity if !straight => {
                let why = "the velocity ε - x₀ is that of straight lines only (`NoiseSchedule::Linear`)";
                Err(Error::parameter("parameterisation", why))
            }
            Parameterisation::Edm { sigma_data } if !(sigma_data > 0.0 && sigma_data.is_finite()) => {
                Err(Error::parameter("sigma_data", format!("{sigma_data} must be positive and finite")))
            }
            _ if straight && self.weighting == Weighting::Likelihood => {
                Err(Error::parameter("weighting", "g² of straight lines has a pole; choose another weight"))
            }
            _ => match self.times {
                Times::LogNormal { mean, sd } if !(mean.is_finite() && sd > 0.0 && sd.is_finite()) => {
                    Err(Error::parameter("times", format!("ln t ~ N({mean}, {sd}²) is no law")))
                }
                _ => Ok(()),
            },
        }
    }

    /// Registers the network for x `[rows x dim]` given a context.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting that cannot be.
    pub fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<ScoreModel, Error> {
        self.check()?;
        let size = (self.hidden, self.blocks);
        let network = NoiseConditionedMlp::new(scope, (dim, context, dim), size, self.waves, Activation::Silu)?;
        Ok(ScoreModel { settings: *self, network, dim, context })
    }

    /// Trains the network by denoising score matching.
    fn train<T: Real>(
        &self,
        problem: &Problem<'_, T>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(ScoreModel, crate::store::Store<T>, crate::train::History), Error> {
        let mut layout = Layout::new();
        let model = self.build(&mut layout.scope("score"), problem.dim, problem.context)?;
        let loss = |graph: &mut Graph<T>, x: Var, context: &[Var], _: &[Var]| model.loss(graph, x, context);
        let (store, history) = problem.minimise(layout, &[], loss, on_epoch)?;
        Ok((model, store, history))
    }

    /// Its kernel of this name in `kernels/diffusion.cu`, which takes the settings in this order.
    fn twin(&self, name: &'static str) -> Twin {
        let (parameterisation, sigma_data) = match self.parameterisation {
            Parameterisation::Score => (0.0, 0.0),
            Parameterisation::Epsilon => (1.0, 0.0),
            Parameterisation::Edm { sigma_data } => (2.0, sigma_data),
            Parameterisation::Velocity => (3.0, 0.0),
        };
        let weighting = match self.weighting {
            Weighting::SigmaSquared => 0.0,
            Weighting::Likelihood => 1.0,
            Weighting::Network => 2.0,
        };
        let (first, last) = (self.schedule.t_min(), self.schedule.t_max());
        let times = match self.times {
            Times::Uniform => [0.0, first, last, 0.0, 0.0],
            Times::LogNormal { mean, sd } => [1.0, first, last, mean, sd],
        };
        let network = [parameterisation, sigma_data, weighting];
        let numbers = self.schedule.numbers().into_iter().chain(network).chain(times).collect();
        Twin { kernel: ("diffusion", name), numbers, team: 1 }
    }

    /// The time of a uniform number, at which the network is trained.
    fn time(&self, u: f64) -> f64 {
        let (first, last) = (self.schedule.t_min(), self.schedule.t_max());
        match self.times {
            Times::Uniform => first + (last - first) * u,
            Times::LogNormal { mean, sd } => (mean + sd * normal_quantile(u)).exp().clamp(first, last),
        }
    }

    /// The numbers of a time.
    fn level(&self, t: f64) -> Level {
        let schedule = self.schedule;
        let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
        let straight = self.parameterisation == Parameterisation::Velocity;
        let (data, noise, skip, gain) = match self.parameterisation {
            Parameterisation::Score => (0.0, -1.0 / sigma, 0.0, -sigma),
            Parameterisation::Epsilon => (0.0, 1.0, 0.0, 1.0),
            Parameterisation::Edm { sigma_data } => {
                let n = sigma.hypot(alpha * sigma_data);
                let noise = -alpha * sigma_data / n;
                (sigma / (n * sigma_data), noise, sigma / (n * n), noise)
            }
            Parameterisation::Velocity => (-1.0, 1.0, 1.0, alpha),
        };
        let weight = match self.weighting {
            Weighting::SigmaSquared => gain * gain,
            Weighting::Likelihood => schedule.diffusion_squared(t) * gain * gain / (sigma * sigma),
            Weighting::Network => 1.0,
        };
        // v = f x + (g² / 2σ) ε̂; for straight lines the poles of f and g² cancel, and v = F.
        let (drift, pull) = match straight {
            true => (-1.0, 1.0),
            false => (schedule.drift(t), 0.5 * schedule.diffusion_squared(t) / sigma),
        };
        let velocity = if straight { [0.0, 1.0] } else { [drift + pull * skip, pull * gain] };
        Level {
            path: [alpha, sigma],
            target: [data, noise],
            score: [-skip / sigma, -gain / sigma],
            velocity,
            weight,
            input: 1.0 / alpha.hypot(sigma),
            clock: self.clock(t),
        }
    }

    /// What the network is told of a time: the logarithm of noise over data, from 0 to 1; on straight lines, where
    /// that has a pole, the time.
    fn clock(&self, t: f64) -> f64 {
        if self.schedule == NoiseSchedule::Linear {
            return t;
        }
        let ratio = |t: f64| (self.schedule.sigma(t) / self.schedule.alpha(t)).ln();
        let (first, last) = (ratio(self.schedule.t_min()), ratio(self.schedule.t_max()));
        (ratio(t) - first) / (last - first)
    }
}

/// The numbers of one time.
struct Level {
    /// α, σ of x₀ and ε in x_t.
    path: [f64; 2],
    /// p, q of x₀ and ε in the network's target.
    target: [f64; 2],
    /// Of x and F in the score.
    score: [f64; 2],
    /// Of x and F in the velocity.
    velocity: [f64; 2],
    /// w
    weight: f64,
    /// On x, so that the network sees numbers of order one.
    input: f64,
    clock: f64,
}

/// Columns of the recorded level.
const PATH: [usize; 2] = [0, 1];
const TARGET: [usize; 2] = [2, 3];
const SCORE: [usize; 2] = [4, 5];
const VELOCITY: [usize; 2] = [6, 7];
const WEIGHT: [usize; 1] = [8];
const INPUT: [usize; 1] = [9];
const CLOCK: [usize; 1] = [10];

/// A registered score network.
#[derive(Clone, Debug)]
pub struct ScoreModel {
    settings: ScoreNetwork,
    network: NoiseConditionedMlp,
    dim: usize,
    context: usize,
}

impl ScoreModel {
    /// Records the loss of data `x`, `[rows x 1]`: the mean over its columns of ½ w (F - F*)², at a time and with a
    /// noise that each row draws anew.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn loss<T: Real>(&self, graph: &mut Graph<T>, x: Var, context: &[Var]) -> Result<Var, Error> {
        let settings = self.settings;
        let u = graph.uniform(1)?;
        let time = move |u: &[&[T]], t: &mut [T]| t[0] = T::from_f64(settings.time(u[0][0].to_f64()));
        let t = graph.function_with_twin(&[u], 1, settings.twin("diffusion_time"), time)?;
        self.loss_at(graph, x, t, context)
    }

    /// The same at times `t`, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn loss_at<T: Real>(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error> {
        let noise = graph.normal(self.dim)?;
        let level = self.level(graph, t)?;
        let [path, target, weight] = [&PATH[..], &TARGET, &WEIGHT].map(|columns| graph.select(level, columns));
        let noised = graph.combine(&[x, noise], path?)?;
        let output = self.output(graph, noised, level, context)?;
        let aim = graph.combine(&[x, noise], target?)?;
        let difference = graph.sub(output, aim)?;
        let squares = graph.map(Activation::Square, difference)?;
        let mean = graph.mean_cols(squares)?;
        let weighted = graph.mul(mean, weight?)?;
        graph.scale(weighted, 0.5)
    }

    /// The numbers of the times t, a row each.
    fn level<T: Real>(&self, graph: &mut Graph<T>, t: Var) -> Result<Var, Error> {
        let settings = self.settings;
        graph.function_with_twin(&[t], 11, settings.twin("diffusion_level"), move |t, row| {
            let Level { path, target, score, velocity, weight, input, clock } = settings.level(t[0][0].to_f64());
            let numbers = [path, target, score, velocity].into_iter().flatten().chain([weight, input, clock]);
            row.iter_mut().zip(numbers).for_each(|(row, number)| *row = T::from_f64(number));
        })
    }

    /// F(x, level | context)
    fn output<T: Real>(&self, graph: &mut Graph<T>, x: Var, level: Var, context: &[Var]) -> Result<Var, Error> {
        check_widths("score network", graph, (x, self.dim), (context, self.context))?;
        let (input, clock) = (graph.select(level, &INPUT)?, graph.select(level, &CLOCK)?);
        let scaled = graph.mul(x, input)?;
        self.network.forward(graph, scaled, clock, context)
    }

    /// A combination of x and F.
    fn combination<T: Real>(
        &self,
        graph: &mut Graph<T>,
        columns: [usize; 2],
        (x, t): (Var, Var),
        context: &[Var],
    ) -> Result<Var, Error> {
        let level = self.level(graph, t)?;
        let output = self.output(graph, x, level, context)?;
        let coefficients = graph.select(level, &columns)?;
        graph.combine(&[x, output], coefficients)
    }
}

impl<T: Real> Score<T> for ScoreModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn score(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error> {
        self.combination(graph, SCORE, (x, t), context)
    }
}

impl<T: Real> Velocity<T> for ScoreModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn velocity(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error> {
        self.combination(graph, VELOCITY, (x, t), context)
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
        self.score.dim
    }

    fn context(&self) -> usize {
        self.score.context
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
        Ok(Box::new(FlowDensity { flow, sd, dim: self.score.dim }))
    }
}

/// ln p(x) = ln N(z; 0, sd²) + ∫ ∇·v dt, with z where the flow carries x.
struct FlowDensity<T> {
    flow: LogLikelihood<T>,
    sd: f64,
    dim: usize,
}

impl<T: Real> Evaluator<T> for FlowDensity<T> {
    fn log_prob(&mut self, weights: &[T], theta: &[T], context: &[Feed<'_, T>], log_q: &mut [T]) -> Result<(), Error> {
        check_length("theta elements (rows x columns)", log_q.len() * self.dim, theta.len())?;
        let (mut z, watch, seed) = (theta.to_vec(), Watch::default(), 0);
        let draws = Draws { weights, rows: log_q.len(), context, noise: NoiseRows::new(&seed), watch: &watch };
        self.flow.advance(&draws, &mut z, log_q)?;
        let norm = self.dim as f64 * (self.sd.ln() + 0.5 * std::f64::consts::TAU.ln());
        for (l, z) in log_q.iter_mut().zip(z.chunks_exact(self.dim)) {
            let squares: f64 = z.iter().map(|z| (z.to_f64() / self.sd).powi(2)).sum();
            *l += T::from_f64(-0.5 * squares - norm);
        }
        Ok(())
    }
}

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
        let network = Diffusion::preconditioned(schedule).network;
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
        self.score.dim
    }

    fn context(&self) -> usize {
        self.score.context
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
