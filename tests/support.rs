//! Everything a posterior gives lies in the prior's support, and its density integrates to one over it.

use ndarray::{Array2, array};
use rand_distr::{Distribution, StandardNormal};
use retrodict::math::{normal_cdf, normal_ln_pdf};
use retrodict::models::RealNvp;
use retrodict::optim::Adam;
use retrodict::rng::Philox;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Npe, Posterior, Prior, simulate};

/// A posterior for observations of noisy parameters, x = theta + noise.
fn posterior(prior: &Prior, noise: f64) -> Posterior {
    let device = Device::cpu();
    let simulations = simulate(&device, prior, 4000, 1, |theta, rng: &mut Philox| {
        theta
            .iter()
            .map(|t| {
                let z: f64 = StandardNormal.sample(rng);
                t + noise * z
            })
            .collect()
    })
    .unwrap();
    let data =
        Dataset::new(prior.support(), simulations.theta.view(), simulations.x.view(), Default::default()).unwrap();
    let family = RealNvp { layers: 4, hidden: vec![32], ..RealNvp::default() };
    let training = Training { max_epochs: 15, adam: Adam::new(3e-3), ..Training::default() };
    Npe { family, training, seed: 0 }.fit(&device, &data).unwrap().0
}

/// Midpoints u of cells that cover the standard normal, with its mass in each. Integrals over a bounded support are
/// taken in Phi^-1 of uniform coordinates, where densities that pile up at a bound are smooth.
fn cells(n: usize) -> Vec<(f64, f64)> {
    let width = 18.0 / n as f64;
    (0..n).map(|i| -9.0 + (i as f64 + 0.5) * width).map(|u| (normal_cdf(u), normal_ln_pdf(u).exp() * width)).collect()
}

/// The same in two dimensions: uniform coordinates (v, w), and mass.
fn squares(n: usize) -> Vec<(f64, f64, f64)> {
    let cells = cells(n);
    cells.iter().flat_map(|&(v, a)| cells.iter().map(move |&(w, b)| (v, w, a * b))).collect()
}

#[test]
fn a_density_on_an_interval_integrates_to_one() {
    let prior = Prior::new().uniform("a", -1.0, 3.0).build().unwrap();
    let posterior = posterior(&prior, 0.5);
    let cells = cells(2000);
    let theta = Array2::from_shape_fn((cells.len(), 1), |(i, _)| -1.0 + 4.0 * cells[i].0);
    for x in [-1.2, 0.3, 2.9] {
        let log_prob = posterior.log_prob(theta.view(), array![x].view()).unwrap();
        let integral: f64 = log_prob.iter().zip(&cells).map(|(q, (_, mass))| q.exp() * 4.0 * mass).sum();
        assert!((integral - 1.0).abs() < 1e-4, "x = {x}: {integral}");
    }
}

#[test]
fn a_density_on_a_rectangle_integrates_to_one() {
    let prior = Prior::new().uniform("a", 0.0, 1.0).log_uniform("b", 0.5, 8.0).build().unwrap();
    let posterior = posterior(&prior, 0.3);
    let squares = squares(300);
    let point = |&(v, w, _): &(f64, f64, f64)| [v, 0.5 * 16.0_f64.powf(w)];
    let theta = Array2::from(squares.iter().map(point).collect::<Vec<_>>());
    for x in [[0.1, 0.6], [0.9, 5.0]] {
        let log_prob = posterior.log_prob(theta.view(), array![x[0], x[1]].view()).unwrap();
        // db = b ln 16 dw
        let terms = log_prob.iter().zip(&squares).zip(theta.column(1));
        let integral: f64 = terms.map(|((q, (.., mass)), b)| q.exp() * b * 16.0_f64.ln() * mass).sum();
        assert!((integral - 1.0).abs() < 1e-4, "x = {x:?}: {integral}");
    }
}

#[test]
fn a_density_on_ordered_times_integrates_to_one() {
    let prior = Prior::new().ordered_dirichlet(&["t1", "t2"], &[1.0; 3]).build().unwrap();
    let posterior = posterior(&prior, 0.1);
    // t1 = 1 - sqrt(1 - v), t2 = t1 + (1 - t1) w: dt1 dt2 = dv dw / 2, the area of the triangle.
    let squares = squares(300);
    let point = |&(v, w, _): &(f64, f64, f64)| {
        let t1 = 1.0 - (1.0 - v).sqrt();
        [t1, t1 + (1.0 - t1) * w]
    };
    let theta = Array2::from(squares.iter().map(point).collect::<Vec<_>>());
    let x = array![0.3, 0.7];
    let log_prob = posterior.log_prob(theta.view(), x.view()).unwrap();
    let integral: f64 = log_prob.iter().zip(&squares).map(|(q, (.., mass))| q.exp() * 0.5 * mass).sum();
    assert!((integral - 1.0).abs() < 1e-4, "{integral}");
    let out_of_order = posterior.log_prob(array![[0.7, 0.3]].view(), x.view()).unwrap();
    assert_eq!(out_of_order[0], f64::NEG_INFINITY);
}

#[test]
fn no_draw_leaves_the_support_even_for_absurd_observations() {
    let prior = Prior::new()
        .uniform("a", -1.0, 1.0)
        .truncated_normal("b", 0.0, 1.0, -0.5, 3.0)
        .dirichlet(&["f1", "f2"], &[2.0, 1.0, 0.5])
        .build()
        .unwrap();
    let posterior = posterior(&prior, 0.2);
    for scale in [0.0, 1.0, -50.0, 1e4] {
        let x = array![scale, -scale, 0.5 * scale, scale];
        let draws = posterior.sample(x.view(), 2000, 4).unwrap();
        assert!(draws.rows().into_iter().all(|t| prior.support().contains(&t.to_vec())), "scale {scale}");
    }
}
