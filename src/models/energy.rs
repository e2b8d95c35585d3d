//! Unnormalised densities, $p(\theta \mid x) = e^{f(\theta, x)}\, N(\theta; 0, I) / Z(x)$ with a network f.
//!
//! The gradient of the mean log-likelihood is a data term minus an expectation under the model,
//! $\mathbb E_{\text{data}} \nabla f - \mathbb E_p \nabla f$, since $\nabla \ln Z = \mathbb E_p \nabla f$ (LeCun et al.
//! 2006). The expectation is taken over chains that persist from step to step of the training (Tieleman 2008). Their
//! moves are exact, Metropolised trajectories and jumps: what unadjusted steps or restarts would add to the chains' law,
//! the model would learn to take away from its own.

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{AnyFamily, Family, Generative, OnEpoch, Problem, Trained, check_widths, context_input};
use crate::nn::WavedMlp;
use crate::ops::elementwise::Activation;
use crate::optim::Optimiser;
use crate::plan::{Feed, Plan, Request};
use crate::progress::Watch;
use crate::real::Real;
use crate::rng::{Noise, NoiseId, NoiseRows, mix};
use crate::sample::{Draws, Hmc, HmcChains, LogDensity, Sampler, Transition};
use crate::store::{Layout, Scope, Store, Weights};
use crate::train::{Descent, Learner, Losses, Rules, State, run, shuffled};

/// Settings of an energy model.
///
/// All epochs are run: the contrast of data and chains, which stands for the losses, says whether the chains keep up,
/// not how good the model is. The averaged weights of the end are kept. The gradients are small, a few tenths in norm:
/// a learning rate of 2e-3 to 5e-3 is about right.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct EnergyBased {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Octaves of sines and cosines of each column of θ that the network sees beside it, for fine structure.
    #[cfg_attr(feature = "weights", serde(default))]
    pub waves: u8,
    /// Trajectories of each chain before a step of the optimiser.
    pub trajectories: usize,
    /// Their leapfrog steps; with 1 a trajectory is a step of Metropolis-adjusted Langevin dynamics.
    pub leapfrog: usize,
    /// How the trained density is sampled.
    pub hmc: Hmc,
}

impl Default for EnergyBased {
    fn default() -> Self {
        Self {
            hidden: vec![128, 128],
            activation: Activation::Silu,
            waves: 3,
            trajectories: 3,
            leapfrog: 5,
            hmc: Hmc::default(),
        }
    }
}

impl EnergyBased {
    /// Registers f for θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting that cannot be.
    pub fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<EnergyModel, Error> {
        let rules = [("dim", dim as f64, dim > 0), ("trajectories", self.trajectories as f64, self.trajectories > 0)];
        if let Some((name, value, _)) = rules.iter().find(|(.., holds)| !holds) {
            return Err(Error::parameter(*name, format!("{value} is out of range")));
        }
        let network = WavedMlp::new(scope, (dim, context, 1), &self.hidden, self.waves, self.activation)?;
        Ok(EnergyModel { dim, context, network, hmc: self.hmc })
    }
}

/// A registered energy model.
#[derive(Clone, Debug)]
pub struct EnergyModel {
    dim: usize,
    context: usize,
    network: WavedMlp,
    hmc: Hmc,
}

impl EnergyModel {
    /// Records f(θ, x), `[rows x 1]`.
    fn tilt<T: Real>(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        check_widths("energy", graph, (theta, self.dim), (context, self.context))?;
        self.network.forward(graph, theta, context)
    }

    /// Records f(chain) - f(data), `[rows x 1]`, whose gradient is that of the negative mean log-likelihood where the
    /// chains follow the model.
    fn contrast<T: Real>(
        &self,
        graph: &mut Graph<T>,
        (data, chain): (Var, Var),
        context: &[Var],
    ) -> Result<Var, Error> {
        let (data, chain) = (self.tilt(graph, data, context)?, self.tilt(graph, chain, context)?);
        graph.sub(chain, data)
    }
}

impl<T: Real> LogDensity<T> for EnergyModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn log_density(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        let (f, base) = (self.tilt(graph, theta, context)?, graph.normal_log_density(theta)?);
        graph.add(f, base)
    }
}

impl<T: Real> Generative<T> for EnergyModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        Ok(Box::new(self.hmc.compile(device, self)?))
    }
}

impl<T: Real> Family<T> for EnergyBased {
    type Model = EnergyModel;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<EnergyModel>, Error> {
        Ok(Box::new(self.build(&mut layout.scope("energy"), dim, context)?))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::EnergyBased(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, EnergyModel>, Error> {
        problem.training.check()?;
        let mut layout = Layout::new();
        let model = Family::<T>::model(self, &mut layout, problem.dim, problem.context)?;
        let mut store = Store::new(layout, problem.seed);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let (data, chain) = (graph.input("data", problem.dim)?, graph.input("chain", problem.dim)?);
        let context = context_input(&mut graph, problem.context)?;
        let loss = model.contrast(&mut graph, (data, chain), &context)?;
        let plan = graph.compile(problem.device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
        // A chain for each row where each row has an x of its own; else a batch of them, which all move at each step.
        let chains = if problem.context > 0 { problem.theta.len() } else { problem.training.batch * problem.dim };
        let moves = Hmc { leapfrog: self.leapfrog, warm_up: 0, trajectories: self.trajectories, ..self.hmc };
        let mut trainer = Contrast {
            problem,
            plan,
            moves,
            hmc: moves.compile(problem.device, &*model)?,
            step_size: moves.step,
            descent: Descent::new(Optimiser::new(problem.training.adam.clone(), all.clone())?),
            chains: vec![T::ZERO; chains],
        };
        Noise { seed: trainer.seed("start"), step: 0, id: NoiseId(0) }.fill_normal(0, problem.dim, &mut trainer.chains);
        trainer.keep_tables(&mut store)?;
        let rules = Rules { range: all, max_epochs: problem.training.max_epochs, patience: usize::MAX, last: true };
        let history = run(&mut trainer, &mut store, &rules, problem.checkpoints, on_epoch)?;
        Ok(Trained { model, store, history })
    }
}

/// How fast the logarithm of the trajectories' step follows a difference in acceptance.
const STEP_RATE: f64 = 0.1;

/// The training: data against persistent chains.
struct Contrast<'a, T: Real> {
    problem: &'a Problem<'a, T>,
    plan: Plan<T>,
    moves: Hmc,
    hmc: HmcChains<T>,
    /// Of the trajectories: it follows the model as that grows rough.
    step_size: f64,
    descent: Descent,
    /// One chain for each row of the table, `[rows x dim]`, or of a batch.
    chains: Vec<T>,
}

impl<T: Real> Contrast<'_, T> {
    fn seed(&self, purpose: &str) -> u64 {
        mix(self.problem.training.seed, purpose.bytes().map(u64::from))
    }

    /// Copies the tables to the device, if there is one.
    fn keep_tables(&mut self, store: &mut Store<T>) -> Result<(), Error> {
        let Problem { device, theta, x, training, .. } = *self.problem;
        self.descent.keep_tables(&mut self.plan, (device, store), training.batch, [theta, x])
    }

    /// Moves the chains of the batch, then steps along the contrast.
    fn step(&mut self, store: &mut Store<T>, batch: &[u32], factor: f64) -> Result<(), Error> {
        let Problem { device, theta, dim, x, context, .. } = *self.problem;
        let (seed, step) = (self.seed("chains"), self.descent.steps() as u32);
        let given = [Feed::Gather(x, batch)];
        let given = &given[..usize::from(context > 0)];
        let own = |i: usize| if context > 0 { batch[i] as usize } else { i };
        let mut chains = vec![T::ZERO; batch.len() * dim];
        for (i, chain) in chains.chunks_exact_mut(dim).enumerate() {
            chain.copy_from_slice(&self.chains[own(i) * dim..][..dim]);
        }
        let noise = NoiseRows::new(&seed).at(step.wrapping_mul(self.moves.noise_steps()));
        let watch = Watch::default();
        let weights = store.weights(Weights::Raw).into();
        self.hmc.set_step(self.step_size);
        self.hmc.advance(&Draws { weights, rows: batch.len(), context: given, noise, watch: &watch }, &mut chains)?;
        for (i, chain) in chains.chunks_exact(dim).enumerate() {
            self.chains[own(i) * dim..][..dim].copy_from_slice(chain);
        }
        let acceptance = self.hmc.chains().map(|(acceptance, _)| acceptance).sum::<f64>() / batch.len() as f64;
        self.step_size *= (STEP_RATE * (acceptance - self.moves.target)).exp();
        let feeds = [Feed::Gather(theta, batch), Feed::Rows(&chains), Feed::Gather(x, batch)];
        self.descent.step(&mut self.plan, (device, store), batch.len().into(), &feeds[..2 + given.len()], factor)
    }
}

impl<T: Real> Contrast<'_, T> {
    /// `Ok` if contrast and gradient of all steps have been finite.
    fn check(&mut self, epoch: usize, now: bool) -> Result<(), Error> {
        let Some(step) = self.descent.lost(now) else { return Ok(()) };
        let why =
            format!("the contrast is no longer finite after step {step}; a smaller rate or Langevin step may help");
        Err(Error::Training { epoch, why })
    }
}

impl<T: Real> Learner<T> for Contrast<'_, T> {
    fn epoch(&mut self, store: &mut Store<T>, epoch: usize) -> Result<Losses, Error> {
        let Problem { training, training_rows, .. } = *self.problem;
        let order = shuffled(training_rows, training.seed, epoch);
        let batches = order.len().div_ceil(training.batch);
        let steps = (batches * training.max_epochs) as u64;
        self.descent.restart();
        for batch in order.chunks(training.batch) {
            let factor = training.schedule.factor(self.descent.steps(), steps);
            self.step(store, batch, factor)?;
            self.check(epoch, false)?;
        }
        self.check(epoch, true)?;
        let (losses, gradient_norm) = self.descent.sums();
        let training = losses / order.len() as f64;
        Ok(Losses { training, validation: training.abs(), gradient_norm })
    }

    fn state(&mut self) -> State<'_, T> {
        let Self { descent, chains, step_size, .. } = self;
        State { optimisers: vec![descent.optimiser_mut()], vector: chains, number: Some(step_size) }
    }
}
