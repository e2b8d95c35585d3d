//! Every family and estimator on a linear model with Gaussian noise, whose posterior is known.

use ndarray::{Array2, ArrayView1, Axis};
use retrodict::models::{
    Density, Diffusion, DiffusionSampling, EnergyBased, Family, Gan, Generative, Mdn, Ncsn, RealNvp, SplineFlow, Vae,
};
use retrodict::optim::{Adam, Schedule};
use retrodict::progress::Cancel;
use retrodict::rng::Philox;
use retrodict::sbi::{Nle, Nre};
use retrodict::tasks::{GaussianLinear, Task};
use retrodict::train::Training;
use retrodict::{Dataset, Device, Error, Npe, Posterior, simulate};

const TASK: GaussianLinear = GaussianLinear { dim: 2 };

/// Tests run side by side.
fn device() -> Device {
    Device::cpu_with_threads(1)
}

fn data(rows: usize) -> Dataset {
    let prior = TASK.prior().unwrap();
    let table = simulate(&device(), &prior, rows, 1, |theta, rng| TASK.simulate(theta, rng)).unwrap();
    Dataset::new(prior.support(), table.theta.view(), table.x.view(), Default::default()).unwrap()
}

fn training(max_epochs: usize) -> Training {
    let schedule = Schedule::Cosine { warmup: 0.02, floor: 0.01 };
    Training { max_epochs, adam: Adam::new(2e-3), schedule, ..Training::default() }
}

fn learned<F: Family<f32>>(family: F, epochs: usize) -> Posterior<f32, F::Model> {
    let estimator = Npe { family, training: training(epochs), seed: 1 };
    estimator.fit(&device(), &data(5000)).unwrap().0
}

fn observation(seed: u64) -> Vec<f64> {
    let prior = TASK.prior().unwrap();
    let mut rng = Philox::new(seed, 0);
    let mut theta = vec![0.0; prior.dim()];
    prior.sample(&mut rng, &mut theta).unwrap();
    TASK.simulate(&theta, &mut rng)
}

/// Means within `tolerance` exact standard deviations and widths within as large a fraction, at three observations.
fn assert_gaussian<M: Generative<f32> + ?Sized>(posterior: &Posterior<f32, M>, tolerance: f64) {
    for seed in 10..13 {
        let x = observation(seed);
        let draws = posterior.sample(ArrayView1::from(&x), 1000, 2).unwrap();
        let (mean, sd) = (draws.mean_axis(Axis(0)).unwrap(), draws.std_axis(Axis(0), 0.0));
        // N(x / 2, 0.05)
        let exact = 0.05_f64.sqrt();
        for j in 0..2 {
            let (shift, width) = ((mean[j] - 0.5 * x[j]) / exact, sd[j] / exact);
            assert!(shift.abs() < tolerance, "mean of column {j} off by {shift} standard deviations");
            assert!((width - 1.0).abs() < tolerance, "width of column {j}: {width} of the exact one");
        }
    }
}

/// The mean of ln q - ln p over exact draws is small.
fn assert_density<M: Density<f32> + ?Sized>(posterior: &Posterior<f32, M>, tolerance: f64) {
    let x = observation(10);
    let theta = TASK.posterior_sample(&x, 500, 4).unwrap();
    let exact = TASK.posterior_log_prob(theta.view(), &x).unwrap();
    let found = posterior.log_prob(theta.view(), ArrayView1::from(&x)).unwrap();
    let kl = (&exact - &found).mean().unwrap();
    assert!((-0.02..tolerance).contains(&kl), "KL divergence {kl}");
}

fn assert_both<F: Family<f32, Model = dyn Density<f32>>>(family: F, epochs: usize, kl: f64) {
    let posterior = learned(family, epochs);
    assert_gaussian(&posterior, 0.2);
    assert_density(&posterior, kl);
}

fn small(mut diffusion: Diffusion) -> Diffusion {
    (diffusion.network.hidden, diffusion.network.blocks) = (48, 2);
    diffusion.tolerance = 1e-3;
    diffusion
}

#[test]
fn mixtures_and_flows() {
    assert_both(Mdn { components: 3, hidden: vec![32], ..Mdn::default() }, 20, 0.06);
    assert_both(RealNvp { layers: 4, hidden: vec![32], ..RealNvp::default() }, 20, 0.06);
    assert_both(SplineFlow { layers: 3, hidden: vec![32], bins: 6, ..SplineFlow::default() }, 20, 0.06);
}

#[test]
fn edm_and_flow_matching() {
    for diffusion in [Diffusion::edm(), Diffusion::flow_matching()] {
        assert_both(small(diffusion), 20, 0.05);
    }
}

#[test]
fn diffusions() {
    for diffusion in [Diffusion::sub_variance_preserving(), Diffusion::variance_exploding()] {
        assert_both(small(diffusion), 20, 0.05);
    }
}

#[test]
fn one_diffusion_along_its_flow_and_backwards_in_noise() {
    let posterior = learned(small(Diffusion::variance_preserving()), 20);
    assert_gaussian(&posterior, 0.2);
    assert_density(&posterior, 0.05);
    let cancel = Cancel::default();
    cancel.cancel();
    let (theta, x) = (Array2::zeros((3, 2)), observation(10));
    let stopped = posterior.with_cancel(&cancel).log_prob(theta.view(), ArrayView1::from(&x));
    assert!(matches!(stopped, Err(Error::Cancelled { .. })), "{stopped:?}");
    let mut sde = small(Diffusion::variance_preserving());
    sde.sampling = DiffusionSampling::Sde(100, Some(Default::default()));
    assert_gaussian(&learned(sde, 20), 0.2);
}

#[test]
fn families_without_a_density() {
    let mut ncsn = Ncsn { steps_per_level: 30, ..Ncsn::default() };
    (ncsn.network.hidden, ncsn.network.blocks) = (48, 2);
    assert_gaussian(&learned(ncsn, 25), 0.25);
    assert_gaussian(&learned(Gan { hidden: vec![48, 48], ..Gan::default() }, 60), 0.25);
}

#[test]
fn autoencoder() {
    let posterior = learned(Vae { hidden: vec![48], samples: 4, ..Vae::default() }, 25);
    assert_gaussian(&posterior, 0.2);

    let x = observation(10);
    let theta = TASK.posterior_sample(&x, 300, 4).unwrap();
    let exact = TASK.posterior_log_prob(theta.view(), &x).unwrap().mean().unwrap();
    let xs = Array2::from_shape_fn((300, 2), |(_, j)| x[j]);
    let bound = |samples| posterior.log_prob_bound(theta.view(), xs.view(), samples).unwrap().mean().unwrap();
    let (one, many) = (bound(1), bound(64));
    assert!(one < many + 0.01 && many < exact + 0.05 && many > exact - 0.1, "{one} {many} {exact}");
}

#[test]
fn energies() {
    assert_gaussian(&learned(EnergyBased { hidden: vec![32, 32], ..EnergyBased::default() }, 15), 0.2);
}

#[test]
fn likelihood_and_ratio() {
    let (device, data, prior) = (device(), data(5000), TASK.prior().unwrap());
    let family = RealNvp { layers: 4, hidden: vec![32], ..RealNvp::default() };
    let (posterior, _) = Nle { training: training(20), ..Nle::new(family) }.fit(&device, &data, &prior).unwrap();
    assert_gaussian(&posterior, 0.2);
    let nre = Nre { hidden: vec![48, 48], training: training(25), ..Nre::default() };
    let (posterior, _) = nre.fit(&device, &data, &prior).unwrap();
    assert_gaussian(&posterior, 0.3);
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = posterior.with_cancel(&cancel).sample(ArrayView1::from(&[0.1, 0.2]), 10, 1);
    assert!(matches!(stopped, Err(Error::Cancelled { .. })));
}
