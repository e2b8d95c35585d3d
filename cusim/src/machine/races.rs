//! Data races: two threads at the same memory, one of them writing, and nothing that puts them in order.
//!
//! Inside a block a barrier orders everything; inside a warp `bar.warp.sync` does; blocks of one launch are never
//! ordered. Atomics do not race with each other.

/// A thread at one point of its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The launch; 0 is none.
    pub launch: u32,
    /// The block.
    pub block: u32,
    /// Barriers that the block has passed.
    pub epoch: u32,
    /// The warp.
    pub warp: u32,
    /// Warp barriers that the warp has passed.
    pub warp_epoch: u32,
    /// The lane.
    pub lane: u32,
}

/// More than one of them.
const SEVERAL: u32 = u32::MAX;

impl Moment {
    /// Whether this moment surely lies before `now`.
    fn before(&self, now: &Self) -> bool {
        let same_warp = self.warp == now.warp && (self.lane == now.lane || self.warp_epoch < now.warp_epoch);
        self.launch != now.launch || self.block == now.block && (self.epoch < now.epoch || same_warp)
    }

    /// One moment that stands for both: before another only if both are.
    fn with(self, other: Self) -> Self {
        let same = |a: u32, b: u32| if a == b { a } else { SEVERAL };
        Self {
            launch: other.launch,
            block: same(self.block, other.block),
            epoch: self.epoch.max(other.epoch),
            warp: same(self.warp, other.warp),
            warp_epoch: self.warp_epoch.max(other.warp_epoch),
            lane: same(self.lane, other.lane),
        }
    }
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

/// Who touched four bytes of memory last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    written: Moment,
    by_atomic: bool,
    read: Moment,
}

impl Cell {
    /// Notes an access; `Some` with an earlier one that it races with.
    pub fn touch(&mut self, now: Moment, access: Access) -> Option<Moment> {
        let exempt = access == Access::Atomic && self.by_atomic;
        let after_write = (exempt || self.written.before(&now)).then_some(());
        let after_reads = (access == Access::Read || self.read.before(&now)).then_some(());
        let race = match (after_write, after_reads) {
            (None, _) => Some(self.written),
            (_, None) => Some(self.read),
            _ => None,
        };
        if access == Access::Read {
            self.read = if self.read.before(&now) { now } else { self.read.with(now) };
        } else {
            let both = exempt && !self.written.before(&now);
            self.written = if both { self.written.with(now) } else { now };
            self.by_atomic = access == Access::Atomic;
        }
        race
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u32, epoch: u32, warp: u32, warp_epoch: u32, lane: u32) -> Moment {
        Moment { launch: 1, block, epoch, warp, warp_epoch, lane }
    }

    fn races(steps: &[(Moment, Access)]) -> bool {
        let mut cell = Cell::default();
        steps.iter().filter(|(now, access)| cell.touch(*now, *access).is_some()).count() > 0
    }

    #[test]
    fn only_a_barrier_orders_threads() {
        use Access::{Atomic, Read, Write};
        let w = (at(0, 0, 0, 0, 0), Write);
        assert!(races(&[w, (at(0, 0, 0, 0, 1), Read)]), "lanes of a warp are not in step");
        assert!(!races(&[w, (at(0, 0, 0, 1, 1), Read)]), "after __syncwarp");
        assert!(races(&[w, (at(0, 0, 1, 1, 1), Read)]), "which does not reach another warp");
        assert!(!races(&[w, (at(0, 1, 1, 0, 1), Read)]), "after __syncthreads");
        assert!(races(&[w, (at(1, 1, 0, 0, 0), Read)]), "which does not reach another block");
        assert!(!races(&[(at(0, 0, 0, 0, 0), Atomic), (at(1, 0, 0, 0, 0), Atomic)]));
        assert!(races(&[(at(0, 0, 0, 0, 0), Atomic), (at(1, 0, 0, 0, 0), Read)]));
        let next_launch = Moment { launch: 2, ..at(1, 0, 0, 0, 0) };
        assert!(!races(&[w, (next_launch, Write)]));
    }

    #[test]
    fn no_reader_is_forgotten() {
        use Access::{Read, Write};
        let (a, b) = (at(0, 0, 0, 0, 0), at(0, 0, 1, 0, 0));
        assert!(races(&[(a, Read), (b, Read), (b, Write)]), "the reader a is not the last one");
        assert!(!races(&[(a, Read), (b, Read), (at(0, 1, 1, 0, 0), Write)]));
        let same_warp = [(at(0, 0, 0, 0, 0), Read), (at(0, 0, 0, 0, 1), Read)];
        assert!(!races(&[same_warp[0], same_warp[1], (at(0, 0, 0, 1, 0), Write)]));
        assert!(races(&[same_warp[0], same_warp[1], (at(0, 0, 0, 0, 0), Write)]));
    }
}
