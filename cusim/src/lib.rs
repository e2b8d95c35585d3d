//! A simulated CUDA driver, for tests on machines without a GPU.
//!
//! It poses as `libcuda.so` and interprets the PTX that it is given, so production code runs unmodified:
//!
//! ```
//! cusim::install(); // from here on, whoever loads `libcuda.so` in this process gets the simulated one
//! ```
//!
//! Every access to memory is checked: bounds, alignment, liveness, and races, in shared memory and between blocks.
//! Memory that nothing was written to reads as NaN. Blocks and threads run in a natural order, or in a random one
//! ([`set_order`]). Streams are lazy: a copy from page-locked memory reads it when somebody waits for the copy, one from
//! pageable memory when it is asked for. Errors of kernels are sticky, graphs are captured under the driver's rules. An
//! instruction that is not known is an error that names it and its line in the kernel's source.
//!
//! What it cannot show: how hardware rounds the `approx` instructions, its weak memory ordering, the driver's compiler,
//! and speed. For the last it counts what a kernel does ([`counters`]).
//!
//! The crate is compiled twice: by cargo, for the functions below, and by its build script as the library that they
//! load. So the driver's state is that of the library.

mod driver;
mod install;
mod machine;
mod ptx;

pub use install::{copies, counters, install, last_message, reset, set_memory, set_order};
pub use machine::Counters;
