//! A whole neural posterior estimation on the CUDA device: training, draws and densities, as on the processor.
#![cfg(feature = "cuda")]

use rand_distr::{Distribution, Normal};
use retrodict::models::{Family, Mixing, RealNvp, SplineFlow};
use retrodict::ndarray::{Array1, Array2, array};
use retrodict::rng::Philox;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Npe, Prior, simulate};

fn device() -> Device {
    if std::env::var_os("RETRODICT_GPU").is_none() {
        cusim::install();
    }
    Device::cuda(0).unwrap()
}

/// Draws, their log-densities, and the last validation loss of a short training on a linear-Gaussian task.
fn posterior<F>(device: &Device, family: F) -> (Array2<f64>, Array1<f64>, f64)
where
    F: Family<f64>,
    F::Model: retrodict::models::Generative<f64> + retrodict::models::Density<f64>,
{
    let prior = Prior::new().normal("a", 0.0, 1.0).normal("b", 0.0, 2.0).build().unwrap();
    let simulator = |theta: &[f64], rng: &mut Philox| -> Vec<f64> {
        let noise = Normal::new(0.0, 0.5).unwrap();
        vec![theta[0] + noise.sample(rng), theta[1] - theta[0] + noise.sample(rng)]
    };
    let data = simulate(&Device::cpu(), &prior, 150, 1, simulator).unwrap();
    let data = Dataset::<f64>::new(prior.support(), data.theta.view(), data.x.view(), Default::default()).unwrap();
    let training = Training { batch: 64, max_epochs: 3, ..Training::default() };
    let (posterior, history) = Npe { training, ..Npe::new(family) }.fit(device, &data).unwrap();
    let observed = array![0.3, -1.0];
    let draws = posterior.sample(observed.view(), 40, 7).unwrap();
    let log_q = posterior.log_prob(draws.view(), observed.view()).unwrap();
    (draws, log_q, history.epochs.last().unwrap().validation_loss)
}

fn same<F>(family: F)
where
    F: Family<f64> + Clone,
    F::Model: retrodict::models::Generative<f64> + retrodict::models::Density<f64>,
{
    let (expected, found) = (posterior(&Device::cpu(), family.clone()), posterior(&device(), family));
    let apart = |a: f64, b: f64| (a - b).abs() / b.abs().max(1.0);
    // Roundings are amplified by every step of the training.
    assert!(expected.0.iter().zip(&found.0).all(|(&a, &b)| apart(a, b) < 1e-9), "draws");
    assert!(expected.1.iter().zip(&found.1).all(|(&a, &b)| apart(a, b) < 1e-9), "log-densities");
    assert!(apart(found.2, expected.2) < 1e-9, "validation losses {} and {}", found.2, expected.2);
}

#[test]
fn coupling_flows() {
    for mixing in [Mixing::ActNorm, Mixing::Linear] {
        same(RealNvp { layers: 2, hidden: vec![8], mixing, ..RealNvp::default() });
    }
    same(SplineFlow { layers: 2, hidden: vec![8], bins: 4, mixing: Mixing::None, ..SplineFlow::default() });
}
