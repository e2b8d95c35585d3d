//! Samplers: from noise, a score or a log-density to draws.
//!
//! A [`Score`] or a [`LogDensity`] records itself on a graph, be it a trained network or a closure
//! ([`ScoreFn`], [`LogDensityFn`]); the settings of a sampler compile it to a plan of one step, which a [`Transition`]
//! replays: all chains in tiles, across threads, without allocating. Each chain draws noise of its own, so it takes
//! the same course whichever others are in the batch.

mod ais;
mod hmc;
mod langevin;
mod mala;
mod ode;
mod probability_flow;
mod reverse_sde;
mod step_sizes;
mod target;

pub use ais::{Ais, LnZ};
pub use hmc::{Hmc, HmcChains};
pub use langevin::{AnnealedLangevin, Langevin, LangevinStep, Langevins};
pub use mala::Mala;
pub use ode::{LogLikelihood, Ode, OdeFlow, Trace};
pub use probability_flow::{Heun, HeunFlow, ProbabilityFlow, Velocity};
pub use reverse_sde::{Corrector, ReverseDiffusion, ReverseSde, time_grid};
pub use target::{LogDensity, LogDensityFn, Score, ScoreFn, ScoreOf};

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::plan::{Batch, Chains, Feed, Given, Plan, Request};
use crate::progress::Watch;
use crate::real::Real;
use crate::rng::{Distribution, NoiseId, NoiseRows};
use crate::store::Parameters;

/// What a sampler is asked for: how many rows, given what, by which noise.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a, T> {
    /// The parameters of the model behind it; empty if it has none.
    pub weights: Parameters<'a, T>,
    /// How many draws, or chains.
    pub rows: usize,
    /// A feed of the context, `[rows x context]`, or none.
    pub context: &'a [Feed<'a, T>],
    /// The noise: which rows of which tables. A sampler uses its steps from this one on.
    pub noise: NoiseRows<'a>,
    /// Shows progress, and hears when to stop.
    pub watch: &'a Watch,
}

impl<'a, T: Real> Draws<'a, T> {
    /// `rows` chains of a model without weights and context.
    pub fn new(rows: usize, seed: &'a u64, watch: &'a Watch) -> Self {
        Self { weights: Parameters::Slice(&[]), rows, context: &[], noise: NoiseRows::new(seed), watch }
    }

    /// Fills `x`, `[rows x dim]`, with N(0, sd²), from the noise of the first step.
    ///
    /// # Errors
    /// [`Error::Length`] unless `x` has this many rows.
    pub fn fill_normal(&self, sd: f64, x: &mut [T]) -> Result<(), Error> {
        self.noise.check(self.rows)?;
        check_length("rows of the chains", self.rows * (x.len() / self.rows.max(1)), x.len())?;
        self.noise.fill(Distribution::Normal, NoiseId(0), 0..self.rows, x);
        let sd = T::from_f64(sd);
        x.iter_mut().for_each(|x| *x *= sd);
        Ok(())
    }
}

/// A compiled sampler.
pub trait Sampler<T: Real> {
    /// Fills `x`, `[rows x dim]`, with draws, one for each row asked for.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Shape`] if anything does not fit, [`Error::Sampling`] for numbers that are not
    /// finite, [`Error::Cancelled`] if it was stopped.
    fn sample(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error>;
}

/// A plan whose one output is a draw.
impl<T: Real> Sampler<T> for Plan<T> {
    fn sample(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        draws.watch.at(draws.rows, 0, 1)?;
        self.forward(draws.weights, Batch::with_noise(draws.rows, draws.noise), draws.context, &mut [x])
    }
}

/// Chains that are moved on: Langevin dynamics, the reverse of a diffusion, Markov chains.
pub trait Transition<T: Real> {
    /// Moves the chains in `x`, `[rows x dim]`, from where they are to where the sampler leaves them.
    ///
    /// # Errors
    /// As [`Sampler::sample`]; [`Error::Sampling`] names the step and the chain.
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error>;
}

/// Chains that start from N(0, sd²) and are then moved on.
#[derive(Debug)]
pub struct FromNoise<S> {
    /// Standard deviation of the start.
    pub sd: f64,
    /// What moves the chains.
    pub transition: S,
}

impl<T: Real, S: Transition<T>> Sampler<T> for FromNoise<S> {
    fn sample(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        draws.fill_normal(self.sd, x)?;
        self.transition.advance(draws, x)
    }
}

/// One step of a sampler as a plan: from the chains, numbers that change from step to step, and noise, to the chains.
#[derive(Debug)]
pub(crate) struct Step<T> {
    chains: Chains<T>,
}

impl<T: Real> Step<T> {
    /// Compiles what `record` records of x `[rows x dim]`, the step's numbers `[rows x controls]`, and the context.
    pub fn compile(
        device: &Device,
        (dim, context, controls): (usize, usize, usize),
        record: impl FnOnce(&mut Graph<T>, Var, Var, &[Var]) -> Result<Var, Error>,
    ) -> Result<Self, Error> {
        let mut graph = Graph::new();
        let (x, numbers) = (graph.input("x", dim)?, graph.input("controls", controls)?);
        let context = if context == 0 { Vec::new() } else { vec![graph.input("context", context)?] };
        let next = record(&mut graph, x, numbers, &context)?;
        let common = [&[numbers], &context[..]].concat();
        let request = Request::outputs(&[next]).with_common_inputs(&common);
        Ok(Self { chains: Chains::new(graph.compile(device, &request)?) })
    }

    /// Replays a step for each of these rows of numbers, in place. The first is number `first`, counted from 0, of
    /// `steps`.
    pub fn run<const N: usize>(
        &mut self,
        draws: &Draws<'_, T>,
        (first, steps): (usize, usize),
        numbers: impl IntoIterator<Item = [f64; N]>,
        x: &mut [T],
    ) -> Result<(), Error> {
        let given = Given { params: draws.weights, context: draws.context };
        self.chains.begin(given, Batch::with_noise(draws.rows, draws.noise), x, first)?;
        for (step, numbers) in (first..).zip(numbers) {
            draws.watch.at(draws.rows, step, steps)?;
            // Step 0 of the noise is the start's.
            let noise = draws.noise.at(draws.noise.step + 1 + step as u32);
            self.chains.step(given, noise, &numbers.map(T::from_f64))?;
        }
        self.chains.end(x)
    }
}
