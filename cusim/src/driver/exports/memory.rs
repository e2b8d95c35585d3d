//! Memory, and copies.

use super::*;

driver! {
    #[pointers]
    fn cuMemAlloc_v2(address: *mut u64, len: usize) {
        let mut state = enter()?;
        state.forbid_while_capturing("cuMemAlloc")?;
        *address = allocate(&mut state, len)?;
        Ok(code::SUCCESS)
    }

    #[pointers]
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

    #[pointers]
    fn cuMemHostAlloc(pointer: *mut Handle, len: usize, _flags: c_uint) {
        let mut state = enter()?;
        state.forbid_while_capturing("cuMemHostAlloc")?;
        let memory = Box::leak(vec![0xFF_u8; len.max(1)].into_boxed_slice());
        state.pinned.insert(memory.as_ptr() as usize, memory.len());
        *pointer = memory.as_mut_ptr().cast();
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuMemFreeHost(pointer: Handle) {
        let mut state = lock();
        state.drain_all();
        let len = state.pinned.remove(&(pointer as usize)).ok_or(code::INVALID_VALUE)?;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer.cast::<u8>(), len)));
        Ok(code::SUCCESS)
    }

    #[pointers]
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
}

fn allocate(state: &mut Locked, len: usize) -> Result<u64, c_int> {
    if len == 0 {
        return Err(code::INVALID_VALUE);
    }
    if len > state.free_memory() {
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
