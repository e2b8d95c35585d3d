//! What a kernel did, in numbers: how it is judged where there is no hardware.

use std::collections::HashSet;

use crate::ptx::Class;

/// Counts over one or more launches. Coalescing, bank conflicts and divergence have a meaning only while warps run in
/// step, that is in the default order of threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernel launches, those of graphs included.
    pub launches: u64,
    /// Instructions that threads ran: integer, single, double, special function, memory, control.
    pub instructions: [u64; 6],
    /// Instructions of warps that accessed device memory.
    pub global_requests: u64,
    /// Bytes that threads read from device memory.
    pub global_bytes_read: u64,
    /// Bytes that threads wrote to device memory.
    pub global_bytes_written: u64,
    /// Sectors of 32 bytes that these requests touched.
    pub global_sectors: u64,
    /// Sectors that had not been read or written by the same block before: what a cache of each block lets through.
    pub fetched_sectors: u64,
    /// The fewest sectors that could hold as many bytes, request by request.
    pub ideal_sectors: u64,
    /// Instructions of warps that accessed shared memory.
    pub shared_requests: u64,
    /// How often a request had to wait because a bank was asked for another word.
    pub bank_conflicts: u64,
    /// Branches that a warp took.
    pub branches: u64,
    /// Those at which its threads parted.
    pub divergent_branches: u64,
    /// What the host asked to run: launches of kernels outside of graphs, and of graphs.
    pub asked: u64,
    /// Copies from the host.
    pub copies_to_device: u64,
    /// Their bytes.
    pub bytes_to_device: u64,
    /// Copies to the host.
    pub copies_to_host: u64,
    /// Their bytes.
    pub bytes_to_host: u64,
}

impl Counters {
    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.launches += other.launches;
        self.instructions.iter_mut().zip(other.instructions).for_each(|(a, b)| *a += b);
        self.global_requests += other.global_requests;
        self.global_bytes_read += other.global_bytes_read;
        self.global_bytes_written += other.global_bytes_written;
        self.global_sectors += other.global_sectors;
        self.fetched_sectors += other.fetched_sectors;
        self.ideal_sectors += other.ideal_sectors;
        self.shared_requests += other.shared_requests;
        self.bank_conflicts += other.bank_conflicts;
        self.branches += other.branches;
        self.divergent_branches += other.divergent_branches;
        self.asked += other.asked;
        self.copies_to_device += other.copies_to_device;
        self.bytes_to_device += other.bytes_to_device;
        self.copies_to_host += other.copies_to_host;
        self.bytes_to_host += other.bytes_to_host;
    }

    pub(super) fn instruction(&mut self, class: Class, threads: u32) {
        self.instructions[class as usize] += u64::from(threads);
    }

    /// One request of a warp: an address for each of its threads, `size` bytes each. `seen` are the sectors that its
    /// block has read and written.
    pub(super) fn global(&mut self, addresses: &[u64], size: usize, write: bool, seen: &mut HashSet<(u64, bool)>) {
        let bytes = (addresses.len() * size) as u64;
        let mut sectors: Vec<u64> = addresses.iter().flat_map(|a| [a / 32, (a + size as u64 - 1) / 32]).collect();
        sectors.sort_unstable();
        sectors.dedup();
        // A word that many threads ask for is fetched once.
        let mut distinct = addresses.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        self.global_requests += 1;
        self.global_sectors += sectors.len() as u64;
        // What the block has written it reads from the cache; what it has read it still has to write.
        let mut is_new = |sector| seen.insert((sector, write)) && (write || !seen.contains(&(sector, true)));
        self.fetched_sectors += sectors.iter().filter(|&&sector| is_new(sector)).count() as u64;
        self.ideal_sectors += ((distinct.len() * size) as u64).div_ceil(32);
        let counter = if write { &mut self.global_bytes_written } else { &mut self.global_bytes_read };
        *counter += bytes;
    }

    /// The same in shared memory: 32 banks of 4 bytes; wide accesses are served in as many parts as they have words.
    pub(super) fn shared(&mut self, addresses: &[u64], size: usize) {
        let words = size.div_ceil(4);
        for part in addresses.chunks(32 / words) {
            let mut asked: Vec<u64> = part.iter().flat_map(|a| (0..words as u64).map(move |w| a / 4 + w)).collect();
            asked.sort_unstable();
            asked.dedup();
            let mut banks = [0_u64; 32];
            asked.iter().for_each(|word| banks[(word % 32) as usize] += 1);
            self.bank_conflicts += banks.iter().max().map_or(0, |most| most.saturating_sub(1));
        }
        self.shared_requests += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_tell_how_well_a_request_is_coalesced() {
        let count = |stride: u64, start: u64, size: usize| {
            let mut counters = Counters::default();
            let addresses: Vec<u64> = (0..32).map(|i| start + i * stride).collect();
            let mut seen = HashSet::new();
            (0..2).for_each(|_| counters.global(&addresses, size, false, &mut seen));
            assert_eq!(2 * counters.fetched_sectors, counters.global_sectors, "the second time from the cache");
            (counters.global_sectors / 2, counters.ideal_sectors / 2)
        };
        assert_eq!(count(4, 0, 4), (4, 4));
        assert_eq!(count(4, 16, 4), (5, 4), "not aligned to a sector");
        assert_eq!(count(128, 0, 4), (32, 4));
        assert_eq!(count(16, 0, 16), (16, 16));
        assert_eq!(count(0, 0, 4), (1, 1), "one word for all");
    }

    #[test]
    fn banks_conflict_where_their_words_differ() {
        let count = |stride: u64, size: usize| {
            let mut counters = Counters::default();
            counters.shared(&(0..32).map(|i| i * stride).collect::<Vec<_>>(), size);
            counters.bank_conflicts
        };
        assert_eq!(count(4, 4), 0);
        assert_eq!(count(0, 4), 0, "one word for all");
        assert_eq!(count(8, 4), 1);
        assert_eq!(count(128, 4), 31);
        assert_eq!(count(16, 16), 0, "eight threads at a time");
    }
}
