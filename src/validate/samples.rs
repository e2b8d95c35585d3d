//! Two samples side by side, and what chance alone would make of them.

use ndarray::ArrayView2;

use super::bootstrap;
use super::chi_square::upper_tail;
use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::math::normal_cdf;
use crate::rng::permutation;
use crate::sbi::Standardise;

/// `Ok` if both samples have the same columns, at least `least` rows, and only finite numbers.
pub(super) fn check_samples(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, least: usize) -> Result<(), Error> {
    check_length("columns of b", a.ncols().max(1), b.ncols())?;
    check_finite("a", a)?;
    check_finite("b", b)?;
    if a.nrows().min(b.nrows()) < least {
        let why = format!("{} and {}; each sample needs at least {least}", a.nrows(), b.nrows());
        return Err(Error::parameter("rows", why));
    }
    Ok(())
}

/// The rows of both samples in one table, those of a first.
pub(super) struct Pooled {
    pub columns: usize,
    /// Rows of a.
    pub first: usize,
    table: Vec<f64>,
}

impl Pooled {
    /// The tables as they are.
    pub fn new(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Self {
        Self { columns: a.ncols(), first: a.nrows(), table: a.iter().chain(b).copied().collect() }
    }

    /// With columns standardised together, robustly.
    pub fn standardised(mut self) -> Result<Self, Error> {
        let (columns, rows) = (self.columns, (0..self.rows() as u32).collect::<Vec<_>>());
        let scale = Standardise::fit(&rows, columns, |i, j| self.table[i * columns + j])?;
        self.table.iter_mut().enumerate().for_each(|(i, v)| *v = scale.forward(i % columns, *v));
        Ok(self)
    }

    /// At most `most` random rows of each sample.
    pub fn thinned(self, most: usize, seed: u64) -> Self {
        let second = self.rows() - self.first;
        let choose =
            |rows: usize, which| permutation(rows as u32, seed, which).into_iter().take(most).map(|i| i as usize);
        let kept: Vec<usize> = choose(self.first, 0).chain(choose(second, 1).map(|i| self.first + i)).collect();
        let table = kept.iter().flat_map(|&i| self.row(i)).copied().collect();
        Self { columns: self.columns, first: self.first.min(most), table }
    }

    pub fn rows(&self) -> usize {
        self.table.len() / self.columns
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.table[i * self.columns..][..self.columns]
    }

    pub fn distance2(&self, i: usize, j: usize) -> f64 {
        distance2(self.row(i), self.row(j))
    }

    /// Root mean square standard deviation of the columns.
    pub fn deviation(&self) -> f64 {
        let column = |j: usize| self.table.iter().skip(j).step_by(self.columns).copied().collect::<Vec<_>>();
        let variances = (0..self.columns).map(|j| bootstrap::deviation(&column(j)).powi(2));
        (variances.sum::<f64>() / self.columns as f64).sqrt()
    }

    /// The statistic for random exchanges of rows between the samples: it is given which row takes which place.
    pub fn exchanged(
        &self,
        device: &Device,
        exchanges: usize,
        seed: u64,
        statistic: impl Fn(&[u32]) -> f64 + Sync,
    ) -> Vec<f64> {
        let mut values = vec![0.0; exchanges];
        device.pool().run_over(&mut values, |i, value| {
            *value = statistic(&permutation(self.rows() as u32, seed, 2 + i as u64));
        });
        values
    }
}

/// Squared Euclidean distance.
pub(super) fn distance2(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// What a statistic is by chance, from repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chance {
    pub mean: f64,
    pub deviation: f64,
    /// Probability to be as large as what was observed, or larger.
    pub p_value: f64,
}

impl Chance {
    /// From values by chance. The p-value counts how many of them reach the observed one; beyond them all it is that of a
    /// shifted gamma distribution with their mean, variance and skewness (Pearson type III).
    pub fn new(values: &[f64], observed: f64) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = bootstrap::deviation(values);
        let reached = values.iter().filter(|&&v| v >= observed).count() as f64;
        let counted = (1.0 + reached) / (1.0 + n);
        let z = (observed - mean) / deviation;
        let skewness = values.iter().map(|v| ((v - mean) / deviation).powi(3)).sum::<f64>() / n;
        let beyond = if deviation > 0.0 { counted.min(gamma_tail(z, skewness)) } else { counted };
        Self { mean, deviation, p_value: if reached > 0.0 { counted } else { beyond } }
    }
}

/// P(Z > z) for a shifted gamma distribution of mean 0, variance 1 and this skewness; normal if it is not positive.
fn gamma_tail(z: f64, skewness: f64) -> f64 {
    if skewness < 0.01 {
        return normal_cdf(-z);
    }
    let freedom = 8.0 / (skewness * skewness);
    upper_tail(freedom + z * (2.0 * freedom).sqrt(), freedom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_tail_beyond_all_repeats_is_extrapolated() {
        let values: Vec<f64> = (0..99).map(|i| crate::math::normal_quantile((f64::from(i) + 0.5) / 99.0)).collect();
        assert_eq!(Chance::new(&values, 0.0).p_value, 0.51);
        let far = Chance::new(&values, 5.0).p_value;
        assert!((1e-8..1e-5).contains(&far), "{far}");
        // Values that do not vary say no more than how many they are.
        assert_eq!(Chance::new(&[1.0; 9], 2.0).p_value, 0.1);
        // An exponential's tail, skewness 2.
        assert!((gamma_tail(9.0, 2.0) / (-10.0_f64).exp() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn pooled_rows_keep_their_sample() {
        let (a, b) = (array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], array![[7.0, 8.0], [9.0, 10.0]]);
        let pooled = Pooled::new(a.view(), b.view());
        assert_eq!((pooled.rows(), pooled.first, pooled.row(3)), (5, 3, &[7.0, 8.0][..]));
        assert_eq!(pooled.distance2(0, 4), 128.0);
        assert!((pooled.deviation() - 10_f64.sqrt()).abs() < 1e-12); // of 1, 3, 5, 7, 9
        let thinned = pooled.thinned(1, 3);
        assert_eq!((thinned.rows(), thinned.first), (2, 1));
        assert!(thinned.row(0)[0] < 6.0 && thinned.row(1)[0] > 6.0);
    }
}
