//! Expected coverage of highest-density regions.

use ndarray::ArrayView1;

/// How often regions of given mass contain the truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// Mass of the region, from 0 to 1.
    pub levels: Vec<f64>,
    /// Fraction of the test rows whose true parameters lie in it. Above the level: the posterior is too wide.
    pub coverage: Vec<f64>,
}

/// Fraction of rows covered at `levels` + 1 evenly spaced levels from 0 to 1, given for each row the level at which
/// it begins to be covered (Hermans et al. 2022).
pub fn coverage(hpd_level: ArrayView1<'_, f64>, levels: usize) -> Coverage {
    let levels: Vec<f64> = (0..=levels.max(1)).map(|i| i as f64 / levels.max(1) as f64).collect();
    let n = hpd_level.len().max(1) as f64;
    let coverage = levels.iter().map(|&l| hpd_level.iter().filter(|&&h| h <= l).count() as f64 / n).collect();
    Coverage { levels, coverage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array1;

    #[test]
    fn uniform_levels_are_covered_as_they_say() {
        let uniform: Array1<f64> = (0..1000).map(|i| (f64::from(i) + 0.5) / 1000.0).collect();
        let result = coverage(uniform.view(), 10);
        assert!(result.levels.iter().zip(&result.coverage).all(|(l, c)| (l - c).abs() < 1e-9));
    }

    #[test]
    fn overconfidence_shows_as_coverage_below_the_level() {
        // A posterior half as wide as the truth: the truth is often further out than it says.
        let narrow: Array1<f64> = (0..1000).map(|i| ((f64::from(i) + 0.5) / 1000.0).sqrt()).collect();
        let result = coverage(narrow.view(), 10);
        assert!(result.coverage[5] < 0.3 && result.coverage[9] < 0.9);
    }
}
