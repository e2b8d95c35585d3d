//! How data turns into noise: Gaussian paths, $x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon$, and their diffusions.
//!
//! The stochastic differential equation $dx = f(t)\, x\, dt + g(t)\, dw$ has these marginals if
//! $$ f = \frac{d \ln\alpha}{dt}, \qquad g^2 = \frac{d\sigma^2}{dt} - 2 f \sigma^2. $$
//!
//! Sources: Song et al., *Score-based generative modeling through stochastic differential equations* (2021), whose
//! code `score_sde` most constants are from; Song & Ermon (2019), *NCSN*; Karras et al. (2022), *EDM*; Lipman et al.
//! (2023) and Liu et al. (2023), *flow matching* and *rectified flow*.

use crate::error::Error;
use crate::math::{exp, ln};

/// A Gaussian path from data at small times to noise at large ones; sigma never falls.
///
/// Time runs over \[0, 1\] unless stated. The functions hold for all of it, and beyond it give what their formulas
/// give; a NaN time gives NaN, except where a function does not depend on time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum NoiseSchedule {
    /// alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t, so g² = 2 sigma² ln(sigma_max / sigma_min) (Song et al.
    /// 2021, eq. 30).
    ///
    /// sigma(0) is sigma_min, not 0: the path starts at data that already carry noise too small to matter, and the
    /// marginals are those of the diffusion started there.
    VarianceExploding {
        /// Noise too small to matter.
        sigma_min: f64,
        /// Noise that drowns the data: about the largest distance between two of them (Song & Ermon 2020).
        sigma_max: f64,
    },
    /// alpha = e^(-B/2), sigma² = 1 - e^(-B) with B the integral of beta = beta_min + t (beta_max - beta_min), so
    /// f = -beta/2 and g² = beta (Song et al. 2021, eq. 32; the limit of Ho et al. 2020). Unit variance stays 1.
    VariancePreserving {
        /// Rate at time 0.
        beta_min: f64,
        /// Rate at time 1.
        beta_max: f64,
    },
    /// As variance preserving, but sigma = 1 - e^(-B), so g² = beta (1 - e^(-2B)) (Song et al. 2021, eq. 33).
    SubVariancePreserving {
        /// Rate at time 0.
        beta_min: f64,
        /// Rate at time 1.
        beta_max: f64,
    },
    /// alpha = 1, sigma = t: time is the noise itself and runs over \[sigma_min, sigma_max\]; g² = 2 t (Karras et al.
    /// 2022).
    Edm {
        /// The smallest time.
        sigma_min: f64,
        /// The largest time.
        sigma_max: f64,
    },
    /// alpha = 1, and sigma one of finitely many levels in geometric progression, the same for all times of
    /// \[i / levels, (i + 1) / levels); level 0 is the smallest, 1 belongs to the largest (Song & Ermon 2019).
    ///
    /// It jumps between levels and stands still within them, f = g² = 0: it is no diffusion. Draw from it by annealed
    /// Langevin dynamics along [`sigma_levels`](NoiseSchedule::sigma_levels), not along time.
    Geometric {
        /// The largest level.
        sigma_max: f64,
        /// The smallest level.
        sigma_min: f64,
        /// How many, both ends included: 2 or more.
        levels: usize,
    },
    /// alpha = 1 - t, sigma = t: straight lines from data to noise, so f = -1 / (1 - t) and g² = 2 t / (1 - t)
    /// (flow matching, rectified flow).
    Linear,
}

impl NoiseSchedule {
    /// Variance exploding from 0.01 to 10.
    ///
    /// 0.01 is that of `score_sde`; its 50 fits images of 3072 pixels. Two standardised points in a few dozen
    /// dimensions or fewer lie at most about 10 apart.
    pub fn variance_exploding() -> Self {
        Self::VarianceExploding { sigma_min: 0.01, sigma_max: 10.0 }
    }

    /// Variance preserving with the rates 0.1 to 20 of `score_sde`: e^-10 of the data's variance is left at time 1.
    pub fn variance_preserving() -> Self {
        Self::VariancePreserving { beta_min: 0.1, beta_max: 20.0 }
    }

    /// Sub-variance preserving with the rates 0.1 to 20 of `score_sde`.
    pub fn sub_variance_preserving() -> Self {
        Self::SubVariancePreserving { beta_min: 0.1, beta_max: 20.0 }
    }

    /// Noise from 0.002 to 80 (Karras et al. 2022, table 1, for data of standard deviation 0.5).
    pub fn edm() -> Self {
        Self::Edm { sigma_min: 0.002, sigma_max: 80.0 }
    }

    /// The 10 levels from 1 down to 0.01 of Song & Ermon (2019).
    pub fn geometric() -> Self {
        Self::Geometric { sigma_max: 1.0, sigma_min: 0.01, levels: 10 }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < sigma_min < sigma_max, 0 <= beta_min <= beta_max > 0, all finite, levels >= 2.
    pub fn check(&self) -> Result<(), Error> {
        match *self {
            Self::VarianceExploding { sigma_min, sigma_max } | Self::Edm { sigma_min, sigma_max } => {
                check_sigmas(sigma_min, sigma_max)
            }
            Self::Geometric { sigma_max, sigma_min, levels } => {
                if levels < 2 {
                    return Err(Error::parameter("levels", format!("{levels} must be at least 2")));
                }
                check_sigmas(sigma_min, sigma_max)
            }
            Self::VariancePreserving { beta_min, beta_max } | Self::SubVariancePreserving { beta_min, beta_max } => {
                if 0.0 <= beta_min && beta_min <= beta_max && 0.0 < beta_max && beta_max.is_finite() {
                    return Ok(());
                }
                let why = format!("{beta_min} to {beta_max}; they must be 0 <= beta_min <= beta_max > 0 and finite");
                Err(Error::parameter("beta", why))
            }
            Self::Linear => Ok(()),
        }
    }

    /// Its kind and its constants, as `kernels/schedule.cuh` takes them.
    pub(crate) fn numbers(&self) -> [f64; 4] {
        match *self {
            Self::VarianceExploding { sigma_min, sigma_max } => [0.0, sigma_min, sigma_max, 0.0],
            Self::VariancePreserving { beta_min, beta_max } => [1.0, beta_min, beta_max, 0.0],
            Self::SubVariancePreserving { beta_min, beta_max } => [2.0, beta_min, beta_max, 0.0],
            Self::Edm { sigma_min, sigma_max } => [3.0, sigma_min, sigma_max, 0.0],
            Self::Geometric { sigma_max, sigma_min, levels } => [4.0, sigma_min, sigma_max, levels as f64],
            Self::Linear => [5.0, 0.0, 0.0, 0.0],
        }
    }

    /// What is left of the data at time t.
    pub fn alpha(&self, t: f64) -> f64 {
        match *self {
            Self::VarianceExploding { .. } | Self::Edm { .. } | Self::Geometric { .. } => 1.0,
            Self::VariancePreserving { beta_min, beta_max } | Self::SubVariancePreserving { beta_min, beta_max } => {
                exp(-0.5 * Rate { beta_min, beta_max }.integral(t))
            }
            Self::Linear => 1.0 - t,
        }
    }

    /// Standard deviation of the noise at time t.
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            Self::VarianceExploding { sigma_min, sigma_max } => geometric(sigma_min, sigma_max, t),
            Self::VariancePreserving { beta_min, beta_max } => Rate { beta_min, beta_max }.lost(t).sqrt(),
            Self::SubVariancePreserving { beta_min, beta_max } => Rate { beta_min, beta_max }.lost(t),
            Self::Edm { .. } | Self::Linear => t,
            Self::Geometric { sigma_max, sigma_min, levels } => {
                let (level, last) = ((t * levels as f64).floor(), levels as f64 - 1.0);
                // Written so that a NaN passes.
                let level = if level < 0.0 { 0.0 } else { level };
                let level = if level > last { last } else { level };
                geometric(sigma_min, sigma_max, level / last)
            }
        }
    }

    /// Drift rate f(t) = d ln alpha / dt.
    pub fn drift(&self, t: f64) -> f64 {
        match *self {
            Self::VarianceExploding { .. } | Self::Edm { .. } | Self::Geometric { .. } => 0.0,
            Self::VariancePreserving { beta_min, beta_max } | Self::SubVariancePreserving { beta_min, beta_max } => {
                -0.5 * Rate { beta_min, beta_max }.at(t)
            }
            Self::Linear => -1.0 / (1.0 - t),
        }
    }

    /// Squared diffusion g²(t) = d sigma² / dt - 2 f sigma².
    pub fn diffusion_squared(&self, t: f64) -> f64 {
        match *self {
            Self::VarianceExploding { sigma_min, sigma_max } => {
                let sigma = self.sigma(t);
                2.0 * sigma * sigma * ln(sigma_max / sigma_min)
            }
            Self::VariancePreserving { beta_min, beta_max } => Rate { beta_min, beta_max }.at(t),
            Self::SubVariancePreserving { beta_min, beta_max } => {
                let rate = Rate { beta_min, beta_max };
                rate.at(t) * -libm::expm1(-2.0 * rate.integral(t))
            }
            Self::Edm { .. } => 2.0 * t,
            Self::Geometric { .. } => 0.0,
            Self::Linear => 2.0 * t / (1.0 - t),
        }
    }

    /// The smallest time to train on.
    ///
    /// The score is -eps / sigma: where sigma(0) = 0 it has no bound, and the last 1e-5 are left out (as in
    /// `score_sde`, which does it also for the variance exploding path). EDM starts at its sigma_min, and levels at 0.
    pub fn t_min(&self) -> f64 {
        match *self {
            Self::Edm { sigma_min, .. } => sigma_min,
            Self::Geometric { .. } => 0.0,
            _ => 1e-5,
        }
    }

    /// The time at which a sampler that came from [`t_max`](Self::t_max) stops.
    ///
    /// [`t_min`](Self::t_min), but 1e-3 for the paths whose noise ends at 0: the learned score is worst there, and
    /// what is left to remove is smaller than what it would put in (`score_sde`; 1e-3 also in rectified flow's code). A
    /// sampler that follows a learned velocity, which has no pole, may go on to 0.
    pub fn sampling_t_min(&self) -> f64 {
        match self {
            Self::VariancePreserving { .. } | Self::SubVariancePreserving { .. } | Self::Linear => 1e-3,
            _ => self.t_min(),
        }
    }

    /// The largest time to train on, at which a sampler starts.
    ///
    /// 1, or EDM's sigma_max. Straight lines end 1e-5 before 1, where f and g² have a pole; a learned velocity has
    /// none and may be followed from 1.
    pub fn t_max(&self) -> f64 {
        match *self {
            Self::Edm { sigma_max, .. } => sigma_max,
            Self::Linear => 1.0 - 1e-5,
            _ => 1.0,
        }
    }

    /// The levels of a [`Geometric`](Self::Geometric) schedule from the smallest to the largest, which annealed
    /// Langevin dynamics walks backwards; empty for a continuous one.
    pub fn sigma_levels(&self) -> Vec<f64> {
        match *self {
            // The middle of each level's interval, away from the roundings at its ends.
            Self::Geometric { levels, .. } => {
                (0..levels).map(|i| self.sigma((i as f64 + 0.5) / levels as f64)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn check_sigmas(sigma_min: f64, sigma_max: f64) -> Result<(), Error> {
    if 0.0 < sigma_min && sigma_min < sigma_max && sigma_max.is_finite() {
        return Ok(());
    }
    let why = format!("{sigma_min} to {sigma_max}; they must be 0 < sigma_min < sigma_max and finite");
    Err(Error::parameter("sigma", why))
}

/// low (high / low)^t
fn geometric(low: f64, high: f64, t: f64) -> f64 {
    low * exp(t * ln(high / low))
}

/// beta(t), which grows linearly.
struct Rate {
    beta_min: f64,
    beta_max: f64,
}

impl Rate {
    fn at(&self, t: f64) -> f64 {
        self.beta_min + t * (self.beta_max - self.beta_min)
    }

    /// B, from 0 to t
    fn integral(&self, t: f64) -> f64 {
        t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))
    }

    /// 1 - e^-B, without cancellation at small times
    fn lost(&self, t: f64) -> f64 {
        -libm::expm1(-self.integral(t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the jumps of ten levels.
    const TIMES: [f64; 5] = [0.003, 0.11, 0.53, 0.87, 0.998];

    fn all() -> [NoiseSchedule; 6] {
        [
            NoiseSchedule::variance_exploding(),
            NoiseSchedule::variance_preserving(),
            NoiseSchedule::sub_variance_preserving(),
            NoiseSchedule::edm(),
            NoiseSchedule::geometric(),
            NoiseSchedule::Linear,
        ]
    }

    fn assert_close(found: f64, expected: f64, tolerance: f64, what: &dyn std::fmt::Debug) {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(1e-3), "{what:?}: {found}, not {expected}");
    }

    #[test]
    fn drift_and_diffusion_are_the_derivatives_of_alpha_and_sigma() {
        for schedule in all() {
            for t in TIMES {
                let h = 1e-6;
                let slope = |f: &dyn Fn(f64) -> f64| (f(t + h) - f(t - h)) / (2.0 * h);
                let drift = slope(&|t| schedule.alpha(t).ln());
                assert_close(schedule.drift(t), drift, 1e-5, &(schedule, t));
                let growth = slope(&|t| schedule.sigma(t).powi(2));
                let expected = growth - 2.0 * drift * schedule.sigma(t).powi(2);
                assert_close(schedule.diffusion_squared(t), expected, 1e-5, &(schedule, t));
            }
        }
    }

    #[test]
    fn closed_forms() {
        let exploding = NoiseSchedule::VarianceExploding { sigma_min: 0.01, sigma_max: 50.0 };
        for (t, sigma) in [(0.0, 0.01), (0.5, 0.5_f64.sqrt()), (1.0, 50.0)] {
            assert_close(exploding.sigma(t), sigma, 1e-14, &t);
        }
        let (preserving, sub) = (NoiseSchedule::variance_preserving(), NoiseSchedule::sub_variance_preserving());
        for t in TIMES {
            let (beta, b) = (0.1 + 19.9 * t, 0.1 * t + 9.95 * t * t);
            assert_close(preserving.alpha(t).powi(2) + preserving.sigma(t).powi(2), 1.0, 1e-15, &t);
            assert_close(preserving.alpha(t), (-b / 2.0).exp(), 1e-15, &t);
            assert_close(preserving.diffusion_squared(t), beta, 1e-15, &t);
            assert_close(sub.sigma(t), preserving.sigma(t).powi(2), 1e-15, &t);
            assert_close(sub.diffusion_squared(t), beta * (1.0 - (-2.0 * b).exp()), 1e-13, &t);
            assert_close(NoiseSchedule::Linear.alpha(t) + NoiseSchedule::Linear.sigma(t), 1.0, 1e-15, &t);
        }
        assert_eq!(NoiseSchedule::edm().sigma(7.0), 7.0);
        // The digits of a tiny time survive.
        assert_close(preserving.sigma(1e-12), 1e-13_f64.sqrt(), 1e-10, &"tiny");
    }

    #[test]
    fn levels_are_geometric_and_time_picks_them() {
        let schedule = NoiseSchedule::geometric();
        let levels = schedule.sigma_levels();
        assert_eq!(levels.len(), 10);
        assert_close(levels[0], 0.01, 1e-14, &"first");
        assert_close(levels[9], 1.0, 1e-14, &"last");
        for pair in levels.windows(2) {
            assert_close(pair[1] / pair[0], 100_f64.powf(1.0 / 9.0), 1e-14, &"ratio");
        }
        for (t, level) in [(-1.0, 0), (0.0, 0), (0.099, 0), (0.1, 1), (0.55, 5), (0.999, 9), (1.0, 9), (3.0, 9)] {
            assert_eq!(schedule.sigma(t), levels[level], "t = {t}");
        }
        assert!(NoiseSchedule::Linear.sigma_levels().is_empty());
    }

    #[test]
    fn everything_is_finite_between_the_cut_offs_and_nan_is_seen() {
        for schedule in all() {
            schedule.check().unwrap();
            let (low, high) = (schedule.t_min(), schedule.t_max());
            assert!(low <= schedule.sampling_t_min() && schedule.sampling_t_min() < high, "{schedule:?}");
            let mut last = 0.0;
            for i in 0..=1000 {
                let t = low + (high - low) * f64::from(i) / 1000.0;
                let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
                assert!(alpha > 0.0 && sigma > 0.0 && sigma >= last, "{schedule:?} at {t}");
                assert!(schedule.drift(t).is_finite() && schedule.diffusion_squared(t) >= 0.0, "{schedule:?} at {t}");
                assert!(schedule.diffusion_squared(t).is_finite(), "{schedule:?} at {t}");
                last = sigma;
            }
            assert!(schedule.sigma(f64::NAN).is_nan(), "{schedule:?}");
        }
    }

    #[test]
    fn impossible_constants_are_refused() {
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (sigma_min, sigma_max) in [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (nan, 1.0), (0.1, infinity)] {
            assert!(NoiseSchedule::VarianceExploding { sigma_min, sigma_max }.check().is_err());
            assert!(NoiseSchedule::Edm { sigma_min, sigma_max }.check().is_err());
            assert!(NoiseSchedule::Geometric { sigma_min, sigma_max, levels: 3 }.check().is_err());
        }
        for (beta_min, beta_max) in [(-0.1, 20.0), (0.0, 0.0), (2.0, 1.0), (nan, 1.0), (0.1, nan), (0.1, infinity)] {
            assert!(NoiseSchedule::VariancePreserving { beta_min, beta_max }.check().is_err());
            assert!(NoiseSchedule::SubVariancePreserving { beta_min, beta_max }.check().is_err());
        }
        for levels in [0, 1] {
            let schedule = NoiseSchedule::Geometric { sigma_max: 1.0, sigma_min: 0.1, levels };
            assert!(schedule.check().is_err());
            assert!(schedule.sigma_levels().len() == levels, "and nothing panics");
        }
        assert!(NoiseSchedule::VariancePreserving { beta_min: 0.0, beta_max: 1.0 }.check().is_ok());
    }
}
