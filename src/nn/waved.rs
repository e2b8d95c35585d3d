use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::nn::Mlp;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::store::Scope;

/// The slowest wave, in periods for each unit.
const SLOWEST: f64 = 0.25;

/// `count` frequencies, each twice the one before it.
pub(super) fn octaves(lowest: f64, count: u8) -> Vec<f64> {
    (0..i32::from(count)).map(|k| lowest * 2.0_f64.powi(k)).collect()
}

/// A multilayer perceptron that sees x, waves of it with 0.25, 0.5, 1, .. periods for each unit, and the context.
///
/// Networks are slow to learn what changes fast (Rahaman et al. 2019); sines and cosines of their input help them
/// (Tancik et al. 2020). The network starts as 0.
#[derive(Clone, Debug)]
pub struct WavedMlp {
    network: Mlp,
    waves: Vec<f64>,
}

impl WavedMlp {
    /// Registers the layers, from `inputs` columns, each with so many `waves`, and the context to `outputs`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a width is 0, a name is taken, or there are more than 8 waves.
    pub fn new(
        scope: &mut Scope<'_>,
        (inputs, context, outputs): (usize, usize, usize),
        hidden: &[usize],
        waves: u8,
        activation: Activation,
    ) -> Result<Self, Error> {
        check_waves(waves)?;
        let seen = inputs.saturating_mul(1 + 2 * usize::from(waves)).saturating_add(context);
        let network = Mlp::starting_at_zero(scope, seen, hidden, outputs, activation)?;
        Ok(Self { network, waves: octaves(SLOWEST, waves) })
    }

    /// Records the network.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width does not fit.
    pub fn forward<T: Real>(&self, graph: &mut Graph<T>, x: Var, context: &[Var]) -> Result<Var, Error> {
        let mut inputs: Vec<Var> = [x].iter().chain(context).copied().collect();
        if !self.waves.is_empty() {
            inputs.push(graph.fourier(x, &self.waves)?);
        }
        self.network.forward(graph, &inputs)
    }
}

/// `Ok` for a number of octaves that single precision can tell apart.
pub(super) fn check_waves(waves: u8) -> Result<(), Error> {
    match waves {
        0..=8 => Ok(()),
        _ => Err(Error::parameter("waves", format!("{waves}; at most 8 octaves"))),
    }
}
