//! Unnormalised densities, $p(\theta \mid x) = e^{f(\theta, x)}\, N(\theta; 0, I) / Z(x)$ with a network f.
//!
//! The gradient of the mean log-likelihood is a data term minus an expectation under the model,
//! $\mathbb E_{\text{data}} \nabla f - \mathbb E_p \nabla f$, since $\nabla \ln Z = \mathbb E_p \nabla f$ (LeCun et al.
//! 2006). The expectation is taken over chains that persist from step to step (Tieleman 2008), one for each training
//! row, so that each keeps its own x; a few steps of Langevin dynamics keep them near the model, and some start anew.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{Family, Generative, OnEpoch, Problem, Trained, check_widths, context_input};
use crate::nn::Mlp;
use crate::ops::elementwise::Activation;
use crate::optim::Optimiser;
use crate::plan::{Feed, Plan, Request};
use crate::progress::Watch;
use crate::real::Real;
use crate::rng::{Noise, NoiseId, NoiseRows, mix, permutation};
use crate::sample::{Draws, Hmc, Langevin, LangevinStep, Langevins, LogDensity, Sampler, ScoreOf, Transition};
use crate::store::{Layout, Scope, Store, Weights};
use crate::train::{Epoch, History};

/// Settings of an energy model.
///
/// All epochs are run: the contrast of data and chains, which stands for the losses, says whether the chains keep up,
/// not how good the model is. The averaged weights of the end are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyBased {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Langevin steps of each chain before a step of the optimiser.
    pub langevin_steps: usize,
    /// Their size η, for standardised columns.
    pub eta: f64,
    /// Fraction of the chains that start anew from N(0, I) each time.
    pub restarts: f64,
    /// Weight of the mean of f², which keeps f from drifting (Du & Mordatch 2019).
    pub regularisation: f64,
    /// How the trained density is sampled.
    pub hmc: Hmc,
}

impl Default for EnergyBased {
    fn default() -> Self {
        Self {
            hidden: vec![128, 128],
            activation: Activation::Silu,
            langevin_steps: 20,
            eta: 0.005,
            restarts: 0.05,
            regularisation: 1e-3,
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
        let rules = [
            ("dim", dim as f64, dim > 0),
            ("restarts", self.restarts, (0.0..=1.0).contains(&self.restarts)),
            ("regularisation", self.regularisation, self.regularisation >= 0.0 && self.regularisation.is_finite()),
        ];
        if let Some((name, value, _)) = rules.iter().find(|(.., holds)| !holds) {
            return Err(Error::parameter(*name, format!("{value} is out of range")));
        }
        let network = Mlp::starting_at_zero(scope, dim + context, &self.hidden, 1, self.activation)?;
        Ok(EnergyModel { dim, context, network, hmc: self.hmc })
    }
}

/// A registered energy model.
#[derive(Clone, Debug)]
pub struct EnergyModel {
    dim: usize,
    context: usize,
    network: Mlp,
    hmc: Hmc,
}

impl EnergyModel {
    /// Records f(θ, x), `[rows x 1]`.
    fn tilt<T: Real>(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        check_widths("energy", graph, (theta, self.dim), (context, self.context))?;
        let inputs: Vec<Var> = [theta].iter().chain(context).copied().collect();
        self.network.forward(graph, &inputs)
    }

    /// Records f(chain) - f(data) + r (f(chain)² + f(data)²), `[rows x 1]`, whose gradient is that of the negative mean
    /// log-likelihood where the chains follow the model.
    fn contrast<T: Real>(
        &self,
        graph: &mut Graph<T>,
        (data, chain): (Var, Var),
        context: &[Var],
        regularisation: f64,
    ) -> Result<Var, Error> {
        let (data, chain) = (self.tilt(graph, data, context)?, self.tilt(graph, chain, context)?);
        let difference = graph.sub(chain, data)?;
        let (a, b) = (graph.map(Activation::Square, data)?, graph.map(Activation::Square, chain)?);
        let squares = graph.add(a, b)?;
        let penalty = graph.scale(squares, regularisation)?;
        graph.add(difference, penalty)
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

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, EnergyModel>, Error> {
        problem.training.check()?;
        let mut layout = Layout::new();
        let model = self.build(&mut layout.scope("energy"), problem.dim, problem.context)?;
        let mut store = Store::new(layout, problem.seed);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let (data, chain) = (graph.input("data", problem.dim)?, graph.input("chain", problem.dim)?);
        let context = context_input(&mut graph, problem.context)?;
        let loss = model.contrast(&mut graph, (data, chain), &context, self.regularisation)?;
        let plan = graph.compile(problem.device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
        let step = LangevinStep::Eta(self.eta);
        let langevin = Langevin { step, steps: self.langevin_steps, level: 0.0 };
        let mut trainer = Contrast {
            settings: self,
            problem,
            plan,
            langevin: langevin.compile(problem.device, &ScoreOf(&model))?,
            optimiser: Optimiser::new(problem.training.adam.clone(), all.clone())?,
            chains: vec![T::ZERO; problem.theta.len()],
        };
        Noise { seed: trainer.seed("start"), step: 0, id: NoiseId(0) }.fill_normal(0, problem.dim, &mut trainer.chains);
        let history = trainer.run(&mut store, on_epoch)?;
        let averaged = store.weights(Weights::Ema).to_vec();
        store.restart_from(all, &averaged);
        Ok(Trained { model: Box::new(model), store, history })
    }
}

/// The training: data against persistent chains.
struct Contrast<'a, T> {
    settings: &'a EnergyBased,
    problem: &'a Problem<'a, T>,
    plan: Plan<T>,
    langevin: Langevins<T>,
    optimiser: Optimiser,
    /// One chain for each row of the table, `[rows x dim]`.
    chains: Vec<T>,
}

impl<T: Real> Contrast<'_, T> {
    fn seed(&self, purpose: &str) -> u64 {
        mix(self.problem.training.seed, purpose.bytes().map(u64::from))
    }

    fn run(&mut self, store: &mut Store<T>, on_epoch: OnEpoch<'_>) -> Result<History, Error> {
        let Problem { training, training_rows, .. } = *self.problem;
        let (start, mut history) = (Instant::now(), History::default());
        let batches = training_rows.len().div_ceil(training.batch);
        let steps = (batches * training.max_epochs) as u64;
        for epoch in 1..=training.max_epochs {
            let order = permutation(training_rows.len() as u32, training.seed, epoch as u64);
            let order: Vec<u32> = order.into_iter().map(|i| training_rows[i as usize]).collect();
            let (mut losses, mut norms) = (0.0, 0.0);
            for batch in order.chunks(training.batch) {
                let factor = training.schedule.factor(self.optimiser.steps(), steps);
                let (loss, norm) = self.step(store, batch, factor)?;
                if !(loss.is_finite() && norm.is_finite()) {
                    let why = "the contrast is no longer finite; a smaller rate or Langevin step may help".into();
                    return Err(Error::Training { epoch, why });
                }
                (losses, norms) = (losses + loss, norms + norm);
            }
            let training_loss = losses / batches as f64;
            let (gradient_norm, seconds) = (norms / batches as f64, start.elapsed().as_secs_f64());
            let validation_loss = training_loss.abs();
            let row = Epoch { epoch, training_loss, validation_loss, gradient_norm, best: true, seconds };
            history.epochs.push(row);
            if on_epoch(&row) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(history)
    }

    /// Moves the chains of the batch, then steps along the contrast.
    fn step(&mut self, store: &mut Store<T>, batch: &[u32], factor: f64) -> Result<(f64, f64), Error> {
        let Problem { device, theta, dim, x, context, .. } = *self.problem;
        let (seed, step) = (self.seed("langevin"), self.optimiser.steps() as u32);
        let mut chains: Vec<T> =
            batch.iter().flat_map(|&row| self.chains[row as usize * dim..][..dim].to_vec()).collect();
        self.restart(&mut chains, dim, step);
        let given = [Feed::Gather(x, batch)];
        let given = &given[..usize::from(context > 0)];
        let noise = NoiseRows::new(&seed).at(step * (self.settings.langevin_steps as u32 + 1));
        let watch = Watch::default();
        let weights = store.weights(Weights::Raw);
        self.langevin
            .advance(&Draws { weights, rows: batch.len(), context: given, noise, watch: &watch }, &mut chains)?;
        for (&row, chain) in batch.iter().zip(chains.chunks_exact(dim)) {
            self.chains[row as usize * dim..][..dim].copy_from_slice(chain);
        }
        let feeds = [Feed::Gather(theta, batch), Feed::Rows(&chains), Feed::Gather(x, batch)];
        let loss = self.plan.mean_and_gradient(store, batch.len(), &feeds[..2 + given.len()])?;
        Ok((loss, self.optimiser.step(device, store, factor)?))
    }

    fn restart(&self, chains: &mut [T], dim: usize, step: u32) {
        let noise = |id| Noise { seed: self.seed("restart"), step, id: NoiseId(id) };
        let (mut chosen, mut fresh) = (vec![T::ZERO; chains.len() / dim], vec![T::ZERO; chains.len()]);
        noise(0).fill_uniform(0, 1, &mut chosen);
        noise(1).fill_normal(0, dim, &mut fresh);
        for ((chain, fresh), u) in chains.chunks_exact_mut(dim).zip(fresh.chunks_exact(dim)).zip(chosen) {
            if u.to_f64() < self.settings.restarts {
                chain.copy_from_slice(fresh);
            }
        }
    }
}
