//! Where plans run, chosen at run time and never part of a model's type.

pub mod cpu;

use std::sync::Arc;

use crate::device::cpu::pool::Pool;

/// A place where plans run. Cloning it shares its threads.
#[derive(Clone, Debug)]
pub struct Device {
    pool: Arc<Pool>,
}

impl Device {
    /// The processor, with as many threads as it has cores for this process.
    pub fn cpu() -> Self {
        Self::cpu_with_threads(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The processor, with this many threads (0 counts as 1). Results do not depend on the number.
    pub fn cpu_with_threads(threads: usize) -> Self {
        Self { pool: Arc::new(Pool::new(threads.max(1))) }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::cpu()
    }
}
