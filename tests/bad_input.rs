//! Bad input gets an error that names it, and never a panic.

use ndarray::{Array1, Array2, array};
use retrodict::models::RealNvp;
use retrodict::nn::Mlp;
use retrodict::ops::coupling::Direction;
use retrodict::ops::elementwise::Activation;
use retrodict::optim::Adam;
use retrodict::sbi::{DatasetOptions, Holdout, NonFinite};
use retrodict::train::Training;
use retrodict::{Dataset, Device, Error, Feed, Graph, Layout, Npe, Posterior, Prior, Request, Store, Support};

fn support() -> Support {
    Support::new().interval("a", 0.0, 1.0).real("b").build().unwrap()
}

/// A table of n rows: (theta, x).
fn tables(n: usize) -> (Array2<f64>, Array2<f64>) {
    let theta = Array2::from_shape_fn((n, 2), |(i, j)| ((i * 7 + j * 3) % 11) as f64 / 11.0);
    let x = Array2::from_shape_fn((n, 3), |(i, j)| theta[(i, j % 2)] + (i % 5) as f64 * 0.1);
    (theta, x)
}

fn dataset(theta: &Array2<f64>, x: &Array2<f64>) -> Result<Dataset, Error> {
    Dataset::new(&support(), theta.view(), x.view(), DatasetOptions::default())
}

fn posterior() -> Posterior {
    let (theta, x) = tables(200);
    let training = Training { max_epochs: 1, ..Training::default() };
    let npe = Npe { training, ..Npe::new(RealNvp::default()) };
    npe.fit(&Device::cpu_with_threads(1), &dataset(&theta, &x).unwrap()).unwrap().0
}

/// The error's message, which must contain all of these.
fn says<T>(result: Result<T, Error>, words: &[&str]) {
    let message = match result {
        Ok(_) => panic!("expected an error that says {words:?}"),
        Err(e) => e.to_string(),
    };
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

#[test]
fn tables_of_the_wrong_shape() {
    let (theta, x) = tables(50);
    says(dataset(&theta.slice(ndarray::s![.., ..1]).to_owned(), &x), &["theta columns", "expected 2", "found 1"]);
    says(dataset(&theta, &x.slice(ndarray::s![..49, ..]).to_owned()), &["x rows", "expected 50", "found 49"]);
    says(dataset(&theta, &Array2::zeros((50, 0))), &["x columns"]);
    says(dataset(&Array2::zeros((0, 2)), &Array2::zeros((0, 3))), &["found 0"]);
    says(
        dataset(&theta.slice(ndarray::s![..1, ..]).to_owned(), &x.slice(ndarray::s![..1, ..]).to_owned()),
        &["found 1"],
    );
}

#[test]
fn simulations_that_are_not_finite() {
    let (theta, mut x) = tables(50);
    x[(17, 2)] = f64::NAN;
    x[(30, 0)] = f64::INFINITY;
    assert_eq!(dataset(&theta, &x).unwrap_err(), Error::NonFinite { what: "x", row: 17, column: 2 });
    let drop = DatasetOptions { non_finite: NonFinite::Drop, ..DatasetOptions::default() };
    let data: Dataset = Dataset::new(&support(), theta.view(), x.view(), drop).unwrap();
    assert_eq!((data.dropped(), data.rows()), (2, 48));
    x.fill(f64::NAN);
    says(Dataset::<f32>::new(&support(), theta.view(), x.view(), drop), &["found 0"]);
}

#[test]
fn parameters_outside_the_support() {
    let (mut theta, x) = tables(50);
    theta[(23, 0)] = 1.5;
    says(dataset(&theta, &x), &["`a`", "row 23", "1.5"]);
}

#[test]
fn holdout_fractions_that_cannot_be() {
    let (theta, x) = tables(50);
    for fraction in [0.0, 1.0, -0.1, f64::NAN] {
        let options = DatasetOptions { holdout: Holdout::Last(fraction), ..DatasetOptions::default() };
        says(Dataset::<f32>::new(&support(), theta.view(), x.view(), options), &["holdout"]);
    }
}

#[test]
fn constant_columns_and_outliers_are_no_error() {
    let (theta, mut x) = tables(300);
    x.column_mut(1).fill(7.0);
    x[(5, 0)] = 1e30;
    let data = dataset(&theta, &x).unwrap();
    let training = Training { max_epochs: 2, ..Training::default() };
    let (posterior, history) =
        Npe { training, ..Npe::new(RealNvp::default()) }.fit(&Device::cpu_with_threads(1), &data).unwrap();
    assert!(history.epochs.iter().all(|e| e.training_loss.is_finite()));
    assert!(posterior.sample(array![0.5, 7.0, 0.5].view(), 10, 0).unwrap().iter().all(|v| v.is_finite()));
    assert!(posterior.sample(array![1e300, -7e200, 0.5].view(), 10, 0).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn priors_that_cannot_be() {
    says(Prior::new().uniform("tau", 2.0, 1.0).build(), &["tau"]);
    says(Prior::new().normal("sigma", 0.0, -1.0).build(), &["sigma"]);
    says(Prior::new().log_uniform("age", 0.0, 1.0).build(), &["age"]);
    says(Prior::new().uniform("a", 0.0, 1.0).normal("a", 0.0, 1.0).build(), &["a"]);
    says(Prior::new().dirichlet(&["f", "g"], &[1.0, 1.0]).build(), &["f"]);
    assert!(Prior::new().build().is_err());
}

#[test]
fn observations_that_cannot_be() {
    let posterior = posterior();
    says(posterior.sample(array![1.0, 2.0].view(), 5, 0), &["observation", "expected 3", "found 2"]);
    says(posterior.sample(array![1.0, f64::NAN, 0.0].view(), 5, 0), &["observation", "column 1"]);
    says(posterior.log_prob(array![[0.5]].view(), array![0.0, 0.0, 0.0].view()), &["theta columns"]);
    says(posterior.log_prob(array![[0.5, f64::NAN]].view(), array![0.0, 0.0, 0.0].view()), &["theta", "column 1"]);
    says(posterior.log_prob_many(array![[0.5, 0.0]].view(), Array2::zeros((2, 3)).view()), &["x rows"]);
    let outside = posterior.log_prob(array![[1.5, 0.0]].view(), Array1::zeros(3).view()).unwrap();
    assert_eq!(outside[0], f64::NEG_INFINITY);
}

#[test]
fn nothing_asked_for_is_nothing_given() {
    let posterior = posterior();
    assert_eq!(posterior.sample(Array1::zeros(3).view(), 0, 0).unwrap().dim(), (0, 2));
    assert_eq!(posterior.sample_many(Array2::zeros((0, 3)).view(), 7, 0).unwrap().dim(), (0, 7, 2));
    assert_eq!(posterior.log_prob(Array2::zeros((0, 2)).view(), Array1::zeros(3).view()).unwrap().len(), 0);
    posterior.sample_each(Array2::zeros((4, 3)).view(), 0, 0, |_, draws| assert_eq!(draws.dim(), (0, 2))).unwrap();
}

#[test]
fn settings_that_cannot_be() {
    let (theta, x) = tables(50);
    let data = dataset(&theta, &x).unwrap();
    let fit = |npe: Npe| npe.fit(&Device::cpu_with_threads(1), &data).map(|_| ());
    says(fit(Npe::new(RealNvp { layers: 0, ..RealNvp::default() })), &["layers"]);
    says(fit(Npe::new(RealNvp { hidden: vec![8, 0], ..RealNvp::default() })), &["0"]);
    says(fit(Npe::new(RealNvp { clamp: -1.0, ..RealNvp::default() })), &["clamp"]);
    says(
        fit(Npe { training: Training { batch: 0, ..Training::default() }, ..Npe::new(RealNvp::default()) }),
        &["batch"],
    );
    let adam = Adam::new(-1.0);
    says(
        fit(Npe { training: Training { adam, ..Training::default() }, ..Npe::new(RealNvp::default()) }),
        &["learning_rate"],
    );
}

#[test]
fn a_training_that_diverges_says_so() {
    let (theta, x) = tables(200);
    let data = dataset(&theta, &x).unwrap();
    let adam = Adam { learning_rate: 1e30, clip: f64::INFINITY, ..Adam::default() };
    let npe = Npe { training: Training { adam, ..Training::default() }, ..Npe::new(RealNvp::default()) };
    says(npe.fit(&Device::cpu_with_threads(1), &data), &["training", "epoch", "learning rate"]);
}

#[test]
fn graphs_with_shapes_that_do_not_fit() {
    let mut layout = Layout::new();
    let mlp = Mlp::new(&mut layout.scope("net"), 4, &[8], 2, Activation::Silu).unwrap();
    let mut graph = Graph::<f32>::new();
    let (x, y) = (graph.input("x", 3).unwrap(), graph.input("y", 2).unwrap());
    says(mlp.forward(&mut graph, &[x]), &["linear", "3", "4 x 8"]);
    says(graph.add(x, y), &["add", "3", "2"]);
    says(graph.select(x, &[3]), &["select", "column 3"]);
    says(graph.select(x, &[]), &["select"]);
    says(graph.input("empty", 0), &["`empty`"]);
    says(graph.coupling(x, y, y, &[0], 2.0, Direction::Forward), &["coupling", "log-det"]);
    let l = graph.constant(0.0, 1).unwrap();
    says(graph.coupling(x, y, l, &[5], 2.0, Direction::Forward), &["coupling", "5"]);
    says(graph.coupling(x, y, l, &[0], f64::NAN, Direction::Forward), &["clamp"]);
    let mut other = Graph::<f32>::new();
    let z = other.input("z", 3).unwrap();
    says(graph.add(x, z), &["another graph"]);
    says(graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[z])), &["another graph"]);
    says(graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[])), &["outputs"]);
    let request = Request::outputs(&[x]).with_parameter_gradients(0..4);
    says(graph.compile(&Device::cpu_with_threads(1), &request), &["no output depends"]);
    let many = vec![x; 17];
    says(graph.concat(&many), &["17"]);
}

#[test]
fn plans_that_are_fed_wrongly() {
    let mut layout = Layout::new();
    let mlp = Mlp::new(&mut layout.scope("net"), 3, &[8], 2, Activation::Silu).unwrap();
    let mut store = Store::<f32>::new(layout, 0);
    let mut graph = Graph::new();
    let x = graph.input("x", 3).unwrap();
    let y = mlp.forward(&mut graph, &[x]).unwrap();
    let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[y])).unwrap();
    let (table, mut out) = (vec![0.0; 30], vec![0.0; 20]);
    let params = store.weights(Default::default()).to_vec();
    says(plan.forward(&params, 10, &[], &mut [&mut out]), &["feeds", "expected 1", "found 0"]);
    says(plan.forward(&params, 9, &[Feed::Rows(&table)], &mut [&mut out[..18]]), &["`x`", "expected 27", "found 30"]);
    says(plan.forward(&params, 1, &[Feed::Gather(&table, &[10])], &mut [&mut out[..2]]), &["row 10", "10 rows"]);
    says(plan.forward(&params, 10, &[Feed::Rows(&table)], &mut [&mut out[..19]]), &["output", "expected 20"]);
    says(plan.forward(&params[1..], 10, &[Feed::Rows(&table)], &mut [&mut out]), &["parameters"]);
    says(plan.mean(&params, 0, &[Feed::Rows(&[])]), &["rows"]);
    says(plan.mean_and_gradient(&mut store, 10, &[Feed::Rows(&table)]), &["mean_and_gradient"]);
    plan.forward(&params, 0, &[Feed::Rows(&[])], &mut [&mut []]).unwrap();
}
