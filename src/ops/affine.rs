//! $y_i = a x_i + b$ with fixed numbers $a, b$; $\bar x_i = a \bar y_i$.

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
struct Affine<T> {
    scale: T,
    shift: T,
}

impl<T: Real> Op<T> for Affine<T> {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(inputs.to_vec())
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, y) = (tile.inputs[0], &mut *tile.outputs[0]);
        wide(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.mul_add(self.scale, self.shift)),
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let dy = &*tile.output_adjoints[0];
        tile.input_adjoints[0].zip(dy, dy, |dy, _| dy * self.scale);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Affine<T> {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let [scale, shift] = [self.scale, self.shift].map(Argument::real);
        let arguments = [tile.inputs[0].into(), tile.outputs[0].into(), scale, shift, Argument::size(n)];
        tile.launch(("affine", "affine_forward"), Grid::threads(n), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let (dy, dx) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into());
        let arguments = [dy, dx, Argument::real(self.scale), Argument::size(n)];
        tile.launch(("affine", "affine_backward"), Grid::threads(n), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// a x
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn scale(&mut self, x: Var, a: f64) -> Result<Var, Error> {
        self.affine(x, a, 0.0)
    }

    /// a x + b
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn affine(&mut self, x: Var, a: f64, b: f64) -> Result<Var, Error> {
        self.push_one(Affine { scale: T::from_f64(a), shift: T::from_f64(b) }, &[x])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![Case::new("affine", &[3], |g, x, _| Ok(vec![g.affine(x[0], -1.5, 0.25)?]))]
}
