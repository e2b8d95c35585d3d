//! A Gaussian draw through which gradients flow (the reparameterisation of Kingma & Welling 2014).
//!
//! $$ z_i = \mu_i + \sigma_i \epsilon_i; \qquad \bar\mu_i = \bar z_i, \quad \bar\epsilon_i = \bar z_i \sigma_i, \quad
//!    \overline{\ln\sigma_i} = \bar z_i \sigma_i \epsilon_i. $$
//! If $\ln\sigma$ is one column for all, its adjoint is the sum over the columns.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, map_in_place, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::ops::arithmetic::contribute;
use crate::ops::gaussian_log_density::{check_ln_sigma, spread};
use crate::real::Real;

#[derive(Debug)]
struct GaussianSample;

impl<T: Real> Op<T> for GaussianSample {
    fn name(&self) -> &'static str {
        "gaussian_sample"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        if inputs[0] != inputs[2] {
            let why = format!("the mean has {} columns, eps {}; they must be equal", inputs[0], inputs[2]);
            return Err(Error::shape("gaussian_sample", why));
        }
        check_ln_sigma("gaussian_sample", inputs[0], inputs[1])?;
        Ok(vec![inputs[0]])
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    /// sigma
    fn saved(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (mean, ln_sigma, eps) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let (sigma, z) = (&mut *tile.saved, &mut *tile.outputs[0]);
        spread(ln_sigma, tile.rows, sigma);
        map_in_place(
            sigma,
            #[inline(always)]
            |ln_sigma| math::exp(ln_sigma),
        );
        wide(
            #[inline(always)]
            || {
                for (((z, &mean), &sigma), &eps) in z.iter_mut().zip(mean).zip(&*sigma).zip(eps) {
                    *z = sigma.mul_add(eps, mean);
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (rows, eps, dz) = (tile.rows, tile.inputs[2], &mut *tile.output_adjoints[0]);
        let [dmean, dln_sigma, deps] = &mut *tile.input_adjoints else { return };
        dmean.zip(dz, dz, |dz, _| dz);
        wide(
            #[inline(always)]
            || dz.iter_mut().zip(&*tile.saved).for_each(|(dz, &sigma)| *dz *= sigma),
        );
        deps.zip(dz, dz, |dz_sigma, _| dz_sigma);
        contribute(dln_sigma, rows, dz, eps, |dz_sigma, eps| dz_sigma * eps);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for GaussianSample {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [d, spread] = [tile.input_widths[0], tile.input_widths[1]].map(Argument::int);
        let [mean, ln_sigma, eps] = [0, 1, 2].map(|i| tile.inputs[i].into());
        let (z, saved, rows) = (tile.outputs[0].into(), tile.saved.into(), Argument::size(tile.rows));
        let arguments = [mean, ln_sigma, eps, z, saved, d, spread, rows];
        tile.launch(
            ("gaussian_sample", "gaussian_sample_forward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let [d, spread] = [tile.input_widths[0], tile.input_widths[1]].map(Argument::int);
        let [dmean, dln_sigma, deps] = [0, 1, 2].map(|i| tile.input_adjoints[i].into());
        let (dz, saved, eps) = (tile.output_adjoints[0].into(), tile.saved.into(), tile.inputs[2].into());
        let arguments = [dz, saved, eps, dmean, dln_sigma, deps, d, spread, Argument::size(tile.rows)];
        tile.launch(
            ("gaussian_sample", "gaussian_sample_backward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }
}

impl<T: Real> Graph<T> {
    /// z = mean + sigma eps, `[rows x d]`: a draw from N(mean, sigma² I) if `eps` is standard normal.
    ///
    /// `mean` and `eps` are `[rows x d]`, `ln_sigma` is `[rows x d]` or, for one width in all columns, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the widths do not fit.
    pub fn gaussian_sample(&mut self, mean: Var, ln_sigma: Var, eps: Var) -> Result<Var, Error> {
        self.push_one(GaussianSample, &[mean, ln_sigma, eps])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    [(1, 1), (5, 5), (5, 1)]
        .map(|(d, s)| {
            Case::new("gaussian_sample", &[d, s, d], |g, v, _| Ok(vec![g.gaussian_sample(v[0], v[1], v[2])?]))
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;

    #[test]
    fn closed_form() {
        let (mean, eps) = ([1.0, -2.0, 0.5, 4.0], [0.3, -1.0, 2.0, 0.0]);
        for ln_sigma in [vec![0.1, -0.7, 0.4, f64::NAN], vec![0.3, -0.6]] {
            let inputs = [&mean[..], &ln_sigma, &eps].map(|table| (table.len() / 2, Feed::Rows(table)));
            let z = evaluate(2, &inputs, |g, v| Ok(vec![g.gaussian_sample(v[0], v[1], v[2])?])).remove(0);
            for (i, z) in z.into_iter().enumerate() {
                let expected = mean[i] + ln_sigma[i * ln_sigma.len() / 4].exp() * eps[i];
                assert!((z - expected).abs() < 1e-14 || z.is_nan() && expected.is_nan(), "{z}, not {expected}");
            }
        }
    }

    #[test]
    fn wrong_widths_are_named() {
        let mut graph = Graph::<f32>::new();
        let (two, three) = (graph.input("two", 2).unwrap(), graph.input("three", 3).unwrap());
        assert!(graph.gaussian_sample(two, two, three).is_err() && graph.gaussian_sample(three, two, three).is_err());
    }
}
