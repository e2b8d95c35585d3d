//! One warp: the registers of its lanes, and what each instruction does to them.

mod access;

use super::block::Block;
use super::{Fault, LAUNCH_FAILED};
use crate::ptx::{Destination, Instruction, Kernel, Kind, Operand, ShuffleMode, VoteMode};

/// A value in each lane.
type Lanes = [u64; 32];

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    AtBarrier,
    /// At an operation of the warp, until the lanes that its mask names are there too.
    AtWarp,
    Done,
}

/// A warp.
pub(super) struct Warp {
    first: usize,
    registers: Vec<Lanes>,
    pc: [usize; 32],
    status: [Status; 32],
    /// Where each lane returns to.
    callers: [Vec<usize>; 32],
    local: [Vec<u8>; 32],
    carry: u32,
    /// Warp barriers passed.
    epoch: u32,
}

/// The lanes of a mask.
fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |lane| mask >> lane & 1 == 1)
}

fn mask(holds: impl Fn(usize) -> bool) -> u32 {
    (0..32).fold(0, |mask, lane| mask | u32::from(holds(lane)) << lane)
}

impl Warp {
    /// The threads `first..end` of a block, at the beginning of a kernel.
    pub fn new(kernel: &Kernel, first: usize, end: usize) -> Self {
        let status = |lane| if first + lane < end { Status::Ready } else { Status::Done };
        Self {
            first,
            registers: vec![[u64::MAX; 32]; kernel.registers],
            pc: [kernel.entry; 32],
            status: std::array::from_fn(status),
            callers: Default::default(),
            local: std::array::from_fn(|_| vec![0xFF; kernel.local]),
            carry: 0,
            epoch: 0,
        }
    }

    /// The lanes that can go on.
    pub fn ready(&self) -> u32 {
        mask(|lane| self.status[lane] == Status::Ready)
    }

    pub fn done(&self) -> bool {
        self.status.iter().all(|status| *status == Status::Done)
    }

    /// (thread, status, instruction) of every lane that has a thread.
    pub fn threads(&self) -> impl Iterator<Item = (usize, Status, usize)> {
        (0..32).map(|lane| (self.first + lane, self.status[lane], self.pc[lane]))
    }

    /// Every lane stands at the barrier, and goes on.
    pub fn pass_barrier(&mut self) {
        for (status, pc) in self.status.iter_mut().zip(&mut self.pc).filter(|(status, _)| **status == Status::AtBarrier)
        {
            (*status, *pc) = (Status::Ready, *pc + 1);
        }
    }

    /// Runs for `time` instructions, or until none of the lanes can go on.
    pub fn run(&mut self, block: &mut Block<'_>, among: u32, time: u64) -> Result<(), Fault> {
        for _ in 0..time {
            let candidates = self.ready() & among;
            let Some(pc) = lanes(candidates).map(|lane| self.pc[lane]).min() else { return Ok(()) };
            let together = candidates & mask(|lane| self.pc[lane] == pc);
            self.step(block, pc, together)?;
        }
        Ok(())
    }

    /// One instruction, for lanes that all stand at it.
    fn step(&mut self, block: &mut Block<'_>, pc: usize, together: u32) -> Result<(), Fault> {
        let instruction = &block.module.code[pc];
        let active = match instruction.guard {
            None => together,
            Some((register, negated)) => {
                let values = &self.registers[register];
                together & mask(|lane| (values[lane] & 1 == 1) != negated)
            }
        };
        block.counters.instruction(instruction.class, together.count_ones());
        if let Kind::Branch { .. } = instruction.kind {
            block.counters.branches += 1;
            block.counters.divergent_branches += u64::from(active != 0 && active != together);
        }
        lanes(together).for_each(|lane| self.pc[lane] = pc + 1);
        if active == 0 {
            return Ok(());
        }
        self.execute(block, instruction, pc, active)
    }

    fn execute(
        &mut self,
        block: &mut Block<'_>,
        instruction: &Instruction,
        pc: usize,
        active: u32,
    ) -> Result<(), Fault> {
        match &instruction.kind {
            Kind::Compute { f, to, from } => {
                let [a, b, c, d] = from.map(|operand| self.values(block, operand));
                self.write(*to, active, |lane| f([a[lane], b[lane], c[lane], d[lane]]));
            }
            Kind::Compare { f, to, from, with } => {
                let [a, b] = from.map(|operand| self.values(block, operand));
                let mut holds: [bool; 32] = std::array::from_fn(|lane| f(a[lane], b[lane]));
                if let Some((combine, operand, negated)) = with {
                    let c = self.values(block, *operand);
                    let other = |lane: usize| (c[lane] & 1 == 1) != *negated;
                    holds = std::array::from_fn(|lane| combine.apply(holds[lane], other(lane)));
                }
                self.write(to[0], active, |lane| u64::from(holds[lane]));
                self.write(to[1], active, |lane| u64::from(!holds[lane]));
            }
            Kind::Carry { f, reads, sets, to, from } => {
                let [a, b, c] = from.map(|operand| self.values(block, operand));
                let carry = if *reads { self.carry } else { 0 };
                let results: [_; 32] = std::array::from_fn(|i| f([a[i], b[i], c[i]], carry >> i & 1 == 1));
                self.write(*to, active, |lane| results[lane].0);
                if *sets {
                    self.carry = self.carry & !active | active & mask(|lane| results[lane].1);
                }
            }
            Kind::Pack { bits, to, from } => {
                let parts: Vec<Lanes> = from.iter().map(|&operand| self.values(block, operand)).collect();
                let low = u64::MAX >> (64 - bits);
                let joined = |lane: usize| parts.iter().rev().fold(0, |word, part| word << bits | part[lane] & low);
                self.write(*to, active, joined);
            }
            Kind::Unpack { bits, to, from } => {
                let (values, low) = (self.values(block, *from), u64::MAX >> (64 - bits));
                for (i, &to) in to.iter().enumerate() {
                    self.write(to, active, |lane| values[lane] >> (i * bits) & low);
                }
            }
            Kind::Branch { to } => lanes(active).for_each(|lane| self.pc[lane] = *to),
            Kind::Call { to, passed, .. } => {
                for lane in lanes(active) {
                    copy(&mut self.local[lane], passed);
                    self.callers[lane].push(pc);
                    self.pc[lane] = *to;
                }
            }
            Kind::Return => lanes(active).for_each(|lane| self.leave(block, lane)),
            Kind::Barrier => {
                lanes(active).for_each(|lane| (self.status[lane], self.pc[lane]) = (Status::AtBarrier, pc))
            }
            Kind::Fence => {}
            Kind::Trap => return Err(self.fault(block, pc, active, "trap")),
            Kind::Load { .. } | Kind::Store { .. } | Kind::Atomic { .. } => {
                return self.access(block, instruction, pc, active);
            }
            Kind::Shuffle { .. } | Kind::Vote { .. } | Kind::WarpBarrier { .. } => {
                lanes(active).for_each(|lane| (self.status[lane], self.pc[lane]) = (Status::AtWarp, pc));
                return self.meet(block, instruction, pc, active);
            }
        }
        Ok(())
    }

    /// To the caller, with the results; a kernel ends.
    fn leave(&mut self, block: &Block<'_>, lane: usize) {
        let Some(pc) = self.callers[lane].pop() else {
            self.status[lane] = Status::Done;
            return;
        };
        if let Kind::Call { returned, .. } = &block.module.code[pc].kind {
            copy(&mut self.local[lane], returned);
        }
        self.pc[lane] = pc + 1;
    }

    fn fault(&self, block: &Block<'_>, pc: usize, active: u32, what: &str) -> Fault {
        block.fault(LAUNCH_FAILED, pc, self.first + active.trailing_zeros() as usize, what)
    }

    fn values(&self, block: &Block<'_>, operand: Operand) -> Lanes {
        match operand {
            Operand::Register(register) => self.registers[register],
            Operand::Immediate(value) => [value; 32],
            Operand::Special(special) => std::array::from_fn(|lane| block.special(special, self.first + lane)),
        }
    }

    fn write(&mut self, to: Destination, active: u32, value: impl Fn(usize) -> u64) {
        let Some(register) = to else { return };
        let to = &mut self.registers[register];
        if active == u32::MAX {
            *to = std::array::from_fn(value);
        } else {
            lanes(active).for_each(|lane| to[lane] = value(lane));
        }
    }

    /// An operation of the warp, once all lanes that its mask names stand at it.
    fn meet(&mut self, block: &Block<'_>, instruction: &Instruction, pc: usize, active: u32) -> Result<(), Fault> {
        let operand = match instruction.kind {
            Kind::Shuffle { mask, .. } | Kind::Vote { mask, .. } | Kind::WarpBarrier { mask } => mask,
            _ => return Ok(()),
        };
        let masks = self.values(block, operand);
        for lane in lanes(active) {
            let named = masks[lane] as u32;
            if self.status[lane] != Status::AtWarp {
                continue; // it met the others before
            }
            if named >> lane & 1 == 0 {
                return Err(self.fault(block, pc, 1 << lane, "a lane that its own mask does not name"));
            }
            if named & mask(|lane| self.status[lane] == Status::Done) != 0 {
                return Err(self.fault(block, pc, 1 << lane, "the mask names lanes that have exited or never were"));
            }
            let there = mask(|lane| self.status[lane] == Status::AtWarp && self.pc[lane] == pc);
            if named & !there == 0 {
                if lanes(named).any(|other| masks[other] as u32 != named) {
                    return Err(self.fault(block, pc, 1 << lane, "lanes that meet name different masks"));
                }
                self.exchange(block, instruction, named);
                lanes(named).for_each(|lane| (self.status[lane], self.pc[lane]) = (Status::Ready, pc + 1));
            }
        }
        Ok(())
    }

    fn exchange(&mut self, block: &Block<'_>, instruction: &Instruction, named: u32) {
        match instruction.kind {
            Kind::WarpBarrier { .. } => self.epoch += 1,
            Kind::Vote { mode, to, value, negated, .. } => {
                let values = self.values(block, value);
                let ballot = named & mask(|lane| (values[lane] & 1 == 1) != negated);
                let result = match mode {
                    VoteMode::All => u64::from(ballot == named),
                    VoteMode::Any => u64::from(ballot != 0),
                    VoteMode::Uniform => u64::from(ballot == named || ballot == 0),
                    VoteMode::Ballot => u64::from(ballot),
                };
                self.write(to, named, |_| result);
            }
            Kind::Shuffle { mode, to, value, lane, clamp, .. } => {
                let [values, by, clamp] = [value, lane, clamp].map(|operand| self.values(block, operand));
                let source = |lane: usize| source_lane(mode, lane, by[lane], clamp[lane]);
                // A lane that is not there has nothing to give: NaN.
                let given = |lane: usize| if named >> lane & 1 == 1 { values[lane] } else { 0xFFFF_FFFF };
                self.write(to[0], named, |lane| given(source(lane).unwrap_or(lane)));
                self.write(to[1], named, |lane| u64::from(source(lane).is_some()));
            }
            _ => {}
        }
    }
}

/// The lane that a shuffle reads, `None` if it lies outside of the segment (then a lane reads itself).
fn source_lane(mode: ShuffleMode, lane: usize, by: u64, clamp: u64) -> Option<usize> {
    let (lane, by) = (lane as i64, (by & 31) as i64);
    let (bound, segments) = ((clamp & 31) as i64, (clamp >> 8 & 31) as i64);
    let last = lane & segments | bound & !segments;
    let (source, inside) = match mode {
        ShuffleMode::Up => (lane - by, lane - by >= last),
        ShuffleMode::Down => (lane + by, lane + by <= last),
        ShuffleMode::Butterfly => (lane ^ by, lane ^ by <= last),
        ShuffleMode::Index => {
            let source = lane & segments | by & !segments;
            (source, source <= last)
        }
    };
    inside.then_some(source as usize)
}

fn copy(local: &mut [u8], parts: &[(usize, usize, usize)]) {
    parts.iter().for_each(|&(from, to, size)| local.copy_within(from..from + size, to));
}
