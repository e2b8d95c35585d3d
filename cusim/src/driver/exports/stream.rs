//! Streams, their capture, and events.

use super::*;

driver! {
    #[pointers]
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

    #[pointers]
    fn cuStreamEndCapture(handle: Handle, graph: *mut Handle) {
        *graph = std::ptr::null_mut();
        *graph = enter()?.end_capture(stream(handle))? as Handle;
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cuStreamIsCapturing(handle: Handle, status: *mut c_int) {
        let state = enter()?;
        *status = match state.capture_of(stream(handle)) {
            None => 0,
            Some(id) => 1 + c_int::from(state.captures[&id].invalid),
        };
        Ok(code::SUCCESS)
    }

    #[pointers]
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

    #[pointers]
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
}
