//! Functions row by row: a user's scores and log-densities that are not networks, and the library's own decisions.
//!
//! A function $y = f(x_1, x_2, \dots)$ without derivative, and a log-density $l = f(x)$ that comes with its gradient
//! $g = \nabla f$, for which $\bar x = \bar l\, g$.

use std::fmt;

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, MAX_ARITY, Op};
use crate::ops::Case;
use crate::real::Real;

/// The kernel that is a function of the library on a CUDA device. It takes the inputs, the output, the numbers in double
/// precision, and how many rows there are.
pub(crate) struct Twin {
    /// Its file in `kernels/`, and its name, which is also the op's.
    pub kernel: (&'static str, &'static str),
    /// What it must know of the function.
    pub numbers: Vec<f64>,
    /// Threads of a row.
    pub team: usize,
}

struct Function<F> {
    f: F,
    cols: usize,
    twin: Option<Twin>,
}

impl<F> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.twin {
            None => write!(f, "Function {{ cols: {} }}", self.cols),
            Some(Twin { kernel, numbers, team }) => write!(f, "{kernel:?} of {numbers:?} by {team}"),
        }
    }
}

impl<T: Real, F: Fn(&[&[T]], &mut [T]) + Send + Sync> Op<T> for Function<F> {
    fn name(&self) -> &'static str {
        self.twin.as_ref().map_or("function", |twin| twin.kernel.1)
    }

    fn shapes(&self, _: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![self.cols])
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let count = tile.inputs.len();
        for (r, y) in tile.outputs[0].chunks_exact_mut(self.cols).enumerate() {
            let row = |k: usize| match tile.input_widths.get(k) {
                Some(&cols) => &tile.inputs[k][r * cols..][..cols],
                None => &[],
            };
            let row: [&[T]; MAX_ARITY] = std::array::from_fn(row);
            (self.f)(&row[..count], y);
        }
    }

    fn backward(&self, _: &mut Backward<'_, T>) {}

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        self.twin.as_ref().map(|twin| twin as &dyn Kernels<T>)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Twin {
    fn table(&self, _: &[usize]) -> Vec<u32> {
        cuda::words(&self.numbers)
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let values = tile.inputs.iter().chain(tile.outputs).map(|&value| value.into());
        let arguments: Vec<Argument> = values.chain([tile.table.into(), Argument::size(tile.rows)]).collect();
        tile.launch(self.kernel, Grid::teams(tile.rows, self.team), &arguments)
    }

    /// No gradient passes through a function.
    fn backward(&self, _: &cuda::Backward<'_, T>) -> Result<(), Error> {
        Ok(())
    }
}

struct LogDensity<F> {
    f: F,
}

impl<F> fmt::Debug for LogDensity<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogDensity")
    }
}

impl<T: Real, F: Fn(&[T], &mut [T]) -> T + Send + Sync> Op<T> for LogDensity<F> {
    fn name(&self) -> &'static str {
        "log_density_function"
    }

    fn shapes(&self, _: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![1])
    }

    fn saved(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let cols = tile.input_widths[0];
        let rows = tile.inputs[0].chunks_exact(cols).zip(tile.saved.chunks_exact_mut(cols));
        for (l, (x, gradient)) in tile.outputs[0].iter_mut().zip(rows) {
            *l = (self.f)(x, gradient);
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let cols = tile.input_widths[0];
        let Some(dx) = tile.input_adjoints[0].zeroed() else { return };
        let rows = dx.chunks_exact_mut(cols).zip(tile.saved.chunks_exact(cols));
        for ((dx, gradient), &dl) in rows.zip(&*tile.output_adjoints[0]) {
            dx.iter_mut().zip(gradient).for_each(|(dx, &g)| *dx += dl * g);
        }
    }
}

impl<T: Real> Graph<T> {
    /// f of each row: `f(inputs, y)` is given one row of each input and fills one row of `cols` values. No gradient
    /// passes through it.
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn function(
        &mut self,
        inputs: &[Var],
        cols: usize,
        f: impl Fn(&[&[T]], &mut [T]) + Send + Sync + 'static,
    ) -> Result<Var, Error> {
        self.push_one(Function { f, cols, twin: None }, inputs)
    }

    /// The same for a function of the library, which is there on a CUDA device too.
    ///
    /// # Errors
    /// As [`Graph::function`].
    pub(crate) fn function_with_twin(
        &mut self,
        inputs: &[Var],
        cols: usize,
        twin: Twin,
        f: impl Fn(&[&[T]], &mut [T]) + Send + Sync + 'static,
    ) -> Result<Var, Error> {
        self.push_one(Function { f, cols, twin: Some(twin) }, inputs)
    }

    /// A log-density of each row, `[rows x 1]`: `f(x, gradient)` returns its value at one row and fills its gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn log_density_function(
        &mut self,
        x: Var,
        f: impl Fn(&[T], &mut [T]) -> T + Send + Sync + 'static,
    ) -> Result<Var, Error> {
        self.push_one(LogDensity { f }, &[x])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    // -(x₀² + x₁⁴)
    let f = |x: &[T], gradient: &mut [T]| {
        let (two, four) = (T::from_i32(2), T::from_i32(4));
        gradient.copy_from_slice(&[-two * x[0], -four * x[1] * x[1] * x[1]]);
        -(x[0] * x[0] + x[1] * x[1] * x[1] * x[1])
    };
    vec![Case::new("log_density_function", &[2], move |g, x, _| Ok(vec![g.log_density_function(x[0], f)?]))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::plan::{Feed, Request};

    #[test]
    fn a_function_sees_one_row_of_each_input() {
        let mut graph = Graph::<f64>::new();
        let (a, b) = (graph.input("a", 2).unwrap(), graph.input("b", 1).unwrap());
        let y = graph.function(&[a, b], 1, |row, y| y[0] = row[0][0] * row[0][1] + row[1][0]).unwrap();
        let mut plan = graph.compile(&Device::cpu_with_threads(2), &Request::outputs(&[y])).unwrap();
        let rows = 1000;
        let a: Vec<f64> = (0..2 * rows).map(|i| i as f64).collect();
        let mut out = vec![0.0; rows];
        plan.forward(&[], rows, &[Feed::Rows(&a), Feed::Repeat(&[0.5])], &mut [&mut out]).unwrap();
        assert!(out.iter().enumerate().all(|(i, &y)| y == (2 * i * (2 * i + 1)) as f64 + 0.5));
        assert!(graph.compile(&Device::cpu(), &Request::outputs(&[y]).with_input_gradients(&[a_var(&graph)])).is_err());
    }

    fn a_var(graph: &Graph<f64>) -> Var {
        graph.inputs[0].1
    }
}
