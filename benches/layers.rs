//! Every layer of a training step by itself: vector functions, noise, matrix products, fused ops forward and backward,
//! Adam, a step, and draws. Criterion's `elem/s` are elements of the layer's result; `benches/gemm.rs` has the products
//! beside another library's, and `benches/training_step.rs` a step beside the machine's peak.
//!
//! `cargo bench --bench layers -- --table` prints one line a layer instead, in a few seconds.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use retrodict::device::cpu::gemm::{Mat, Scratch, Start, gemm};
use retrodict::math::{self, map_in_place};
use retrodict::models::{ExplicitDensity, RealNvp};
use retrodict::ops::coupling::Direction;
use retrodict::ops::elementwise::Activation;
use retrodict::ops::mixture_log_density::Covariance;
use retrodict::optim::{Adam, Optimiser};
use retrodict::rng::{Noise, NoiseId, NoiseRows};
use retrodict::store::{Init, Weights};
use retrodict::{Batch, Device, Error, Feed, Graph, Layout, Request, Store, Var};

/// Rows of a batch.
const ROWS: usize = 256;
/// Operations in the matrix products of a training step of the flow (`benches/peers/WORKLOADS.md`, W1).
const TRAINING_FLOPS: usize = 64_600_000;

/// A layer, the elements that one call computes, its operations in matrix products, and the call.
struct Layer {
    name: String,
    elements: usize,
    flops: usize,
    call: Box<dyn FnMut()>,
}

impl Layer {
    fn new(name: impl Into<String>, elements: usize, call: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), elements, flops: 0, call: Box::new(call) }
    }

    fn with_flops(self, flops: usize) -> Self {
        Self { flops, ..self }
    }
}

fn normal(len: usize) -> Vec<f32> {
    let mut x = vec![0.0; len];
    Noise { seed: 1, step: 0, id: NoiseId(0) }.fill_normal(0, 4, &mut x);
    x
}

/// Elementary functions on a table that stays in the cache.
fn functions() -> Vec<Layer> {
    macro_rules! layer {
        ($name:literal, $f:expr) => {{
            let (x, mut y) = (normal(4096), vec![0.0f32; 4096]);
            Layer::new(concat!("math ", $name), 4096, move || {
                y.copy_from_slice(black_box(&x));
                map_in_place(
                    &mut y,
                    #[inline(always)]
                    |x| $f(x),
                );
                black_box(&y);
            })
        }};
    }
    vec![
        layer!("exp", math::exp),
        layer!("ln |x|", |x: f32| math::ln(x.abs())),
        layer!("tanh", math::tanh),
        layer!("sigmoid", math::sigmoid),
        layer!("silu", math::silu),
        layer!("silu with slope", |x: f32| {
            let (y, slope) = math::silu_with_derivative(x);
            y + slope
        }),
        layer!("softplus", math::softplus),
        layer!("sin, cos", |x: f32| {
            let (sin, cos) = math::sin_cos_turns(x);
            sin + cos
        }),
    ]
}

fn noise() -> Vec<Layer> {
    let table = |cols: usize| {
        let (mut x, mut step) = (vec![0.0f32; ROWS * cols], 0);
        Layer::new(format!("normals, {cols} columns"), x.len(), move || {
            step += 1;
            Noise { seed: 1, step, id: NoiseId(0) }.fill_normal(0, cols, black_box(&mut x));
        })
    };
    vec![table(5), table(16), table(64)]
}

/// The products of a layer `k` to `n` wide on a tile of 64 rows: Y = X W + b, and the gradient of W.
fn products(k: usize, n: usize) -> [Layer; 2] {
    const TILE: usize = 64;
    let flops = 2 * TILE * k * n;
    let (x, w, bias) = (normal(TILE * k), normal(k * n), normal(n));
    let (mut y, mut scratch) = (vec![0.0; TILE * n], Scratch::boxed());
    let forward = Layer::new(format!("product {TILE} x {k} x {n}"), TILE * n, move || {
        let (x, w) = (Mat::new(black_box(&x), TILE, k), Mat::new(black_box(&w), k, n));
        gemm(x, w, Start::Bias(&bias), &mut y, n, &mut scratch);
    });
    let (x, g) = (normal(TILE * k), normal(TILE * n));
    let (mut dw, mut scratch) = (vec![0.0; k * n], Scratch::boxed());
    let gradient = Layer::new(format!("product {k} x {TILE} x {n}, transposed"), k * n, move || {
        let (x, g) = (Mat::new(black_box(&x), TILE, k), Mat::new(black_box(&g), TILE, n));
        gemm(x.t(), g, Start::Zero, &mut dw, n, &mut scratch);
    });
    [forward.with_flops(flops), gradient.with_flops(flops)]
}

fn feeds(tables: &[Vec<f32>]) -> Vec<Feed<'_, f32>> {
    tables.iter().map(|table| Feed::Rows(table)).collect()
}

/// An op on inputs and parameters of these widths and shapes, alone in a plan: forward, and forward with backward.
fn op(
    name: &str,
    inputs: &[usize],
    params: &[(usize, usize)],
    record: impl Fn(&mut Graph<f32>, &[Var], &[retrodict::store::Param]) -> Result<Var, Error>,
) -> Result<[Layer; 2], Error> {
    let mut layout = Layout::new();
    let init = |(i, &(rows, cols)): (usize, &(usize, usize))| {
        layout.scope(i).param("p", rows, cols, Init::Normal(1.0 / (rows as f64).sqrt()))
    };
    let params = params.iter().enumerate().map(init).collect::<Result<Vec<_>, _>>()?;
    let mut graph = Graph::new();
    let vars = inputs.iter().map(|&cols| graph.input("x", cols)).collect::<Result<Vec<_>, _>>()?;
    let y = record(&mut graph, &vars, &params)?;
    let loss = graph.sum_cols(y)?;
    let (device, elements) = (Device::cpu_with_threads(1), ROWS * graph.cols(y)?);
    let store = Store::new(layout, 1);
    let tables: Vec<Vec<f32>> = inputs.iter().map(|cols| normal(ROWS * cols)).collect();
    let mut forward = graph.compile(&device, &Request::outputs(&[loss]))?;
    let mut request = Request::outputs(&[loss]).with_input_gradients(&vars);
    if !params.is_empty() {
        request = request.with_parameter_gradients(0..store.layout().len());
    }
    let mut both = graph.compile(&device, &request)?;
    let (weights, again) = (store.weights(Weights::Raw).to_vec(), tables.clone());
    let pulled_weights = weights.clone();
    let alone = Layer::new(format!("{name}, forward"), elements, move || {
        black_box(forward.mean(&weights, ROWS, &feeds(&tables)).expect("fitting feeds"));
    });
    let mut gradients: Vec<Vec<f32>> = inputs.iter().map(|cols| vec![0.0; ROWS * cols]).collect();
    let (ones, mut gradient) = (vec![1.0; ROWS], vec![0.0; if params.is_empty() { 0 } else { store.layout().len() }]);
    let pulled = Layer::new(format!("{name}, forward and backward"), elements, move || {
        let mut slices: Vec<&mut [f32]> = gradients.iter_mut().map(|g| &mut **g).collect();
        let mut vjp = retrodict::plan::Vjp {
            seeds: &[&ones],
            outputs: &mut [],
            input_gradients: &mut slices,
            parameter_gradient: &mut gradient,
        };
        both.vjp(&pulled_weights, ROWS, &feeds(&again), &mut vjp).expect("fitting feeds");
    });
    Ok([alone, pulled])
}

fn ops() -> Result<Vec<Layer>, Error> {
    let linear = |name: &str, rows: usize, cols: usize, f: Activation| {
        let [alone, both] =
            op(name, &[rows], &[(rows, cols), (1, cols)], move |g, x, p| g.linear(x, p[0], Some(p[1]), f))?;
        let flops = 2 * ROWS * rows * cols;
        Ok::<_, Error>([alone.with_flops(flops), both.with_flops(3 * flops)])
    };
    let coupling = |name: &str, direction: Direction| {
        op(name, &[5, 6, 1], &[], move |g, x, _| Ok(g.coupling(x[0], x[1], x[2], &[2, 3, 4], 2.0, direction)?.0))
    };
    let layers = [
        linear("linear 64 x 64 silu", 64, 64, Activation::Silu)?,
        linear("linear 64 x 64", 64, 64, Activation::Identity)?,
        linear("linear 64 x 6", 64, 6, Activation::Identity)?,
        linear("linear 256 x 256 silu", 256, 256, Activation::Silu)?,
        coupling("coupling of 3", Direction::Forward)?,
        coupling("inverse coupling of 3", Direction::Inverse)?,
        op("spline coupling of 3", &[5, 69, 1], &[], |g, x, _| {
            Ok(g.spline_coupling(x[0], x[1], x[2], &[2, 3, 4], 8, 5.0, Direction::Forward)?.0)
        })?,
        op("mixture of 8 in 5", &[5, 88], &[], |g, x, _| g.mixture_log_density(x[0], x[1], 8, Covariance::Diagonal))?,
        op("softplus of 64", &[64], &[], |g, x, _| g.map(Activation::Softplus, x[0]))?,
        op("normal log-density", &[5], &[], |g, x, _| g.normal_log_density(x[0]))?,
    ];
    Ok(layers.into_iter().flatten().collect())
}

fn adam(parameters: usize) -> Result<Layer, Error> {
    let mut layout = Layout::new();
    layout.scope("net").param("weight", 1, parameters, Init::Normal(1.0))?;
    let (mut store, device) = (Store::<f32>::new(layout, 1), Device::cpu_with_threads(1));
    let mut optimiser = Optimiser::new(Adam::default(), 0..parameters)?;
    Ok(Layer::new(format!("adam, {parameters} parameters"), parameters, move || {
        black_box(optimiser.step(&device, &mut store, 1.0).expect("a range of the store"));
    }))
}

/// A training step of a flow (θ 5, context 16, 8 couplings, hidden 64-64), and 1000 draws for one x.
fn flow() -> Result<[Layer; 2], Error> {
    let device = Device::cpu_with_threads(1);
    let mut layout = Layout::new();
    let flow = RealNvp::default().flow(&mut layout.scope("flow"), 5, 16)?;
    let mut store = Store::<f32>::new(layout, 1);
    let all = 0..store.layout().len();
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", 5)?, graph.input("x", 16)?);
    let log_prob = flow.log_prob(&mut graph, theta, &[x])?;
    let loss = graph.scale(log_prob, -1.0)?;
    let mut plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
    let mut graph = Graph::new();
    let x = graph.input("x", 16)?;
    let draws = flow.sample(&mut graph, &[x])?;
    let mut sampler = graph.compile(&device, &Request::outputs(&[draws]))?;
    let (weights, observed, mut out) = (store.weights(Weights::Raw).to_vec(), normal(16), vec![0.0; 5 * 1000]);

    let (thetas, xs) = (normal(ROWS * 5), normal(ROWS * 16));
    let mut optimiser = Optimiser::new(Adam::default(), all)?;
    let step = Layer::new("training step of a flow (rows)", ROWS, move || {
        plan.mean_and_gradient(&mut store, ROWS, &[Feed::Rows(&thetas), Feed::Rows(&xs)]).expect("fitting feeds");
        optimiser.step(&device, &mut store, 1.0).expect("a range of the store");
    });
    let sample = Layer::new("draws of a flow (rows)", 1000, move || {
        let batch = Batch::with_noise(1000, NoiseRows::new(&1));
        sampler.forward(&weights, batch, &[Feed::Repeat(&observed)], &mut [&mut out]).expect("fitting feeds");
    });
    let per_row = 2 * 8 * (18 * 64 + 64 * 64 + 64 * 5);
    Ok([step.with_flops(TRAINING_FLOPS), sample.with_flops(1000 * per_row)])
}

fn layers() -> Result<Vec<Layer>, Error> {
    let mut all = functions();
    all.extend(noise());
    all.extend([products(64, 64), products(18, 64), products(64, 6), products(256, 256)].into_iter().flatten());
    all.extend(ops()?);
    all.extend([adam(45_864)?, adam(696_416)?]);
    all.extend(flow()?);
    Ok(all)
}

/// One line a layer: the median of some tens of readings.
fn table(layers: Vec<Layer>) {
    println!("{:44} {:>10} {:>10} {:>12} {:>9}", "one thread, f32", "us a call", "ns each", "10^6 each/s", "GFLOP/s");
    for Layer { name, elements, flops, mut call } in layers {
        let clock = Instant::now();
        (0..3).for_each(|_| call());
        let calls = (3.0 * 0.002 / clock.elapsed().as_secs_f64()).ceil() as usize;
        let mut readings: Vec<f64> = (0..31)
            .map(|_| {
                let clock = Instant::now();
                (0..calls).for_each(|_| call());
                clock.elapsed().as_secs_f64() / calls as f64
            })
            .collect();
        readings.sort_unstable_by(f64::total_cmp);
        let seconds = readings[readings.len() / 2];
        let each = seconds / elements as f64;
        let rate = if flops > 0 { format!("{:9.1}", 1e-9 * flops as f64 / seconds) } else { String::new() };
        println!("{name:44} {:10.2} {:10.3} {:12.1} {rate}", 1e6 * seconds, 1e9 * each, 1e-6 / each);
    }
}

fn main() -> Result<(), Error> {
    if std::env::args().any(|argument| argument == "--table") {
        table(layers()?);
        return Ok(());
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("layers");
    for Layer { name, elements, mut call, .. } in layers()? {
        group.throughput(Throughput::Elements(elements as u64));
        group.bench_function(name, |bench| bench.iter(&mut call));
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
