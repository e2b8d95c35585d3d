//! Do two samples put the same mass into the same regions?
//!
//! Source: Lemos, Sharief, Malkin, Salhi, Stone, Perreault-Levasseur and Hezaveh, *PQMass: probabilistic assessment of the
//! quality of generative models using probability mass estimation* (2024).

use ndarray::ArrayView2;

use super::bootstrap::deviation;
use super::chi_square::upper_tail;
use super::finding::{Departure, Estimate, Evidence, Finding};
use super::samples::{Pooled, check_samples};
use crate::device::Device;
use crate::error::Error;
use crate::rng::permutation;

/// Settings of PQMass: space is cut into the cells nearest to random rows, and the samples' counts in the cells are
/// compared by χ², many times over.
///
/// Columns are standardised together, robustly. The rows that make the cells are not counted.
///
/// ```
/// use retrodict::{Device, tasks::Target, validate::PqMass};
/// let (a, b) = (Target::Rings.sample(500, 1), Target::Rings.sample(600, 2));
/// let found = PqMass { regions: 20, ..PqMass::default() }.test(&Device::cpu(), a.view(), b.view())?;
/// assert!(found.p_values.len() == 50 && found.finding().p_value > Some(0.01));
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PqMass {
    /// Cells: a few rows of each sample should fall into most of them.
    pub regions: usize,
    /// How often space is cut anew.
    pub tessellations: usize,
    /// Seed of the rows that make the cells.
    pub seed: u64,
}

impl Default for PqMass {
    fn default() -> Self {
        Self { regions: 100, tessellations: 50, seed: 0 }
    }
}

/// χ² of every tessellation.
#[derive(Clone, Debug, PartialEq)]
pub struct PqMassTest {
    /// χ² of the counts, for each tessellation.
    pub chi2: Vec<f64>,
    /// Its degrees of freedom: one less than there are cells that hold any row.
    pub freedom: Vec<f64>,
    /// Probability of a χ² as large, if both samples come from one distribution: uniform then, for each tessellation.
    pub p_values: Vec<f64>,
    /// Rows of the smaller sample.
    rows: usize,
}

impl PqMass {
    /// Compares two samples `[rows x columns]`.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in columns or have none, [`Error::NonFinite`] for the first number that is
    /// not finite, [`Error::Parameter`] unless there are two regions, a tessellation, and more rows than regions in each
    /// sample.
    pub fn test(&self, device: &Device, a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<PqMassTest, Error> {
        for (name, value, least) in [("regions", self.regions, 2), ("tessellations", self.tessellations, 1)] {
            if value < least {
                return Err(Error::parameter(name, format!("{value} must be at least {least}")));
            }
        }
        check_samples(a, b, self.regions + 1)?;
        let pooled = Pooled::new(a, b).standardised()?;
        let mut found = vec![(0.0, 0.0); self.tessellations];
        device.pool().run_over(&mut found, |t, found| {
            let order = permutation(pooled.rows() as u32, self.seed, t as u64);
            *found = chi_square(&counts(&pooled, &order, self.regions));
        });
        let (chi2, freedom): (Vec<f64>, Vec<f64>) = found.into_iter().unzip();
        let p_value = |(chi2, freedom): (&f64, &f64)| if *freedom > 0.0 { upper_tail(*chi2, *freedom) } else { 1.0 };
        let p_values = chi2.iter().zip(&freedom).map(p_value).collect();
        Ok(PqMassTest { chi2, freedom, p_values, rows: a.nrows().min(b.nrows()) })
    }
}

impl PqMassTest {
    /// χ² over its degrees of freedom, 1 in the mean if both samples come from one distribution: mean and standard deviation
    /// over the tessellations.
    pub fn reduced_chi2(&self) -> Estimate {
        let ratios: Vec<f64> = self.chi2.iter().zip(&self.freedom).map(|(chi2, k)| chi2 / k.max(1.0)).collect();
        Estimate { value: ratios.iter().sum::<f64>() / ratios.len() as f64, error: deviation(&ratios) }
    }

    /// What it means. Tessellations are not independent: twice the median of their p-values is a valid one (Rüger 1978).
    pub fn finding(&self) -> Finding {
        let mut sorted = self.p_values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (value, cells) = (self.reduced_chi2(), self.freedom.iter().sum::<f64>() / self.freedom.len() as f64);
        // The typical relative difference of a cell's two masses.
        let difference = ((value.value - 1.0).max(0.0) * 2.0 * cells / self.rows as f64).sqrt();
        let found = format!(
            "χ² of the counts in {cells:.0} cells is {:.2} ± {:.2} times its degrees of freedom",
            value.value, value.error
        );
        let evidence = Evidence {
            value,
            expected: 1.0,
            p_value: (2.0 * sorted[sorted.len() / 2]).min(1.0),
            matters: difference >= 0.2,
            departure: Departure::Other,
        };
        evidence.finding(
            "PQMass",
            "",
            &format!("The samples put the same mass everywhere: {found}"),
            &format!("The samples put different masses into some regions: {found}"),
        )
    }
}

/// How many rows of a and of b lie in each cell around the first rows in `order`; those rows are not counted.
fn counts(pooled: &Pooled, order: &[u32], regions: usize) -> Vec<[f64; 2]> {
    let (centres, rest) = order.split_at(regions);
    let mut counts = vec![[0.0; 2]; regions];
    for &i in rest {
        let to = |&c: &u32| pooled.distance2(i as usize, c as usize);
        let (nearest, _) = centres
            .iter()
            .map(to)
            .enumerate()
            .fold((0, f64::INFINITY), |best, (c, distance)| if distance < best.1 { (c, distance) } else { best });
        counts[nearest][usize::from(i as usize >= pooled.first)] += 1.0;
    }
    counts
}

/// χ² of two rows of counts being of one distribution, and its degrees of freedom.
fn chi_square(counts: &[[f64; 2]]) -> (f64, f64) {
    let total = |s: usize| counts.iter().map(|cell| cell[s]).sum::<f64>();
    let (n, m) = (total(0), total(1));
    let occupied = counts.iter().filter(|cell| cell[0] + cell[1] > 0.0);
    let ratio = (m / n).sqrt();
    let term = |[a, b]: &[f64; 2]| (a * ratio - b / ratio).powi(2) / (a + b);
    (occupied.clone().map(term).sum(), (occupied.count() as f64 - 1.0).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;
    use crate::validate::tests::{assert_uniform, normals};

    #[test]
    fn chi_square_of_a_table_of_two_rows() {
        // Pearson's χ² of [[10, 20], [30, 15]] with expectations 16, 14, 24, 21.
        let expected = 36.0 / 16.0 + 36.0 / 14.0 + 36.0 / 24.0 + 36.0 / 21.0;
        let (chi2, freedom) = chi_square(&[[10.0, 30.0], [20.0, 15.0], [0.0, 0.0]]);
        assert!((chi2 - expected).abs() < 1e-12 && freedom == 1.0, "{chi2}, not {expected}");
    }

    #[test]
    fn p_values_by_chance_are_uniform() {
        let settings = PqMass { regions: 10, tessellations: 1, seed: 4 };
        let test =
            |i: u64| settings.test(&Device::cpu(), normals(200, 2, 2 * i).view(), normals(150, 2, 2 * i + 1).view());
        assert_uniform((0..400).map(|i| test(i).unwrap().p_values[0]));
    }

    #[test]
    fn a_shift_and_a_lost_mode_are_wrong() {
        let run = |a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, threads| {
            PqMass { regions: 50, ..PqMass::default() }.test(&Device::cpu_with_threads(threads), a, b).unwrap()
        };
        let (a, b) = (normals(1000, 2, 5), normals(1200, 2, 6));
        let same = run(a.view(), b.view(), 2);
        assert_eq!(same, run(a.view(), b.view(), 1));
        assert_eq!(same.finding().verdict, Verdict::Sound, "{}", same.finding());
        let shifted = run(a.view(), (&b + 0.5).view(), 2).finding();
        assert_eq!(shifted.verdict, Verdict::Wrong, "{shifted}");
        let all = crate::tasks::Target::EightGaussians.sample(1000, 1);
        let seven = crate::tasks::Target::EightGaussians.sample(1200, 2);
        let mode = &crate::tasks::Target::EightGaussians.modes()[3].mean;
        let far = |i: &usize| (seven[[*i, 0]] - mode[0]).hypot(seven[[*i, 1]] - mode[1]) > 0.6;
        let kept: Vec<usize> = (0..1200).filter(far).collect();
        let lost = run(all.view(), seven.select(ndarray::Axis(0), &kept).view(), 2).finding();
        assert_eq!(lost.verdict, Verdict::Wrong, "{lost}");
    }

    #[test]
    fn impossible_settings_are_named() {
        let (a, device) = (normals(20, 1, 1), Device::cpu_with_threads(1));
        for (regions, tessellations) in [(1, 5), (5, 0), (20, 5)] {
            let settings = PqMass { regions, tessellations, seed: 0 };
            assert!(settings.test(&device, a.view(), a.view()).is_err());
        }
        let settings = PqMass { regions: 5, tessellations: 2, seed: 0 };
        let constant = settings.test(&device, (&a * 0.0).view(), (&a * 0.0).view()).unwrap();
        assert!(constant.chi2[0] < 1e-9 && constant.p_values[0] == 1.0, "{constant:?}");
    }
}
