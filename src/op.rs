//! The contract of an operation: what a graph records and a plan replays.

#[cfg(feature = "cuda")]
pub mod cuda;
mod runs;

use std::fmt::Debug;
use std::sync::Arc;

use crate::device::cpu::gemm::{Scratch, Start};
use crate::device::cpu::transpose::columns_of;
use crate::error::Error;
use crate::math::wide;
use crate::real::Real;
use crate::store::Param;
pub use runs::Runs;

/// The most inputs, and the most outputs, that an op can have: a replay lists them without allocating.
pub(crate) const MAX_ARITY: usize = 16;

/// An operation on batches of row vectors.
///
/// Each row is treated alone (a plan may cut the batch into tiles of any size), so an op sees `rows` rows of each
/// input, stored row by row. Write the backward right under the forward, and add the op to the table in
/// [`crate::ops`], where the gradient check finds it.
pub trait Op<T: Real>: Debug + Send + Sync {
    /// The name in error messages and printed plans.
    fn name(&self) -> &'static str;

    /// Widths of the outputs for these widths of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inputs do not fit.
    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error>;

    /// The parameters it reads.
    fn params(&self) -> Vec<Param> {
        Vec::new()
    }

    /// Whether [`Op::backward`] is there. Compiling a gradient through an op without one is an error.
    fn differentiable(&self) -> bool {
        true
    }

    /// Which values, beside `saved`, the backward reads.
    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    /// Elements per row that the forward leaves for the backward in [`Forward::saved`].
    fn saved(&self, inputs: &[usize]) -> usize {
        let _ = inputs;
        0
    }

    /// What it makes of the parameters once a replay, for all tiles: elements of each part, for they are made side by side.
    /// `passes` says which inputs' adjoints are asked for, if a backward pass will follow.
    fn packed(&self, inputs: &[usize], passes: Option<&[bool]>) -> Vec<usize> {
        let _ = (inputs, passes);
        Vec::new()
    }

    /// Makes one of these parts, before the first tile.
    fn pack(&self, params: &[T], inputs: &[usize], passes: Option<&[bool]>, part: usize, packed: &mut [T]) {
        let _ = (params, inputs, passes, part, packed);
    }

    /// The op as two, where some of its inputs are `known` before the others; `None` if nothing is gained.
    fn split(&self, known: &[bool]) -> Option<Split<T>> {
        let _ = known;
        None
    }

    /// Computes the outputs.
    fn forward(&self, tile: &mut Forward<'_, T>);

    /// Vector-Jacobian product: adds to (or sets) the inputs' adjoints and adds to the parameters' gradients,
    /// given the outputs' adjoints.
    fn backward(&self, tile: &mut Backward<'_, T>);

    /// The same on a CUDA device; `None` if it has no kernels, and compiling it for one is an error.
    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn cuda::Kernels<T>> {
        None
    }
}

/// An op as two, one after the other.
#[derive(Debug)]
pub struct Split<T> {
    /// What it makes of the known inputs: one value.
    pub known: Arc<dyn Op<T>>,
    /// The width of that value.
    pub cols: usize,
    /// What it makes of the other inputs and, as a last one, of that value, which has one row for each of
    /// [`Forward::runs`].
    pub rest: Arc<dyn Op<T>>,
}

/// Which values an op's backward reads; a plan keeps them alive until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// None.
    Nothing,
    /// All inputs.
    Inputs,
    /// All outputs.
    Outputs,
}

/// One tile of a forward pass.
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// Number of rows in this tile.
    pub rows: usize,
    /// The runs of rows that the last input has one row for each of, if the op is the rest of a [`Split`].
    pub runs: Runs<'a>,
    /// A backward pass will follow: leave in `saved` what it needs.
    pub keep: bool,
    /// All parameters.
    pub params: &'a [T],
    /// What [`Op::pack`] has made of them, part after part.
    pub packed: &'a [T],
    /// Widths of the inputs.
    pub input_widths: &'a [usize],
    /// The inputs, `[rows x width]` each.
    pub inputs: &'a [&'a [T]],
    /// The outputs, `[rows x width]` each; their old content means nothing.
    pub outputs: &'a mut [&'a mut [T]],
    /// `rows * Op::saved()` elements for the backward; also free for use as temporary memory.
    pub saved: &'a mut [T],
    /// Working memory of matrix products.
    pub scratch: &'a mut Scratch<T>,
}

/// One tile of a backward pass.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// Number of rows in this tile.
    pub rows: usize,
    /// All parameters.
    pub params: &'a [T],
    /// What [`Op::pack`] has made of them, part after part.
    pub packed: &'a [T],
    /// Widths of the inputs.
    pub input_widths: &'a [usize],
    /// The inputs, if [`Op::reads`] asked for them (empty slices if not).
    pub inputs: &'a [&'a [T]],
    /// The outputs, if [`Op::reads`] asked for them (empty slices if not).
    pub outputs: &'a [&'a [T]],
    /// Adjoints of the outputs. They are not read again: use them as temporary memory if it helps.
    pub output_adjoints: &'a mut [&'a mut [T]],
    /// Where the inputs' adjoints go.
    pub input_adjoints: &'a mut [Adjoint<'a, T>],
    /// Where the parameters' gradients go.
    pub gradient: Gradient<'a, T>,
    /// What the forward saved.
    pub saved: &'a mut [T],
    /// Working memory of matrix products.
    pub scratch: &'a mut Scratch<T>,
}

/// Where an adjoint of an input or of a parameter goes. The plan knows who writes first, so nothing is zero-filled.
#[derive(Debug, Default)]
pub enum Adjoint<'a, T> {
    /// Nobody needs it.
    #[default]
    Skip,
    /// First contribution: overwrite.
    Set(&'a mut [T]),
    /// Later contribution: add.
    Add(&'a mut [T]),
}

impl<T: Real> Adjoint<'_, T> {
    /// Contributes `f(a_i, b_i)` to element i.
    pub fn zip(&mut self, a: &[T], b: &[T], f: impl Fn(T, T) -> T) {
        match self {
            Adjoint::Skip => {}
            Adjoint::Set(d) => wide(
                #[inline(always)]
                || {
                    for ((d, &a), &b) in d.iter_mut().zip(a).zip(b) {
                        *d = f(a, b);
                    }
                },
            ),
            Adjoint::Add(d) => wide(
                #[inline(always)]
                || {
                    for ((d, &a), &b) in d.iter_mut().zip(a).zip(b) {
                        *d += f(a, b);
                    }
                },
            ),
        }
    }

    /// Contributes `value` to element `i`, which no other call may name.
    #[inline(always)]
    pub fn put(&mut self, i: usize, value: T) {
        match self {
            Adjoint::Skip => {}
            Adjoint::Set(d) => d[i] = value,
            Adjoint::Add(d) => d[i] += value,
        }
    }

    /// Contributes a table `cols` wide that is given column after column.
    pub(crate) fn put_columns(&mut self, columns: &[T], cols: usize) {
        let rows = columns.len() / cols;
        match self {
            Adjoint::Skip => {}
            Adjoint::Set(d) => columns_of(columns, rows, d),
            Adjoint::Add(d) => {
                for (c, column) in columns.chunks_exact(rows).enumerate() {
                    d[c..].iter_mut().step_by(cols).zip(column).for_each(|(d, &x)| *d += x);
                }
            }
        }
    }

    /// The memory, ready to be added to; `None` if nobody needs it.
    pub fn zeroed(&mut self) -> Option<&mut [T]> {
        if let Adjoint::Set(d) = self {
            d.fill(T::ZERO);
        }
        self.product().map(|(_, d)| d)
    }

    /// The memory, and what the sums of a matrix product that contributes to it start from; `None` if nobody needs it.
    pub(crate) fn product(&mut self) -> Option<(Start<'static, T>, &mut [T])> {
        match self {
            Adjoint::Skip => None,
            Adjoint::Set(d) => Some((Start::Zero, d)),
            Adjoint::Add(d) => Some((Start::Add, d)),
        }
    }
}

/// The part of the flat gradient that a plan trains.
#[derive(Debug)]
pub struct Gradient<'a, T> {
    pub(crate) start: usize,
    pub(crate) values: &'a mut [T],
    /// Parameters to whose gradient no other op has contributed yet, and a bit for each that has been asked for.
    pub(crate) unset: &'a [Param],
    pub(crate) asked: u32,
}

/// Parameters of one op whose gradients a plan need not zero.
pub(crate) const MAX_UNSET: usize = u32::BITS as usize;

impl<T> Gradient<'_, T> {
    /// Where the gradient of one parameter goes. The first time it may be set, and then must be as a whole.
    pub fn of(&mut self, param: Param) -> Adjoint<'_, T> {
        let range = param.range();
        let Some(start) = range.start.checked_sub(self.start) else { return Adjoint::Skip };
        let Some(values) = self.values.get_mut(start..start + range.len()) else { return Adjoint::Skip };
        match self.unset.iter().position(|p| *p == param) {
            Some(i) if self.asked & (1 << i) == 0 => {
                self.asked |= 1 << i;
                Adjoint::Set(values)
            }
            _ => Adjoint::Add(values),
        }
    }
}
