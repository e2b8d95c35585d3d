//! The density families, under one vocabulary.

mod real_nvp;

pub use real_nvp::{RealNvp, RealNvpFlow, Split};

use std::fmt::Debug;

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::real::Real;
use crate::store::Scope;

/// Conditional densities q(θ | x) on R^d, which can be evaluated and sampled.
///
/// A model holds parameter ids only. It records itself on any graph, so training, evaluation and sampling are three
/// plans on one [`Store`](crate::store::Store).
pub trait ConditionalDensity<T: Real>: Debug + Send + Sync {
    /// d, the width of θ.
    fn dim(&self) -> usize;

    /// The width of x.
    fn context(&self) -> usize;

    /// Records log q(θ | x), `[rows x 1]`, in nats.
    ///
    /// # Errors
    /// [`Error::Shape`] if `theta` or `x` have the wrong width.
    fn log_prob(&self, graph: &mut Graph<T>, theta: Var, x: Var) -> Result<Var, Error>;

    /// Records θ ~ q(θ | x), `[rows x d]`, as a function of standard normal noise `[rows x d]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `noise` or `x` have the wrong width.
    fn sample(&self, graph: &mut Graph<T>, noise: Var, x: Var) -> Result<Var, Error>;
}

/// What a user chooses: the settings of a family, from which a model of any width is built.
pub trait Family<T: Real>: Debug {
    /// Registers a model of θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting or width that cannot be.
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize)
    -> Result<Box<dyn ConditionalDensity<T>>, Error>;
}
