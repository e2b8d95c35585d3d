//! Linear combination with coefficients of each row, $y = \sum_k c_k v_k$: the step of a Langevin sampler, of a
//! stochastic differential equation, of an integrator.
//!
//! $\bar v_k = c_k \bar y$, $\bar c_k = \bar y \cdot v_k$.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::wide;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

/// Inputs: the values, then their coefficients.
#[derive(Debug)]
struct Combine;

impl<T: Real> Op<T> for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let Some((&coefficients, values)) = inputs.split_last() else {
            return Err(Error::shape("combine", "takes values and their coefficients"));
        };
        if values.is_empty() || coefficients != values.len() || values.iter().any(|&cols| cols != values[0]) {
            let why = format!(
                "values of widths {values:?} with {coefficients} coefficients; one for each value, and equal widths"
            );
            return Err(Error::shape("combine", why));
        }
        Ok(vec![values[0]])
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let Some((coefficients, values)) = tile.inputs.split_last() else { return };
        let (cols, y) = (tile.input_widths[0], &mut *tile.outputs[0]);
        y.fill(T::ZERO);
        for (k, value) in values.iter().enumerate() {
            let rows = y.chunks_exact_mut(cols).zip(value.chunks_exact(cols));
            for ((y, v), c) in rows.zip(coefficients.chunks_exact(values.len())) {
                wide(
                    #[inline(always)]
                    || y.iter_mut().zip(v).for_each(|(y, &v)| *y = v.mul_add(c[k], *y)),
                );
            }
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let Some((coefficients, values)) = tile.inputs.split_last() else { return };
        let Some((to_coefficients, to_values)) = tile.input_adjoints.split_last_mut() else { return };
        let (cols, count, dy) = (tile.input_widths[0], values.len(), &*tile.output_adjoints[0]);
        for (k, to) in to_values.iter_mut().enumerate() {
            let Some(dv) = to.zeroed() else { continue };
            let rows = dv.chunks_exact_mut(cols).zip(dy.chunks_exact(cols));
            for ((dv, dy), c) in rows.zip(coefficients.chunks_exact(count)) {
                dv.iter_mut().zip(dy).for_each(|(dv, &dy)| *dv += c[k] * dy);
            }
        }
        for (k, value) in values.iter().enumerate() {
            for (r, (v, dy)) in value.chunks_exact(cols).zip(dy.chunks_exact(cols)).enumerate() {
                to_coefficients.put(r * count + k, v.iter().zip(dy).map(|(&v, &dy)| v * dy).sum());
            }
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Combine {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let Some((&coefficients, values)) = tile.inputs.split_last() else { return Ok(()) };
        let n = tile.rows * tile.input_widths[0];
        for (k, &value) in values.iter().enumerate() {
            let [k, count, cols] = [k, values.len(), tile.input_widths[0]].map(Argument::int);
            let y = tile.outputs[0].into();
            let arguments = [value.into(), coefficients.into(), y, k, count, cols, Argument::size(n)];
            tile.launch(("combine", "combine_forward"), Grid::threads(n), &arguments)?;
        }
        Ok(())
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let Some((&coefficients, values)) = tile.inputs.split_last() else { return Ok(()) };
        let Some((&to_coefficients, to_values)) = tile.input_adjoints.split_last() else { return Ok(()) };
        let dy = tile.output_adjoints[0].into();
        for (k, (&value, &to_value)) in values.iter().zip(to_values).enumerate() {
            let [k, count, cols] = [k, values.len(), tile.input_widths[0]].map(Argument::int);
            let (to_value, to_coefficients) = (to_value.into(), to_coefficients.into());
            let (value, coefficients, rows) = (value.into(), coefficients.into(), Argument::size(tile.rows));
            let arguments = [dy, value, coefficients, to_value, to_coefficients, k, count, cols, rows];
            tile.launch(("combine", "combine_backward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)?;
        }
        Ok(())
    }
}

impl<T: Real> Graph<T> {
    /// c₀ v₀ + c₁ v₁ + …, with `coefficients` `[rows x number of values]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the values have equal widths, and a coefficient each.
    pub fn combine(&mut self, values: &[Var], coefficients: Var) -> Result<Var, Error> {
        let inputs: Vec<Var> = values.iter().copied().chain([coefficients]).collect();
        self.push_one(Combine, &inputs)
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![
        Case::new("combine", &[3, 3, 3, 3], |g, x, _| Ok(vec![g.combine(&x[..3], x[3])?])),
        Case::new("combine one", &[2, 1], |g, x, _| Ok(vec![g.combine(&x[..1], x[1])?])),
        Case::new("combine with itself", &[4, 2], |g, x, _| Ok(vec![g.combine(&[x[0], x[0]], x[1])?])),
    ]
}
