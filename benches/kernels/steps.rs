//! Whole steps by the library: a training step of a network, of a flow, and a step of annealed Langevin dynamics.

use std::error::Error;
use std::time::Instant;

use retrodict::models::{ExplicitDensity, Mixing, RealNvp};
use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::optim::{Adam, Optimiser};
use retrodict::progress::Watch;
use retrodict::sample::{Draws, Langevin, LangevinStep, Score, Transition};
use retrodict::store::Weights;
use retrodict::{Device, Feed, Graph, Layout, Request, Store, Var};

/// Sizes: rows, width of the hidden layers, steps.
struct Size {
    rows: usize,
    hidden: usize,
    steps: usize,
}

/// Prints the time of each kind of step, and how many single-precision operations a second its matrix products reach.
/// On the simulated device that only shows that they run.
pub fn table(hardware: bool, peak: f64) -> Result<(), Box<dyn Error>> {
    let device = Device::cuda(0)?;
    let size = match hardware {
        true => Size { rows: 8192, hidden: 1024, steps: 50 },
        false => Size { rows: 32, hidden: 16, steps: 2 },
    };
    println!("\n{:32} {:>10} {:>10} {:>8}", "step", "us", "Tflop/s", "of peak");
    for (name, step) in
        [("network, training", network as Step), ("flow of 8 couplings, training", flow), ("Langevin", chains)]
    {
        let (seconds, flops) = step(&device, &size)?;
        let (micros, rate) = (1e6 * seconds, flops / seconds);
        println!("{name:32} {micros:>10.1} {:>10.2} {:>7.0}%", rate / 1e12, 100.0 * rate / peak);
    }
    Ok(())
}

/// Seconds of a step, and the operations of its matrix products.
type Step = fn(&Device, &Size) -> Result<(f64, f64), Box<dyn Error>>;

/// The mean time of steps after the first three, in which memory is taken and the graph captured.
fn timed(steps: usize, mut step: impl FnMut() -> Result<(), retrodict::Error>) -> Result<f64, Box<dyn Error>> {
    (0..3).try_for_each(|_| step())?;
    let start = Instant::now();
    (0..steps).try_for_each(|_| step())?;
    Ok(start.elapsed().as_secs_f64() / steps as f64)
}

/// Minimises the mean of the first output.
fn training(
    device: &Device,
    layout: Layout,
    (graph, loss): (Graph<f32>, Var),
    size: &Size,
    feeds: &[Feed<'_, f32>],
) -> Result<(f64, f64), Box<dyn Error>> {
    let mut store = Store::<f32>::new(layout, 0);
    let all = 0..store.layout().len();
    let mut plan = graph.compile(device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
    let mut optimiser = Optimiser::new(Adam::new(1e-4), all.clone())?;
    let seconds = timed(size.steps, || {
        plan.mean_and_gradient(&mut store, size.rows, feeds)?;
        optimiser.step(device, &mut store, 1.0).map(drop)
    })?;
    // A product forward and two backward, two operations for each weight and row.
    Ok((seconds, 6.0 * (all.len() * size.rows) as f64))
}

fn network(device: &Device, size: &Size) -> Result<(f64, f64), Box<dyn Error>> {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), size.hidden, &[size.hidden; 3], 1, Activation::Silu)?;
    let mut graph = Graph::new();
    let x = graph.input("x", size.hidden)?;
    let y = net.forward(&mut graph, &[x])?;
    let loss = graph.map(Activation::Square, y)?;
    let batch = vec![0.5; size.rows * size.hidden];
    training(device, layout, (graph, loss), size, &[Feed::Rows(&batch)])
}

fn flow(device: &Device, size: &Size) -> Result<(f64, f64), Box<dyn Error>> {
    let mut layout = Layout::new();
    let settings = RealNvp { layers: 8, hidden: vec![size.hidden / 4; 2], mixing: Mixing::None, ..RealNvp::default() };
    let flow = settings.flow(&mut layout.scope("flow"), 6, 10)?;
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", 6)?, graph.input("x", 10)?);
    let log_q = flow.log_prob(&mut graph, theta, &[x])?;
    let loss = graph.scale(log_q, -1.0)?;
    let (theta, x) = (vec![0.5; size.rows * 6], vec![0.5; size.rows * 10]);
    training(device, layout, (graph, loss), size, &[Feed::Rows(&theta), Feed::Rows(&x)])
}

/// A network's output as score.
#[derive(Debug)]
struct Network(Mlp);

impl Score<f32> for Network {
    fn dim(&self) -> usize {
        16
    }

    fn context(&self) -> usize {
        0
    }

    fn score(&self, graph: &mut Graph<f32>, x: Var, _: Var, _: &[Var]) -> Result<Var, retrodict::Error> {
        self.0.forward(graph, &[x])
    }
}

fn chains(device: &Device, size: &Size) -> Result<(f64, f64), Box<dyn Error>> {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("score"), 16, &[size.hidden; 2], 16, Activation::Tanh)?;
    let store = Store::<f32>::new(layout, 0);
    let settings = Langevin { step: LangevinStep::Eta(1e-3), steps: size.steps, level: 0.0 };
    let mut chains = settings.compile(device, &Network(net))?;
    let (watch, mut x) = (Watch::default(), vec![0.0; 16 * size.rows]);
    let draws = Draws { weights: store.weights(Weights::Raw).into(), ..Draws::new(size.rows, &1, &watch) };
    let seconds = timed(1, || chains.advance(&draws, &mut x))? / size.steps as f64;
    Ok((seconds, 2.0 * (store.layout().len() * size.rows) as f64))
}
