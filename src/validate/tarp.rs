//! Tests of accuracy with random points.
//!
//! Source: Lemos, Coogan, Hezaveh and Perreault-Levasseur, *Sampling-based accuracy testing of posterior estimators for
//! general inference* (2023).

use ndarray::{ArrayView1, ArrayView2};
use rand::RngExt;

use crate::error::Error;
use crate::rng::Philox;
use crate::sbi::Standardise;

/// Reference points are uniform over this many robust standard deviations of the truths to each side.
const REACH: f64 = 2.0;

/// Distances from a random reference point, in units of how the truths scatter.
#[derive(Debug)]
pub(super) struct RandomPoints(Standardise);

impl RandomPoints {
    pub fn new(truths: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let rows: Vec<u32> = (0..truths.nrows() as u32).collect();
        Ok(Self(Standardise::fit(&rows, truths.ncols(), |i, j| truths[[i, j]])?))
    }

    /// How many of the draws `[draws x parameters]` lie closer to a random point than the truth does, and how many as
    /// close: the truth's rank, uniform if draws and truth come from one distribution, wherever the point lies.
    pub fn rank(&self, draws: ArrayView2<'_, f64>, truth: ArrayView1<'_, f64>, rng: &mut Philox) -> (usize, usize) {
        let point: Vec<f64> = (0..self.0.width()).map(|_| rng.random_range(-REACH..REACH)).collect();
        let distance = |theta: ArrayView1<'_, f64>| -> f64 {
            let standard = theta.into_iter().enumerate().map(|(j, &t)| self.0.forward(j, t));
            standard.zip(&point).map(|(z, p)| (z - p) * (z - p)).sum()
        };
        let own = distance(truth);
        draws.rows().into_iter().fold((0, 0), |(closer, equal), row| {
            let other = distance(row);
            (closer + usize::from(other < own), equal + usize::from(other == own))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn ranks_count_the_closer_draws() {
        let truths = array![[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]];
        let points = RandomPoints::new(truths.view()).unwrap();
        // However the point lies, one of the two is closer than what is between them, or both are not.
        let draws = array![[-1e3, 0.0], [1e3, 0.0], [0.5, 0.5]];
        let rank = points.rank(draws.view(), array![0.5, 0.5].view(), &mut Philox::new(1, 0));
        assert_eq!(rank, (0, 1));
        let far = points.rank(draws.view(), array![1e6, 1e6].view(), &mut Philox::new(1, 0));
        assert_eq!(far, (3, 0));
    }
}
