//! Log-density of a Gaussian mixture whose parameters are a network's output (mixture density network, Bishop 1994).
//!
//! Component k has weight $w_k = \operatorname{softmax}(o)_k$, mean $\mu_k$ and precision $L_k^\top L_k$, with $L_k$
//! lower triangular with diagonal $e^{a_k}$, $a = A \tanh(\tilde a / A)$. With $e_k = x - \mu_k$, $z_k = L_k e_k$:
//! $$ \ln N_k = -\tfrac12 |z_k|^2 + \textstyle\sum_i a_{ki} - \tfrac d2 \ln 2\pi, \qquad
//!    l = \ln \sum_k e^{\ln w_k + \ln N_k}. $$
//! The responsibilities $r_k = w_k N_k / e^l$ share out $\bar l$. With $v_k = \bar l\, r_k z_k$:
//! $$ \bar o_k = \bar l\,(r_k - w_k), \quad \bar\mu_k = L_k^\top v_k, \quad \bar x = -\textstyle\sum_k \bar\mu_k, \quad
//!    \bar L_{kij} = -v_{ki} e_{kj} \;(j < i), \quad
//!    \bar{\tilde a}_{ki} = (\bar l\, r_k - v_{ki} e_{ki} e^{a_{ki}})(1 - \tanh^2(\tilde a_{ki} / A)). $$

use std::ops::Range;

use crate::device::cpu::transpose::columns_of;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

/// A: e^-a, the standard deviation of a column given the columns before it, stays within e^±10, 4.5e-5 to 2.2e4.
///
/// A likelihood has no maximum over the width of a component that may shrink onto one training row, so it needs a
/// bound; standardised data stay far inside this one, where the clamp hardly bends (a = 3 is met at 3.1).
const CLAMP: f64 = 10.0;

/// Which covariance a component of a Gaussian mixture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Covariance {
    /// A variance for each column.
    Diagonal,
    /// Any covariance.
    Full,
}

impl Covariance {
    /// Numbers that describe `components` Gaussians in `dim` dimensions: the width of `raw`.
    ///
    /// In this order: a logit for each component; their means; the logarithms, before the clamp, of the diagonals of
    /// their precisions' Cholesky factors; and, if full, the rows of these factors below the diagonal.
    pub fn raw_width(self, components: usize, dim: usize) -> usize {
        let each = dim.saturating_mul(2).saturating_add(1).saturating_add(self.below_diagonal(dim));
        components.saturating_mul(each)
    }

    fn below_diagonal(self, dim: usize) -> usize {
        match self {
            Self::Diagonal => 0,
            Self::Full => dim.saturating_mul(dim.saturating_sub(1)) / 2,
        }
    }
}

/// A mixture, and where its parameters stand in a row of `raw`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    pub components: usize,
    pub dim: usize,
    pub covariance: Covariance,
}

impl Mixture {
    pub fn check(self, op: &'static str, raw: usize) -> Result<(), Error> {
        let Self { components, dim, covariance } = self;
        let expected = covariance.raw_width(components, dim);
        if components > 0 && raw == expected {
            return Ok(());
        }
        let why = format!(
            "{components} components (at least 1) with {covariance:?} covariance in {dim} dimensions need {expected} \
             raw columns, found {raw}"
        );
        Err(Error::shape(op, why))
    }

    #[inline(always)]
    pub fn mean(self, component: usize) -> Range<usize> {
        let start = self.components + component * self.dim;
        start..start + self.dim
    }

    #[inline(always)]
    pub fn ln_diagonal(self, component: usize) -> Range<usize> {
        self.mean(self.components + component)
    }

    /// Row i of the factor up to its diagonal.
    #[inline(always)]
    pub fn below(self, component: usize, i: usize) -> Range<usize> {
        match self.covariance {
            Covariance::Diagonal => 0..0,
            Covariance::Full => {
                let first = self.components * (1 + 2 * self.dim);
                let start = first + component * self.covariance.below_diagonal(self.dim) + (i * i - i) / 2;
                start..start + i
            }
        }
    }

    /// K, d, whether the covariances are full, and the width of `raw`, as the kernels take them.
    #[cfg(feature = "cuda")]
    pub fn arguments(self, width: usize) -> [Argument; 4] {
        let full = usize::from(self.covariance == Covariance::Full);
        [self.components, self.dim, full, width].map(Argument::int)
    }
}

/// (a, da/da~)
#[inline(always)]
pub(super) fn soft_clamp<T: Real>(raw: T) -> (T, T) {
    let tanh = math::tanh(raw * T::from_f64(1.0 / CLAMP));
    (tanh * T::from_f64(CLAMP), T::ONE - tanh * tanh)
}

/// Turns logarithms, a plane of rows for each, into the shares of their exponentials, and leaves the logarithm of each
/// row's sum; `sums` has a number a row.
///
/// A row of minus infinities has the sum 0 and shares 0/0; a NaN anywhere makes its whole row NaN.
pub(super) fn softmax<T: Real>(planes: &mut [T], ln_sums: &mut [T], sums: &mut [T]) {
    let rows = sums.len();
    wide(
        #[inline(always)]
        || {
            ln_sums.copy_from_slice(&planes[..rows]);
            for plane in planes.chunks_exact(rows) {
                each(ln_sums, plane, |most, x| most.max(x));
            }
            ln_sums.iter_mut().for_each(|most| *most = if most.is_finite() { *most } else { T::ZERO });
            sums.fill(T::ZERO);
            for plane in planes.chunks_exact_mut(rows) {
                each(plane, ln_sums, |x, most| math::exp(x - most));
                each(sums, plane, |sum, x| sum + x);
            }
            for plane in planes.chunks_exact_mut(rows) {
                each(plane, sums, |x, sum| x / sum);
            }
            each(ln_sums, sums, |most, sum| most + math::ln(sum));
        },
    );
}

/// `y = f(y, x)`, element by element.
#[inline(always)]
fn each<T: Real>(y: &mut [T], x: &[T], f: impl Fn(T, T) -> T) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x));
}

/// `y = f(y, a, b)`, element by element.
#[inline(always)]
fn each_of_two<T: Real>(y: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) {
    y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(*y, a, b));
}

#[derive(Debug)]
struct MixtureLogDensity(Mixture);

/// What the forward leaves for the backward, in planes of one number a row, so that every loop runs along rows and
/// vectorises whatever the number of components and columns. The first four have the places of the columns of `raw`.
struct Planes<'a, T> {
    rows: usize,
    /// o, then r; backward, the adjoint of o.
    logits: &'a mut [T],
    /// μ, then a, then e^a; backward, the adjoint of μ.
    means: &'a mut [T],
    /// a~, then da/da~; backward, the adjoint of a~.
    diagonals: &'a mut [T],
    /// The rows of L below the diagonals; backward, their adjoints.
    below: &'a mut [T],
    /// w; backward, the component's share of the adjoint.
    weights: &'a mut [T],
    /// e
    errors: &'a mut [T],
    /// z; backward, v.
    z: &'a mut [T],
    /// x; backward, its adjoint.
    x: &'a mut [T],
    sums: &'a mut [T],
}

impl<'a, T: Real> Planes<'a, T> {
    fn new(mixture: Mixture, saved: &'a mut [T], rows: usize) -> Self {
        let Mixture { components: k, dim: d, covariance } = mixture;
        let mut rest = saved;
        let [logits, means, diagonals, below, weights, errors, z, x, sums] =
            [k, k * d, k * d, k * covariance.below_diagonal(d), k, k * d, k * d, d, 1].map(|planes| {
                let (part, after) = std::mem::take(&mut rest).split_at_mut(planes * rows);
                rest = after;
                part
            });
        Self { rows, logits, means, diagonals, below, weights, errors, z, x, sums }
    }

    /// The elements of planes `n`, `n + 1`, .., `count` of them.
    #[inline(always)]
    fn at(&self, n: usize, count: usize) -> Range<usize> {
        n * self.rows..(n + count) * self.rows
    }

    /// From raw and x to ln w + ln N in the places of the logits; `ln_total` is the logarithm of the sum of e^o.
    #[inline(always)]
    fn evaluate(&mut self, mixture: Mixture, ln_total: &[T]) {
        let Mixture { components: k, dim: d, .. } = mixture;
        for c in 0..k {
            let at = self.at(c * d, d);
            each_of_two(&mut self.errors[at.clone()], self.x, &self.means[at], |_, x, mean| x - mean);
        }
        self.means.iter_mut().zip(&mut *self.diagonals).for_each(|(a, raw)| (*a, *raw) = soft_clamp(*raw));
        let norm = T::from_f64(0.5 * d as f64 * std::f64::consts::TAU.ln());
        for c in 0..k {
            let joint = self.at(c, 1);
            for n in c * d..(c + 1) * d {
                let at = self.at(n, 1);
                each(&mut self.logits[joint.clone()], &self.means[at], |joint, a| joint + a);
            }
            each(&mut self.logits[joint], ln_total, |joint, ln_total| joint - norm - ln_total);
        }
        self.means.iter_mut().for_each(|a| *a = math::exp(*a));
        each_of_two(self.z, self.means, self.errors, |_, scale, e| scale * e);
        for (c, i) in (0..k).flat_map(|c| (0..d).map(move |i| (c, i))) {
            let z = self.at(c * d + i, 1);
            for (j, l) in mixture.below(c, i).enumerate() {
                let (l, e) = (self.at(l - mixture.below(0, 0).start, 1), self.at(c * d + j, 1));
                each_of_two(&mut self.z[z.clone()], &self.below[l], &self.errors[e], |z, l, e| z + l * e);
            }
            let joint = self.at(c, 1);
            each(&mut self.logits[joint], &self.z[z], |joint, z| joint - T::from_f64(0.5) * z * z);
        }
    }

    /// From the adjoint `dl` to those of raw and x, in their places.
    #[inline(always)]
    fn pull_back(&mut self, mixture: Mixture, dl: &[T]) {
        let Mixture { components: k, dim: d, .. } = mixture;
        for c in 0..k {
            let of = self.at(c, 1);
            let shares = self.weights[of.clone()].iter_mut().zip(&mut self.logits[of.clone()]);
            shares.zip(dl).for_each(|((w, r), &dl)| (*r, *w) = (dl * (*r - *w), dl * *r));
            for n in c * d..(c + 1) * d {
                let (at, share) = (self.at(n, 1), &self.weights[of.clone()]);
                each(&mut self.z[at.clone()], share, |z, share| share * z);
                let (v, e, scale) = (&self.z[at.clone()], &self.errors[at.clone()], &self.means[at.clone()]);
                let reaches =
                    v.iter().zip(e).zip(scale).zip(share).map(|(((v, e), scale), share)| *share - *v * *e * *scale);
                self.diagonals[at].iter_mut().zip(reaches).for_each(|(slope, da)| *slope = da * *slope);
            }
        }
        each(self.means, self.z, |scale, v| scale * v);
        for (c, i) in (0..k).flat_map(|c| (0..d).map(move |i| (c, i))) {
            for (j, l) in mixture.below(c, i).enumerate() {
                let l = self.at(l - mixture.below(0, 0).start, 1);
                let (v, at) = (&self.z[self.at(c * d + i, 1)], self.at(c * d + j, 1));
                each_of_two(&mut self.means[at.clone()], &self.below[l.clone()], v, |mean, l, v| mean + l * v);
                each_of_two(&mut self.below[l], v, &self.errors[at], |_, v, e| -(v * e));
            }
        }
        self.x.fill(T::ZERO);
        for c in 0..k {
            let at = self.at(c * d, d);
            each(self.x, &self.means[at], |x, mean| x - mean);
        }
    }
}

impl<T: Real> Op<T> for MixtureLogDensity {
    fn name(&self) -> &'static str {
        "mixture_log_density"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        self.0.check("mixture_log_density", inputs[1])?;
        Ok(vec![1])
    }

    /// On a device; here the planes have all.
    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn saved(&self, inputs: &[usize]) -> usize {
        let Mixture { components: k, dim: d, .. } = self.0;
        inputs[1] + k * (1 + 2 * d) + d + 1
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (mixture, width, l) = (self.0, tile.input_widths[1], &mut *tile.outputs[0]);
        columns_of(tile.inputs[1], width, &mut tile.saved[..width * tile.rows]);
        let mut planes = Planes::new(mixture, tile.saved, tile.rows);
        columns_of(tile.inputs[0], mixture.dim, planes.x);
        planes.weights.copy_from_slice(planes.logits);
        softmax(planes.weights, l, planes.sums);
        wide(
            #[inline(always)]
            || planes.evaluate(mixture, l),
        );
        softmax(planes.logits, l, planes.sums);
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (mixture, width, dl) = (self.0, tile.input_widths[1], &*tile.output_adjoints[0]);
        let [dx, draw] = tile.input_adjoints else {
            return;
        };
        let mut planes = Planes::new(mixture, tile.saved, tile.rows);
        wide(
            #[inline(always)]
            || planes.pull_back(mixture, dl),
        );
        dx.put_columns(planes.x, mixture.dim);
        draw.put_columns(&tile.saved[..width * tile.rows], width);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for MixtureLogDensity {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let norm = Argument::real(T::from_f64(0.5 * self.0.dim as f64 * std::f64::consts::TAU.ln()));
        let [k, d, full, width] = self.0.arguments(tile.input_widths[1]);
        let (x, raw, density) = (tile.inputs[0].into(), tile.inputs[1].into(), tile.outputs[0].into());
        let arguments = [x, raw, density, tile.saved.into(), norm, k, d, full, width, Argument::size(tile.rows)];
        tile.launch(("mixture_log_density", "mixture_log_density_forward"), Grid::warps(tile.rows), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let [k, d, full, width] = self.0.arguments(tile.input_widths[1]);
        let (x, raw, dl) = (tile.inputs[0].into(), tile.inputs[1].into(), tile.output_adjoints[0].into());
        let (dx, draw) = (tile.input_adjoints[0].into(), tile.input_adjoints[1].into());
        let arguments = [x, raw, dl, tile.saved.into(), dx, draw, k, d, full, width, Argument::size(tile.rows)];
        tile.launch(("mixture_log_density", "mixture_log_density_backward"), Grid::warps(tile.rows), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// ln p(x) of each row, `[rows x 1]`, under the Gaussian mixture that the same row of `raw` describes.
    ///
    /// `x` is `[rows x d]`, `raw` `[rows x covariance.raw_width(components, d)]` of any numbers; zeros make each
    /// component N(0, I). The diagonals' logarithms are clamped to ±10 by 10 tanh(raw / 10): a column's standard
    /// deviation, given the columns before it, stays between 4.5e-5 and 2.2e4, so that no exponential overflows and no
    /// component collapses onto one training row.
    ///
    /// Where no component has a density above 0 the value is minus infinity and its gradient NaN; a NaN in a row makes
    /// the row's value NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] if the width of `raw` is another or `components` is 0.
    pub fn mixture_log_density(
        &mut self,
        x: Var,
        raw: Var,
        components: usize,
        covariance: Covariance,
    ) -> Result<Var, Error> {
        let mixture = Mixture { components, dim: self.cols(x)?, covariance };
        self.push_one(MixtureLogDensity(mixture), &[x, raw])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |components: usize, dim: usize, covariance: Covariance| {
        Case::new("mixture_log_density", &[dim, covariance.raw_width(components, dim)], move |g, x, _| {
            Ok(vec![g.mixture_log_density(x[0], x[1], components, covariance)?])
        })
    };
    let both = |k, d| [Covariance::Diagonal, Covariance::Full].map(|covariance| case(k, d, covariance));
    [(1, 1), (3, 1), (1, 3), (5, 2), (2, 4)].into_iter().flat_map(|(k, d)| both(k, d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;
    use crate::rng::{Noise, NoiseId};
    use Covariance::{Diagonal, Full};

    fn log_density<T: Real>(x: &[T], raw: Feed<'_, T>, k: usize, d: usize, covariance: Covariance) -> Vec<T> {
        let inputs = [(d, Feed::Rows(x)), (covariance.raw_width(k, d), raw)];
        let density = |g: &mut Graph<T>, v: &[Var]| Ok(vec![g.mixture_log_density(v[0], v[1], k, covariance)?]);
        evaluate(x.len() / d, &inputs, density).remove(0)
    }

    fn parameters(k: usize, d: usize, covariance: Covariance, scale: f64) -> Vec<f64> {
        let mut raw = vec![0.0; covariance.raw_width(k, d)];
        Noise { seed: 3, step: 0, id: NoiseId(0) }.fill_normal(0, raw.len(), &mut raw);
        raw.iter().map(|z| scale * z).collect()
    }

    /// One point of the equation at the top, without any of the code below it.
    fn reference(x: [f64; 2], raw: &[f64]) -> f64 {
        let (o, mean, a, c) = (&raw[..2], &raw[2..6], &raw[6..10], &raw[10..12]);
        let total: f64 = o.iter().map(|o| o.exp()).sum();
        let density = |k: usize| {
            let a = [0, 1].map(|i| 10.0 * (a[2 * k + i] / 10.0).tanh());
            let e = [0, 1].map(|i| x[i] - mean[2 * k + i]);
            let z = [a[0].exp() * e[0], c[k] * e[0] + a[1].exp() * e[1]];
            o[k].exp() / total * (-0.5 * (z[0] * z[0] + z[1] * z[1]) + a[0] + a[1]).exp() / std::f64::consts::TAU
        };
        (density(0) + density(1)).ln()
    }

    #[test]
    fn agrees_with_the_equation() {
        let raw = parameters(2, 2, Full, 1.0);
        for x in [[0.0, 0.0], [0.3, -1.2], [2.0, 1.0]] {
            let (found, expected) = (log_density(&x, Feed::Rows(&raw), 2, 2, Full)[0], reference(x, &raw));
            assert!((found - expected).abs() < 1e-13, "{x:?}: {found} is not {expected}");
        }
    }

    #[test]
    fn zeros_are_the_standard_normal() {
        for (k, d, covariance) in [(1, 1, Diagonal), (3, 2, Full), (4, 5, Diagonal), (2, 6, Full)] {
            let x: Vec<f64> = (0..7 * d).map(|i| (i as f64).sin()).collect();
            let zeros = vec![0.0; covariance.raw_width(k, d)];
            for (l, x) in log_density(&x, Feed::Repeat(&zeros), k, d, covariance).iter().zip(x.chunks_exact(d)) {
                let expected: f64 = x.iter().map(|&x| math::normal_ln_pdf(x)).sum();
                assert!((l - expected).abs() < 1e-13, "{k} {d}: {l} is not {expected}");
            }
        }
    }

    /// The trapezoidal rule over the whole line: its error falls faster than any power of the step.
    #[test]
    fn integrates_to_one() {
        for covariance in [Diagonal, Full] {
            let raw = parameters(3, 1, covariance, 0.8);
            let x: Vec<f64> = (-4000..=4000).map(|i| f64::from(i) * 0.01).collect();
            let sum: f64 = log_density(&x, Feed::Repeat(&raw), 3, 1, covariance).iter().map(|l| l.exp()).sum();
            assert!((sum * 0.01 - 1.0).abs() < 1e-10, "{covariance:?}, one dimension: {}", sum * 0.01);

            let raw = parameters(3, 2, covariance, 0.4);
            let line = || (-300..=300).map(|i| f64::from(i) * 0.06);
            let x: Vec<f64> = line().flat_map(|a| line().flat_map(move |b| [a, b])).collect();
            let sum: f64 = log_density(&x, Feed::Repeat(&raw), 3, 2, covariance).iter().map(|l| l.exp()).sum();
            assert!((sum * 0.0036 - 1.0).abs() < 1e-10, "{covariance:?}, two dimensions: {}", sum * 0.0036);
        }
    }

    #[test]
    fn far_points_and_sharp_components_stay_finite() {
        let x = [1e4_f32, -1e4];
        let mut raw = vec![0.0; Full.raw_width(2, 1)];
        raw[4..6].fill(1e6); // both diagonals at the clamp
        let l = log_density(&x, Feed::Repeat(&raw), 2, 1, Full);
        let expected = -0.5 * (1e4 * 10_f64.exp()).powi(2);
        assert!(l.iter().all(|&l| (f64::from(l) / expected - 1.0).abs() < 1e-5), "{l:?}");
    }

    #[test]
    fn impossible_points_are_minus_infinity_and_nan_is_seen() {
        let infinity = f64::INFINITY;
        let zeros = vec![0.0; Diagonal.raw_width(2, 1)];
        let l = log_density(&[infinity, f64::NAN, 0.0], Feed::Repeat(&zeros), 2, 1, Diagonal);
        assert_eq!(l[0], -infinity);
        assert!(l[1].is_nan() && l[2].is_finite(), "{l:?}");
        // And so is the gradient of minus infinity.
        let (mut shares, mut ln_sum) = ([-infinity; 2], [0.0]);
        softmax(&mut shares, &mut ln_sum, &mut [0.0]);
        assert!(ln_sum == [-infinity] && shares.iter().all(|r| r.is_nan()), "{ln_sum:?} {shares:?}");
        // A component switched off by its logit leaves the other; NaN in either shows.
        let off = [-infinity, 0.0, 5.0, 0.0, 1.0, 0.0];
        assert!((log_density(&[0.3], Feed::Rows(&off), 2, 1, Diagonal)[0] - math::normal_ln_pdf(0.3)).abs() < 1e-15);
        for i in 0..6 {
            let mut raw = zeros.clone();
            raw[i] = f64::NAN;
            assert!(log_density(&[0.3], Feed::Rows(&raw), 2, 1, Diagonal)[0].is_nan(), "NaN in column {i}");
        }
    }

    #[test]
    fn wrong_widths_are_named() {
        let mut graph = Graph::<f64>::new();
        let (x, raw) = (graph.input("x", 2).unwrap(), graph.input("raw", 11).unwrap());
        let message = graph.mixture_log_density(x, raw, 2, Full).unwrap_err().to_string();
        assert!(message.contains("need 12 raw columns, found 11"), "{message}");
        assert!(graph.mixture_log_density(x, raw, 0, Diagonal).is_err());
        assert!(graph.mixture_log_density(x, raw, usize::MAX, Full).is_err());
    }
}
