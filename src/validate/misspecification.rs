//! Does an observation look like anything that was simulated? Asked before a posterior is believed.
//!
//! A network trained on simulations says something about any numbers; for an observation unlike all of them it means
//! nothing. Source: Schmitt, Bürkner, Köthe and Radev, *Detecting model misspecification in amortized Bayesian inference with
//! neural networks* (2023).

use ndarray::{ArrayView1, ArrayView2};

use super::cholesky::Cholesky;
use super::finding::{Departure, Estimate, Evidence, Finding, Verdict};
use super::samples::{Chance, distance2};
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::math::normal_quantile;
use crate::rng::permutation;
use crate::sbi::Standardise;

/// The cloud of simulations, against which observations are held.
///
/// One half of the simulations says where the cloud is, the other how far from it a simulation lies by chance. Features are
/// standardised, robustly; their correlations are those of the normal scores of their ranks, which outliers do not move.
/// Rows may as well be embeddings of the data: the cloud must then be given the embeddings of both.
///
/// ```
/// use retrodict::{Device, ndarray::array, tasks::Target, validate::{SimulatedCloud, Verdict}};
/// let cloud = SimulatedCloud::new(&Device::cpu(), Target::Rings.sample(1000, 1).view(), 0)?;
/// let inside = cloud.check(Target::Rings.sample(1, 2).row(0))?;
/// let outside = cloud.check(array![40.0, 0.0].view())?;
/// assert_eq!((inside.verdict(), outside.verdict()), (Verdict::Sound, Verdict::Wrong));
/// println!("{}", outside.findings()[0]); // which feature is how far off
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedCloud {
    scale: Standardise,
    /// Features that are the same in all simulations, and what they are there.
    constant: Vec<(usize, f64)>,
    correlation: Cholesky,
    /// Standardised rows that say where the cloud is.
    rows: Vec<Vec<f64>>,
    bandwidth2: f64,
    /// Mean of the kernel between different rows.
    within: f64,
    /// Mahalanobis distances and squared discrepancies of the other half.
    distances: Vec<f64>,
    discrepancies: Vec<f64>,
}

/// An observation against the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Misspecification {
    /// Mahalanobis distance from the cloud's centre, in standard deviations; the error is how it varies among simulations.
    pub distance: Estimate,
    /// Its mean among simulations.
    pub expected: f64,
    /// Probability that a simulation lies as far out.
    pub p_value: f64,
    /// MMD² between the observation and the cloud, with a Gaussian kernel narrow enough to see holes in the cloud. The error
    /// is how it varies among simulations.
    pub mmd2: Estimate,
    /// Its mean among simulations.
    pub mmd2_expected: f64,
    /// Probability that a simulation's is as large.
    pub mmd2_p_value: f64,
    /// The feature that is farthest out by itself.
    pub feature: usize,
    /// How far it is above the simulations' median, in robust standard deviations; compressed beyond ten.
    pub deviation: f64,
    /// Features that are the same in all simulations, and something else here.
    pub impossible: Vec<usize>,
}

/// Simulations that are used at most, half for each purpose.
const MOST_ROWS: usize = 4000;
/// Fewer say nothing.
const LEAST_ROWS: usize = 40;

impl SimulatedCloud {
    /// The cloud of `simulated`, `[rows x features]`, of which random ones are used if there are very many.
    ///
    /// # Errors
    /// [`Error::Length`] for no feature or fewer than 40 simulations, [`Error::NonFinite`] for the first number that is not
    /// finite.
    pub fn new(device: &Device, simulated: ArrayView2<'_, f64>, seed: u64) -> Result<Self, Error> {
        check_length("simulations", simulated.nrows().max(LEAST_ROWS), simulated.nrows())?;
        check_length("simulated features", simulated.ncols().max(1), simulated.ncols())?;
        check_finite("simulated", simulated)?;
        let mut order = permutation(simulated.nrows() as u32, seed, 0);
        order.truncate(MOST_ROWS);
        let (centre, others) = order.split_at(order.len() / 2);
        let scale = Standardise::fit(centre, simulated.ncols(), |i, j| simulated[[i, j]])?;
        let standardised = |&i: &u32| forward(&scale, simulated.row(i as usize));
        let rows: Vec<Vec<f64>> = centre.iter().map(standardised).collect();
        let constant = |(j, column): (usize, ArrayView1<'_, f64>)| {
            let first = column[0];
            column.iter().all(|&v| v == first).then_some((j, first))
        };
        let mut cloud = Self {
            constant: simulated.columns().into_iter().enumerate().filter_map(constant).collect(),
            correlation: correlation(&rows),
            bandwidth2: bandwidth2(&rows),
            within: 0.0,
            distances: Vec::new(),
            discrepancies: Vec::new(),
            scale: scale.clone(),
            rows,
        };
        let mut means: Vec<f64> = vec![0.0; cloud.rows.len()];
        let n = means.len() as f64;
        // The kernel of a row with itself is 1.
        device.pool().run_over(&mut means, |i, mean| *mean = (n * cloud.kernel_mean(&cloud.rows[i]) - 1.0) / (n - 1.0));
        cloud.within = means.iter().sum::<f64>() / n;
        let mut found: Vec<(f64, f64)> = vec![(0.0, 0.0); others.len()];
        device.pool().run_over(&mut found, |i, found| *found = cloud.measure(&standardised(&others[i])));
        (cloud.distances, cloud.discrepancies) = found.into_iter().unzip();
        Ok(cloud)
    }

    /// Is this observation one of the cloud's kind?
    ///
    /// # Errors
    /// [`Error::Length`] unless it has the simulations' features, [`Error::NonFinite`] for numbers that are not finite.
    pub fn check(&self, observed: ArrayView1<'_, f64>) -> Result<Misspecification, Error> {
        check_length("observed features", self.scale.width(), observed.len())?;
        check_finite("observed", observed.insert_axis(ndarray::Axis(0)))?;
        let z = forward(&self.scale, observed);
        let (distance, discrepancy) = self.measure(&z);
        let (far, apart) = (Chance::new(&self.distances, distance), Chance::new(&self.discrepancies, discrepancy));
        let feature = (0..z.len()).max_by(|&i, &j| z[i].abs().total_cmp(&z[j].abs())).unwrap_or(0);
        let impossible = self.constant.iter().filter(|&&(j, value)| observed[j] != value).map(|&(j, _)| j).collect();
        Ok(Misspecification {
            distance: Estimate { value: distance, error: far.deviation },
            expected: far.mean,
            p_value: far.p_value,
            mmd2: Estimate { value: discrepancy, error: apart.deviation },
            mmd2_expected: apart.mean,
            mmd2_p_value: apart.p_value,
            feature,
            deviation: z[feature],
            impossible,
        })
    }

    /// Mahalanobis distance and MMD² of a standardised row.
    fn measure(&self, z: &[f64]) -> (f64, f64) {
        let discrepancy = 1.0 + self.within - 2.0 * self.kernel_mean(z);
        (self.correlation.norm2(z).sqrt(), discrepancy)
    }

    fn kernel_mean(&self, z: &[f64]) -> f64 {
        let kernel = |row: &Vec<f64>| (-0.5 * distance2(row, z) / self.bandwidth2).exp();
        self.rows.iter().map(kernel).sum::<f64>() / self.rows.len() as f64
    }
}

impl Misspecification {
    /// The distance, the discrepancy, and what cannot be at all.
    pub fn findings(&self) -> Vec<Finding> {
        let warning = format!(
            "do not trust a posterior of it; its feature {} is farthest out, {:+.1} robust standard deviations from the \
             simulations' median",
            self.feature, self.deviation
        );
        let finding = |(diagnostic, what): (&'static str, &str), value: Estimate, expected, p_value| {
            let found = format!("{what} is {:.3}, {expected:.3} ± {:.3} for simulations", value.value, value.error);
            let evidence = Evidence { value, expected, p_value, matters: true, departure: Departure::Other };
            evidence.finding(
                diagnostic,
                "",
                &format!("The observation looks like a simulation: {found}"),
                &format!("The observation is unlike the simulations: {found}; {warning}"),
            )
        };
        let far = finding(("Mahalanobis", "its Mahalanobis distance"), self.distance, self.expected, self.p_value);
        let apart = finding(("prior-predictive MMD", "its MMD²"), self.mmd2, self.mmd2_expected, self.mmd2_p_value);
        [Some(far), Some(apart), self.impossible()].into_iter().flatten().collect()
    }

    fn impossible(&self) -> Option<Finding> {
        let first = self.impossible.first()?;
        let count = self.impossible.len();
        Some(Finding {
            diagnostic: "constant features",
            subject: String::new(),
            value: Estimate { value: count as f64, error: 0.0 },
            expected: Some(0.0),
            p_value: None,
            verdict: Verdict::Wrong,
            departure: Some(Departure::Other),
            sentence: format!(
                "The observation cannot have been simulated: {count} of its features, the first of them feature {first}, \
                 differ from a value that all simulations share."
            ),
        })
    }

    /// The worst of all verdicts.
    pub fn verdict(&self) -> Verdict {
        Verdict::worst(&self.findings())
    }
}

fn forward(scale: &Standardise, row: ArrayView1<'_, f64>) -> Vec<f64> {
    row.iter().enumerate().map(|(j, &v)| scale.forward(j, v)).collect()
}

/// Correlations of the normal scores of the columns' ranks, shrunk towards none as far as there are few rows for many
/// columns.
fn correlation(rows: &[Vec<f64>]) -> Cholesky {
    let (n, columns) = (rows.len(), rows[0].len());
    let scores: Vec<Vec<f64>> = (0..columns).map(|j| normal_scores(rows, j)).collect();
    let shrinkage = (columns as f64 / n as f64).clamp(1e-6, 1.0);
    Cholesky::new(columns, |i, j| {
        let covariance: f64 = scores[i].iter().zip(&scores[j]).map(|(a, b)| a * b).sum();
        if i == j { 1.0 } else { (1.0 - shrinkage) * covariance }
    })
}

/// Φ⁻¹ of the ranks of a column, as a vector of length one; 0 for a constant column.
fn normal_scores(rows: &[Vec<f64>], column: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&i, &j| rows[i][column].total_cmp(&rows[j][column]));
    let (mut scores, mut before) = (vec![0.0; rows.len()], 0);
    for equal in order.chunk_by(|&i, &j| rows[i][column] == rows[j][column]) {
        let rank = before as f64 + 0.5 * equal.len() as f64;
        equal.iter().for_each(|&i| scores[i] = normal_quantile(rank / rows.len() as f64));
        before += equal.len();
    }
    let norm = scores.iter().map(|s| s * s).sum::<f64>().sqrt();
    scores.iter_mut().for_each(|s| *s /= norm.max(f64::MIN_POSITIVE));
    scores
}

/// The kernel's squared width: the median distance between rows, narrowed by Scott's factor n^(-1/(d+4)) as a density estimate
/// would be, so that holes are not bridged. Neighbours of the random order make the pairs.
fn bandwidth2(rows: &[Vec<f64>]) -> f64 {
    let mut distances: Vec<f64> = rows.windows(2).map(|pair| distance2(&pair[0], &pair[1])).collect();
    let middle = distances.len() / 2;
    let median = *distances.select_nth_unstable_by(middle, f64::total_cmp).1;
    let narrowed = median * (rows.len() as f64).powf(-2.0 / (rows[0].len() as f64 + 4.0));
    if narrowed > 0.0 { narrowed } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::{assert_uniform, normals};
    use ndarray::{Array1, Array2, array};

    fn cloud(simulated: &Array2<f64>) -> SimulatedCloud {
        SimulatedCloud::new(&Device::cpu(), simulated.view(), 3).unwrap()
    }

    /// (a, 0.9 a + √(1 - 0.81) b): strongly correlated, in absurd units.
    fn correlated(rows: usize, seed: u64) -> Array2<f64> {
        let mut x = normals(rows, 2, seed);
        for mut row in x.rows_mut() {
            row[1] = 1e6 * (0.9 * row[0] + 0.19_f64.sqrt() * row[1]);
        }
        x
    }

    #[test]
    fn the_distance_is_that_of_the_covariance() {
        let cloud = cloud(&correlated(4000, 1));
        for [a, b] in [[1.0, 1.0], [2.0, -1.0], [0.0, 0.5]] {
            let exact = ((a * a - 1.8 * a * b + b * b) / 0.19_f64).sqrt();
            let found = cloud.check(array![a, 1e6 * b].view()).unwrap().distance.value;
            assert!((found / exact - 1.0).abs() < 0.1, "{found}, not {exact}");
        }
        // Inside each feature's range, far outside the cloud.
        let across = cloud.check(array![2.0, -2e6].view()).unwrap();
        assert!(across.verdict() == Verdict::Wrong && across.deviation.abs() < 3.0, "{:?}", across.findings());
    }

    #[test]
    fn p_values_of_further_simulations_are_uniform() {
        let (cloud, more) = (cloud(&correlated(2000, 2)), correlated(400, 3));
        let found: Vec<_> = more.rows().into_iter().map(|row| cloud.check(row).unwrap()).collect();
        assert_uniform(found.iter().map(|found| found.p_value));
        assert_uniform(found.iter().map(|found| found.mmd2_p_value));
        let alarms = found.iter().filter(|found| found.verdict() != Verdict::Sound).count();
        assert!(alarms < 16, "{alarms} of 400 at 2 %");
    }

    #[test]
    fn many_features_for_few_simulations_raise_no_false_alarm() {
        let cloud = cloud(&normals(120, 50, 4));
        assert_uniform(normals(400, 50, 5).rows().into_iter().map(|row| {
            let found = cloud.check(row).unwrap();
            // 60 simulations make the steps of a p-value.
            found.p_value
        }));
    }

    #[test]
    fn a_hole_in_the_cloud_is_seen_by_the_discrepancy() {
        // A thin ring of radius 5: its centre is the mean, at Mahalanobis distance zero.
        let ring = Array2::from_shape_fn((2000, 2), |(i, j)| {
            let angle = i as f64 * 0.7;
            5.0 * if j == 0 { angle.cos() } else { angle.sin() }
        });
        let centre = cloud(&ring).check(array![0.0, 0.0].view()).unwrap();
        assert!(centre.p_value > 0.9 && centre.mmd2_p_value < 0.01, "{:?}", centre.findings());
        assert!(centre.verdict() != Verdict::Sound);
    }

    #[test]
    fn the_worst_feature_is_named_and_constants_must_hold() {
        let mut simulated = normals(500, 3, 6);
        simulated.column_mut(1).fill(7.0);
        let cloud = cloud(&simulated);
        let fine = cloud.check(array![0.1, 7.0, -0.5].view()).unwrap();
        assert_eq!(fine.verdict(), Verdict::Sound, "{:?}", fine.findings());
        let off = cloud.check(array![0.1, 7.0, -8.0].view()).unwrap();
        assert!(off.feature == 2 && off.deviation < -7.0 && off.verdict() == Verdict::Wrong);
        assert!(off.findings()[0].sentence.contains("do not trust"), "{}", off.findings()[0]);
        let impossible = cloud.check(array![0.1, 7.001, -0.5].view()).unwrap();
        assert_eq!((impossible.impossible.clone(), impossible.verdict()), (vec![1], Verdict::Wrong));
    }

    #[test]
    fn threads_and_what_cannot_be() {
        let simulated = normals(300, 2, 7);
        let [one, three] = [1, 3].map(|threads| {
            let cloud = SimulatedCloud::new(&Device::cpu_with_threads(threads), simulated.view(), 1).unwrap();
            cloud.check(array![1.0, 2.0].view()).unwrap()
        });
        assert_eq!(one, three);
        let cloud = cloud(&simulated);
        assert!(matches!(cloud.check(Array1::zeros(3).view()), Err(Error::Length { expected: 2, found: 3, .. })));
        let nan = cloud.check(array![0.0, f64::NAN].view());
        assert_eq!(nan, Err(Error::NonFinite { what: "observed", row: 0, column: 1 }));
        assert!(SimulatedCloud::new(&Device::cpu(), normals(39, 2, 1).view(), 0).is_err());
        assert!(SimulatedCloud::new(&Device::cpu(), Array2::zeros((50, 0)).view(), 0).is_err());
    }
}
