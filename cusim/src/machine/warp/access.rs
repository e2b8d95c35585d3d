//! Loads, stores and atomic operations: what a warp asks of memory at once.

use super::{Lanes, Warp, lanes};
use crate::machine::block::{Accessor, Block};
use crate::machine::races::Access;
use crate::machine::{Fault, LAUNCH_FAILED};
use crate::ptx::{Instruction, Kind, Operand, Space};

/// An address for each lane, and how many bytes there.
struct Request {
    space: Space,
    addresses: Lanes,
    size: usize,
    access: Access,
}

impl Warp {
    /// A load, a store or an atomic operation.
    pub(super) fn access(
        &mut self,
        block: &mut Block<'_>,
        instruction: &Instruction,
        pc: usize,
        active: u32,
    ) -> Result<(), Fault> {
        match &instruction.kind {
            Kind::Load { space, ty, to, address, offset } => {
                let (size, mut read) = (ty.size(), [[0; 16]; 32]);
                let request = self.request(block, *space, (*address, *offset), size * to.len(), Access::Read);
                self.serve(block, pc, active, &request, |lane, from| read[lane][..from.len()].copy_from_slice(from))?;
                for (i, &to) in to.iter().enumerate() {
                    self.write(to, active, |lane| ty.extend(word(&read[lane][i * size..][..size])));
                }
                Ok(())
            }
            Kind::Store { space, ty, from, address, offset } => {
                let values: Vec<Lanes> = from.iter().map(|&operand| self.values(block, operand)).collect();
                let request = self.request(block, *space, (*address, *offset), ty.size() * from.len(), Access::Write);
                self.serve(block, pc, active, &request, |lane, to| {
                    for (to, values) in to.chunks_mut(ty.size()).zip(&values) {
                        to.copy_from_slice(&values[lane].to_le_bytes()[..ty.size()]);
                    }
                })
            }
            Kind::Atomic { space, ty, f, to, address, offset, from } => {
                let (low, mut old) = (u64::MAX >> (64 - 8 * ty.size()), [0; 32]);
                let [a, b] = from.map(|operand| self.values(block, operand).map(|value| value & low));
                let request = self.request(block, *space, (*address, *offset), ty.size(), Access::Atomic);
                self.serve(block, pc, active, &request, |lane, bytes| {
                    old[lane] = word(bytes);
                    bytes.copy_from_slice(&f(old[lane], a[lane], b[lane]).to_le_bytes()[..bytes.len()]);
                })?;
                self.write(*to, active, |lane| old[lane]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn request(
        &self,
        block: &Block<'_>,
        space: Space,
        (base, offset): (Operand, u64),
        size: usize,
        access: Access,
    ) -> Request {
        let addresses = self.values(block, base).map(|base| base.wrapping_add(offset));
        Request { space, addresses, size, access }
    }

    /// Counts the request and does `f` to the bytes of each lane.
    fn serve(
        &mut self,
        block: &mut Block<'_>,
        pc: usize,
        active: u32,
        request: &Request,
        mut f: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), Fault> {
        request.count(block, active);
        lanes(active).try_for_each(|lane| self.bytes(block, pc, lane, request, |bytes| f(lane, bytes)))
    }

    /// Does `f` to the bytes that a lane accesses.
    fn bytes(
        &mut self,
        block: &mut Block<'_>,
        pc: usize,
        lane: usize,
        &Request { space, addresses, size, access }: &Request,
        f: impl FnOnce(&mut [u8]),
    ) -> Result<(), Fault> {
        let (thread, (space, address)) = (self.first + lane, Block::resolve(space, addresses[lane]));
        let start = address as usize;
        let range = start..start.saturating_add(size);
        let (own, what) = match space {
            Space::Argument => {
                let mut arguments = [0; 16];
                let given = block.launch.arguments.get(range).map(|bytes| arguments[..size].copy_from_slice(bytes));
                (given.map(|()| f(&mut arguments[..size])), "no such argument")
            }
            Space::Local => (self.local[lane].get_mut(range).map(f), "out-of-bounds access to local memory"),
            _ => {
                let by = Accessor { pc, thread, warp_epoch: self.epoch, access };
                return block.access(&by, space, address, size, f);
            }
        };
        own.ok_or_else(|| block.fault(LAUNCH_FAILED, pc, thread, what))
    }
}

impl Request {
    /// Counts what it asks of memory.
    fn count(&self, block: &mut Block<'_>, active: u32) {
        let (mut global, mut shared) = (Vec::new(), Vec::new());
        for lane in lanes(active) {
            match Block::resolve(self.space, self.addresses[lane]) {
                (Space::Global, address) => global.push(address),
                (Space::Shared, address) => shared.push(address),
                _ => {}
            }
        }
        if !global.is_empty() {
            block.counters.global(&global, self.size, self.access != Access::Read, &mut block.seen);
        }
        if !shared.is_empty() {
            block.counters.shared(&shared, self.size);
        }
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}
