//! Sum, difference and product of two values, element by element; a value of one column is spread over the
//! columns of the other.
//!
//! $y = a + b$: $\bar a = \bar b = \bar y$; $y = a - b$: $\bar b = -\bar y$; $y = a b$: $\bar a = \bar y b$,
//! $\bar b = \bar y a$. The adjoint of a spread column is the sum over the columns.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::wide;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Adjoint, Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
}

impl Arithmetic {
    fn apply<T: Real>(self, y: &mut [T], pairs: impl Iterator<Item = (T, T)>) {
        let cells = y.iter_mut().zip(pairs);
        match self {
            Self::Add => cells.for_each(|(y, (a, b))| *y = a + b),
            Self::Sub => cells.for_each(|(y, (a, b))| *y = a - b),
            Self::Mul => cells.for_each(|(y, (a, b))| *y = a * b),
        }
    }
}

impl<T: Real> Op<T> for Arithmetic {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        match *inputs {
            [a, b] if a == b || b == 1 => Ok(vec![a]),
            [1, b] => Ok(vec![b]),
            [a, b] => {
                let why = format!("widths {a} and {b} differ; they must be equal, or one of them 1");
                Err(Error::shape(Op::<T>::name(self), why))
            }
            _ => Err(Error::shape(Op::<T>::name(self), "takes two inputs")),
        }
    }

    fn reads(&self) -> Reads {
        if matches!(self, Self::Mul) { Reads::Inputs } else { Reads::Nothing }
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (a, b, y) = (tile.inputs[0], tile.inputs[1], &mut *tile.outputs[0]);
        if a.len() == b.len() {
            return wide(
                #[inline(always)]
                || self.apply(y, a.iter().copied().zip(b.iter().copied())),
            );
        }
        let (a_cols, b_cols, cols) = (a.len() / tile.rows, b.len() / tile.rows, y.len() / tile.rows);
        for (r, y) in y.chunks_exact_mut(cols).enumerate() {
            let (a, b) = (&a[r * a_cols..][..a_cols], &b[r * b_cols..][..b_cols]);
            self.apply(y, a.iter().cycle().copied().zip(b.iter().cycle().copied()));
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (rows, dy) = (tile.rows, &*tile.output_adjoints[0]);
        let [da, db] = tile.input_adjoints else { return };
        match self {
            Self::Add => {
                contribute(da, rows, dy, dy, |dy, _| dy);
                contribute(db, rows, dy, dy, |dy, _| dy);
            }
            Self::Sub => {
                contribute(da, rows, dy, dy, |dy, _| dy);
                contribute(db, rows, dy, dy, |dy, _| -dy);
            }
            Self::Mul => {
                contribute(da, rows, dy, tile.inputs[1], |dy, b| dy * b);
                contribute(db, rows, dy, tile.inputs[0], |dy, a| dy * a);
            }
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Arithmetic {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [a_cols, b_cols] = [tile.input_widths[0], tile.input_widths[1]];
        let (cols, operation) = (a_cols.max(b_cols), Argument::int(*self as usize));
        let n = tile.rows * cols;
        let [cols, a_cols, b_cols] = [cols, a_cols, b_cols].map(Argument::int);
        let (a, b, y) = (tile.inputs[0].into(), tile.inputs[1].into(), tile.outputs[0].into());
        let arguments = [a, b, y, operation, cols, a_cols, b_cols, Argument::size(n)];
        tile.launch(("arithmetic", "arithmetic_forward"), Grid::threads(n), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let cols = tile.input_widths[0].max(tile.input_widths[1]);
        for (i, &to) in tile.input_adjoints.iter().enumerate().filter(|(_, to)| !to.is_skipped()) {
            let (width, other_width) = (tile.input_widths[i], tile.input_widths[1 - i]);
            let other = if matches!(self, Self::Mul) { tile.inputs[1 - i] } else { Address::NONE };
            let sign = if i == 1 && matches!(self, Self::Sub) { -T::ONE } else { T::ONE };
            let shape = [cols, width, other_width].map(Argument::int);
            let (dy, other, sign) = (tile.output_adjoints[0].into(), other.into(), Argument::real(sign));
            let arguments = [dy, other, to.into(), sign, shape[0], shape[1], shape[2], Argument::size(tile.rows)];
            tile.launch(("arithmetic", "arithmetic_backward"), Grid::teams(tile.rows, cols), &arguments)?;
        }
        Ok(())
    }
}

/// Contributes f(dy, other), with `other` spread if it is one column, summed if the adjoint is one column.
pub(super) fn contribute<T: Real>(to: &mut Adjoint<'_, T>, rows: usize, dy: &[T], other: &[T], f: impl Fn(T, T) -> T) {
    let width = match to {
        Adjoint::Skip => return,
        Adjoint::Set(d) | Adjoint::Add(d) => d.len() / rows,
    };
    let (cols, other_cols) = (dy.len() / rows, other.len() / rows);
    if width == cols && other_cols == cols {
        return to.zip(dy, other, f);
    }
    let Some(d) = to.zeroed() else { return };
    for (i, &dy) in dy.iter().enumerate() {
        let (row, col) = (i / cols, i % cols);
        d[row * width + col % width] += f(dy, other[row * other_cols + col % other_cols]);
    }
}

impl<T: Real> Graph<T> {
    /// a + b
    ///
    /// # Errors
    /// [`Error::Shape`] unless the widths are equal or one of them is 1.
    pub fn add(&mut self, a: Var, b: Var) -> Result<Var, Error> {
        self.push_one(Arithmetic::Add, &[a, b])
    }

    /// a - b
    ///
    /// # Errors
    /// [`Error::Shape`] unless the widths are equal or one of them is 1.
    pub fn sub(&mut self, a: Var, b: Var) -> Result<Var, Error> {
        self.push_one(Arithmetic::Sub, &[a, b])
    }

    /// a b, element by element
    ///
    /// # Errors
    /// [`Error::Shape`] unless the widths are equal or one of them is 1.
    pub fn mul(&mut self, a: Var, b: Var) -> Result<Var, Error> {
        self.push_one(Arithmetic::Mul, &[a, b])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let shapes: [&[usize]; 4] = [&[4, 4], &[4, 1], &[1, 4], &[1, 1]];
    let add = shapes.map(|s| Case::new("add", s, |g, x, _| Ok(vec![g.add(x[0], x[1])?])));
    let sub = shapes.map(|s| Case::new("sub", s, |g, x, _| Ok(vec![g.sub(x[0], x[1])?])));
    let mul = shapes.map(|s| Case::new("mul", s, |g, x, _| Ok(vec![g.mul(x[0], x[1])?])));
    let square = Case::new("mul with itself", &[3], |g, x, _| Ok(vec![g.mul(x[0], x[0])?]));
    add.into_iter().chain(sub).chain(mul).chain([square]).collect()
}
