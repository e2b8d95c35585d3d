//! The exact simultaneous envelope of an empirical distribution function.
//!
//! If n numbers are uniform, the count R_k of those at or below k / K is binomial. An envelope that leaves out the same
//! tail probability γ at every k, on each side γ / 2, is narrower at the ends, where a wrong posterior shows first, than
//! the Kolmogorov-Smirnov band. What it holds in all K - 1 points at once is computed, not simulated: given their sum, the
//! increments of R are independent Poisson counts, so a convolution a point sums over all paths that stay inside.
//!
//! Source: Säilynoja, Bürkner and Vehtari, *Graphical test for discrete uniformity and its applications in
//! goodness-of-fit evaluation and multiple sample comparison* (2022).

use std::ops::RangeInclusive;

use crate::error::Error;

/// Counts of n uniform numbers at or below k / K, for 0 < k < K.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    n: usize,
    points: Vec<Binomial>,
    /// P(Poisson(n / K) = j) for j from 0 on.
    increments: Vec<f64>,
    /// P(Poisson(n) = n)
    total: f64,
}

impl Envelope {
    /// For n > 0 numbers and K = `levels` > 0.
    pub fn new(n: usize, levels: usize) -> Self {
        let mean = n as f64 / levels as f64;
        let most = n.min((mean + 12.0 * mean.sqrt() + 40.0) as usize);
        Self {
            n,
            points: (1..levels).map(|k| Binomial::new(n, k as f64 / levels as f64)).collect(),
            increments: (0..=most).map(|j| poisson(j, mean)).collect(),
            total: poisson(n, n as f64),
        }
    }

    /// Probability that uniform numbers leave the envelope that these just touch: what to compare with 1 % or 5 %.
    pub fn p_value(&self, values: &[f64]) -> f64 {
        let levels = self.points.len() + 1;
        let counts = counts(values, levels);
        let tails = self.points.iter().zip(&counts[1..levels]).map(|(point, &count)| point.two_sided(count));
        let gamma = tails.fold(1.0, f64::min);
        (1.0 - self.inside(gamma)).clamp(0.0, 1.0)
    }

    /// Lowest and highest counts at each k from 1 to K - 1 of the narrowest envelope that holds all of them with at
    /// least this probability.
    pub fn band(&self, confidence: f64) -> Result<Vec<RangeInclusive<usize>>, Error> {
        check_confidence(confidence)?;
        // `inside` falls as γ rises; at the lower end all points together leave out no more than they may.
        let (mut low, mut high) = (((1.0 - confidence) / (self.points.len() + 1) as f64).ln(), 0.0);
        for _ in 0..18 {
            let middle = 0.5 * (low + high);
            *(if self.inside(middle.exp()) >= confidence { &mut low } else { &mut high }) = middle;
        }
        Ok(self.points.iter().map(|point| point.inside(low.exp())).collect())
    }

    /// Probability that at every k both tails of the count are larger than γ / 2.
    fn inside(&self, gamma: f64) -> f64 {
        let (mut first, mut paths) = (0, vec![1.0]);
        for point in &self.points {
            let range = point.inside(gamma);
            if range.is_empty() {
                return 0.0;
            }
            let next = range.clone().map(|count| self.arrive(count, first, &paths)).collect();
            (first, paths) = (*range.start(), next);
        }
        self.arrive(self.n, first, &paths) / self.total
    }

    /// Σ over the counts of the last point of the probability to be there and to come here.
    fn arrive(&self, count: usize, first: usize, paths: &[f64]) -> f64 {
        let most = (count + 1).saturating_sub(first).min(paths.len());
        let least = (count + 1).saturating_sub(first + self.increments.len()).min(most);
        let from = paths[least..most].iter().enumerate();
        from.map(|(i, p)| p * self.increments[count - first - least - i]).sum()
    }
}

/// How many of the values lie at or below k / `levels`, for k from 0 to `levels`.
pub(super) fn counts(values: &[f64], levels: usize) -> Vec<usize> {
    let mut counts = vec![0; levels + 1];
    for value in values {
        counts[((value * levels as f64).ceil() as usize).min(levels)] += 1;
    }
    let mut sum = 0;
    counts.iter_mut().for_each(|count| {
        sum += *count;
        *count = sum;
    });
    counts
}

/// Counts between which all of `bins` equally likely bins of n numbers lie with at least this probability (Bonferroni).
pub(super) fn bin_band(n: usize, bins: usize, confidence: f64) -> Result<RangeInclusive<usize>, Error> {
    check_confidence(confidence)?;
    if bins < 2 {
        return Err(Error::parameter("bins", format!("{bins} must be at least 2")));
    }
    Ok(Binomial::new(n, 1.0 / bins as f64).inside((1.0 - confidence) / bins as f64))
}

fn check_confidence(confidence: f64) -> Result<(), Error> {
    if confidence > 0.0 && confidence < 1.0 {
        return Ok(());
    }
    Err(Error::parameter("confidence", format!("{confidence} must lie between 0 and 1")))
}

/// Twice the smaller tail of the binomial distribution at a count.
pub(super) fn binomial_p_value(n: usize, p: f64, count: usize) -> f64 {
    Binomial::new(n, p).two_sided(count).min(1.0)
}

/// The binomial distribution within twelve standard deviations of its mean.
#[derive(Clone, Debug)]
struct Binomial {
    first: usize,
    /// P(R <= r) and P(R >= r), for r from `first` on.
    tails: Vec<(f64, f64)>,
}

impl Binomial {
    fn new(n: usize, p: f64) -> Self {
        let (mean, reach) = (n as f64 * p, 12.0 * (n as f64 * p * (1.0 - p)).sqrt() + 20.0);
        let (first, last) = ((mean - reach).max(0.0) as usize, n.min((mean + reach) as usize));
        let ln_choose = |r: usize| ln_factorial(n) - ln_factorial(r) - ln_factorial(n - r);
        let mass = |r: usize| (ln_choose(r) + r as f64 * p.ln() + (n - r) as f64 * (-p).ln_1p()).exp();
        let mut tails: Vec<(f64, f64)> = (first..=last).map(mass).map(|mass| (mass, mass)).collect();
        for i in 1..tails.len() {
            tails[i].0 += tails[i - 1].0;
        }
        for i in (1..tails.len()).rev() {
            tails[i - 1].1 += tails[i].1;
        }
        Self { first, tails }
    }

    /// Twice the smaller tail.
    fn two_sided(&self, count: usize) -> f64 {
        let tails = count.checked_sub(self.first).and_then(|i| self.tails.get(i));
        tails.map_or(0.0, |(below, above)| 2.0 * below.min(*above))
    }

    /// The counts whose tails are both larger than γ / 2.
    #[expect(clippy::reversed_empty_ranges, reason = "no count is inside")]
    fn inside(&self, gamma: f64) -> RangeInclusive<usize> {
        let lowest = self.tails.partition_point(|tails| 2.0 * tails.0 <= gamma);
        let beyond = self.tails.partition_point(|tails| 2.0 * tails.1 > gamma);
        if beyond <= lowest { 1..=0 } else { self.first + lowest..=self.first + beyond - 1 }
    }
}

fn poisson(j: usize, mean: f64) -> f64 {
    (j as f64 * mean.ln() - mean - ln_factorial(j)).exp()
}

fn ln_factorial(n: usize) -> f64 {
    libm::lgamma(n as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Noise, NoiseId};

    fn uniforms(n: usize, repeats: usize) -> Vec<f64> {
        let mut table = vec![0.0; n * repeats];
        Noise { seed: 3, step: 0, id: NoiseId(0) }.fill_uniform(0, n, &mut table);
        table
    }

    #[test]
    fn everything_is_inside_an_envelope_that_leaves_nothing_out() {
        for (n, levels) in [(1, 1), (1, 7), (5, 100), (313, 20), (20_000, 100)] {
            let inside = Envelope::new(n, levels).inside(0.0);
            assert!((inside - 1.0).abs() < 1e-9, "{n}, {levels}: {inside}");
        }
    }

    #[test]
    fn one_point_is_a_binomial() {
        // Of 10 numbers 2 to 8 are at or below 1/2: 1 - 2 (1 + 10) / 1024.
        let inside = Envelope::new(10, 2).inside(23.0 / 1024.0);
        assert!((inside - (1.0 - 22.0 / 1024.0)).abs() < 1e-12);
    }

    #[test]
    fn p_values_of_uniform_numbers_are_uniform() {
        let (n, repeats) = (83, 4000);
        let envelope = Envelope::new(n, 100);
        let mut p: Vec<f64> = uniforms(n, repeats).chunks(n).map(|u| envelope.p_value(u)).collect();
        p.sort_by(f64::total_cmp);
        for level in [0.01, 0.05, 0.2, 0.5, 0.8] {
            let below = p.partition_point(|p| *p <= level) as f64 / repeats as f64;
            let error = (level * (1.0 - level) / repeats as f64).sqrt();
            assert!((below - level).abs() < 4.0 * error + 0.003, "{below} at {level}");
        }
    }

    #[test]
    fn the_band_holds_as_many_as_it_says_and_is_narrower_at_the_ends() {
        let (n, repeats, levels) = (250, 4000, 50);
        let band = Envelope::new(n, levels).band(0.9).unwrap();
        let holds = |u: &[f64]| band.iter().zip(&counts(u, levels)[1..]).all(|(band, count)| band.contains(count));
        let inside = uniforms(n, repeats).chunks(n).filter(|u| holds(u)).count() as f64 / repeats as f64;
        assert!((0.885..0.92).contains(&inside), "{inside}");
        let width = |k: usize| band[k].end() - band[k].start();
        assert!(2 * width(0) < width(levels / 2));
        assert!(Envelope::new(n, levels).band(1.0).is_err());
    }

    #[test]
    fn counts_are_cumulative_and_closed_above() {
        assert_eq!(counts(&[0.0, 0.5, 0.500001, 1.0], 2), [1, 2, 4]);
        assert_eq!(counts(&[], 3), [0; 4]);
    }
}
