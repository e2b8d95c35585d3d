//! The machine: a grid of blocks of warps, run one block after the other.
//!
//! Threads are scheduled warp by warp, the lanes that stand at the lowest instruction first, which brings them
//! together again after a branch. Under a seed, blocks run in a random order, and a random part of a random warp runs
//! for a random time: what depends on the order of threads then shows.

mod block;
mod counters;
mod memory;
mod races;
mod warp;

pub use counters::Counters;
pub use memory::Memory;

use crate::ptx::{Kernel, Module};
use block::Block;

/// CUDA's codes for what a kernel can die of.
pub const ILLEGAL_ADDRESS: i32 = 700;
/// An address that is not a multiple of the size of the access.
pub const MISALIGNED_ADDRESS: i32 = 716;
/// Everything else.
pub const LAUNCH_FAILED: i32 = 719;

/// What a kernel died of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// CUDA's code.
    pub code: i32,
    /// What was wrong, and where.
    pub message: String,
}

/// A kernel's launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks, by axis.
    pub grid: [u32; 3],
    /// Threads of a block, by axis.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: usize,
    /// The arguments, each at its natural alignment.
    pub arguments: Vec<u8>,
    /// Number of this launch, counted from 1.
    pub number: u32,
    /// Seed of the order of blocks and threads; `None` for the natural one.
    pub order: Option<u64>,
}

/// Runs a kernel.
pub fn run(
    module: &Module,
    kernel: &Kernel,
    launch: &Launch,
    memory: &mut Memory,
    counters: &mut Counters,
) -> Result<(), Fault> {
    counters.launches += 1;
    let [x, y, z] = launch.grid.map(u64::from);
    let mut random = launch.order.map(Random);
    let mut order: Vec<u64> = (0..x * y * z).collect();
    if let Some(random) = &mut random {
        (1..order.len()).rev().for_each(|i| order.swap(i, random.below(i + 1)));
    }
    let mut block = Block::new(module, kernel, launch, memory, counters);
    for index in order {
        let place = [(index % x) as u32, (index / x % y) as u32, (index / (x * y)) as u32];
        block.run(index as u32, place, &mut random)?;
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
