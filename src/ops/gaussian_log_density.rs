//! Log-density of a Gaussian with independent columns, all three of whose inputs are values of the graph.
//!
//! With $u_i = (x_i - \mu_i) / \sigma_i$:
//! $$ l = -\tfrac12 |u|^2 - \textstyle\sum_i \ln\sigma_i - \tfrac d2 \ln 2\pi, $$
//! $$ \bar\mu_i = \bar l\, u_i / \sigma_i, \quad \bar x_i = -\bar\mu_i, \quad
//!    \overline{\ln\sigma_i} = \bar l\,(u_i^2 - 1). $$
//! If $\ln\sigma$ is one column for all, its adjoint is the sum over the columns.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::ops::arithmetic::contribute;
use crate::real::Real;

/// `Ok` if ln sigma has a column for each of the mean's `dim`, or one for all.
pub(super) fn check_ln_sigma(op: &'static str, dim: usize, ln_sigma: usize) -> Result<(), Error> {
    if ln_sigma == dim || ln_sigma == 1 {
        return Ok(());
    }
    Err(Error::shape(op, format!("ln sigma has {ln_sigma} columns; a mean of {dim} columns needs as many, or 1")))
}

/// Lays a table out `[rows x d]` that has d columns, or one that stands for all.
pub(super) fn spread<T: Real>(table: &[T], rows: usize, out: &mut [T]) {
    if table.len() == out.len() {
        out.copy_from_slice(table);
    } else {
        out.chunks_exact_mut(out.len() / rows).zip(table).for_each(|(out, &value)| out.fill(value));
    }
}

#[derive(Debug)]
struct GaussianLogDensity;

impl<T: Real> Op<T> for GaussianLogDensity {
    fn name(&self) -> &'static str {
        "gaussian_log_density"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        if inputs[0] != inputs[1] {
            let why = format!("x has {} columns, its mean {}; they must be equal", inputs[0], inputs[1]);
            return Err(Error::shape("gaussian_log_density", why));
        }
        check_ln_sigma("gaussian_log_density", inputs[1], inputs[2])?;
        Ok(vec![1])
    }

    /// u and 1 / sigma.
    fn saved(&self, inputs: &[usize]) -> usize {
        2 * inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, mean, ln_sigma) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let (d, half) = (tile.input_widths[0], T::from_f64(0.5));
        let (u, per_sigma) = tile.saved.split_at_mut(x.len());
        spread(ln_sigma, tile.rows, per_sigma);
        let norm = T::from_f64(0.5 * d as f64 * std::f64::consts::TAU.ln());
        for (l, ln_sigma) in tile.outputs[0].iter_mut().zip(per_sigma.chunks_exact(d)) {
            *l = -ln_sigma.iter().copied().sum::<T>() - norm;
        }
        wide(
            #[inline(always)]
            || {
                for (((u, per_sigma), &x), &mean) in u.iter_mut().zip(per_sigma).zip(x).zip(mean) {
                    *per_sigma = math::exp(-*per_sigma);
                    *u = (x - mean) * *per_sigma;
                }
            },
        );
        for (l, u) in tile.outputs[0].iter_mut().zip(u.chunks_exact(d)) {
            *l += -half * u.iter().map(|&u| u * u).sum::<T>();
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (rows, d) = (tile.rows, tile.input_widths[0]);
        let [dx, dmean, dln_sigma] = &mut *tile.input_adjoints else { return };
        let (u, per_sigma) = tile.saved.split_at_mut(rows * d);
        let dl = tile.output_adjoints[0].iter();
        wide(
            #[inline(always)]
            || {
                for ((u, per_sigma), &dl) in u.chunks_exact_mut(d).zip(per_sigma.chunks_exact_mut(d)).zip(dl) {
                    for (u, per_sigma) in u.iter_mut().zip(per_sigma) {
                        (*u, *per_sigma) = (dl * (*u * *u - T::ONE), dl * *u * *per_sigma);
                    }
                }
            },
        );
        dx.zip(per_sigma, per_sigma, |dmean, _| -dmean);
        dmean.zip(per_sigma, per_sigma, |dmean, _| dmean);
        contribute(dln_sigma, rows, u, u, |dln_sigma, _| dln_sigma);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for GaussianLogDensity {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let d = tile.input_widths[0];
        let norm = Argument::real(T::from_f64(0.5 * d as f64 * std::f64::consts::TAU.ln()));
        let [d, spread] = [d, tile.input_widths[2]].map(Argument::int);
        let [x, mean, ln_sigma] = [0, 1, 2].map(|i| tile.inputs[i].into());
        let (density, saved, rows) = (tile.outputs[0].into(), tile.saved.into(), Argument::size(tile.rows));
        let arguments = [x, mean, ln_sigma, density, saved, norm, d, spread, rows];
        tile.launch(
            ("gaussian_log_density", "gaussian_log_density_forward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let [d, spread] = [tile.input_widths[0], tile.input_widths[2]].map(Argument::int);
        let [dx, dmean, dln_sigma] = [0, 1, 2].map(|i| tile.input_adjoints[i].into());
        let (dl, saved) = (tile.output_adjoints[0].into(), tile.saved.into());
        let arguments = [dl, saved, dx, dmean, dln_sigma, d, spread, Argument::size(tile.rows)];
        tile.launch(
            ("gaussian_log_density", "gaussian_log_density_backward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }
}

impl<T: Real> Graph<T> {
    /// ln N(x; mean, sigma² I) of each row, `[rows x 1]`.
    ///
    /// `x` and `mean` are `[rows x d]`, `ln_sigma` is `[rows x d]` or, for one width in all columns, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the widths do not fit.
    pub fn gaussian_log_density(&mut self, x: Var, mean: Var, ln_sigma: Var) -> Result<Var, Error> {
        self.push_one(GaussianLogDensity, &[x, mean, ln_sigma])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    [(1, 1), (5, 5), (5, 1)]
        .map(|(d, s)| {
            Case::new("gaussian_log_density", &[d, d, s], |g, v, _| Ok(vec![g.gaussian_log_density(v[0], v[1], v[2])?]))
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;

    fn log_density(x: &[f64], mean: &[f64], ln_sigma: &[f64], rows: usize) -> Vec<f64> {
        let inputs = [x, mean, ln_sigma].map(|table| (table.len() / rows, Feed::Rows(table)));
        evaluate(rows, &inputs, |g, v| Ok(vec![g.gaussian_log_density(v[0], v[1], v[2])?])).remove(0)
    }

    #[test]
    fn closed_form() {
        let (x, mean) = ([0.3, -1.0, 2.0, 1.0, 0.0, -0.5], [1.0, 0.5, 0.0, 0.2, 3.0, 0.1]);
        for ln_sigma in [vec![0.1, -0.7, 0.4, 1.0, 0.0, -2.0], vec![0.3, -0.6]] {
            let found = log_density(&x, &mean, &ln_sigma, 2);
            for (row, found) in found.into_iter().enumerate() {
                let term = |i: usize| {
                    let ln_sigma = ln_sigma[if ln_sigma.len() == 6 { i } else { row }];
                    math::normal_ln_pdf((x[i] - mean[i]) / ln_sigma.exp()) - ln_sigma
                };
                let expected: f64 = (3 * row..3 * row + 3).map(term).sum();
                assert!((found - expected).abs() < 1e-13 * expected.abs(), "{found}, not {expected}");
            }
        }
    }

    #[test]
    fn edges() {
        let infinity = f64::INFINITY;
        assert_eq!(log_density(&[infinity], &[0.0], &[0.0], 1), [-infinity]);
        for i in 0..3 {
            let mut at = [0.0; 3];
            at[i] = f64::NAN;
            assert!(log_density(&at[..1], &at[1..2], &at[2..], 1)[0].is_nan());
        }
        let mut graph = Graph::<f32>::new();
        let (two, three) = (graph.input("two", 2).unwrap(), graph.input("three", 3).unwrap());
        assert!(graph.gaussian_log_density(two, three, two).is_err());
        let message = graph.gaussian_log_density(three, three, two).unwrap_err().to_string();
        assert!(message.contains("ln sigma has 2 columns"), "{message}");
    }
}
