//! Beyond the driver: the interface of the tests.

use super::*;

driver! {
    fn cusim_set_order(given: c_int, seed: u64) {
        lock().order = (given != 0).then_some(seed);
        Ok(code::SUCCESS)
    }

    fn cusim_set_memory(given: c_int, bytes: usize) {
        lock().set_memory((given != 0).then_some(bytes));
        Ok(code::SUCCESS)
    }

    fn cusim_reset() {
        let mut state = lock();
        state.streams.values_mut().for_each(|queue| queue.clear());
        (state.sticky, state.message) = (code::SUCCESS, String::new());
        state.counters.clear();
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cusim_counters(kernel: *const c_char, counters: *mut Counters) {
        let (state, name) = (lock(), CStr::from_ptr(kernel).to_string_lossy());
        *counters = Counters::default();
        let wanted = state.counters.iter().filter(|(kernel, _)| name == "*" || **kernel == name);
        wanted.for_each(|(_, counted)| (*counters).add(counted));
        Ok(code::SUCCESS)
    }

    #[pointers]
    fn cusim_message(text: *mut u8, len: usize) {
        let state = lock();
        let bytes = &state.message.as_bytes()[..state.message.len().min(len)];
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), text, bytes.len());
        Ok(bytes.len() as c_int)
    }
}
