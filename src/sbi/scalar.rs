//! Laws of one parameter, each with the bijection that makes it the standard normal.
//!
//! A parameter $\theta$ of distribution function $F$ and density $f$ goes to the reals as
//!
//! $$ u = \Phi^{-1}(F(\theta)), \qquad \theta \sim F \iff u \sim N(0, 1), \qquad
//!    \ln \frac{d\theta}{du} = \ln N(u) - \ln f(\theta). $$
//!
//! Probabilities travel as pairs: the mass below a point and the mass above it, neither computed
//! from the other. The smaller one is read, so no tail is the rounding error of `1 - p`.

use crate::math::{normal_cdf, normal_ln_pdf, normal_quantile};

/// A point on a bound is read as lying this fraction of the width inside it.
///
/// Half the spacing of the floats below one: nearer to the upper end of `[0, 1]` no float is. It
/// puts the bounds of an interval 8.3 standard deviations out, which a network can digest.
pub(super) const EDGE: f64 = f64::EPSILON / 4.0;

/// The masses of the standard normal below and above `u`.
pub(super) fn masses(u: f64) -> (f64, f64) {
    (normal_cdf(u), normal_cdf(-u))
}

/// The inverse of [`masses`]; finite, as a mass too small for a float counts as the smallest.
pub(super) fn score(below: f64, above: f64) -> f64 {
    if below <= above {
        normal_quantile(below.max(f64::MIN_POSITIVE))
    } else {
        -normal_quantile(above.max(f64::MIN_POSITIVE))
    }
}

/// The law of one parameter. `unconstrain` carries it to the standard normal.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub(super) enum Scalar {
    /// `theta = mean + sd u`, on the reals.
    Normal { mean: f64, sd: f64 },
    /// `theta = lo + exp(mean + sd u)`, on `[lo, inf)`.
    LogNormal { lo: f64, mean: f64, sd: f64 },
    /// Uniform on `[lo, hi]`.
    Uniform { lo: f64, hi: f64 },
    /// Uniform in `ln theta` on `[lo, hi]`.
    LogUniform { lo: f64, hi: f64 },
    /// The normal law given that it falls into `[lo, hi]`.
    TruncatedNormal { mean: f64, sd: f64, lo: f64, hi: f64 },
}

impl Scalar {
    /// What is wrong with the constants of the law, and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        match *self {
            Self::Normal { mean, sd } => check_normal(mean, sd),
            Self::LogNormal { lo, .. } if !lo.is_finite() => Err(format!("lo = {lo}; the bound must be finite")),
            Self::LogNormal { mean, sd, .. } => check_normal(mean, sd),
            Self::Uniform { lo, hi } => check_bounds(lo, hi),
            Self::LogUniform { lo, hi } if lo <= 0.0 => {
                Err(format!("[{lo}, {hi}] has no logarithm; it must be 0 < lo < hi"))
            }
            Self::LogUniform { lo, hi } => check_bounds(lo, hi),
            Self::TruncatedNormal { mean, sd, lo, hi } => {
                check_normal(mean, sd)?;
                check_bounds(lo, hi)?;
                if Truncation::new(mean, sd, lo, hi).mass > 1e-290 {
                    return Ok(());
                }
                Err(format!(
                    "N({mean}, {sd}) has no mass on [{lo}, {hi}]; \
                     the interval must begin within 36 sd of the mean"
                ))
            }
        }
    }

    /// The least and the greatest value; finite, for only finite values have a density.
    pub(super) fn bounds(&self) -> (f64, f64) {
        match *self {
            Self::Normal { .. } => (f64::MIN, f64::MAX),
            Self::LogNormal { lo, .. } => (lo, f64::MAX),
            Self::Uniform { lo, hi } | Self::LogUniform { lo, hi } | Self::TruncatedNormal { lo, hi, .. } => (lo, hi),
        }
    }

    /// Whether `theta` lies in the closed support.
    pub(super) fn contains(&self, theta: f64) -> bool {
        let (lo, hi) = self.bounds();
        lo <= theta && theta <= hi
    }

    /// The support as a mathematician writes it.
    pub(super) fn interval(&self) -> String {
        match self.bounds() {
            (f64::MIN, _) => "(-inf, inf)".into(),
            (lo, f64::MAX) => format!("[{lo}, inf)"),
            (lo, hi) => format!("[{lo}, {hi}]"),
        }
    }

    /// `theta -> u`, finite for every `theta` of the closed support.
    pub(super) fn unconstrain(&self, theta: f64) -> f64 {
        let (below, above) = match *self {
            Self::Normal { mean, sd } => return standardise(theta, mean, sd),
            Self::LogNormal { lo, mean, sd } => return standardise(ln_above(theta, lo), mean, sd),
            Self::Uniform { lo, hi } => ((theta - lo) / (hi - lo), (hi - theta) / (hi - lo)),
            Self::LogUniform { lo, hi } => {
                let width = ln_ratio(hi, lo);
                (ln_ratio(theta, lo) / width, ln_ratio(hi, theta) / width)
            }
            Self::TruncatedNormal { mean, sd, lo, hi } => {
                let cut = Truncation::new(mean, sd, lo, hi);
                let below = mass_above(cut.lo, (theta - lo) / sd) / cut.mass;
                let above = mass_above(-cut.hi, (hi - theta) / sd) / cut.mass;
                (below, above)
            }
        };
        score(below.max(EDGE), above.max(EDGE))
    }

    /// `u -> theta`, in the closed support for every `u` but NaN.
    pub(super) fn constrain(&self, u: f64) -> f64 {
        if u.is_nan() {
            return u; // the comparisons below would lose it
        }
        // Every bounded law is measured from the end that is nearer in probability.
        let lower = u <= 0.0;
        let near = normal_cdf(-u.abs());
        let theta = match *self {
            Self::Normal { mean, sd } => mean + sd * u,
            Self::LogNormal { lo, mean, sd } => lo + (mean + sd * u).exp(),
            Self::Uniform { lo, hi } if lower => lo + (hi - lo) * near,
            Self::Uniform { lo, hi } => hi - (hi - lo) * near,
            Self::LogUniform { lo, hi } if lower => lo * (ln_ratio(hi, lo) * near).exp(),
            Self::LogUniform { lo, hi } => hi * (-ln_ratio(hi, lo) * near).exp(),
            Self::TruncatedNormal { mean, sd, lo, hi } => {
                let cut = Truncation::new(mean, sd, lo, hi);
                if lower { lo + sd * reach(cut.lo, near * cut.mass) } else { hi - sd * reach(-cut.hi, near * cut.mass) }
            }
        };
        let (lo, hi) = self.bounds();
        theta.clamp(lo, hi)
    }

    /// `ln |d theta / d u|`.
    pub(super) fn ln_det(&self, u: f64) -> f64 {
        match *self {
            Self::Normal { sd, .. } => sd.ln(),
            Self::LogNormal { mean, sd, .. } => sd.ln() + mean + sd * u,
            _ => normal_ln_pdf(u) - self.ln_density(self.constrain(u)),
        }
    }

    /// `ln f(theta)` within the support.
    pub(super) fn ln_density(&self, theta: f64) -> f64 {
        match *self {
            Self::Normal { mean, sd } => normal_ln_pdf((theta - mean) / sd) - sd.ln(),
            Self::LogNormal { lo, mean, sd } => {
                let ln = ln_above(theta, lo);
                normal_ln_pdf((ln - mean) / sd) - sd.ln() - ln
            }
            Self::Uniform { lo, hi } => -(hi - lo).ln(),
            Self::LogUniform { lo, hi } => -theta.ln() - ln_ratio(hi, lo).ln(),
            Self::TruncatedNormal { mean, sd, lo, hi } => {
                let cut = Truncation::new(mean, sd, lo, hi);
                normal_ln_pdf((theta - mean) / sd) - sd.ln() - cut.mass.ln()
            }
        }
    }
}

/// `lo < hi`, finite and of finite width.
pub(super) fn check_bounds(lo: f64, hi: f64) -> Result<(), String> {
    if !(hi - lo).is_finite() {
        Err(format!("[{lo}, {hi}] is not finite; lo, hi and hi - lo must be"))
    } else if lo >= hi {
        Err(format!("[{lo}, {hi}] is empty; it must be lo < hi"))
    } else {
        Ok(())
    }
}

fn check_normal(mean: f64, sd: f64) -> Result<(), String> {
    if !mean.is_finite() {
        Err(format!("mean = {mean}; it must be finite"))
    } else if !(sd > 0.0 && sd.is_finite()) {
        Err(format!("sd = {sd}; it must be finite and above zero"))
    } else {
        Ok(())
    }
}

/// `(x - mean) / sd`, finite even where that is beyond every float.
fn standardise(x: f64, mean: f64, sd: f64) -> f64 {
    ((x - mean) / sd).clamp(f64::MIN, f64::MAX)
}

/// `ln(theta - lo)`, where `theta = lo` is read as the next float above it.
fn ln_above(theta: f64, lo: f64) -> f64 {
    (theta - lo).max(lo.next_up() - lo).ln()
}

/// `ln(a / b)` for `a >= b > 0`, exact also where the quotient is nearly one or overflows.
fn ln_ratio(a: f64, b: f64) -> f64 {
    if a < 2.0 * b { ((a - b) / b).ln_1p() } else { a.ln() - b.ln() }
}

/// The bounds of a truncated normal law in standard units, and the mass between them.
struct Truncation {
    lo: f64,
    hi: f64,
    mass: f64,
}

impl Truncation {
    fn new(mean: f64, sd: f64, lo: f64, hi: f64) -> Self {
        let cut = (lo - mean) / sd;
        Self { lo: cut, hi: (hi - mean) / sd, mass: mass_above(cut, (hi - lo) / sd) }
    }
}

/// The mass of the standard normal on `[x, x + t]`, to full relative accuracy.
fn mass_above(x: f64, t: f64) -> f64 {
    let (middle, half) = (x + 0.5 * t, 0.5 * t);
    if t * middle.abs().max(1.0) < 0.05 {
        // Two values of Phi would cancel. The Taylor series of the density about the middle,
        // t N(m) sum_k He_2k(m) (t/2)^2k / (2k+1)!, is at rounding error after four terms.
        let (m2, h2) = (middle * middle, half * half);
        let he4 = (m2 - 6.0) * m2 + 3.0;
        let he6 = ((m2 - 15.0) * m2 + 45.0) * m2 - 15.0;
        let series = 1.0 + h2 / 6.0 * (m2 - 1.0 + h2 / 20.0 * (he4 + h2 / 42.0 * he6));
        t * normal_ln_pdf(middle).exp() * series
    } else if x > 0.0 {
        normal_cdf(-x) - normal_cdf(-x - t)
    } else {
        normal_cdf(x + t) - normal_cdf(x)
    }
}

/// The inverse of [`mass_above`]: the `t` at which `[x, x + t]` holds `mass`.
fn reach(x: f64, mass: f64) -> f64 {
    let mut t = (score(normal_cdf(x) + mass, normal_cdf(-x) - mass) - x).max(0.0);
    // The quantile knows x + t to rounding; two Newton steps on the mass know t itself.
    for _ in 0..2 {
        let step = (mass - mass_above(x, t)) / normal_ln_pdf(x + t).exp();
        if step.is_finite() {
            t = (t + step).max(0.0);
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A law of each kind, and each kind at its most awkward.
    const LAWS: [Scalar; 17] = [
        Scalar::Normal { mean: 0.0, sd: 1.0 },
        Scalar::Normal { mean: -3.0, sd: 1e-3 },
        Scalar::LogNormal { lo: 0.0, mean: 0.0, sd: 1.0 },
        Scalar::LogNormal { lo: -1.0, mean: 2.0, sd: 0.1 },
        Scalar::Uniform { lo: 0.0, hi: 1.0 },
        Scalar::Uniform { lo: 8.0, hi: 12.0 },
        Scalar::Uniform { lo: -1e300, hi: 1e300 },
        Scalar::LogUniform { lo: 1e-3, hi: 1e3 },
        Scalar::LogUniform { lo: 1e-300, hi: 1e300 },
        Scalar::LogUniform { lo: 1.0, hi: 1.0 + 1e-6 },
        Scalar::TruncatedNormal { mean: 0.0, sd: 1.0, lo: 0.0, hi: 30.0 },
        Scalar::TruncatedNormal { mean: 0.3, sd: 1.0, lo: -1.0, hi: 4.0 },
        Scalar::TruncatedNormal { mean: 0.0, sd: 1.0, lo: 20.0, hi: 25.0 },
        Scalar::TruncatedNormal { mean: 0.0, sd: 1.0, lo: -31.0, hi: -30.0 },
        Scalar::TruncatedNormal { mean: 0.0, sd: 1e9, lo: 0.0, hi: 1.0 },
        Scalar::TruncatedNormal { mean: 5.0, sd: 0.1, lo: -100.0, hi: 100.0 },
        Scalar::TruncatedNormal { mean: 1e4, sd: 3e3, lo: 0.0, hi: 1.0 },
    ];

    /// The error of `u` that a rounding error of `theta` makes: the bound it is measured from is
    /// held to `|theta| EPSILON`, and `d theta / du` says what that is worth.
    fn conditioning(law: Scalar, u: f64, theta: f64) -> f64 {
        4.0 * f64::EPSILON * theta.abs() * (-law.ln_det(u)).exp()
    }

    #[test]
    fn round_trip() {
        for law in LAWS {
            for k in -640..=640 {
                let u = k as f64 / 80.0;
                let theta = law.constrain(u);
                let back = law.unconstrain(theta);
                let tolerance = 1e-10_f64.max(conditioning(law, u, theta));
                let held = (back - u).abs() <= tolerance || tolerance > 0.1;
                assert!(held, "{law:?}: {u} -> {theta} -> {back}");
                let again = law.constrain(back);
                assert!((again - theta).abs() <= 1e-12 * theta.abs(), "{theta} -> {again}");
            }
        }
    }

    #[test]
    fn ends_at_zero_lose_nothing() {
        for law in LAWS.into_iter().filter(|law| law.bounds().0 == 0.0) {
            for k in 0..=80 {
                let u = -k as f64 / 10.0;
                let back = law.unconstrain(law.constrain(u));
                assert!((back - u).abs() <= 1e-12, "{law:?}: {u} -> {back}");
            }
        }
    }

    #[test]
    fn ln_det_is_the_derivative() {
        for law in LAWS {
            for k in -12..=12 {
                let (u, h) = (k as f64 / 4.0, 1e-3);
                let f = |x: f64| law.constrain(u + x);
                let slope = (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
                // The rounding of theta bounds what differences can show.
                let noise = 1e-16 * f(0.0).abs() / (h * slope);
                let ln_det = law.ln_det(u);
                // ln(theta) of the widest log-uniform turns by 500 per unit of u.
                let truncation = if law == LAWS[8] { 1e-1 } else { 1e-8 };
                assert!((slope.ln() - ln_det).abs() < truncation + 10.0 * noise, "{law:?} at {u}");
            }
        }
    }

    #[test]
    fn density_is_the_normal_over_the_derivative() {
        for law in LAWS {
            for u in [-5.0, -1.3, 0.0, 0.7, 4.0] {
                let (density, det) = (law.ln_density(law.constrain(u)), law.ln_det(u));
                let want = normal_ln_pdf(u) - det;
                assert!((density - want).abs() < 1e-9 * (1.0 + want.abs()), "{law:?} at {u}");
            }
        }
    }

    #[test]
    fn never_outside_and_never_nan() {
        for law in LAWS {
            let mut last = f64::MIN;
            let us = [-1e300, -800.0, -50.0, -9.0, 0.0, 9.0, 50.0, 800.0, 1e300];
            for u in [f64::NEG_INFINITY].into_iter().chain(us).chain([f64::INFINITY]) {
                let theta = law.constrain(u);
                assert!(law.contains(theta) && theta >= last, "{law:?}: {u} -> {theta}");
                assert!(law.unconstrain(theta).is_finite(), "{law:?}: {u} -> {theta}");
                assert!(!u.is_finite() || !law.ln_det(u).is_nan(), "{law:?} at {u}");
                last = theta;
            }
            assert!(law.constrain(f64::NAN).is_nan() && !law.contains(f64::NAN));
        }
    }

    #[test]
    fn bounds_are_read_as_just_inside() {
        for law in LAWS {
            let (lo, hi) = law.bounds();
            let (below, above) = (law.unconstrain(lo), law.unconstrain(hi));
            assert!(below.is_finite() && above.is_finite(), "{law:?}: {below}, {above}");
            assert!(below < -6.0 && above > 6.0, "{law:?}: {below}, {above}");
        }
        let unit = Scalar::Uniform { lo: 8.0, hi: 12.0 };
        assert!((unit.unconstrain(8.0) + 8.292_361).abs() < 1e-5);
        assert_eq!(unit.constrain(unit.unconstrain(8.0)), 8.0);
        assert_eq!(unit.constrain(unit.unconstrain(12.0)), 12.0);
    }

    #[test]
    fn narrow_and_wide_masses_agree() {
        for x in [-20.0, -3.0, -0.5, 0.0, 0.2, 4.0, 30.0_f64] {
            // Just below the switch to two values of Phi, the parts add up to the whole.
            let t = 0.049 / x.abs().max(1.0);
            let whole = mass_above(x, 2.0 * t);
            let parts = mass_above(x, t) + mass_above(x + t, t);
            // Phi itself is good to x^2 EPSILON, from the rounding of its argument.
            let tolerance = 1e-14 * (10.0 + x * x);
            assert!((parts / whole - 1.0).abs() < tolerance, "at {x}: {parts} of {whole}");
        }
        assert!((mass_above(-1.0, 2.0) - 0.682_689_492_137_085_9).abs() < 1e-15);
        assert!((mass_above(0.0, 1e-20) * 2.506_628_274_631_000_5e20 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn reach_inverts_mass() {
        for x in [-35.0, -3.0, 0.0, 1.0, 10.0, 30.0] {
            for share in [0.5, 1e-3, 1e-9, 1e-20, 1e-100] {
                let mass = share * mass_above(x, 50.0);
                if mass > 1e-290 {
                    let back = mass_above(x, reach(x, mass));
                    assert!((back / mass - 1.0).abs() < 1e-12, "from {x}, {mass}: {back}");
                }
            }
        }
    }
}
