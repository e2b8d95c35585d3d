//! Prior -> simulator -> table, in parallel, each row from a stream of its own.

use ndarray::Array2;

use crate::device::Device;
use crate::error::Error;
use crate::progress::Progress;
use crate::rng::Philox;
use crate::sbi::Prior;

/// A table of simulations: row i of `x` was simulated from row i of `theta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulations {
    /// Parameters, `[rows x parameters]`.
    pub theta: Array2<f64>,
    /// What the simulator gave, `[rows x features]`; numbers that are not finite are kept for
    /// [`Dataset`](crate::sbi::Dataset) to judge.
    pub x: Array2<f64>,
}

/// Draws `rows` parameters from the prior and simulates each of them.
///
/// `simulator` maps one parameter vector to one observation, using only the given generator for its noise. Row i uses
/// stream i of `seed`: the table does not depend on the number of threads, and its first rows not on how many follow.
///
/// ```
/// use retrodict::{Device, Prior, simulate};
/// use rand_distr::{Distribution, Normal};
///
/// let prior = Prior::new().uniform("mean", -1.0, 1.0).build()?;
/// let simulations = simulate(&Device::cpu(), &prior, 100, 1, |theta, rng| {
///     (0..3).map(|_| Normal::new(theta[0], 0.1).unwrap().sample(rng)).collect()
/// })?;
/// assert_eq!(simulations.x.dim(), (100, 3));
/// # Ok::<(), retrodict::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the simulator's results differ in length or are empty. A panic of the simulator is passed on.
pub fn simulate(
    device: &Device,
    prior: &Prior,
    rows: usize,
    seed: u64,
    simulator: impl Fn(&[f64], &mut Philox) -> Vec<f64> + Sync,
) -> Result<Simulations, Error> {
    simulate_joint(device, rows, seed, |_, rng| {
        let mut theta = vec![0.0; prior.dim()];
        prior.sample(rng, &mut theta).expect("theta has the prior's width");
        let x = simulator(&theta, rng);
        (theta, x)
    })
}

/// The same where parameters and observation are drawn together: `joint` maps (row, generator) to (theta, x).
///
/// For simulations that start from a table, or from a prior that is itself a program.
///
/// # Errors
/// As [`simulate()`].
pub fn simulate_joint(
    device: &Device,
    rows: usize,
    seed: u64,
    joint: impl Fn(usize, &mut Philox) -> (Vec<f64>, Vec<f64>) + Sync,
) -> Result<Simulations, Error> {
    let progress = Progress::new("simulate", rows);
    let mut table: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); rows];
    let mut blocks: Vec<_> = table.chunks_mut(64).collect();
    device.pool().run_over(&mut blocks, |b, block| {
        for (i, row) in block.iter_mut().enumerate() {
            let index = 64 * b + i;
            *row = joint(index, &mut Philox::new(seed, index as u64));
        }
        progress.advance(block.len());
    });
    let (theta, x): (Vec<_>, Vec<_>) = table.into_iter().unzip();
    Ok(Simulations { theta: stack("theta", theta)?, x: stack("x", x)? })
}

/// Rows of equal length as a matrix.
fn stack(what: &str, rows: Vec<Vec<f64>>) -> Result<Array2<f64>, Error> {
    let width = rows.first().map_or(0, Vec::len);
    if let Some(i) = rows.iter().position(|row| row.len() != width || width == 0) {
        let why = format!(
            "{what} of row {i} has {} numbers, row 0 has {width}; all need the same, at least 1",
            rows[i].len()
        );
        return Err(Error::shape("simulate", why));
    }
    let shape = (rows.len(), width);
    let flat = rows.into_iter().flatten().collect();
    Array2::from_shape_vec(shape, flat).map_err(|e| Error::shape("simulate", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn noisy(device: &Device, rows: usize, seed: u64) -> Simulations {
        let prior = Prior::new().uniform("a", 0.0, 1.0).normal("b", 5.0, 2.0).build().unwrap();
        simulate(device, &prior, rows, seed, |theta, rng| vec![theta[0] + rng.random::<f64>(), theta[1], 1.0]).unwrap()
    }

    #[test]
    fn rows_depend_on_seed_and_index_alone() {
        let one = noisy(&Device::cpu_with_threads(1), 1000, 3);
        assert_eq!(one, noisy(&Device::cpu_with_threads(5), 1000, 3));
        let fewer = noisy(&Device::cpu_with_threads(2), 77, 3);
        assert_eq!(one.x.slice(ndarray::s![..77, ..]), fewer.x);
        assert_ne!(one.x, noisy(&Device::cpu_with_threads(1), 1000, 4).x);
    }

    #[test]
    fn rows_of_different_lengths_are_an_error() {
        let device = Device::cpu_with_threads(1);
        let ragged = simulate_joint(&device, 10, 0, |i, _| (vec![0.0], vec![0.0; 1 + usize::from(i == 7)]));
        assert!(matches!(ragged, Err(Error::Shape { why, .. }) if why.contains("row 7")));
        assert!(simulate_joint(&device, 10, 0, |_, _| (vec![0.0], vec![])).is_err());
    }

    #[test]
    fn no_rows_is_an_empty_table() {
        assert_eq!(noisy(&Device::cpu_with_threads(2), 0, 1).x.nrows(), 0);
    }
}
