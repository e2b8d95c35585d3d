//! W1, W2: a training step of a conditional coupling flow; W7: its draws and log-densities.

use retrodict::models::{CouplingFlow, ExplicitDensity, RealNvp, Split};
use retrodict::ops::coupling::Direction;
use retrodict::rng::NoiseRows;
use retrodict::store::Weights;
use retrodict::{Batch, Device, Error, Feed, Graph, Layout, Plan, Request, Store, Var};
use workloads::numbers::normal;
use workloads::worker::Job;
use workloads::{CHECK_STEPS, DRAWS, Workload};

use crate::training::{Batches, Learner, Noise, Task, parameters};

/// The flow with its initial parameters.
fn model(workload: &Workload) -> Result<(CouplingFlow, Store<f32>), Error> {
    let Workload { dim, context, hidden, layers, .. } = *workload;
    let settings = RealNvp { layers, hidden: vec![hidden; 2], split: Split::Halves, ..RealNvp::default() };
    let mut layout = Layout::new();
    let flow = settings.flow(&mut layout.scope("flow"), dim, context)?;
    Ok((flow, parameters(workload, layout)?))
}

/// log q(θ | x), times `sign`.
fn log_prob(flow: &CouplingFlow, workload: &Workload, sign: f64) -> Result<(Graph<f32>, Var), Error> {
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", workload.dim)?, graph.input("x", workload.context)?);
    let log_prob = flow.log_prob(&mut graph, theta, &[x])?;
    let output = graph.scale(log_prob, sign)?;
    Ok((graph, output))
}

/// W1, W2.
#[derive(Debug)]
pub struct Flow {
    workload: Workload,
    batches: Batches,
    theta: Vec<f32>,
    x: Vec<f32>,
}

impl Flow {
    pub fn new(workload: Workload) -> Self {
        let (theta, x) = workload.pairs();
        Self { batches: Batches::new(&workload), workload, theta, x }
    }
}

impl Task for Flow {
    fn learner(&self, threads: usize, _: Noise) -> Result<Learner, Error> {
        let (flow, store) = model(&self.workload)?;
        let (graph, loss) = log_prob(&flow, &self.workload, -1.0)?;
        Learner::new(threads, store, &graph, loss)
    }

    fn step(&self, learner: &mut Learner, t: usize, _: Noise) -> Result<f64, Error> {
        let rows = self.batches.rows(t);
        learner.step(rows.len(), &[Feed::Gather(&self.theta, rows), Feed::Gather(&self.x, rows)])
    }
}

/// W7s: draws for one observation after the other.
#[derive(Debug)]
pub struct Sampling {
    workload: Workload,
    flow: CouplingFlow,
    store: Store<f32>,
    plan: Plan<f32>,
    x: Vec<f32>,
    /// The observation of each row of a call.
    observations: Vec<u32>,
    draws: Vec<f32>,
    calls: usize,
}

impl Sampling {
    pub fn new(workload: Workload, threads: usize) -> Result<Self, Error> {
        let (flow, store) = model(&workload)?;
        let mut graph = Graph::new();
        let x = graph.input("x", workload.context)?;
        let theta = flow.sample(&mut graph, &[x])?;
        let plan =
            graph.compile(&Device::cpu_with_threads(threads), &Request::outputs(&[theta]).with_common_inputs(&[x]))?;
        let Workload { batch, dim, .. } = workload;
        let (observations, draws) = (vec![0; batch], vec![0.0; batch * dim]);
        Ok(Self { workload, flow, store, plan, x: workload.pairs().1, observations, draws, calls: 0 })
    }
}

impl Job for Sampling {
    fn run(&mut self, n: usize) {
        let Workload { batch, rows, .. } = self.workload;
        for _ in 0..n {
            let first = self.calls * batch;
            let observation = |i: usize| ((first + i) / DRAWS % rows) as u32;
            self.observations.iter_mut().enumerate().for_each(|(i, o)| *o = observation(i));
            let noise = NoiseRows::new(&1).at(self.calls as u32);
            let feeds = [Feed::Gather(&self.x, &self.observations)];
            let batch = Batch::with_noise(batch, noise);
            let weights = self.store.weights(Weights::Raw);
            self.plan.forward(weights, batch, &feeds, &mut [&mut self.draws]).expect("feeds that fit");
            self.calls += 1;
        }
    }

    fn check(&mut self) -> Vec<f64> {
        let Workload { dim, context, .. } = self.workload;
        let transform = |graph: &mut Graph<f32>| {
            let (z, x) = (graph.input("z", dim)?, graph.input("x", context)?);
            Ok::<_, Error>(self.flow.transform_and_log_det(graph, z, &[x], Direction::Inverse)?.0)
        };
        let mut graph = Graph::new();
        let theta = transform(&mut graph).expect("widths that fit");
        let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[theta])).expect("one output");
        let (z, x) = (normal(40_000, CHECK_STEPS * dim), &self.x[..CHECK_STEPS * context]);
        let mut draws = vec![0.0; z.len()];
        let feeds = [Feed::Rows(&z), Feed::Rows(x)];
        let weights = self.store.weights(Weights::Raw);
        plan.forward(weights, CHECK_STEPS, &feeds, &mut [&mut draws]).expect("feeds that fit");
        draws.chunks_exact(dim).map(|theta| theta.iter().map(|&t| f64::from(t)).sum()).collect()
    }

    fn items(&self) -> usize {
        self.workload.batch
    }
}

/// W7l: log-densities of one pair after the other.
#[derive(Debug)]
pub struct Densities {
    workload: Workload,
    store: Store<f32>,
    plan: Plan<f32>,
    theta: Vec<f32>,
    x: Vec<f32>,
    log_q: Vec<f32>,
    calls: usize,
}

impl Densities {
    pub fn new(workload: Workload, threads: usize) -> Result<Self, Error> {
        let (flow, store) = model(&workload)?;
        let (graph, log_q) = log_prob(&flow, &workload, 1.0)?;
        let plan = graph.compile(&Device::cpu_with_threads(threads), &Request::outputs(&[log_q]))?;
        let (theta, x) = workload.pairs();
        Ok(Self { workload, store, plan, theta, x, log_q: vec![0.0; workload.batch], calls: 0 })
    }

    /// The densities of the pairs from `first` on.
    fn evaluate(&mut self, first: usize) {
        let Workload { dim, context, batch, .. } = self.workload;
        let theta = &self.theta[first * dim..(first + batch) * dim];
        let x = &self.x[first * context..(first + batch) * context];
        let weights = self.store.weights(Weights::Raw);
        let feeds = [Feed::Rows(theta), Feed::Rows(x)];
        self.plan.forward(weights, batch, &feeds, &mut [&mut self.log_q]).expect("feeds that fit");
    }
}

impl Job for Densities {
    fn run(&mut self, n: usize) {
        let Workload { batch, rows, .. } = self.workload;
        for _ in 0..n {
            self.evaluate(self.calls * batch % (rows - rows % batch));
            self.calls += 1;
        }
    }

    fn check(&mut self) -> Vec<f64> {
        self.evaluate(0);
        self.log_q[..CHECK_STEPS].iter().map(|&q| f64::from(q)).collect()
    }

    fn items(&self) -> usize {
        self.workload.batch
    }
}
