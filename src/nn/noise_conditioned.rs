use std::f64::consts::TAU;

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::nn::Linear;
use crate::nn::waved::{check_waves, octaves};
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::store::{Init, Scope};

/// Frequencies of the embedding, in periods over the whole range of noise: half a period, then ever finer.
const FREQUENCIES: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0];

/// The slowest wave of x, in periods for each unit.
const SLOWEST: f64 = 0.5;

/// A residual network that is told the noise level: F(x, level | context).
///
/// Every block, h + W₂ f(W₁ \[f(h), e\]), sees the level's embedding e, made of sines and cosines of it. The first layer
/// sees x and, if asked, waves of it with 0.5, 1, 2, .. periods for each unit (Kingma et al. 2021), each as high as it is
/// in the mean over the noise that x carries, E sin 2πf(x + s ε) = e^(-(2πfs)² / 2) sin 2πfx (Barron et al. 2021): where
/// there is more noise than a period, the wave says nothing. The network starts as 0.
#[derive(Clone, Debug)]
pub struct NoiseConditionedMlp {
    first: Linear,
    blocks: Vec<(Linear, Linear)>,
    last: Linear,
    activation: Activation,
    waves: Vec<f64>,
}

impl NoiseConditionedMlp {
    /// Registers `first`, `blocks` of two layers each, and `last`; from `inputs` columns, each with so many `waves`, to
    /// `outputs`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a width is 0, a name is taken, or there are more than 8 waves.
    pub fn new(
        scope: &mut Scope<'_>,
        (inputs, context, outputs): (usize, usize, usize),
        (hidden, blocks): (usize, usize),
        waves: u8,
        activation: Activation,
    ) -> Result<Self, Error> {
        check_waves(waves)?;
        let embedding = 2 * FREQUENCIES.len();
        let seen = inputs.saturating_mul(1 + 2 * usize::from(waves)).saturating_add(context).saturating_add(embedding);
        let first = Linear::new(&mut scope.scope("first"), seen, hidden)?;
        let block = |i: usize| {
            let mut scope = scope.scope(i);
            let inner = Linear::new(&mut scope.scope("inner"), hidden.saturating_add(embedding), hidden)?;
            Ok((inner, Linear::new(&mut scope.scope("outer"), hidden, hidden)?))
        };
        let blocks = (0..blocks).map(block).collect::<Result<_, Error>>()?;
        let last = Linear::with_init(&mut scope.scope("last"), hidden, outputs, Init::Constant(0.0))?;
        Ok(Self { first, blocks, last, activation, waves: octaves(SLOWEST, waves) })
    }

    /// Records the network of x, of order one, the noise level (`[rows x 1]`, from 0 to 1), the standard deviation of the
    /// noise in x (`[rows x 1]`), and the context.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width does not fit.
    pub fn forward<T: Real>(
        &self,
        graph: &mut Graph<T>,
        x: Var,
        (level, spread): (Var, Var),
        context: &[Var],
    ) -> Result<Var, Error> {
        let embedding = graph.fourier(level, &FREQUENCIES)?;
        let mut inputs: Vec<Var> = [x, embedding].iter().chain(context).copied().collect();
        if !self.waves.is_empty() {
            inputs.push(self.heard(graph, x, spread)?);
        }
        let mut h = self.first.forward(graph, &inputs, Activation::Identity)?;
        for (inner, outer) in &self.blocks {
            let active = graph.map(self.activation, h)?;
            let hidden = inner.forward(graph, &[active, embedding], self.activation)?;
            let change = outer.forward(graph, &[hidden], Activation::Identity)?;
            h = graph.add(h, change)?;
        }
        let active = graph.map(self.activation, h)?;
        self.last.forward(graph, &[active], Activation::Identity)
    }

    /// The waves of x, as high as the noise leaves them.
    fn heard<T: Real>(&self, graph: &mut Graph<T>, x: Var, spread: Var) -> Result<Var, Error> {
        let (variance, mut heard) = (graph.map(Activation::Square, spread)?, Vec::new());
        for &frequency in &self.waves {
            let exponent = graph.scale(variance, -0.5 * (TAU * frequency).powi(2))?;
            let height = graph.map(Activation::Exp, exponent)?;
            let waves = graph.fourier(x, &[frequency])?;
            heard.push(graph.mul(waves, height)?);
        }
        graph.concat(&heard)
    }
}
