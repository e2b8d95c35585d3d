//! Shares of a whole: the simplex and ordered sequences, carried to the reals by stick breaking.
//!
//! A stick of length one is broken into $K$ parts. Off what is left, the $k$-th break takes the
//! fraction $v_k$. If the parts have the flat Dirichlet law, the fractions are independent with
//! $v_k \sim \mathrm{Beta}(1, n)$, $n = K - k$, whose distribution function inverts in closed
//! form, so that
//!
//! $$ u_k = \Phi^{-1}(1 - (1 - v_k)^n) $$
//!
//! makes the flat law exactly standard normal in $K - 1$ coordinates. (The $K$-th part is what
//! remains.) A flat law of density $f$ has $\ln |d\theta/du| = \ln N(u) - \ln f$, constant $f$.

use super::scalar::{EDGE, check_bounds, masses, score};
use crate::math::normal_ln_pdf;

/// The rounding forgiven to shares that should not exceed one in sum.
const SLACK: f64 = 1e-12;

/// How the first `K - 1` of `K` parts are written as parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub(super) enum Shares {
    /// As they are: each at least 0, their sum at most 1.
    Simplex,
    /// As running sums over `[lo, hi]`: `lo <= t1 <= t2 <= ... <= hi`.
    Ordered { lo: f64, hi: f64 },
}

impl Shares {
    /// What is wrong with the bounds, and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        match *self {
            Self::Simplex => Ok(()),
            Self::Ordered { lo, hi } => check_bounds(lo, hi),
        }
    }

    /// The first of the parameters that is out of the closed support, if one is.
    pub(super) fn violation(&self, theta: &[f64]) -> Option<usize> {
        match *self {
            Self::Simplex => {
                let mut sum = 0.0;
                theta.iter().position(|&share| {
                    sum += share;
                    !(share >= 0.0 && sum <= 1.0 + SLACK)
                })
            }
            Self::Ordered { mut lo, hi } => theta.iter().position(|&t| {
                let inside = lo <= t && t <= hi;
                lo = t;
                !inside
            }),
        }
    }

    /// The support as a mathematician writes it.
    pub(super) fn region(&self, names: &[String]) -> String {
        match *self {
            Self::Simplex => format!("{} >= 0, {} <= 1", names.join(", "), names.join(" + ")),
            Self::Ordered { lo, hi } => format!("{lo} <= {} <= {hi}", names.join(" <= ")),
        }
    }

    /// `theta -> u`, finite on the closed support. Where nothing is left of the stick its
    /// further fractions mean nothing and `u` is 0, the median.
    pub(super) fn unconstrain(&self, theta: &[f64], u: &mut [f64]) {
        let breaks = theta.len();
        for (k, ((part, rest), u)) in self.parts(theta).zip(u).enumerate() {
            *u = stick_score(part, rest, (breaks - k) as f64);
        }
    }

    /// `u -> theta`, in the closed support for every `u` but NaN.
    pub(super) fn constrain(&self, u: &[f64], theta: &mut [f64]) {
        let breaks = u.len();
        self.break_stick(theta, |k| stick_fraction(u[k], (breaks - k) as f64));
    }

    /// `ln |det d theta / d u|`.
    pub(super) fn ln_det(&self, u: &[f64]) -> f64 {
        u.iter().map(|&u| normal_ln_pdf(u)).sum::<f64>() - self.ln_flat_density(u.len())
    }

    /// `ln f` of the flat law: `(K - 1)!` per unit volume of the simplex.
    fn ln_flat_density(&self, breaks: usize) -> f64 {
        libm::lgamma(breaks as f64 + 1.0) - breaks as f64 * self.width().ln()
    }

    /// The length of the stick in the units of the parameters.
    pub(super) fn width(&self) -> f64 {
        match *self {
            Self::Simplex => 1.0,
            Self::Ordered { lo, hi } => hi - lo,
        }
    }

    /// Each part of the stick with what is left after it, as shares of one.
    pub(super) fn parts(&self, theta: &[f64]) -> impl Iterator<Item = (f64, f64)> {
        let shares = *self;
        let mut end = match shares {
            Self::Simplex => 0.0,
            Self::Ordered { lo, .. } => lo,
        };
        theta.iter().map(move |&theta| match shares {
            Self::Simplex => {
                end += theta;
                (theta, (1.0 - end).max(0.0))
            }
            Self::Ordered { lo, hi } => {
                let part = theta - end;
                end = theta;
                (part / (hi - lo), (hi - end) / (hi - lo))
            }
        })
    }

    /// Breaks the stick into parameters, given each fraction `v` as the pair `(v, 1 - v)`.
    pub(super) fn break_stick(&self, theta: &mut [f64], mut fraction: impl FnMut(usize) -> (f64, f64)) {
        let (mut used, mut rest) = (0.0, 1.0);
        let mut floor = f64::MIN;
        for (k, theta) in theta.iter_mut().enumerate() {
            let (taken, left) = fraction(k);
            let part = rest * taken;
            rest *= left;
            match *self {
                // No more than is left: the shares' rounded sum never exceeds one.
                Self::Simplex => {
                    *theta = if part > 1.0 - used { 1.0 - used } else { part };
                    used += *theta;
                }
                // Measured from the nearer end, and never before the one before it.
                Self::Ordered { lo, hi } => {
                    used += part;
                    let width = hi - lo;
                    let t = if used < rest { lo + width * used } else { hi - width * rest };
                    *theta = t.clamp(floor.max(lo), hi);
                    floor = *theta;
                }
            }
        }
    }
}

/// `u` of the fraction `part / (part + rest)` under Beta(1, n): `1 - F = (1 - v)^n`.
fn stick_score(part: f64, rest: f64, n: f64) -> f64 {
    let stick = part + rest;
    if stick <= 0.0 {
        return 0.0;
    }
    let (taken, left) = ((part / stick).max(EDGE), (rest / stick).max(EDGE));
    let ln_left = if taken < left { (-taken).ln_1p() } else { left.ln() };
    score(-(n * ln_left).exp_m1(), (n * ln_left).exp())
}

/// The fraction `(v, 1 - v)` that Beta(1, n) has at `u`.
fn stick_fraction(u: f64, n: f64) -> (f64, f64) {
    let (below, above) = masses(u);
    let ln_left = if below < above { (-below).ln_1p() } else { above.ln() } / n;
    (-ln_left.exp_m1(), ln_left.exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use rand_distr::StandardNormal;

    const FORMS: [Shares; 3] =
        [Shares::Simplex, Shares::Ordered { lo: 0.0, hi: 13.8 }, Shares::Ordered { lo: -7.0, hi: 0.0 }];

    fn constrain(form: Shares, u: &[f64]) -> Vec<f64> {
        let mut theta = vec![0.0; u.len()];
        form.constrain(u, &mut theta);
        theta
    }

    fn unconstrain(form: Shares, theta: &[f64]) -> Vec<f64> {
        let mut u = vec![0.0; theta.len()];
        form.unconstrain(theta, &mut u);
        u
    }

    fn normals(rng: &mut SmallRng, dim: usize, scale: f64) -> Vec<f64> {
        (0..dim).map(|_| scale * rng.sample::<f64, _>(StandardNormal)).collect()
    }

    /// `ln |det|` by elimination with pivoting.
    fn ln_det(mut a: Vec<Vec<f64>>) -> f64 {
        let n = a.len();
        let mut sum = 0.0;
        for k in 0..n {
            let pivot = (k..n).max_by(|&i, &j| a[i][k].abs().total_cmp(&a[j][k].abs())).unwrap();
            a.swap(k, pivot);
            sum += a[k][k].abs().ln();
            for i in k + 1..n {
                let factor = a[i][k] / a[k][k];
                let above = a[k].clone();
                a[i].iter_mut().zip(above).for_each(|(x, above)| *x -= factor * above);
            }
        }
        sum
    }

    #[test]
    fn round_trip() {
        let mut rng = SmallRng::seed_from_u64(1);
        for form in FORMS {
            for dim in [1, 2, 3, 7, 20] {
                for _ in 0..500 {
                    let u = normals(&mut rng, dim, 1.0);
                    let theta = constrain(form, &u);
                    assert_eq!(form.violation(&theta), None);
                    let back = constrain(form, &unconstrain(form, &theta));
                    // A u next to the end of the stick is not held by theta, but theta is.
                    for (a, b) in theta.iter().zip(&back) {
                        assert!((a - b).abs() < 1e-13 * form.width(), "{theta:?} {back:?}");
                    }
                    // The remainder is 1 - sum: its relative error is EPSILON / remainder.
                    let rest = form.parts(&theta).last().unwrap().1;
                    for (a, b) in u.iter().zip(unconstrain(form, &theta)) {
                        let tolerance = 1e-10_f64.max(1e-13 / rest);
                        assert!((a - b).abs() < tolerance, "{form:?} {u:?} {b} {rest}");
                    }
                }
            }
        }
    }

    #[test]
    fn small_shares_lose_nothing() {
        for u in [-8.0, -6.0, -3.0] {
            for back in unconstrain(Shares::Simplex, &constrain(Shares::Simplex, &[u; 4])) {
                assert!((back - u).abs() < 1e-12, "{u} -> {back}");
            }
        }
    }

    #[test]
    fn ln_det_is_the_determinant() {
        let mut rng = SmallRng::seed_from_u64(2);
        for form in FORMS {
            for dim in [1, 2, 3, 5] {
                for _ in 0..20 {
                    let u = normals(&mut rng, dim, 0.7);
                    let shifted = |j: usize, h: f64| {
                        let mut u = u.clone();
                        u[j] += h;
                        constrain(form, &u)
                    };
                    let h = 1e-3;
                    let column = |j: usize| -> Vec<f64> {
                        let at = [-2.0 * h, -h, h, 2.0 * h].map(|h| shifted(j, h));
                        (0..dim)
                            .map(|i| {
                                let near = at[2][i] - at[1][i];
                                (8.0 * near - (at[3][i] - at[0][i])) / (12.0 * h)
                            })
                            .collect()
                    };
                    let numeric = ln_det((0..dim).map(column).collect());
                    assert!((numeric - form.ln_det(&u)).abs() < 1e-8, "{form:?} at {u:?}");
                }
            }
        }
    }

    #[test]
    fn never_outside_and_never_nan() {
        let mut rng = SmallRng::seed_from_u64(3);
        let extremes = [-f64::INFINITY, -1e300, -50.0, -8.0, 0.0, 8.0, 50.0, 1e300, f64::INFINITY];
        for form in FORMS {
            for dim in [1, 2, 3, 11, 40] {
                for _ in 0..2000 {
                    let u: Vec<f64> = (0..dim).map(|_| extremes[rng.random_range(0..extremes.len())]).collect();
                    let theta = constrain(form, &u);
                    assert_eq!(form.violation(&theta), None, "{u:?} -> {theta:?}");
                    assert!(unconstrain(form, &theta).iter().all(|u| u.is_finite()), "{theta:?}");
                }
                for scale in [1.0, 10.0] {
                    let u = normals(&mut rng, dim, scale);
                    let theta = constrain(form, &u);
                    let sum: f64 = theta.iter().sum();
                    assert!(form != Shares::Simplex || sum <= 1.0, "{theta:?}");
                    assert!(form.ln_det(&u).is_finite());
                }
            }
        }
        assert!(constrain(Shares::Simplex, &[f64::NAN, 0.0])[0].is_nan());
    }

    #[test]
    fn corners() {
        for corner in [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]] {
            let u = unconstrain(Shares::Simplex, &corner);
            assert!(u.iter().all(|u| u.is_finite()));
            for (a, b) in constrain(Shares::Simplex, &u).iter().zip(corner) {
                assert!((a - b).abs() < 1e-15, "{corner:?}: {u:?}");
            }
        }
        assert_eq!(unconstrain(Shares::Simplex, &[1.0, 0.0])[1], 0.0);
        let times = Shares::Ordered { lo: 2.0, hi: 3.0 };
        assert_eq!(constrain(times, &unconstrain(times, &[2.0, 3.0, 3.0])), [2.0, 3.0, 3.0]);
    }

    #[test]
    fn violations() {
        let simplex = |theta: &[f64]| Shares::Simplex.violation(theta);
        assert_eq!(simplex(&[0.5, 0.5]), None);
        assert_eq!(simplex(&[0.1; 10]), None);
        assert_eq!(simplex(&[0.5, -1e-9]), Some(1));
        assert_eq!(simplex(&[0.5, 0.4, 0.2]), Some(2));
        assert_eq!(simplex(&[f64::NAN, 0.0]), Some(0));
        let ordered = |theta: &[f64]| Shares::Ordered { lo: 0.0, hi: 2.0 }.violation(theta);
        assert_eq!(ordered(&[0.0, 1.0, 1.0, 2.0]), None);
        assert_eq!(ordered(&[1.0, 0.9]), Some(1));
        assert_eq!(ordered(&[-0.1, 1.0]), Some(0));
        assert_eq!(ordered(&[1.0, 2.1]), Some(1));
        assert_eq!(ordered(&[1.0, f64::NAN]), Some(1));
    }
}
