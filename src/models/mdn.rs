//! Mixture density networks (Bishop 1994): a network of x gives the weights, means and precisions of K Gaussians.

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{
    AnyFamily, Density, ExplicitDensity, ExplicitFamily, Family, OnEpoch, Problem, Trained, check_widths,
    explicit_model, maximum_likelihood,
};
use crate::nn::{Linear, Mlp};
use crate::ops::elementwise::Activation;
use crate::ops::mixture_log_density::Covariance;
use crate::real::Real;
use crate::store::{Init, Layout, Param, Scope};

/// Settings of a mixture density network.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Mdn {
    /// Number of Gaussians.
    pub components: usize,
    /// Diagonal or full precision matrices.
    pub covariance: Covariance,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
}

impl Default for Mdn {
    fn default() -> Self {
        Self { components: 10, covariance: Covariance::Full, hidden: vec![64, 64], activation: Activation::Silu }
    }
}

impl<T: Real> ExplicitFamily<T> for Mdn {
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error> {
        Ok(Box::new(self.network(scope, dim, context)?))
    }
}

impl<T: Real> Family<T> for Mdn {
    type Model = dyn Density<T>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<dyn Density<T>>, Error> {
        explicit_model(self, layout, dim, context)
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::Mdn(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, dyn Density<T>>, Error> {
        maximum_likelihood(self, problem, on_epoch)
    }
}

impl Mdn {
    /// Registers a network for θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// Components that start alike would stay alike; what tells them apart at the start are the random parameters of
    /// the mixture itself, `start`, to which the network's output, which starts small, is added.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no component or `dim` is 0.
    pub fn network(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<MixtureNetwork, Error> {
        for (name, value) in [("components", self.components), ("dim", dim)] {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        let Self { components, covariance, ref hidden, activation } = *self;
        let width = covariance.raw_width(components, dim);
        let network = Mlp::starting_at_zero(scope, context.max(1), hidden, width, activation)?;
        let start = scope.param("start", 1, width, Init::Normal(1.0))?;
        Ok(MixtureNetwork { dim, context, components, covariance, network, start })
    }
}

/// A registered mixture density network.
#[derive(Clone, Debug)]
pub struct MixtureNetwork {
    dim: usize,
    context: usize,
    components: usize,
    covariance: Covariance,
    network: Mlp,
    start: Param,
}

impl MixtureNetwork {
    /// The layers, first to last.
    pub fn layers(&self) -> &[Linear] {
        self.network.layers()
    }

    /// Records the parameters of the mixture.
    fn parameters<T: Real>(&self, graph: &mut Graph<T>, context: &[Var]) -> Result<Var, Error> {
        let inputs = if context.is_empty() { vec![graph.constant(1.0, 1)?] } else { context.to_vec() };
        let raw = self.network.forward(graph, &inputs)?;
        let one = graph.constant(1.0, 1)?;
        let start = graph.linear(&[one], self.start, None, Activation::Identity)?;
        graph.add(raw, start)
    }
}

impl<T: Real> ExplicitDensity<T> for MixtureNetwork {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn log_prob(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        check_widths("mixture network", graph, (theta, self.dim), (context, self.context))?;
        let raw = self.parameters(graph, context)?;
        graph.mixture_log_density(theta, raw, self.components, self.covariance)
    }

    fn sample(&self, graph: &mut Graph<T>, context: &[Var]) -> Result<Var, Error> {
        let normal = graph.normal(self.dim)?;
        check_widths("mixture network", graph, (normal, self.dim), (context, self.context))?;
        let raw = self.parameters(graph, context)?;
        let uniform = graph.uniform(1)?;
        graph.mixture_sample(raw, normal, uniform, self.components, self.covariance)
    }
}
