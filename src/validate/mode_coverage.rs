//! Does a generator leave something out? Coverage and density, for samplers that have no density of their own.
//!
//! Source: Naeem, Oh, Uh, Choi and Yoo, *Reliable fidelity and diversity metrics for generative models* (2020).

use ndarray::ArrayView2;

use super::finding::{Departure, Estimate, Finding, Verdict};
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::math::normal_cdf;
use crate::rng::permutation;
use crate::sbi::Standardise;

/// How a generated sample lies among the real one.
///
/// Around each real row lies a ball that reaches to its k-th nearest real neighbour. A mode that the generator dropped
/// shows as real rows whose balls hold no generated row.
///
/// ```
/// use retrodict::{Device, tasks::Target, validate::ModeCoverage};
/// let (real, generated) = (Target::EightGaussians.sample(800, 1), Target::EightGaussians.sample(800, 2));
/// let one_mode = generated.select(ndarray::Axis(0), &[7; 800]);
/// let device = Device::cpu();
/// assert!(!ModeCoverage::new(&device, real.view(), generated.view(), 5)?.is_incomplete());
/// assert!(ModeCoverage::new(&device, real.view(), one_mode.view(), 5)?.is_incomplete());
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModeCoverage {
    /// Fraction of the real rows whose ball holds at least one generated row.
    pub coverage: f64,
    /// What the coverage is on average if both samples come from one distribution; see [`expected_coverage`].
    pub expected: f64,
    /// Standard deviation of the coverage in that case.
    pub error: f64,
    /// Mean number of balls in which a generated row lies, over k: 1 on average if both samples come from one
    /// distribution, less if generated rows lie where there are no real ones, a little more if they keep to the middle.
    pub density: f64,
    /// The real rows that are not covered, in rising order.
    pub uncovered: Vec<usize>,
    rows: usize,
}

/// How often labels are exchanged to find the coverage's standard deviation.
const EXCHANGES: u64 = 200;

/// Standard deviations below the expectation at which something is called missing: chance does it about once in 30 000 times.
const SIGMAS: f64 = 4.0;

impl ModeCoverage {
    /// Compares `generated` with `real`, `[rows x columns]` each, with balls that reach to the k-th neighbour.
    ///
    /// Distances are Euclidean, in columns that are standardised, robustly, by the real rows. Takes a time proportional
    /// to columns x (all rows)². The authors use k = 5, for which 97 % are covered between samples of equal size.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in columns or one has no rows, [`Error::NonFinite`] for the first number
    /// that is not finite, [`Error::Parameter`] unless 1 <= k < real rows.
    pub fn new(
        device: &Device,
        real: ArrayView2<'_, f64>,
        generated: ArrayView2<'_, f64>,
        k: usize,
    ) -> Result<Self, Error> {
        check_length("columns of the generated table", real.ncols().max(1), generated.ncols())?;
        check_length("generated rows", generated.nrows().max(1), generated.nrows())?;
        check_finite("real", real)?;
        check_finite("generated", generated)?;
        let rows = real.nrows();
        if !(1..rows).contains(&k) {
            let why = format!("{k} must lie between 1 and one less than the {rows} real rows");
            return Err(Error::parameter("k", why));
        }
        let all = Table::new(real, generated)?;
        let neighbourhoods = all.neighbourhoods(device, k);
        let real_rows = &neighbourhoods[..rows];
        let uncovered: Vec<usize> = (0..rows).filter(|&i| real_rows[i].generated == 0).collect();
        let inside: usize = real_rows.iter().map(|row| row.generated).sum();
        Ok(Self {
            coverage: 1.0 - uncovered.len() as f64 / rows as f64,
            expected: expected_coverage(rows, generated.nrows(), k),
            error: deviation_by_chance(&neighbourhoods, rows),
            density: inside as f64 / (k * generated.nrows()) as f64,
            uncovered,
            rows,
        })
    }

    /// Whether the coverage is lower than chance explains, by four standard deviations.
    pub fn is_incomplete(&self) -> bool {
        // At least one row's worth, where chance hardly ever leaves a row uncovered.
        let error = self.error.max(1.0 / self.rows as f64);
        self.coverage < self.expected - SIGMAS * error
    }

    /// The coverage with its verdict.
    pub fn finding(&self) -> Finding {
        let z = (self.coverage - self.expected) / self.error.max(1.0 / self.rows as f64);
        let p_value = normal_cdf(z);
        let verdict = Verdict::judge(p_value, self.is_incomplete());
        Finding {
            diagnostic: "mode coverage",
            subject: String::new(),
            value: Estimate { value: self.coverage, error: self.error },
            expected: Some(self.expected),
            p_value: Some(p_value),
            verdict,
            departure: (verdict != Verdict::Sound).then_some(Departure::TooNarrow),
            sentence: self.verdict(),
        }
    }

    /// What was found, in a sentence.
    pub fn verdict(&self) -> String {
        let percent = |fraction: f64| 100.0 * fraction;
        let answer = if self.is_incomplete() { "Modes or tails are missing" } else { "Nothing is missing" };
        format!(
            "{answer}: {:.1} % of the {} real rows have a generated row near them, where samples of one distribution \
             would give {:.1} ± {:.1} %; {} rows have none, {:.0} by chance. Density {:.2}, expected 1.",
            percent(self.coverage),
            self.rows,
            percent(self.expected),
            percent(self.error),
            self.uncovered.len(),
            (1.0 - self.expected) * self.rows as f64,
            self.density,
        )
    }
}

/// Mean coverage of N `real` rows by M `generated` ones if both samples come from one distribution without ties:
/// $1 - \frac{(N-1) \cdots (N-k)}{(M+N-1) \cdots (M+N-k)}$.
///
/// A ball is empty if and only if the k nearest of all other rows, of which any are as probable as any, are real. (1
/// where there are not k other real rows.)
pub fn expected_coverage(real: usize, generated: usize, k: usize) -> f64 {
    let factor = |j: usize| real.saturating_sub(j) as f64 / (generated + real.saturating_sub(j)).max(1) as f64;
    1.0 - (1..=k).map(factor).product::<f64>()
}

/// What lies around one row.
#[derive(Clone, Default)]
struct Neighbourhood {
    /// The k nearest of all other rows, real or generated.
    nearest: Vec<usize>,
    /// Generated rows no farther than the k-th nearest other real row.
    generated: usize,
}

/// Real rows, then generated ones, standardised.
struct Table {
    columns: usize,
    real: usize,
    rows: Vec<f32>,
}

impl Table {
    fn new(real: ArrayView2<'_, f64>, generated: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let indices: Vec<u32> = (0..real.nrows() as u32).collect();
        let scale = Standardise::fit(&indices, real.ncols(), |i, j| real[[i, j]])?;
        let cells = real.indexed_iter().chain(generated.indexed_iter());
        let rows = cells.map(|((_, j), &value)| scale.forward(j, value) as f32).collect();
        Ok(Self { columns: real.ncols(), real: real.nrows(), rows })
    }

    fn len(&self) -> usize {
        self.rows.len() / self.columns
    }

    fn neighbourhoods(&self, device: &Device, k: usize) -> Vec<Neighbourhood> {
        let mut found = vec![Neighbourhood::default(); self.len()];
        let mut blocks: Vec<_> = found.chunks_mut(64).collect();
        device.pool().run_over(&mut blocks, |b, block| {
            let mut distances = vec![0.0; self.len()];
            for (i, neighbourhood) in block.iter_mut().enumerate() {
                self.distances(64 * b + i, &mut distances);
                *neighbourhood = self.neighbourhood(&distances, k);
            }
        });
        found
    }

    /// Squared distances of row i to all rows; infinite to itself, which is not its own neighbour.
    fn distances(&self, i: usize, distances: &mut [f32]) {
        let here = &self.rows[i * self.columns..][..self.columns];
        for (distance, there) in distances.iter_mut().zip(self.rows.chunks_exact(self.columns)) {
            *distance = here.iter().zip(there).map(|(a, b)| (a - b) * (a - b)).sum();
        }
        distances[i] = f32::INFINITY;
    }

    fn neighbourhood(&self, distances: &[f32], k: usize) -> Neighbourhood {
        let (real, generated) = distances.split_at(self.real);
        let radius = nearest(real, k).last().map_or(0.0, |&i| real[i]);
        let generated = generated.iter().filter(|&&distance| distance <= radius).count();
        Neighbourhood { nearest: nearest(distances, k), generated }
    }
}

/// Indices of the k smallest, the smallest first.
fn nearest(distances: &[f32], k: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(k + 1);
    for (i, &distance) in distances.iter().enumerate() {
        if best.len() < k || distance < distances[best[k - 1]] {
            best.insert(best.partition_point(|&j| distances[j] <= distance), i);
            best.truncate(k);
        }
    }
    best
}

/// Standard deviation of the coverage if it is chance which rows are called real.
///
/// Balls overlap, so that it is larger than a binomial one. A real row is covered if and only if one of its k nearest
/// among all rows is generated: with those at hand, another labelling costs next to nothing.
fn deviation_by_chance(neighbourhoods: &[Neighbourhood], real: usize) -> f64 {
    let coverage = |exchange: u64| {
        let order = permutation(neighbourhoods.len() as u32, 0, exchange);
        let covered = |row: &Neighbourhood| row.nearest.iter().any(|&i| order[i] as usize >= real);
        let rows = neighbourhoods.iter().zip(&order).filter(|&(_, &label)| (label as usize) < real);
        rows.filter(|(row, _)| covered(row)).count() as f64 / real as f64
    };
    let coverages: Vec<f64> = (0..EXCHANGES).map(coverage).collect();
    let mean = coverages.iter().sum::<f64>() / EXCHANGES as f64;
    (coverages.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (EXCHANGES - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Target;
    use ndarray::{Array2, Axis, array};

    fn compare(real: &Array2<f64>, generated: &Array2<f64>, k: usize) -> ModeCoverage {
        ModeCoverage::new(&Device::cpu(), real.view(), generated.view(), k).unwrap()
    }

    #[test]
    fn coverage_and_density_of_a_line_of_points() {
        // Balls with k = 1: [-1, 1], [0, 2], [0, 4] (its nearest is 2 away), [1, 7].
        let real = array![[0.0], [1.0], [2.0], [4.0]];
        let generated = array![[-0.5], [1.5], [6.5]];
        let found = compare(&real, &generated, 1);
        // 0: {-0.5}; 1 reaches 0 and 2: {1.5}; 2 reaches 1 and 3: {1.5}; 4 reaches 2 and 6: {}.
        assert_eq!((found.coverage, &*found.uncovered), (0.75, &[3][..]));
        assert_eq!(found.density, 3.0 / 3.0);
    }

    #[test]
    fn the_expectation_and_its_error_are_those_of_many_repeats() {
        for (target, rows, generated, k) in [(Target::Rings, 150, 150, 3), (Target::Mixture10, 100, 60, 4)] {
            let repeats = 300;
            let pairs = (0..repeats).map(|r| (target.sample(rows, 2 * r), target.sample(generated, 2 * r + 1)));
            let found: Vec<ModeCoverage> = pairs.map(|(a, b)| compare(&a, &b, k)).collect();
            let mean = |f: &dyn Fn(&ModeCoverage) -> f64| found.iter().map(f).sum::<f64>() / repeats as f64;
            let (coverage, error) = (mean(&|c| c.coverage), mean(&|c| c.error));
            let spread = mean(&|c| (c.coverage - coverage).powi(2)).sqrt();
            let expected = found[0].expected;
            assert!((coverage - expected).abs() < 4.0 * error / (repeats as f64).sqrt(), "{coverage}, not {expected}");
            assert!((spread / error - 1.0).abs() < 0.2, "the spread is {spread}, not {error}");
            assert!((mean(&|c| c.density) - 1.0).abs() < 0.03);
        }
        // The authors' rule of thumb for large samples: 1 - 2^-k.
        assert!((expected_coverage(100_000, 100_000, 5) - (1.0 - 0.5_f64.powi(5))).abs() < 1e-4);
        assert_eq!(expected_coverage(3, 1, 1), 1.0 - 2.0 / 3.0);
        assert_eq!(expected_coverage(0, 0, 1), 1.0);
    }

    #[test]
    fn samples_of_one_distribution_miss_nothing() {
        for target in Target::ALL {
            let found = compare(&target.sample(1000, 1), &target.sample(800, 2), 5);
            let sigmas = (found.coverage - found.expected) / found.error;
            assert!(sigmas.abs() < 3.5 && !found.is_incomplete(), "{}: {sigmas}", target.name());
            assert!(found.finding().verdict < Verdict::Wrong);
            assert!(found.verdict().starts_with("Nothing is missing: 9"), "{}", found.verdict());
        }
    }

    #[test]
    fn a_dropped_mode_is_found_and_named() {
        let (real, all) = (Target::EightGaussians.sample(1600, 3), Target::EightGaussians.sample(1600, 4));
        let (lost, sd) = (&Target::EightGaussians.modes()[3].mean, 0.14);
        let in_it = |row: ndarray::ArrayView1<'_, f64>| (row[0] - lost[0]).hypot(row[1] - lost[1]) < 4.0 * sd;
        let kept: Vec<usize> = (0..1600).filter(|&i| !in_it(all.row(i))).collect();
        let found = compare(&real, &all.select(Axis(0), &kept), 5);
        assert!(found.is_incomplete(), "{}", found.verdict());
        assert_eq!(found.finding().verdict, Verdict::Wrong);
        assert!(found.verdict().starts_with("Modes or tails are missing: 8"), "{}", found.verdict());
        let (inside, outside): (Vec<usize>, Vec<usize>) = found.uncovered.iter().partition(|&&i| in_it(real.row(i)));
        assert_eq!(inside.len(), real.rows().into_iter().filter(|row| in_it(*row)).count());
        // Elsewhere no more than chance leaves out.
        assert!(outside.len() < 60, "{} of 1400", outside.len());
    }

    #[test]
    fn a_generator_that_is_too_narrow_is_found() {
        let (target, n) = (Target::EightGaussians, 1000);
        let mut generated = target.sample(n, 6);
        for mut row in generated.rows_mut() {
            let distance = |mean: &Vec<f64>| (mean[0] - row[0]).hypot(mean[1] - row[1]);
            let means = target.modes().into_iter().map(|mode| mode.mean);
            let mean = means.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
            row.iter_mut().zip(mean).for_each(|(x, mean)| *x = mean + 0.5 * (*x - mean));
        }
        let found = compare(&target.sample(n, 5), &generated, 5);
        // All eight modes are there, but not their tails.
        assert!(found.is_incomplete() && found.density > 1.0, "{}", found.verdict());
    }

    #[test]
    fn rows_where_there_are_no_real_ones_lower_the_density_alone() {
        let (real, mut generated) = (Target::Rings.sample(600, 9), Target::Rings.sample(1200, 10));
        generated.slice_mut(ndarray::s![600.., ..]).mapv_inplace(|x| x + 100.0);
        let found = compare(&real, &generated, 5);
        assert!(found.coverage > 0.94 && (found.density - 0.5).abs() < 0.05, "{}", found.verdict());
    }

    #[test]
    fn threads_and_odd_tables_change_nothing() {
        let (real, generated) = (Target::TwoMoons.sample(131, 1), Target::TwoMoons.sample(67, 2));
        let run = |threads| ModeCoverage::new(&Device::cpu_with_threads(threads), real.view(), generated.view(), 3);
        assert_eq!(run(1), run(3));
        // Constant tables: everything is everywhere.
        let found = compare(&Array2::ones((9, 2)), &Array2::ones((1, 2)), 8);
        assert_eq!((found.coverage, found.is_incomplete()), (1.0, false));
        assert_eq!(nearest(&[3.0, 1.0, 2.0, 1.0], 3), [1, 3, 2]);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let good = Target::Rings.sample(10, 1);
        let device = Device::cpu_with_threads(1);
        let new = |generated: &Array2<f64>, k| ModeCoverage::new(&device, good.view(), generated.view(), k);
        for k in [0, 10, 11] {
            assert!(matches!(new(&good, k), Err(Error::Parameter { name, .. }) if name == "k"));
        }
        assert!(matches!(new(&Array2::zeros((5, 3)), 2), Err(Error::Length { expected: 2, found: 3, .. })));
        assert!(matches!(new(&Array2::zeros((0, 2)), 2), Err(Error::Length { what: "generated rows", .. })));
        let bad = array![[0.0, 0.0], [f64::INFINITY, 0.0]];
        assert_eq!(new(&bad, 2), Err(Error::NonFinite { what: "generated", row: 1, column: 0 }));
        assert!(ModeCoverage::new(&device, Array2::zeros((0, 2)).view(), good.view(), 1).is_err());
    }
}
