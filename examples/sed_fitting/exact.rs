//! Likelihood-based inference, the yardstick for the network: weighting the bank.
//!
//! The bank's rows i are draws of the prior and the noise is Gaussian, so the posterior given fluxes
//! F, errors sigma and redshift z is the bank, each row weighted by its evidence
//!
//! $$ W_i = N(z; z_i, 0.01^2) \int \prod_b N(F_b; e^u s_{ib}, \sigma_b^2 + \phi_b^2 e^{2u} s_{ib}^2) \, du $$
//!
//! over the log amplitude u, uniform because log M* is. The integral is a midpoint sum about the
//! likelihood's peak; its nodes are the samples of the posterior. No approximation remains but
//! the bank's finite number of rows, which the effective sample size measures.

use std::f64::consts::{LN_10, TAU};

use crate::catalogue::{BANDS, Bank, PARAMETERS, Photometry};
use crate::forward::{FLOOR, LOG_MASS, REDSHIFT_ERROR, at_amplitude, variance};

/// A posterior as weighted samples.
pub struct Weighted {
    /// The samples.
    pub theta: Vec<[f64; PARAMETERS]>,
    /// Their weights, which sum to 1.
    pub weight: Vec<f64>,
    /// The effective number of rows of the bank, (sum W_i)^2 / sum W_i^2.
    pub ess: f64,
}

impl Weighted {
    /// The same with one sample for each row of the bank, which looks smoother: the nodes of a row follow each other
    /// and differ in the amplitude alone. Which of them stands for its row is spread evenly over their weights.
    pub fn one_per_row(&self) -> Self {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let mut thinned = Self { theta: Vec::new(), weight: Vec::new(), ess: self.ess };
        let mut rest = 0;
        for (k, nodes) in self.theta.chunk_by(|a, b| a[2..] == b[2..]).enumerate() {
            let weights = &self.weight[rest..rest + nodes.len()];
            rest += nodes.len();
            let sum: f64 = weights.iter().sum();
            let mut left = (k as f64 * GOLDEN).fract() * sum;
            let crossing = |w: &f64| {
                left -= w;
                left < 0.0
            };
            let node = weights.iter().position(crossing).unwrap_or(0);
            thinned.theta.push(nodes[node]);
            thinned.weight.push(sum);
        }
        thinned
    }

    /// The quantiles of parameter `p` at `levels` in 0..1, increasing.
    pub fn quantiles(&self, p: usize, levels: &[f64]) -> Vec<f64> {
        let values = self.theta.iter().map(|theta| theta[p]);
        let mut samples: Vec<(f64, f64)> = values.zip(self.weight.iter().copied()).collect();
        samples.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = 0.0;
        for (_, weight) in &mut samples {
            below += *weight;
            *weight = below;
        }
        let at = |&level: &f64| {
            let k = samples.partition_point(|&(_, below)| below < level);
            samples.get(k).or(samples.last()).map_or(f64::NAN, |s| s.0)
        };
        levels.iter().map(at).collect()
    }
}

/// A row of the bank, and where and how sharply its likelihood peaks in u.
struct Peak {
    row: usize,
    u: f64,
    width: f64,
    log_kernel: f64,
    log_evidence: f64,
}

/// The posterior of a galaxy, from all rows of the bank but `except` (the galaxy's own, if it was
/// simulated from one). Empty if no galaxy of the bank could look like this one.
pub fn posterior(bank: &Bank, galaxy: &Photometry, except: Option<usize>) -> Weighted {
    /// Rows and nodes this far below the best row's log evidence are left out.
    const NEGLIGIBLE: f64 = 16.0;
    let likelihood = Likelihood::new(galaxy);
    let peaks: Vec<Peak> = (0..bank.len())
        .filter(|&row| Some(row) != except)
        .filter(|&row| (bank.redshift[row] - galaxy.redshift).abs() < 5.0 * REDSHIFT_ERROR)
        .map(|row| likelihood.peak(bank, row))
        .collect();
    let best = peaks.iter().map(|p| p.log_evidence).fold(f64::NEG_INFINITY, f64::max);

    let mut posterior = Weighted { theta: Vec::new(), weight: Vec::new(), ess: 0.0 };
    let (mut sum, mut squares) = (0.0, 0.0);
    for peak in peaks.iter().filter(|p| p.log_evidence > best - NEGLIGIBLE) {
        let mut evidence = 0.0;
        likelihood.quadrature(bank, peak, |u, log_weight| {
            if log_weight < best - NEGLIGIBLE {
                return;
            }
            let weight = (log_weight - best).exp();
            posterior.theta.push(at_amplitude(&bank.theta[peak.row], u / LN_10));
            posterior.weight.push(weight);
            evidence += weight;
        });
        sum += evidence;
        squares += evidence * evidence;
    }
    posterior.weight.iter_mut().for_each(|w| *w /= sum);
    posterior.ess = if squares > 0.0 { sum * sum / squares } else { 0.0 };
    posterior
}

/// The likelihood of one observation. A band that was not observed has F = s = 0 and sigma = 1, and
/// contributes a factor 1.
struct Likelihood {
    flux: [f64; BANDS],
    sigma: [f64; BANDS],
    mask: [f64; BANDS],
    redshift: f64,
}

impl Likelihood {
    fn new(galaxy: &Photometry) -> Self {
        Self { flux: galaxy.flux, sigma: galaxy.sigma, mask: galaxy.observed.map(f64::from), redshift: galaxy.redshift }
    }

    /// -1/2 sum_b (F_b - m_b)^2 / v_b + ln v_b, with m = e^u s and v = sigma^2 + phi^2 m^2.
    fn log_density(&self, sed: &[f64; BANDS], u: f64) -> f64 {
        let amplitude = u.exp();
        let (mut chi2, mut volume) = (0.0, 1.0);
        for (b, shape) in sed.iter().enumerate() {
            let model = amplitude * shape * self.mask[b];
            let v = variance(b, self.sigma[b], model);
            chi2 += (self.flux[b] - model).powi(2) / v;
            volume *= v; // one logarithm of the product instead of one per band
        }
        -0.5 * (chi2 + volume.ln())
    }

    /// The score dL/du and the Fisher information E[(dL/du)^2] = sum_b m^2/v + (dv/du)^2 / 2v^2.
    fn score(&self, sed: &[f64; BANDS], u: f64) -> (f64, f64) {
        let amplitude = u.exp();
        let (mut score, mut information) = (0.0, 0.0);
        for (b, shape) in sed.iter().enumerate() {
            let model = amplitude * shape * self.mask[b];
            let precision = variance(b, self.sigma[b], model).recip();
            let slope = precision * (FLOOR[b] * model).powi(2); // dv/du / 2v
            let residual = self.flux[b] - model;
            score += precision * residual * (model + slope * residual) - slope;
            information += precision * model * model + 2.0 * slope * slope;
        }
        (score, information)
    }

    /// The range of u in which log M* of `row` is within its prior.
    fn range(bank: &Bank, row: usize) -> (f64, f64) {
        let log_mass = bank.theta[row][0];
        ((LOG_MASS.0 - log_mass) * LN_10, (LOG_MASS.1 - log_mass) * LN_10)
    }

    /// Finds the peak by Fisher scoring, u += score / information, from least squares;
    /// the evidence is Laplace's, good enough to tell which rows matter.
    fn peak(&self, bank: &Bank, row: usize) -> Peak {
        const STEPS: usize = 4;
        let sed = &bank.sed[row];
        let (low, high) = Self::range(bank, row);
        let (mut u, mut width) = (self.guess(sed).clamp(low, high), high - low);
        for _ in 0..STEPS {
            let (score, information) = self.score(sed, u);
            width = information.sqrt().recip().min(high - low);
            u = (u + (score * width * width).clamp(-1.0, 1.0)).clamp(low, high);
        }
        let log_kernel = -0.5 * ((bank.redshift[row] - self.redshift) / REDSHIFT_ERROR).powi(2);
        let log_evidence = log_kernel + self.log_density(sed, u) + (TAU.sqrt() * width).ln();
        Peak { row, u, width, log_kernel, log_evidence }
    }

    /// The log of the least-squares amplitude, with the observed fluxes' own model errors.
    fn guess(&self, sed: &[f64; BANDS]) -> f64 {
        let (mut along, mut norm) = (0.0, 0.0);
        for (b, shape) in sed.iter().enumerate() {
            let weight = self.mask[b] / variance(b, self.sigma[b], self.flux[b]);
            along += weight * shape * self.flux[b];
            norm += weight * shape * shape;
        }
        (along / norm).max(1e-9).ln()
    }

    /// The midpoint rule over u, handing each node and its log weight to `node`. On a Gaussian the
    /// rule's error falls as exp(-2 (pi / h)^2) with the spacing h in widths: 1e-17 at 0.7.
    fn quadrature(&self, bank: &Bank, peak: &Peak, mut node: impl FnMut(f64, f64)) {
        const REACH: f64 = 6.0;
        const SPACING: (f64, f64) = (0.7, 0.05); // in widths, and at most in u
        let (low, high) = Self::range(bank, peak.row);
        // Detected at less than REACH sigma, a galaxy may be as faint as the prior allows.
        let detected = peak.width * REACH < 1.0;
        let from = if detected { (peak.u - REACH * peak.width).max(low) } else { low };
        let to = (peak.u + REACH * peak.width).min(high);
        let cells = ((to - from) / (SPACING.0 * peak.width).min(SPACING.1)).ceil();
        let cell = (to - from) / cells;
        for k in 0..cells as usize {
            let u = from + (k as f64 + 0.5) * cell;
            node(u, peak.log_kernel + self.log_density(&bank.sed[peak.row], u) + cell.ln());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank() -> Bank {
        let sed = |red: f64| std::array::from_fn(|b| if b < 8 { 1.0 } else { red });
        Bank {
            theta: vec![[9.0, 0.0, 0.2, 0.5, 0.8, -0.3, 0.1], [9.3, -1.0, 0.1, 0.3, 0.6, 0.2, 0.9]],
            redshift: vec![1.0, 1.012],
            sed: vec![sed(0.5), sed(0.7)],
        }
    }

    fn galaxy(scale: f64) -> Photometry {
        let observed = std::array::from_fn(|b| b == 2 || b == 12);
        let flux = std::array::from_fn(|b| if observed[b] { [3.0, 1.6][b / 12] * scale } else { 0.0 });
        let sigma = std::array::from_fn(|b| if observed[b] { 0.2 } else { 1.0 });
        Photometry { observed, flux, sigma, redshift: 1.003 }
    }

    /// The evidence of a row and its mean log M*, by brute force over the prior of log M*.
    fn brute_force(bank: &Bank, row: usize, g: &Photometry) -> (f64, f64) {
        const NODES: usize = 200_000;
        let (mut evidence, mut mean) = (0.0, 0.0);
        for k in 0..NODES {
            let log_mass = LOG_MASS.0 + (LOG_MASS.1 - LOG_MASS.0) * (k as f64 + 0.5) / NODES as f64;
            let amplitude = 10f64.powf(log_mass - bank.theta[row][0]);
            let mut density = (-0.5 * ((g.redshift - bank.redshift[row]) / 0.01).powi(2)).exp();
            for b in [2, 12] {
                let model = amplitude * bank.sed[row][b];
                let v = g.sigma[b].powi(2) + (FLOOR[b] * model).powi(2);
                density *= (-0.5 * (g.flux[b] - model).powi(2) / v).exp() / v.sqrt();
            }
            evidence += density;
            mean += density * log_mass;
        }
        (evidence, mean / evidence)
    }

    #[test]
    fn agrees_with_brute_force() {
        let bank = bank();
        // Well detected; lost in the noise; below zero; so bright that the prior's edge cuts.
        for (scale, tolerance) in [(1.0, 1e-6), (0.05, 1e-3), (-0.2, 1e-3), (350.0, 1e-3)] {
            let g = galaxy(scale);
            let rows = [brute_force(&bank, 0, &g), brute_force(&bank, 1, &g)];
            let sum = rows[0].0 + rows[1].0;
            let ess = sum * sum / (rows[0].0.powi(2) + rows[1].0.powi(2));
            let mean = (rows[0].0 * rows[0].1 + rows[1].0 * rows[1].1) / sum;
            let p = posterior(&bank, &g, None);
            let found: f64 = p.theta.iter().zip(&p.weight).map(|(t, w)| t[0] * w).sum();
            assert!((p.ess - ess).abs() < tolerance, "scale {scale}: ess {} for {ess}", p.ess);
            assert!((found - mean).abs() < tolerance, "scale {scale}: mean {found} for {mean}");
        }
    }

    #[test]
    fn leaves_out_a_row_and_survives_an_empty_posterior() {
        let (bank, g) = (bank(), galaxy(1.0));
        let p = posterior(&bank, &g, Some(1));
        assert!(p.theta.iter().all(|t| t[2] == 0.2) && (p.ess - 1.0).abs() < 1e-12);
        let none = posterior(&bank, &Photometry { redshift: 3.0, ..g }, None);
        assert!(none.ess == 0.0 && none.quantiles(0, &[0.5])[0].is_nan());
    }

    #[test]
    fn quantiles_follow_the_weights() {
        let theta = [3.0, 1.0, 2.0].map(|v| [v; PARAMETERS]).to_vec();
        let p = Weighted { theta, weight: vec![0.5, 0.2, 0.3], ess: 3.0 };
        assert_eq!(p.quantiles(4, &[0.1, 0.3, 0.6, 1.0]), [1.0, 2.0, 3.0, 3.0]);
    }
}
