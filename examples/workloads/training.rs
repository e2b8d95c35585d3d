//! What the training workloads share.

use std::time::Instant;

use retrodict::optim::{Adam, Optimiser};
use retrodict::{Batch, Device, Error, Feed, Graph, Layout, Plan, Request, Store, Var};
use workloads::numbers::permutation;
use workloads::worker::Job;
use workloads::{CHECK_STEPS, LEARNING_RATE, Workload};

/// The parameters of a workload, in the order in which the layout registered its linear maps.
pub fn parameters(workload: &Workload, layout: Layout) -> Result<Store<f32>, Error> {
    let params: Vec<_> = layout.iter().map(|(_, param)| param).collect();
    let mut store = Store::new(layout, 0);
    for (pair, (weight, bias)) in params.chunks_exact(2).zip(workload.linear_params()) {
        // The tables are `[outputs x inputs]`, ours `[inputs x outputs]`.
        let (inputs, outputs) = (pair[0].rows(), pair[0].cols());
        let transposed: Vec<f32> = (0..weight.len()).map(|i| weight[i % outputs * inputs + i / outputs]).collect();
        store.set(pair[0], &transposed)?;
        store.set(pair[1], &bias)?;
    }
    Ok(store)
}

/// The minibatches of a data set.
#[derive(Debug)]
pub struct Batches {
    order: Vec<u32>,
    size: usize,
}

impl Batches {
    pub fn new(workload: &Workload) -> Self {
        Self { order: permutation(workload.rows), size: workload.batch }
    }

    /// Rows of minibatch `t`.
    pub fn rows(&self, t: usize) -> &[u32] {
        let start = t * self.size % self.order.len();
        &self.order[start..start + self.size]
    }
}

/// A loss, and Adam on all its parameters.
#[derive(Debug)]
pub struct Learner {
    device: Device,
    store: Store<f32>,
    plan: Plan<f32>,
    optimiser: Optimiser,
}

impl Learner {
    pub fn new(threads: usize, store: Store<f32>, graph: &Graph<f32>, loss: Var) -> Result<Self, Error> {
        let device = Device::cpu_with_threads(threads);
        let all = 0..store.layout().len();
        let plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
        // The average is computed in the same pass and costs what it costs.
        let adam = Adam { learning_rate: LEARNING_RATE, clip: f64::INFINITY, ema: 0.0, ..Adam::default() };
        Ok(Self { device, store, plan, optimiser: Optimiser::new(adam, all)? })
    }

    /// One step; the loss before it.
    pub fn step<'a>(&mut self, batch: impl Into<Batch<'a>>, feeds: &[Feed<'_, f32>]) -> Result<f64, Error> {
        let loss = self.plan.mean_and_gradient(&mut self.store, batch, feeds)?;
        self.optimiser.step(&self.device, &mut self.store, 1.0)?;
        Ok(loss)
    }
}

/// Where a step's noise comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noise {
    /// The plan draws it.
    Drawn,
    /// It is fed: a check's noise is given number by number.
    Fed,
}

impl Noise {
    pub fn record(self, graph: &mut Graph<f32>, cols: usize) -> Result<Var, Error> {
        match self {
            Self::Drawn => graph.normal(cols),
            Self::Fed => graph.input("noise", cols),
        }
    }
}

/// A training workload: its data, its loss, and its step.
pub trait Task {
    /// The loss with the initial parameters.
    fn learner(&self, threads: usize, noise: Noise) -> Result<Learner, Error>;

    /// Step `t`; the loss before it.
    fn step(&self, learner: &mut Learner, t: usize, noise: Noise) -> Result<f64, Error>;
}

/// A task at work.
#[derive(Debug)]
pub struct Training<D> {
    task: D,
    threads: usize,
    learner: Learner,
    steps: usize,
}

impl<D: Task> Training<D> {
    pub fn new(task: D, threads: usize) -> Result<Self, Error> {
        Ok(Self { learner: task.learner(threads, Noise::Drawn)?, task, threads, steps: 0 })
    }

    /// Where the time of this many steps goes; the rest of a step's time is the optimiser's and the sum over lanes.
    pub fn profile(&mut self, steps: usize) -> String {
        self.run(steps / 10 + 1); // warm
        self.learner.plan.start_profile();
        let clock = Instant::now();
        self.run(steps);
        let milliseconds = 1e3 * clock.elapsed().as_secs_f64() / steps as f64;
        format!("{milliseconds:.3} ms a step; of {steps} steps\n{}", self.learner.plan.profile())
    }
}

impl<D: Task> Job for Training<D> {
    fn run(&mut self, n: usize) {
        for _ in 0..n {
            self.task.step(&mut self.learner, self.steps, Noise::Drawn).expect("feeds that fit");
            self.steps += 1;
        }
    }

    fn check(&mut self) -> Vec<f64> {
        let mut learner = self.task.learner(self.threads, Noise::Fed).expect("a workload that compiles");
        (0..CHECK_STEPS).map(|t| self.task.step(&mut learner, t, Noise::Fed).expect("feeds that fit")).collect()
    }
}
