//! What a stream can be given to do.

use std::sync::Arc;

use super::code;
use super::state::State;
use crate::machine::{self, Launch};
use crate::ptx::Module;

/// Where the host's side of a copy lies.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Pinned memory, read when the copy runs.
    Pinned(usize),
    /// What pageable memory held when the copy was asked for.
    Staged(Arc<[u8]>),
}

/// One piece of work; a graph is a list of them.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Launch { module: Arc<Module>, kernel: String, launch: Launch },
    ToDevice { to: u64, from: Source, len: usize },
    ToHost { to: usize, from: u64, len: usize },
    OnDevice { to: u64, from: u64, len: usize },
    Fill { to: u64, value: u8, len: usize },
    Free { address: u64 },
}

impl State {
    /// Does it. The code is sticky if it is an error.
    pub(super) fn perform(&mut self, work: &Work) -> i32 {
        match work {
            Work::Launch { module, kernel, launch } => self.launch(module, kernel, launch),
            Work::ToDevice { to, from, len } => {
                let bytes: &[u8] = match from {
                    Source::Staged(bytes) => bytes,
                    // SAFETY: the range was found to be pinned when the copy was asked for, and the driver's user must
                    // keep it until the copy has run.
                    Source::Pinned(address) => unsafe { std::slice::from_raw_parts(*address as *const u8, *len) },
                };
                let counters = self.counters.entry(String::new()).or_default();
                counters.copies_to_device += 1;
                counters.bytes_to_device += *len as u64;
                self.on_device(*to, *len, |to| to.copy_from_slice(bytes))
            }
            Work::ToHost { to, from, len } => {
                let counters = self.counters.entry(String::new()).or_default();
                counters.copies_to_host += 1;
                counters.bytes_to_host += *len as u64;
                // SAFETY: the driver's user gives a range of its own memory and keeps it until the copy has run.
                let to = unsafe { std::slice::from_raw_parts_mut(*to as *mut u8, *len) };
                self.on_device(*from, *len, |from| to.copy_from_slice(from))
            }
            Work::OnDevice { to, from, len } => {
                let mut bytes = Vec::new();
                match self.on_device(*from, *len, |from| bytes = from.to_vec()) {
                    code::SUCCESS => self.on_device(*to, *len, |to| to.copy_from_slice(&bytes)),
                    error => error,
                }
            }
            Work::Fill { to, value, len } => self.on_device(*to, *len, |to| to.fill(*value)),
            Work::Free { address } if self.memory.free(*address) => code::SUCCESS,
            Work::Free { address } => self.say(machine::ILLEGAL_ADDRESS, format!("freed {address:#x} twice")),
        }
    }

    fn on_device(&mut self, address: u64, len: usize, f: impl FnOnce(&mut [u8])) -> i32 {
        match self.memory.bytes(address, len) {
            Ok(bytes) => {
                f(bytes);
                code::SUCCESS
            }
            Err(why) => self.say(machine::ILLEGAL_ADDRESS, format!("a copy of {len} bytes: {}", why.0)),
        }
    }

    fn launch(&mut self, module: &Module, kernel: &str, launch: &Launch) -> i32 {
        self.launches += 1;
        let order = self.order.map(|seed| seed.wrapping_add(u64::from(self.launches)));
        let launch = Launch { number: self.launches, order, ..launch.clone() };
        let counters = self.counters.entry(kernel.to_string()).or_default();
        match machine::run(module, &module.kernels[kernel], &launch, &mut self.memory, counters) {
            Ok(()) => code::SUCCESS,
            Err(fault) => self.say(fault.code, fault.message),
        }
    }
}
