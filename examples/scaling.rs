//! How cost grows: a training step of a conditional flow against batch and width, Adam against parameters, draws against
//! observations. Writes `scaling.csv` and `scaling.svg` to `target/scaling/`.
//!
//! `cargo run --release --features plots --example scaling` (`-- --quick` for a look at the machinery)

use std::error::Error;
use std::time::Instant;

use retrodict::models::{ExplicitDensity, RealNvp};
use retrodict::ndarray::Array2;
use retrodict::optim::{Adam, Optimiser};
use retrodict::report::{Panel, scatter_grid};
use retrodict::rng::{Noise, NoiseId, NoiseRows};
use retrodict::store::{Init, Weights};
use retrodict::{Batch, Device, Feed, Graph, Layout, Request, Store};

const DIM: usize = 5;
const CONTEXT: usize = 16;
const DRAWS: usize = 100;

fn normal(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = vec![0.0; rows * cols];
    Noise { seed: 1, step: 0, id: NoiseId(0) }.fill_normal(0, cols, &mut x);
    x
}

/// The median seconds of a call, from some readings after a warm one.
fn seconds(mut call: impl FnMut() -> Result<(), retrodict::Error>) -> Result<f64, retrodict::Error> {
    call()?;
    let mut readings = [0.0; 7];
    for reading in &mut readings {
        let clock = Instant::now();
        call()?;
        *reading = clock.elapsed().as_secs_f64();
    }
    readings.sort_unstable_by(f64::total_cmp);
    Ok(readings[readings.len() / 2])
}

fn training_step(threads: usize, batch: usize, width: usize) -> Result<f64, retrodict::Error> {
    let device = Device::cpu_with_threads(threads);
    let mut layout = Layout::new();
    let settings = RealNvp { hidden: vec![width; 2], ..RealNvp::default() };
    let flow = settings.flow(&mut layout.scope("flow"), DIM, CONTEXT)?;
    let mut store = Store::<f32>::new(layout, 1);
    let all = 0..store.layout().len();
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", DIM)?, graph.input("x", CONTEXT)?);
    let log_prob = flow.log_prob(&mut graph, theta, &[x])?;
    let loss = graph.scale(log_prob, -1.0)?;
    let mut plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
    let mut optimiser = Optimiser::new(Adam::default(), all)?;
    let (thetas, xs) = (normal(batch, DIM), normal(batch, CONTEXT));
    seconds(|| {
        plan.mean_and_gradient(&mut store, batch, &[Feed::Rows(&thetas), Feed::Rows(&xs)])?;
        optimiser.step(&device, &mut store, 1.0).map(|_| ())
    })
}

fn adam(parameters: usize) -> Result<f64, retrodict::Error> {
    let mut layout = Layout::new();
    layout.scope("net").param("weight", 1, parameters, Init::Normal(1.0))?;
    let (mut store, device) = (Store::<f32>::new(layout, 1), Device::cpu_with_threads(1));
    let mut optimiser = Optimiser::new(Adam::default(), 0..parameters)?;
    seconds(|| optimiser.step(&device, &mut store, 1.0).map(|_| ()))
}

/// Draws for this many observations, in calls of a hundred observations: memory does not grow with them.
fn draws(observations: usize) -> Result<f64, retrodict::Error> {
    let mut layout = Layout::new();
    let flow = RealNvp::default().flow(&mut layout.scope("flow"), DIM, CONTEXT)?;
    let store = Store::<f32>::new(layout, 1);
    let mut graph = Graph::new();
    let x = graph.input("x", CONTEXT)?;
    let theta = flow.sample(&mut graph, &[x])?;
    let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[theta]))?;
    let together = observations.min(100);
    let (xs, rows) = (normal(together, CONTEXT), together * DRAWS);
    let index: Vec<u32> = (0..rows).map(|i| (i / DRAWS) as u32).collect();
    let mut out = vec![0.0; rows * DIM];
    seconds(|| {
        (0..observations / together).try_for_each(|call| {
            let batch = Batch::with_noise(rows, NoiseRows::new(&1).at(call as u32));
            plan.forward(store.weights(Weights::Raw), batch, &[Feed::Gather(&xs, &index)], &mut [&mut out])
        })
    })
}

/// A curve: what was varied, and (value, seconds).
struct Curve {
    name: &'static str,
    points: Vec<(usize, f64)>,
}

impl Curve {
    fn measure(
        name: &'static str,
        values: &[usize],
        cost: impl Fn(usize) -> Result<f64, retrodict::Error>,
    ) -> Result<Self, retrodict::Error> {
        println!("{name}");
        let points = values.iter().map(|&n| {
            let seconds = cost(n)?;
            println!("{n:10} {:12.3} ms {:10.1} ns each", 1e3 * seconds, 1e9 * seconds / n as f64);
            Ok((n, seconds))
        });
        Ok(Self { name, points: points.collect::<Result<_, retrodict::Error>>()? })
    }

    /// log10 of what was varied and of milliseconds.
    fn logarithms(&self) -> Array2<f64> {
        Array2::from_shape_fn((self.points.len(), 2), |(i, j)| {
            let (n, seconds) = self.points[i];
            if j == 0 { (n as f64).log10() } else { (1e3 * seconds).log10() }
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let most = |values: &[usize]| values[..if quick { 3 } else { values.len() }].to_vec();
    let batches = most(&[1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536]);
    let curves = [
        Curve::measure("batch, 1 thread", &batches, |n| training_step(1, n, 64))?,
        Curve::measure("batch, 2 threads", &batches, |n| training_step(2, n, 64))?,
        Curve::measure("width, 1 thread", &most(&[16, 32, 64, 128, 256, 512, 1024]), |n| training_step(1, 256, n))?,
        Curve::measure("parameters of Adam", &most(&[1000, 10_000, 100_000, 1_000_000, 10_000_000]), adam)?,
        Curve::measure("observations, 100 draws each", &most(&[1, 10, 100, 1000, 10_000]), draws)?,
    ];
    let folder = std::path::Path::new("target/scaling");
    std::fs::create_dir_all(folder)?;
    let lines =
        curves.iter().flat_map(|c| c.points.iter().map(|(n, s)| format!("{},{n},{s:e}\n", c.name.replace(',', ""))));
    std::fs::write(folder.join("scaling.csv"), format!("varied,value,seconds\n{}", lines.collect::<String>()))?;
    let tables: Vec<Array2<f64>> = curves.iter().map(Curve::logarithms).collect();
    let panels: Vec<Panel<'_>> = curves
        .iter()
        .zip(&tables)
        .map(|(curve, table)| Panel::points(curve.name, table.view()).caption("log10: across the number, up ms"))
        .collect();
    scatter_grid(&panels, 3)?.write(folder.join("scaling.svg"))?;
    Ok(())
}
