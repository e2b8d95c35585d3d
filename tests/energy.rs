//! The energy model: its density on a known target, normalised by annealed importance sampling.

use std::ops::ControlFlow;

use ndarray::Array2;
use rand_distr::{Distribution, StandardNormal};
use retrodict::models::EnergyBased;
use retrodict::optim::{Adam, Schedule};
use retrodict::progress::Watch;
use retrodict::rng::Philox;
use retrodict::sample::{Ais, Draws};
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::validate::C2st;
use retrodict::{Device, Npe, Support};

fn estimator(epochs: usize) -> Npe<EnergyBased> {
    let family = EnergyBased { hidden: vec![64, 64], ..EnergyBased::default() };
    let schedule = Schedule::Cosine { warmup: 0.02, floor: 0.01 };
    let training = Training { max_epochs: epochs, adam: Adam::new(1e-3), schedule, ..Training::default() };
    Npe { family, training, seed: 1 }
}

#[test]
fn draws_and_constant_of_a_gaussian() {
    // Two correlated columns, which the base alone would not give.
    let mut rng = Philox::new(5, 0);
    let z = Array2::from_shape_fn((3000, 2), |_| -> f64 { StandardNormal.sample(&mut rng) });
    let table =
        Array2::from_shape_fn((3000, 2), |(i, j)| if j == 0 { z[(i, 0)] } else { 0.8 * z[(i, 0)] + 0.6 * z[(i, 1)] });
    let support = Support::new().real("a").real("b").build().unwrap();
    let device = Device::cpu();
    let (learned, _) =
        estimator(25).learn::<f32>(&device, &support, table.view(), |_| ControlFlow::Continue(())).unwrap();
    let draws = learned.sample(2000, 2).unwrap();
    let product = (0..2000).map(|i| draws[(i, 0)] * draws[(i, 1)]).sum::<f64>() / 2000.0;
    assert!((product - 0.8).abs() < 0.2, "correlation {product}");

    let (posterior, watch) = (learned.as_posterior(), Watch::default());
    let draws = Draws { weights: posterior.weights(), ..Draws::new(400, &3, &watch) };
    let found = Ais::default().log_z(&device, posterior.model(), &draws).unwrap();
    assert!(found.value.is_finite() && found.error < 0.1, "{found:?}");
}

#[test]
fn two_moons_by_a_classifier() {
    let (device, target) = (Device::cpu(), Target::TwoMoons);
    let support = Support::new().real("x").real("y").build().unwrap();
    let table = target.sample(4000, 1);
    let (learned, _) =
        estimator(40).learn::<f32>(&device, &support, table.view(), |_| ControlFlow::Continue(())).unwrap();
    let c2st = C2st { folds: 2, ..C2st::default() };
    let draws = learned.sample(1500, 2).unwrap();
    let accuracy = c2st.accuracy(&device, draws.view(), target.sample(1500, 3).view()).unwrap().value;
    assert!(accuracy < 0.75, "{accuracy}");
}
