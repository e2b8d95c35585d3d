//! Have Markov chains forgotten where they started, and how many independent draws are they worth?
//!
//! Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Rank-normalization, folding, and localization: an improved R̂
//! for assessing convergence of MCMC* (2021).

use ndarray::{ArrayView2, ArrayView3, Axis};

use super::finding::{Departure, Estimate, Finding, Verdict};
use crate::error::{Error, check_finite, check_length};
use crate::math::normal_quantile;

/// How the chains of one parameter have mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convergence {
    /// The larger of the rank-normalised split R̂ of the draws and of their distances from the median; 1 if chains agree.
    /// Its error is what chance makes of chains that do.
    pub r_hat: Estimate,
    /// Effective sample size of the rank-normalised draws: what means and medians are worth.
    pub ess_bulk: Estimate,
    /// The smaller effective sample size of the two indicators of being below the 5 % and 95 % quantiles: what intervals
    /// are worth.
    pub ess_tail: Estimate,
    /// All draws of all chains.
    pub draws: usize,
}

/// Shorter chains say nothing: each is split into halves, and those need lags.
const LEAST_DRAWS: usize = 8;
/// R̂ from which on chains are doubtful, and wrong.
const R_HAT: [f64; 2] = [1.01, 1.1];
/// Effective draws below which they are doubtful, and wrong.
const EFFECTIVE: [f64; 2] = [400.0, 100.0];

/// Convergence of each parameter, from `[chains x draws x parameters]`.
///
/// ```
/// use retrodict::{ndarray::Array3, rng::{Noise, NoiseId}, validate::convergence};
/// let mut values = vec![0.0; 4 * 500 * 2];
/// Noise { seed: 1, step: 0, id: NoiseId(0) }.fill_normal(0, 2, &mut values);
/// let independent = Array3::from_shape_vec((4, 500, 2), values).unwrap();
/// for parameter in convergence(independent.view())? {
///     assert!(parameter.r_hat.value < 1.01 && parameter.ess_bulk.value > 1500.0);
/// }
/// # Ok::<(), retrodict::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] for no chain or fewer than 8 draws in each, [`Error::NonFinite`] for the first number of a chain that
/// is not finite.
pub fn convergence(chains: ArrayView3<'_, f64>) -> Result<Vec<Convergence>, Error> {
    let (count, draws, _) = chains.dim();
    check_length("chains", count.max(1), count)?;
    check_length("draws in each chain", draws.max(LEAST_DRAWS), draws)?;
    chains.outer_iter().try_for_each(|chain| check_finite("chain", chain))?;
    Ok(chains.axis_iter(Axis(2)).map(Convergence::new).collect())
}

impl Convergence {
    /// From the draws of one parameter, `[chains x draws]`.
    fn new(chains: ArrayView2<'_, f64>) -> Self {
        let halves = Halves::split(chains);
        let mut sorted = halves.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
        let (normal, median) = (halves.rank_normalised(), quantile(0.5));
        let folded = halves.map(|v| (v - median).abs()).rank_normalised();
        let ess_bulk = normal.effective();
        let tail = |q: f64| {
            let limit = quantile(q);
            halves.map(|v| f64::from(u8::from(v <= limit))).effective()
        };
        let (low, high) = (tail(0.05), tail(0.95));
        let m = halves.count() as f64;
        // R̂ - 1 is near (τ / 2 n) (χ² / dof - 1) with dof = m - 1 chains.
        let error = m / (2.0 * ess_bulk.value) * (2.0 / (m - 1.0)).sqrt();
        Self {
            r_hat: Estimate { value: normal.r_hat().max(folded.r_hat()), error },
            ess_bulk,
            ess_tail: if low.value < high.value { low } else { high },
            draws: halves.values.len(),
        }
    }

    /// What it means for the parameter of this name.
    pub fn findings(&self, name: &str) -> [Finding; 3] {
        let r_hat = self.r_hat.value;
        let verdict = match R_HAT.iter().filter(|&&limit| r_hat >= limit).count() {
            0 => Verdict::Sound,
            1 => Verdict::Doubtful,
            _ => Verdict::Wrong,
        };
        let answer = match verdict {
            Verdict::Sound => "agree",
            Verdict::Doubtful => "do not quite agree: run them longer",
            Verdict::Wrong => "disagree: they have not converged",
        };
        let sentence = format!("The chains of {name} {answer} (R̂ = {r_hat:.3}, which should be below {}).", R_HAT[0]);
        let agree = finding("R-hat", name, self.r_hat, Some(1.0), verdict, sentence);
        let [bulk, tail] = [("bulk ESS", self.ess_bulk, "centre"), ("tail ESS", self.ess_tail, "tails")];
        [agree, self.effective(name, bulk), self.effective(name, tail)]
    }

    fn effective(&self, name: &str, (diagnostic, ess, what): (&'static str, Estimate, &str)) -> Finding {
        let verdict = match EFFECTIVE.iter().filter(|&&limit| ess.value < limit).count() {
            0 => Verdict::Sound,
            1 => Verdict::Doubtful,
            _ => Verdict::Wrong,
        };
        let answer = match verdict {
            Verdict::Sound => "enough",
            Verdict::Doubtful => "few",
            Verdict::Wrong => "too few",
        };
        let sentence = format!(
            "For the {what} of {name} the {} draws are worth {:.0} ± {:.0} independent ones, which is {answer} \
             ({} are advised).",
            self.draws, ess.value, ess.error, EFFECTIVE[0]
        );
        finding(diagnostic, name, ess, None, verdict, sentence)
    }
}

fn finding(
    diagnostic: &'static str,
    subject: &str,
    value: Estimate,
    expected: Option<f64>,
    verdict: Verdict,
    sentence: String,
) -> Finding {
    let departure = (verdict != Verdict::Sound).then_some(Departure::Other);
    Finding { diagnostic, subject: subject.to_string(), value, expected, p_value: None, verdict, departure, sentence }
}

/// The halves of all chains, one after the other. Of a chain of odd length the middle draw is left out.
struct Halves {
    length: usize,
    values: Vec<f64>,
}

impl Halves {
    fn split(chains: ArrayView2<'_, f64>) -> Self {
        let length = chains.ncols() / 2;
        let second = chains.ncols() - length;
        let kept = |chain: ndarray::ArrayView1<'_, f64>| -> Vec<f64> {
            (0..length).chain(second..second + length).map(|i| chain[i]).collect()
        };
        Self { length, values: chains.outer_iter().flat_map(kept).collect() }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { length: self.length, values: self.values.iter().map(|&v| f(v)).collect() }
    }

    fn count(&self) -> usize {
        self.values.len() / self.length
    }

    fn chains(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.length)
    }

    /// Φ⁻¹((r - 3/8) / (S + 1/4)) of the rank r among all S draws; equal draws share their mean rank.
    fn rank_normalised(&self) -> Self {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_unstable_by(|&i, &j| self.values[i].total_cmp(&self.values[j]));
        let (mut values, mut before, total) = (vec![0.0; order.len()], 0, order.len() as f64);
        for equal in order.chunk_by(|&i, &j| self.values[i] == self.values[j]) {
            let rank = before as f64 + 0.5 * (equal.len() + 1) as f64;
            equal.iter().for_each(|&i| values[i] = normal_quantile((rank - 0.375) / (total + 0.25)));
            before += equal.len();
        }
        Self { length: self.length, values }
    }

    /// Means of the chains, the mean variance W within them, and the variance of everything,
    /// W (n - 1) / n + Var(means).
    fn variances(&self) -> (Vec<f64>, f64, f64) {
        let n = self.length as f64;
        let means: Vec<f64> = self.chains().map(|chain| chain.iter().sum::<f64>() / n).collect();
        let within = self.chains().map(|chain| super::bootstrap::deviation(chain).powi(2));
        let within = within.sum::<f64>() / means.len() as f64;
        let between = super::bootstrap::deviation(&means).powi(2);
        (means, within, within * (n - 1.0) / n + between)
    }

    /// √(Var⁺ / W); 1 for chains that do not move at all and agree, infinite if they do not agree.
    fn r_hat(&self) -> f64 {
        let (_, within, all) = self.variances();
        if all == 0.0 { 1.0 } else { (all / within).sqrt() }
    }

    /// S / τ with τ = 1 + 2 Σ ρ(t) over Geyer's initial monotone sequence of pairs of lags. Its relative error is
    /// √(2 (2 M + 1) / S) for a window of M lags (Sokal 1997).
    fn effective(&self) -> Estimate {
        let (means, within, all) = self.variances();
        let total = self.values.len() as f64;
        if all == 0.0 {
            return Estimate { value: total, error: 0.0 };
        }
        let n = self.length as f64;
        let covariance = |lag: usize| {
            let of_chain = |(chain, mean): (&[f64], &f64)| -> f64 {
                chain[lag..].iter().zip(chain).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n
            };
            self.chains().zip(&means).map(of_chain).sum::<f64>() / means.len() as f64
        };
        let rho = |lag: usize| if lag == 0 { 1.0 } else { 1.0 - (within - covariance(lag)) / all };
        let (mut tau, mut last, mut lag) = (-1.0, f64::INFINITY, 0);
        while lag + 1 < self.length {
            let pair = rho(lag) + rho(lag + 1);
            if pair <= 0.0 {
                break;
            }
            last = pair.min(last);
            tau += 2.0 * last;
            lag += 2;
        }
        // Chains of negative correlation are worth more than independent draws, but not without limit.
        let value = total / tau.max(1.0 / total.log10());
        Estimate { value, error: value * (2.0 * (2 * lag + 1) as f64 / total).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::normals;
    use ndarray::{Array2, Array3};

    /// Chains x_t = φ x_{t-1} + √(1 - φ²) ε, stationary from the start, `[chains x draws]`.
    fn autoregressive(phi: f64, chains: usize, draws: usize, seed: u64) -> Array2<f64> {
        let mut values = normals(chains, draws, seed);
        for mut chain in values.rows_mut() {
            for t in 1..draws {
                chain[t] = phi * chain[t - 1] + (1.0 - phi * phi).sqrt() * chain[t];
            }
        }
        values
    }

    fn converge(chains: &Array2<f64>) -> Convergence {
        convergence(chains.view().insert_axis(Axis(2))).unwrap()[0]
    }

    #[test]
    fn the_effective_size_of_an_autoregressive_chain_is_known() {
        for (phi, seed) in [(0.0, 1), (0.5, 2), (0.9, 3), (-0.3, 4)] {
            let found = converge(&autoregressive(phi, 4, 10_000, seed));
            let exact = 40_000.0 * (1.0 - phi) / (1.0 + phi);
            let cap = exact.min(40_000.0 * 40_000_f64.log10());
            assert!((found.ess_bulk.value / cap - 1.0).abs() < 0.12, "{phi}: {found:?}, not {exact}");
            assert!(found.r_hat.value < 1.01, "{phi}: {found:?}");
            assert!(found.ess_tail.value < 1.2 * found.ess_bulk.value.max(40_000.0 * 0.9));
        }
    }

    #[test]
    fn shifted_and_stretched_chains_disagree() {
        // Means ± δ in equal parts: Var⁺ / W = 1 + δ² m / (m - 1) for normal draws; ranks compress it a little.
        let mut shifted = autoregressive(0.0, 4, 5000, 5);
        shifted.slice_mut(ndarray::s![..2, ..]).mapv_inplace(|x| x + 1.0);
        let exact = (1.0 + 0.25 * 8.0 / 7.0_f64).sqrt();
        let found = converge(&shifted);
        assert!((found.r_hat.value - exact).abs() < 0.01, "{found:?}, not {exact}");
        assert!(found.ess_bulk.value < 100.0, "{found:?}");
        let [r_hat, bulk, _] = found.findings("a");
        assert!(r_hat.verdict == Verdict::Wrong && bulk.verdict == Verdict::Wrong, "{r_hat} {bulk}");
        assert!(r_hat.sentence.starts_with("The chains of a disagree"), "{r_hat}");
        // Of one mean but different width: only the folded draws tell.
        let mut stretched = autoregressive(0.0, 4, 5000, 6);
        stretched.row_mut(0).mapv_inplace(|x| 3.0 * x);
        assert!(converge(&stretched).r_hat.value > 1.05);
        // A chain that drifts is split into halves that disagree.
        let drifting = autoregressive(0.0, 1, 5000, 7) + Array2::from_shape_fn((1, 5000), |(_, t)| 4e-4 * t as f64);
        assert!(converge(&drifting).r_hat.value > 1.05);
    }

    #[test]
    fn the_error_of_r_hat_is_its_scatter() {
        let found: Vec<Convergence> = (0..200).map(|i| converge(&autoregressive(0.5, 4, 400, 100 + i))).collect();
        let values: Vec<f64> = found.iter().map(|c| c.r_hat.value).collect();
        let error = found.iter().map(|c| c.r_hat.error).sum::<f64>() / 200.0;
        let scatter = crate::validate::bootstrap::deviation(&values);
        assert!((0.4..1.5).contains(&(scatter / error)), "{scatter}, {error}");
        let bulk: Vec<f64> = found.iter().map(|c| c.ess_bulk.value).collect();
        let error = found.iter().map(|c| c.ess_bulk.error).sum::<f64>() / 200.0;
        let scatter = crate::validate::bootstrap::deviation(&bulk);
        assert!((0.5..2.0).contains(&(scatter / error)), "{scatter}, {error}");
    }

    #[test]
    fn constants_ties_and_what_cannot_be() {
        let still = converge(&Array2::ones((2, 20)));
        assert_eq!((still.r_hat.value, still.ess_bulk.value), (1.0, 40.0));
        let mut apart = Array2::ones((2, 20));
        apart.row_mut(0).fill(0.0);
        assert_eq!(converge(&apart).r_hat.value, f64::INFINITY);
        let ties = autoregressive(0.0, 4, 500, 8).mapv(f64::round);
        assert!(converge(&ties).r_hat.value < 1.02);
        assert!(matches!(convergence(Array3::zeros((2, 7, 1)).view()), Err(Error::Length { found: 7, .. })));
        assert!(convergence(Array3::zeros((0, 9, 1)).view()).is_err());
        let mut bad = Array3::zeros((2, 9, 1));
        bad[[1, 4, 0]] = f64::NAN;
        assert_eq!(convergence(bad.view()), Err(Error::NonFinite { what: "chain", row: 4, column: 0 }));
    }
}
