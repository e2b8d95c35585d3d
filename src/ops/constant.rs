//! A fixed number in every row and column; nothing flows back.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::real::Real;

#[derive(Debug)]
struct Constant<T> {
    value: T,
    cols: usize,
}

impl<T: Real> Op<T> for Constant<T> {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn shapes(&self, _: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![self.cols])
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        tile.outputs[0].fill(self.value);
    }

    fn backward(&self, _: &mut Backward<'_, T>) {}

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Constant<T> {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * self.cols;
        let arguments = [tile.outputs[0].into(), Argument::real(self.value), Argument::size(n)];
        tile.launch(("constant", "constant_forward"), Grid::threads(n), &arguments)
    }

    fn backward(&self, _: &cuda::Backward<'_, T>) -> Result<(), Error> {
        Ok(())
    }
}

impl<T: Real> Graph<T> {
    /// `[rows x cols]` of one number.
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn constant(&mut self, value: f64, cols: usize) -> Result<Var, Error> {
        self.push_one(Constant { value: T::from_f64(value), cols }, &[])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![Case::new("constant", &[3], |g, x, _| {
        let c = g.constant(-0.5, 3)?;
        Ok(vec![g.mul(x[0], c)?])
    })]
}
