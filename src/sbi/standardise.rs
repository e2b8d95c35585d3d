//! Columns of very different scales made comparable, robustly.
//!
//! Each column is centred on its median and divided by its interquartile range over 1.349 (the standard deviation, for
//! a normal column), so that outliers do not decide the scale. A column whose quartiles coincide takes its standard
//! deviation, a constant one the scale 1.
//!
//! What lies beyond a knee k is compressed, z -> sign(z) (k + ln(1 + |z| - k)), a bijection with a continuous
//! derivative. The knee is at ten scales, which tames observations unlike any simulation, and at three in a column
//! whose own tails reach beyond ten.

use crate::error::Error;
use crate::rng::mix;

/// Where compression begins, in scales: beyond the tails of most columns, and within heavy ones.
const KNEES: (f64, f64) = (10.0, 3.0);
/// Interquartile range of the standard normal.
const NORMAL_IQR: f64 = 1.348_979_500_392_163_4;

/// The map of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
struct Column {
    centre: f64,
    scale: f64,
    knee: f64,
}

impl Column {
    /// Reorders `values`, which must be finite and not empty.
    fn fit(values: &mut [f64]) -> Self {
        let n = values.len();
        let mut quantile = |q: usize| *values.select_nth_unstable_by(q * (n - 1) / 4, f64::total_cmp).1;
        let (lower, centre, upper) = (quantile(1), quantile(2), quantile(3));
        let scale = [(upper - lower) / NORMAL_IQR, deviation(values)]
            .into_iter()
            .find(|s| s.is_normal() && (centre / s).abs() < 1e12)
            .unwrap_or(1.0);
        let heavy = values.iter().any(|v| ((v - centre) / scale).abs() > KNEES.0);
        Self { centre, scale, knee: if heavy { KNEES.1 } else { KNEES.0 } }
    }

    fn forward(&self, value: f64) -> f64 {
        let z = (value - self.centre) / self.scale;
        let beyond = z.abs() - self.knee;
        if beyond > 0.0 { (self.knee + beyond.ln_1p()).copysign(z) } else { z }
    }

    fn inverse(&self, z: f64) -> f64 {
        let beyond = z.abs() - self.knee;
        let z = if beyond > 0.0 { (self.knee + beyond.exp_m1()).copysign(z) } else { z };
        self.centre + self.scale * z
    }

    /// ln dz/dvalue at a value mapped to z.
    fn ln_slope(&self, z: f64) -> f64 {
        -self.scale.ln() - (z.abs() - self.knee).max(0.0)
    }
}

/// Root mean square distance from the mean, scaled so that it neither overflows nor underflows.
fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| v / n).sum::<f64>();
    let largest = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    largest * (values.iter().map(|v| ((v - mean) / largest).powi(2)).sum::<f64>() / n).sqrt()
}

/// An invertible map of each column of a table to numbers of order one.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Standardise {
    columns: Vec<Column>,
}

impl Standardise {
    /// From the training rows of a table, given as a function of (row, column).
    ///
    /// # Errors
    /// [`Error::Length`] if there is no training row.
    pub(crate) fn fit(rows: &[u32], columns: usize, value: impl Fn(usize, usize) -> f64) -> Result<Self, Error> {
        crate::error::check_length("training rows", rows.len().max(1), rows.len())?;
        let mut buffer = vec![0.0; rows.len()];
        let mut column = |j: usize| {
            buffer.iter_mut().zip(rows).for_each(|(b, &r)| *b = value(r as usize, j));
            Column::fit(&mut buffer)
        };
        Ok(Self { columns: (0..columns).map(&mut column).collect() })
    }

    /// `Ok` if every column's map is one, which that of a file may not be.
    #[cfg(feature = "weights")]
    pub(crate) fn check(&self) -> Result<(), Error> {
        let good = |c: &Column| c.centre.is_finite() && c.scale > 0.0 && c.scale.is_finite() && c.knee > 0.0;
        match self.columns.iter().position(|c| !good(c)) {
            None => Ok(()),
            Some(j) => Err(Error::parameter(format!("scale of column {j}"), "must be positive and finite")),
        }
    }

    /// A number that depends on every bit of every column's map.
    pub fn hash(&self) -> u64 {
        mix(0, self.columns.iter().flat_map(|c| [c.centre, c.scale, c.knee]).map(f64::to_bits))
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// A value of column j, standardised.
    pub fn forward(&self, j: usize, value: f64) -> f64 {
        self.columns[j].forward(value)
    }

    /// The value of column j that is standardised to z.
    pub fn inverse(&self, j: usize, z: f64) -> f64 {
        self.columns[j].inverse(z)
    }

    /// ln |det dz/dvalue| of a row mapped to z.
    pub fn ln_det(&self, z: &[f64]) -> f64 {
        self.columns.iter().zip(z).map(|(c, &z)| c.ln_slope(z)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(values: &[f64]) -> Column {
        Column::fit(&mut values.to_vec())
    }

    #[test]
    fn a_normal_column_becomes_standard() {
        let column = fit(&(1..1000)
            .map(|i| 5.0 + 3.0 * crate::math::normal_quantile(f64::from(i) / 1000.0))
            .collect::<Vec<_>>());
        assert!((column.centre - 5.0).abs() < 1e-9 && (column.scale - 3.0).abs() < 0.02 && column.knee == KNEES.0);
    }

    #[test]
    fn constant_and_nearly_constant_columns_survive() {
        assert_eq!(fit(&[7.0; 20]), Column { centre: 7.0, scale: 1.0, knee: KNEES.0 });
        assert_eq!(fit(&[-1e300]).forward(-1e300), 0.0);
        let mask = fit(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
        assert!(mask.scale > 0.2 && mask.forward(0.0).is_finite());
        let rounding = fit(&[1e15, 1e15 + 0.125, 1e15, 1e15]);
        assert!(rounding.scale == 1.0, "noise of the last digit is not a scale");
    }

    #[test]
    fn heavy_tails_are_compressed_and_come_back() {
        let mut cauchy: Vec<f64> =
            (1..2000).map(|i| (std::f64::consts::PI * (f64::from(i) / 2000.0 - 0.5)).tan()).collect();
        cauchy.push(1e12);
        let column = fit(&cauchy);
        assert!(column.knee == KNEES.1 && column.scale < 2.0);
        for &v in &cauchy {
            let z = column.forward(v);
            assert!(z.abs() < 40.0);
            assert!((column.inverse(z) - v).abs() <= 1e-10 * v.abs().max(1.0), "{v}");
            let h = 1e-5 * v.abs().max(1.0);
            let slope = (column.forward(v + h) - column.forward(v - h)) / (2.0 * h);
            assert!((column.ln_slope(z) - slope.ln()).abs() < 1e-4, "{v}");
        }
    }

    #[test]
    fn extreme_scales_do_not_overflow() {
        for scale in [1e-200, 1e-30, 1e30, 1e200] {
            let column = fit(&(0..101).map(|i| scale * f64::from(i)).collect::<Vec<_>>());
            assert!((column.forward(100.0 * scale) - 50.0 * NORMAL_IQR / 50.0).abs() < 1e-6, "{scale}");
        }
    }
}
