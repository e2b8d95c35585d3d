//! Loads a case's kernel and gives it memory, by the driver alone.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use crate::cases::{Argument, Case};

/// A device, and the stream in which all its work runs.
pub struct Device {
    pub stream: Arc<CudaStream>,
}

/// An argument by its bytes: an adjoint is an address and 0 for "set", an array the addresses of its values.
type Words = [u64; 16];

/// A case whose kernel is loaded and whose arguments lie in device memory.
pub struct Prepared {
    module: sys::CUmodule,
    function: sys::CUfunction,
    blocks: (u32, u32, u32),
    threads: (u32, u32, u32),
    arguments: Vec<Words>,
    memory: Vec<u64>,
}

impl Device {
    /// The machine's own GPU if it was asked for, else the simulated one.
    pub fn new() -> Result<Self, DriverError> {
        if std::env::var_os("RETRODICT_GPU").is_none() {
            cusim::install();
        }
        let context = CudaContext::new(0)?;
        Ok(Self { stream: context.new_stream()? })
    }

    pub fn prepare(&self, case: &Case) -> Result<Prepared, DriverError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("kernels/f32/{}.ptx", case.file));
        let text = CString::new(std::fs::read(&path).expect("kernels have PTX")).expect("PTX is a text");
        let name = CString::new(case.kernel).expect("a kernel's name is a text");
        // SAFETY: the text ends in a zero.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }?;
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(module, name) }?;
        let ([x, y], mut memory) = (case.blocks.map(|n| n as u32), Vec::new());
        let place = |argument| self.place(argument, &mut memory);
        let arguments = case.arguments.iter().map(place).collect::<Result<_, _>>()?;
        let (blocks, threads) = ((x, y, 1), (case.threads as u32, 1, 1));
        Ok(Prepared { module, function, blocks, threads, arguments, memory })
    }

    pub fn launch(&self, case: &Prepared) -> Result<(), DriverError> {
        let mut pointers: Vec<*mut c_void> = case.arguments.iter().map(|a| a.as_ptr().cast_mut().cast()).collect();
        let (function, stream) = (case.function, self.stream.cu_stream());
        // SAFETY: the arguments are those that the kernel declares, and their memory lives as long as the case.
        unsafe { result::launch_kernel(function, case.blocks, case.threads, 0, stream, &mut pointers) }
    }

    fn place(&self, argument: &Argument, memory: &mut Vec<u64>) -> Result<Words, DriverError> {
        let mut words = [0; 16];
        if let Argument::Array(values) = argument {
            for (word, value) in words.iter_mut().zip(values) {
                *word = self.place(value, memory)?[0];
            }
            return Ok(words);
        }
        let numbers = |n: usize| (0..n).map(number).collect::<Vec<f32>>();
        words[0] = match argument {
            Argument::In(n) | Argument::Out(n) | Argument::Changed(n) | Argument::Adjoint(n) => {
                self.copy(&numbers(*n), memory)?
            }
            Argument::Part { len, .. } => self.copy(&numbers(*len), memory)?,
            Argument::Words(words) => self.copy(words, memory)?,
            Argument::Doubles(numbers) | Argument::ChangedDoubles(numbers) => self.copy(numbers, memory)?,
            Argument::OutDoubles(n) => self.copy(&vec![0.0_f64; *n], memory)?,
            Argument::Real(value) => u64::from(value.to_bits()),
            Argument::Double(value) => value.to_bits(),
            Argument::Int(value) | Argument::Size(value) => *value as u64,
            Argument::Array(_) => 0,
        };
        Ok(words)
    }

    fn copy<T: Copy>(&self, values: &[T], memory: &mut Vec<u64>) -> Result<u64, DriverError> {
        // SAFETY: nothing reads the memory before it is written.
        let address = unsafe { result::malloc_sync(size_of_val(values).max(1)) }?;
        memory.push(address);
        // SAFETY: the memory is as long as the values, which are there until the copy is done.
        unsafe { result::memcpy_htod_async(address, values, self.stream.cu_stream()) }?;
        self.stream.synchronize()?;
        Ok(address)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: a case is dropped after the stream has been waited for. An error would leave nothing to do.
        unsafe {
            for &address in &self.memory {
                let _ = result::free_sync(address);
            }
            let _ = result::module::unload(self.module);
        }
    }
}

/// Element i of a buffer, in (0, 1).
fn number(i: usize) -> f32 {
    0.05 + 0.9 * ((i as f32 + 0.37) * 0.618_034).fract()
}
