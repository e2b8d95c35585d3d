//! The energy model: its draws on known targets, and its constant by annealed importance sampling and by quadrature.

use std::ops::ControlFlow;

use ndarray::{Array2, Axis};
use retrodict::models::{EnergyBased, EnergyModel};
use retrodict::optim::{Adam, Schedule};
use retrodict::progress::Watch;
use retrodict::rng::{Noise, NoiseId};
use retrodict::sample::{Ais, Draws, LogDensity};
use retrodict::sbi::Learned;
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::validate::C2st;
use retrodict::{Device, Feed, Graph, Npe, Request, Support};

fn learned(table: &Array2<f64>, width: usize, epochs: usize) -> Learned<f32, EnergyModel> {
    let family = EnergyBased { hidden: vec![width, width], ..EnergyBased::default() };
    let schedule = Schedule::Cosine { warmup: 0.02, floor: 0.01 };
    let training = Training { max_epochs: epochs, adam: Adam::new(4e-3), schedule, ..Training::default() };
    let support = Support::new().real("x").real("y").build().unwrap();
    let estimator = Npe { family, training, seed: 1 };
    estimator.learn(&Device::cpu(), &support, table.view(), |_| ControlFlow::Continue(())).unwrap().0
}

/// (means, covariances of the columns 00, 01, 11)
fn moments(table: &Array2<f64>) -> ([f64; 2], [f64; 3]) {
    let mean = table.mean_axis(Axis(0)).unwrap();
    let centred = table - &mean;
    let covariance = centred.t().dot(&centred) / table.nrows() as f64;
    ([mean[0], mean[1]], [covariance[[0, 0]], covariance[[0, 1]], covariance[[1, 1]]])
}

/// ln Z in learned coordinates by the midpoint rule.
fn ln_z_by_quadrature(learned: &Learned<f32, EnergyModel>) -> f64 {
    let (posterior, points, bound) = (learned.as_posterior(), 400, 6.0);
    let step = 2.0 * bound / points as f64;
    let at = |i: usize| ((i as f64 + 0.5) * step - bound) as f32;
    let grid: Vec<f32> = (0..points * points).flat_map(|i| [at(i / points), at(i % points)]).collect();
    let mut graph = Graph::new();
    let theta = graph.input("theta", 2).unwrap();
    let log_density = posterior.model().log_density(&mut graph, theta, &[]).unwrap();
    let mut plan = graph.compile(&Device::cpu(), &Request::outputs(&[log_density])).unwrap();
    let mut values = vec![0.0_f32; points * points];
    plan.forward(posterior.weights(), values.len(), &[Feed::Rows(&grid)], &mut [&mut values]).unwrap();
    (values.iter().map(|&v| f64::from(v).exp()).sum::<f64>() * step * step).ln()
}

#[test]
fn a_correlated_gaussian_by_its_moments_and_its_constant() {
    // Column 1 is 0.8 of column 0 plus noise of its own, so that both have variance 1.
    let rows = 4000;
    let mut table = vec![0.0; 2 * rows];
    Noise { seed: 5, step: 0, id: NoiseId(0) }.fill_normal(0, 2, &mut table);
    table.chunks_exact_mut(2).for_each(|row| row[1] = 0.8 * row[0] + 0.6 * row[1]);
    let table = Array2::from_shape_vec((rows, 2), table).unwrap();
    let learned = learned(&table, 32, 25);
    let draws = learned.sample(4000, 2).unwrap();
    let ((mean, covariance), (mean_of_data, covariance_of_data)) = (moments(&draws), moments(&table));
    for (found, expected) in mean.iter().zip(mean_of_data) {
        assert!((found - expected).abs() < 0.08, "mean {mean:?}, data {mean_of_data:?}");
    }
    for (found, expected) in covariance.iter().zip(covariance_of_data) {
        assert!((found - expected).abs() < 0.08, "covariance {covariance:?}, data {covariance_of_data:?}");
    }

    let (posterior, watch) = (learned.as_posterior(), Watch::default());
    let chains = Draws { weights: posterior.weights().into(), ..Draws::new(500, &3, &watch) };
    let found = Ais::default().log_z(&Device::cpu(), posterior.model(), &chains).unwrap();
    let exact = ln_z_by_quadrature(&learned);
    assert!(found.error < 0.1 && (found.value - exact).abs() < 4.0 * found.error, "{found:?}, by quadrature {exact}");
}

#[test]
fn two_moons_by_a_classifier() {
    let target = Target::TwoMoons;
    let learned = learned(&target.sample(4000, 1), 64, 80);
    let draws = learned.sample(1500, 2).unwrap();
    let c2st = C2st { folds: 2, ..C2st::default() };
    let accuracy = c2st.accuracy(&Device::cpu(), draws.view(), target.sample(1500, 3).view()).unwrap().value;
    assert!(accuracy < 0.65, "{accuracy}");
}
