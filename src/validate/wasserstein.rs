//! How far mass must be moved: the sliced Wasserstein distance between two samples.
//!
//! Source: Bonneel, Rabin, Peyré and Pfister, *Sliced and Radon Wasserstein barycenters of measures* (2015).

use ndarray::ArrayView2;
use rand::RngExt;

use super::bootstrap::deviation;
use super::finding::{Departure, Estimate, Evidence, Finding};
use super::samples::{Chance, Pooled, check_samples};
use crate::device::Device;
use crate::error::Error;
use crate::rng::{Noise, NoiseId, Philox, mix};

/// Settings of a sliced Wasserstein distance, $SW_2^2 = \mathbb E_u W_2^2(u \cdot a, u \cdot b)$ over directions u, where on a
/// line $W_2^2 = \int_0^1 (F_a^{-1}(q) - F_b^{-1}(q))^2\, dq$.
///
/// ```
/// use retrodict::{Device, tasks::Target, validate::SlicedWasserstein};
/// let (a, b) = (Target::TwoMoons.sample(300, 1), Target::TwoMoons.sample(400, 2));
/// let found = SlicedWasserstein::default().test(&Device::cpu(), a.view(), (&b + 1.0).view())?;
/// assert!(found.p_value < 1e-6 && found.distance.value > found.expected);
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlicedWasserstein {
    /// Random directions; a single one where there is a single column.
    pub directions: usize,
    /// Whether columns are standardised together first, robustly: the distance then is in standard deviations.
    pub standardise: bool,
    /// Exchanges of rows between the samples from which the p-value comes, and resamples for the standard error.
    pub repeats: usize,
    /// Seed of the directions, exchanges and resamples.
    pub seed: u64,
}

impl Default for SlicedWasserstein {
    fn default() -> Self {
        Self { directions: 50, standardise: true, repeats: 200, seed: 0 }
    }
}

/// A sliced Wasserstein distance and what it is by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WassersteinTest {
    /// The distance between the samples, with its bootstrap error.
    pub distance: Estimate,
    /// Its mean if both samples come from one distribution: it is never zero between finite samples.
    pub expected: f64,
    /// Probability of a distance as large if they do.
    pub p_value: f64,
    /// Root mean square standard deviation of the columns: what the distance is to be compared with.
    pub scale: f64,
}

impl SlicedWasserstein {
    /// Compares two samples `[rows x columns]`.
    ///
    /// # Errors
    /// [`Error::Length`] if the tables differ in columns or have none, [`Error::NonFinite`] for the first number that is
    /// not finite, [`Error::Parameter`] for fewer than two rows or for no directions or repeats.
    pub fn test(
        &self,
        device: &Device,
        a: ArrayView2<'_, f64>,
        b: ArrayView2<'_, f64>,
    ) -> Result<WassersteinTest, Error> {
        check_samples(a, b, 2)?;
        for (name, value, least) in [("directions", self.directions, 1), ("repeats", self.repeats, 2)] {
            if value < least {
                return Err(Error::parameter(name, format!("{value} must be at least {least}")));
            }
        }
        let pooled = Pooled::new(a, b);
        let pooled = if self.standardise { pooled.standardised()? } else { pooled };
        let slices = Slices::new(device, &pooled, self.directions, self.seed);
        let (rows, first) = (pooled.rows(), pooled.first);
        let value = slices.distance(&(0..rows as u32).collect::<Vec<_>>());
        let exchanged = pooled.exchanged(device, self.repeats, self.seed, |order| slices.distance(order));
        let mut resampled = vec![0.0; self.repeats];
        device.pool().run_over(&mut resampled, |i, value| {
            let mut rng = Philox::new(mix(self.seed, [1]), i as u64);
            let row =
                |place: usize| if place < first { rng.random_range(0..first) } else { rng.random_range(first..rows) };
            *value = slices.distance(&(0..rows).map(row).map(|i| i as u32).collect::<Vec<_>>());
        });
        let chance = Chance::new(&exchanged, value);
        let distance = Estimate { value, error: deviation(&resampled) };
        Ok(WassersteinTest { distance, expected: chance.mean, p_value: chance.p_value, scale: pooled.deviation() })
    }
}

impl WassersteinTest {
    /// What it means.
    pub fn finding(&self) -> Finding {
        let Estimate { value, error } = self.distance;
        let distance = format!("the sliced Wasserstein distance is {value:.3} ± {error:.3}");
        let evidence = Evidence {
            value: self.distance,
            expected: self.expected,
            p_value: self.p_value,
            matters: value * value - self.expected * self.expected >= (0.1 * self.scale).powi(2),
            departure: Departure::Other,
        };
        evidence.finding(
            "sliced Wasserstein",
            "",
            &format!("The samples are alike: {distance}, {:.3} by chance", self.expected),
            &format!("The samples differ: {distance}, only {:.3} by chance", self.expected),
        )
    }
}

/// The pooled rows along each direction, in rising order.
struct Slices {
    first: usize,
    /// For each direction the projections in rising order, and which rows they are of.
    sorted: Vec<(Vec<f64>, Vec<u32>)>,
}

impl Slices {
    fn new(device: &Device, pooled: &Pooled, directions: usize, seed: u64) -> Self {
        let directions = if pooled.columns == 1 { 1 } else { directions };
        let mut sorted = vec![(Vec::new(), Vec::new()); directions];
        device.pool().run_over(&mut sorted, |d, (values, rows)| {
            let mut direction = vec![0.0; pooled.columns];
            Noise { seed, step: 0, id: NoiseId(0) }.fill_normal(d as u32, pooled.columns, &mut direction);
            let norm = direction.iter().map(|u| u * u).sum::<f64>().sqrt();
            let along = |i: usize| pooled.row(i).iter().zip(&direction).map(|(x, u)| x * u / norm).sum::<f64>();
            let projections: Vec<f64> = (0..pooled.rows()).map(along).collect();
            *rows = (0..pooled.rows() as u32).collect();
            rows.sort_by(|&i, &j| projections[i as usize].total_cmp(&projections[j as usize]));
            *values = rows.iter().map(|&i| projections[i as usize]).collect();
        });
        Self { first: pooled.first, sorted }
    }

    /// The distance between the rows that stand in the places of a and of b.
    fn distance(&self, places: &[u32]) -> f64 {
        let mut copies = vec![[0_u32; 2]; places.len()];
        for (place, &row) in places.iter().enumerate() {
            copies[row as usize][usize::from(place >= self.first)] += 1;
        }
        let (mut sides, mut sum) = ([Vec::new(), Vec::new()], 0.0);
        for (values, rows) in &self.sorted {
            sides.iter_mut().for_each(Vec::clear);
            for (&value, &row) in values.iter().zip(rows) {
                for (side, copies) in sides.iter_mut().zip(copies[row as usize]) {
                    side.extend(std::iter::repeat_n(value, copies as usize));
                }
            }
            sum += on_a_line(&sides[0], &sides[1]);
        }
        (sum / self.sorted.len() as f64).sqrt()
    }
}

/// $W_2^2$ of two samples on a line, each in rising order: the quantile functions are constant between multiples of 1/n
/// and 1/m.
fn on_a_line(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len() as u64, b.len() as u64);
    let (mut at, mut sum) = (0, 0.0);
    let (mut i, mut j) = (0, 0);
    // Masses in units of 1 / (n m).
    while at < n * m {
        let next = ((i + 1) * m).min((j + 1) * n);
        sum += (next - at) as f64 * (a[i as usize] - b[j as usize]).powi(2);
        at = next;
        i += u64::from(at == (i + 1) * m);
        j += u64::from(at == (j + 1) * n);
    }
    sum / (n * m) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;
    use crate::validate::tests::{assert_uniform, normals};

    fn raw(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> WassersteinTest {
        let settings = SlicedWasserstein { standardise: false, repeats: 100, ..SlicedWasserstein::default() };
        settings.test(&Device::cpu(), a, b).unwrap()
    }

    #[test]
    fn small_samples_on_a_line() {
        assert_eq!(on_a_line(&[0.0, 1.0], &[2.0, 3.0]), 4.0);
        // Thirds against halves: 1/3 of 0 to 0, 1/6 of 1 to 0, 1/6 of 1 to 3, 1/3 of 2 to 3.
        let expected = 1.0 / 6.0 + 4.0 / 6.0 + 1.0 / 3.0;
        assert!((on_a_line(&[0.0, 1.0, 2.0], &[0.0, 3.0]) - expected).abs() < 1e-12);
    }

    #[test]
    fn between_normals_it_is_that_of_their_means_and_deviations() {
        let (a, b) = (normals(8000, 1, 1), normals(6000, 1, 2) * 2.0 + 1.5);
        let found = raw(a.view(), b.view());
        let exact = (1.5_f64.powi(2) + 1.0).sqrt();
        assert!((found.distance.value - exact).abs() < 4.0 * found.distance.error, "{found:?}, not {exact}");
        assert!((0.01..0.05).contains(&found.distance.error) && found.p_value < 1e-10, "{found:?}");
        // A shift along one of three columns: |u₁|² is 1/3 in the mean.
        let mut shifted = normals(2000, 3, 3);
        shifted.column_mut(0).map_inplace(|x| *x += 2.0);
        let directions = SlicedWasserstein { directions: 500, standardise: false, repeats: 2, seed: 1 };
        let found = directions.test(&Device::cpu(), normals(2000, 3, 4).view(), shifted.view()).unwrap();
        assert!((found.distance.value - 2.0 / 3.0_f64.sqrt()).abs() < 0.08, "{found:?}");
    }

    #[test]
    fn p_values_by_chance_are_uniform() {
        let settings = SlicedWasserstein { directions: 5, repeats: 39, ..SlicedWasserstein::default() };
        let test =
            |i: u64| settings.test(&Device::cpu(), normals(30, 2, 2 * i).view(), normals(40, 2, 2 * i + 1).view());
        assert_uniform((0..200).map(|i| test(i).unwrap().p_value));
    }

    #[test]
    fn verdicts_and_threads() {
        let (a, b) = (normals(300, 2, 5), normals(301, 2, 6));
        let run = |threads| SlicedWasserstein::default().test(&Device::cpu_with_threads(threads), a.view(), b.view());
        assert_eq!(run(1), run(3));
        assert_eq!(run(1).unwrap().finding().verdict, Verdict::Sound);
        let moved = raw(a.view(), (&b + 0.5).view()).finding();
        assert_eq!(moved.verdict, Verdict::Wrong, "{moved}");
        let same = raw(a.view(), a.view());
        assert!(same.distance.value == 0.0 && same.p_value > 0.9, "{same:?}");
        assert!(
            SlicedWasserstein { directions: 0, ..SlicedWasserstein::default() }
                .test(&Device::cpu_with_threads(1), a.view(), b.view())
                .is_err()
        );
    }
}
