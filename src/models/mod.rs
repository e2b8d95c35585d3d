//! The density families, under one vocabulary.
//!
//! A [`Family`] is what a user chooses: settings, from which a model of any width is trained. What the trained model
//! can give is its type:
//!
//! | can | trait | families |
//! |---|---|---|
//! | be drawn from | [`Generative`] | all |
//! | be evaluated, normalised | [`Density`] | mixtures, flows, score models and flow matching |
//! | be recorded on a graph, and so differentiated | [`ExplicitDensity`] | mixtures, flows |
//! | be evaluated up to a constant | [`LogDensity`](crate::sample::LogDensity) | energies, likelihoods, ratios |
//!
//! Where the family is chosen at run time, by a name or by a file, [`AnyFamily`] is one of them all.
//!
//! A width of 0 for the context x makes any model unconditional: q(θ).

mod any;
mod diffusion;
mod energy;
mod explicit;
mod flow;
mod gan;
mod mdn;
mod ncsn;
mod score_network;
mod vae;

pub use any::{AnyFamily, AnyModel};
pub use diffusion::{Diffusion, DiffusionModel, DiffusionSampling};
pub use energy::{EnergyBased, EnergyModel};
pub use explicit::{Explicit, ExplicitDensity, ExplicitFamily, explicit_model, maximum_likelihood};
pub use flow::{CouplingFlow, Mixing, RealNvp, SplineFlow, Split};
pub use gan::{Gan, GanModel};
pub use mdn::{Mdn, MixtureNetwork};
pub use ncsn::{Ncsn, NcsnModel};
pub use score_network::{Parameterisation, ScoreModel, ScoreNetwork, Times, Weighting};
pub use vae::{DecoderNoise, Vae, VaeModel};

use std::fmt::Debug;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::plan::Request;
use crate::real::Real;
use crate::sample::{Draws, Sampler};
use crate::store::{Layout, Store};
pub use crate::train::OnEpoch;
use crate::train::{Checkpoints, History, Minimiser, Source, Training, TrainingSet};

/// A trained model of θ given x from which can be drawn.
pub trait Generative<T: Real>: Debug + Send + Sync {
    /// d, the width of θ.
    fn dim(&self) -> usize;

    /// The width of x; 0 if the model is unconditional.
    fn context(&self) -> usize;

    /// Compiles what draws θ ~ q(θ | x).
    ///
    /// # Errors
    /// What compiling says.
    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error>;
}

/// A trained model whose normalised density can be evaluated.
pub trait Density<T: Real>: Generative<T> {
    /// Compiles what evaluates ln q(θ | x).
    ///
    /// # Errors
    /// What compiling says.
    fn evaluator(&self, device: &Device) -> Result<Box<dyn Evaluator<T> + '_>, Error>;
}

/// A compiled density.
pub trait Evaluator<T: Real> {
    /// ln q(θ | x) in nats for each row of `theta`, `[rows x dim]`; the request has a feed of the context (none if the model
    /// is unconditional), and noise for densities that are estimated.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Shape`] if anything does not fit, [`Error::Sampling`] if an integration fails,
    /// [`Error::Cancelled`] if it was stopped.
    fn log_prob(&mut self, request: &Draws<'_, T>, theta: &[T], log_q: &mut [T]) -> Result<(), Error>;
}

/// What a user chooses: the settings of a family, from which a model of any width is trained.
pub trait Family<T: Real>: Debug {
    /// What the trained model can give: `dyn Density<T>` if it has a density.
    type Model: Generative<T> + ?Sized;

    /// Registers an untrained model of θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting or width that cannot be.
    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<Self::Model>, Error>;

    /// The settings as a file tells them; none for a family that this library does not know.
    fn settings(&self) -> Option<AnyFamily> {
        None
    }

    /// Trains a model of θ given x.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting or width that cannot be, [`Error::Training`] if it diverges.
    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, Self::Model>, Error>;
}

/// A model with its weights, and how it was trained.
#[derive(Debug)]
pub struct Trained<T, M: ?Sized> {
    /// The model.
    pub model: Box<M>,
    /// Its weights.
    pub store: Store<T>,
    /// First to last epoch.
    pub history: History,
}

/// What a family is given to train on: pairs (θ, x) in learned coordinates, each column of order one.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, T: Real> {
    /// Where to train.
    pub device: &'a Device,
    /// θ, `[rows x dim]`.
    pub theta: &'a [T],
    /// The width of θ.
    pub dim: usize,
    /// x, `[rows x context]`.
    pub x: &'a [T],
    /// The width of x; 0 for none.
    pub context: usize,
    /// Rows that are trained on.
    pub training_rows: &'a [u32],
    /// Rows on which early stopping is decided.
    pub validation_rows: &'a [u32],
    /// How to train.
    pub training: &'a Training,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Where the training can be taken up again, if it is to be.
    pub checkpoints: Option<&'a dyn Checkpoints<T>>,
}

impl<T: Real> Problem<'_, T> {
    /// Minimises the mean of the loss that `record` records, given θ, the context (none or one value), and a value for
    /// each of `more` sources.
    ///
    /// # Errors
    /// What recording says, and what [`fit`](crate::train::fit) says.
    pub fn minimise(
        &self,
        layout: Layout,
        more: &[Source<'_, T>],
        record: impl FnOnce(&mut Graph<T>, Var, &[Var], &[Var]) -> Result<Var, Error>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(Store<T>, History), Error> {
        let mut store = Store::new(layout, self.seed);
        let mut graph = Graph::new();
        let theta = graph.input("theta", self.dim)?;
        let context = context_input(&mut graph, self.context)?;
        let further = more.iter().map(|source| graph.input("further", self.cols(source)));
        let further = further.collect::<Result<Vec<_>, _>>()?;
        let loss = record(&mut graph, theta, &context, &further)?;
        let all = 0..store.layout().len();
        let mut plan = graph.compile(self.device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;

        let mut inputs = vec![Source::Table(self.theta)];
        inputs.extend(context.iter().map(|_| Source::Table(self.x)));
        inputs.extend(more);
        let set = TrainingSet { inputs: &inputs, training: self.training_rows, validation: self.validation_rows };
        let mut minimiser = Minimiser::new(self.device, &mut plan, all, &set, self.training)?;
        let history = minimiser.run(&mut store, self.checkpoints, on_epoch)?;
        Ok((store, history))
    }

    fn cols(&self, source: &Source<'_, T>) -> usize {
        let rows = self.theta.len() / self.dim.max(1);
        match source {
            Source::Table(table) | Source::Next(table) => table.len() / rows.max(1),
            Source::WarmUp(_) => 1,
        }
    }
}

/// The input that feeds the context: none if it has no column.
pub(crate) fn context_input<T: Real>(graph: &mut Graph<T>, cols: usize) -> Result<Vec<Var>, Error> {
    if cols == 0 { Ok(Vec::new()) } else { Ok(vec![graph.input("x", cols)?]) }
}

/// `Ok` if a value and the context have the widths that a model was built for.
pub(crate) fn check_widths<T: Real>(
    op: &'static str,
    graph: &Graph<T>,
    value: (Var, usize),
    context: (&[Var], usize),
) -> Result<(), Error> {
    let widths = context.0.iter().map(|&v| graph.cols(v)).collect::<Result<Vec<_>, _>>()?;
    let found = [graph.cols(value.0)?, widths.iter().sum()];
    for ((what, found), expected) in ["value", "context"].into_iter().zip(found).zip([value.1, context.1]) {
        if found != expected {
            return Err(Error::shape(op, format!("the {what} has {found} columns, expected {expected}")));
        }
    }
    Ok(())
}
