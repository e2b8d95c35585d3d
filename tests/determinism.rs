//! Same seed, same answer, whatever the number of threads, the batch-mates and the tile.

use ndarray::{Array2, ArrayView2, s};
use rand_distr::{Distribution, StandardNormal};
use retrodict::models::RealNvp;
use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::rng::Philox;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Feed, Graph, Layout, Npe, Posterior, Prior, Request, Store, simulate};

/// Three parameters, seven features, and a batch whose last tile is not full.
fn posterior(threads: usize) -> Posterior {
    let device = Device::cpu_with_threads(threads);
    let prior = Prior::new().uniform("a", -1.0, 1.0).normal("b", 3.0, 2.0).log_uniform("c", 0.1, 10.0).build().unwrap();
    let simulations = simulate(&device, &prior, 1500, 11, |theta, rng: &mut Philox| {
        (0..7)
            .map(|i| {
                theta[i % 3] + {
                    let z: f64 = StandardNormal.sample(rng);
                    z
                }
            })
            .collect()
    })
    .unwrap();
    let data =
        Dataset::new(prior.support(), simulations.theta.view(), simulations.x.view(), Default::default()).unwrap();
    let family = RealNvp { layers: 4, hidden: vec![37, 20], ..RealNvp::default() };
    let training = Training { batch: 331, max_epochs: 3, ..Training::default() };
    Npe { family, training, seed: 5 }.fit(&device, &data).unwrap().0
}

fn observations() -> Array2<f64> {
    Array2::from_shape_fn((5, 7), |(i, j)| (i as f64 - 2.0) * 0.7 + j as f64 * 0.3)
}

#[test]
fn weights_draws_and_densities_are_the_same_bits_for_1_2_and_5_threads() {
    let one = posterior(1);
    let draws = one.sample_many(observations().view(), 333, 9).unwrap();
    let density = one.log_prob(draws.slice(s![2, .., ..]), observations().row(2)).unwrap();
    for threads in [2, 5] {
        let other = posterior(threads);
        assert_eq!(one.weights(), other.weights(), "{threads} threads");
        assert_eq!(draws, other.sample_many(observations().view(), 333, 9).unwrap(), "{threads} threads");
        assert_eq!(density, other.log_prob(draws.slice(s![2, .., ..]), observations().row(2)).unwrap());
    }
}

/// Of which the cache does not hold as many as there are lanes, so that these run in rounds: nine tiles in eight lanes, in
/// rounds of 1, 2, 3 and all.
#[test]
fn large_gradients_are_the_same_bits_for_any_number_of_threads() {
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 4, &[350, 400], 1, Activation::Tanh).unwrap();
    let mut store = Store::<f64>::new(layout, 7);
    let mut graph = Graph::new();
    let x = graph.input("x", 4).unwrap();
    let loss = net.forward(&mut graph, &[x]).unwrap();
    let request = Request::outputs(&[loss]).with_parameter_gradients(0..store.layout().len());
    let table: Vec<f64> = (0..4 * 2100).map(|i| f64::from(i).sin()).collect();
    let mut expected = None;
    for threads in [9, 1, 2, 3, 2] {
        let mut plan = graph.compile(&Device::cpu_with_threads(threads), &request).unwrap();
        for rows in [2100, 700, 2100] {
            let mean = plan.mean_and_gradient(&mut store, rows, &[Feed::Rows(&table[..4 * rows])]).unwrap();
            if rows == 2100 {
                let found = (mean, store.grads().to_vec());
                assert!(*expected.get_or_insert_with(|| found.clone()) == found, "{threads} threads");
            }
        }
    }
}

#[test]
fn draws_do_not_depend_on_batch_mates_or_on_how_many_there_are() {
    let posterior = posterior(2);
    let x = observations();
    let together = posterior.sample_many(x.view(), 700, 9).unwrap();
    for (i, row) in x.rows().into_iter().enumerate() {
        let alone = posterior.sample(row, 700, 9).unwrap();
        assert_eq!(together.slice(s![i, .., ..]), alone, "observation {i}");
        assert_eq!(alone.slice(s![..13, ..]), posterior.sample(row, 13, 9).unwrap());
    }
    assert_ne!(together.slice(s![0, .., ..]), together.slice(s![1, .., ..]));
    assert_ne!(together, posterior.sample_many(x.view(), 700, 10).unwrap());

    // More than are made at once come in pieces.
    let (many, mut pieces) = (posterior.sample_many(x.slice(s![..2, ..]), 40_000, 9).unwrap(), [0; 2]);
    let each = |i: usize, piece: ArrayView2<'_, f64>| {
        assert_eq!(many.slice(s![i, pieces[i]..pieces[i] + piece.nrows(), ..]), piece);
        pieces[i] += piece.nrows();
    };
    posterior.sample_each(x.slice(s![..2, ..]), 40_000, 9, each).unwrap();
    assert_eq!(pieces, [40_000; 2]);

    let mut visited = Vec::new();
    posterior.sample_each(x.view(), 700, 9, |i, draws| visited.push((i, draws.to_owned()))).unwrap();
    assert_eq!(visited.len(), 5);
    for (i, draws) in visited {
        assert_eq!(together.slice(s![i, .., ..]), draws);
    }
}

#[test]
fn log_prob_of_one_equals_log_prob_of_many() {
    let posterior = posterior(2);
    let x = observations();
    let draws = posterior.sample(x.row(3), 300, 1).unwrap();
    let one = posterior.log_prob(draws.view(), x.row(3)).unwrap();
    let repeated = Array2::from_shape_fn((300, 7), |(_, j)| x[(3, j)]);
    assert_eq!(one, posterior.log_prob_many(draws.view(), repeated.view()).unwrap());
    for i in [0, 127, 128, 299] {
        let row = posterior.log_prob(draws.slice(s![i..=i, ..]), x.row(3)).unwrap();
        assert_eq!(row[0], one[i], "row {i} alone");
    }
}

#[test]
fn double_precision_trains_and_agrees_with_single() {
    let device = Device::cpu_with_threads(2);
    let prior = Prior::new().uniform("a", -1.0, 1.0).normal("b", 0.0, 1.0).build().unwrap();
    let simulations = simulate(&device, &prior, 1000, 3, |theta, rng: &mut Philox| {
        let z: f64 = StandardNormal.sample(rng);
        vec![theta[0] + 0.3 * z, theta[1] - theta[0]]
    })
    .unwrap();
    let (theta, x) = (simulations.theta.view(), simulations.x.view());
    let training = Training { max_epochs: 2, ..Training::default() };
    let npe = Npe { training, ..Npe::new(RealNvp { layers: 3, hidden: vec![16], ..RealNvp::default() }) };
    let single: Dataset<f32> = Dataset::new(prior.support(), theta, x, Default::default()).unwrap();
    let double: Dataset<f64> = Dataset::new(prior.support(), theta, x, Default::default()).unwrap();
    let (single, double) = (npe.fit(&device, &single).unwrap().0, npe.fit(&device, &double).unwrap().0);
    let observed = simulations.x.row(0);
    let (a, b) = (single.sample(observed, 200, 1).unwrap(), double.sample(observed, 200, 1).unwrap());
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-3, "the same draws but for rounding: {worst}");
}
