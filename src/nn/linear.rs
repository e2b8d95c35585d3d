use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::ops::elementwise::Activation;
use crate::ops::linear::Layer;
use crate::real::Real;
use crate::store::{Init, Param, Scope};

/// y = f(x W + b), with W `[inputs x outputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: Param,
    bias: Param,
}

impl Linear {
    /// Registers `weight` and `bias`, both uniform on ±1/√inputs (He et al. 2015 with a = √5, PyTorch's default).
    ///
    /// # Errors
    /// [`Error::Parameter`] if a width is 0 or a name is taken.
    pub fn new(scope: &mut Scope<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Self::with_init(scope, inputs, outputs, Init::Uniform(1.0 / (inputs as f64).sqrt()))
    }

    /// The same with another start for both.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn with_init(scope: &mut Scope<'_>, inputs: usize, outputs: usize, init: Init) -> Result<Self, Error> {
        let weight = scope.param("weight", inputs, outputs, init)?;
        let bias = scope.param("bias", 1, outputs, init)?;
        Ok(Self { weight, bias })
    }

    /// Records f(x W + b) on the concatenation x of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if the widths do not fit.
    pub fn forward<T: Real>(&self, graph: &mut Graph<T>, x: &[Var], f: Activation) -> Result<Var, Error> {
        graph.linear(x, self.weight, Some(self.bias), f)
    }

    /// The same as one of several layers that are recorded together.
    pub fn layer(&self, activation: Activation) -> Layer {
        Layer { weight: self.weight, bias: Some(self.bias), activation }
    }

    /// W, `[inputs x outputs]`.
    pub fn weight(&self) -> Param {
        self.weight
    }

    /// b, `[1 x outputs]`.
    pub fn bias(&self) -> Param {
        self.bias
    }
}
