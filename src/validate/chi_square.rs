//! Tails of the chi-square distribution.

/// P(χ² > x) with k degrees of freedom: $Q(k/2, x/2)$, the regularised upper incomplete gamma function.
pub(super) fn upper_tail(x: f64, k: f64) -> f64 {
    tails(x, k).1
}

/// P(χ² < x) and P(χ² > x) with k degrees of freedom, each to its own relative accuracy where it is the smaller one.
///
/// Source: Abramowitz & Stegun 6.5.29 (series) and 6.5.31 (continued fraction, evaluated by the modified Lentz method).
pub(super) fn tails(x: f64, k: f64) -> (f64, f64) {
    let (a, x) = (0.5 * k, 0.5 * x);
    if x.is_nan() || x <= 0.0 {
        return (0.0, 1.0);
    }
    if x == f64::INFINITY {
        return (1.0, 0.0);
    }
    let front = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        let lower = (front * series(a, x)).min(1.0);
        (lower, 1.0 - lower)
    } else {
        let upper = (front * fraction(a, x)).min(1.0);
        (1.0 - upper, upper)
    }
}

/// Σ xⁿ / (a (a+1) .. (a+n))
fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
    while term > 1e-17 * sum {
        n += 1.0;
        term *= x / n;
        sum += term;
    }
    sum
}

/// 1 / (x + (1-a) / (1 + 1 / (x + (2-a) / (1 + 2 / (x + ..))))), as the equivalent fraction with one step for two.
fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / nonzero(b));
    let mut h = d;
    for n in 1..100_000 {
        let step = f64::from(n);
        let numerator = -step * (step - a);
        b += 2.0;
        d = 1.0 / nonzero(numerator * d + b);
        c = nonzero(b + numerator / c);
        h *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ChiSquared, ContinuousCDF};

    #[test]
    fn both_tails_are_those_of_the_reference() {
        for k in [1.0, 2.0, 3.0, 7.0, 19.0, 100.0, 1999.0] {
            let reference = ChiSquared::new(k).unwrap();
            for quantile in [1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0 - 1e-9] {
                let x = reference.inverse_cdf(quantile);
                let (lower, upper) = tails(x, k);
                assert!((lower - reference.cdf(x)).abs() < 1e-11, "{k} {quantile}: {lower}");
                assert!((upper - reference.sf(x)).abs() < 1e-11, "{k} {quantile}: {upper}");
            }
        }
    }

    #[test]
    fn two_degrees_of_freedom_are_exponential_far_into_the_tail() {
        for x in [0.0_f64, 1e-9, 1.0, 30.0, 700.0] {
            assert!((upper_tail(x, 2.0) / (-0.5 * x).exp() - 1.0).abs() < 1e-12, "{x}");
        }
        assert_eq!(tails(f64::INFINITY, 3.0), (1.0, 0.0));
        assert_eq!(tails(0.0, 3.0), (0.0, 1.0));
    }
}
