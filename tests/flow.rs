//! The flow in double precision: gradient, inverse and log-determinant.

use retrodict::check::graph_gradient_error;
use retrodict::models::{CouplingFlow, ExplicitDensity, Mixing, RealNvp, SplineFlow, Split};
use retrodict::ops::coupling::Direction;
use retrodict::rng::{Noise, NoiseId};
use retrodict::store::{Scope, Weights};
use retrodict::{Device, Feed, Graph, Layout, Request, Store, Var};

const CONTEXT: usize = 3;

/// A flow with random weights in all layers (a fresh one is the identity).
fn flow(dim: usize, split: Split) -> (CouplingFlow, Store<f64>) {
    let settings = RealNvp { layers: 5, hidden: vec![11, 7], split, ..RealNvp::default() };
    randomised(|scope| settings.flow(scope, dim, CONTEXT).unwrap())
}

fn randomised(build: impl FnOnce(&mut Scope<'_>) -> CouplingFlow) -> (CouplingFlow, Store<f64>) {
    let mut layout = Layout::new();
    let flow = build(&mut layout.scope("flow"));
    let mut store = Store::new(layout, 1);
    let params: Vec<_> = store.layout().iter().map(|(_, p)| p).collect();
    for (i, p) in params.into_iter().enumerate() {
        let values: Vec<f64> = normal(1, p.range().len(), 100 + i as u32).iter().map(|z| 0.4 * z).collect();
        store.set(p, &values).unwrap();
    }
    (flow, store)
}

fn normal(rows: usize, cols: usize, id: u32) -> Vec<f64> {
    let mut table = vec![0.0; rows * cols];
    Noise { seed: 17, step: 0, id: NoiseId(id) }.fill_normal(0, cols, &mut table);
    table
}

/// (value, log-det) of the flow in one direction.
fn run(
    flow: &CouplingFlow,
    store: &Store<f64>,
    value: &[f64],
    x: &[f64],
    direction: Direction,
) -> (Vec<f64>, Vec<f64>) {
    let (dim, rows) = (ExplicitDensity::<f64>::dim(flow), x.len() / CONTEXT);
    let mut graph = Graph::new();
    let (v, c) = (graph.input("value", dim).unwrap(), graph.input("x", CONTEXT).unwrap());
    let (y, ln_det) = flow.transform_and_log_det(&mut graph, v, &[c], direction).unwrap();
    let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[y, ln_det])).unwrap();
    let (mut out, mut det) = (vec![0.0; rows * dim], vec![0.0; rows]);
    let feeds = [Feed::Rows(value), Feed::Rows(x)];
    plan.forward(store.weights(Weights::Raw), rows, &feeds, &mut [&mut out, &mut det]).unwrap();
    (out, det)
}

#[test]
fn the_gradient_of_the_negative_log_likelihood() {
    for (dim, split) in [(1, Split::Halves), (2, Split::Permuted(3)), (5, Split::Halves), (7, Split::Permuted(0))] {
        let (flow, store) = flow(dim, split);
        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", dim).unwrap(), graph.input("x", CONTEXT).unwrap());
        let log_prob: Var = flow.log_prob(&mut graph, theta, &[x]).unwrap();
        let loss = graph.scale(log_prob, -1.0).unwrap();
        for rows in [1, 13] {
            let error = graph_gradient_error(&graph, &store, &[loss], rows, 5).unwrap();
            assert!(error < 1e-6, "dim {dim}, {rows} rows: {error:e}");
        }
    }
}

#[test]
fn the_inverse_undoes_the_flow_and_its_log_det() {
    for dim in [1, 2, 5, 12] {
        let (flow, store) = flow(dim, Split::Permuted(1));
        let (theta, x) = (normal(1001, dim, 1), normal(1001, CONTEXT, 2));
        let (z, forward) = run(&flow, &store, &theta, &x, Direction::Forward);
        let (back, inverse) = run(&flow, &store, &z, &x, Direction::Inverse);
        for (a, b) in theta.iter().zip(&back) {
            assert!((a - b).abs() <= 1e-10 * a.abs().max(1.0), "dim {dim}: {a} came back as {b}");
        }
        assert!(forward.iter().zip(&inverse).all(|(f, i)| (f + i).abs() <= 1e-10), "dim {dim}");
        assert!(theta.iter().zip(&z).any(|(a, b)| (a - b).abs() > 0.1), "the flow does something");
    }
}

#[test]
fn the_log_det_is_that_of_the_numerical_jacobian() {
    for (dim, direction) in [(1, Direction::Forward), (3, Direction::Forward), (6, Direction::Inverse)] {
        let (flow, store) = flow(dim, Split::Permuted(2));
        for row in 0..5 {
            let (point, x) = (normal(1, dim, 10 + row), normal(1, CONTEXT, 20 + row));
            let ln_det = run(&flow, &store, &point, &x, direction).1[0];
            let h = 1e-5;
            let column = |j: usize| {
                let shifted = |s: f64| {
                    let mut p = point.clone();
                    p[j] += s;
                    run(&flow, &store, &p, &x, direction).0
                };
                shifted(h).iter().zip(shifted(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect::<Vec<f64>>()
            };
            let numerical = ln_abs_det((0..dim).map(column).collect());
            assert!((ln_det - numerical).abs() < 1e-7, "dim {dim}: {ln_det} against {numerical}");
        }
    }
}

/// ln |det| by Gaussian elimination with pivoting.
fn ln_abs_det(mut m: Vec<Vec<f64>>) -> f64 {
    let n = m.len();
    let mut sum = 0.0;
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| m[a][k].abs().total_cmp(&m[b][k].abs())).unwrap();
        m.swap(k, pivot);
        sum += m[k][k].abs().ln();
        for i in k + 1..n {
            let factor = m[i][k] / m[k][k];
            let pivot_row = m[k].clone();
            m[i].iter_mut().zip(pivot_row).for_each(|(a, b)| *a -= factor * b);
        }
    }
    sum
}

#[test]
fn a_fresh_flow_is_the_identity() {
    let mut layout = Layout::new();
    let flow = RealNvp::default().flow(&mut layout.scope("flow"), 4, CONTEXT).unwrap();
    let store = Store::new(layout, 1);
    let (theta, x) = (normal(40, 4, 1), normal(40, CONTEXT, 2));
    let (z, ln_det) = run(&flow, &store, &theta, &x, Direction::Forward);
    assert_eq!(theta, z);
    assert!(ln_det.iter().all(|&l| l == 0.0));
}

#[test]
fn extreme_inputs_stay_finite_and_nan_is_not_hidden() {
    let (flow, store) = flow(5, Split::Permuted(1));
    for scale in [1e-30, 1.0, 1e3] {
        let theta: Vec<f64> = normal(77, 5, 1).iter().map(|z| z * scale).collect();
        let (z, ln_det) = run(&flow, &store, &theta, &normal(77, CONTEXT, 2), Direction::Forward);
        assert!(z.iter().chain(&ln_det).all(|v| v.is_finite()), "scale {scale}");
    }
    let nan = run(&flow, &store, &[f64::NAN; 5], &[0.0; CONTEXT], Direction::Forward);
    assert!(nan.1[0].is_nan(), "a NaN is not hidden");
}

/// Every kind of flow but the plain affine one, which has tests of its own.
fn kinds(dim: usize) -> Vec<(CouplingFlow, Store<f64>)> {
    let mixings = [Mixing::None, Mixing::ActNorm, Mixing::Linear];
    let spline =
        |mixing| SplineFlow { layers: 3, hidden: vec![9], bins: 5, bound: 2.5, mixing, ..SplineFlow::default() };
    let affine = |mixing| RealNvp { layers: 3, hidden: vec![9], mixing, ..RealNvp::default() };
    let splines = mixings.map(|m| randomised(|scope| spline(m).flow(scope, dim, CONTEXT).unwrap()));
    let affines = mixings.map(|m| randomised(|scope| affine(m).flow(scope, dim, CONTEXT).unwrap()));
    splines.into_iter().chain(affines).collect()
}

#[test]
fn every_flow_is_undone_by_its_inverse_and_has_the_right_gradient() {
    for dim in [1, 2, 5] {
        for (i, (flow, store)) in kinds(dim).iter().enumerate() {
            let (theta, x) = (normal(201, dim, 1), normal(201, CONTEXT, 2));
            let (z, there) = run(flow, store, &theta, &x, Direction::Forward);
            let (back, again) = run(flow, store, &z, &x, Direction::Inverse);
            let worst = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // Random linear maps and steep splines cost some digits.
            assert!(worst(&theta, &back) < 1e-5, "dim {dim}, kind {i}: {}", worst(&theta, &back));
            let negated: Vec<f64> = again.iter().map(|l| -l).collect();
            assert!(worst(&there, &negated) < 1e-4, "dim {dim}, kind {i}");

            let mut graph = Graph::new();
            let (theta, x) = (graph.input("theta", dim).unwrap(), graph.input("x", CONTEXT).unwrap());
            let log_prob: Var = flow.log_prob(&mut graph, theta, &[x]).unwrap();
            let error = graph_gradient_error(&graph, store, &[log_prob], 13, 5).unwrap();
            assert!(error < 1e-5, "dim {dim}, kind {i}: {error:e}");
        }
    }
}

#[test]
fn every_density_in_one_dimension_integrates_to_one() {
    for (i, (flow, store)) in kinds(1).iter().enumerate() {
        let step = 1e-3;
        let theta: Vec<f64> = (0..30_000).map(|i| (f64::from(i) - 14_999.5) * step).collect();
        let x = [0.3, -1.0, 0.5].repeat(theta.len());
        let (z, ln_det) = run(flow, store, &theta, &x, Direction::Forward);
        let density = |(z, l): (&f64, &f64)| (l - 0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        let mass: f64 = z.iter().zip(&ln_det).map(density).sum::<f64>() * step;
        assert!((mass - 1.0).abs() < 1e-4, "kind {i}: {mass}");
    }
}
