//! One training step of a conditional flow (θ 5, context 16, 8 couplings, hidden 64-64, batch 256): gather, forward,
//! backward, clipping, Adam and moving average, in flop/s beside the most that this machine can do.
//!
//! The two groups are measured in one run; compare their throughputs. Only the flops of the matrix products count.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retrodict::math::wide;
use retrodict::models::{ConditionalDensity, RealNvp, Split};
use retrodict::optim::{Adam, Optimiser};
use retrodict::rng::{Noise, NoiseId, permutation};
use retrodict::{Device, Feed, Graph, Layout, Request, Store};

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

/// Independent sums: 12 vectors of 8, which hide the latency of a fused multiply-add.
const LANES: usize = 96;
const STEPS: usize = 400_000;

/// Fused multiply-adds on registers alone, on each thread.
fn peak(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fma peak");
    for threads in [1, 2] {
        group.throughput(Throughput::Elements((2 * LANES * STEPS * threads) as u64));
        let work = || {
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
        };
        group.bench_function(format!("{threads} threads"), |bench| {
            bench.iter(|| {
                std::thread::scope(|scope| {
                    (1..threads).for_each(|_| _ = scope.spawn(work));
                    work();
                });
            });
        });
    }
}

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training step");
    group.throughput(Throughput::Elements(flops() as u64));
    let mut theta = vec![0.0_f32; ROWS * DIM];
    let mut x = vec![0.0_f32; ROWS * CONTEXT];
    Noise { seed: 1, step: 0, id: NoiseId(0) }.fill_normal(0, DIM, &mut theta);
    Noise { seed: 1, step: 0, id: NoiseId(1) }.fill_normal(0, CONTEXT, &mut x);
    let order = permutation(ROWS as u32, 7, 0);
    for threads in [1, 2] {
        let device = Device::cpu_with_threads(threads);
        let settings = RealNvp {
            layers: LAYERS,
            hidden: vec![HIDDEN; 2],
            split: Split::Halves,
            ..RealNvp::default()
        };
        let mut layout = Layout::new();
        let flow = settings.flow(&mut layout.scope("flow"), DIM, CONTEXT).expect("valid settings");
        let mut store = Store::<f32>::new(layout, 0);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let inputs = (
            graph.input("theta", DIM).expect("a width"),
            graph.input("x", CONTEXT).expect("a width"),
        );
        let log_prob = flow.log_prob(&mut graph, inputs.0, inputs.1).expect("fitting widths");
        let loss = graph.scale(log_prob, -1.0).expect("its own variable");
        let request = Request::outputs(&[loss]).with_parameter_gradients(all.clone());
        let mut plan = graph.compile(&device, &request).expect("a loss of parameters");
        let mut optimiser = Optimiser::new(Adam::default(), all.clone()).expect("valid settings");
        let mut batches = order.chunks_exact(BATCH).cycle();
        group.bench_function(format!("{threads} threads"), |bench| {
            bench.iter(|| {
                let rows = batches.next().expect("an endless cycle");
                let feeds = [Feed::Gather(&theta, rows), Feed::Gather(&x, rows)];
                let loss =
                    plan.mean_and_gradient(&mut store, BATCH, &feeds).expect("fitting feeds");
                optimiser.step(&device, &mut store, 1.0).expect("a valid range");
                loss
            });
        });
    }
}

criterion_group!(benches, peak, step);
criterion_main!(benches);
