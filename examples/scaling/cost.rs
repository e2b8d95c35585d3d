//! What a step and a draw cost, in milliseconds.

use std::time::Instant;

use ndarray::Array2;
use retrodict::models::{ExplicitDensity, RealNvp};
use retrodict::optim::{Adam, Optimiser};
use retrodict::rng::{Noise, NoiseId};
use retrodict::store::Init;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Error, Feed, Graph, Layout, Npe, Plan, Posterior, Request, Store, Support};

/// θ and x of W1.
pub const DIM: usize = 5;
pub const CONTEXT: usize = 16;

/// Standard normal numbers, `rows x cols`.
pub fn normal(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = vec![0.0; rows * cols];
    Noise { seed: 1, step: 0, id: NoiseId(0) }.fill_normal(0, cols, &mut x);
    x
}

/// Of a call, the fastest of some readings after a warm one: whatever else runs on the machine only adds. A reading is
/// as many calls as take a millisecond; of a call that takes a second there is only one.
fn milliseconds(mut call: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let mut reading = |calls: usize| -> Result<f64, Error> {
        let clock = Instant::now();
        (0..calls).try_for_each(|_| call())?;
        Ok(1e3 * clock.elapsed().as_secs_f64() / calls as f64)
    };
    let first = reading(1)?;
    if first > 1000.0 {
        return Ok(first);
    }
    let calls = (1.0 / reading(1)?).ceil() as usize;
    let readings = (300.0 / first).ceil().clamp(5.0, 40.0) as usize;
    (0..readings).try_fold(f64::INFINITY, |least, _| Ok(least.min(reading(calls)?)))
}

/// A conditional flow of W1's shape but for its width, and Adam on it.
pub struct Descent {
    device: Device,
    store: Store<f32>,
    plan: Plan<f32>,
    optimiser: Optimiser,
}

impl Descent {
    pub fn new(threads: usize, width: usize) -> Result<Self, Error> {
        let device = Device::cpu_with_threads(threads);
        let mut layout = Layout::new();
        let settings = RealNvp { hidden: vec![width; 2], ..RealNvp::default() };
        let flow = settings.flow(&mut layout.scope("flow"), DIM, CONTEXT)?;
        let store = Store::<f32>::new(layout, 1);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", DIM)?, graph.input("x", CONTEXT)?);
        let log_prob = flow.log_prob(&mut graph, theta, &[x])?;
        let loss = graph.scale(log_prob, -1.0)?;
        let plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
        Ok(Self { device, store, plan, optimiser: Optimiser::new(Adam::default(), all)? })
    }

    pub fn step(&mut self, rows: usize, theta: Feed<'_, f32>, x: Feed<'_, f32>) -> Result<(), Error> {
        self.plan.mean_and_gradient(&mut self.store, rows, &[theta, x])?;
        self.optimiser.step(&self.device, &mut self.store, 1.0).map(|_| ())
    }
}

pub fn training_step(threads: usize, rows: usize, width: usize) -> Result<f64, Error> {
    let mut descent = Descent::new(threads, width)?;
    let (theta, x) = (normal(rows, DIM), normal(rows, CONTEXT));
    milliseconds(|| descent.step(rows, Feed::Rows(&theta), Feed::Rows(&x)))
}

/// Multiply-adds of the products of such a step: forward, for the weights' gradients and, but for the context, for the
/// inputs' adjoints.
pub fn flow_operations(rows: usize, width: usize) -> f64 {
    let layer = |identity: usize, transformed: usize| {
        let rest = width * width + 2 * transformed * width;
        3 * (identity * width + rest) + 2 * CONTEXT * width
    };
    let (lower, upper) = (DIM / 2, DIM - DIM / 2);
    (rows * RealNvp::default().layers / 2 * (layer(lower, upper) + layer(upper, lower))) as f64
}

pub fn adam(threads: usize, parameters: usize) -> Result<f64, Error> {
    let mut layout = Layout::new();
    layout.scope("net").param("weight", 1, parameters, Init::Normal(1.0))?;
    let (mut store, device) = (Store::<f32>::new(layout, 1), Device::cpu_with_threads(threads));
    let mut optimiser = Optimiser::new(Adam::default(), 0..parameters)?;
    milliseconds(|| optimiser.step(&device, &mut store, 1.0).map(|_| ()))
}

/// A posterior of W1's shape after one look at some rows: what it says costs the same as if it were right.
pub fn posterior(threads: usize) -> Result<Posterior, Error> {
    let rows = 512;
    let table =
        |cols| Array2::from_shape_vec((rows, cols), normal(rows, cols)).expect("as many numbers").mapv(f64::from);
    let support = (0..DIM).fold(Support::new(), |support, j| support.real(&format!("theta {j}"))).build()?;
    let data = Dataset::new(&support, table(DIM).view(), table(CONTEXT).view(), Default::default())?;
    let training = Training { max_epochs: 1, ..Training::default() };
    let npe = Npe { family: RealNvp::default(), training, seed: 1 };
    Ok(npe.fit(&Device::cpu_with_threads(threads), &data)?.0)
}

/// Observations, `[rows x CONTEXT]`.
pub fn observations(rows: usize) -> Array2<f64> {
    let mut x = Array2::zeros((rows, CONTEXT));
    x.iter_mut().zip(normal(1000, CONTEXT).iter().cycle()).for_each(|(x, &normal)| *x = f64::from(normal));
    x
}

/// Draws for each of some observations, all of them looked at.
pub fn draws(threads: usize, rows: usize, draws: usize) -> Result<f64, Error> {
    let (posterior, x) = (posterior(threads)?, observations(rows));
    let mut sum = 0.0;
    milliseconds(|| posterior.sample_each(x.view(), draws, 1, |_, theta| sum += theta.sum()))
}
