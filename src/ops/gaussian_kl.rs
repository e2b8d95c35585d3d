//! Divergence of a Gaussian with independent columns from the standard normal (Kingma & Welling 2014, appendix B).
//!
//! $$ \mathrm{KL} = \sum_i \tfrac12 (\mu_i^2 + \sigma_i^2 - 1) - \ln\sigma_i; \qquad
//!    \bar\mu_i = \overline{\mathrm{KL}}\, \mu_i, \quad
//!    \overline{\ln\sigma_i} = \overline{\mathrm{KL}}\,(\sigma_i^2 - 1). $$
//! If $\ln\sigma$ is one column for all, its adjoint is the sum over the columns.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::ops::arithmetic::contribute;
use crate::ops::gaussian_log_density::{check_ln_sigma, spread};
use crate::real::Real;

#[derive(Debug)]
struct GaussianKl;

impl<T: Real> Op<T> for GaussianKl {
    fn name(&self) -> &'static str {
        "gaussian_kl"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        check_ln_sigma("gaussian_kl", inputs[0], inputs[1])?;
        Ok(vec![1])
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    /// ln sigma as wide as the mean, then sigma^2 - 1; and each column's term.
    fn saved(&self, inputs: &[usize]) -> usize {
        2 * inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (mean, ln_sigma, d) = (tile.inputs[0], tile.inputs[1], tile.input_widths[0]);
        let (excess, terms) = tile.saved.split_at_mut(mean.len());
        let (half, two) = (T::from_f64(0.5), T::from_f64(2.0));
        spread(ln_sigma, tile.rows, excess);
        wide(
            #[inline(always)]
            || {
                for ((term, excess), &mean) in terms.iter_mut().zip(excess).zip(mean) {
                    let ln_sigma = *excess;
                    *excess = math::exp(two * ln_sigma) - T::ONE;
                    *term = half * (mean * mean + *excess) - ln_sigma;
                }
            },
        );
        for (kl, terms) in tile.outputs[0].iter_mut().zip(terms.chunks_exact(d)) {
            *kl = terms.iter().copied().sum();
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (rows, mean) = (tile.rows, tile.inputs[0]);
        let [dmean, dln_sigma] = &mut *tile.input_adjoints else { return };
        let (excess, dkl) = tile.saved.split_at_mut(mean.len());
        spread(tile.output_adjoints[0], rows, dkl);
        dmean.zip(dkl, mean, |dkl, mean| dkl * mean);
        contribute(dln_sigma, rows, dkl, excess, |dkl, excess| dkl * excess);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for GaussianKl {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [d, spread] = [tile.input_widths[0], tile.input_widths[1]].map(Argument::int);
        let (mean, ln_sigma, kl) = (tile.inputs[0].into(), tile.inputs[1].into(), tile.outputs[0].into());
        let arguments = [mean, ln_sigma, kl, tile.saved.into(), d, spread, Argument::size(tile.rows)];
        tile.launch(("gaussian_kl", "gaussian_kl_forward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let [d, spread] = [tile.input_widths[0], tile.input_widths[1]].map(Argument::int);
        let [dmean, dln_sigma] = [0, 1].map(|i| tile.input_adjoints[i].into());
        let (dkl, mean, saved) = (tile.output_adjoints[0].into(), tile.inputs[0].into(), tile.saved.into());
        let arguments = [dkl, mean, saved, dmean, dln_sigma, d, spread, Argument::size(tile.rows)];
        tile.launch(("gaussian_kl", "gaussian_kl_backward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// KL(N(mean, sigma² I) || N(0, I)) of each row in nats, `[rows x 1]`.
    ///
    /// `mean` is `[rows x d]`, `ln_sigma` is `[rows x d]` or, for one width in all columns, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the widths do not fit.
    pub fn gaussian_kl(&mut self, mean: Var, ln_sigma: Var) -> Result<Var, Error> {
        self.push_one(GaussianKl, &[mean, ln_sigma])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    [(1, 1), (5, 5), (5, 1)]
        .map(|(d, s)| Case::new("gaussian_kl", &[d, s], |g, v, _| Ok(vec![g.gaussian_kl(v[0], v[1])?])))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;

    fn kl(mean: &[f64], ln_sigma: &[f64]) -> f64 {
        let inputs = [mean, ln_sigma].map(|table| (table.len(), Feed::Rows(table)));
        evaluate(1, &inputs, |g, v| Ok(vec![g.gaussian_kl(v[0], v[1])?])).remove(0)[0]
    }

    /// The integral of q ln(q / p), by the trapezoidal rule over ten standard deviations.
    fn integral(mean: f64, ln_sigma: f64) -> f64 {
        let h = 0.01;
        let term = |i: i32| {
            let u = f64::from(i) * h;
            let ln_q = math::normal_ln_pdf(u) - ln_sigma;
            math::normal_ln_pdf(u).exp() * (ln_q - math::normal_ln_pdf(mean + ln_sigma.exp() * u))
        };
        (-1000..=1000).map(term).sum::<f64>() * h
    }

    #[test]
    fn is_the_integral_that_defines_it() {
        let (mean, ln_sigma) = ([0.3, -1.5, 0.0], [0.0, 0.8, -2.0]);
        let expected: f64 = mean.iter().zip(ln_sigma).map(|(&m, s)| integral(m, s)).sum();
        assert!((kl(&mean, &ln_sigma) - expected).abs() < 1e-12);
        let expected: f64 = mean.iter().map(|&m| integral(m, 0.4)).sum();
        assert!((kl(&mean, &[0.4]) - expected).abs() < 1e-12);
    }

    #[test]
    fn edges() {
        assert_eq!(kl(&[0.0; 7], &[0.0; 7]), 0.0);
        assert_eq!(kl(&[0.0], &[-1e300]), 1e300);
        assert_eq!(kl(&[0.0], &[f64::NEG_INFINITY]), f64::INFINITY);
        assert!(kl(&[f64::NAN], &[0.0]).is_nan() && kl(&[0.0], &[f64::NAN]).is_nan());
        let mut graph = Graph::<f32>::new();
        let (two, three) = (graph.input("two", 2).unwrap(), graph.input("three", 3).unwrap());
        assert!(graph.gaussian_kl(three, two).is_err());
    }
}
