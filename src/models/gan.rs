//! Generative adversarial networks (Goodfellow et al. 2014), conditioned on x: draws without a density.
//!
//! The discriminator D, a logit, minimises the cross-entropy $\ln(1 + e^{-D(\theta)}) + \ln(1 + e^{D(G)})$ of data and
//! fakes; the generator G the non-saturating $\ln(1 + e^{-D(G)})$. Alone, they circle around each other. A penalty on the
//! slopes of D makes them converge (Mescheder, Geiger & Nowozin 2018), and so does Gaussian noise on what D sees, which
//! fades over the training (Sønderby et al. 2017; Arjovsky & Bottou 2017).

use std::ops::Range;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{AnyFamily, Family, Generative, OnEpoch, Problem, Trained, context_input};
use crate::nn::{Mlp, WavedMlp};
use crate::ops::elementwise::Activation;
use crate::optim::{Adam, Optimiser};
use crate::plan::{Batch, Feed, Plan, Request};
use crate::real::Real;
use crate::rng::{NoiseRows, mix};
use crate::sample::Sampler;
use crate::store::{Layout, Store, Weights};
use crate::train::{Descent, Learner, Losses, Rules, State, run, shuffled};

/// Settings of a generative adversarial network.
///
/// Of [`Training`](crate::train::Training), batch, epochs, seed and schedule count; the two optimisers are these. All
/// epochs are run, since neither loss says how good the draws are. What does is the energy distance (Székely & Rizzo
/// 2013) between validation rows and fakes for the same x: it stands for the validation loss, and the averaged weights
/// of the generator with the lowest are kept.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Gan {
    /// Width of the generator's noise; not less than θ has, or the draws lie on a sheet.
    pub latent: usize,
    /// Widths of the hidden layers of both networks.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Optimiser of the generator.
    pub generator: Adam,
    /// Optimiser of the discriminator.
    pub discriminator: Adam,
    /// Steps of the discriminator for each one of the generator.
    pub discriminator_steps: usize,
    /// Standard deviation of the noise on the discriminator's input at the start; it falls linearly to a tenth.
    pub instance_noise: f64,
    /// Octaves of sines and cosines of each column of θ that the discriminator sees beside it, as a
    /// [`ScoreNetwork`](crate::models::ScoreNetwork) does.
    #[cfg_attr(feature = "weights", serde(default))]
    pub waves: u8,
    /// Weight γ of the penalty γ/2 |∇D|² at data and fakes, which lets the game converge (Mescheder, Geiger & Nowozin
    /// 2018).
    #[cfg_attr(feature = "weights", serde(default))]
    pub penalty: f64,
}

impl Default for Gan {
    fn default() -> Self {
        let adam = Adam { betas: (0.0, 0.99), ..Adam::new(1e-3) };
        Self {
            latent: 8,
            hidden: vec![128, 128],
            activation: Activation::Silu,
            generator: adam.clone(),
            discriminator: Adam { learning_rate: 2e-3, ..adam },
            discriminator_steps: 1,
            instance_noise: 0.1,
            waves: 3,
            penalty: 0.1,
        }
    }
}

impl Gan {
    /// Registers generator and discriminator, in the scopes `generator` and `discriminator`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting that cannot be.
    pub fn build(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<GanModel, Error> {
        for (name, value) in [("latent", self.latent), ("discriminator_steps", self.discriminator_steps), ("dim", dim)]
        {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        for (name, value) in [("instance_noise", self.instance_noise), ("penalty", self.penalty)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::parameter(name, format!("{value} must be finite and not negative")));
            }
        }
        let (hidden, f, scope) = (&self.hidden, self.activation, &mut layout.scope("generator"));
        let generator = Mlp::new(scope, self.latent.saturating_add(context), hidden, dim, f)?;
        let scope = &mut layout.scope("discriminator");
        let discriminator = WavedMlp::new(scope, (dim, context, 1), hidden, self.waves, f)?;
        Ok(GanModel { dim, context, latent: self.latent, penalty: self.penalty, generator, discriminator })
    }
}

/// A registered generative adversarial network.
#[derive(Clone, Debug)]
pub struct GanModel {
    dim: usize,
    context: usize,
    latent: usize,
    penalty: f64,
    generator: Mlp,
    discriminator: WavedMlp,
}

impl GanModel {
    /// Records a fake θ, `[rows x dim]`, from noise of its own.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn generate<T: Real>(&self, graph: &mut Graph<T>, context: &[Var]) -> Result<Var, Error> {
        let noise = graph.normal(self.latent)?;
        let inputs: Vec<Var> = [noise].iter().chain(context).copied().collect();
        self.generator.forward(graph, &inputs)
    }

    /// Records θ with noise of standard deviation `blur`, `[rows x 1]`.
    fn blurred<T: Real>(&self, graph: &mut Graph<T>, theta: Var, blur: Var) -> Result<Var, Error> {
        let noise = graph.normal(self.dim)?;
        let scaled = graph.mul(noise, blur)?;
        graph.add(theta, scaled)
    }

    /// Records γ/2 (D(θ + hε) - D(θ))² / h², whose mean over ε is γ/2 |∇D|² where D is straight over h: a penalty on
    /// slopes without a second derivative (Lin et al. 2025).
    fn slope<T: Real>(&self, graph: &mut Graph<T>, theta: Var, logit: Var, context: &[Var]) -> Result<Var, Error> {
        const H: f64 = 0.02;
        let h = graph.constant(H, 1)?;
        let beside = self.blurred(graph, theta, h)?;
        let there = self.discriminator.forward(graph, beside, context)?;
        let difference = graph.sub(there, logit)?;
        let square = graph.map(Activation::Square, difference)?;
        graph.scale(square, 0.5 * self.penalty / (H * H))
    }

    /// Records the discriminator's loss on data θ, `[rows x 1]`, with the penalty on its slopes at data and fakes.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn discriminator_loss<T: Real>(
        &self,
        graph: &mut Graph<T>,
        theta: Var,
        context: &[Var],
        blur: Var,
    ) -> Result<Var, Error> {
        let fake = self.generate(graph, context)?;
        let mut part = |theta: Var, sign: f64| {
            let seen = self.blurred(graph, theta, blur)?;
            let logit = self.discriminator.forward(graph, seen, context)?;
            let cost = entropy(graph, logit, sign)?;
            if self.penalty == 0.0 {
                return Ok(cost);
            }
            let slope = self.slope(graph, seen, logit, context)?;
            graph.add(cost, slope)
        };
        let (real, fake) = (part(theta, -1.0)?, part(fake, 1.0)?);
        graph.add(real, fake)
    }

    /// Records the generator's non-saturating loss, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn generator_loss<T: Real>(&self, graph: &mut Graph<T>, context: &[Var], blur: Var) -> Result<Var, Error> {
        let fake = self.generate(graph, context)?;
        let seen = self.blurred(graph, fake, blur)?;
        let logit = self.discriminator.forward(graph, seen, context)?;
        entropy(graph, logit, -1.0)
    }
}

/// Records ln(1 + exp(±D)): the cost of a logit D for fakes (sign 1) or for data (sign -1).
fn entropy<T: Real>(graph: &mut Graph<T>, logit: Var, sign: f64) -> Result<Var, Error> {
    let signed = graph.scale(logit, sign)?;
    graph.map(Activation::Softplus, signed)
}

impl<T: Real> Generative<T> for GanModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        Ok(Box::new(self.generator_plan(device)?))
    }
}

impl GanModel {
    fn generator_plan<T: Real>(&self, device: &Device) -> Result<Plan<T>, Error> {
        let mut graph = Graph::new();
        let context = context_input(&mut graph, self.context)?;
        let theta = self.generate(&mut graph, &context)?;
        graph.compile(device, &Request::outputs(&[theta]).with_common_inputs(&context))
    }
}

impl<T: Real> Family<T> for Gan {
    type Model = GanModel;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<GanModel>, Error> {
        Ok(Box::new(self.build(layout, dim, context)?))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::Gan(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, GanModel>, Error> {
        problem.training.check()?;
        let mut layout = Layout::new();
        let model = self.build(&mut layout, problem.dim, problem.context)?;
        let ranges = [layout.range("generator")?, layout.range("discriminator")?];
        let mut store = Store::new(layout, problem.seed);
        let mut game = Game::new(self, &model, problem, &ranges)?;
        game.keep_tables(&mut store)?;
        let [range, _] = ranges;
        let rules = Rules { range, max_epochs: problem.training.max_epochs, patience: usize::MAX, last: false };
        let history = run(&mut game, &mut store, &rules, problem.checkpoints, on_epoch)?;
        Ok(Trained { model: Box::new(model), store, history })
    }
}

/// The training of both networks.
struct Game<'a, T: Real> {
    settings: &'a Gan,
    problem: &'a Problem<'a, T>,
    generator: (Plan<T>, Descent),
    discriminator: (Plan<T>, Descent),
    fakes: Plan<T>,
}

/// Validation rows that the energy distance looks at.
const JUDGED: usize = 500;

impl<'a, T: Real> Game<'a, T> {
    fn new(
        settings: &'a Gan,
        model: &GanModel,
        problem: &'a Problem<'a, T>,
        ranges: &[Range<usize>; 2],
    ) -> Result<Self, Error> {
        let compile = |graph: Graph<T>, loss: Var, range: &Range<usize>| {
            graph.compile(problem.device, &Request::outputs(&[loss]).with_parameter_gradients(range.clone()))
        };
        let descent =
            |adam: &Adam, range: &Range<usize>| Ok(Descent::new(Optimiser::new(adam.clone(), range.clone())?));
        let mut graph = Graph::new();
        let blur = graph.input("blur", 1)?;
        let context = context_input(&mut graph, problem.context)?;
        let loss = model.generator_loss(&mut graph, &context, blur)?;
        let generator = compile(graph, loss, &ranges[0])?;

        let mut graph = Graph::new();
        let (blur, theta) = (graph.input("blur", 1)?, graph.input("theta", problem.dim)?);
        let context = context_input(&mut graph, problem.context)?;
        let loss = model.discriminator_loss(&mut graph, theta, &context, blur)?;
        let discriminator = compile(graph, loss, &ranges[1])?;
        Ok(Self {
            settings,
            problem,
            generator: (generator, descent(&settings.generator, &ranges[0])?),
            discriminator: (discriminator, descent(&settings.discriminator, &ranges[1])?),
            fakes: model.generator_plan(problem.device)?,
        })
    }

    /// Copies the tables to the device, if there is one, for all plans.
    fn keep_tables(&mut self, store: &mut Store<T>) -> Result<(), Error> {
        let Problem { device, theta, x, training, .. } = *self.problem;
        let (generator, own) = &mut self.generator;
        own.keep_tables(generator, (device, store), training.batch, [])?;
        let (discriminator, own) = &mut self.discriminator;
        own.keep_tables(discriminator, (device, store), training.batch, [theta, x])?;
        #[cfg(feature = "cuda")]
        [generator, &mut self.fakes].into_iter().for_each(|plan| plan.share_tables(discriminator));
        Ok(())
    }

    /// A step of the discriminator or the generator.
    fn step(
        &mut self,
        store: &mut Store<T>,
        batch: &[u32],
        blur: &[T; 1],
        factor: f64,
        discriminator: bool,
    ) -> Result<(), Error> {
        let Problem { device, theta, x, context, training, .. } = *self.problem;
        let (blur, theta, x) = (Feed::Repeat(blur), Feed::Gather(theta, batch), Feed::Gather(x, batch));
        let more = usize::from(context > 0);
        let seed = mix(training.seed, [u64::from(discriminator), 0x67_616e]);
        let (plan, descent) = if discriminator { &mut self.discriminator } else { &mut self.generator };
        let rows = Batch::with_noise(batch.len(), NoiseRows::new(&seed).at(descent.steps() as u32));
        if discriminator {
            descent.step(plan, (device, store), rows, &[blur, theta, x][..2 + more], factor)
        } else {
            descent.step(plan, (device, store), rows, &[blur, x][..1 + more], factor)
        }
    }

    /// `Ok` if losses and gradients of all steps have been finite.
    fn check(&mut self, epoch: usize, now: bool) -> Result<(), Error> {
        let lost = [&mut self.discriminator, &mut self.generator].map(|(_, descent)| descent.lost(now));
        let Some(step) = lost.into_iter().flatten().min() else { return Ok(()) };
        let why = format!("a loss or its gradient is no longer finite after step {step}; lower the rates");
        Err(Error::Training { epoch, why })
    }

    /// 2 E|a - b| - E|a - a'| - E|b - b'| for rows a of the validation and fakes b, both beside the same x.
    fn energy_distance(&mut self, store: &Store<T>) -> Result<f64, Error> {
        let Problem { theta, dim, x, context, validation_rows, training, .. } = *self.problem;
        let rows = &validation_rows[..validation_rows.len().min(JUDGED)];
        let mut fakes = vec![T::ZERO; rows.len() * dim];
        let seed = mix(training.seed, [2, 0x67_616e]);
        let batch = Batch::with_noise(rows.len(), NoiseRows::new(&seed));
        let feeds = [Feed::Gather(x, rows)];
        let feeds = &feeds[..usize::from(context > 0)];
        self.fakes.forward(store.weights(Weights::Ema), batch, feeds, &mut [&mut fakes])?;

        let given = |i: usize| &x[rows[i] as usize * context..][..context];
        let real = |i: usize| &theta[rows[i] as usize * dim..][..dim];
        let fake = |i: usize| &fakes[i * dim..][..dim];
        let square = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2)).sum::<f64>();
        let mut sum = 0.0;
        for i in 0..rows.len() {
            for j in 0..rows.len() {
                let apart = square(given(i), given(j));
                let distance = |a: &[T], b: &[T]| (square(a, b) + apart).sqrt();
                sum += 2.0 * distance(real(i), fake(j)) - distance(real(i), real(j)) - distance(fake(i), fake(j));
            }
        }
        Ok(sum / (rows.len() * rows.len()) as f64)
    }
}

impl<T: Real> Learner<T> for Game<'_, T> {
    /// One pass of the discriminator over the training rows.
    fn epoch(&mut self, store: &mut Store<T>, epoch: usize) -> Result<Losses, Error> {
        let Problem { training, training_rows, .. } = *self.problem;
        let order = shuffled(training_rows, training.seed, epoch);
        let batches = order.len().div_ceil(training.batch);
        let steps = (batches * training.max_epochs) as u64;
        self.generator.1.restart();
        self.discriminator.1.restart();
        let mut rows = 0;
        for batch in order.chunks(training.batch) {
            let step = self.discriminator.1.steps();
            let (progress, factor) = (step as f64 / steps as f64, training.schedule.factor(step, steps));
            let blur = [T::from_f64(self.settings.instance_noise * (1.0 - 0.9 * progress))];
            self.step(store, batch, &blur, factor, true)?;
            if self.discriminator.1.steps().is_multiple_of(self.settings.discriminator_steps as u64) {
                self.step(store, batch, &blur, factor, false)?;
                rows += batch.len();
            }
            self.check(epoch, false)?;
        }
        self.check(epoch, true)?;
        let (losses, gradient_norm) = self.generator.1.sums();
        let (training, validation) = (losses / rows.max(1) as f64, self.energy_distance(store)?);
        Ok(Losses { training, validation, gradient_norm })
    }

    fn state(&mut self) -> State<'_, T> {
        let optimisers = vec![self.generator.1.optimiser_mut(), self.discriminator.1.optimiser_mut()];
        State { optimisers, vector: &mut [], number: None }
    }
}
