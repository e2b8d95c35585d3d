//! Where plans run, chosen at run time and never part of a model's type.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use std::sync::Arc;

use crate::device::cpu::pool::Pool;
#[cfg(feature = "cuda")]
use crate::error::Error;

/// A place where plans run. Cloning it shares its threads.
#[derive(Clone, Debug)]
pub struct Device {
    pool: Arc<Pool>,
    #[cfg(feature = "cuda")]
    cuda: Option<Arc<cuda::Cuda>>,
}

impl Device {
    /// The processor, with as many threads as it has cores for this process.
    pub fn cpu() -> Self {
        Self::cpu_with_threads(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The processor, with this many threads (0 counts as 1). Results do not depend on the number.
    pub fn cpu_with_threads(threads: usize) -> Self {
        Self {
            pool: Arc::new(Pool::new(threads.max(1))),
            #[cfg(feature = "cuda")]
            cuda: None,
        }
    }

    /// The CUDA device with this number, counted from 0. Work that has no kernels, such as simulations, stays on the
    /// processor.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is no driver or no such device.
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> Result<Self, Error> {
        Ok(Self { cuda: Some(Arc::new(cuda::Cuda::new(ordinal)?)), ..Self::cpu() })
    }

    /// The CUDA device, if it is one.
    #[cfg(feature = "cuda")]
    pub(crate) fn as_cuda(&self) -> Option<&Arc<cuda::Cuda>> {
        self.cuda.as_ref()
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
