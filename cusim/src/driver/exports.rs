//! The functions of `libcuda.so`, by the names and signatures of `cuda.h`.
#![allow(non_snake_case, clippy::missing_safety_doc, missing_docs)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::code;
use super::state::{Event, Function, Locked, TOTAL_MEMORY, lock};
use super::work::{Source, Work};
use crate::machine::{Counters, Launch};
use crate::ptx::{Kernel, parse};

type Handle = *mut c_void;

/// The most dynamic shared memory without asking, and the most of all, as of compute capability 7.5 and later.
const SHARED_LIMIT: usize = 48 << 10;
const SHARED_OPT_IN: usize = 64 << 10;

thread_local!(static CONTEXT: Cell<usize> = const { Cell::new(0) });

/// The driver, if it can be called: initialised, with a context, and not dead of an earlier error.
fn enter() -> Result<Locked, i32> {
    let state = lock();
    match (state.initialized, CONTEXT.get(), state.sticky) {
        (false, ..) => Err(code::NOT_INITIALIZED),
        (_, 0, _) => Err(code::INVALID_CONTEXT),
        (_, _, code::SUCCESS) => Ok(state),
        (_, _, sticky) => Err(sticky),
    }
}

/// The default stream has three names.
fn stream(handle: Handle) -> usize {
    if (handle as usize) < 3 { 0 } else { handle as usize }
}

/// Declares functions whose bodies return `Result<i32, i32>`.
macro_rules! driver {
    ($(fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $ty),*) -> c_int {
            // SAFETY (of the whole block): pointers are those of a caller who keeps to the driver's contract.
            #[allow(unused_unsafe, clippy::undocumented_unsafe_blocks)]
            let call = || -> Result<c_int, c_int> { unsafe { $body } };
            match call() { Ok(code) | Err(code) => code }
        }
    )* };
}

driver! {
    fn cuInit(_flags: c_uint) {
        lock().initialized = true;
        Ok(code::SUCCESS)
    }

    fn cuDriverGetVersion(version: *mut c_int) {
        *version = 12_000;
        Ok(code::SUCCESS)
    }

    fn cuDeviceGetCount(count: *mut c_int) {
        *count = 1;
        Ok(code::SUCCESS)
    }

    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if ordinal != 0 {
            return Err(code::INVALID_DEVICE);
        }
        *device = 0;
        Ok(code::SUCCESS)
    }

    fn cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"simulated device".to_bytes_with_nul();
        std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), text.len().min(len.max(0) as usize));
        Ok(code::SUCCESS)
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        *bytes = TOTAL_MEMORY;
        Ok(code::SUCCESS)
    }

    // The attributes of a device of compute capability 7.5, by their numbers in `cuda.h`.
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

    fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) {
        *context = 8 as Handle;
        Ok(code::SUCCESS)
    }

    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) {
        Ok(code::SUCCESS)
    }

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

    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let state = enter()?;
        (*total, *free) = (TOTAL_MEMORY, TOTAL_MEMORY - state.memory.used());
        Ok(code::SUCCESS)
    }

    fn cuStreamCreate(handle: *mut Handle, _flags: c_uint) {
        let mut state = enter()?;
        let new = state.new_handle();
        state.streams.insert(new, Default::default());
        *handle = new as Handle;
        Ok(code::SUCCESS)
    }

    fn cuStreamDestroy_v2(handle: Handle) {
        let mut state = lock();
        state.drain(stream(handle));
        state.streams.remove(&(handle as usize)).map(|_| code::SUCCESS).ok_or(code::INVALID_HANDLE)
    }

    fn cuStreamSynchronize(handle: Handle) {
        let (mut state, handle) = (enter()?, stream(handle));
        if let Some(capture) = state.capture_of(handle) {
            state.invalidate(capture);
            return Err(state.say(code::CAPTURE_UNSUPPORTED, "waited for a stream that is capturing".into()));
        }
        if !state.streams.contains_key(&handle) {
            return Err(code::INVALID_HANDLE);
        }
        Ok(state.drain(handle))
    }

    fn cuStreamWaitEvent(handle: Handle, event: Handle, _flags: c_uint) {
        Ok(enter()?.wait(stream(handle), event as usize))
    }

    fn cuStreamBeginCapture_v2(handle: Handle, mode: c_int) {
        Ok(enter()?.begin_capture(stream(handle), mode == 2))
    }

    fn cuStreamEndCapture(handle: Handle, graph: *mut Handle) {
        *graph = std::ptr::null_mut();
        *graph = enter()?.end_capture(stream(handle))? as Handle;
        Ok(code::SUCCESS)
    }

    fn cuStreamIsCapturing(handle: Handle, status: *mut c_int) {
        let state = enter()?;
        *status = match state.capture_of(stream(handle)) {
            None => 0,
            Some(id) => 1 + c_int::from(state.captures[&id].invalid),
        };
        Ok(code::SUCCESS)
    }

    fn cuEventCreate(handle: *mut Handle, flags: c_uint) {
        let mut state = enter()?;
        let new = state.new_handle();
        state.events.insert(new, Event { timing: flags & 2 == 0, ..Event::default() });
        *handle = new as Handle;
        Ok(code::SUCCESS)
    }

    fn cuEventDestroy_v2(handle: Handle) {
        let mut state = lock();
        let Some(event) = state.events.get(&(handle as usize)) else { return Err(code::INVALID_HANDLE) };
        let issued = event.issued;
        state.reach(handle as usize, issued);
        state.events.remove(&(handle as usize));
        Ok(code::SUCCESS)
    }

    fn cuEventRecord(event: Handle, handle: Handle) {
        Ok(enter()?.record(stream(handle), event as usize))
    }

    fn cuEventQuery(handle: Handle) {
        let state = enter()?;
        match state.events.get(&(handle as usize)) {
            None => Err(code::INVALID_HANDLE),
            Some(event) if event.captured.is_some() => Err(code::CAPTURED_EVENT),
            Some(event) if event.reached < event.issued => Err(code::NOT_READY),
            Some(_) => Ok(code::SUCCESS),
        }
    }

    fn cuEventSynchronize(handle: Handle) {
        let mut state = enter()?;
        let Some(event) = state.events.get(&(handle as usize)) else { return Err(code::INVALID_HANDLE) };
        if event.captured.is_some() {
            return Err(code::CAPTURED_EVENT);
        }
        let issued = event.issued;
        Ok(state.reach(handle as usize, issued))
    }

    fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) {
        let state = enter()?;
        let [Some(a), Some(b)] = [start, end].map(|event| state.events.get(&(event as usize))) else {
            return Err(code::INVALID_HANDLE);
        };
        if !a.timing || !b.timing {
            return Err(code::INVALID_HANDLE);
        }
        let (Some(a), Some(b)) = (a.time, b.time) else { return Err(code::NOT_READY) };
        *milliseconds = (b - a).as_secs_f32() * 1e3;
        Ok(code::SUCCESS)
    }

    fn cuMemAlloc_v2(address: *mut u64, len: usize) {
        let mut state = enter()?;
        state.forbid_while_capturing("cuMemAlloc")?;
        *address = allocate(&mut state, len)?;
        Ok(code::SUCCESS)
    }

    fn cuMemAllocAsync(address: *mut u64, len: usize, handle: Handle) {
        let mut state = enter()?;
        if state.capture_of(stream(handle)).is_some() {
            return Err(state.say(code::CAPTURE_UNSUPPORTED, "graphs that allocate are not simulated".into()));
        }
        *address = allocate(&mut state, len)?;
        Ok(code::SUCCESS)
    }

    fn cuMemFree_v2(address: u64) {
        let mut state = lock();
        state.forbid_while_capturing("cuMemFree")?;
        state.drain_all();
        if state.memory.free(address) { Ok(code::SUCCESS) } else { Err(code::INVALID_VALUE) }
    }

    fn cuMemFreeAsync(address: u64, handle: Handle) {
        let mut state = lock();
        if state.memory.bytes(address, 1).is_err() {
            return Err(code::INVALID_VALUE);
        }
        Ok(state.push(stream(handle), Work::Free { address }))
    }

    fn cuMemHostAlloc(pointer: *mut Handle, len: usize, _flags: c_uint) {
        let mut state = enter()?;
        state.forbid_while_capturing("cuMemHostAlloc")?;
        let memory = Box::leak(vec![0xFF_u8; len.max(1)].into_boxed_slice());
        state.pinned.insert(memory.as_ptr() as usize, memory.len());
        *pointer = memory.as_mut_ptr().cast();
        Ok(code::SUCCESS)
    }

    fn cuMemFreeHost(pointer: Handle) {
        let mut state = lock();
        state.drain_all();
        let len = state.pinned.remove(&(pointer as usize)).ok_or(code::INVALID_VALUE)?;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer.cast::<u8>(), len)));
        Ok(code::SUCCESS)
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, len: usize, handle: Handle) {
        let mut state = enter()?;
        let pinned = state.is_pinned(from as usize, len);
        if len == 0 {
            return Ok(code::SUCCESS);
        }
        check_range(&mut state, to, len)?;
        let from = if pinned {
            Source::Pinned(from as usize)
        } else {
            Source::Staged(std::slice::from_raw_parts(from.cast::<u8>(), len).into())
        };
        Ok(state.push(stream(handle), Work::ToDevice { to, from, len }))
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, handle: Handle) {
        let mut state = enter()?;
        if len == 0 {
            return Ok(code::SUCCESS);
        }
        check_range(&mut state, from, len)?;
        let (pinned, handle) = (state.is_pinned(to as usize, len), stream(handle));
        if let (false, Some(capture)) = (pinned, state.capture_of(handle)) {
            state.invalidate(capture);
            return Err(state.say(code::CAPTURE_UNSUPPORTED, "captured a copy to pageable memory".into()));
        }
        let pushed = state.push(handle, Work::ToHost { to: to as usize, from, len });
        if pinned || pushed != code::SUCCESS { Ok(pushed) } else { Ok(state.drain(handle)) }
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, handle: Handle) {
        let mut state = enter()?;
        if len == 0 {
            return Ok(code::SUCCESS);
        }
        check_range(&mut state, to, len)?;
        check_range(&mut state, from, len)?;
        Ok(state.push(stream(handle), Work::OnDevice { to, from, len }))
    }

    fn cuMemsetD8Async(to: u64, value: u8, len: usize, handle: Handle) {
        let mut state = enter()?;
        check_range(&mut state, to, len)?;
        Ok(state.push(stream(handle), Work::Fill { to, value, len }))
    }

    fn cuModuleLoadData(handle: *mut Handle, image: *const c_void) {
        let mut state = enter()?;
        let text = CStr::from_ptr(image.cast()).to_str().map_err(|_| code::INVALID_PTX)?;
        let module = match parse(text, state.memory.next_address()) {
            Ok(module) => module,
            Err(why) => return Err(state.say(code::INVALID_PTX, why)),
        };
        let data = state.memory.allocate(module.data.len());
        state.memory.bytes(data, module.data.len()).map_err(|_| code::INVALID_PTX)?.copy_from_slice(&module.data);
        let new = state.new_handle();
        state.modules.insert(new, (Arc::new(module), data));
        *handle = new as Handle;
        Ok(code::SUCCESS)
    }

    fn cuModuleUnload(handle: Handle) {
        let mut state = lock();
        state.drain_all();
        let (module, data) = state.modules.remove(&(handle as usize)).ok_or(code::INVALID_HANDLE)?;
        state.functions.retain(|_, function| !Arc::ptr_eq(&function.module, &module));
        state.memory.free(data);
        Ok(code::SUCCESS)
    }

    fn cuModuleGetFunction(handle: *mut Handle, module: Handle, name: *const c_char) {
        let mut state = enter()?;
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        let (module, _) = state.modules.get(&(module as usize)).ok_or(code::INVALID_HANDLE)?;
        let module = module.clone();
        if !module.kernels.contains_key(&name) {
            return Err(code::NOT_FOUND);
        }
        let new = state.new_handle();
        state.functions.insert(new, Function { module, name, dynamic_limit: SHARED_LIMIT });
        *handle = new as Handle;
        Ok(code::SUCCESS)
    }

    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: Handle) {
        let state = enter()?;
        let function = state.functions.get(&(function as usize)).ok_or(code::INVALID_HANDLE)?;
        let kernel = &function.module.kernels[&function.name];
        *value = match attribute {
            0 => kernel.max_threads as c_int,
            1 => kernel.shared as c_int,
            3 => kernel.local as c_int,
            8 => function.dynamic_limit as c_int,
            _ => 0,
        };
        Ok(code::SUCCESS)
    }

    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) {
        let mut state = enter()?;
        let function = state.functions.get_mut(&(function as usize)).ok_or(code::INVALID_HANDLE)?;
        if attribute == 8 {
            let shared = function.module.kernels[&function.name].shared;
            if value < 0 || value as usize + shared > SHARED_OPT_IN {
                return Err(code::INVALID_VALUE);
            }
            function.dynamic_limit = value as usize;
        }
        Ok(code::SUCCESS)
    }

    fn cuLaunchKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, dynamic: c_uint, handle: Handle, arguments: *mut *mut c_void, _extra: *mut *mut c_void,
    ) {
        let mut state = enter()?;
        let function = state.functions.get(&(function as usize)).ok_or(code::INVALID_HANDLE)?;
        let (module, name) = (function.module.clone(), function.name.clone());
        let (kernel, limit) = (&module.kernels[&name], function.dynamic_limit);
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        if let Err(why) = check_launch(kernel, grid, block, dynamic as usize, limit) {
            return Err(state.say(code::INVALID_VALUE, format!("{name}: {why}")));
        }
        let mut packed = vec![0; kernel.arguments.iter().map(|(offset, size)| offset + size).max().unwrap_or(0)];
        for (i, &(offset, size)) in kernel.arguments.iter().enumerate() {
            let argument = std::slice::from_raw_parts((*arguments.add(i)).cast::<u8>(), size);
            packed[offset..offset + size].copy_from_slice(argument);
        }
        let dynamic_shared = dynamic as usize;
        let launch = Launch { grid, block, dynamic_shared, arguments: packed, number: 0, order: None };
        Ok(state.push(stream(handle), Work::Launch { module: module.clone(), kernel: name, launch }))
    }

    fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, _flags: u64) {
        let mut state = enter()?;
        let work = state.graphs.get(&(graph as usize)).cloned().ok_or(code::INVALID_HANDLE)?;
        let new = state.new_handle();
        state.graphs.insert(new, work);
        *executable = new as Handle;
        Ok(code::SUCCESS)
    }

    fn cuGraphUpload(_executable: Handle, _stream: Handle) {
        Ok(code::SUCCESS)
    }

    fn cuGraphLaunch(executable: Handle, handle: Handle) {
        let mut state = enter()?;
        let work = state.graphs.get(&(executable as usize)).cloned().ok_or(code::INVALID_HANDLE)?;
        let push = |work| match state.push(stream(handle), work) {
            code::SUCCESS => Ok(()),
            error => Err(error),
        };
        work.into_iter().try_for_each(push).map(|()| code::SUCCESS)
    }

    fn cuGraphExecDestroy(executable: Handle) {
        lock().graphs.remove(&(executable as usize)).map(|_| code::SUCCESS).ok_or(code::INVALID_HANDLE)
    }

    fn cuGraphDestroy(graph: Handle) {
        lock().graphs.remove(&(graph as usize)).map(|_| code::SUCCESS).ok_or(code::INVALID_HANDLE)
    }

    fn cuGetErrorName(error: c_int, name: *mut *const c_char) {
        *name = code::name(error).as_ptr();
        Ok(code::SUCCESS)
    }

    fn cuGetErrorString(error: c_int, text: *mut *const c_char) {
        *text = code::name(error).as_ptr();
        Ok(code::SUCCESS)
    }

    // Beyond the driver: the interface of the tests.

    fn cusim_set_order(given: c_int, seed: u64) {
        lock().order = (given != 0).then_some(seed);
        Ok(code::SUCCESS)
    }

    fn cusim_reset() {
        let mut state = lock();
        state.streams.values_mut().for_each(|queue| queue.clear());
        (state.sticky, state.message) = (code::SUCCESS, String::new());
        state.counters.clear();
        Ok(code::SUCCESS)
    }

    fn cusim_counters(kernel: *const c_char, counters: *mut Counters) {
        let (state, name) = (lock(), CStr::from_ptr(kernel).to_string_lossy());
        *counters = Counters::default();
        let wanted = state.counters.iter().filter(|(kernel, _)| name == "*" || **kernel == name);
        wanted.for_each(|(_, counted)| (*counters).add(counted));
        Ok(code::SUCCESS)
    }

    fn cusim_message(text: *mut u8, len: usize) {
        let state = lock();
        let bytes = &state.message.as_bytes()[..state.message.len().min(len)];
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), text, bytes.len());
        Ok(bytes.len() as c_int)
    }
}

fn allocate(state: &mut Locked, len: usize) -> Result<u64, c_int> {
    if len == 0 {
        return Err(code::INVALID_VALUE);
    }
    if state.memory.used() + len > TOTAL_MEMORY {
        return Err(code::OUT_OF_MEMORY);
    }
    Ok(state.memory.allocate(len))
}

fn check_range(state: &mut Locked, address: u64, len: usize) -> Result<(), c_int> {
    match state.memory.bytes(address, len) {
        Ok(_) => Ok(()),
        Err(why) => Err(state.say(code::INVALID_VALUE, format!("a copy of {len} bytes: {}", why.0))),
    }
}

fn check_launch(kernel: &Kernel, grid: [u32; 3], block: [u32; 3], dynamic: usize, limit: usize) -> Result<(), String> {
    let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
    if grid.contains(&0) || grid[1] > 65_535 || grid[2] > 65_535 || grid[0] > i32::MAX as u32 {
        return Err(format!("a grid of {grid:?} blocks is impossible"));
    }
    if threads == 0 || threads > kernel.max_threads as u64 || block[2] > 64 {
        return Err(format!("{block:?} threads in a block are impossible; {} are the most", kernel.max_threads));
    }
    if dynamic > 0 && dynamic + kernel.shared > limit {
        return Err(format!("{dynamic} bytes of dynamic shared memory; {limit} are the most that were asked for"));
    }
    Ok(())
}
