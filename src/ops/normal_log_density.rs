//! Log-density of the standard normal, $l = -\tfrac12 |z|^2 - \tfrac d2 \ln 2\pi$; $\bar z = -\bar l\, z$.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

#[derive(Debug)]
struct NormalLogDensity;

impl<T: Real> Op<T> for NormalLogDensity {
    fn name(&self) -> &'static str {
        "normal_log_density"
    }

    fn shapes(&self, _: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![1])
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let cols = tile.inputs[0].len() / tile.rows;
        let norm = T::from_f64(0.5 * cols as f64 * std::f64::consts::TAU.ln());
        let half = T::from_f64(0.5);
        for (l, z) in tile.outputs[0].iter_mut().zip(tile.inputs[0].chunks_exact(cols)) {
            *l = -half * z.iter().map(|&z| z * z).sum::<T>() - norm;
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let z = tile.inputs[0];
        let cols = z.len() / tile.rows;
        let Some(dz) = tile.input_adjoints[0].zeroed() else { return };
        for (i, &dl) in tile.output_adjoints[0].iter().enumerate() {
            let row = i * cols..(i + 1) * cols;
            dz[row.clone()].iter_mut().zip(&z[row]).for_each(|(dz, &z)| *dz -= dl * z);
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for NormalLogDensity {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let cols = tile.input_widths[0];
        let norm = Argument::real(T::from_f64(0.5 * cols as f64 * std::f64::consts::TAU.ln()));
        let (cols, rows) = (Argument::int(cols), Argument::size(tile.rows));
        let arguments = [tile.inputs[0].into(), tile.outputs[0].into(), norm, cols, rows];
        tile.launch(
            ("normal_log_density", "normal_log_density_forward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let cols = tile.input_widths[0];
        let (dl, dz, n) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into(), tile.rows * cols);
        let arguments = [dl, tile.inputs[0].into(), dz, Argument::int(cols), Argument::size(n)];
        tile.launch(("normal_log_density", "normal_log_density_backward"), Grid::threads(n), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// log N(z; 0, I) of each row, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `z` was recorded by another graph.
    pub fn normal_log_density(&mut self, z: Var) -> Result<Var, Error> {
        self.push_one(NormalLogDensity, &[z])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    [1, 5].map(|cols| Case::new("normal_log_density", &[cols], |g, z, _| Ok(vec![g.normal_log_density(z[0])?]))).into()
}
