//! Densities with a formula: log q(θ | x) and draws are each one recorded graph, and training is maximum likelihood.

use std::fmt::Debug;

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::models::{Density, Evaluator, Family, Generative, OnEpoch, Problem, Trained, context_input};
use crate::plan::{Feed, Plan, Request};
use crate::real::Real;
use crate::sample::{Draws, Sampler};
use crate::store::{Layout, Scope};

/// A conditional density q(θ | x) on R^d that records itself.
///
/// It holds parameter ids only, so training, evaluation and sampling are three plans on one
/// [`Store`](crate::store::Store), and its gradient with respect to θ or x is one more.
pub trait ExplicitDensity<T: Real>: Debug + Send + Sync {
    /// d, the width of θ.
    fn dim(&self) -> usize;

    /// The width of x; 0 if the density is unconditional.
    fn context(&self) -> usize;

    /// Records log q(θ | x), `[rows x 1]`, in nats; `context` is one value, or none.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    fn log_prob(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error>;

    /// Records θ ~ q(θ | x), `[rows x d]`, from noise of its own.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    fn sample(&self, graph: &mut Graph<T>, context: &[Var]) -> Result<Var, Error>;
}

/// Settings of a family of explicit densities.
pub trait ExplicitFamily<T: Real>: Family<T> {
    /// Registers a model of θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting or width that cannot be.
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error>;
}

/// Registers an explicit family's model: what its [`Family::model`] does.
///
/// # Errors
/// As [`ExplicitFamily::build`].
pub fn explicit_model<T: Real>(
    family: &(impl ExplicitFamily<T> + ?Sized),
    layout: &mut Layout,
    dim: usize,
    context: usize,
) -> Result<Box<dyn Density<T>>, Error> {
    Ok(Box::new(Explicit(family.build(&mut layout.scope("density"), dim, context)?)))
}

/// Trains an explicit family by maximum likelihood, minimising the mean of -log q(θ | x): what its
/// [`Family::train`](crate::models::Family::train) does.
///
/// # Errors
/// As [`Family::train`](crate::models::Family::train).
pub fn maximum_likelihood<T: Real>(
    family: &(impl ExplicitFamily<T> + ?Sized),
    problem: &Problem<'_, T>,
    on_epoch: OnEpoch<'_>,
) -> Result<Trained<T, dyn Density<T>>, Error> {
    let mut layout = Layout::new();
    let density = family.build(&mut layout.scope("density"), problem.dim, problem.context)?;
    let loss = |graph: &mut Graph<T>, theta: Var, context: &[Var], _: &[Var]| {
        let log_prob = density.log_prob(graph, theta, context)?;
        graph.scale(log_prob, -1.0)
    };
    let (store, history) = problem.minimise(layout, &[], loss, on_epoch)?;
    Ok(Trained { model: Box::new(Explicit(density)), store, history })
}

/// An explicit density as a trained model.
#[derive(Debug)]
pub struct Explicit<T>(pub Box<dyn ExplicitDensity<T>>);

impl<T: Real> Generative<T> for Explicit<T> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        let mut graph = Graph::new();
        let context = context_input(&mut graph, self.context())?;
        let theta = self.0.sample(&mut graph, &context)?;
        Ok(Box::new(graph.compile(device, &Request::outputs(&[theta]).with_common_inputs(&context))?))
    }
}

impl<T: Real> Density<T> for Explicit<T> {
    fn evaluator(&self, device: &Device) -> Result<Box<dyn Evaluator<T> + '_>, Error> {
        let mut graph = Graph::new();
        let theta = graph.input("theta", self.dim())?;
        let context = context_input(&mut graph, self.context())?;
        let log_prob = self.0.log_prob(&mut graph, theta, &context)?;
        Ok(Box::new(graph.compile(device, &Request::outputs(&[log_prob]).with_common_inputs(&context))?))
    }
}

/// A plan whose one output is the log-density of its first input.
impl<T: Real> Evaluator<T> for Plan<T> {
    fn log_prob(&mut self, request: &Draws<'_, T>, theta: &[T], log_q: &mut [T]) -> Result<(), Error> {
        let Draws { weights, rows, context, watch, .. } = *request;
        watch.at(rows, 0, 1)?;
        check_length("contexts (one, or none)", context.len().min(1), context.len())?;
        let feeds = [Feed::Rows(theta), context.first().copied().unwrap_or(Feed::Rows(&[]))];
        self.forward(weights, rows, &feeds[..1 + context.len()], &mut [log_q])
    }
}
