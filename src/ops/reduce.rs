//! Sum over the columns, $y = a \sum_i x_i$ with a fixed number $a$; $\bar x_i = a \bar y$.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::wide;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::real::Real;

#[derive(Debug)]
struct SumCols<T> {
    scale: T,
}

/// The sum in sixteen partial sums, which vectorise and do not wait for each other.
fn sum<T: Real>(x: &[T]) -> T {
    let (whole, rest) = x.as_chunks::<16>();
    let rest = rest.iter().copied().sum();
    if whole.is_empty() {
        return rest;
    }
    let mut partial = [T::ZERO; 16];
    wide(
        #[inline(always)]
        || whole.iter().for_each(|x| partial.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x)),
    );
    rest + partial.into_iter().sum::<T>()
}

impl<T: Real> Op<T> for SumCols<T> {
    fn name(&self) -> &'static str {
        "sum_cols"
    }

    fn shapes(&self, _: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![1])
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let cols = tile.inputs[0].len() / tile.rows;
        for (y, x) in tile.outputs[0].iter_mut().zip(tile.inputs[0].chunks_exact(cols)) {
            *y = self.scale * sum(x);
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let Some(dx) = tile.input_adjoints[0].zeroed() else { return };
        let cols = dx.len() / tile.rows;
        for (dx, &dy) in dx.chunks_exact_mut(cols).zip(&*tile.output_adjoints[0]) {
            dx.iter_mut().for_each(|dx| *dx += self.scale * dy);
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for SumCols<T> {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (scale, cols) = (Argument::real(self.scale), Argument::int(tile.input_widths[0]));
        let arguments = [tile.inputs[0].into(), tile.outputs[0].into(), scale, cols, Argument::size(tile.rows)];
        tile.launch(("reduce", "sum_cols_forward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let (scale, cols) = (Argument::real(self.scale), Argument::int(tile.input_widths[0]));
        let (dy, dx) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into());
        tile.launch(("reduce", "sum_cols_backward"), Grid::threads(n), &[dy, dx, scale, cols, Argument::size(n)])
    }
}

impl<T: Real> Graph<T> {
    /// Sum over the columns, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn sum_cols(&mut self, x: Var) -> Result<Var, Error> {
        self.push_one(SumCols { scale: T::ONE }, &[x])
    }

    /// Mean over the columns, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn mean_cols(&mut self, x: Var) -> Result<Var, Error> {
        let cols = self.cols(x)?;
        self.push_one(SumCols { scale: T::from_f64(1.0 / cols as f64) }, &[x])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![
        Case::new("sum_cols", &[5], |g, x, _| Ok(vec![g.sum_cols(x[0])?])),
        Case::new("mean_cols", &[7], |g, x, _| Ok(vec![g.mean_cols(x[0])?])),
        Case::new("sum of one column", &[1], |g, x, _| Ok(vec![g.sum_cols(x[0])?])),
    ]
}
