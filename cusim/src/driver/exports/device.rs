//! The device, its context, and the names of errors.

use super::*;

driver! {
    fn cuInit(_flags: c_uint) {
        lock().initialized = true;
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDriverGetVersion(version: *mut c_int) {
        *version = 12_000;
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDeviceGetCount(count: *mut c_int) {
        *count = 1;
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if ordinal != 0 {
            return Err(code::INVALID_DEVICE);
        }
        *device = 0;
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"simulated device".to_bytes_with_nul();
        std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), text.len().min(len.max(0) as usize));
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        *bytes = lock().total_memory;
        Ok(code::SUCCESS)
    }

    // The attributes of a device of compute capability 7.5, by their numbers in `cuda.h`.
    #[pointers]
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        *value = match attribute {
            1..=3 => 1024,                                  // threads of a block, and along x and y
            4 => 64,                                        // along z
            5 => c_int::MAX,                                // blocks along x
            6 | 7 => 65_535,                                // along y and z
            8 => SHARED_LIMIT as c_int,                     // shared memory of a block
            10 => 32,                                       // threads of a warp
            12 => 65_536,                                   // registers of a block
            16 => 4,                                        // multiprocessors
            39 => 1024,                                     // threads of a multiprocessor
            75 => 7,                                        // compute capability
            76 => 5,
            81 | 97 => SHARED_OPT_IN as c_int,              // shared memory of a multiprocessor; of a block on request
            115 => 1,                                       // memory pools
            _ => 0,
        };
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) {
        *context = 8 as Handle;
        Ok(code::SUCCESS)
    }

    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) {
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuCtxGetCurrent(context: *mut Handle) {
        *context = CONTEXT.get() as Handle;
        Ok(code::SUCCESS)
    }

    fn cuCtxSetCurrent(context: Handle) {
        CONTEXT.set(context as usize);
        Ok(code::SUCCESS)
    }

    fn cuCtxSynchronize() {
        let mut state = enter()?;
        state.forbid_while_capturing("cuCtxSynchronize")?;
        Ok(state.drain_all())
    }

    #[pointers]
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let state = enter()?;
        (*total, *free) = (state.total_memory, state.free_memory());
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuGetErrorName(error: c_int, name: *mut *const c_char) {
        *name = code::name(error).as_ptr();
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuGetErrorString(error: c_int, text: *mut *const c_char) {
        *text = code::name(error).as_ptr();
        Ok(code::SUCCESS)
    }
}
