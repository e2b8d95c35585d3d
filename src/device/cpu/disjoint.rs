//! A slice that tasks write in parallel, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that may be shared between tasks which write disjoint ranges of it.
#[derive(Debug)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Disjoint` gives out `&mut [T]` only through `range`, whose contract forbids overlap, so sharing it
// between threads is sending each of them a part of the slice.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: it is as good as the `&mut [T]` from which it was made.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[allow(clippy::mut_from_ref)] // that is what it is for
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part lies within the slice");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
