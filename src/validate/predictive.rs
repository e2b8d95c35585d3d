//! Posterior predictive checks: would data simulated from the posterior look like the observation?
//!
//! Source: Gelman, Meng and Stern, *Posterior predictive assessment of model fitness via realized discrepancies* (1996).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::bootstrap::deviation;
use super::finding::{Departure, Estimate, Evidence, Finding, Verdict};
use super::misspecification::{Misspecification, SimulatedCloud};
use super::samples::Chance;
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::rng::Philox;
use crate::sbi::simulate_joint;

/// Data simulated from posterior draws beside the observation, in the statistics in which they are compared.
///
/// ```
/// use retrodict::{Device, validate::{PosteriorPredictive, Verdict}};
/// use retrodict::tasks::{GaussianLinear, Task};
/// let (task, x, device) = (GaussianLinear { dim: 3 }, [0.2, -0.1, 0.4], Device::cpu());
/// let draws = task.posterior_sample(&x, 500, 1)?;
/// let observed = ndarray::arr1(&x);
/// let check = PosteriorPredictive::run(&device, draws.view(), observed.view(), 2, |t, rng| task.simulate(t, rng))?;
/// assert_eq!(check.verdict(), Verdict::Sound);
/// let spread = |x: &[f64]| vec![x.iter().fold(f64::MIN, |a, &b| a.max(b)) - x.iter().fold(f64::MAX, |a, &b| a.min(b))];
/// let check = check.with_statistics(&["range"], spread)?;
/// assert_eq!(check.statistics.dim(), (500, 1));
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PosteriorPredictive {
    /// The statistics' names: `x0`, `x1`, .. for the features themselves.
    pub names: Vec<String>,
    /// Statistics of the simulated data, `[draws x statistics]`.
    pub statistics: Array2<f64>,
    /// Statistics of the observation.
    pub observed_statistics: Array1<f64>,
    /// The simulated data, `[draws x features]`; draws whose simulation was not finite are left out.
    pub replicated: Array2<f64>,
    /// Draws whose simulation was not finite.
    pub failed: usize,
    observed: Array1<f64>,
    /// The observation in the cloud of the simulated data as a whole.
    whole: Misspecification,
}

impl PosteriorPredictive {
    /// Simulates once from each of `draws`, `[draws x parameters]`, by the simulator that the posterior was trained on, and
    /// compares each feature of the observation with the simulated ones.
    ///
    /// Draw i uses stream i of `seed`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the simulator's results differ in length, [`Error::Length`] if that is not the observation's or
    /// if fewer than 40 simulations are finite, [`Error::NonFinite`] for numbers of draws or observation that are not.
    pub fn run(
        device: &Device,
        draws: ArrayView2<'_, f64>,
        observed: ArrayView1<'_, f64>,
        seed: u64,
        simulator: impl Fn(&[f64], &mut Philox) -> Vec<f64> + Sync,
    ) -> Result<Self, Error> {
        check_finite("draws", draws)?;
        check_finite("observed", observed.insert_axis(Axis(0)))?;
        let simulations = simulate_joint(device, draws.nrows(), seed, |i, rng| {
            let theta = draws.row(i).to_vec();
            let x = simulator(&theta, rng);
            (theta, x)
        })?;
        check_length("observed features (those of the simulator)", simulations.x.ncols(), observed.len())?;
        let finite = |i: &usize| simulations.x.row(*i).iter().all(|v| v.is_finite());
        let kept: Vec<usize> = (0..draws.nrows()).filter(finite).collect();
        let replicated = simulations.x.select(Axis(0), &kept);
        Ok(Self {
            names: (0..observed.len()).map(|j| format!("x{j}")).collect(),
            statistics: replicated.clone(),
            observed_statistics: observed.to_owned(),
            failed: draws.nrows() - kept.len(),
            whole: SimulatedCloud::new(device, replicated.view(), seed)?.check(observed)?,
            observed: observed.to_owned(),
            replicated,
        })
    }

    /// The same data compared in other statistics: `f` maps an observation to one number for each name.
    ///
    /// # Errors
    /// [`Error::Length`] if it does not, [`Error::NonFinite`] if a statistic is not finite.
    pub fn with_statistics(self, names: &[&str], f: impl Fn(&[f64]) -> Vec<f64>) -> Result<Self, Error> {
        let of = |x: ArrayView1<'_, f64>| {
            let values = f(&x.to_vec());
            check_length("statistics", names.len(), values.len()).map(|()| values)
        };
        let observed_statistics = Array1::from(of(self.observed.view())?);
        let mut statistics = Array2::zeros((self.replicated.nrows(), names.len()));
        for (mut row, x) in statistics.rows_mut().into_iter().zip(self.replicated.rows()) {
            row.assign(&Array1::from(of(x)?));
        }
        check_finite("statistics", statistics.view())?;
        check_finite("observed statistics", observed_statistics.view().insert_axis(Axis(0)))?;
        let names = names.iter().map(|name| (*name).to_string()).collect();
        Ok(Self { names, statistics, observed_statistics, ..self })
    }

    /// Quantiles of the statistics over the simulated data, `[quantiles x statistics]`: bands to draw about the observation.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a quantile outside 0 to 1.
    pub fn quantiles(&self, quantiles: &[f64]) -> Result<Array2<f64>, Error> {
        if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            return Err(Error::parameter("quantiles", format!("{q} must lie between 0 and 1")));
        }
        let mut table = Array2::zeros((quantiles.len(), self.names.len()));
        for (column, mut out) in self.statistics.columns().into_iter().zip(table.columns_mut()) {
            let mut sorted = column.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let at = |q: &f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
            out.iter_mut().zip(quantiles).for_each(|(out, q)| *out = at(q));
        }
        Ok(table)
    }

    /// The observation as a whole, then each statistic.
    pub fn findings(&self) -> Vec<Finding> {
        let whole = Evidence {
            value: self.whole.distance,
            expected: self.whole.expected,
            p_value: self.whole.p_value,
            matters: true,
            departure: Departure::Other,
        };
        let found = format!(
            "its Mahalanobis distance is {:.2}, {:.2} ± {:.2} for data simulated from the posterior",
            self.whole.distance.value, self.whole.expected, self.whole.distance.error
        );
        let whole = whole.finding(
            "posterior predictive",
            "",
            &format!("The observation looks like data of its posterior: {found}"),
            &format!("The observation does not look like data of its posterior: {found}"),
        );
        std::iter::once(whole).chain((0..self.names.len()).map(|j| self.finding(j))).collect()
    }

    /// One statistic: where the observed one lies among the simulated ones, in their standard deviations.
    fn finding(&self, j: usize) -> Finding {
        let (name, observed) = (&self.names[j], self.observed_statistics[j]);
        let values = self.statistics.column(j).to_vec();
        let above = Chance::new(&values, observed);
        let below = Chance::new(&values.iter().map(|v| -v).collect::<Vec<_>>(), -observed);
        let (n, sd) = (values.len() as f64, deviation(&values));
        let z = if observed == above.mean { 0.0 } else { (observed - above.mean) / sd };
        // The errors of mean and standard deviation.
        let value = Estimate { value: z, error: ((1.0 + 0.5 * z * z) / n).sqrt() };
        let departure = if z > 0.0 { Departure::TooLow } else { Departure::TooHigh };
        let p_value = (2.0 * above.p_value.min(below.p_value) * self.names.len() as f64).min(1.0);
        let where_it_is = format!("the observed {name} is {observed:.4}, {:.4} ± {sd:.4} is predicted", above.mean);
        let evidence = Evidence { value, expected: 0.0, p_value, matters: true, departure };
        evidence.finding(
            "posterior predictive",
            name,
            &format!("The posterior predicts {name}: {where_it_is}"),
            &format!("The posterior predicts {name} {departure}: {where_it_is}"),
        )
    }

    /// The worst of all verdicts.
    pub fn verdict(&self) -> Verdict {
        Verdict::worst(&self.findings())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{GaussianLinear, Task};
    use crate::validate::tests::normals;
    use ndarray::array;
    use rand::RngExt;
    use rand_distr::StandardNormal;

    const TASK: GaussianLinear = GaussianLinear { dim: 2 };

    fn run(draws: &Array2<f64>, x: [f64; 2], threads: usize) -> Result<PosteriorPredictive, Error> {
        let device = Device::cpu_with_threads(threads);
        PosteriorPredictive::run(&device, draws.view(), array![x[0], x[1]].view(), 5, |t, rng| TASK.simulate(t, rng))
    }

    #[test]
    fn an_exact_posterior_predicts_what_it_should() {
        let x = [0.4, -0.3];
        let check = run(&TASK.posterior_sample(&x, 4000, 1).unwrap(), x, 2).unwrap();
        assert_eq!(check.verdict(), Verdict::Sound, "{:#?}", check.findings());
        // θ | x is N(x / 2, 0.05), so the next x is N(x / 2, 0.15): the observed one lies x / 2 above.
        for (j, finding) in check.findings()[1..].iter().enumerate() {
            let exact = 0.5 * x[j] / 0.15_f64.sqrt();
            assert!((finding.value.value - exact).abs() < 4.0 * finding.value.error, "{finding:?}, not {exact}");
        }
        let quantiles = check.quantiles(&[0.0228, 0.5, 0.9772]).unwrap();
        assert!((quantiles[[1, 0]] - 0.2).abs() < 0.03);
        assert!((quantiles[[2, 0]] - quantiles[[0, 0]] - 4.0 * 0.15_f64.sqrt()).abs() < 0.1);
        assert!(check.quantiles(&[1.5]).is_err());
    }

    #[test]
    fn a_displaced_posterior_predicts_too_low_or_too_high() {
        let x = [0.0, 0.0];
        let draws = TASK.posterior_sample(&x, 1000, 2).unwrap() + array![3.0, -3.0];
        let check = run(&draws, x, 2).unwrap();
        let findings = check.findings();
        assert_eq!(findings[0].verdict, Verdict::Wrong, "{}", findings[0]);
        let sides = [Some(Departure::TooHigh), Some(Departure::TooLow)];
        assert_eq!([findings[1].departure, findings[2].departure], sides, "{findings:#?}");
        assert!(findings[1].sentence.contains("predicts x0 too high") && findings[1].verdict == Verdict::Wrong);
    }

    #[test]
    fn a_statistic_of_the_user_sees_what_features_do_not() {
        // Alternating data, predicted as noise: each feature fits, their autocorrelation does not.
        let x = Array1::from_shape_fn(20, |i| if i % 2 == 0 { 1.0 } else { -1.0 });
        let noise = |_: &[f64], rng: &mut Philox| (0..20).map(|_| rng.sample(StandardNormal)).collect();
        let draws = normals(2000, 1, 3);
        let check = PosteriorPredictive::run(&Device::cpu(), draws.view(), x.view(), 1, noise).unwrap();
        assert_eq!(check.verdict(), Verdict::Sound);
        let lag = |x: &[f64]| vec![x.windows(2).map(|w| w[0] * w[1]).sum::<f64>()];
        let found = check.clone().with_statistics(&["lag"], lag).unwrap().findings();
        let expected = (Departure::TooHigh, Verdict::Doubtful);
        assert!(found[1].departure == Some(expected.0) && found[1].verdict >= expected.1, "{}", found[1]);
        assert!(matches!(check.with_statistics(&["a", "b"], lag), Err(Error::Length { expected: 2, found: 1, .. })));
    }

    #[test]
    fn threads_failures_and_what_cannot_be() {
        let draws = TASK.posterior_sample(&[0.1, 0.2], 100, 4).unwrap();
        let [one, three] = [1, 3].map(|threads| run(&draws, [0.1, 0.2], threads).unwrap().findings());
        assert_eq!(one, three);
        let failing = |t: &[f64], _: &mut Philox| if t[0] > 0.0 { vec![f64::NAN] } else { t[..1].to_vec() };
        let x = array![-0.1];
        let check = PosteriorPredictive::run(&Device::cpu(), normals(200, 1, 5).view(), x.view(), 1, failing).unwrap();
        assert_eq!(check.failed + check.replicated.nrows(), 200);
        assert!((70..130).contains(&check.failed));
        let few = PosteriorPredictive::run(&Device::cpu(), normals(50, 1, 5).view(), x.view(), 1, failing);
        assert!(matches!(few, Err(Error::Length { what: "simulations", .. })), "{few:?}");
        let width = PosteriorPredictive::run(&Device::cpu(), draws.view(), x.view(), 1, |t, rng| TASK.simulate(t, rng));
        assert!(matches!(width, Err(Error::Length { expected: 2, found: 1, .. })));
        assert!(run(&draws, [f64::NAN, 0.0], 1).is_err());
    }
}
