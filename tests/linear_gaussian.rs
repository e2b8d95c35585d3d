//! A model whose posterior is known: theta ~ N(m, S), x = A theta + noise. What is learned is held against it.

use std::sync::OnceLock;

use ndarray::{Array1, Array2, Axis, array};
use rand_distr::{Distribution, StandardNormal};
use retrodict::models::RealNvp;
use retrodict::optim::{Adam, Schedule};
use retrodict::rng::Philox;
use retrodict::train::Training;
use retrodict::validate::{C2st, Verdict};
use retrodict::{Dataset, Device, Npe, Posterior, Prior, Validation, simulate};

const SD: [f64; 3] = [1.0, 2.0, 0.5];
const NOISE: f64 = 0.6;
const A: [[f64; 3]; 4] = [[1.0, 0.3, 0.0], [0.0, 0.5, 1.0], [-0.7, 0.2, 0.4], [0.1, -0.4, 1.5]];

fn prior() -> Prior {
    Prior::new().normal("a", 1.0, SD[0]).normal("b", 0.0, SD[1]).normal("c", -2.0, SD[2]).build().unwrap()
}

fn simulator(theta: &[f64], rng: &mut Philox) -> Vec<f64> {
    let noise = |rng: &mut Philox| -> f64 { StandardNormal.sample(rng) };
    A.iter().map(|row| row.iter().zip(theta).map(|(a, t)| a * t).sum::<f64>() + NOISE * noise(rng)).collect()
}

/// The posterior trained on 20 000 simulations, once for all tests.
fn trained() -> &'static Posterior {
    static POSTERIOR: OnceLock<Posterior> = OnceLock::new();
    POSTERIOR.get_or_init(|| {
        let (device, prior) = (Device::cpu(), prior());
        let simulations = simulate(&device, &prior, 20_000, 1, simulator).unwrap();
        let data =
            Dataset::new(prior.support(), simulations.theta.view(), simulations.x.view(), Default::default()).unwrap();
        let training = Training {
            max_epochs: 40,
            adam: Adam::new(2e-3),
            schedule: Schedule::Cosine { warmup: 0.05, floor: 0.01 },
            ..Training::default()
        };
        let family = RealNvp { layers: 6, hidden: vec![32], ..RealNvp::default() };
        Npe { family, training, seed: 2 }.fit(&device, &data).unwrap().0
    })
}

/// Mean and covariance of the exact posterior: (S^-1 + A^T A / noise^2) mean = S^-1 m + A^T x / noise^2.
fn exact(x: &[f64]) -> (Array1<f64>, Array2<f64>) {
    let mean = [1.0, 0.0, -2.0];
    let mut precision = Array2::<f64>::zeros((3, 3));
    let mut right = Array1::<f64>::zeros(3);
    for i in 0..3 {
        precision[(i, i)] += 1.0 / (SD[i] * SD[i]);
        right[i] += mean[i] / (SD[i] * SD[i]);
        for k in 0..4 {
            right[i] += A[k][i] * x[k] / (NOISE * NOISE);
            for j in 0..3 {
                precision[(i, j)] += A[k][i] * A[k][j] / (NOISE * NOISE);
            }
        }
    }
    let covariance = inverse(&precision);
    (covariance.dot(&right), covariance)
}

/// Inverse of a 3 x 3 matrix by cofactors.
fn inverse(m: &Array2<f64>) -> Array2<f64> {
    let cofactor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[(a, c)] * m[(b, d)] - m[(a, d)] * m[(b, c)]
    };
    let det: f64 = (0..3).map(|j| m[(0, j)] * cofactor(0, j)).sum();
    Array2::from_shape_fn((3, 3), |(i, j)| cofactor(j, i) / det)
}

/// Draws of N(mean, covariance).
fn exact_draws(mean: &Array1<f64>, covariance: &Array2<f64>, n: usize, seed: u64) -> Array2<f64> {
    let mut l = Array2::<f64>::zeros((3, 3));
    for i in 0..3 {
        for j in 0..=i {
            let s: f64 = (0..j).map(|k| l[(i, k)] * l[(j, k)]).sum();
            l[(i, j)] = if i == j { (covariance[(i, i)] - s).sqrt() } else { (covariance[(i, j)] - s) / l[(j, j)] };
        }
    }
    let mut rng = Philox::new(seed, 0);
    let z = Array2::from_shape_fn((n, 3), |_| -> f64 { StandardNormal.sample(&mut rng) });
    z.dot(&l.t()) + mean
}

/// Observations of parameters drawn from the prior.
fn observations(rows: u64) -> Array2<f64> {
    let prior = prior();
    let rows: Vec<[f64; 4]> = (0..rows)
        .map(|i| {
            let mut rng = Philox::new(77, i);
            let mut theta = [0.0; 3];
            prior.sample(&mut rng, &mut theta).unwrap();
            simulator(&theta, &mut rng).try_into().unwrap()
        })
        .collect();
    Array2::from(rows)
}

#[test]
fn means_and_covariances_are_those_of_the_closed_form() {
    let x = observations(64);
    let all = trained().sample_many(x.view(), 5000, 3).unwrap();
    let mut mean_errors = Vec::new();
    let mut covariance_errors = Vec::new();
    for (x, draws) in x.rows().into_iter().zip(all.outer_iter()) {
        let (mean, covariance) = exact(&x.to_vec());
        let found = draws.mean_axis(Axis(0)).unwrap();
        let centred = &draws - &found;
        let found_covariance = centred.t().dot(&centred) / draws.nrows() as f64;
        let sd = covariance.diag().mapv(f64::sqrt);
        for i in 0..3 {
            mean_errors.push((found[i] - mean[i]) / sd[i]);
            for j in 0..=i {
                covariance_errors.push((found_covariance[(i, j)] - covariance[(i, j)]) / (sd[i] * sd[j]));
            }
        }
    }
    // In units of the exact standard deviations. The draws alone give 0.014 and 0.017.
    let (means, covariances) = (rms(&mean_errors), rms(&covariance_errors));
    assert!(means < 0.07, "rms error of the means: {means}");
    assert!(covariances < 0.05, "rms error of the covariances: {covariances}");
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn the_density_is_that_of_the_closed_form() {
    let x = observations(2);
    let (mean, covariance) = exact(&x.row(0).to_vec());
    let theta = exact_draws(&mean, &covariance, 4000, 5);
    let learned = trained().log_prob(theta.view(), x.row(0)).unwrap();
    let precision = inverse(&covariance);
    let ln_det = ln_det(&covariance);
    let exact_density = |t: ndarray::ArrayView1<'_, f64>| {
        let d = &t - &mean;
        -0.5 * d.dot(&precision.dot(&d)) - 0.5 * ln_det - 1.5 * std::f64::consts::TAU.ln()
    };
    // KL(exact || learned), estimated from exact draws.
    let differences = theta.rows().into_iter().zip(&learned).map(|(t, q)| exact_density(t) - q);
    let kl = differences.sum::<f64>() / 4000.0;
    assert!((-0.005..0.03).contains(&kl), "KL divergence {kl} nats");
}

#[test]
fn ranks_of_the_truth_are_uniform() {
    let prior = prior();
    let test = simulate(&Device::cpu(), &prior, 1000, 99, simulator).unwrap();
    let validation = Validation::run(trained(), test.theta.view(), test.x.view(), 500, 6).unwrap();
    let band = validation.band(0.999).unwrap();
    for (name, distance) in prior.names().iter().zip(validation.pit_distances()) {
        assert!(distance < band, "{name}: P-P distance {distance}, band {band}");
    }
    let coverage = validation.coverage(20, 0.999).unwrap().unwrap();
    for (k, found) in coverage.values.iter().enumerate() {
        let band = coverage.lower[k]..=coverage.upper[k];
        assert!(band.contains(found), "coverage {found} at {}, band {band:?}", coverage.levels[k]);
    }
    assert!(validation.verdict() < Verdict::Wrong, "{:#?}", validation.findings());
    // The mean log-density of the exact posterior at the truth is minus its entropy.
    let (_, covariance) = exact(&test.x.row(0).to_vec());
    let entropy = 0.5 * ln_det(&covariance) + 1.5 * (std::f64::consts::TAU.ln() + 1.0);
    let found = validation.mean_log_prob(1).unwrap();
    assert!((found.value + entropy).abs() < 4.0 * found.error + 0.02, "{found:?} against {}", -entropy);
}

/// ln det of a positive definite 3 x 3 matrix.
fn ln_det(m: &Array2<f64>) -> f64 {
    // The inverse's last element is the leading minor over the determinant.
    let minor = m[(0, 0)] * m[(1, 1)] - m[(0, 1)].powi(2);
    minor.ln() - inverse(m)[(2, 2)].ln()
}

#[test]
fn a_classifier_cannot_tell_the_draws_from_exact_ones() {
    let x = observations(2);
    let (mean, covariance) = exact(&x.row(1).to_vec());
    let learned = trained().sample(x.row(1), 5000, 8).unwrap();
    let exact = exact_draws(&mean, &covariance, 5000, 9);
    let accuracy = |draws: &Array2<f64>| C2st::default().accuracy(&Device::cpu(), draws.view(), exact.view()).unwrap();
    let found = accuracy(&learned);
    assert!(found.value < 0.55, "C2ST {found:?}");
    // And it can tell draws that are wrong by half a standard deviation.
    let shifted = exact_draws(&mean, &covariance, 5000, 10) + covariance.diag().mapv(f64::sqrt) * array![0.5, 0.0, 0.0];
    let found = accuracy(&shifted);
    assert!(found.value > 0.56, "C2ST {found:?} of shifted draws");
}
