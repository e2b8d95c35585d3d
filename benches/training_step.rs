//! One training step of a conditional flow (θ 5, context 16, 8 couplings, hidden 64-64, batch 256): gather, forward,
//! backward, clipping, Adam and moving average, in flop/s beside the most that this machine can do.
//!
//! `cargo bench --bench training_step -- --table` prints the last two lines alone. Criterion's `elem/s` are flop/s: of the matrix products alone for the step. The last lines set them side by side.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group};
use retrodict::math::wide;
use retrodict::models::{ExplicitDensity, RealNvp, Split};
use retrodict::optim::{Adam, Optimiser};
use retrodict::rng::{Noise, NoiseId, permutation};
use retrodict::{Device, Error, Feed, Graph, Layout, Plan, Request, Store};

const DIM: usize = 5;
const CONTEXT: usize = 16;
const LAYERS: usize = 8;
const HIDDEN: usize = 64;
const BATCH: usize = 256;
const ROWS: usize = 16_384;

/// Two flops per multiply-add: forward, weight gradients, and input gradients where the input is not data.
fn flops() -> usize {
    let layer = |l: usize| {
        let identity = if l.is_multiple_of(2) { DIM / 2 } else { DIM - DIM / 2 };
        let first = 2 * (identity + CONTEXT) + identity;
        HIDDEN * first + 3 * HIDDEN * HIDDEN + 3 * HIDDEN * 2 * (DIM - identity)
    };
    2 * BATCH * (0..LAYERS).map(layer).sum::<usize>()
}

/// Independent sums: 12 vectors of 16, which hide the latency of a fused multiply-add.
const LANES: usize = 192;
const STEPS: usize = 400_000;

/// Fused multiply-adds on registers alone.
fn multiply_adds() {
    wide(
        #[inline(always)]
        || {
            let mut sums = black_box([1.0f32; LANES]);
            let x = black_box(0.5);
            for _ in 0..STEPS {
                sums.iter_mut().for_each(|sum| *sum = sum.mul_add(x, 0.25));
            }
            black_box(sums);
        },
    );
}

/// The same on each of some threads.
fn peak(threads: usize) {
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| _ = scope.spawn(multiply_adds));
        multiply_adds();
    });
}

/// A flow in training, and the order in which its rows come.
struct Job {
    device: Device,
    plan: Plan<f32>,
    store: Store<f32>,
    optimiser: Optimiser,
    theta: Vec<f32>,
    x: Vec<f32>,
    order: Vec<u32>,
    batch: usize,
}

impl Job {
    fn new(threads: usize) -> Result<Self, Error> {
        let device = Device::cpu_with_threads(threads);
        let settings = RealNvp { layers: LAYERS, hidden: vec![HIDDEN; 2], split: Split::Halves, ..RealNvp::default() };
        let mut layout = Layout::new();
        let flow = settings.flow(&mut layout.scope("flow"), DIM, CONTEXT)?;
        let store = Store::new(layout, 0);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", DIM)?, graph.input("x", CONTEXT)?);
        let log_prob = flow.log_prob(&mut graph, theta, &[x])?;
        let loss = graph.scale(log_prob, -1.0)?;
        let request = Request::outputs(&[loss]).with_parameter_gradients(all.clone());
        let plan = graph.compile(&device, &request)?;
        let normal = |id, cols| {
            let mut table = vec![0.0; ROWS * cols];
            Noise { seed: 1, step: 0, id: NoiseId(id) }.fill_normal(0, cols, &mut table);
            table
        };
        Ok(Self {
            device,
            plan,
            store,
            optimiser: Optimiser::new(Adam::default(), all)?,
            theta: normal(0, DIM),
            x: normal(1, CONTEXT),
            order: permutation(ROWS as u32, 7, 0),
            batch: 0,
        })
    }

    fn step(&mut self) -> Result<f64, Error> {
        let start = self.batch * BATCH % ROWS;
        self.batch += 1;
        let rows = &self.order[start..start + BATCH];
        let feeds = [Feed::Gather(&self.theta, rows), Feed::Gather(&self.x, rows)];
        let loss = self.plan.mean_and_gradient(&mut self.store, BATCH, &feeds)?;
        self.optimiser.step(&self.device, &mut self.store, 1.0)?;
        Ok(loss)
    }
}

fn benches(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("training step, {threads} threads"));
        group.throughput(Throughput::Elements((2 * LANES * STEPS * threads) as u64));
        group.bench_function("peak", |bench| bench.iter(|| peak(threads)));
        group.throughput(Throughput::Elements(flops() as u64));
        let mut job = Job::new(threads).expect("valid settings");
        group.bench_function("step", |bench| bench.iter(|| job.step().expect("fitting feeds")));
    }
}

/// Peak and step in turns, the median of each, in one line.
fn summary(threads: usize) -> Result<(), Error> {
    let mut job = Job::new(threads)?;
    let (mut peaks, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let start = Instant::now();
        peak(threads);
        peaks.push((2 * LANES * STEPS * threads) as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..10 {
            job.step()?;
        }
        steps.push((10 * flops()) as f64 / start.elapsed().as_secs_f64());
    }
    let [peak, step] = [peaks, steps].map(|mut v| {
        v.sort_unstable_by(f64::total_cmp);
        v[v.len() / 2] / 1e9
    });
    let (share, ms) = (100.0 * step / peak, flops() as f64 / step / 1e6);
    println!("{threads} threads: {ms:.2} ms a step, {step:.1} of {peak:.1} GFLOP/s ({share:.0} % of the FMA peak)");
    Ok(())
}

criterion_group!(criterion, benches);

fn main() -> Result<(), Error> {
    if !std::env::args().any(|argument| argument == "--table") {
        criterion();
    }
    [1, 2].into_iter().try_for_each(summary)
}
