//! The reverse of a diffusion: from noise to data along a stochastic differential equation.
//!
//! The marginals of $dx = f(t)\, x\, dt + g(t)\, dw$ are retraced by
//! $dx = \left[f x - g^2 s(x, t)\right] dt + g\, d\bar w$ with time running backwards (Anderson 1982; Song et al. 2021).

use std::iter::{once, repeat_n};

use crate::device::Device;
use crate::error::Error;
use crate::noise_schedule::NoiseSchedule;
use crate::real::Real;
use crate::sample::{Draws, LangevinStep, Score, Step, Transition};

/// Times from `start` down to `end`, `steps` + 1 of them, evenly spaced in t^(1/ρ): ρ = 1 is uniform, ρ = 7 that of
/// Karras et al. 2022, eq. 5, dense where there is little noise.
pub fn time_grid(start: f64, end: f64, steps: usize, rho: f64) -> Vec<f64> {
    let (a, b) = (start.powf(1.0 / rho), end.powf(1.0 / rho));
    let at = |i: usize| (a + (b - a) * i as f64 / steps.max(1) as f64).powf(rho);
    (0..=steps).map(at).collect()
}

/// Langevin steps at the time reached, after each step of the predictor (Song et al. 2021, Algorithms 2 to 5).
///
/// Their size is η = 2 (r |z| / |s|)². The norms are those that are expected where noise prevails, |z|² = d and
/// |s|² = d / σ(t)², so η = 2 r² σ(t)²: means over a batch would let chains feel each other, and the norms of a single
/// row throw it far away wherever its score is nearly 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Corrector {
    /// How many.
    pub steps: usize,
    /// Signal-to-noise ratio r, which sets their size.
    pub ratio: f64,
}

impl Default for Corrector {
    /// One step with the ratio 0.16 of `score_sde`.
    fn default() -> Self {
        Self { steps: 1, ratio: 0.16 }
    }
}

/// Euler-Maruyama integration of the reverse diffusion, with or without a corrector; the last step adds no noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReverseSde {
    /// The diffusion.
    pub schedule: NoiseSchedule,
    /// Number of steps.
    pub steps: usize,
    /// Spacing of the times, see [`time_grid`].
    pub rho: f64,
    /// Langevin steps in between: predictor-corrector sampling.
    pub corrector: Option<Corrector>,
}

impl ReverseSde {
    /// 500 uniform steps, no corrector.
    pub fn new(schedule: NoiseSchedule) -> Self {
        Self { schedule, steps: 500, rho: 1.0, corrector: None }
    }

    /// Compiles the steps for a score. Chains should start from N(0, σ²) with σ that of the schedule at its end.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be, among them a schedule that is no diffusion; what recording
    /// the score says.
    pub fn compile<T: Real>(
        &self,
        device: &Device,
        score: &(impl Score<T> + ?Sized),
    ) -> Result<ReverseDiffusion<T>, Error> {
        self.schedule.check()?;
        if self.steps == 0 || !(self.rho > 0.0 && self.rho.is_finite()) {
            let why = format!("{} steps with rho {}; both must be positive", self.steps, self.rho);
            return Err(Error::parameter("steps", why));
        }
        if let NoiseSchedule::Geometric { .. } = self.schedule {
            let why = "geometric levels are no diffusion; draw by annealed Langevin dynamics";
            return Err(Error::parameter("schedule", why));
        }
        if let Some(Corrector { ratio, .. }) = self.corrector.filter(|c| !(c.ratio > 0.0 && c.ratio.is_finite())) {
            let why = format!("the signal-to-noise ratio {ratio} must be positive and finite");
            return Err(Error::parameter("corrector", why));
        }
        let widths = (score.dim(), score.context(), 4);
        let step = Step::compile(device, widths, |graph, x, numbers, context| {
            let t = graph.select(numbers, &[0])?;
            let coefficients = graph.select(numbers, &[1, 2, 3])?;
            let s = score.score(graph, x, t, context)?;
            let z = graph.normal(score.dim())?;
            graph.combine(&[x, s, z], coefficients)
        })?;
        Ok(ReverseDiffusion { settings: *self, step })
    }

    /// Coefficients of (x, s, z) for a step from t to the earlier time t - h.
    fn coefficients(&self, t: f64, h: f64, last: bool) -> [f64; 3] {
        let (f, g2) = (self.schedule.drift(t), self.schedule.diffusion_squared(t));
        [1.0 - h * f, h * g2, if last { 0.0 } else { (h * g2).sqrt() }]
    }
}

/// A compiled reverse diffusion.
#[derive(Debug)]
pub struct ReverseDiffusion<T> {
    settings: ReverseSde,
    step: Step<T>,
}

impl<T: Real> Transition<T> for ReverseDiffusion<T> {
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        let ReverseSde { schedule, steps, rho, corrector } = self.settings;
        let times = time_grid(schedule.t_max(), schedule.sampling_t_min(), steps, rho);
        let Corrector { steps: corrections, ratio } = corrector.unwrap_or(Corrector { steps: 0, ratio: 0.0 });
        let all = steps + (steps - 1) * corrections;
        let numbers = times.windows(2).enumerate().flat_map(|(i, pair)| {
            let last = i + 1 == steps;
            let [a, b, c] = self.settings.coefficients(pair[0], pair[0] - pair[1], last);
            let eta = 2.0 * (ratio * schedule.sigma(pair[1])).powi(2);
            let [d, e, f] = LangevinStep::Eta(eta).coefficients();
            // What the last step has denoised is not made noisy again.
            let corrected = repeat_n([pair[1], d, e, f], if last { 0 } else { corrections });
            once([pair[0], a, b, c]).chain(corrected)
        });
        self.step.run(draws, (0, all), numbers, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Watch;
    use crate::sample::{FromNoise, Sampler, ScoreFn};

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    #[test]
    fn grids_begin_and_end_where_they_should() {
        for rho in [1.0, 7.0] {
            let grid = time_grid(80.0, 0.002, 18, rho);
            assert!(grid.len() == 19 && (grid[0] - 80.0).abs() < 1e-9 && (grid[18] - 0.002).abs() < 1e-12);
            assert!(grid.windows(2).all(|w| w[1] < w[0]));
        }
        assert_eq!(time_grid(1.0, 0.0, 4, 1.0), [1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn every_diffusion_of_a_gaussian_leads_back_to_it() {
        let (m, v, rows) = (0.8, 0.25, 20_000);
        let cases = [
            (NoiseSchedule::variance_preserving(), 1.0),
            (NoiseSchedule::sub_variance_preserving(), 1.0),
            (NoiseSchedule::variance_exploding(), 1.0),
            (NoiseSchedule::edm(), 7.0),
        ];
        for (schedule, rho) in cases {
            let score = ScoreFn::new(1, move |x: &[f64], t, s: &mut [f64]| {
                let (a, sigma) = (schedule.alpha(t), schedule.sigma(t));
                s[0] = -(x[0] - a * m) / (a * a * v + sigma * sigma);
            });
            let corrector = Corrector { steps: 1, ratio: 0.16 };
            for corrector in [None, Some(corrector)] {
                let settings = ReverseSde { steps: 400, rho, corrector, ..ReverseSde::new(schedule) };
                let transition = settings.compile(&Device::cpu(), &score).unwrap();
                let mut x = vec![0.0; rows];
                let sd = schedule.sigma(schedule.t_max());
                FromNoise { sd, transition }.sample(&Draws::new(rows, &3, &Watch::default()), &mut x).unwrap();
                let (mean, variance) = moments(&x);
                // Three standard errors, and the error of first order of 400 steps.
                assert!((mean - m).abs() < 3.0 * (v / rows as f64).sqrt() + 0.01, "{settings:?}: mean {mean}");
                assert!(
                    (variance / v - 1.0).abs() < 3.0 * (2.0 / rows as f64).sqrt() + 0.05,
                    "{settings:?}: {variance}"
                );
            }
        }
    }

    #[test]
    fn levels_are_no_diffusion_and_settings_are_checked() {
        let score = ScoreFn::<f32>::new(1, |_, _, s| s[0] = 0.0);
        let device = Device::cpu();
        assert!(ReverseSde::new(NoiseSchedule::geometric()).compile(&device, &score).is_err());
        let none = ReverseSde { steps: 0, ..ReverseSde::new(NoiseSchedule::variance_preserving()) };
        assert!(none.compile(&device, &score).is_err());
    }
}
