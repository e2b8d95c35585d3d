//! The contract of an operation on a CUDA device: the same tile as on the processor, by addresses.

use crate::device::cuda::{Address, Argument, Cuda, Grid};
use crate::error::Error;
use crate::real::Real;
use crate::store::Param;

/// An operation's kernels. `table` is what they need to know of the op, `[u32]`, beside what they take as arguments.
pub trait Kernels<T: Real> {
    /// Numbers that lie in device memory as long as the plan does, for inputs of these widths.
    fn table(&self, inputs: &[usize]) -> Vec<u32> {
        let _ = inputs;
        Vec::new()
    }

    /// `Ok` if all that it launches is there.
    ///
    /// # Errors
    /// [`Error::Shape`] that names an op inside of this one that has no kernels.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// As [`Op::forward`](super::Op::forward).
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses a launch.
    fn forward(&self, tile: &Forward<'_, T>) -> Result<(), Error>;

    /// As [`Op::backward`](super::Op::backward).
    ///
    /// # Errors
    /// As [`Kernels::forward`].
    fn backward(&self, tile: &Backward<'_, T>) -> Result<(), Error>;
}

/// Numbers as a [`Kernels::table`] holds them.
pub fn words<T: Real>(numbers: &[T]) -> Vec<u32> {
    let halves = |&number: &T| {
        let bits = Argument::real(number).word();
        [bits as u32, (bits >> u32::BITS) as u32].into_iter().take(size_of::<T>() / size_of::<u32>())
    };
    numbers.iter().flat_map(halves).collect()
}

/// A forward pass over all rows of a batch: the fields of [`super::Forward`].
#[derive(Debug)]
#[allow(missing_docs)] // as there
pub struct Forward<'a, T> {
    pub rows: usize,
    /// Rows that there is memory for in `saved`.
    pub(crate) capacity: usize,
    pub keep: bool,
    pub params: Address<T>,
    pub input_widths: &'a [usize],
    pub inputs: &'a [Address<T>],
    pub outputs: &'a [Address<T>],
    pub saved: Address<T>,
    pub table: Address<u32>,
    pub(crate) cuda: &'a Cuda,
}

/// A backward pass over all rows of a batch: the fields of [`super::Backward`].
#[derive(Debug)]
#[allow(missing_docs)] // as there
pub struct Backward<'a, T> {
    pub rows: usize,
    pub params: Address<T>,
    pub input_widths: &'a [usize],
    pub inputs: &'a [Address<T>],
    pub outputs: &'a [Address<T>],
    pub output_adjoints: &'a [Address<T>],
    pub input_adjoints: &'a [Adjoint<T>],
    pub gradient: Gradient<T>,
    pub saved: Address<T>,
    pub table: Address<u32>,
    pub(crate) cuda: &'a Cuda,
}

/// A kernel: its file in `kernels/`, and its name.
pub type Kernel = (&'static str, &'static str);

impl<T: Real> Forward<'_, T> {
    /// How many multiprocessors the device has.
    pub fn processors(&self) -> usize {
        self.cuda.processors()
    }

    /// Launches a kernel.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    pub fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), Error> {
        self.cuda.launch::<T>(kernel, grid, arguments)
    }
}

impl<T: Real> Backward<'_, T> {
    /// How many multiprocessors the device has.
    pub fn processors(&self) -> usize {
        self.cuda.processors()
    }

    /// Launches a kernel.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    pub fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), Error> {
        self.cuda.launch::<T>(kernel, grid, arguments)
    }
}

/// Where an input's adjoint goes, as [`super::Adjoint`]; kernels take it as one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjoint<T> {
    /// Nobody needs it.
    Skip,
    /// First contribution: overwrite.
    Set(Address<T>),
    /// Later contribution: add.
    Add(Address<T>),
}

impl<T: Real> Adjoint<T> {
    /// Whether nobody needs it.
    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Skip)
    }
}

impl<T> Adjoint<T> {
    /// Where it goes, and whether it is added.
    pub fn parts(self) -> (Address<T>, bool) {
        match self {
            Self::Skip => (Address::NONE, false),
            Self::Set(address) => (address, false),
            Self::Add(address) => (address, true),
        }
    }
}

impl<T> From<Adjoint<T>> for Argument {
    fn from(adjoint: Adjoint<T>) -> Self {
        let (to, add) = adjoint.parts();
        Self::words([to.raw(), u64::from(add)])
    }
}

/// The part of the flat gradient that a plan trains. It is there once for each of some lanes, which the plan adds up in
/// order: kernels that split the rows add each share to another lane, all others to the first.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<T> {
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) address: Address<T>,
    pub(crate) lanes: usize,
}

/// All lanes of a gradient.
#[derive(Clone, Debug)]
pub struct Lanes<T> {
    /// Where the first lane has, or would have, element 0 of the flat vector.
    pub origin: Address<T>,
    /// How many there are.
    pub count: usize,
    /// Elements from one to the next.
    pub stride: usize,
    /// The elements of the flat vector that they have.
    pub range: std::ops::Range<usize>,
}

impl<T> Gradient<T> {
    /// The gradient of one parameter, to be added to; `None` if this plan does not train it.
    pub fn of(&self, param: Param) -> Option<Address<T>> {
        let range = param.range();
        let start = range.start.checked_sub(self.start)?;
        (start + range.len() <= self.len).then(|| self.address.at(start))
    }

    /// All lanes; `None` if nothing is trained.
    pub fn lanes(&self) -> Option<Lanes<T>> {
        let &Self { start, len, address, lanes } = self;
        (len > 0).then(|| Lanes { origin: address.before(start), count: lanes, stride: len, range: start..start + len })
    }
}
