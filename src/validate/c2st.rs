//! Classifier two-sample test.

use std::f64::consts::TAU;

use ndarray::ArrayView2;

use super::classifier::{Classifier, Labelled, Settings, rows_of};
use super::finding::{Departure, Estimate, Evidence, Finding};
use super::samples::check_samples;
use crate::device::Device;
use crate::error::Error;
use crate::math::normal_cdf;
use crate::optim::Adam;
use crate::progress::Cancel;
use crate::rng::{mix, permutation};
use crate::sbi::Standardise;
use crate::train::Training;

/// Settings of a classifier two-sample test (Lopez-Paz & Oquab 2017): can a network tell two samples apart?
///
/// Its accuracy on rows it has not seen is 1/2 if both come from one distribution, and 1 if they have nothing in common.
/// For the best of all classifiers it would be (1 + TV) / 2 with TV the total variation distance; a trained one
/// stays below, so the test errs on the side of "alike". Networks are slow to learn fine structure (Rahaman et al. 2019),
/// so beside each column this one is given [waves](C2st::WAVES) of it: without, it takes four thin rings and a Gaussian
/// for nearly the same.
///
/// ```
/// use retrodict::{Device, tasks::Target, validate::C2st};
/// let (a, b) = (Target::TwoMoons.sample(400, 1), Target::EightGaussians.sample(300, 2));
/// let accuracy = C2st::default().accuracy(&Device::cpu(), a.view(), b.view())?;
/// assert!(accuracy.value > 0.8 && accuracy.error < 0.03);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct C2st {
    /// Widths of the classifier's hidden layers.
    pub hidden: Vec<usize>,
    /// How it is trained; early stopping looks at an eighth of the training rows.
    pub training: Training,
    /// Each row is held out once, in one of this many folds.
    pub folds: usize,
    /// Seed of the folds and of the classifiers' initial weights.
    pub seed: u64,
}

impl Default for C2st {
    fn default() -> Self {
        let adam = Adam::new(3e-3);
        let training = Training { batch: 128, max_epochs: 100, patience: 10, adam, ..Training::default() };
        Self { hidden: vec![64, 64], training, folds: 5, seed: 0 }
    }
}

/// Fewer rows in a sample say nothing.
const LEAST_ROWS: usize = 20;

impl C2st {
    /// Frequencies of the sines and cosines of each standardised column that the classifier is given beside it, in
    /// periods for each standard deviation.
    pub const WAVES: [f64; 3] = [0.25, 0.5, 1.0];

    /// Held-out accuracy of telling the rows of `a` from those of `b`, `[rows x columns]` each, with its binomial
    /// standard error.
    ///
    /// Columns are standardised together and robustly, with heavy tails compressed: a bijection, which changes nothing
    /// about what could be told apart. Of the longer table as many rows are used as the shorter one has.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in columns or have none, [`Error::NonFinite`] for the first number that is
    /// not finite, [`Error::Parameter`] for fewer than 20 rows or impossible settings, and [`Error::Training`] if a
    /// training diverges.
    pub fn accuracy(&self, device: &Device, a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<Estimate, Error> {
        check_samples(a, b, LEAST_ROWS)?;
        let n = a.nrows().min(b.nrows());
        if !(2..=n).contains(&self.folds) {
            return Err(Error::parameter("folds", format!("{} must lie between 2 and the {n} rows", self.folds)));
        }
        let pairs = Pairs::new(a, b, n, self.seed)?;
        let right = (0..self.folds).try_fold(0, |sum, fold| Ok::<_, Error>(sum + self.right(device, &pairs, fold)?))?;
        let (rows, value) = (2.0 * n as f64, right as f64 / (2.0 * n as f64));
        Ok(Estimate { value, error: (value * (1.0 - value) / rows).sqrt() })
    }

    /// Trains on all folds but one; how many rows of that one are told right.
    fn right(&self, device: &Device, pairs: &Pairs, fold: usize) -> Result<usize, Error> {
        let held_out = |pair: &u32| *pair as usize % self.folds == fold;
        let (test, rest): (Vec<u32>, Vec<u32>) = (0..pairs.count as u32).partition(held_out);
        let (validation, training) = rest.split_at(rest.len().div_ceil(8));
        let [test, validation, training] = [&test, validation, training].map(rows_of);
        let (seed, cancel) = (mix(self.seed, [fold as u64]), &Cancel::default());
        let settings = Settings { hidden: &self.hidden, training: &self.training, seed, cancel };
        let mut classifier = Classifier::train(device, &settings, &pairs.rows, &training, &validation)?;
        let logits = classifier.logits(&pairs.rows.table, &test)?;
        // A logit of exactly 0 counts as a: right for one row of a pair, wrong for the other.
        let right = |&(&logit, &row): &(&f32, &u32)| (logit >= 0.0) == (pairs.rows.label[row as usize] > 0.0);
        Ok(logits.iter().zip(&test).filter(right).count())
    }

    /// What an [`accuracy`](Self::accuracy) means.
    pub fn finding(accuracy: Estimate) -> Finding {
        let Estimate { value, error } = accuracy;
        // A classifier may be worse than a coin by chance alone.
        let z = if error > 0.0 { (value - 0.5) / error } else { f64::INFINITY * (value - 0.5) };
        let p_value = if value > 0.5 { normal_cdf(-z) } else { 1.0 };
        let (matters, departure) = (value >= 0.6, Departure::Other);
        let found = format!("a classifier is right in {:.1} ± {:.1} % of cases", 100.0 * value, 100.0 * error);
        let evidence = Evidence { value: accuracy, expected: 0.5, p_value, matters, departure };
        let (alike, differ) = (format!("The samples are alike: {found}"), format!("The samples differ: {found}"));
        evidence.finding("C2ST", "", &alike, &differ)
    }
}

/// Both samples in one table, in pairs: row 2 i is of a, row 2 i + 1 of b.
///
/// Folds are made of pairs. With unequal numbers in a fold, a classifier that has learned nothing would guess what was
/// more frequent in the others, and come out below one half.
struct Pairs {
    count: usize,
    rows: Labelled,
}

impl Pairs {
    /// `n` random rows of each, standardised together.
    fn new(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, n: usize, seed: u64) -> Result<Self, Error> {
        let orders = [a, b].map(|sample| sample.nrows() as u32).into_iter().zip(0..);
        let orders: Vec<Vec<u32>> = orders.map(|(rows, which)| permutation(rows, seed, which)).collect();
        let value = |row: usize, j: usize| [a, b][row % 2][[orders[row % 2][row / 2] as usize, j]];
        let (rows, columns): (Vec<u32>, _) = ((0..2 * n as u32).collect(), a.ncols());
        let scale = Standardise::fit(&rows, columns, value)?;
        let cells = (0..2 * n).flat_map(|row| (0..columns).map(move |j| (row, j)));
        let table = cells.flat_map(|(row, j)| with_waves(scale.forward(j, value(row, j)))).collect();
        let rows = Labelled { columns: FEATURES * columns, table, label: [1.0, -1.0].repeat(n) };
        Ok(Self { count: n, rows })
    }
}

/// What becomes of each column.
const FEATURES: usize = 1 + 2 * C2st::WAVES.len();

/// A number with its sines and cosines.
fn with_waves(v: f64) -> [f32; FEATURES] {
    let mut features = [v as f32; FEATURES];
    for (pair, f) in features[1..].chunks_exact_mut(2).zip(C2st::WAVES) {
        let (sin, cos) = (TAU * f * v).sin_cos();
        pair.copy_from_slice(&[sin as f32, cos as f32]);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Target;
    use crate::validate::Verdict;
    use ndarray::{Array2, Axis};

    fn normals(rows: usize, columns: usize, shift: f64, seed: u64) -> Array2<f64> {
        crate::validate::tests::normals(rows, columns, seed) + shift
    }

    fn accuracy(a: &Array2<f64>, b: &Array2<f64>) -> Result<Estimate, Error> {
        C2st::default().accuracy(&Device::cpu(), a.view(), b.view())
    }

    #[test]
    fn samples_of_one_distribution_cannot_be_told_apart() {
        let found = accuracy(&normals(1500, 3, 0.0, 1), &normals(2000, 3, 0.0, 2)).unwrap();
        assert!((found.value - 0.5).abs() < 3.0 * found.error, "{found:?}");
        assert!((found.error - 0.5 / 3000.0_f64.sqrt()).abs() < 1e-4);
        // Equal rows: nothing can be learned, and exactly half of all guesses are right.
        let same = accuracy(&Array2::ones((31, 2)), &Array2::ones((40, 2))).unwrap();
        assert_eq!(same.value, 0.5);
        assert_eq!(C2st::finding(same).verdict, Verdict::Sound);
    }

    #[test]
    fn shifted_normals_are_told_apart_as_well_as_can_be() {
        let found = accuracy(&normals(4000, 1, 0.0, 3), &normals(4000, 1, 1.0, 4)).unwrap();
        let bayes = normal_cdf(0.5);
        assert!((found.value - bayes).abs() < 3.0 * found.error, "{found:?}, not {bayes}");
        let finding = C2st::finding(found);
        assert_eq!(finding.verdict, Verdict::Wrong, "{finding}");
    }

    #[test]
    fn fine_structure_is_seen() {
        // Rings against a Gaussian of their mean and width: the best of all classifiers is right in 72 % of cases.
        let rings = Target::Rings.sample(2000, 1);
        let blob = normals(2000, 2, 0.0, 5) * &rings.std_axis(Axis(0), 0.0);
        let found = accuracy(&rings, &blob).unwrap();
        assert!((0.64..0.74).contains(&found.value), "{found:?}");
    }

    #[test]
    fn disjoint_samples_are_always_told_apart() {
        let found = accuracy(&normals(300, 2, 0.0, 5), &normals(200, 2, 20.0, 6)).unwrap();
        assert!(found.value > 0.99, "{found:?}");
        // Units do not matter, not even absurd ones.
        let found = accuracy(&(normals(300, 2, 0.0, 5) * 1e-200), &(normals(200, 2, 20.0, 6) * 1e-200)).unwrap();
        assert!(found.value > 0.99, "{found:?}");
    }

    #[test]
    fn the_seed_decides_and_threads_do_not() {
        let (a, b) = (normals(150, 2, 0.0, 7), normals(150, 2, 0.5, 8));
        let run = |seed, threads| {
            let device = Device::cpu_with_threads(threads);
            C2st { seed, ..C2st::default() }.accuracy(&device, a.view(), b.view()).unwrap()
        };
        assert_eq!(run(1, 1), run(1, 3));
        assert_ne!(run(1, 1), run(2, 1));
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let good = normals(30, 2, 0.0, 9);
        let columns = accuracy(&good, &normals(30, 3, 0.0, 9));
        assert_eq!(columns, Err(Error::Length { what: "columns of b", expected: 2, found: 3 }));
        assert!(accuracy(&Array2::zeros((30, 0)), &Array2::zeros((30, 0))).is_err());
        let mut bad = good.clone();
        bad[[4, 1]] = f64::NAN;
        assert_eq!(accuracy(&good, &bad), Err(Error::NonFinite { what: "b", row: 4, column: 1 }));
        let few = accuracy(&good, &normals(19, 2, 0.0, 9)).unwrap_err().to_string();
        assert_eq!(few, "parameter `rows`: 30 and 19; each sample needs at least 20");
        for folds in [0, 1, 31] {
            let test = C2st { folds, ..C2st::default() };
            assert!(test.accuracy(&Device::cpu_with_threads(1), good.view(), good.view()).is_err());
        }
    }
}
