//! The one sampling pass: where each truth lies among its draws, block by block.

use ndarray::{Array1, ArrayView1, ArrayView2, ArrayView3, Axis};
use rand::RngExt;

use super::tarp::RandomPoints;
use super::uniform::randomised_rank;
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::rng::Philox;

/// Ranks the truths of the rows that it was given.
pub(super) struct Ranking<'a> {
    device: &'a Device,
    truth: ArrayView2<'a, f64>,
    points: RandomPoints,
    pub draws: usize,
    pub seed: u64,
    pub rows: Vec<Row>,
}

/// What is kept of one test row.
#[derive(Clone, Default)]
pub(super) struct Row {
    pub pit: Vec<f64>,
    pub first_draw: Vec<f64>,
    pub tarp: f64,
    /// Meaningless without densities.
    pub hpd_level: f64,
}

impl<'a> Ranking<'a> {
    pub fn new(device: &'a Device, truth: ArrayView2<'a, f64>, draws: usize, seed: u64) -> Result<Self, Error> {
        check_length("test rows", truth.nrows().max(1), truth.nrows())?;
        check_length("draws for each test row", draws.max(1), draws)?;
        check_finite("theta", truth)?;
        Ok(Self { device, truth, points: RandomPoints::new(truth)?, draws, seed, rows: Vec::new() })
    }

    /// The next block `[rows x draws x parameters]`, with the log-densities of the truths, `[all rows]`, and of the
    /// block's draws, `[rows x draws]` flat.
    pub fn add(
        &mut self,
        block: ArrayView3<'_, f64>,
        log_prob: Option<ArrayView1<'_, f64>>,
        of_draws: Option<Array1<f64>>,
    ) {
        let (first, mut rows) = (self.rows.len(), vec![Row::default(); block.dim().0]);
        let own = &*self;
        self.device.pool().run_over(&mut rows, |i, row| {
            let mut rng = Philox::new(own.seed, (first + i) as u64);
            *row = own.row(block.index_axis(Axis(0), i), first + i, &mut rng);
            if let (Some(log_prob), Some(of_draws)) = (log_prob, &of_draws) {
                let densities = of_draws.slice(ndarray::s![i * own.draws..(i + 1) * own.draws]);
                let (higher, equal) = compare(densities.iter().map(|q| -q), -log_prob[first + i]);
                row.hpd_level = randomised_rank(higher, equal, own.draws, rng.random());
            }
        });
        self.rows.append(&mut rows);
    }

    fn row(&self, draws: ArrayView2<'_, f64>, row: usize, rng: &mut Philox) -> Row {
        let truth = self.truth.row(row);
        let mut rank = |(below, equal)| randomised_rank(below, equal, self.draws, rng.random());
        let columns = draws.columns().into_iter().zip(truth);
        let pit = columns.map(|(column, &t)| rank(compare(column.iter().copied(), t))).collect();
        let (closer, equal) = self.points.rank(draws, truth, rng);
        let tarp = randomised_rank(closer, equal, self.draws, rng.random());
        Row { pit, first_draw: draws.row(0).to_vec(), tarp, hpd_level: 0.0 }
    }
}

/// How many values are below a number, and how many equal it.
fn compare(values: impl Iterator<Item = f64>, number: f64) -> (usize, usize) {
    values.fold((0, 0), |(below, equal), v| (below + usize::from(v < number), equal + usize::from(v == number)))
}
