//! Columns of a value, $y_j = x_{c_j}$; $\bar x_{c_j} \mathrel{+}= \bar y_j$.

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
struct Select {
    columns: Vec<usize>,
}

impl<T: Real> Op<T> for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let width = inputs[0];
        if let Some(c) = self.columns.iter().find(|&&c| c >= width) {
            return Err(Error::shape("select", format!("column {c} of a value with {width} columns")));
        }
        if self.columns.is_empty() {
            return Err(Error::shape("select", "no column chosen"));
        }
        Ok(vec![self.columns.len()])
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let width = tile.inputs[0].len() / tile.rows;
        let rows = tile.inputs[0].chunks_exact(width);
        for (y, x) in tile.outputs[0].chunks_exact_mut(self.columns.len()).zip(rows) {
            y.iter_mut().zip(&self.columns).for_each(|(y, &c)| *y = x[c]);
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let Some(dx) = tile.input_adjoints[0].zeroed() else { return };
        let width = dx.len() / tile.rows;
        let rows = tile.output_adjoints[0].chunks_exact(self.columns.len());
        for (dx, dy) in dx.chunks_exact_mut(width).zip(rows) {
            dy.iter().zip(&self.columns).for_each(|(&dy, &c)| dx[c] += dy);
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Select {
    fn table(&self, _: &[usize]) -> Vec<u32> {
        self.columns.iter().map(|&c| c as u32).collect()
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * self.columns.len();
        let [chosen, width] = [self.columns.len(), tile.input_widths[0]].map(Argument::int);
        let (x, y) = (tile.inputs[0].into(), tile.outputs[0].into());
        let arguments = [x, y, tile.table.into(), chosen, width, Argument::size(n)];
        tile.launch(("select", "select_forward"), Grid::threads(n), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let [chosen, width] = [self.columns.len(), tile.input_widths[0]].map(Argument::int);
        let (dy, dx) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into());
        let arguments = [dy, dx, tile.table.into(), chosen, width, Argument::size(n)];
        tile.launch(("select", "select_backward"), Grid::threads(n), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// The chosen columns of `x`, in this order; a column may be chosen twice.
    ///
    /// # Errors
    /// [`Error::Shape`] if a column does not exist or none is chosen.
    pub fn select(&mut self, x: Var, columns: &[usize]) -> Result<Var, Error> {
        self.push_one(Select { columns: columns.to_vec() }, &[x])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    vec![Case::new("select", &[5], |g, x, _| Ok(vec![g.select(x[0], &[3, 0, 3])?]))]
}
