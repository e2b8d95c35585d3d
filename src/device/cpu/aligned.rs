//! Memory that begins with a cache line, so that no vector of a row of whole lines straddles two.

use std::ops::{Deref, DerefMut, Range};

use crate::real::Real;

/// Bytes of a cache line, and of the longest vectors.
const LINE: usize = 64;

/// A slice of which the first element lies at the beginning of a cache line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    memory: Vec<T>,
    used: Range<usize>,
}

impl<T: Real> Aligned<T> {
    pub fn zeros(len: usize) -> Self {
        let slack = LINE / size_of::<T>();
        let memory = vec![T::ZERO; len + slack];
        let start = memory.as_ptr().align_offset(LINE).min(slack);
        Self { memory, used: start..start + len }
    }
}

impl<T: Real> From<&[T]> for Aligned<T> {
    fn from(values: &[T]) -> Self {
        let mut copy = Self::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.used.clone()]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.used.clone()]
    }
}
