//! RealNVP: a normalizing flow of affine couplings (Dinh, Sohl-Dickstein & Bengio 2017), conditioned on x.
//!
//! Each layer splits the columns of z in two: the identity part passes, the other is scaled and shifted by numbers
//! that an MLP, the conditioner, computes from the identity part and x,
//! $$ z_b \leftarrow z_b\, e^{s(z_a, x)} + t(z_a, x), \qquad \ln\det \leftarrow \ln\det + \textstyle\sum s. $$
//! With the base N(0, I), log q(θ | x) = log N(z; 0, I) + ln det ∂z/∂θ. Sampling runs the layers backwards.
//!
//! In one dimension there is no identity part and the density is a Gaussian whose mean and width depend on x.

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{
    Density, ExplicitDensity, ExplicitFamily, Family, OnEpoch, Problem, Trained, check_widths, maximum_likelihood,
    or_constant,
};
use crate::nn::Mlp;
use crate::ops::coupling::Direction;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::rng::permutation;
use crate::store::Scope;

/// Which columns a layer transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The upper half and the lower half of the columns in turn.
    Halves,
    /// Each pair of layers splits a random permutation of the columns, drawn from this seed.
    Permuted(u64),
}

impl Split {
    /// (identity columns, transformed columns) of a layer.
    fn columns(self, layer: usize, dim: usize) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = match self {
            Self::Halves => (0..dim).collect(),
            Self::Permuted(seed) => {
                permutation(dim as u32, seed, layer as u64 / 2).into_iter().map(|c| c as usize).collect()
            }
        };
        let mut upper = order.split_off(dim / 2);
        order.sort_unstable();
        upper.sort_unstable();
        // In one dimension every layer transforms the one column.
        if layer.is_multiple_of(2) || order.is_empty() { (order, upper) } else { (upper, order) }
    }
}

/// Settings of a RealNVP flow.
#[derive(Clone, Debug, PartialEq)]
pub struct RealNvp {
    /// Number of coupling layers.
    pub layers: usize,
    /// Widths of each conditioner's hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Bound on |s| of one layer.
    pub clamp: f64,
    /// Which columns each layer transforms.
    pub split: Split,
}

impl Default for RealNvp {
    fn default() -> Self {
        Self { layers: 8, hidden: vec![64, 64], activation: Activation::Silu, clamp: 2.0, split: Split::Permuted(0) }
    }
}

impl RealNvp {
    /// Registers a flow of θ `[rows x dim]` given x `[rows x context]`; it starts as the identity.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no layer, `dim` is 0, or `clamp` is not positive.
    pub fn flow(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<RealNvpFlow, Error> {
        for (name, value) in [("layers", self.layers), ("dim", dim)] {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        if !(self.clamp > 0.0 && self.clamp.is_finite()) {
            return Err(Error::parameter("clamp", format!("{} must be positive and finite", self.clamp)));
        }
        let mut layers = Vec::with_capacity(self.layers);
        for l in 0..self.layers {
            let (identity, transformed) = self.split.columns(l, dim);
            let (inputs, outputs) = ((identity.len() + context).max(1), 2 * transformed.len());
            let conditioner =
                Mlp::starting_at_zero(&mut scope.scope(l), inputs, &self.hidden, outputs, self.activation)?;
            layers.push(Layer { identity, transformed, conditioner });
        }
        Ok(RealNvpFlow { dim, context, clamp: self.clamp, layers })
    }
}

impl<T: Real> ExplicitFamily<T> for RealNvp {
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error> {
        Ok(Box::new(self.flow(scope, dim, context)?))
    }
}

impl<T: Real> Family<T> for RealNvp {
    type Model = dyn Density<T>;

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, dyn Density<T>>, Error> {
        maximum_likelihood(self, problem, on_epoch)
    }
}

#[derive(Clone, Debug)]
struct Layer {
    identity: Vec<usize>,
    transformed: Vec<usize>,
    conditioner: Mlp,
}

/// A registered RealNVP flow.
#[derive(Clone, Debug)]
pub struct RealNvpFlow {
    dim: usize,
    context: usize,
    clamp: f64,
    layers: Vec<Layer>,
}

impl RealNvpFlow {
    /// Records the flow in the given direction (forward: θ -> z) and returns the value with the log-det of its
    /// Jacobian, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width does not fit.
    pub fn transform_and_log_det<T: Real>(
        &self,
        graph: &mut Graph<T>,
        value: Var,
        context: &[Var],
        direction: Direction,
    ) -> Result<(Var, Var), Error> {
        check_widths("real_nvp", graph, (value, self.dim), (context, self.context))?;
        let mut state = (value, graph.constant(0.0, 1)?);
        let mut step = |layer: &Layer| -> Result<(), Error> {
            let mut inputs = Vec::with_capacity(2);
            if !layer.identity.is_empty() {
                inputs.push(graph.select(state.0, &layer.identity)?);
            }
            inputs.extend(context);
            let inputs = or_constant(graph, inputs)?;
            let raw = layer.conditioner.forward(graph, &inputs)?;
            state = graph.coupling(state.0, raw, state.1, &layer.transformed, self.clamp, direction)?;
            Ok(())
        };
        match direction {
            Direction::Forward => self.layers.iter().try_for_each(&mut step)?,
            Direction::Inverse => self.layers.iter().rev().try_for_each(&mut step)?,
        }
        Ok(state)
    }
}

impl<T: Real> ExplicitDensity<T> for RealNvpFlow {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn log_prob(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        let (z, ln_det) = self.transform_and_log_det(graph, theta, context, Direction::Forward)?;
        let base = graph.normal_log_density(z)?;
        graph.add(base, ln_det)
    }

    fn sample(&self, graph: &mut Graph<T>, context: &[Var]) -> Result<Var, Error> {
        let noise = graph.normal(self.dim)?;
        Ok(self.transform_and_log_det(graph, noise, context, Direction::Inverse)?.0)
    }
}
