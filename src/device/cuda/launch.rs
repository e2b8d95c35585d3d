//! Launching a kernel.

use std::ffi::c_void;

use cudarc::driver::result;

use super::memory::Address;
use super::{Cuda, failed};
use crate::error::Error;
use crate::real::Real;

/// Threads of a block, where a kernel does not say how many it has.
const THREADS: usize = 256;

/// Lanes of a warp.
const WARP: usize = 32;

/// The blocks of a launch, and their threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    blocks: (u32, u32),
    threads: u32,
}

impl Grid {
    /// A thread for each of `n` elements.
    pub fn threads(n: usize) -> Self {
        Self::blocks(n.div_ceil(THREADS), THREADS)
    }

    /// A warp for each of `n` rows.
    pub fn warps(n: usize) -> Self {
        Self::blocks(n.div_ceil(THREADS / WARP), THREADS)
    }

    /// A team of threads for each of `n` rows of `cols` columns, as `Team` in `kernels/common.cuh`.
    pub fn teams(n: usize, cols: usize) -> Self {
        Self::threads(n * cols.next_power_of_two().min(WARP))
    }

    /// The same blocks, so many times.
    pub fn times(self, n: usize) -> Self {
        Self { blocks: (self.blocks.0, n as u32), ..self }
    }

    /// So many blocks of so many threads.
    pub fn blocks(blocks: usize, threads: usize) -> Self {
        Self { blocks: (blocks as u32, 1), threads: threads as u32 }
    }

    /// A block of 256 threads for each tile of `[height x width]` of a `[rows x cols]` matrix.
    pub fn tiles([rows, cols]: [usize; 2], [height, width]: [usize; 2]) -> Self {
        Self::blocks(cols.div_ceil(width), THREADS).times(rows.div_ceil(height))
    }
}

/// An argument of a kernel, by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Argument([u64; Argument::WORDS]);

impl Argument {
    /// Room for the addresses of as many values as an op can have.
    const WORDS: usize = crate::op::MAX_ARITY;

    /// These words.
    pub(crate) fn words(words: impl IntoIterator<Item = u64>) -> Self {
        let mut words = words.into_iter();
        Self(std::array::from_fn(|_| words.next().unwrap_or(0)))
    }

    /// Its first word.
    pub(crate) fn word(&self) -> u64 {
        self.0[0]
    }

    /// A number of the precision in which the kernel works.
    pub fn real<T: Real>(value: T) -> Self {
        let value = value.to_f64();
        let single = T::SIGNIFICAND_BITS == f32::SIGNIFICAND_BITS;
        Self::words([if single { u64::from((value as f32).to_bits()) } else { value.to_bits() }])
    }

    /// An `int`.
    pub fn int(value: usize) -> Self {
        Self::words([value as u64])
    }

    /// A `size_t`.
    pub fn size(value: usize) -> Self {
        Self::words([value as u64])
    }
}

impl<T> From<Address<T>> for Argument {
    fn from(address: Address<T>) -> Self {
        Self::words([address.raw()])
    }
}

/// A struct with an array of pointers.
impl<T> From<&[Address<T>]> for Argument {
    fn from(addresses: &[Address<T>]) -> Self {
        Self::words(addresses.iter().map(|address| address.raw()))
    }
}

impl Cuda {
    /// Launches a kernel of a file in the precision of `T`.
    pub fn launch<T: Real>(
        &self,
        (file, kernel): (&'static str, &'static str),
        grid: Grid,
        arguments: &[Argument],
    ) -> Result<(), Error> {
        let (function, stream) = (self.function(file, T::SIGNIFICAND_BITS, kernel)?, self.stream()?);
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|a| (&raw const a.0).cast_mut().cast()).collect();
        let (blocks, threads) = ((grid.blocks.0, grid.blocks.1, 1), (grid.threads, 1, 1));
        // SAFETY: the arguments are those that the kernel declares (each has at most the bytes of an `Argument`),
        // and its memory is that of buffers that the caller keeps.
        unsafe { result::launch_kernel(function, blocks, threads, 0, stream, &mut pointers) }.map_err(failed(kernel))
    }
}
