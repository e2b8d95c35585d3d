//! Plans on a CUDA device give what they give on the processor. The device is the simulated one, which checks every
//! access to memory.
#![cfg(feature = "cuda")]

use retrodict::models::{ExplicitDensity, Mixing, RealNvp};
use retrodict::nn::Mlp;
use retrodict::noise_schedule::NoiseSchedule;
use retrodict::ops::elementwise::Activation;
use retrodict::ops::mixture_log_density::Covariance;
use retrodict::ops::{Case, Domain, table};
use retrodict::optim::{Adam, Optimiser};
use retrodict::plan::Vjp;
use retrodict::real::Real;
use retrodict::rng::{Noise, NoiseId, NoiseRows};
use retrodict::store::Init;
use retrodict::store::Weights;
use retrodict::{Batch, Device, Error, Feed, Graph, Layout, Request, Store, Var};

/// Whether the machine's own GPU was asked for.
fn on_hardware() -> bool {
    std::env::var_os("RETRODICT_GPU").is_some()
}

fn device() -> Device {
    if !on_hardware() {
        cusim::install();
    }
    Device::cuda(0).unwrap()
}

fn normal<T: Real>(rows: usize, cols: usize, step: u32, id: usize) -> Vec<T> {
    let mut values = vec![T::ZERO; rows * cols];
    Noise { seed: 5, step, id: NoiseId(id as u32) }.fill_normal(0, cols, &mut values);
    values
}

/// A graph with everything that a vector-Jacobian product of it needs.
struct Problem<T> {
    graph: Graph<T>,
    store: Store<T>,
    inputs: Vec<(Var, Vec<T>)>,
    outputs: Vec<(Var, Vec<T>)>,
    rows: usize,
}

/// Outputs, input gradients, parameter gradient.
type Results<T> = (Vec<Vec<T>>, Vec<Vec<T>>, Vec<T>);

impl<T: Real> Problem<T> {
    /// A case of the op table; if `shared`, its inputs are used once more, so that the op adds to their adjoints.
    fn of(case: &Case<T>, rows: usize, shared: bool) -> Self {
        let mut layout = Layout::new();
        let mut scope = layout.scope("case");
        let init = Init::Normal(0.7);
        let shapes = case.params.iter().enumerate();
        let params: Vec<_> = shapes.map(|(i, s)| scope.param(&i.to_string(), s.0, s.1, init).unwrap()).collect();
        let mut graph = Graph::new();
        let vars: Vec<Var> = case.inputs.iter().map(|&cols| graph.input("x", cols).unwrap()).collect();
        let mut outputs = (case.build)(&mut graph, &vars, &params).unwrap();
        if shared {
            outputs.extend(vars.iter().map(|&v| graph.scale(v, 0.5).unwrap()));
        }
        let value = |(i, (&var, &cols)): (usize, (&Var, &usize))| {
            let x = normal::<T>(rows, cols, 1, i);
            let positive = |x: T| T::from_f64(x.to_f64().exp());
            let x = if case.domain == Domain::Positive { x.into_iter().map(positive).collect() } else { x };
            (var, x)
        };
        let inputs = vars.iter().zip(&case.inputs).enumerate().map(value).collect();
        let seed = |(i, &v): (usize, &Var)| (v, normal(rows, graph.cols(v).unwrap(), 2, i));
        let outputs = outputs.iter().enumerate().map(seed).collect();
        Self { store: Store::new(layout, 3), graph, inputs, outputs, rows }
    }

    /// The product `times` times in a row.
    fn run(&self, device: &Device, times: usize) -> Result<Vec<Results<T>>, Error> {
        let outputs: Vec<Var> = self.outputs.iter().map(|(v, _)| *v).collect();
        let inputs: Vec<Var> = self.inputs.iter().map(|(v, _)| *v).collect();
        let params = self.store.layout().len();
        let request = Request::outputs(&outputs).with_input_gradients(&inputs).with_parameter_gradients(0..params);
        let mut plan = self.graph.compile(device, &request)?;
        let feeds: Vec<_> = self.inputs.iter().map(|(_, x)| Feed::Rows(x)).collect();
        let seeds: Vec<&[T]> = self.outputs.iter().map(|(_, s)| &s[..]).collect();
        let mut product = |_| {
            let nan = |table: &Vec<T>| vec![T::from_f64(f64::NAN); table.len()];
            let mut values: Vec<Vec<T>> = self.outputs.iter().map(|(_, s)| nan(s)).collect();
            let mut gradients: Vec<Vec<T>> = self.inputs.iter().map(|(_, x)| nan(x)).collect();
            let mut parameter_gradient = vec![T::from_f64(f64::NAN); params];
            let mut vjp = Vjp {
                seeds: &seeds,
                outputs: &mut values.iter_mut().map(|v| &mut v[..]).collect::<Vec<_>>(),
                input_gradients: &mut gradients.iter_mut().map(|v| &mut v[..]).collect::<Vec<_>>(),
                parameter_gradient: &mut parameter_gradient,
            };
            let batch = Batch::with_noise(self.rows, NoiseRows::new(&11));
            plan.vjp(self.store.weights(Weights::Raw), batch, &feeds, &mut vjp)?;
            Ok((values, gradients, parameter_gradient))
        };
        (0..times).map(&mut product).collect()
    }
}

/// max |a - b| / max(1, max |b|), NaN counting as infinite.
fn distance<T: Real>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().map(|b| b.to_f64().abs()).fold(1.0, f64::max);
    let apart = |(a, b): (&T, &T)| (a.to_f64() - b.to_f64()).abs() / scale;
    a.iter().zip(b).map(apart).map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max)
}

/// Compares all cases of the op table that have kernels; returns the names of those that have none.
fn compare_ops<T: Real>(tolerance: f64) -> Vec<&'static str> {
    let (cpu, cuda) = (Device::cpu_with_threads(1), device());
    let mut without = Vec::new();
    for case in table::<T>() {
        for (rows, shared) in [(1, false), (13, true), (67, false)] {
            let problem = Problem::of(&case, rows, shared);
            let expected = &problem.run(&cpu, 1).unwrap()[0];
            // Launched one by one, then captured, then replayed.
            let found = match problem.run(&cuda, 3) {
                Ok(found) => found,
                Err(Error::Shape { why, .. }) if why.contains("no kernels") => {
                    without.push(case.name);
                    break;
                }
                Err(error) => panic!("{case:?}, {rows} rows: {error}"),
            };
            assert!(found[1] == found[0] && found[2] == found[0], "{case:?}: a replay gives the same bits");
            let (outputs, inputs, params) = &found[0];
            let pairs = outputs.iter().zip(&expected.0).chain(inputs.iter().zip(&expected.1));
            for (a, b) in pairs.chain([(params, &expected.2)]) {
                let error = distance(a, b);
                assert!(error <= tolerance, "{case:?}, {rows} rows: {error:e}\n{a:?}\n{b:?}");
            }
        }
    }
    without.dedup();
    without
}

/// A user's own function has no kernels; a plan that needs one says so when it is compiled.
const WITHOUT: [&str; 1] = ["log_density_function"];

#[test]
fn ops_in_double_precision() {
    assert_eq!(compare_ops::<f64>(1e-12), WITHOUT);
}

#[test]
fn ops_in_single_precision() {
    assert_eq!(compare_ops::<f32>(1e-5), WITHOUT);
}

/// The outputs of a graph that draws noise, on a device.
fn forward<T: Real>(
    device: &Device,
    params: &[T],
    rows: usize,
    build: impl Fn(&mut Graph<T>) -> Vec<Var>,
) -> Vec<Vec<T>> {
    let mut graph = Graph::new();
    let outputs = build(&mut graph);
    let mut plan = graph.compile(device, &Request::outputs(&outputs)).unwrap();
    let mut values: Vec<Vec<T>> = outputs.iter().map(|&v| vec![T::ZERO; rows * graph.cols(v).unwrap()]).collect();
    let mut slices: Vec<&mut [T]> = values.iter_mut().map(|v| &mut v[..]).collect();
    // Groups that begin and end inside of the batch.
    let (first, group) = (17, 40);
    let seeds: Vec<u64> = [7, u64::MAX, 1 << 40].into_iter().cycle().take((first + rows).div_ceil(group)).collect();
    let noise = NoiseRows { seeds: &seeds, group, first, step: 9 };
    plan.forward(params, Batch::with_noise(rows, noise), &[], &mut slices).unwrap();
    values
}

fn same_bits<T: Real>() {
    let build = |graph: &mut Graph<T>| {
        let (normal, uniform) = (graph.normal(7).unwrap(), graph.uniform(5).unwrap());
        // Normals of every size, and uniforms, through every function.
        let spread = graph.affine(normal, 3.0, 0.1).unwrap();
        let functions = Activation::ALL.into_iter().flat_map(|f| [(f, spread), (f, uniform)]);
        let functions: Vec<Var> = functions.map(|(f, x)| graph.map(f, x).unwrap()).collect();
        functions.into_iter().step_by(2).chain([normal, uniform]).collect()
    };
    let (expected, found) = (forward(&Device::cpu(), &[], 100, build), forward(&device(), &[], 100, build));
    for (a, b) in expected.iter().flatten().zip(found.iter().flatten()) {
        let same = a == b || a.to_f64().is_nan() && b.to_f64().is_nan();
        assert!(same, "{a} on the processor, {b} on the device");
    }
}

#[test]
fn noise_and_elementary_functions_are_the_same_to_the_bit() {
    same_bits::<f32>();
    same_bits::<f64>();
}

/// What has no derivative, and so no case: derivatives as values, draws of mixtures, noise schedules.
fn without_derivative<T: Real>(tolerance: f64) {
    let schedules = [
        NoiseSchedule::variance_exploding(),
        NoiseSchedule::variance_preserving(),
        NoiseSchedule::sub_variance_preserving(),
        NoiseSchedule::edm(),
        NoiseSchedule::geometric(),
        NoiseSchedule::Linear,
    ];
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 5, &[7], 3, Activation::Tanh).unwrap();
    let store = Store::<T>::new(layout, 4);
    let build = |graph: &mut Graph<T>| {
        let (x, c, v) = (graph.normal(3)?, graph.normal(2)?, graph.normal(3)?);
        let record = |graph: &mut Graph<T>, x: &[Var]| net.forward(graph, x);
        let (y, pulled) = graph.value_and_vjp(&[x, c], v, record)?;
        let (again, trace) = graph.value_and_divergence(&[x, c], record)?;
        // The tables of inner ops, one behind another.
        let (value, gradient) = graph.value_and_gradient(&[x], |graph, x| {
            let (some, waves) = (graph.select(x[0], &[2, 0, 2])?, graph.fourier(x[0], &[0.3, 0.7])?);
            let all = graph.concat(&[some, waves])?;
            graph.normal_log_density(all)
        })?;
        let u = graph.uniform(1)?;
        let mut outputs = vec![y, pulled, again, trace, value, gradient];
        for (k, covariance) in [(1, Covariance::Diagonal), (35, Covariance::Full)] {
            let raw = graph.normal(covariance.raw_width(k, 3))?;
            outputs.push(graph.mixture_sample(raw, x, u, k, covariance)?);
        }
        for schedule in schedules {
            let level = graph.noise_schedule(u, schedule)?;
            outputs.push(graph.concat(&[level.alpha, level.sigma, level.drift, level.diffusion_squared])?);
        }
        Ok::<_, Error>(outputs)
    };
    for rows in [1, 13, 67] {
        let run = |device: &Device| forward(device, store.weights(Weights::Raw), rows, |g| build(g).unwrap());
        for (i, (a, b)) in run(&device()).iter().zip(run(&Device::cpu())).enumerate() {
            // Relative to each element: a schedule's numbers differ in size.
            let apart = |(a, b): (&T, &T)| (a.to_f64() - b.to_f64()).abs() / b.to_f64().abs().max(1.0);
            assert!(a.iter().zip(&b).map(apart).all(|d| d <= tolerance), "output {i}, {rows} rows\n{a:?}\n{b:?}");
        }
    }
}

#[test]
fn values_without_a_derivative() {
    without_derivative::<f64>(1e-12);
    without_derivative::<f32>(1e-5);
}

/// On the simulated device 20 rows are tiles of 16 rows, and 200 are tiles of 64.
fn same_bits_in_any_batch<T: Real>() {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 8, &[68, 7], 5, Activation::Silu).unwrap();
    let store = Store::<T>::new(layout, 3);
    let build = |graph: &mut Graph<T>| {
        let x = graph.normal(8).unwrap();
        vec![net.forward(graph, &[x]).unwrap()]
    };
    let [few, many] = [20, 200].map(|rows| forward(&device(), store.weights(Weights::Raw), rows, build).remove(0));
    assert_eq!(few[..], many[..few.len()]);
}

#[test]
fn a_networks_bits_do_not_depend_on_the_batch() {
    same_bits_in_any_batch::<f32>();
    same_bits_in_any_batch::<f64>();
}

/// Losses of three steps with a changing learning rate, and the weights and averages after them.
fn train<T: Real>(device: &Device, rows: usize) -> (Vec<f64>, Vec<T>, Vec<T>) {
    let mut layout = Layout::new();
    let settings = RealNvp { layers: 2, hidden: vec![9, 5], mixing: Mixing::None, ..RealNvp::default() };
    let flow = settings.flow(&mut layout.scope("flow"), 3, 2).unwrap();
    let mut store = Store::<T>::new(layout, 1);
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", 3).unwrap(), graph.input("x", 2).unwrap());
    let log_q = flow.log_prob(&mut graph, theta, &[x]).unwrap();
    let loss = graph.scale(log_q, -1.0).unwrap();
    let all = 0..store.layout().len();
    let mut plan = graph.compile(device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone())).unwrap();
    let mut optimiser = Optimiser::new(Adam { clip: 0.5, ..Adam::new(0.02) }, all).unwrap();
    let (theta, x) = (normal(50, 3, 1, 0), normal(50, 2, 1, 1));
    let mut step = |i: u32| {
        let index: Vec<u32> = (0..rows as u32).map(|r| (7 * r + i) % 50).collect();
        let feeds = [Feed::Gather(&theta, &index), Feed::Gather(&x, &index)];
        let loss = plan.mean_and_gradient(&mut store, rows, &feeds).unwrap();
        optimiser.step(device, &mut store, 1.0 / f64::from(i + 1)).unwrap();
        loss
    };
    let losses = (0..3).map(&mut step).collect();
    (losses, store.weights(Weights::Raw).to_vec(), store.weights(Weights::Ema).to_vec())
}

fn same_training<T: Real>(tolerance: f64) {
    for rows in [1, 37, 130] {
        let (expected, found) = (train::<T>(&Device::cpu(), rows), train::<T>(&device(), rows));
        assert!(distance(&found.0, &expected.0) < tolerance, "{:?} {:?}", found.0, expected.0);
        assert!(distance(&found.1, &expected.1) < tolerance && distance(&found.2, &expected.2) < tolerance);
    }
}

#[test]
fn a_flow_is_trained_as_on_the_processor() {
    same_training::<f64>(1e-12);
    same_training::<f32>(1e-5);
}

#[test]
fn a_function_of_ones_own_is_named_as_what_has_no_kernels() {
    let mut graph = Graph::<f64>::new();
    let x = graph.input("x", 1).unwrap();
    let y = graph.function(&[x], 1, |x, y| y[0] = x[0][0]).unwrap();
    let error = graph.compile(&device(), &Request::outputs(&[y])).unwrap_err().to_string();
    assert!(error.contains("function: has no kernels for a CUDA device"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    if !on_hardware() {
        cusim::install();
    }
    let error = Device::cuda(99).unwrap_err().to_string();
    assert!(error.starts_with("no device: device 99 was asked for, the CUDA driver knows "), "{error}");
}
