//! What a plan promises beside its speed: a readable listing, parts of a store trained alone, any adjoint pulled back.

use retrodict::check::graph_gradient_error;
use retrodict::nn::{Linear, Mlp, ResidualBlock};
use retrodict::op::{Backward, Forward, Op, Reads};
use retrodict::ops::elementwise::Activation;
use retrodict::optim::{Adam, Optimiser};
use retrodict::plan::Vjp;
use retrodict::rng::{Noise, NoiseId};
use retrodict::store::{Init, Param, Weights};
use retrodict::{Device, Error, Feed, Graph, Layout, Real, Request, Store};

fn normal(rows: usize, cols: usize, id: u32) -> Vec<f64> {
    let mut table = vec![0.0; rows * cols];
    Noise { seed: 2, step: 0, id: NoiseId(id) }.fill_normal(0, cols, &mut table);
    table
}

#[test]
fn a_printed_plan_lists_its_instructions() {
    let mut layout = Layout::new();
    let linear = Linear::new(&mut layout.scope("net"), 3, 2).unwrap();
    let mut graph = Graph::<f32>::new();
    let x = graph.input("x", 3).unwrap();
    let y = linear.forward(&mut graph, &[x], Activation::Tanh).unwrap();
    let loss = graph.sum_cols(y).unwrap();
    let request = Request::outputs(&[loss]).with_parameter_gradients(0..layout.len());
    let plan = graph.compile(&Device::cpu_with_threads(1), &request).unwrap();
    let expected = "\
plan: 9 elements a row (11 unshared)
  feed     x [3]
  forward  v1 = linear(v0) [3 x 2] [1 x 2] -> 3..5
  forward  v2 = sum_cols(v1) -> 7..8
  backward v1 <- v2, v1 set 3..5
  backward v0 <- v1, v0 skip
";
    assert_eq!(plan.to_string(), expected);
}

#[test]
fn a_vjp_is_the_seeded_sum_of_rows_of_the_jacobian() {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 3, &[5], 2, Activation::Tanh).unwrap();
    let store = Store::<f64>::new(layout, 3);
    let mut graph = Graph::new();
    let x = graph.input("x", 3).unwrap();
    let y = net.forward(&mut graph, &[x]).unwrap();
    let request = Request::outputs(&[y]).with_input_gradients(&[x]);
    let mut plan = graph.compile(&Device::cpu_with_threads(2), &request).unwrap();
    let (rows, points) = (200, normal(200, 3, 0));
    let mut pull = |seed: &[f64]| {
        let (mut value, mut gradient) = (vec![0.0; rows * 2], vec![0.0; rows * 3]);
        let mut vjp = Vjp {
            seeds: &[seed],
            outputs: &mut [&mut value],
            input_gradients: &mut [&mut gradient],
            parameter_gradient: &mut [],
        };
        plan.vjp(store.weights(Weights::Raw), rows, &[Feed::Rows(&points)], &mut vjp).unwrap();
        (value, gradient)
    };
    let unit = |k: usize| (0..rows * 2).map(|i| f64::from(i % 2 == k)).collect::<Vec<_>>();
    let ((value, first), (_, second)) = (pull(&unit(0)), pull(&unit(1)));
    let seed = normal(rows, 2, 1);
    let (again, mixed) = pull(&seed);
    assert_eq!(value, again);
    for i in 0..rows * 3 {
        let (row, expected) = (i / 3, seed[i / 3 * 2] * first[i] + seed[i / 3 * 2 + 1] * second[i]);
        assert!((mixed[i] - expected).abs() < 1e-12, "row {row}");
    }
}

#[test]
fn two_plans_train_two_parts_of_one_store() {
    let device = Device::cpu_with_threads(2);
    let mut layout = Layout::new();
    let inner = Mlp::new(&mut layout.scope("inner"), 2, &[8], 2, Activation::Silu).unwrap();
    let outer = Mlp::new(&mut layout.scope("outer"), 2, &[8], 1, Activation::Silu).unwrap();
    let mut store = Store::<f64>::new(layout, 1);
    let mut graph = Graph::new();
    let x = graph.input("x", 2).unwrap();
    let h = inner.forward(&mut graph, &[x]).unwrap();
    let y = outer.forward(&mut graph, &[h]).unwrap();
    let loss = graph.map(Activation::Square, y).unwrap();
    let feeds_table = normal(64, 2, 0);
    let feeds = [Feed::Rows(&feeds_table[..])];
    let before = store.weights(Weights::Raw).to_vec();
    let whole = {
        let request = Request::outputs(&[loss]).with_parameter_gradients(0..before.len());
        let mut plan = graph.compile(&device, &request).unwrap();
        let first = plan.mean_and_gradient(&mut store, 64, &feeds).unwrap();
        let gradient = store.grads().to_vec();
        assert_eq!(plan.mean_and_gradient(&mut store, 64, &feeds), Ok(first));
        assert_eq!(store.grads(), gradient, "a replay starts afresh");
        gradient
    };
    for scope in ["inner", "outer"] {
        let range = store.layout().range(scope).unwrap();
        let request = Request::outputs(&[loss]).with_parameter_gradients(range.clone());
        let mut plan = graph.compile(&device, &request).unwrap();
        plan.mean_and_gradient(&mut store, 64, &feeds).unwrap();
        assert_eq!(
            store.grads()[range.clone()],
            whole[range.clone()],
            "the gradient of {scope} is its part of the whole"
        );
        let mut trained = store.clone();
        Optimiser::new(Adam::default(), range.clone()).unwrap().step(&device, &mut trained, 1.0).unwrap();
        for (i, (new, old)) in trained.weights(Weights::Raw).iter().zip(&before).enumerate() {
            assert_eq!(new != old, range.contains(&i), "parameter {i} while {scope} is trained");
        }
    }
}

#[test]
fn results_of_a_row_do_not_depend_on_its_batch() {
    let mut layout = Layout::new();
    let block = ResidualBlock::new(&mut layout.scope("block"), 7, 19, Activation::Silu).unwrap();
    let last = Linear::new(&mut layout.scope("last"), 7, 3).unwrap();
    let mut store = Store::<f32>::new(layout, 1);
    let params: Vec<_> = store.layout().iter().map(|(_, p)| p).collect();
    for (i, p) in params.into_iter().enumerate() {
        let values: Vec<f32> = normal(1, p.range().len(), 50 + i as u32).iter().map(|&z| z as f32).collect();
        store.set(p, &values).unwrap();
    }
    let mut graph = Graph::new();
    let x = graph.input("x", 7).unwrap();
    let unused = graph.input("unused", 2).unwrap();
    let y = block.forward(&mut graph, x).unwrap();
    let y = last.forward(&mut graph, &[y], Activation::Tanh).unwrap();
    let mut plan = graph.compile(&Device::cpu_with_threads(2), &Request::outputs(&[y])).unwrap();
    let table: Vec<f32> = normal(1000, 7, 0).iter().map(|&z| z as f32).collect();
    let nothing = [0.0; 2];
    let mut run = |rows: std::ops::Range<usize>| {
        let mut out = vec![0.0; rows.len() * 3];
        let feeds = [Feed::Rows(&table[rows.start * 7..rows.end * 7]), Feed::Repeat(&nothing)];
        plan.forward(store.weights(Weights::Raw), rows.len(), &feeds, &mut [&mut out]).unwrap();
        out
    };
    let whole = run(0..1000);
    for rows in [0..1, 5..6, 17..148, 900..1000, 127..129] {
        assert_eq!(run(rows.clone()), whole[rows.start * 3..rows.end * 3], "rows {rows:?}");
    }
    assert_eq!(graph.cols(unused), Ok(2));
}

#[test]
fn an_input_without_influence_has_gradient_zero() {
    let mut graph = Graph::<f64>::new();
    let (x, other) = (graph.input("x", 2).unwrap(), graph.input("other", 3).unwrap());
    let y = graph.map(Activation::Square, x).unwrap();
    let request = Request::outputs(&[y, y]).with_input_gradients(&[x, other]);
    let mut plan = graph.compile(&Device::cpu_with_threads(1), &request).unwrap();
    let (mut dx, mut dother) = (vec![f64::NAN; 4], vec![f64::NAN; 6]);
    let ones = [1.0; 4];
    let mut vjp = Vjp {
        seeds: &[&ones, &ones],
        outputs: &mut [],
        input_gradients: &mut [&mut dx, &mut dother],
        parameter_gradient: &mut [],
    };
    let feeds = [Feed::Rows(&[1.0, 2.0, 3.0, 4.0]), Feed::Rows(&[9.0; 6])];
    plan.vjp(&[], 2, &feeds, &mut vjp).unwrap();
    assert_eq!(dx, [4.0, 8.0, 12.0, 16.0], "an output asked for twice counts twice");
    assert_eq!(dother, [0.0; 6]);
}

/// An op of a user: y = a x / (1 + |x|) with a trained number a for each column; dy/dx = a / (1 + |x|)^2.
#[derive(Debug)]
struct Softsign {
    gain: Param,
}

impl<T: Real> Op<T> for Softsign {
    fn name(&self) -> &'static str {
        "softsign"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let cols = self.gain.cols();
        match inputs {
            [width] if *width == cols => Ok(vec![cols]),
            _ => Err(Error::Shape { op: "softsign", why: format!("{inputs:?}; expected one input of {cols} columns") }),
        }
    }

    fn params(&self) -> Vec<Param> {
        vec![self.gain]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let gain = &tile.params[self.gain.range()];
        for (i, (y, &x)) in tile.outputs[0].iter_mut().zip(tile.inputs[0]).enumerate() {
            *y = gain[i % gain.len()] * x / (T::ONE + x.abs());
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let gain = &tile.params[self.gain.range()];
        let dy = &*tile.output_adjoints[0];
        for (i, (&dy, &x)) in dy.iter().zip(tile.inputs[0]).enumerate() {
            let s = T::ONE / (T::ONE + x.abs());
            tile.input_adjoints[0].put(i, dy * gain[i % gain.len()] * s * s);
            if let Some(dgain) = tile.gradient.of(self.gain).zeroed() {
                dgain[i % gain.len()] += dy * x * s;
            }
        }
    }
}

#[test]
fn an_op_of_ones_own_is_recorded_checked_and_trained_like_any_other() {
    let mut layout = Layout::new();
    let gain = layout.scope("softsign").param("gain", 1, 3, Init::Normal(1.0)).unwrap();
    let store = Store::new(layout, 4);
    let mut graph = Graph::<f64>::new();
    let x = graph.input("x", 3).unwrap();
    let y = graph.push(Softsign { gain }, &[x]).unwrap()[0];
    let product = graph.mul(x, y).unwrap();
    assert!(graph_gradient_error(&graph, &store, &[y, product], 150, 1).unwrap() < 1e-6);
    let narrow = graph.input("narrow", 2).unwrap();
    assert!(matches!(graph.push(Softsign { gain }, &[narrow]), Err(Error::Shape { op: "softsign", .. })));
}

#[test]
fn gradients_of_parameters_used_twice_or_never_are_right_in_every_replay() {
    let mut layout = Layout::new();
    let mut scope = layout.scope("net");
    let weight = scope.param("weight", 3, 3, Init::Normal(0.5)).unwrap();
    let unused = scope.param("unused", 2, 2, Init::Normal(0.5)).unwrap();
    let bias = scope.param("bias", 1, 3, Init::Normal(0.5)).unwrap();
    let mut store = Store::new(layout, 4);
    let mut graph = Graph::<f64>::new();
    let x = graph.input("x", 3).unwrap();
    let once = graph.linear(&[x], weight, Some(bias), Activation::Tanh).unwrap();
    let twice = graph.linear(&[once], weight, None, Activation::Tanh).unwrap();
    assert!(graph_gradient_error(&graph, &store, &[twice], 1500, 1).unwrap() < 1e-6);

    let loss = graph.sum_cols(twice).unwrap();
    let request = Request::outputs(&[loss]).with_parameter_gradients(0..store.layout().len());
    let mut plan = graph.compile(&Device::cpu_with_threads(2), &request).unwrap();
    let rows: Vec<f64> = (0..3 * 1500).map(|i| f64::from(i).sin()).collect();
    let mut gradients = Vec::new();
    for _ in 0..3 {
        plan.mean_and_gradient(&mut store, 1500, &[Feed::Rows(&rows)]).unwrap();
        assert_eq!(store.grads()[unused.range()], [0.0; 4]);
        gradients.push(store.grads().to_vec());
    }
    assert!(gradients[0].iter().any(|g| *g != 0.0) && gradients.iter().all(|g| *g == gradients[0]));
}

#[test]
fn a_profile_names_every_kind_of_instruction() {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 3, &[8, 8], 1, Activation::Tanh).unwrap();
    let mut store = Store::<f32>::new(layout, 1);
    let mut graph = Graph::new();
    let x = graph.input("x", 3).unwrap();
    let y = net.forward(&mut graph, &[x]).unwrap();
    let request = Request::outputs(&[y]).with_parameter_gradients(0..store.layout().len());
    let mut plan = graph.compile(&Device::cpu_with_threads(2), &request).unwrap();
    let rows = vec![0.5; 3 * 1000];
    plan.mean_and_gradient(&mut store, 1000, &[Feed::Rows(&rows)]).unwrap();
    assert!(plan.profile().shares.is_empty(), "nothing is measured unless asked for");

    plan.start_profile();
    plan.mean_and_gradient(&mut store, 1000, &[Feed::Rows(&rows)]).unwrap();
    let profile = plan.profile();
    for direction in ["forward ", "backward"] {
        let name = format!("{direction} linear [3 x 8] [8 x 8] [8 x 1]");
        assert!(profile.shares.iter().any(|s| s.instruction == name && s.count == 1), "{name} in\n{profile}");
    }
    let total: f64 = profile.shares.iter().map(|s| s.seconds).sum();
    assert!(total > 0.0 && total < 10.0 && profile.shares.is_sorted_by(|a, b| a.seconds >= b.seconds));
}
