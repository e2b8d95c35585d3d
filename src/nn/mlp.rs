use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::nn::Linear;
use crate::ops::elementwise::Activation;
use crate::ops::linear::Input;
use crate::real::Real;
use crate::store::{Init, Scope};

/// A multilayer perceptron: hidden layers with an activation, then a linear layer.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
}

impl Mlp {
    /// Registers the layers `0`, `1`, … for these widths.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a width is 0 or a name is taken.
    pub fn new(
        scope: &mut Scope<'_>,
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        Self::build(scope, inputs, hidden, outputs, activation, None)
    }

    /// The same with a last layer of zeros, so that the network starts as the function 0: a bijection whose
    /// conditioner it is starts as the identity.
    ///
    /// # Errors
    /// As [`Mlp::new`].
    pub fn starting_at_zero(
        scope: &mut Scope<'_>,
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        Self::build(scope, inputs, hidden, outputs, activation, Some(Init::Constant(0.0)))
    }

    fn build(
        scope: &mut Scope<'_>,
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
        last: Option<Init>,
    ) -> Result<Self, Error> {
        let mut layers = Vec::with_capacity(hidden.len() + 1);
        let mut width = inputs;
        for (i, &next) in hidden.iter().enumerate() {
            layers.push(Linear::new(&mut scope.scope(i), width, next)?);
            width = next;
        }
        let mut scope = scope.scope(hidden.len());
        layers.push(match last {
            None => Linear::new(&mut scope, width, outputs)?,
            Some(init) => Linear::with_init(&mut scope, width, outputs, init)?,
        });
        Ok(Self { layers, activation })
    }

    /// Records the network on the concatenation of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if the widths do not fit.
    pub fn forward<T: Real>(&self, graph: &mut Graph<T>, inputs: &[Var]) -> Result<Var, Error> {
        let inputs: Vec<Input<'_>> = inputs.iter().map(|&v| Input::All(v)).collect();
        self.forward_on(graph, &inputs)
    }

    /// The same on inputs of which it takes some columns.
    ///
    /// # Errors
    /// As [`Graph::layers`].
    pub fn forward_on<T: Real>(&self, graph: &mut Graph<T>, inputs: &[Input<'_>]) -> Result<Var, Error> {
        let f = |i| if i + 1 == self.layers.len() { Activation::Identity } else { self.activation };
        let layers: Vec<_> = self.layers.iter().enumerate().map(|(i, layer)| layer.layer(f(i))).collect();
        graph.layers(inputs, &layers)
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[Linear] {
        &self.layers
    }
}
