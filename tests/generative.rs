//! Families without a density on targets of which everything is known.

use std::ops::ControlFlow;

use ndarray::{Array2, Axis, array};
use retrodict::models::{DecoderNoise, Family, Gan, Generative, Ncsn, Vae};
use retrodict::optim::{Adam, Schedule};
use retrodict::rng::{Noise, NoiseId};
use retrodict::sbi::Learned;
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::validate::ModeCoverage;
use retrodict::{Device, Npe, Support};

fn learned<F: Family<f32>>(family: F, table: &Array2<f64>, rate: f64, max_epochs: usize) -> Learned<f32, F::Model>
where
    F::Model: Generative<f32>,
{
    let names: Vec<String> = (0..table.ncols()).map(|j| format!("x{j}")).collect();
    let support = names.iter().fold(Support::new(), |support, name| support.real(name)).build().unwrap();
    let schedule = Schedule::Cosine { warmup: 0.02, floor: 0.01 };
    let training = Training { max_epochs, adam: Adam::new(rate), schedule, ..Training::default() };
    let estimator = Npe { family, training, seed: 1 };
    estimator.learn(&Device::cpu(), &support, table.view(), |_| ControlFlow::Continue(())).unwrap().0
}

fn normal(rows: usize, cols: usize, seed: u64) -> Array2<f64> {
    let mut table = vec![0.0; rows * cols];
    Noise { seed, step: 0, id: NoiseId(0) }.fill_normal(0, cols, &mut table);
    Array2::from_shape_vec((rows, cols), table).unwrap()
}

/// x = z W + ε diag(σ) with z and ε standard normal is N(0, Wᵀ W + diag(σ²)): linear networks can say exactly that, and
/// the encoder's law too, so that the bound is the density (factor analysis; probabilistic PCA, Tipping & Bishop 1999).
#[test]
fn a_linear_autoencoder_is_probabilistic_principal_component_analysis() {
    let w = array![[1.2, -0.8, 0.5, 0.0], [0.0, 0.6, 0.6, 1.0]];
    let sigma = [0.5, 0.4, 0.6, 0.5];
    let table = |rows: usize, seed: u64| {
        let mut noise = normal(rows, 4, seed + 1);
        noise.columns_mut().into_iter().zip(sigma).for_each(|(mut column, sigma)| column *= sigma);
        normal(rows, 2, seed).dot(&w) + noise
    };
    let family = Vae { latent: 2, hidden: vec![], decoder: DecoderNoise::Learned, samples: 1, ..Vae::default() };
    let learned = learned(family, &table(6000, 1), 1e-2, 150);

    let covariance = w.t().dot(&w) + Array2::from_diag(&array![0.25, 0.16, 0.36, 0.25]);
    let draws = learned.sample(20_000, 2).unwrap();
    let found = draws.t().dot(&draws) / draws.nrows() as f64;
    for ((i, j), expected) in covariance.indexed_iter() {
        let scale = (covariance[[i, i]] * covariance[[j, j]]).sqrt();
        assert!((found[[i, j]] - expected).abs() < 0.06 * scale, "({i}, {j}): {} is not {expected}", found[[i, j]]);
    }

    // E ln p over the law itself is minus its entropy, d/2 ln 2πe + ½ ln det, up to a standard error of √(d / 2n).
    let fresh = table(8000, 5);
    let bound = |samples| {
        let nothing = Array2::zeros((fresh.nrows(), 0));
        learned.as_posterior().log_prob_bound(fresh.view(), nothing.view(), samples).unwrap().mean().unwrap()
    };
    let exact = -2.0 * (1.0 + std::f64::consts::TAU.ln()) - 0.5 * ln_det(covariance);
    let (one, many) = (bound(1), bound(50));
    assert!((many - exact).abs() < 0.05, "{many}, the law itself {exact}");
    assert!(many - one < 0.02 && one - many < 0.01, "the encoder is exact: {one} {many}");
}

/// ln det of a positive definite matrix, by elimination.
fn ln_det(mut m: Array2<f64>) -> f64 {
    let n = m.nrows();
    let mut sum = 0.0;
    for k in 0..n {
        sum += m[[k, k]].ln();
        for i in k + 1..n {
            let factor = m[[i, k]] / m[[k, k]];
            (0..n).for_each(|j| m[[i, j]] -= factor * m[[k, j]]);
        }
    }
    sum
}

/// How many draws are nearest to each of the eight modes.
fn shares(draws: &Array2<f64>) -> [f64; 8] {
    let mut shares = [0.0; 8];
    for row in draws.axis_iter(Axis(0)) {
        let turns = row[1].atan2(row[0]) / std::f64::consts::TAU;
        shares[(8.0 * turns).round().rem_euclid(8.0) as usize] += 1.0 / draws.nrows() as f64;
    }
    shares
}

#[test]
fn annealed_langevin_dynamics_reach_eight_modes_with_their_weights() {
    let mut family = Ncsn { steps_per_level: 30, ..Ncsn::default() };
    (family.network.hidden, family.network.blocks) = (64, 2);
    let rows = 1000;
    let draws = learned(family, &Target::EightGaussians.sample(8000, 1), 2e-3, 80).sample(rows, 2).unwrap();
    // Three standard deviations of a share.
    let tolerance = 3.0 * (0.125 * 0.875 / rows as f64).sqrt();
    let shares = shares(&draws);
    assert!(shares.iter().all(|share| (share - 0.125).abs() < tolerance), "{shares:?}, tolerance {tolerance}");
    let report =
        ModeCoverage::new(&Device::cpu(), Target::EightGaussians.sample(rows, 3).view(), draws.view(), 5).unwrap();
    assert!(report.coverage > 0.85 * report.expected, "{}", report.verdict());
}

#[test]
fn an_adversarial_network_on_eight_gaussians_with_a_report_of_what_is_missing() {
    let (rows, target) = (1000, Target::EightGaussians);
    let learned = learned(Gan { hidden: vec![64, 64], ..Gan::default() }, &target.sample(4000, 1), 1e-3, 120);
    let (draws, truth) = (learned.sample(rows, 2).unwrap(), target.sample(rows, 3));
    let report = |draws: &Array2<f64>| ModeCoverage::new(&Device::cpu(), truth.view(), draws.view(), 5).unwrap();
    let whole = report(&draws);
    assert!(whole.coverage > 0.6, "{}", whole.verdict());
    let shares = shares(&draws);
    assert!(shares.iter().all(|&share| share > 0.03), "{shares:?}");

    // The same draws without those of three modes: the report sees it.
    let kept: Vec<usize> = (0..rows).filter(|&i| draws[[i, 1]] > 0.5 || draws[[i, 0]] > 0.5).collect();
    let collapsed = report(&draws.select(Axis(0), &kept));
    assert!(collapsed.is_incomplete() && collapsed.coverage < whole.coverage - 0.2, "{}", collapsed.verdict());
}
