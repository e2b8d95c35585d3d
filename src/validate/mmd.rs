//! Maximum mean discrepancy between two samples.
//!
//! Source: Gretton, Borgwardt, Rasch, Schölkopf and Smola, *A kernel two-sample test* (2012).

use ndarray::ArrayView2;

use super::bootstrap::deviation;
use super::finding::{Departure, Estimate, Evidence, Finding};
use super::samples::{Chance, Pooled, check_samples};
use crate::device::Device;
use crate::error::Error;

/// Settings of the kernel two-sample test: $\mathrm{MMD}^2 = \mathbb E k(a, a') + \mathbb E k(b, b') - 2 \mathbb E k(a, b)$
/// without bias, with $k(x, y) = \exp(-|x - y|^2 / 2 h^2)$ and h the median of the distances between rows.
///
/// Columns are standardised together, robustly.
///
/// ```
/// use retrodict::{Device, tasks::Target, validate::Mmd};
/// let (a, b) = (Target::TwoMoons.sample(300, 1), Target::Rings.sample(300, 2));
/// assert!(Mmd::default().test(&Device::cpu(), a.view(), b.view())?.p_value < 0.01);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmd {
    /// Of a longer sample this many random rows are used: memory and time grow with their square.
    pub most_rows: usize,
    /// Exchanges of rows between the samples from which the p-value comes.
    pub exchanges: usize,
    /// Seed of the rows and exchanges.
    pub seed: u64,
}

impl Default for Mmd {
    fn default() -> Self {
        Self { most_rows: 1000, exchanges: 200, seed: 0 }
    }
}

/// A squared maximum mean discrepancy and what it is by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MmdTest {
    /// MMD², 0 in the mean if both samples come from one distribution, with its standard error.
    pub mmd2: Estimate,
    /// The kernel's width h, in standard deviations of the pooled columns.
    pub bandwidth: f64,
    /// Probability of a value as large if both come from one distribution.
    pub p_value: f64,
}

impl Mmd {
    /// Compares two samples `[rows x columns]`.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in columns or have none, [`Error::NonFinite`] for the first number that is
    /// not finite, [`Error::Parameter`] for fewer than two rows or exchanges.
    pub fn test(&self, device: &Device, a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<MmdTest, Error> {
        check_samples(a, b, 2)?;
        for (name, value) in [("most_rows", self.most_rows), ("exchanges", self.exchanges)] {
            if value < 2 {
                return Err(Error::parameter(name, format!("{value} must be at least 2")));
            }
        }
        let pooled = Pooled::new(a, b).thinned(self.most_rows, self.seed).standardised()?;
        let kernel = Kernel::new(device, &pooled);
        let own: Vec<u32> = (0..pooled.rows() as u32).collect();
        let value = kernel.mmd2(&own);
        let exchanged = pooled.exchanged(device, self.exchanges, self.seed, |order| kernel.mmd2(order));
        let chance = Chance::new(&exchanged, value);
        let error = kernel.linear_error().hypot(chance.deviation);
        Ok(MmdTest { mmd2: Estimate { value, error }, bandwidth: kernel.bandwidth, p_value: chance.p_value })
    }
}

impl MmdTest {
    /// What it means.
    pub fn finding(&self) -> Finding {
        let Estimate { value, error } = self.mmd2;
        let found = format!("MMD² is {value:.4} ± {error:.4}, 0 in the mean by chance");
        let evidence = Evidence {
            value: self.mmd2,
            expected: 0.0,
            p_value: self.p_value,
            matters: value >= 0.01,
            departure: Departure::Other,
        };
        let (alike, differ) = (format!("The samples are alike: {found}"), format!("The samples differ: {found}"));
        evidence.finding("MMD", "", &alike, &differ)
    }
}

/// The kernel between all pooled rows; 0 between a row and itself.
struct Kernel {
    first: usize,
    bandwidth: f64,
    /// `[rows x rows]`
    matrix: Vec<f32>,
    /// Sum over each row.
    sums: Vec<f64>,
}

impl Kernel {
    fn new(device: &Device, pooled: &Pooled) -> Self {
        let rows = pooled.rows();
        let mut matrix = vec![0.0_f32; rows * rows];
        let mut blocks: Vec<_> = matrix.chunks_mut(rows).collect();
        device.pool().run_over(&mut blocks, |i, row| {
            row.iter_mut().enumerate().for_each(|(j, k)| *k = pooled.distance2(i, j) as f32);
        });
        let bandwidth = median_distance(&matrix, rows);
        let precision = -0.5 / (bandwidth * bandwidth);
        let mut blocks: Vec<_> = matrix.chunks_mut(rows).map(|row| (row, 0.0)).collect();
        device.pool().run_over(&mut blocks, |i, (row, sum)| {
            row.iter_mut().for_each(|k| *k = (f64::from(*k) * precision).exp() as f32);
            row[i] = 0.0;
            *sum = row.iter().map(|&k| f64::from(k)).sum();
        });
        let sums = blocks.into_iter().map(|(_, sum)| sum).collect();
        Self { first: pooled.first, bandwidth, matrix, sums }
    }

    fn rows(&self) -> usize {
        self.sums.len()
    }

    /// MMD² between the rows that stand in the places of a and of b.
    ///
    /// The sums within b and between a and b follow from that within a and from the rows' sums.
    fn mmd2(&self, places: &[u32]) -> f64 {
        let (a, b) = places.split_at(self.first);
        let mut within = vec![0.0_f32; self.rows()];
        a.iter().for_each(|&i| within[i as usize] = 1.0);
        let row = |&i: &u32| -> f64 {
            let row = &self.matrix[i as usize * self.rows()..][..self.rows()];
            f64::from(row.chunks(256).zip(within.chunks(256)).map(|(k, w)| dot(k, w)).sum::<f32>())
        };
        let total = |rows: &[u32]| rows.iter().map(|&i| self.sums[i as usize]).sum::<f64>();
        let aa: f64 = a.iter().map(row).sum();
        let ab = total(a) - aa;
        let bb = total(b) - ab;
        let (n, m) = (a.len() as f64, b.len() as f64);
        aa / (n * (n - 1.0)) + bb / (m * (m - 1.0)) - 2.0 * ab / (n * m)
    }

    /// Standard error from the first-order term of the U-statistic: with h(x) = E k(x, a) - E k(x, b) its variance is
    /// 4 Var h(a) / n + 4 Var h(b) / m. By chance it vanishes.
    fn linear_error(&self) -> f64 {
        let (rows, n) = (self.rows(), self.first as f64);
        let m = rows as f64 - n;
        let witness = |i: usize| {
            let a: f64 = self.matrix[i * rows..][..self.first].iter().map(|&k| f64::from(k)).sum();
            let own = |within: bool| if within { 1.0 } else { 0.0 };
            a / (n - own(i < self.first)) - (self.sums[i] - a) / (m - own(i >= self.first))
        };
        let variance = |range: std::ops::Range<usize>| {
            let count = range.len() as f64;
            deviation(&range.map(witness).collect::<Vec<_>>()).powi(2) / count
        };
        2.0 * (variance(0..self.first) + variance(self.first..rows)).sqrt()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The median of the distances between different rows, from their squares; 1 if that is zero.
fn median_distance(squares: &[f32], rows: usize) -> f64 {
    let mut above: Vec<f32> =
        (0..rows).flat_map(|i| squares[i * rows + i + 1..(i + 1) * rows].iter().copied()).collect();
    let middle = above.len() / 2;
    let median = f64::from(*above.select_nth_unstable_by(middle, f32::total_cmp).1).sqrt();
    if median > 0.0 { median } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;
    use crate::validate::tests::{assert_uniform, normals};
    use ndarray::Array2;

    fn test(a: &Array2<f64>, b: &Array2<f64>) -> MmdTest {
        Mmd::default().test(&Device::cpu(), a.view(), b.view()).unwrap()
    }

    #[test]
    fn it_is_the_u_statistic_of_its_definition() {
        let (a, b) = (normals(7, 2, 1), normals(5, 2, 2));
        let pooled = Pooled::new(a.view(), b.view()).standardised().unwrap();
        let kernel = Kernel::new(&Device::cpu(), &pooled);
        let k = |i, j| (-0.5 * pooled.distance2(i, j) / kernel.bandwidth.powi(2)).exp();
        let mean = |left: std::ops::Range<usize>, right: std::ops::Range<usize>| {
            let pairs = left.flat_map(|i| right.clone().map(move |j| (i, j))).filter(|(i, j)| i != j);
            let values: Vec<f64> = pairs.map(|(i, j)| k(i, j)).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let expected = mean(0..7, 0..7) + mean(7..12, 7..12) - 2.0 * mean(0..7, 7..12);
        let found = kernel.mmd2(&(0..12).collect::<Vec<u32>>());
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    /// For N(0, 1) and N(δ, 1) E k = h / √(h² + 2) exp(-δ² / 2 (h² + 2)), all in one unit.
    #[test]
    fn between_normals_it_is_that_of_the_integrals() {
        let (a, b) = (normals(1000, 1, 3), normals(1000, 1, 4) + 1.0);
        let found = test(&a, &b);
        let pooled: Vec<u32> = (0..2000).collect();
        let at = |i: usize, _: usize| if i < 1000 { a[[i, 0]] } else { b[[i - 1000, 0]] };
        let scale = crate::sbi::Standardise::fit(&pooled, 1, at).unwrap();
        let unit = scale.forward(0, 1.0) - scale.forward(0, 0.0);
        let h2 = (found.bandwidth / unit).powi(2);
        let exact = 2.0 * (h2 / (h2 + 2.0)).sqrt() * (1.0 - (-0.5 / (h2 + 2.0)).exp());
        assert!((found.mmd2.value - exact).abs() < 3.0 * found.mmd2.error, "{found:?}, not {exact}");
        assert!(found.mmd2.error < 0.2 * exact && found.p_value < 1e-6, "{found:?}");
        assert_eq!(found.finding().verdict, Verdict::Wrong);
    }

    #[test]
    fn by_chance_it_is_zero_in_the_mean_and_its_p_values_are_uniform() {
        let settings = Mmd { exchanges: 39, ..Mmd::default() };
        let test =
            |i: u64| settings.test(&Device::cpu(), normals(30, 2, 2 * i).view(), normals(25, 2, 2 * i + 1).view());
        let found: Vec<MmdTest> = (0..300).map(|i| test(i).unwrap()).collect();
        let mean = found.iter().map(|t| t.mmd2.value).sum::<f64>() / 300.0;
        let sd = deviation(&found.iter().map(|t| t.mmd2.value).collect::<Vec<_>>());
        assert!(mean.abs() < 4.0 * sd / 300.0_f64.sqrt(), "{mean} ± {sd}");
        assert_uniform(found.iter().map(|t| t.p_value));
    }

    #[test]
    fn threads_constants_and_impossible_settings() {
        let (a, b) = (normals(80, 3, 5), normals(1500, 3, 6));
        let run = |threads| Mmd::default().test(&Device::cpu_with_threads(threads), a.view(), b.view()).unwrap();
        assert_eq!(run(1), run(3));
        assert_eq!(run(1).finding().verdict, Verdict::Sound);
        let same = test(&Array2::ones((10, 2)), &Array2::ones((12, 2)));
        assert!(same.mmd2.value.abs() < 1e-6 && same.p_value > 0.9, "{same:?}");
        let bad = Mmd { exchanges: 1, ..Mmd::default() };
        assert!(
            matches!(bad.test(&Device::cpu(), a.view(), b.view()), Err(Error::Parameter { name, .. }) if name == "exchanges")
        );
        assert!(Mmd::default().test(&Device::cpu(), a.view(), normals(5, 2, 1).view()).is_err());
    }
}
