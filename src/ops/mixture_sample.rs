//! Draws from the Gaussian mixture of [`super::mixture_log_density`].
//!
//! The component is the first whose cumulative weight reaches u, $\sum_{j \le k} w_j \ge u$; then
//! $$ x = \mu_k + L_k^{-1} \epsilon, $$
//! whose covariance is $L_k^{-1} L_k^{-\top} = (L_k^\top L_k)^{-1}$. Nothing flows back: the component jumps.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::ops::mixture_log_density::{Covariance, Mixture, soft_clamp, softmax};
use crate::real::Real;

#[derive(Debug)]
struct MixtureSample(Mixture);

impl<T: Real> Op<T> for MixtureSample {
    fn name(&self) -> &'static str {
        "mixture_sample"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        self.0.check("mixture_sample", inputs[0])?;
        if inputs[2] != 1 {
            return Err(Error::shape("mixture_sample", format!("needs 1 uniform a row, found {}", inputs[2])));
        }
        Ok(vec![self.0.dim])
    }

    /// The weights, a plane of rows for each; the logarithm of their sum before they were normalised, and this sum.
    fn saved(&self, _: &[usize]) -> usize {
        self.0.components + 2
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (raw, normal, uniform) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let (mixture, Mixture { components: k, dim: d, .. }) = (self.0, self.0);
        let rows = tile.rows;
        let (weights, sums) = tile.saved.split_at_mut(rows * k);
        let (ln_sums, sums) = sums.split_at_mut(rows);
        let raw_rows = || raw.chunks_exact(tile.input_widths[0]);
        for (c, weights) in weights.chunks_exact_mut(rows).enumerate() {
            weights.iter_mut().zip(raw_rows()).for_each(|(weight, raw)| *weight = raw[c]);
        }
        softmax(weights, ln_sums, sums);
        let weights = (0..rows).map(|r| weights[r..].iter().step_by(rows).copied());
        let draws = weights.zip(uniform).zip(raw_rows()).zip(normal.chunks_exact(d));
        let x = tile.outputs[0].chunks_exact_mut(d);
        wide(
            #[inline(always)]
            || {
                for (x, (((weights, &u), raw), normal)) in x.zip(draws) {
                    // None reaches a uniform above 1 or a sum that is NaN.
                    let Some(c) = component(weights, u) else {
                        x.fill(T::from_f64(f64::NAN));
                        continue;
                    };
                    x.copy_from_slice(normal);
                    for (i, &raw_a) in raw[mixture.ln_diagonal(c)].iter().enumerate() {
                        let (above, x) = x.split_at_mut(i);
                        let known = raw[mixture.below(c, i)].iter().zip(above).map(|(&l, &mut e)| l * e).sum::<T>();
                        x[0] = (x[0] - known) * math::exp(-soft_clamp(raw_a).0);
                    }
                    x.iter_mut().zip(&raw[mixture.mean(c)]).for_each(|(x, &mean)| *x += mean);
                }
            },
        );
    }

    /// Nothing flows back.
    fn backward(&self, _: &mut Backward<'_, T>) {}

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for MixtureSample {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [k, d, full, width] = self.0.arguments(tile.input_widths[0]);
        let [raw, normal, uniform] = [0, 1, 2].map(|i| tile.inputs[i].into());
        let (x, rows) = (tile.outputs[0].into(), Argument::size(tile.rows));
        let arguments = [raw, normal, uniform, x, tile.saved.into(), k, d, full, width, rows];
        tile.launch(("mixture_sample", "mixture_sample_forward"), Grid::warps(tile.rows), &arguments)
    }

    /// Nothing flows back.
    fn backward(&self, _: &cuda::Backward<'_, T>) -> Result<(), Error> {
        Ok(())
    }
}

/// The first component whose cumulative weight reaches u of the whole, never one of weight 0 if u is above 0.
#[inline(always)]
fn component<T: Real>(mut weights: impl Iterator<Item = T> + Clone, u: T) -> Option<usize> {
    let reached = u * weights.clone().sum::<T>();
    let mut sum = T::ZERO;
    weights.position(|w| {
        sum += w;
        sum >= reached
    })
}

impl<T: Real> Graph<T> {
    /// A draw from the Gaussian mixture that each row of `raw` describes, `[rows x d]`.
    ///
    /// `raw` is what [`Graph::mixture_log_density`] takes; `normal` `[rows x d]` are standard normals, `uniform`
    /// `[rows x 1]` numbers in (0, 1) that choose the component. A row whose weights are NaN gives NaN.
    ///
    /// Not differentiable: no gradient flows to any of the three.
    ///
    /// # Errors
    /// [`Error::Shape`] if the width of `raw` is another, `components` is 0, or `uniform` has more than one column.
    pub fn mixture_sample(
        &mut self,
        raw: Var,
        normal: Var,
        uniform: Var,
        components: usize,
        covariance: Covariance,
    ) -> Result<Var, Error> {
        let mixture = Mixture { components, dim: self.cols(normal)?, covariance };
        self.push_one(MixtureSample(mixture), &[raw, normal, uniform])
    }
}

/// None: there is no gradient to check.
pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;
    use crate::rng::{Noise, NoiseId};
    use Covariance::{Diagonal, Full};

    const ROWS: usize = 100_000;

    fn normals(rows: usize, cols: usize) -> Vec<f64> {
        let mut normal = vec![0.0; rows * cols];
        Noise { seed: 5, step: 0, id: NoiseId(0) }.fill_normal(0, cols, &mut normal);
        normal
    }

    fn sample(raw: &[f64], normal: &[f64], uniform: &[f64], k: usize, covariance: Covariance) -> Vec<f64> {
        let d = normal.len() / uniform.len();
        let inputs = [(raw.len(), Feed::Repeat(raw)), (d, Feed::Rows(normal)), (1, Feed::Rows(uniform))];
        let draw = |g: &mut Graph<f64>, v: &[Var]| Ok(vec![g.mixture_sample(v[0], v[1], v[2], k, covariance)?]);
        evaluate(uniform.len(), &inputs, draw).remove(0)
    }

    fn many(raw: &[f64], dim: usize, k: usize, covariance: Covariance) -> Vec<f64> {
        let mut uniform = vec![0.0; ROWS];
        Noise { seed: 5, step: 0, id: NoiseId(1) }.fill_uniform(0, 1, &mut uniform);
        sample(raw, &normals(ROWS, dim), &uniform, k, covariance)
    }

    /// Three components so far apart that each draw tells where it is from; they are checked one by one, to five
    /// standard errors.
    #[test]
    fn frequencies_means_and_covariances_are_those_of_the_components() {
        let ln_weights = [0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()].map(|w| w + 7.0);
        let means = [-100.0, 3.0, 0.0, -2.0, 100.0, 1.0];
        let ln_diagonals = [0.0, 0.5, -1.0, 0.3, 0.2, -0.4];
        let below = [0.7, -0.5, 1.5];
        for covariance in [Diagonal, Full] {
            let mut raw: Vec<f64> = ln_weights.iter().chain(&means).chain(&ln_diagonals).copied().collect();
            if covariance == Full {
                raw.extend(below);
            }
            let draws = many(&raw, 2, 3, covariance);
            for c in 0..3 {
                let own: Vec<&[f64]> = draws.chunks_exact(2).filter(|x| (x[0] - means[2 * c]).abs() < 50.0).collect();
                let n = own.len() as f64;
                let weight = [0.5, 0.3, 0.2][c];
                let share = n / ROWS as f64;
                assert!((share - weight).abs() < 5.0 * (weight * (1.0 - weight) / ROWS as f64).sqrt(), "{c}: {share}");

                // The inverse of the precision L^T L.
                let a = [0, 1].map(|i| (10.0 * (ln_diagonals[2 * c + i] / 10.0_f64).tanh()).exp());
                let l = if covariance == Full { below[c] } else { 0.0 };
                let (p00, p01, p11) = (a[0] * a[0] + l * l, l * a[1], a[1] * a[1]);
                let det = p00 * p11 - p01 * p01;
                let expected = [[p11 / det, -p01 / det], [-p01 / det, p00 / det]];
                let moment = |i: usize, j: usize| {
                    own.iter().map(|x| (x[i] - means[2 * c + i]) * (x[j] - means[2 * c + j])).sum::<f64>() / n
                };
                for i in 0..2 {
                    let mean = own.iter().map(|x| x[i]).sum::<f64>() / n;
                    let error = (expected[i][i] / n).sqrt();
                    assert!((mean - means[2 * c + i]).abs() < 5.0 * error, "{covariance:?} {c} {i}: mean {mean}");
                    for j in 0..=i {
                        let variance = expected[i][i] * expected[j][j] + expected[i][j] * expected[i][j];
                        let (found, expected) = (moment(i, j), expected[i][j]);
                        let error = (variance / n).sqrt();
                        assert!((found - expected).abs() < 5.0 * error, "{covariance:?} {c}: {found}, not {expected}");
                    }
                }
            }
        }
    }

    /// ln N(x; mu, L) = ln N(epsilon; 0, I) + sum a, so the sampler inverts what the density does, in any dimension.
    #[test]
    fn the_density_sees_the_noise_that_made_the_draw() {
        for (d, covariance) in [(1, Full), (3, Diagonal), (5, Full), (7, Full)] {
            let width = covariance.raw_width(1, d);
            let (raw, normal) = (normals(1, width), normals(11, d));
            let x = sample(&raw, &normal, &[0.5; 11], 1, covariance);
            let inputs = [(d, Feed::Rows(&x[..])), (width, Feed::Repeat(&raw[..]))];
            let density = |g: &mut Graph<f64>, v: &[Var]| Ok(vec![g.mixture_log_density(v[0], v[1], 1, covariance)?]);
            let found = evaluate(11, &inputs, density).remove(0);
            let ln_det: f64 = raw[1 + d..1 + 2 * d].iter().map(|a| 10.0 * (a / 10.0).tanh()).sum();
            for (found, normal) in found.iter().zip(normal.chunks_exact(d)) {
                let expected = normal.iter().map(|&z| math::normal_ln_pdf(z)).sum::<f64>() + ln_det;
                assert!((found - expected).abs() < 1e-10, "{d} {covariance:?}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn components_of_weight_0_are_never_drawn_and_nan_is_seen() {
        let infinity = f64::INFINITY;
        let of = |logits: [f64; 3], u: f64| {
            let raw: Vec<f64> = logits.into_iter().chain([0.0, 1.0, 2.0, 0.0, 0.0, 0.0]).collect();
            sample(&raw, &[0.0], &[u], 3, Diagonal)[0]
        };
        let (first, last) = (f64::from_bits(1), 1.0 - f64::EPSILON / 2.0);
        for u in [first, 0.5, last] {
            assert_eq!(of([-infinity, 0.3, -infinity], u), 1.0);
            assert_eq!(of([-infinity, -infinity, 0.0], u), 2.0);
            assert!(of([-infinity; 3], u).is_nan() && of([0.0, f64::NAN, 0.0], u).is_nan());
        }
        assert_eq!((of([0.0; 3], first), of([0.0; 3], 0.5), of([0.0; 3], last)), (0.0, 1.0, 2.0));
        assert!(of([0.0; 3], f64::NAN).is_nan());
    }

    #[test]
    fn wrong_widths_are_named() {
        let mut graph = Graph::<f32>::new();
        let mut input = |cols| graph.input("x", cols).unwrap();
        let (raw, normal, uniform, wide) = (input(12), input(2), input(1), input(3));
        assert!(graph.mixture_sample(raw, normal, uniform, 2, Full).is_ok());
        let message = graph.mixture_sample(raw, normal, wide, 2, Full).unwrap_err().to_string();
        assert!(message.contains("1 uniform a row, found 3"), "{message}");
        assert!(graph.mixture_sample(raw, normal, uniform, 3, Full).is_err());
    }
}
