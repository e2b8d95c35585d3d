//! Device memory: buffers far apart, so that every address tells which buffer it was meant for.

use super::races::Cell;

/// Each buffer has a range of addresses of this size for itself: an access out of bounds cannot hit another one.
const SLOT_BITS: u32 = 36;

/// One allocation.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Who touched each four bytes last.
    cells: Vec<Cell>,
}

/// All device memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// By slot; `None` after it was freed. A slot is never used twice, so that a stale address stays one.
    buffers: Vec<Option<Buffer>>,
    used: usize,
}

/// Why an address cannot be accessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotThere(pub String);

impl Memory {
    /// A new buffer, filled with bytes that read as NaN, and its address.
    pub fn allocate(&mut self, len: usize) -> u64 {
        self.used += len;
        let cells = vec![Cell::default(); len.div_ceil(4)];
        self.buffers.push(Some(Buffer { bytes: vec![0xFF; len], cells }));
        (self.buffers.len() as u64) << SLOT_BITS
    }

    /// The address that the next allocation will have.
    pub fn next_address(&self) -> u64 {
        (self.buffers.len() as u64 + 1) << SLOT_BITS
    }

    /// Frees the buffer at this address; `false` if none begins there.
    pub fn free(&mut self, address: u64) -> bool {
        let (slot, offset) = locate(address);
        match self.buffers.get_mut(slot).and_then(Option::take) {
            Some(buffer) if offset == 0 => {
                self.used -= buffer.bytes.len();
                true
            }
            other => {
                if let Some(entry) = self.buffers.get_mut(slot) {
                    *entry = other;
                }
                false
            }
        }
    }

    /// Bytes allocated.
    pub fn used(&self) -> usize {
        self.used
    }

    /// `len` bytes at an address, if all of them lie in a buffer that is alive.
    pub fn bytes(&mut self, address: u64, len: usize) -> Result<&mut [u8], NotThere> {
        self.access(address, len).map(|(bytes, _)| bytes)
    }

    /// And who touched them.
    pub(super) fn access(&mut self, address: u64, len: usize) -> Result<(&mut [u8], &mut [Cell]), NotThere> {
        let (slot, offset) = locate(address);
        let Some(entry) = self.buffers.get_mut(slot) else {
            return Err(NotThere(format!("address {address:#x}, where no buffer has ever been")));
        };
        let Some(Buffer { bytes, cells }) = entry else {
            return Err(NotThere(format!("address {address:#x}, in a buffer that was freed")));
        };
        let size = bytes.len();
        if offset + len > size {
            return Err(NotThere(format!("offset {offset} of a buffer of {size} bytes")));
        }
        Ok((&mut bytes[offset..offset + len], &mut cells[offset / 4..(offset + len).div_ceil(4)]))
    }
}

fn locate(address: u64) -> (usize, usize) {
    let slot = (address >> SLOT_BITS) as usize;
    (slot.wrapping_sub(1), (address & ((1 << SLOT_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_inside_one_living_buffer_or_refused() {
        let mut memory = Memory::default();
        let (a, b) = (memory.allocate(10), memory.allocate(4));
        assert_eq!(memory.bytes(a + 6, 4).unwrap(), [0xFF; 4], "new memory reads as NaN");
        for (address, len) in [(a + 7, 4), (a - 1, 1), (b + 4, 1), (0, 1), (u64::MAX, 1)] {
            assert!(memory.bytes(address, len).is_err(), "{address:#x}");
        }
        assert!(!memory.free(a + 2) && memory.free(a) && !memory.free(a));
        assert!(memory.bytes(a, 1).unwrap_err().0.contains("freed"));
        assert_ne!(memory.allocate(10), a, "a stale address stays stale");
        assert_eq!(memory.used(), 14);
    }
}
