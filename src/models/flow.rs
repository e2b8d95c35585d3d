//! Normalizing flows of couplings, conditioned on x: RealNVP (Dinh, Sohl-Dickstein & Bengio 2017) and neural splines.
//!
//! Each layer splits the columns of z in two: the identity part passes, the other is scaled and shifted by numbers
//! that an MLP, the conditioner, computes from the identity part and x,
//! $$ z_b \leftarrow z_b\, e^{s(z_a, x)} + t(z_a, x), \qquad \ln\det \leftarrow \ln\det + \textstyle\sum s. $$
//! With the base N(0, I), log q(θ | x) = log N(z; 0, I) + ln det ∂z/∂θ. Sampling runs the layers backwards.
//!
//! In one dimension there is no identity part: the affine flow is a Gaussian whose mean and width depend on x, the
//! spline flow a monotone map that depends on x.
//!
//! A [`SplineFlow`] puts a monotone rational-quadratic spline in the place of scale and shift (Durkan et al. 2019).

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{
    AnyFamily, Density, ExplicitDensity, ExplicitFamily, Family, OnEpoch, Problem, Trained, check_widths,
    explicit_model, maximum_likelihood,
};
use crate::nn::Mlp;
use crate::ops::coupling::Direction;
use crate::ops::elementwise::Activation;
use crate::ops::linear::Input;
use crate::real::Real;
use crate::rng::permutation;
use crate::store::{Init, Layout, Param, Scope};

/// Which columns a layer transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
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

/// A learned map of all columns before each coupling. It starts as the identity: data arrive standardised and couplings
/// start as the identity, so the data-dependent start of Kingma & Dhariwal (2018) would be the identity too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Mixing {
    /// None; the split alone mixes.
    #[default]
    None,
    /// A scale and a shift of each column.
    ActNorm,
    /// An invertible matrix, L U with unit lower and positive upper triangle.
    Linear,
}

/// What a coupling does to the transformed columns.
#[derive(Clone, Copy, Debug)]
enum Transform {
    /// Scale and shift, with a bound on the log-scale.
    Affine { clamp: f64 },
    /// A spline on ±`bound`.
    Spline { bins: usize, bound: f64 },
}

impl Transform {
    /// Numbers that the conditioner computes for each transformed column.
    fn numbers(self) -> usize {
        match self {
            Self::Affine { .. } => 2,
            Self::Spline { bins, .. } => bins.saturating_mul(3) - 1,
        }
    }
}

/// Settings of a RealNVP flow.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
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
    /// What mixes the columns before each coupling.
    pub mixing: Mixing,
}

/// Settings of a neural spline flow.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SplineFlow {
    /// Number of coupling layers.
    pub layers: usize,
    /// Widths of each conditioner's hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Bins of each spline.
    pub bins: usize,
    /// The splines act on ±`bound`, in units of standardised columns; beyond, a layer is the identity.
    pub bound: f64,
    /// Which columns each layer transforms.
    pub split: Split,
    /// What mixes the columns before each coupling.
    pub mixing: Mixing,
}

impl Default for SplineFlow {
    fn default() -> Self {
        Self {
            layers: 6,
            hidden: vec![64, 64],
            activation: Activation::Silu,
            bins: 8,
            bound: 5.0,
            split: Split::Permuted(0),
            mixing: Mixing::None,
        }
    }
}

impl Default for RealNvp {
    fn default() -> Self {
        Self {
            layers: 8,
            hidden: vec![64, 64],
            activation: Activation::Silu,
            clamp: 2.0,
            split: Split::Permuted(0),
            mixing: Mixing::None,
        }
    }
}

impl RealNvp {
    /// Registers a flow of θ `[rows x dim]` given x `[rows x context]`; it starts as the identity.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no layer, `dim` is 0, or `clamp` is not positive.
    pub fn flow(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<CouplingFlow, Error> {
        if !(self.clamp > 0.0 && self.clamp.is_finite()) {
            return Err(Error::parameter("clamp", format!("{} must be positive and finite", self.clamp)));
        }
        let Self { layers, hidden, activation, clamp, split, mixing } = self;
        let plan = Architecture { layers: *layers, hidden, activation: *activation, split: *split, mixing: *mixing };
        plan.register(scope, dim, context, Transform::Affine { clamp: *clamp })
    }
}

impl SplineFlow {
    /// Registers a flow of θ `[rows x dim]` given x `[rows x context]`; it starts as the identity.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no layer, `dim` is 0, `bins` is less than 2, or `bound` is not positive.
    pub fn flow(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<CouplingFlow, Error> {
        if self.bins < 2 || !(self.bound > 0.0 && self.bound.is_finite()) {
            let why = format!("{} bins on ±{}; 2 or more on a positive, finite interval", self.bins, self.bound);
            return Err(Error::parameter("bins", why));
        }
        let Self { layers, hidden, activation, bins, bound, split, mixing } = self;
        let plan = Architecture { layers: *layers, hidden, activation: *activation, split: *split, mixing: *mixing };
        plan.register(scope, dim, context, Transform::Spline { bins: *bins, bound: *bound })
    }
}

/// What all coupling flows have in common.
struct Architecture<'a> {
    layers: usize,
    hidden: &'a [usize],
    activation: Activation,
    split: Split,
    mixing: Mixing,
}

impl Architecture<'_> {
    fn register(
        &self,
        scope: &mut Scope<'_>,
        dim: usize,
        context: usize,
        transform: Transform,
    ) -> Result<CouplingFlow, Error> {
        for (name, value) in [("layers", self.layers), ("dim", dim)] {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        let layer = |l: usize| {
            let mut scope = scope.scope(l);
            let (identity, transformed) = self.split.columns(l, dim);
            let inputs = (identity.len() + context).max(1);
            let outputs = transform.numbers().saturating_mul(transformed.len());
            let mixing = self.mixing(&mut scope, dim)?;
            let conditioner = Mlp::starting_at_zero(&mut scope, inputs, self.hidden, outputs, self.activation)?;
            Ok(Layer { identity, transformed, mixing, conditioner })
        };
        let layers = (0..self.layers).map(layer).collect::<Result<_, Error>>()?;
        Ok(CouplingFlow { dim, context, transform, layers })
    }

    fn mixing(&self, scope: &mut Scope<'_>, dim: usize) -> Result<Mixer, Error> {
        let zero = Init::Constant(0.0);
        Ok(match self.mixing {
            Mixing::None => Mixer::None,
            Mixing::ActNorm => {
                Mixer::ActNorm(scope.param("log_scale", 1, dim, zero)?, scope.param("shift", 1, dim, zero)?)
            }
            Mixing::Linear => Mixer::Linear(scope.param("lu", dim, dim, zero)?),
        })
    }
}

impl<T: Real> ExplicitFamily<T> for RealNvp {
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error> {
        Ok(Box::new(self.flow(scope, dim, context)?))
    }
}

impl<T: Real> Family<T> for RealNvp {
    type Model = dyn Density<T>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<dyn Density<T>>, Error> {
        explicit_model(self, layout, dim, context)
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::RealNvp(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, dyn Density<T>>, Error> {
        maximum_likelihood(self, problem, on_epoch)
    }
}

impl<T: Real> ExplicitFamily<T> for SplineFlow {
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error> {
        Ok(Box::new(self.flow(scope, dim, context)?))
    }
}

impl<T: Real> Family<T> for SplineFlow {
    type Model = dyn Density<T>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<dyn Density<T>>, Error> {
        explicit_model(self, layout, dim, context)
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::SplineFlow(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, dyn Density<T>>, Error> {
        maximum_likelihood(self, problem, on_epoch)
    }
}

#[derive(Clone, Debug)]
struct Layer {
    identity: Vec<usize>,
    transformed: Vec<usize>,
    mixing: Mixer,
    conditioner: Mlp,
}

/// A registered [`Mixing`].
#[derive(Clone, Copy, Debug)]
enum Mixer {
    None,
    ActNorm(Param, Param),
    Linear(Param),
}

impl Mixer {
    fn apply<T: Real>(self, graph: &mut Graph<T>, state: (Var, Var), way: Direction) -> Result<(Var, Var), Error> {
        match self {
            Self::None => Ok(state),
            Self::ActNorm(log_scale, shift) => graph.scale_shift(state.0, state.1, log_scale, shift, way),
            Self::Linear(weight) => graph.lu_linear(state.0, state.1, weight, way),
        }
    }
}

/// A registered flow of couplings.
#[derive(Clone, Debug)]
pub struct CouplingFlow {
    dim: usize,
    context: usize,
    transform: Transform,
    layers: Vec<Layer>,
}

impl CouplingFlow {
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
        check_widths("coupling flow", graph, (value, self.dim), (context, self.context))?;
        let mut state = (value, graph.constant(0.0, 1)?);
        let mut step = |layer: &Layer| -> Result<(), Error> {
            if direction == Direction::Forward {
                state = layer.mixing.apply(graph, state, direction)?;
            }
            state = self.couple(graph, layer, state, context, direction)?;
            if direction == Direction::Inverse {
                state = layer.mixing.apply(graph, state, direction)?;
            }
            Ok(())
        };
        match direction {
            Direction::Forward => self.layers.iter().try_for_each(&mut step)?,
            Direction::Inverse => self.layers.iter().rev().try_for_each(&mut step)?,
        }
        Ok(state)
    }

    fn couple<T: Real>(
        &self,
        graph: &mut Graph<T>,
        layer: &Layer,
        (value, ln_det): (Var, Var),
        context: &[Var],
        direction: Direction,
    ) -> Result<(Var, Var), Error> {
        let mut inputs = Vec::with_capacity(2);
        if !layer.identity.is_empty() {
            inputs.push(Input::Columns(value, &layer.identity));
        }
        inputs.extend(context.iter().map(|&v| Input::All(v)));
        if inputs.is_empty() {
            inputs.push(Input::All(graph.constant(1.0, 1)?));
        }
        let raw = layer.conditioner.forward_on(graph, &inputs)?;
        match self.transform {
            Transform::Affine { clamp } => graph.coupling(value, raw, ln_det, &layer.transformed, clamp, direction),
            Transform::Spline { bins, bound } => {
                graph.spline_coupling(value, raw, ln_det, &layer.transformed, bins, bound, direction)
            }
        }
    }
}

impl<T: Real> ExplicitDensity<T> for CouplingFlow {
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
