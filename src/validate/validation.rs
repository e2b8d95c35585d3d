//! How a posterior does on held-out simulations.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3};

use super::envelope::Envelope;
use super::finding::{Curve, Estimate, Finding, Histogram, Verdict};
use super::ranking::Ranking;
use super::uniform::{LEVELS, Uniform};
use super::{band, bootstrap, calibration};
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::models::{Density, Generative};
use crate::real::Real;
use crate::sbi::{Posterior, Prior};

/// How a posterior does on simulations that it was not trained on.
///
/// ```
/// use retrodict::{Device, Validation, ndarray::{Array2, Array3}, rng::{Noise, NoiseId}};
/// // Truths and draws from one distribution: a posterior that is right.
/// let normal = |id, n| {
///     let mut values = vec![0.0; n];
///     Noise { seed: 1, step: 0, id: NoiseId(id) }.fill_normal(0, n, &mut values);
///     values
/// };
/// let truths = Array2::from_shape_vec((100, 1), normal(0, 100)).unwrap();
/// let draws = Array3::from_shape_vec((100, 50, 1), normal(1, 5000)).unwrap();
/// let check = Validation::from_draws(&Device::cpu(), &["mean"], truths.view(), draws.view(), None, 7)?;
/// for finding in check.findings() {
///     println!("{finding}");
/// }
/// assert_eq!(check.verdict(), retrodict::validate::Verdict::Sound);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Validation {
    /// The parameters' names.
    pub names: Vec<String>,
    /// Number of draws for each test row.
    pub draws: usize,
    /// The true parameters, `[test rows x parameters]`.
    pub truth: Array2<f64>,
    /// The first draw for each test row, `[test rows x parameters]`: with the truths, what a classifier is to tell apart.
    pub first_draw: Array2<f64>,
    /// PIT values, `[test rows x parameters]`: the rank of the true parameter among the draws, as a randomised fraction
    /// of (0, 1) that is exactly uniform if the posterior is right.
    pub pit: Array2<f64>,
    /// The same for the truth's distance from a random point (TARP).
    pub tarp: Array1<f64>,
    /// What only a posterior with a density has.
    pub densities: Option<TestDensities>,
    seed: u64,
}

/// Densities at the truths of the test rows.
#[derive(Clone, Debug)]
pub struct TestDensities {
    /// log q(θ | x) of each test row, in nats: the density itself, not an estimate from draws.
    pub log_prob: Array1<f64>,
    /// log p(θ) of the prior, once given by [`Validation::with_prior`].
    pub prior_log_prob: Option<Array1<f64>>,
    /// For each test row the posterior mass of higher density than the truth has, the smallest level at which a
    /// highest-density region covers it; from ranks, as the PIT values are.
    pub hpd_level: Array1<f64>,
}

impl Validation {
    /// Draws once from the posterior of each row of `x` and compares the draws with the row of `theta` behind it.
    ///
    /// Memory does not grow with the number of draws. Nor do the tests depend on it: they are exact for any, so that a few
    /// dozen draws do where a density is costly.
    ///
    /// # Errors
    /// [`Error::Length`] for tables that do not fit, no row, or no draw; [`Error::NonFinite`] for numbers that are
    /// not finite; [`Error::Cancelled`] if the posterior's switch was set.
    pub fn run<T: Real, M: Density<T> + ?Sized>(
        posterior: &Posterior<T, M>,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let truth = posterior.log_prob_many(theta, x)?;
        let mut evaluator = posterior.model().evaluator(posterior.device())?;
        let log_prob = |first: usize, block: ArrayView3<'_, f64>| {
            let (rows, draws, dim) = block.dim();
            let theta = block.into_shape_with_order((rows * draws, dim)).map_err(not_contiguous)?;
            let x = x.slice(ndarray::s![first..first + rows, ..]);
            posterior.evaluate(&mut *evaluator, theta, x, |i| i / draws).map(Some)
        };
        Self::pass(posterior, theta, x, (draws, seed), Some(truth), log_prob)
    }

    /// The same for a posterior without a density: all but the figures that need one.
    ///
    /// # Errors
    /// As [`Validation::run`].
    pub fn run_draws<T: Real, M: Generative<T> + ?Sized>(
        posterior: &Posterior<T, M>,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        Self::pass(posterior, theta, x, (draws, seed), None, |_, _| Ok(None))
    }

    /// The same for draws from elsewhere, `[test rows x draws x parameters]`, and if there are any the log-densities of
    /// the truths, `[test rows]`, and of the draws, `[test rows x draws]`.
    ///
    /// # Errors
    /// As [`Validation::run`].
    pub fn from_draws(
        device: &Device,
        names: &[&str],
        theta: ArrayView2<'_, f64>,
        draws: ArrayView3<'_, f64>,
        log_prob: Option<(ArrayView1<'_, f64>, ArrayView2<'_, f64>)>,
        seed: u64,
    ) -> Result<Self, Error> {
        check_length("test rows of the draws", theta.nrows(), draws.dim().0)?;
        check_length("parameters of the draws", theta.ncols(), draws.dim().2)?;
        check_length("names", theta.ncols(), names.len())?;
        draws.outer_iter().try_for_each(|draws| check_finite("draws", draws))?;
        let mut ranking = Ranking::new(device, theta, draws.dim().1, seed)?;
        if let Some((truth, of_draws)) = log_prob {
            check_length("log-densities of the truths", theta.nrows(), truth.len())?;
            check_length("log-densities of the draws", theta.nrows() * draws.dim().1, of_draws.len())?;
        }
        let (truth, of_draws) = log_prob.unzip();
        ranking.add(draws, truth, of_draws.map(|of_draws| of_draws.iter().copied().collect()));
        let names = names.iter().map(|name| (*name).to_string()).collect();
        Ok(Self::new(names, theta, truth.map(|truth| truth.to_owned()), ranking))
    }

    fn pass<T: Real, M: Generative<T> + ?Sized>(
        posterior: &Posterior<T, M>,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        (draws, seed): (usize, u64),
        log_prob: Option<Array1<f64>>,
        mut of_draws: impl FnMut(usize, ArrayView3<'_, f64>) -> Result<Option<Array1<f64>>, Error>,
    ) -> Result<Self, Error> {
        check_length("x rows (one for each row of theta)", theta.nrows(), x.nrows())?;
        check_length("theta columns", posterior.support().dim(), theta.ncols())?;
        let mut ranking = Ranking::new(posterior.device(), theta, draws, seed)?;
        posterior.sample_blocks(x, draws, seed, |first, block| {
            let densities = of_draws(first, block)?;
            ranking.add(block, log_prob.as_ref().map(|log_prob| log_prob.view()), densities);
            Ok(())
        })?;
        Ok(Self::new(posterior.support().names().to_vec(), theta, log_prob, ranking))
    }

    fn new(
        names: Vec<String>,
        theta: ArrayView2<'_, f64>,
        log_prob: Option<Array1<f64>>,
        ranking: Ranking<'_>,
    ) -> Self {
        let (rows, shape) = (&ranking.rows, theta.dim());
        let hpd_level = rows.iter().map(|row| row.hpd_level).collect();
        Self {
            names,
            draws: ranking.draws,
            truth: theta.to_owned(),
            first_draw: Array2::from_shape_fn(shape, |(i, j)| rows[i].first_draw[j]),
            pit: Array2::from_shape_fn(shape, |(i, j)| rows[i].pit[j]),
            tarp: rows.iter().map(|row| row.tarp).collect(),
            densities: log_prob.map(|log_prob| TestDensities { log_prob, prior_log_prob: None, hpd_level }),
            seed: ranking.seed,
        }
    }

    /// The same, with the prior's density at the truths: what log q is compared with.
    ///
    /// # Errors
    /// [`Error::Length`] if the prior has other parameters, [`Error::OutsideSupport`] if it excludes a truth.
    pub fn with_prior(mut self, prior: &Prior) -> Result<Self, Error> {
        check_length("parameters of the prior", self.truth.ncols(), prior.dim())?;
        let log_prob: Array1<f64> = self.truth.rows().into_iter().map(|row| prior.log_prob(&row.to_vec())).collect();
        if let Some(row) = log_prob.iter().position(|p| *p == f64::NEG_INFINITY) {
            let why = format!("the prior excludes the true parameters {}", self.truth.row(row));
            return Err(Error::OutsideSupport { name: self.names.join(", "), row, why });
        }
        if let Some(densities) = &mut self.densities {
            densities.prior_log_prob = Some(log_prob);
        }
        Ok(self)
    }

    /// Every figure with its verdict: the density, then for each parameter bias, spread, P-P distance and rank
    /// histogram, then the coverage of highest-density regions and of random points.
    pub fn findings(&self) -> Vec<Finding> {
        let envelope = Envelope::new(self.tarp.len(), LEVELS);
        let mut findings = Vec::new();
        if let Some(TestDensities { log_prob, prior_log_prob, .. }) = &self.densities {
            let prior = prior_log_prob.as_ref().map(|prior| prior.to_vec());
            findings.push(calibration::log_prob(&log_prob.to_vec(), prior.as_deref(), self.seed));
        }
        for (name, column) in self.names.iter().zip(self.pit.columns()) {
            let pit = column.to_vec();
            findings.extend(calibration::parameter(name, self.names.len(), Uniform(&pit), &envelope));
        }
        if let Some(densities) = &self.densities {
            findings.extend(calibration::coverage(&densities.hpd_level.to_vec(), &envelope));
        }
        findings.push(calibration::tarp(&self.tarp.to_vec(), &envelope));
        findings
    }

    /// The worst of all verdicts. Each of about ten diagnostics finds a right posterior doubtful once in a hundred times, so
    /// something is doubtful in about one of ten right ones; something is wrong in hardly any.
    pub fn verdict(&self) -> Verdict {
        Verdict::worst(&self.findings())
    }

    /// Mean log q(θ | x) over the test rows, in nats, with a bootstrap error; `None` without a density.
    pub fn mean_log_prob(&self, seed: u64) -> Option<Estimate> {
        self.densities.as_ref().map(|densities| bootstrap::mean(&densities.log_prob.to_vec(), seed))
    }

    /// Ranks of the true parameters among the draws, `[test rows x parameters]`, from 0 to the number of draws.
    pub fn ranks(&self) -> Array2<usize> {
        self.pit.mapv(|u| ((u * (self.draws + 1) as f64) as usize).min(self.draws))
    }

    /// Largest distance between the empirical distribution of each parameter's PIT values and the uniform one.
    pub fn pit_distances(&self) -> Vec<f64> {
        self.pit.columns().into_iter().map(|column| band::largest_distance(column.iter().copied())).collect()
    }

    /// Half-width of the band that contains the whole empirical distribution of one parameter's PIT values with this
    /// probability, if the posterior is right.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < confidence < 1.
    pub fn band(&self, confidence: f64) -> Result<f64, Error> {
        band::simultaneous_band(self.pit.nrows(), confidence)
    }

    /// The P-P curve of each parameter: the distribution function of its PIT values at evenly spaced levels. The band
    /// holds the whole curve with this probability if the posterior is right (Säilynoja, Bürkner & Vehtari 2022).
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < confidence < 1.
    pub fn pp_curves(&self, levels: usize, confidence: f64) -> Result<Vec<Curve>, Error> {
        let band = Envelope::new(self.pit.nrows(), levels.max(1)).band(confidence)?;
        Ok(self.pit.columns().into_iter().map(|column| Uniform(&column.to_vec()).curve(&band)).collect())
    }

    /// The rank histogram of each parameter (simulation-based calibration: Talts et al. 2018). The band holds all bins of
    /// one histogram with this probability or a little more if the posterior is right (Bonferroni).
    ///
    /// # Errors
    /// [`Error::Parameter`] unless there is a bin and 0 < confidence < 1.
    pub fn rank_histograms(&self, bins: usize, confidence: f64) -> Result<Vec<Histogram>, Error> {
        let columns = self.pit.columns().into_iter();
        columns.map(|column| Uniform(&column.to_vec()).histogram(bins, confidence)).collect()
    }

    /// How often highest-density regions hold the truth, at evenly spaced levels of their mass (Hermans et al. 2022): below
    /// the diagonal they are too small. The band is that of [`Validation::pp_curves`]. `None` without a density.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < confidence < 1.
    pub fn coverage(&self, levels: usize, confidence: f64) -> Result<Option<Curve>, Error> {
        let band = Envelope::new(self.pit.nrows(), levels.max(1)).band(confidence)?;
        Ok(self.densities.as_ref().map(|densities| Uniform(&densities.hpd_level.to_vec()).curve(&band)))
    }

    /// How often balls around random points that hold a given posterior mass hold the truth (TARP), at evenly spaced
    /// levels of the mass. The band is a bootstrap's, level by level.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < confidence < 1.
    pub fn tarp_curve(&self, levels: usize, confidence: f64) -> Result<Curve, Error> {
        bootstrap::curve(&self.tarp.to_vec(), levels, confidence, self.seed)
    }
}

fn not_contiguous(e: ndarray::ShapeError) -> Error {
    Error::shape("validation", e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{GaussianLinear, Task};
    use crate::validate::Departure;
    use crate::validate::tests::{DRAWS, Distortion, ROWS, gaussian};
    use ndarray::Axis;

    fn finding(findings: &[Finding], name: &str) -> Finding {
        findings.iter().find(|finding| finding.name() == name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    #[test]
    fn an_exact_posterior_is_sound() {
        let found = gaussian(|_| (1.0, 0.0), 2).0;
        for finding in found.findings() {
            assert_eq!(finding.verdict, Verdict::Sound, "{finding}");
            assert!(finding.departure.is_none() && finding.value.error > 0.0, "{finding:?}");
        }
        for curve in found.pp_curves(20, 0.999).unwrap() {
            assert!((0..=20).all(|k| (curve.lower[k]..=curve.upper[k]).contains(&curve.values[k])));
        }
        // -entropy of N(·, 0.05 I) in two dimensions; the prior's is that of N(0, 0.1 I).
        let log_q = finding(&found.findings(), "log q");
        let entropy = |variance: f64| (std::f64::consts::TAU * std::f64::consts::E * variance).ln();
        assert!((log_q.value.value + entropy(0.05)).abs() < 4.0 * log_q.value.error, "{log_q}");
        assert!((log_q.expected.unwrap() + entropy(0.1)).abs() < 0.15, "{log_q}");
        assert!((log_q.value.error - (1.0 / ROWS as f64).sqrt()).abs() < 0.01, "{log_q}");
    }

    #[test]
    fn every_diagnostic_flags_on_the_right_side() {
        let (narrow, wide) = (Departure::TooNarrow, Departure::TooWide);
        let cases: [(Distortion, Departure); 2] = [(|_| (0.6, 0.0), narrow), (|_| (1.6, 0.0), wide)];
        for (distortion, expected) in cases {
            let findings = gaussian(distortion, 2).0.findings();
            let names = ["spread: a", "spread: b", "P-P distance: a", "SBC: b", "expected coverage", "TARP"];
            for name in names.into_iter().chain(["coverage: 50 %", "coverage: 68 %", "coverage: 95 %"]) {
                let found = finding(&findings, name);
                assert_eq!((found.verdict, found.departure), (Verdict::Wrong, Some(expected)), "{found}");
                let side =
                    if expected == narrow { ["overconfident", "too narrow"] } else { ["underconfident", "too wide"] };
                assert!(side.iter().any(|side| found.sentence.contains(side)), "{found}");
            }
            assert_eq!(finding(&findings, "bias: a").verdict, Verdict::Sound);
        }
    }

    #[test]
    fn a_displacement_is_flagged_on_the_right_side() {
        let cases: [(Distortion, Departure); 2] =
            [(|_| (1.0, 0.5), Departure::TooHigh), (|_| (1.0, -0.5), Departure::TooLow)];
        for (distortion, expected) in cases {
            let findings = gaussian(distortion, 2).0.findings();
            for name in ["bias: a", "bias: b", "P-P distance: a", "SBC: b"] {
                let found = finding(&findings, name);
                assert_eq!((found.verdict, found.departure), (Verdict::Wrong, Some(expected)), "{found}");
                assert!(found.sentence.contains(expected.name()), "{found}");
            }
            assert_eq!(finding(&findings, "spread: a").verdict, Verdict::Sound);
            // What does not know directions says that the truth is outside too often.
            let found = finding(&findings, "expected coverage");
            assert_eq!((found.verdict, found.departure), (Verdict::Wrong, Some(Departure::TooNarrow)), "{found}");
        }
        // Random points see a displacement from all sides: they are less sharp.
        let found = finding(&gaussian(|_| (1.0, -2.0), 2).0.findings(), "TARP");
        assert!(found.verdict == Verdict::Wrong && found.sentence.contains("displaced"), "{found}");
    }

    /// The prior passes every test of calibration: only the density shows that it does not look at the observation.
    #[test]
    fn a_posterior_that_is_the_prior_is_doubtful_by_its_density_alone() {
        use crate::validate::tests::normals;
        let prior = Prior::new().normal("a", 0.0, 1.0).build().unwrap();
        let (truth, table) = (normals(300, 1, 1), normals(300 * 50, 1, 2));
        let log_p = |row: ArrayView1<'_, f64>| prior.log_prob(&row.to_vec());
        let of_draws = table.map_axis(Axis(1), log_p).into_shape_with_order((300, 50)).unwrap();
        let of_truth = truth.map_axis(Axis(1), log_p);
        let draws = table.into_shape_with_order((300, 50, 1)).unwrap();
        let log_prob = Some((of_truth.view(), of_draws.view()));
        let found = Validation::from_draws(&Device::cpu(), &["a"], truth.view(), draws.view(), log_prob, 3).unwrap();
        for finding in found.with_prior(&prior).unwrap().findings() {
            let expected = if finding.diagnostic == "log q" { Verdict::Doubtful } else { Verdict::Sound };
            assert_eq!(finding.verdict, expected, "{finding}");
        }
    }

    /// Every test has the level that it says: of right posteriors one in a hundred is found doubtful.
    #[test]
    fn false_alarms_are_as_rare_as_they_should_be() {
        use crate::validate::tests::normals;
        let (repeats, rows, draws, device) = (400, 60, 9, Device::cpu_with_threads(2));
        let mut alarms = std::collections::BTreeMap::<String, usize>::new();
        for repeat in 0..repeats {
            let truth = normals(rows, 2, 2 * repeat);
            let table = normals(rows * draws, 2, 2 * repeat + 1);
            let of_draws = table.map_axis(Axis(1), |t| -0.5 * t.dot(&t)).into_shape_with_order((rows, draws)).unwrap();
            let of_truth = truth.map_axis(Axis(1), |t| -0.5 * t.dot(&t));
            let table = table.into_shape_with_order((rows, draws, 2)).unwrap();
            let log_prob = Some((of_truth.view(), of_draws.view()));
            let found = Validation::from_draws(&device, &["a", "b"], truth.view(), table.view(), log_prob, repeat);
            for finding in found.unwrap().findings() {
                *alarms.entry(finding.name()).or_default() += usize::from(finding.verdict != Verdict::Sound);
                assert!(finding.verdict < Verdict::Wrong, "{repeat}: {finding}");
            }
        }
        for (name, count) in alarms {
            // Corrected for two parameters or three levels: 0.3 to 1 % of 400, and four standard errors.
            assert!(count <= 12, "{name}: {count} alarms in {repeats}");
        }
    }

    #[test]
    fn a_posterior_worse_than_the_prior_or_excluding_the_truth_is_wrong() {
        let far = finding(&gaussian(|_| (1.0, 8.0), 1).0.findings(), "log q");
        assert_eq!(far.verdict, Verdict::Wrong, "{far}");
        let mut found = gaussian(|_| (1.0, 0.0), 1).0;
        let elsewhere = Prior::new().uniform("a", 5.0, 6.0).uniform("b", 5.0, 6.0).build().unwrap();
        assert!(matches!(found.clone().with_prior(&elsewhere), Err(Error::OutsideSupport { row: 0, .. })));
        found.densities.as_mut().unwrap().log_prob[3] = f64::NEG_INFINITY;
        let excluded = finding(&found.findings(), "log q");
        assert_eq!(excluded.verdict, Verdict::Wrong);
        assert!(excluded.sentence.starts_with("1 of 600 true parameters have density zero"), "{excluded}");
    }

    #[test]
    fn threads_and_blocks_change_nothing() {
        let [one, three] = [1, 3].map(|threads| gaussian(|_| (1.0, 0.0), threads).0);
        assert_eq!((&one.pit, &one.tarp, one.findings()), (&three.pit, &three.tarp, three.findings()));
        assert!(one.ranks().iter().all(|&rank| rank <= DRAWS));
        assert_eq!(one.ranks().iter().max(), Some(&DRAWS));
    }

    #[test]
    fn one_pass_of_a_posterior_is_the_draws_and_densities_that_it_gives() {
        use crate::{Dataset, Npe, models::Mdn, progress::Cancel, train::Training};
        let (task, device) = (GaussianLinear { dim: 2 }, Device::cpu_with_threads(2));
        let prior = task.prior().unwrap();
        let simulate =
            |rows, seed| crate::simulate(&device, &prior, rows, seed, |t, rng| task.simulate(t, rng)).unwrap();
        let (data, test) = (simulate(500, 1), simulate(70, 2));
        let data = Dataset::<f32>::new(prior.support(), data.theta.view(), data.x.view(), Default::default()).unwrap();
        let training = Training { max_epochs: 2, ..Training::default() };
        let (posterior, _) = Npe { training, ..Npe::new(Mdn::default()) }.fit(&device, &data).unwrap();
        // 300 draws, so that the pass takes several blocks.
        let found = Validation::run(&posterior, test.theta.view(), test.x.view(), 300, 3).unwrap();
        let draws = posterior.sample_many(test.x.view(), 300, 3).unwrap();
        let rows = draws.outer_iter().zip(test.x.rows());
        let of_draws: Vec<f64> = rows.flat_map(|(draws, x)| posterior.log_prob(draws, x).unwrap()).collect();
        let of_draws = Array2::from_shape_vec((70, 300), of_draws).unwrap();
        let of_truth = posterior.log_prob_many(test.theta.view(), test.x.view()).unwrap();
        let log_prob = Some((of_truth.view(), of_draws.view()));
        let names: Vec<&str> = prior.names().iter().map(String::as_str).collect();
        let same = Validation::from_draws(&device, &names, test.theta.view(), draws.view(), log_prob, 3).unwrap();
        assert_eq!((&found.pit, &found.first_draw, found.findings()), (&same.pit, &same.first_draw, same.findings()));

        let without = Validation::run_draws(&posterior, test.theta.view(), test.x.view(), 300, 3).unwrap();
        assert_eq!((&without.pit, &without.tarp, without.densities.is_none()), (&found.pit, &found.tarp, true));
        assert!(without.mean_log_prob(0).is_none() && without.coverage(10, 0.9).unwrap().is_none());
        assert!(without.findings().iter().all(|finding| finding.diagnostic != "log q"));

        let cancel = Cancel::default();
        cancel.cancel();
        let stopped = Validation::run(&posterior.with_cancel(&cancel), test.theta.view(), test.x.view(), 300, 3);
        assert!(matches!(stopped, Err(Error::Cancelled { .. })));
    }

    #[test]
    fn what_cannot_be_validated_is_named() {
        let device = Device::cpu_with_threads(1);
        let new = |theta: &Array2<f64>, draws: (usize, usize, usize)| {
            let draws = ndarray::Array3::<f64>::zeros(draws);
            Validation::from_draws(&device, &["a"], theta.view(), draws.view(), None, 0).map(|found| found.findings())
        };
        let good = Array2::zeros((3, 1));
        assert!(matches!(new(&good, (2, 5, 1)), Err(Error::Length { expected: 3, found: 2, .. })));
        assert!(matches!(new(&good, (3, 0, 1)), Err(Error::Length { what: "draws for each test row", .. })));
        assert!(matches!(new(&Array2::zeros((0, 1)), (0, 5, 1)), Err(Error::Length { what: "test rows", .. })));
        let bad = ndarray::array![[0.0], [f64::NAN], [0.0]];
        assert_eq!(new(&bad, (3, 5, 1)), Err(Error::NonFinite { what: "theta", row: 1, column: 0 }));
        // Constant draws and a single row are no error.
        assert!(new(&good, (3, 5, 1)).is_ok() && new(&Array2::zeros((1, 1)), (1, 1, 1)).is_ok());
    }
}
