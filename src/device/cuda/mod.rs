//! A CUDA device: its kernels, its memory, one stream of work, and one of copies to it.
//!
//! The driver is looked for when a device is asked for; nothing is linked. Kernels are PTX that stands beside its source
//! in `kernels/`, once for each precision, and that the driver compiles for the card when one of them is first used.

mod graph;
mod kernels;
mod launch;
mod memory;
mod staging;

pub use launch::{Argument, Grid};
pub use memory::Address;

pub(crate) use graph::Graph;
pub(crate) use memory::Buffer;
pub(crate) use staging::{Packet, Staging, words};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use crate::error::Error;

/// A device with its stream, in which all its work runs in the order in which it is given, and the stream of the copies
/// that bring what the work reads.
pub(crate) struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    copies: Arc<CudaStream>,
    /// Multiprocessors.
    processors: usize,
    functions: Mutex<HashMap<(&'static str, u32), Functions>>,
    /// Held while somebody gives work or waits for it, so that nothing slips into a graph that another captures.
    turn: Mutex<()>,
}

/// A loaded module and the kernels that were asked for.
struct Functions {
    module: sys::CUmodule,
    kernels: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: the driver's handles may be used from any thread; the table is behind a mutex.
unsafe impl Send for Functions {}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.context.name().unwrap_or_default();
        write!(f, "Cuda({}, {name})", self.context.ordinal())
    }
}

/// What the driver said, and what it was asked for.
pub(crate) fn failed(what: &'static str) -> impl FnOnce(DriverError) -> Error {
    move |error| Error::Device { what, why: format!("{error:?}") }
}

impl Cuda {
    /// The device with this number.
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        let no_device = |why: String| Error::NoDevice { why };
        // SAFETY: it only tries to load libraries of the driver's names.
        if !unsafe { sys::is_culib_present() } {
            let why = "no CUDA driver: the system's linker finds neither libcuda nor nvcuda; install NVIDIA's driver";
            return Err(no_device(why.to_string()));
        }
        let count =
            CudaContext::device_count().map_err(|e| no_device(format!("the CUDA driver does not start: {e:?}")))?;
        if ordinal >= count.max(0) as usize {
            return Err(no_device(format!("device {ordinal} was asked for, the CUDA driver knows {count}")));
        }
        let start = |e: DriverError| no_device(format!("CUDA device {ordinal} does not start: {e:?}"));
        let context = CudaContext::new(ordinal).map_err(start)?;
        // SAFETY: what runs in two streams is ordered by events of ours, in `staging`.
        unsafe { context.disable_event_tracking() };
        let [stream, copies] = [context.new_stream(), context.new_stream()];
        let (stream, copies) = (stream.map_err(start)?, copies.map_err(start)?);
        let count = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(count).map_err(start)?.unsigned_abs() as usize;
        Ok(Self { context, stream, copies, processors, functions: Mutex::default(), turn: Mutex::default() })
    }

    /// The right to give work to the device, until it is dropped.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many multiprocessors it has.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// Waits until all work is done.
    pub fn synchronize(&self) -> Result<(), Error> {
        self.stream.synchronize().map_err(failed("wait for the device"))
    }

    /// Waits until all work and all copies are done.
    fn synchronize_all(&self) -> Result<(), Error> {
        self.copies.synchronize().map_err(failed("wait for the device"))?;
        self.synchronize()
    }

    /// Whether tables of so many bytes fit beside what is on the device. A sixteenth of its memory stays free, for
    /// kernels, graphs, and results.
    pub fn fits(&self, bytes: usize) -> Result<bool, Error> {
        let (free, total) = self.context.mem_get_info().map_err(failed("ask for free memory"))?;
        Ok(bytes + total / 16 <= free)
    }

    fn stream(&self) -> Result<sys::CUstream, Error> {
        self.context.bind_to_thread().map_err(failed("use the device"))?;
        Ok(self.stream.cu_stream())
    }

    /// A kernel of a file, in the given precision; its module is loaded when it is first needed.
    fn function(&self, file: &'static str, bits: u32, kernel: &'static str) -> Result<sys::CUfunction, Error> {
        self.stream()?;
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match functions.entry((file, bits)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let ptx =
                    kernels::ptx(file, bits).ok_or(Error::Device { what: file, why: "no such kernels".into() })?;
                // SAFETY: the text ends in a zero.
                let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) };
                let module = module.map_err(failed("load kernels"))?;
                entry.insert(Functions { module, kernels: HashMap::new() })
            }
        };
        if let Some(&function) = loaded.kernels.get(kernel) {
            return Ok(function);
        }
        let name =
            std::ffi::CString::new(kernel).map_err(|_| Error::Device { what: file, why: "a zero byte".into() })?;
        // SAFETY: the module is loaded, and stays so as long as the device.
        let function = unsafe { result::module::get_function(loaded.module, name) }.map_err(failed("find a kernel"))?;
        loaded.kernels.insert(kernel, function);
        Ok(function)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        let functions = self.functions.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.context.bind_to_thread().is_ok() {
            for (_, loaded) in functions.drain() {
                // SAFETY: nothing uses the kernels any more. An error would leave nothing to do.
                let _ = unsafe { result::module::unload(loaded.module) };
            }
        }
    }
}
