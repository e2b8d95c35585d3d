//! Every family and estimator on the two moons of the SBI benchmark: posteriors of two arcs, each a hundredth wide,
//! against exact draws.

use ndarray::{Array2, ArrayView1};
use retrodict::models::{
    AnyFamily, Diffusion, EnergyBased, Gan, Generative, Mdn, Ncsn, RealNvp, ScoreNetwork, SplineFlow, Times, Vae,
};
use retrodict::optim::{Adam, Schedule};
use retrodict::sample::Hmc;
use retrodict::sbi::{Nle, Nre};
use retrodict::tasks::{Task, TwoMoons};
use retrodict::train::Training;
use retrodict::validate::C2st;
use retrodict::{Dataset, Device, Npe, Posterior, simulate};

/// The observation of the tests.
const X: [f64; 2] = [0.0, 0.0];
const DRAWS: usize = 1000;

fn device() -> Device {
    Device::cpu_with_threads(1)
}

fn data() -> Dataset {
    let prior = TwoMoons.prior().unwrap();
    let table = simulate(&device(), &prior, 8000, 1, |theta, rng| TwoMoons.simulate(theta, rng)).unwrap();
    Dataset::new(prior.support(), table.theta.view(), table.x.view(), Default::default()).unwrap()
}

fn training(max_epochs: usize) -> Training {
    let schedule = Schedule::Cosine { warmup: 0.02, floor: 0.01 };
    Training { batch: 64, max_epochs, patience: max_epochs, adam: Adam::new(4e-3), schedule, ..Training::default() }
}

/// Accuracy of a classifier that tells draws from exact ones.
fn accuracy<M: Generative<f32> + ?Sized>(posterior: &Posterior<f32, M>) -> f64 {
    let draws: Array2<f64> = posterior.sample(ArrayView1::from(&X), DRAWS, 1).unwrap();
    let exact = TwoMoons.posterior_sample(&X, DRAWS, 7).unwrap();
    let c2st = C2st { folds: 2, ..C2st::default() };
    c2st.accuracy(&device(), draws.view(), exact.view()).unwrap().value
}

fn assert_close(family: AnyFamily, epochs: usize, bound: f64) {
    let estimator = Npe { family: family.clone(), training: training(epochs), seed: 1 };
    let (posterior, _) = estimator.fit(&device(), &data()).unwrap();
    let accuracy = accuracy(&posterior);
    println!("{family}: {accuracy:.3}");
    assert!(accuracy < bound, "{family}: {accuracy}, the bound is {bound}");
}

fn small(diffusion: Diffusion) -> AnyFamily {
    AnyFamily::Diffusion(Diffusion { network: shrunk(diffusion.network), ..diffusion })
}

fn shrunk(network: ScoreNetwork) -> ScoreNetwork {
    ScoreNetwork { hidden: 64, blocks: 2, ..network }
}

#[test]
fn mixtures_and_flows() {
    assert_close(AnyFamily::Mdn(Mdn { components: 8, hidden: vec![64], ..Mdn::default() }), 40, 0.65);
    assert_close(AnyFamily::SplineFlow(SplineFlow { layers: 4, hidden: vec![48], ..SplineFlow::default() }), 40, 0.65);
    assert_close(AnyFamily::RealNvp(RealNvp { layers: 10, hidden: vec![64, 64], ..RealNvp::default() }), 40, 0.65);
}

#[test]
fn scores() {
    assert_close(small(Diffusion::edm()), 40, 0.65);
    assert_close(small(Diffusion::variance_preserving()), 40, 0.68);
    assert_close(small(Diffusion::sub_variance_preserving()), 40, 0.68);
    assert_close(small(Diffusion::variance_exploding()), 40, 0.68);
}

#[test]
fn velocities_and_levels() {
    // Uniform times, of which few are at little noise, learn narrow posteriors slowly.
    let mut flow = Diffusion::flow_matching();
    flow.network.times = Times::LogNormal { mean: -2.5, sd: 1.5 };
    assert_close(small(flow), 40, 0.68);
    let ncsn = Ncsn { steps_per_level: 20, ..Ncsn::default() };
    assert_close(AnyFamily::Ncsn(Ncsn { network: shrunk(ncsn.network), ..ncsn }), 40, 0.68);
}

#[test]
fn latent_variables() {
    assert_close(AnyFamily::Vae(Vae { hidden: vec![64, 64], samples: 4, ..Vae::default() }), 60, 0.68);
    // Its arcs are joined, and wider than a hundredth.
    let gan = Gan { hidden: vec![64, 64], latent: 2, penalty: 0.01, instance_noise: 0.0, ..Gan::default() };
    assert_close(AnyFamily::Gan(gan), 150, 0.85);
}

#[test]
fn energies() {
    let hmc = Hmc { warm_up: 30, trajectories: 10, candidates: 256, ..Hmc::default() };
    let family = EnergyBased { hidden: vec![64, 64, 64], waves: 0, leapfrog: 6, hmc, ..EnergyBased::default() };
    // Of eight seeds between 0.58 and 0.81: energies are learned less evenly than the other densities.
    assert_close(AnyFamily::EnergyBased(family), 80, 0.85);
}

#[test]
fn likelihood_and_ratio() {
    let (device, data, prior) = (device(), data(), TwoMoons.prior().unwrap());
    let hmc = Hmc { warm_up: 30, trajectories: 10, candidates: 1000, ..Hmc::default() };
    let family = Mdn { components: 8, ..Mdn::default() };
    let nle = Nle { training: training(40), hmc, ..Nle::new(family) };
    let nle = accuracy(&nle.fit(&device, &data, &prior).unwrap().0);
    assert!(nle < 0.72, "likelihood: {nle}");
    let nre = Nre { training: training(80), hmc, waves: 2, ..Nre::default() };
    let nre = accuracy(&nre.fit(&device, &data, &prior).unwrap().0);
    println!("likelihood {nle:.3}, ratio {nre:.3}");
    assert!(nre < 0.68, "ratio: {nre}");
}
