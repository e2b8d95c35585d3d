//! What every density promises: it integrates to one, in one dimension and in the plane.

use std::ops::ControlFlow;

use ndarray::{Array2, Axis, Slice};
use retrodict::models::{Density, Diffusion, Family, Mdn, RealNvp, SplineFlow};
use retrodict::ops::mixture_log_density::Covariance;
use retrodict::optim::Adam;
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::{Device, Npe, Support};

/// The midpoint rule from -bound to bound.
#[derive(Clone, Copy)]
struct Grid {
    bound: f64,
    cells: usize,
}

/// Learns the first `dim` columns of a few rows briefly, in double precision, and integrates.
fn mass<F: Family<f64, Model = dyn Density<f64>>>(family: F, dim: usize, Grid { bound, cells }: Grid) -> f64 {
    let table = Target::TwoMoons.sample(600, 1);
    let table = table.slice_axis(Axis(1), Slice::from(..dim));
    let support = ["x", "y"][..dim].iter().fold(Support::new(), |support, name| support.real(name)).build().unwrap();
    let training = Training { max_epochs: 10, batch: 100, adam: Adam::new(5e-3), ..Training::default() };
    let estimator = Npe { family, training, seed: 1 };
    let (learned, _) = estimator.learn(&Device::cpu(), &support, table, |_| ControlFlow::Continue(())).unwrap();
    let step = 2.0 * bound / cells as f64;
    let at = |cell: usize| (cell as f64 + 0.5) * step - bound;
    let grid = Array2::from_shape_fn((cells.pow(dim as u32), dim), |(i, j)| at(i / cells.pow(j as u32) % cells));
    learned.log_prob(grid.view()).unwrap().mapv(f64::exp).sum() * step.powi(dim as i32)
}

fn assert_normalised<F: Family<f64, Model = dyn Density<f64>> + Clone>(family: F, grid: Grid) {
    for dim in [1, 2] {
        let mass = mass(family.clone(), dim, grid);
        assert!((mass - 1.0).abs() < 1e-3, "{family:?} in {dim} dimensions: {mass}");
    }
}

#[test]
fn mixtures_and_flows_integrate_to_one() {
    let grid = Grid { bound: 20.0, cells: 1000 };
    for covariance in [Covariance::Diagonal, Covariance::Full] {
        assert_normalised(Mdn { components: 3, covariance, hidden: vec![8], ..Mdn::default() }, grid);
    }
    assert_normalised(RealNvp { layers: 4, hidden: vec![16], ..RealNvp::default() }, grid);
    assert_normalised(SplineFlow { layers: 2, hidden: vec![16], bins: 4, ..SplineFlow::default() }, grid);
}

#[test]
fn probability_flows_integrate_to_one() {
    for mut diffusion in [Diffusion::variance_preserving(), Diffusion::edm(), Diffusion::flow_matching()] {
        (diffusion.network.hidden, diffusion.network.blocks) = (16, 1);
        assert_normalised(diffusion, Grid { bound: 7.0, cells: 120 });
    }
}
