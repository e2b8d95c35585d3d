use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::nn::Linear;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::store::{Init, Scope};

/// A residual block, y = x + W₂ f(W₁ x + b₁) + b₂ (He et al. 2016), which starts as the identity.
#[derive(Clone, Copy, Debug)]
pub struct ResidualBlock {
    inner: Linear,
    outer: Linear,
    activation: Activation,
}

impl ResidualBlock {
    /// Registers the layers `inner` (width to hidden) and `outer` (hidden to width, starting at zero).
    ///
    /// # Errors
    /// [`Error::Parameter`] if a width is 0 or a name is taken.
    pub fn new(scope: &mut Scope<'_>, width: usize, hidden: usize, activation: Activation) -> Result<Self, Error> {
        let inner = Linear::new(&mut scope.scope("inner"), width, hidden)?;
        let outer = Linear::with_init(&mut scope.scope("outer"), hidden, width, Init::Constant(0.0))?;
        Ok(Self { inner, outer, activation })
    }

    /// Records the block.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `x` has the block's width.
    pub fn forward<T: Real>(&self, graph: &mut Graph<T>, x: Var) -> Result<Var, Error> {
        let hidden = self.inner.forward(graph, &[x], self.activation)?;
        let change = self.outer.forward(graph, &[hidden], Activation::Identity)?;
        graph.add(x, change)
    }
}
