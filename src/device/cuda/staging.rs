//! What a replay reads, on its way to the device.
//!
//! It is laid into page-locked memory and goes in one copy, in a stream of its own. There are two places for it, which
//! take turns: while the device works on what lies in one, the processor fills the other and the copy engine empties it.

use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, result};

use super::{Address, Buffer, Cuda, failed};
use crate::error::Error;

/// Words to whose multiples parts are rounded up: a sector of 32 bytes.
const SECTOR: usize = 4;

/// Words that so many elements take.
pub(crate) fn words<T>(elements: usize) -> usize {
    (elements * size_of::<T>()).div_ceil(SECTOR * size_of::<u64>()) * SECTOR
}

/// Page-locked memory, from which the device copies while the processor goes on.
#[derive(Debug)]
struct Pinned {
    cuda: Arc<Cuda>,
    start: NonNull<u64>,
    words: usize,
}

// SAFETY: it is memory of its owner, which any thread may use.
unsafe impl Send for Pinned {}
// SAFETY: there is no method that writes through `&self`.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Memory of zeros.
    fn new(cuda: &Arc<Cuda>, words: usize) -> Result<Self, Error> {
        cuda.stream()?;
        // SAFETY: the memory is written before it is read.
        let start = unsafe { result::malloc_host(words * size_of::<u64>(), 0) };
        let start = start.map_err(failed("allocate page-locked memory"))?.cast::<u64>();
        let none = || Error::Device { what: "allocate page-locked memory", why: "it has no address".into() };
        let start = NonNull::new(start).ok_or_else(none)?;
        // SAFETY: the memory is ours, and as long.
        unsafe { start.write_bytes(0, words) };
        Ok(Self { cuda: cuda.clone(), start, words })
    }

    fn words(&self) -> &[u64] {
        // SAFETY: the memory is as long, was filled with zeros, and lives as long as this.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// `len` elements from a word on.
    fn elements_mut<T: Copy>(&mut self, word: usize, len: usize) -> &mut [T] {
        assert!(word + words::<T>(len) <= self.words && align_of::<T>() <= align_of::<u64>());
        // SAFETY: in bounds and aligned; the elements are numbers, for which all bits stand for something.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(word).cast().as_ptr(), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy from it may be under way. An error would leave nothing to do.
        if self.cuda.synchronize_all().is_ok() {
            // SAFETY: nothing uses the memory any more.
            let _ = unsafe { result::free_host(self.start.as_ptr().cast()) };
        }
    }
}

/// One of the two places: memory on both sides, and how far their last use has come.
#[derive(Debug)]
struct Place {
    host: Pinned,
    device: Buffer<u64>,
    /// The copy has run: the processor may write again.
    copied: CudaEvent,
    /// The work has run: the device's side may be overwritten.
    used: CudaEvent,
}

impl Place {
    fn new(cuda: &Arc<Cuda>, words: usize) -> Result<Self, Error> {
        let event = || cuda.context.new_event(None).map_err(failed("create an event"));
        Ok(Self {
            host: Pinned::new(cuda, words)?,
            device: Buffer::new(cuda, words)?,
            copied: event()?,
            used: event()?,
        })
    }
}

/// Two places that take turns.
#[derive(Debug)]
pub(crate) struct Staging {
    cuda: Arc<Cuda>,
    places: [Option<Place>; 2],
    turn: usize,
}

impl Staging {
    pub fn new(cuda: &Arc<Cuda>) -> Self {
        Self { cuda: cuda.clone(), places: [None, None], turn: 0 }
    }

    /// Lets `fill` lay at most so many words into the place whose turn it is, and copies them: what is given to the device
    /// next finds them there.
    pub fn send<R>(
        &mut self,
        words: usize,
        fill: impl FnOnce(&mut Packet<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.turn = 1 - self.turn;
        let entry = &mut self.places[self.turn];
        if entry.as_ref().is_none_or(|place| place.device.len() < words) {
            *entry = None;
        }
        let place = match entry {
            Some(place) => place,
            None => entry.insert(Place::new(&self.cuda, words.max(SECTOR).next_power_of_two())?),
        };
        place.copied.synchronize().map_err(failed("wait for a copy"))?;
        let mut packet = Packet { place, filled: 0 };
        let filled = fill(&mut packet)?;
        packet.send(&self.cuda)?;
        Ok(filled)
    }

    /// The work that reads what was sent last has been given.
    pub fn used(&self) -> Result<(), Error> {
        let Some(place) = &self.places[self.turn] else { return Ok(()) };
        place.used.record(&self.cuda.stream).map_err(failed("record an event"))
    }
}

/// A place that is being filled.
pub(crate) struct Packet<'a> {
    place: &'a mut Place,
    filled: usize,
}

impl Packet<'_> {
    /// Room for so many elements, and where they will lie on the device.
    pub fn room<T: Copy>(&mut self, len: usize) -> (&mut [T], Address<T>) {
        let start = self.filled;
        self.filled += words::<T>(len);
        (self.place.host.elements_mut(start, len), self.place.device.address().at(start).cast())
    }

    /// These elements.
    pub fn put<T: Copy>(&mut self, values: &[T]) -> Address<T> {
        let (room, address) = self.room(values.len());
        room.copy_from_slice(values);
        address
    }

    fn send(&self, cuda: &Cuda) -> Result<(), Error> {
        let Place { host, device, copied, used } = &*self.place;
        cuda.stream()?;
        cuda.copies.wait(used).map_err(failed("wait for an event"))?;
        let (to, from) = (device.address().raw(), &host.words()[..self.filled]);
        // SAFETY: in bounds; the processor waits for `copied` before it writes to the memory again.
        unsafe { result::memcpy_htod_async(to, from, cuda.copies.cu_stream()) }
            .map_err(failed("copy to the device"))?;
        copied.record(&cuda.copies).map_err(failed("record an event"))?;
        cuda.stream.wait(copied).map_err(failed("wait for an event"))
    }
}
