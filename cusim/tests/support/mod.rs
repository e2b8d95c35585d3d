//! Launching the kernels of `tests/kernels` through cudarc, which knows nothing of the simulation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig};
use cudarc::nvrtc::Ptx;

/// One test at a time has the driver, whose errors are sticky; it starts fresh.
pub fn driver() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    cusim::install();
    cusim::reset();
    cusim::set_order(None);
    cusim::set_memory(None);
    guard
}

/// A stream, and the kernels of one file.
pub struct Device {
    pub stream: Arc<CudaStream>,
    module: Arc<cudarc::driver::CudaModule>,
}

impl Device {
    pub fn new(ptx: &str) -> Result<Self, DriverError> {
        let context = CudaContext::new(0)?;
        // SAFETY: each test synchronises its streams itself.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let module = context.load_module(Ptx::from_src(ptx))?;
        Ok(Self { stream, module })
    }

    pub fn kernel(&self, name: &str) -> CudaFunction {
        self.module.load_function(name).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

pub fn grid(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}
