//! The network of diffusions and flow matching: the score of noised data, learned by denoising.
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

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::normal_quantile;
use crate::models::{OnEpoch, Problem, check_widths};
use crate::nn::NoiseConditionedMlp;
use crate::noise_schedule::NoiseSchedule;
use crate::ops::elementwise::Activation;
use crate::ops::function::Twin;
use crate::real::Real;
use crate::sample::{Score, Velocity};
use crate::store::{Layout, Scope, Store};
use crate::train::History;

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

    /// The network starts from the right score of Gaussian data, as which all are standardised: densities need several
    /// times fewer steps than where it predicts the noise from nothing.
    pub fn preconditioned(schedule: NoiseSchedule) -> Self {
        let (parameterisation, weighting) = (Parameterisation::Edm { sigma_data: 1.0 }, Weighting::Network);
        Self { parameterisation, weighting, ..Self::new(schedule) }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.schedule.check()?;
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
    pub(super) fn train<T: Real>(
        &self,
        problem: &Problem<'_, T>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(ScoreModel, Store<T>, History), Error> {
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
const SIGMA: [usize; 1] = [1];
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
        let sigma = graph.select(level, &SIGMA)?;
        let (scaled, spread) = (graph.mul(x, input)?, graph.mul(sigma, input)?);
        self.network.forward(graph, scaled, (clock, spread), context)
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
