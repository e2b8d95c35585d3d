//! The functions of `libcuda.so`, by the names and signatures of `cuda.h`.
#![allow(non_snake_case, clippy::missing_safety_doc, missing_docs)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::code;
use super::state::{Event, Function, Locked, lock};
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

/// Declares functions whose bodies return `Result<i32, i32>`; `#[pointers]` marks those that follow one.
macro_rules! driver {
    ($($(#[$pointers:ident])? fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $ty),*) -> c_int {
            let call = || -> Result<c_int, c_int> { body!($($pointers)? $body) };
            match call() { Ok(code) | Err(code) => code }
        }
    )* };
}

macro_rules! body {
    (pointers $body:block) => {
        // SAFETY: pointers are those of a caller who keeps to the driver's contract.
        unsafe { $body }
    };
    ($body:block) => {
        $body
    };
}

mod counts;
mod device;
mod launch;
mod memory;
mod stream;

pub(crate) use counts::{cusim_counters, cusim_message, cusim_reset, cusim_set_memory, cusim_set_order};
