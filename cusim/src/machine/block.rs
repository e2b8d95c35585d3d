//! One block: its warps, its shared memory, its barriers, and the accesses of its threads.

use std::collections::HashSet;

use super::races::{Access, Cell, Moment};
use super::warp::{Status, Warp};
use super::{Counters, Fault, ILLEGAL_ADDRESS, LAUNCH_FAILED, Launch, MISALIGNED_ADDRESS, Memory, Random};
use crate::ptx::{Kernel, LOCAL_WINDOW, Module, SHARED_WINDOW, Space, Special};

/// Who accesses memory, and how.
pub(super) struct Accessor {
    pub pc: usize,
    pub thread: usize,
    pub warp_epoch: u32,
    pub access: Access,
}

/// A block as it runs; one after the other uses the same one.
pub(super) struct Block<'a> {
    pub module: &'a Module,
    pub kernel: &'a Kernel,
    pub launch: &'a Launch,
    pub counters: &'a mut Counters,
    /// Sectors of device memory that it has read and written.
    pub seen: HashSet<(u64, bool)>,
    memory: &'a mut Memory,
    shared: Vec<u8>,
    cells: Vec<Cell>,
    index: u32,
    place: [u32; 3],
    epoch: u32,
}

impl<'a> Block<'a> {
    pub fn new(
        module: &'a Module,
        kernel: &'a Kernel,
        launch: &'a Launch,
        memory: &'a mut Memory,
        counters: &'a mut Counters,
    ) -> Self {
        let size = kernel.shared.next_multiple_of(16) + launch.dynamic_shared;
        let (shared, cells) = (vec![0; size], vec![Cell::default(); size.div_ceil(4)]);
        let seen = HashSet::new();
        Self { module, kernel, launch, counters, seen, memory, shared, cells, index: 0, place: [0; 3], epoch: 0 }
    }

    /// Runs the block to its end.
    pub fn run(&mut self, index: u32, place: [u32; 3], random: &mut Option<Random>) -> Result<(), Fault> {
        (self.index, self.place, self.epoch) = (index, place, 0);
        self.shared.fill(0xFF);
        self.cells.fill(Cell::default());
        self.seen.clear();
        let threads = self.launch.block.iter().product::<u32>() as usize;
        let mut warps: Vec<Warp> =
            (0..threads).step_by(32).map(|first| Warp::new(self.kernel, first, threads.min(first + 32))).collect();
        loop {
            let mut runnable: Vec<usize> = (0..warps.len()).filter(|&w| warps[w].ready() != 0).collect();
            while !runnable.is_empty() {
                let chosen = random.as_mut().map_or(0, |random| random.below(runnable.len()));
                let warp = &mut warps[runnable[chosen]];
                match random {
                    None => warp.run(self, u32::MAX, u64::MAX)?,
                    Some(random) => {
                        let (lanes, time) = (random.next() as u32, random.below(100) as u64 + 1);
                        warp.run(self, lanes, time)?;
                    }
                }
                if warp.ready() == 0 {
                    runnable.swap_remove(chosen);
                }
            }
            if warps.iter().all(Warp::done) {
                return Ok(());
            }
            self.barrier(&mut warps)?;
        }
    }

    /// Nobody can go on: either all stand at the same barrier, and pass it, or the kernel hangs.
    fn barrier(&mut self, warps: &mut [Warp]) -> Result<(), Fault> {
        let all = || warps.iter().flat_map(Warp::threads);
        if let Some((thread, _, pc)) = all().find(|(_, status, _)| *status == Status::AtWarp) {
            return Err(self.fault(LAUNCH_FAILED, pc, thread, "waits for lanes of its warp that never come"));
        }
        let waiting = all().find(|(_, status, _)| *status == Status::AtBarrier);
        let Some((_, _, barrier)) = waiting else { return Ok(()) };
        let elsewhere = all().find(|(_, status, pc)| *status != Status::AtBarrier || *pc != barrier);
        if let Some((thread, _, _)) = elsewhere {
            let why = "divergent barrier: not all threads of the block come to it; one that does not is named here";
            return Err(self.fault(LAUNCH_FAILED, barrier, thread, why));
        }
        self.epoch += 1;
        warps.iter_mut().for_each(Warp::pass_barrier);
        Ok(())
    }

    /// What died of what, where.
    pub fn fault(&self, code: i32, pc: usize, thread: usize, what: &str) -> Fault {
        let (name, place, at) = (&self.kernel.name, self.module.place(pc), self.thread(thread));
        Fault { code, message: format!("{name}, {place}: {what} (thread {at:?} of block {:?})", self.place) }
    }

    fn thread(&self, linear: usize) -> [u32; 3] {
        let ([x, y, _], linear) = (self.launch.block, linear as u32);
        [linear % x, linear / x % y, linear / (x * y)]
    }

    /// A special register of a thread.
    pub fn special(&self, special: Special, thread: usize) -> u64 {
        u64::from(match special {
            Special::Thread(axis) => self.thread(thread)[axis],
            Special::BlockSize(axis) => self.launch.block[axis],
            Special::Block(axis) => self.place[axis],
            Special::GridSize(axis) => self.launch.grid[axis],
            Special::Lane => thread as u32 % 32,
        })
    }

    /// The space and the address in it that an instruction's address means.
    pub fn resolve(space: Space, address: u64) -> (Space, u64) {
        match space {
            Space::Generic if address >= LOCAL_WINDOW => (Space::Local, address - LOCAL_WINDOW),
            Space::Generic if address >= SHARED_WINDOW => (Space::Shared, address - SHARED_WINDOW),
            Space::Generic => (Space::Global, address),
            _ => (space, address),
        }
    }

    /// Does `f` to the bytes that a thread accesses in shared or device memory, after all checks.
    pub fn access(
        &mut self,
        by: &Accessor,
        space: Space,
        address: u64,
        size: usize,
        f: impl FnOnce(&mut [u8]),
    ) -> Result<(), Fault> {
        let verb = if by.access == Access::Read { "read" } else { "write" };
        if !address.is_multiple_of(size as u64) {
            let why = format!("misaligned {verb} of {size} bytes at address {address:#x}");
            return Err(self.fault(MISALIGNED_ADDRESS, by.pc, by.thread, &why));
        }
        let now = self.moment(by);
        let found = match space {
            Space::Shared => part(&mut self.shared, &mut self.cells, address, size),
            _ => self.memory.access(address, size).map_err(|why| why.0),
        };
        match found {
            Ok((bytes, cells)) => {
                let race = cells.iter_mut().filter_map(|cell| cell.touch(now, by.access)).next();
                f(bytes);
                match race {
                    None => Ok(()),
                    Some(other) => Err(self.race(by, verb, space, other)),
                }
            }
            Err(place) => {
                let why = format!("out-of-bounds {verb} of {size} bytes at {place}");
                Err(self.fault(ILLEGAL_ADDRESS, by.pc, by.thread, &why))
            }
        }
    }

    fn moment(&self, by: &Accessor) -> Moment {
        Moment {
            launch: self.launch.number,
            block: self.index,
            epoch: self.epoch,
            warp: (by.thread / 32) as u32,
            warp_epoch: by.warp_epoch,
            lane: (by.thread % 32) as u32,
        }
    }

    fn race(&self, by: &Accessor, verb: &str, space: Space, other: Moment) -> Fault {
        let memory = if space == Space::Shared { "shared" } else { "device" };
        let who = |number: u32, what: &str| match number {
            u32::MAX => format!("several {what}s"),
            number => format!("{what} {number}"),
        };
        let (lane, warp, block) = (who(other.lane, "lane"), who(other.warp, "warp"), who(other.block, "block"));
        let why = format!("data race in {memory} memory: this {verb} and an access by {lane}, {warp}, {block}");
        self.fault(LAUNCH_FAILED, by.pc, by.thread, &why)
    }
}

fn part<'m>(
    bytes: &'m mut [u8],
    cells: &'m mut [Cell],
    address: u64,
    size: usize,
) -> Result<(&'m mut [u8], &'m mut [Cell]), String> {
    let len = bytes.len();
    let range = address as usize..(address as usize).saturating_add(size);
    let cells = cells.get_mut(range.start / 4..range.end.div_ceil(4));
    let outside = || format!("offset {address} of {len} bytes of shared memory");
    bytes.get_mut(range).zip(cells).ok_or_else(outside)
}
