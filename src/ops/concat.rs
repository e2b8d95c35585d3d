//! Values side by side, $y = [x_1, x_2, \dots]$; each $\bar x_k$ is its part of $\bar y$.
//!
//! A linear map of a concatenation does not need it: [`Graph::linear`] takes several inputs.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Adjoint, Backward, Forward, Op};
use crate::ops::Case;
use crate::real::Real;

#[derive(Debug)]
struct Concat;

impl<T: Real> Op<T> for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        match inputs {
            [] => Err(Error::shape("concat", "takes at least one input")),
            _ => Ok(vec![inputs.iter().sum()]),
        }
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let cols = tile.outputs[0].len() / tile.rows;
        let mut start = 0;
        for x in tile.inputs {
            let width = x.len() / tile.rows;
            for (y, x) in tile.outputs[0].chunks_exact_mut(cols).zip(x.chunks_exact(width)) {
                y[start..start + width].copy_from_slice(x);
            }
            start += width;
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let cols = tile.output_adjoints[0].len() / tile.rows;
        let mut start = 0;
        for (dx, width) in tile.input_adjoints.iter_mut().zip(tile.input_widths) {
            let dy = tile.output_adjoints[0].chunks_exact(cols).map(|dy| &dy[start..start + width]);
            match dx {
                Adjoint::Skip => {}
                Adjoint::Set(dx) => dx.chunks_exact_mut(*width).zip(dy).for_each(|(dx, dy)| dx.copy_from_slice(dy)),
                Adjoint::Add(dx) => dx.iter_mut().zip(dy.flatten()).for_each(|(dx, &dy)| *dx += dy),
            }
            start += width;
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Concat {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (cols, mut start) = (tile.input_widths.iter().sum(), 0);
        for (&x, &width) in tile.inputs.iter().zip(tile.input_widths) {
            let (n, shape) = (tile.rows * width, [width, start, cols].map(Argument::int));
            let arguments = [x.into(), tile.outputs[0].into(), shape[0], shape[1], shape[2], Argument::size(n)];
            tile.launch(("concat", "concat_forward"), Grid::threads(n), &arguments)?;
            start += width;
        }
        Ok(())
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let (cols, mut start) = (tile.input_widths.iter().sum(), 0);
        for (&dx, &width) in tile.input_adjoints.iter().zip(tile.input_widths) {
            let (n, shape) = (tile.rows * width, [width, start, cols].map(Argument::int));
            let dy = tile.output_adjoints[0].into();
            let arguments = [dy, dx.into(), shape[0], shape[1], shape[2], Argument::size(n)];
            if !dx.is_skipped() {
                tile.launch(("concat", "concat_backward"), Grid::threads(n), &arguments)?;
            }
            start += width;
        }
        Ok(())
    }
}

impl<T: Real> Graph<T> {
    /// The values side by side, `[rows x sum of widths]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no input.
    pub fn concat(&mut self, values: &[Var]) -> Result<Var, Error> {
        self.push_one(Concat, values)
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![
        Case::new("concat", &[3, 1, 4], |g, x, _| Ok(vec![g.concat(x)?])),
        Case::new("concat with itself", &[2], |g, x, _| Ok(vec![g.concat(&[x[0], x[0]])?])),
    ]
}
