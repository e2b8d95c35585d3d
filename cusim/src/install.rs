//! Loading the library, and the functions that reach into it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use crate::driver::{cusim_counters, cusim_message, cusim_reset, cusim_set_memory, cusim_set_order};
use crate::machine::Counters;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_NOW | RTLD_GLOBAL`.
const NOW_FOR_ALL: c_int = 0x102;

/// Loads the library, once. Its name is then taken: a later `dlopen("libcuda.so")` of this process finds it.
pub fn install() {
    library();
}

fn library() -> usize {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let path = CString::new(option_env!("CUSIM_LIBRARY").unwrap_or_default()).expect("a path without zero bytes");
        // SAFETY: the path ends in a zero, and loading our library runs no code.
        let library = unsafe { dlopen(path.as_ptr(), NOW_FOR_ALL) };
        assert!(!library.is_null(), "{path:?} cannot be loaded");
        library as usize
    })
}

/// The library's function of this name. Its type is that of the same function in this copy of the crate.
fn function<F: Copy>(name: &CStr, _same: F) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "a function pointer") };
    // SAFETY: the handle is that of the library, and the name ends in a zero.
    let address = unsafe { dlsym(library() as *mut c_void, name.as_ptr()) };
    assert!(!address.is_null(), "the library lacks {name:?}");
    // SAFETY: both copies are compiled from the same source by the same compiler, so the types agree.
    unsafe { std::mem::transmute_copy(&address) }
}

/// Runs blocks and threads in a random order with this seed; `None` for the natural order, in which warps keep in step.
pub fn set_order(seed: Option<u64>) {
    let set = function(c"cusim_set_order", cusim_set_order as unsafe extern "C" fn(c_int, u64) -> c_int);
    // SAFETY: it takes numbers.
    unsafe { set(c_int::from(seed.is_some()), seed.unwrap_or_default()) };
}

/// Gives the device so many bytes of memory, of which some may be in use already; `None` for the usual 4 GiB.
pub fn set_memory(bytes: Option<usize>) {
    let set = function(c"cusim_set_memory", cusim_set_memory as unsafe extern "C" fn(c_int, usize) -> c_int);
    // SAFETY: it takes numbers.
    unsafe { set(c_int::from(bytes.is_some()), bytes.unwrap_or_default()) };
}

/// Forgets a sticky error, waiting work, and all counts.
pub fn reset() {
    let reset = function(c"cusim_reset", cusim_reset as unsafe extern "C" fn() -> c_int);
    // SAFETY: it takes nothing.
    unsafe { reset() };
}

/// What a kernel did since the last [`reset`], over all its launches; `"*"` for all kernels together.
pub fn counters(kernel: &str) -> Counters {
    let name = CString::new(kernel).unwrap_or_default();
    let mut counters = Counters::default();
    let read =
        function(c"cusim_counters", cusim_counters as unsafe extern "C" fn(*const c_char, *mut Counters) -> c_int);
    // SAFETY: the name ends in a zero, and the counters are ours.
    unsafe { read(name.as_ptr(), &mut counters) };
    counters
}

/// What the host has asked for since the last [`reset`]: copies, and launches of kernels and graphs.
pub fn copies() -> Counters {
    counters("")
}

/// The last thing that went wrong, in words.
pub fn last_message() -> String {
    let mut text = vec![0; 4096];
    let read = function(c"cusim_message", cusim_message as unsafe extern "C" fn(*mut u8, usize) -> c_int);
    // SAFETY: it writes at most the length that it is given.
    let len = unsafe { read(text.as_mut_ptr(), text.len()) };
    text.truncate(len.max(0) as usize);
    String::from_utf8_lossy(&text).into_owned()
}
