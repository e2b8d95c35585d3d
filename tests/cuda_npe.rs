//! A whole neural posterior estimation on the CUDA device, for every family: training, draws and densities, as on the
//! processor.
#![cfg(feature = "cuda")]

use rand_distr::{Distribution, Normal};
use retrodict::models::{
    Density, Diffusion, DiffusionSampling, EnergyBased, Family, Gan, Generative, Mdn, Mixing, Ncsn, RealNvp,
    ScoreNetwork, SplineFlow, Vae,
};
use retrodict::ndarray::{Array1, Array2, array};
use retrodict::noise_schedule::NoiseSchedule;
use retrodict::rng::Philox;
use retrodict::sample::{Corrector, Hmc, Trace};
use retrodict::train::Training;
use retrodict::{Dataset, Device, Npe, Posterior, Prior, simulate};

fn device() -> Device {
    if std::env::var_os("RETRODICT_GPU").is_none() {
        cusim::install();
    }
    Device::cuda(0).unwrap()
}

/// A short training on a linear-Gaussian task: the posterior, and the last validation loss.
fn posterior<F: Family<f64>>(device: &Device, family: F, rows: usize) -> (Posterior<f64, F::Model>, f64) {
    let prior = Prior::new().normal("a", 0.0, 1.0).normal("b", 0.0, 2.0).build().unwrap();
    let simulator = |theta: &[f64], rng: &mut Philox| -> Vec<f64> {
        let noise = Normal::new(0.0, 0.5).unwrap();
        vec![theta[0] + noise.sample(rng), theta[1] - theta[0] + noise.sample(rng)]
    };
    let data = simulate(&Device::cpu(), &prior, rows, 1, simulator).unwrap();
    let data = Dataset::<f64>::new(prior.support(), data.theta.view(), data.x.view(), Default::default()).unwrap();
    let training = Training { batch: 64, max_epochs: 2, ..Training::default() };
    let (posterior, history) = Npe { training, ..Npe::new(family) }.fit(device, &data).unwrap();
    (posterior, history.epochs.last().unwrap().validation_loss)
}

const OBSERVED: [f64; 2] = [0.3, -1.0];

/// Roundings are amplified by every step of the training and of the sampler.
fn assert_close<'a>(what: &str, found: impl IntoIterator<Item = &'a f64>, expected: impl IntoIterator<Item = &'a f64>) {
    for (a, b) in found.into_iter().zip(expected) {
        assert!((a - b).abs() / b.abs().max(1.0) < 1e-9, "{what}: {a} on the device, {b} on the processor");
    }
}

/// Trains and draws on both; returns the draws and both posteriors, the device's first.
type Both<M> = (Array2<f64>, [Posterior<f64, M>; 2]);

fn same_draws<F>(family: F) -> Both<F::Model>
where
    F: Family<f64> + Clone,
    F::Model: Generative<f64>,
{
    let (expected, expected_loss) = posterior(&Device::cpu(), family.clone(), 150);
    let (found, loss) = posterior(&device(), family, 150);
    assert_close("validation loss", [&loss], [&expected_loss]);
    let draw = |p: &Posterior<f64, F::Model>| p.sample(array![OBSERVED[0], OBSERVED[1]].view(), 13, 7).unwrap();
    let draws = draw(&expected);
    assert_close("draws", &draw(&found), &draws);
    (draws, [found, expected])
}

fn same<F>(family: F)
where
    F: Family<f64> + Clone,
    F::Model: Density<f64>,
{
    let (draws, posteriors) = same_draws(family);
    let observed = Array1::from_iter(OBSERVED);
    let [found, expected] = posteriors.map(|p| p.log_prob(draws.view(), observed.view()).unwrap());
    assert_close("log-densities", &found, &expected);
}

#[test]
fn flows_and_mixtures() {
    for mixing in [Mixing::ActNorm, Mixing::Linear] {
        same(RealNvp { layers: 2, hidden: vec![8], mixing, ..RealNvp::default() });
    }
    same(SplineFlow { layers: 2, hidden: vec![8], bins: 4, mixing: Mixing::None, ..SplineFlow::default() });
    same(Mdn { components: 3, hidden: vec![8], ..Mdn::default() });
}

#[test]
fn implicit_and_latent_models() {
    same_draws(Vae { hidden: vec![8], ..Vae::default() });
    same_draws(Gan { hidden: vec![8], ..Gan::default() });
}

#[test]
fn an_energy_moves_its_chains_by_hamiltonian_dynamics() {
    let hmc = Hmc { warm_up: 3, trajectories: 2, leapfrog: 2, candidates: 2, ..Hmc::default() };
    same_draws(EnergyBased { hidden: vec![8], trajectories: 1, leapfrog: 2, hmc, ..EnergyBased::default() });
}

/// A network small enough for the simulated device, which sees waves of the columns.
fn small(network: ScoreNetwork) -> ScoreNetwork {
    ScoreNetwork { hidden: 8, blocks: 1, waves: 1, ..network }
}

#[test]
fn annealed_langevin_dynamics() {
    let family = Ncsn { steps_per_level: 2, ..Ncsn::default() };
    let schedule = NoiseSchedule::Geometric { sigma_max: 5.0, sigma_min: 0.05, levels: 5 };
    same_draws(Ncsn { network: ScoreNetwork { schedule, ..small(family.network) }, ..family });
}

#[test]
fn diffusions_by_each_sampler() {
    let corrector = Some(Corrector::default());
    let ways = [
        (Diffusion::variance_preserving(), DiffusionSampling::Heun(4), Trace::Exact),
        (Diffusion::edm(), DiffusionSampling::Sde(5, corrector), Trace::Hutchinson),
        (Diffusion::flow_matching(), DiffusionSampling::Ode(1e-2), Trace::Exact),
    ];
    for (family, sampling, trace) in ways {
        same(Diffusion { network: small(family.network), sampling, trace, tolerance: 1e-2 });
    }
}

#[cfg(feature = "weights")]
#[test]
fn a_file_saved_on_one_device_loads_on_the_other() {
    let (cpu, cuda) = (Device::cpu(), device());
    let observed = Array1::from_iter(OBSERVED);
    for (here, there) in [(&cpu, &cuda), (&cuda, &cpu)] {
        let (saved, _) = posterior(here, Mdn { components: 2, hidden: vec![8], ..Mdn::default() }, 80);
        let loaded = Posterior::<f64>::from_bytes(there, &saved.to_bytes().unwrap()).unwrap();
        let draws = saved.sample(observed.view(), 7, 3).unwrap();
        assert_close("draws", &loaded.sample(observed.view(), 7, 3).unwrap(), &draws);
        let [a, b] = [
            loaded.log_prob(draws.view(), observed.view()).unwrap(),
            saved.log_prob(draws.view(), observed.view()).unwrap(),
        ];
        assert_close("log-densities", &a, &b);
    }
}
