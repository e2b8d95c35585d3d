//! Modules, launches, and graphs.

use super::*;

driver! {
    #[pointers]
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

    #[pointers]
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

    #[pointers]
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

    #[pointers]
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
        state.asked(stream(handle));
        Ok(state.push(stream(handle), Work::Launch { module: module.clone(), kernel: name, launch }))
    }

    #[pointers]
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
        state.asked(stream(handle));
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
