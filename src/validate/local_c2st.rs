//! Local classifier two-sample test: is the posterior of this very observation right?
//!
//! Source: Linhart, Gramfort and Rodrigues, *L-C2ST: local diagnostics for posterior approximations in simulation-based
//! inference* (2023).

use ndarray::{ArrayView1, ArrayView2, ArrayView3};
use rand::RngExt;

use super::classifier::{Classifier, Labelled, Settings, rows_of};
use super::finding::{Departure, Estimate, Evidence, Finding};
use super::samples::Chance;
use super::validation::Validation;
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::optim::Adam;
use crate::progress::{Cancel, Progress};
use crate::rng::{Philox, mix, permutation};
use crate::sbi::Standardise;
use crate::train::Training;

/// Settings of the local test. A classifier learns to tell (truth, x) from (draw, x) over the test rows; at an observation,
/// its probabilities for the posterior's draws should be 1/2.
///
/// How far they are from it by chance is learned by classifiers trained on pairs of which a coin decides which is the
/// truth. That takes as many trainings.
#[derive(Clone, Debug)]
pub struct LocalC2st {
    /// Widths of the classifiers' hidden layers.
    pub hidden: Vec<usize>,
    /// How they are trained; early stopping looks at an eighth of the test rows.
    pub training: Training,
    /// Classifiers of exchanged pairs.
    pub exchanges: usize,
    /// Seed of the coins and of the classifiers' initial weights.
    pub seed: u64,
    /// Stops it.
    pub cancel: Cancel,
}

impl Default for LocalC2st {
    fn default() -> Self {
        let adam = Adam::new(5e-3);
        let training = Training { batch: 128, max_epochs: 50, patience: 8, adam, ..Training::default() };
        Self { hidden: vec![32, 32], training, exchanges: 40, seed: 0, cancel: Cancel::default() }
    }
}

/// What the classifiers say at one observation.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalC2stTest {
    /// Root mean square distance of the classifier's probabilities from 1/2, over the posterior's draws: between 0 and 1/2.
    /// The error is its standard deviation by chance.
    pub distance: Estimate,
    /// Its mean by chance.
    pub expected: f64,
    /// Probability of a distance as large by chance.
    pub p_value: f64,
    /// The parameter that the classifier would move or stretch most, if it weighted the draws by p(truth) / p(draw).
    pub parameter: String,
    /// By how much it would move it up, in standard deviations of the draws.
    pub shift: f64,
    /// By which factor it would stretch it.
    pub stretch: f64,
}

/// Fewer test rows say nothing.
const LEAST_ROWS: usize = 20;

impl LocalC2st {
    /// Tests the posterior at each row of `observed`, `[observations x features]`, by its draws there,
    /// `[observations x draws x parameters]`.
    ///
    /// The classifiers learn from the truths and first draws of a validation and from the observations behind them, `x`,
    /// `[test rows x features]`.
    ///
    /// # Errors
    /// [`Error::Length`] for tables that do not fit, [`Error::NonFinite`] for numbers that are not finite,
    /// [`Error::Parameter`] for fewer than 20 test rows or 2 exchanges, [`Error::Training`] if a training diverges,
    /// [`Error::Cancelled`] if it was stopped.
    pub fn test(
        &self,
        device: &Device,
        validation: &Validation,
        x: ArrayView2<'_, f64>,
        observed: ArrayView2<'_, f64>,
        draws: ArrayView3<'_, f64>,
    ) -> Result<Vec<LocalC2stTest>, Error> {
        self.check(validation, x, observed, draws)?;
        let pairs = Pairs::new(validation, x)?;
        let trainings = self.exchanges + 1;
        let progress = Progress::new("C2ST", trainings);
        let mut verdicts: Vec<Result<Vec<Vec<f32>>, Error>> = vec![Ok(Vec::new()); trainings];
        device.pool().run_over(&mut verdicts, |exchange, logits| {
            *logits = self.logits(device, &pairs, exchange, observed, draws);
            progress.advance(1);
        });
        let logits = verdicts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let test = |(i, draws): (usize, ArrayView2<'_, f64>)| {
            LocalC2stTest::new(&validation.names, draws, logits.iter().map(|of| &*of[i]))
        };
        Ok(draws.outer_iter().enumerate().map(test).collect())
    }

    fn check(
        &self,
        validation: &Validation,
        x: ArrayView2<'_, f64>,
        observed: ArrayView2<'_, f64>,
        draws: ArrayView3<'_, f64>,
    ) -> Result<(), Error> {
        let (rows, dim) = validation.truth.dim();
        check_length("x rows (one for each test row)", rows, x.nrows())?;
        check_length("features of the observations", x.ncols(), observed.ncols())?;
        check_length("observations of the draws", observed.nrows(), draws.dim().0)?;
        check_length("draws for each observation", draws.dim().1.max(2), draws.dim().1)?;
        check_length("parameters of the draws", dim, draws.dim().2)?;
        check_finite("x", x)?;
        check_finite("observed", observed)?;
        draws.outer_iter().try_for_each(|draws| check_finite("draws", draws))?;
        for (name, value, least) in [("test rows", rows, LEAST_ROWS), ("exchanges", self.exchanges, 2)] {
            if value < least {
                return Err(Error::parameter(name, format!("{value} must be at least {least}")));
            }
        }
        Ok(())
    }

    /// Logits of one classifier for the draws at each observation; classifier 0 is the one of the true labels.
    fn logits(
        &self,
        device: &Device,
        pairs: &Pairs,
        exchange: usize,
        observed: ArrayView2<'_, f64>,
        draws: ArrayView3<'_, f64>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let rows = pairs.labelled(exchange, self.seed);
        let order = permutation(pairs.count as u32, self.seed, 0);
        let (validation, training) = order.split_at(pairs.count.div_ceil(8));
        let seed = mix(self.seed, [exchange as u64]);
        let settings = Settings { hidden: &self.hidden, training: &self.training, seed, cancel: &self.cancel };
        let mut classifier = Classifier::train(device, &settings, &rows, &rows_of(training), &rows_of(validation))?;
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled { step: exchange, steps: self.exchanges + 1 });
        }
        let all: Vec<u32> = (0..draws.dim().1 as u32).collect();
        let at = |(x, draws): (ArrayView1<'_, f64>, ArrayView2<'_, f64>)| {
            let table: Vec<f32> = draws.rows().into_iter().flat_map(|theta| pairs.standardised(theta, x)).collect();
            classifier.logits(&table, &all)
        };
        observed.rows().into_iter().zip(draws.outer_iter()).map(at).collect()
    }
}

impl LocalC2stTest {
    /// From the draws `[draws x parameters]` and their logits by the true classifier and those by chance.
    fn new<'a>(names: &[String], draws: ArrayView2<'_, f64>, mut logits: impl Iterator<Item = &'a [f32]>) -> Self {
        let own = logits.next().unwrap_or(&[]);
        let by_chance: Vec<f64> = logits.map(distance).collect();
        let value = distance(own);
        let chance = Chance::new(&by_chance, value);
        let weights: Vec<f64> = own.iter().map(|&l| f64::from(l.clamp(-20.0, 20.0)).exp()).collect();
        let changes = draws.columns().into_iter().map(|column| change(column, &weights));
        let size = |&(_, (shift, stretch)): &(usize, (f64, f64))| shift.abs().max(stretch.ln().abs());
        let largest = changes.enumerate().max_by(|a, b| size(a).total_cmp(&size(b)));
        let (parameter, (shift, stretch)) = largest.unwrap_or((0, (0.0, 1.0)));
        let distance = Estimate { value, error: chance.deviation };
        let parameter = names.get(parameter).cloned().unwrap_or_default();
        Self { distance, expected: chance.mean, p_value: chance.p_value, parameter, shift, stretch }
    }

    /// What it means for the observation of this name.
    pub fn finding(&self, observation: &str) -> Finding {
        let Self { distance, expected, parameter, shift, stretch, .. } = self;
        let departure = match (shift.abs() >= stretch.ln().abs(), *shift > 0.0, *stretch > 1.0) {
            (true, true, _) => Departure::TooLow,
            (true, false, _) => Departure::TooHigh,
            (false, _, true) => Departure::TooNarrow,
            (false, _, false) => Departure::TooWide,
        };
        let found = format!(
            "a classifier's probabilities are {:.3} from 1/2, {expected:.3} ± {:.3} by chance",
            distance.value, distance.error
        );
        let evidence = Evidence {
            value: *distance,
            expected: *expected,
            p_value: self.p_value,
            matters: distance.value - expected >= 0.05,
            departure,
        };
        evidence.finding(
            "local C2ST",
            observation,
            &format!("The posterior of {observation} cannot be told from the truth: {found}"),
            &format!(
                "The posterior of {observation} is {departure}, most of all in {parameter}, which a classifier would \
                 move by {shift:+.2} standard deviations and stretch by {stretch:.2}: {found}"
            ),
        )
    }
}

/// Root mean square of σ(logit) - 1/2.
fn distance(logits: &[f32]) -> f64 {
    let squares = logits.iter().map(|&l| (crate::math::sigmoid(f64::from(l)) - 0.5).powi(2));
    (squares.sum::<f64>() / logits.len() as f64).sqrt()
}

/// How weights move a column's mean, in its standard deviations, and stretch these.
fn change(column: ArrayView1<'_, f64>, weights: &[f64]) -> (f64, f64) {
    let moments = |weight: &dyn Fn(usize) -> f64| {
        let total: f64 = (0..column.len()).map(weight).sum();
        let mean = column.iter().enumerate().map(|(i, v)| weight(i) * v).sum::<f64>() / total;
        let variance = column.iter().enumerate().map(|(i, v)| weight(i) * (v - mean).powi(2)).sum::<f64>() / total;
        (mean, variance.sqrt())
    };
    let ((mean, sd), (to, stretched)) = (moments(&|_| 1.0), moments(&|i| weights[i]));
    if sd > 0.0 && stretched > 0.0 { ((to - mean) / sd, stretched / sd) } else { (0.0, 1.0) }
}

/// (θ, x) of each test row with the true θ and with the drawn one, standardised.
struct Pairs {
    count: usize,
    parameters: usize,
    scale: Standardise,
    /// Row 2 i has the truth of test row i, row 2 i + 1 its draw.
    table: Vec<f32>,
}

impl Pairs {
    fn new(validation: &Validation, x: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let (count, parameters) = validation.truth.dim();
        let theta = |row: usize| [&validation.truth, &validation.first_draw][row % 2];
        let value = |row: usize, j: usize| match j.checked_sub(parameters) {
            None => theta(row)[[row / 2, j]],
            Some(feature) => x[[row / 2, feature]],
        };
        let rows: Vec<u32> = (0..2 * count as u32).collect();
        let scale = Standardise::fit(&rows, parameters + x.ncols(), value)?;
        let mut pairs = Self { count, parameters, scale, table: Vec::new() };
        let row = |row: usize| pairs.standardised(theta(row).row(row / 2), x.row(row / 2));
        pairs.table = (0..2 * count).flat_map(row).collect();
        Ok(pairs)
    }

    fn standardised(&self, theta: ArrayView1<'_, f64>, x: ArrayView1<'_, f64>) -> Vec<f32> {
        debug_assert_eq!(theta.len(), self.parameters);
        theta.iter().chain(x).enumerate().map(|(j, &v)| self.scale.forward(j, v) as f32).collect()
    }

    /// Truths labelled 1 and draws -1, or a coin for each pair.
    fn labelled(&self, exchange: usize, seed: u64) -> Labelled {
        let mut rng = Philox::new(seed, exchange as u64);
        let pair = |_| if exchange == 0 || rng.random() { [1.0, -1.0] } else { [-1.0, 1.0] };
        let label = (0..self.count).flat_map(pair).collect();
        Labelled { columns: self.scale.width(), table: self.table.clone(), label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;
    use crate::validate::tests::{Distortion, gaussian, gaussian_draws};
    use ndarray::{Array3, Axis, arr2};

    const QUICK: [usize; 2] = [16, 16];

    /// The test at two observations, x = (-0.4, 0) and (0.4, 0), of posteriors distorted by (width, shift).
    fn test(distortion: Distortion, threads: usize) -> [LocalC2stTest; 2] {
        let (validation, x) = gaussian(distortion, threads);
        let observed = arr2(&[[-0.4, 0.0], [0.4, 0.0]]);
        let mut draws = Array3::zeros((2, 400, 2));
        for (i, mut draws) in draws.axis_iter_mut(Axis(0)).enumerate() {
            draws.assign(&gaussian_draws(&observed.row(i).to_vec(), distortion, 400, 50 + i as u64));
        }
        let quick = LocalC2st { hidden: QUICK.to_vec(), exchanges: 20, ..LocalC2st::default() };
        let device = Device::cpu_with_threads(threads);
        let found = quick.test(&device, &validation, x.view(), observed.view(), draws.view()).unwrap();
        found.try_into().unwrap()
    }

    #[test]
    fn an_exact_posterior_is_sound_everywhere_whatever_the_threads() {
        let found = test(|_| (1.0, 0.0), 2);
        assert_eq!(found, test(|_| (1.0, 0.0), 1));
        for found in found {
            assert_eq!(found.finding("x").verdict, Verdict::Sound, "{}", found.finding("x"));
        }
    }

    #[test]
    fn each_fault_is_named() {
        let cases: [(Distortion, Departure); 4] = [
            (|_| (1.0, 1.0), Departure::TooHigh),
            (|_| (1.0, -1.0), Departure::TooLow),
            (|_| (0.5, 0.0), Departure::TooNarrow),
            (|_| (2.0, 0.0), Departure::TooWide),
        ];
        for (distortion, side) in cases {
            for found in test(distortion, 2) {
                let finding = found.finding("x");
                assert_eq!(finding.departure, Some(side), "{finding}");
                assert!(finding.sentence.starts_with(&format!("The posterior of x is {side}")), "{finding}");
            }
        }
    }

    #[test]
    fn a_fault_at_some_observations_is_found_there_alone() {
        let [good, bad] = test(|x| (1.0, if x[0] > 0.0 { 1.5 } else { 0.0 }), 2);
        assert_eq!(good.finding("good").verdict, Verdict::Sound, "{}", good.finding("good"));
        assert!(bad.finding("bad").verdict > Verdict::Sound, "{}", bad.finding("bad"));
    }

    #[test]
    fn it_can_be_stopped_and_names_what_does_not_fit() {
        let (validation, x) = gaussian(|_| (1.0, 0.0), 1);
        let device = Device::cpu_with_threads(1);
        let run = |test: &LocalC2st, observed: usize, draws: (usize, usize, usize)| {
            let (observed, draws) = (ndarray::Array2::zeros((observed, 2)), Array3::zeros(draws));
            test.test(&device, &validation, x.view(), observed.view(), draws.view())
        };
        let stopped = LocalC2st::default();
        stopped.cancel.cancel();
        assert!(matches!(run(&stopped, 1, (1, 10, 2)), Err(Error::Cancelled { steps: 41, .. })));
        let wrong = run(&stopped, 2, (1, 10, 2));
        assert!(matches!(wrong, Err(Error::Length { what: "observations of the draws", .. })));
        assert!(run(&stopped, 1, (1, 0, 2)).is_err() && run(&stopped, 1, (1, 10, 3)).is_err());
        assert!(run(&LocalC2st { exchanges: 1, ..LocalC2st::default() }, 1, (1, 10, 2)).is_err());
    }
}
