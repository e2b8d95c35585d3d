//! The energy model: its draws on a known target, and its constant by annealed importance sampling.

use std::ops::ControlFlow;

use retrodict::models::EnergyBased;
use retrodict::optim::{Adam, Schedule};
use retrodict::progress::Watch;
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
fn two_moons_by_a_classifier() {
    let (device, target) = (Device::cpu(), Target::TwoMoons);
    let support = Support::new().real("x").real("y").build().unwrap();
    let table = target.sample(4000, 1);
    let (learned, _) =
        estimator(60).learn::<f32>(&device, &support, table.view(), |_| ControlFlow::Continue(())).unwrap();
    let c2st = C2st { folds: 2, ..C2st::default() };
    let draws = learned.sample(1500, 2).unwrap();
    let accuracy = c2st.accuracy(&device, draws.view(), target.sample(1500, 3).view()).unwrap().value;
    assert!(accuracy < 0.75, "{accuracy}");

    let (posterior, watch) = (learned.as_posterior(), Watch::default());
    let draws = Draws { weights: posterior.weights(), ..Draws::new(400, &3, &watch) };
    let found = Ais::default().log_z(&device, posterior.model(), &draws).unwrap();
    assert!(found.value.is_finite() && found.error < 0.3, "{found:?}");
}
