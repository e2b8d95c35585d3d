//! Simulations made ready for training.

use ndarray::{Array2, ArrayView2};

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::models::Problem;
use crate::real::Real;
use crate::rng::{mix, permutation};
use crate::sbi::{DataSummary, Standardise, Support};
use crate::train::Training;

/// What happens to simulations that are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// The first one is an error.
    #[default]
    Error,
    /// They are left out, and counted in [`Dataset::dropped`]. The posterior is then the one given that the
    /// simulation succeeds.
    Drop,
}

/// Which rows are kept for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holdout {
    /// This fraction of the rows, chosen at random by this seed.
    Random(f64, u64),
    /// This fraction of the rows, the last ones: for tables whose neighbouring rows are related.
    Last(f64),
}

impl Default for Holdout {
    fn default() -> Self {
        Self::Random(0.1, 0)
    }
}

/// How a table becomes a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DatasetOptions {
    /// Rows kept for validation.
    pub holdout: Holdout,
    /// What happens to rows that are not finite.
    pub non_finite: NonFinite,
}

/// The way from the units of a problem to learned coordinates.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Scales {
    /// θ to the reals.
    pub(crate) support: Support,
    /// These, standardised.
    pub(crate) theta: Standardise,
    /// x, standardised.
    pub(crate) x: Standardise,
}

#[cfg(feature = "weights")]
impl Scales {
    /// `Ok` if the parts fit together, which those of a file may not.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_length("scales of theta (the support's parameters)", self.support.dim(), self.theta.width())?;
        self.theta.check().and(self.x.check())
    }
}

/// Simulations in the coordinates in which densities are learned.
///
/// Parameters are carried to the reals by the bijections of their support. Then both tables are standardised, column by
/// column, on median and interquartile range; constant columns and heavy tails survive. All statistics come from all
/// the training rows and from nothing else.
#[derive(Clone, Debug)]
pub struct Dataset<T = f32> {
    pub(super) scales: Scales,
    theta: Vec<T>,
    x: Vec<T>,
    training: Vec<u32>,
    validation: Vec<u32>,
    dropped: usize,
}

impl<T: Real> Dataset<T> {
    /// From parameters `[rows x parameters]` with their support, and observations `[rows x features]`.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in length, a width is 0, or fewer than two rows are left to split;
    /// [`Error::NonFinite`] if the options ask for it; [`Error::OutsideSupport`] for the first parameter outside its
    /// support; [`Error::Parameter`] for a holdout fraction outside (0, 1).
    pub fn new(
        support: &Support,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        options: DatasetOptions,
    ) -> Result<Self, Error> {
        check_length("x columns", x.ncols().max(1), x.ncols())?;
        Self::of_any_width(support, theta, x, options)
    }

    /// From a table of θ alone, `[rows x parameters]`: a data set for an unconditional density, whose observations
    /// have no feature.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn unconditional(
        support: &Support,
        theta: ArrayView2<'_, f64>,
        options: DatasetOptions,
    ) -> Result<Self, Error> {
        Self::of_any_width(support, theta, Array2::zeros((theta.nrows(), 0)).view(), options)
    }

    fn of_any_width(
        support: &Support,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        options: DatasetOptions,
    ) -> Result<Self, Error> {
        check_length("theta columns (the support's parameters)", support.dim(), theta.ncols())?;
        check_length("x rows (one for each row of theta)", theta.nrows(), x.nrows())?;
        let rows = finite_rows(theta, x, options.non_finite)?;
        let dropped = theta.nrows() - rows.len();
        let (training, validation) = split(rows.len(), options.holdout)?;

        let dim = support.dim();
        let mut reals = vec![0.0; rows.len() * dim];
        for (&r, u) in rows.iter().zip(reals.chunks_exact_mut(dim)) {
            support.unconstrain_row(r, &theta.row(r).to_vec(), u)?;
        }
        let theta_scale = Standardise::fit(&training, dim, |i, j| reals[i * dim + j])?;
        let x_scale = Standardise::fit(&training, x.ncols(), |i, j| x[(rows[i], j)])?;
        let theta = reals.iter().enumerate().map(|(i, &u)| T::from_f64(theta_scale.forward(i % dim, u))).collect();
        let x = rows
            .iter()
            .flat_map(|&r| x.row(r).to_vec().into_iter().enumerate())
            .map(|(j, v)| T::from_f64(x_scale.forward(j, v)))
            .collect();
        let scales = Scales { support: support.clone(), theta: theta_scale, x: x_scale };
        Ok(Self { scales, theta, x, training, validation, dropped })
    }

    /// Number of rows, for training and validation together.
    pub fn rows(&self) -> usize {
        self.training.len() + self.validation.len()
    }

    /// Number of rows that were left out because they were not finite.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// A number that another data set would hardly have: it depends on every bit of both tables in learned coordinates,
    /// which are of type T, on the way to these, and on the split.
    pub fn hash(&self) -> u64 {
        let tables = [&self.theta, &self.x].map(|table| mix(0, table.iter().map(|v| v.to_f64().to_bits())));
        let scales = [&self.scales.theta, &self.scales.x].map(Standardise::hash);
        let rows = [&self.training, &self.validation].map(|rows| mix(0, rows.iter().map(|&r| r.into())));
        mix(T::SIGNIFICAND_BITS.into(), tables.into_iter().chain(scales).chain(rows))
    }

    pub(super) fn summary(&self) -> DataSummary {
        DataSummary { rows: self.rows(), dropped: self.dropped, hash: self.hash() }
    }

    /// Number of features of an observation.
    pub fn features(&self) -> usize {
        self.scales.x.width()
    }

    /// The support of the parameters.
    pub fn support(&self) -> &Support {
        &self.scales.support
    }

    /// (θ, x) in learned coordinates.
    pub(crate) fn tables(&self) -> [&[T]; 2] {
        [&self.theta, &self.x]
    }

    /// What a family is given to train on.
    pub(crate) fn problem<'a>(&'a self, device: &'a Device, training: &'a Training, seed: u64) -> Problem<'a, T> {
        let [theta, x] = self.tables();
        let (dim, context) = (self.scales.support.dim(), self.features());
        let (training_rows, validation_rows) = (&self.training, &self.validation);
        Problem { device, theta, dim, x, context, training_rows, validation_rows, training, seed, checkpoints: None }
    }
}

/// The rows in which everything is finite.
fn finite_rows(theta: ArrayView2<'_, f64>, x: ArrayView2<'_, f64>, policy: NonFinite) -> Result<Vec<usize>, Error> {
    let mut rows = Vec::with_capacity(theta.nrows());
    for row in 0..theta.nrows() {
        let bad = [("theta", theta), ("x", x)]
            .into_iter()
            .find_map(|(what, table)| Some((what, table.row(row).iter().position(|v| !v.is_finite())?)));
        match (bad, policy) {
            (None, _) => rows.push(row),
            (Some(_), NonFinite::Drop) => {}
            (Some((what, column)), NonFinite::Error) => {
                return Err(Error::NonFinite { what, row, column });
            }
        }
    }
    Ok(rows)
}

/// (training rows, validation rows), neither of them empty.
fn split(rows: usize, holdout: Holdout) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let (Holdout::Random(fraction, _) | Holdout::Last(fraction)) = holdout;
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::parameter("holdout", format!("the fraction {fraction} must lie between 0 and 1")));
    }
    check_length("finite simulations (one to train on, one to validate on)", rows.max(2), rows)?;
    if u32::try_from(rows).is_err() {
        return Err(Error::parameter("rows", format!("{rows} simulations; at most {} are possible", u32::MAX)));
    }
    let held = ((rows as f64 * fraction).round() as usize).clamp(1, rows - 1);
    let mut order = match holdout {
        Holdout::Random(_, seed) => permutation(rows as u32, seed, 0),
        Holdout::Last(_) => (0..rows as u32).collect(),
    };
    let mut validation = order.split_off(rows - held);
    order.sort_unstable();
    validation.sort_unstable();
    Ok((order, validation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    fn support() -> Support {
        Support::new().interval("a", 0.0, 1.0).real("b").build().unwrap()
    }

    /// 1000 rows whose columns drift, so that any part of them has statistics of its own.
    fn tables() -> (Array2<f64>, Array2<f64>) {
        let theta = Array2::from_shape_fn((1000, 2), |(i, j)| (0.5 + i as f64) / 1001.0 + j as f64);
        let x = Array2::from_shape_fn((1000, 3), |(i, j)| (i * i) as f64 * (1.0 + j as f64) + ((i * 37) % 11) as f64);
        (theta, x)
    }

    fn dataset(theta: &Array2<f64>, x: &Array2<f64>, holdout: Holdout) -> Dataset {
        let options = DatasetOptions { holdout, ..DatasetOptions::default() };
        Dataset::new(&support(), theta.view(), x.view(), options).unwrap()
    }

    #[test]
    fn statistics_come_from_all_training_rows_and_from_nothing_else() {
        let (theta, x) = tables();
        let whole = dataset(&theta, &x, Holdout::Last(0.2));
        assert_eq!((whole.training.len(), whole.validation.len()), (800, 200));

        let (mut other_theta, mut other_x) = (theta.clone(), x.clone());
        other_theta.slice_mut(s![800.., 1]).fill(1e6);
        other_x.slice_mut(s![800.., ..]).fill(-1e6);
        let other = dataset(&other_theta, &other_x, Holdout::Last(0.2));
        assert_eq!(whole.scales.x, other.scales.x, "validation rows have no say");
        assert_eq!(whole.scales.theta, other.scales.theta);

        for part in [s![..256, ..], s![..790, ..], s![10.., ..]] {
            let fewer = dataset(&theta.slice(part).to_owned(), &x.slice(part).to_owned(), Holdout::Last(0.2));
            assert_ne!(whole.scales.x, fewer.scales.x, "every training row has its say");
        }
    }

    #[test]
    fn training_columns_come_out_centred_and_scaled() {
        let (theta, x) = tables();
        let data = dataset(&theta, &x, Holdout::Random(0.1, 7));
        for (table, width) in data.tables().into_iter().zip([2, 3]) {
            for j in 0..width {
                let mut column: Vec<f32> = data.training.iter().map(|&r| table[r as usize * width + j]).collect();
                column.sort_by(f32::total_cmp);
                let quantile = |q: usize| column[q * (column.len() - 1) / 4];
                assert!(quantile(2).abs() < 1e-6 && (quantile(3) - quantile(1) - 1.349).abs() < 1e-3, "column {j}");
            }
        }
    }

    #[test]
    fn a_random_split_is_a_partition_that_its_seed_decides() {
        let (theta, x) = tables();
        let split = |seed| {
            let data = dataset(&theta, &x, Holdout::Random(0.1, seed));
            let mut all: Vec<u32> = data.training.iter().chain(&data.validation).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
            assert_eq!(data.validation.len(), 100);
            data.validation
        };
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }
}
