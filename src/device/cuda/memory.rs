//! Device memory.

use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Cuda, failed};
use crate::error::Error;

/// An address in device memory; 0 for none.
#[derive(Debug, PartialEq, Eq)]
pub struct Address<T>(sys::CUdeviceptr, PhantomData<T>);

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Address<T> {}

impl<T> Address<T> {
    /// No address: what a kernel takes for "not wanted".
    pub const NONE: Self = Self(0, PhantomData);

    /// The address so many elements further on.
    pub fn at(self, elements: usize) -> Self {
        Self(self.0 + (elements * size_of::<T>()) as u64, PhantomData)
    }

    /// The address so many elements before, from where offsets count.
    pub fn before(self, elements: usize) -> Self {
        Self(self.0.wrapping_sub((elements * size_of::<T>()) as u64), PhantomData)
    }

    /// The same address, for elements of another type.
    pub(crate) fn cast<U>(self) -> Address<U> {
        Address(self.0, PhantomData)
    }

    pub(crate) fn raw(self) -> u64 {
        self.0
    }
}

/// Elements in device memory.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    cuda: Arc<Cuda>,
    address: Address<T>,
    len: usize,
}

impl<T: Copy> Buffer<T> {
    /// Memory with nothing in it yet. A buffer of no element has memory for one.
    pub fn new(cuda: &Arc<Cuda>, len: usize) -> Result<Self, Error> {
        cuda.stream()?;
        let bytes = len.max(1) * size_of::<T>();
        // SAFETY: nothing reads the memory before it is written.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(failed("allocate device memory"))?;
        Ok(Self { cuda: cuda.clone(), address: Address(address, PhantomData), len })
    }

    /// Memory with a copy of these.
    pub fn of(cuda: &Arc<Cuda>, values: &[T]) -> Result<Self, Error> {
        let buffer = Self::new(cuda, values.len())?;
        buffer.write(0, values)?;
        Ok(buffer)
    }

    pub fn cuda(&self) -> &Arc<Cuda> {
        &self.cuda
    }

    pub fn is_on(&self, cuda: &Arc<Cuda>) -> bool {
        Arc::ptr_eq(&self.cuda, cuda)
    }

    pub fn address(&self) -> Address<T> {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies to the device, from element `start` on.
    pub fn write(&self, start: usize, values: &[T]) -> Result<(), Error> {
        self.check(start, values.len())?;
        let stream = self.cuda.stream()?;
        // SAFETY: in bounds; the driver has taken a copy of pageable memory when it returns.
        unsafe { result::memcpy_htod_async(self.address.at(start).0, values, stream) }
            .map_err(failed("copy to the device"))
    }

    /// Copies from the device, from element `start` on.
    pub fn read(&self, start: usize, values: &mut [T]) -> Result<(), Error> {
        self.check(start, values.len())?;
        let stream = self.cuda.stream()?;
        // SAFETY: in bounds, and waited for while `values` is borrowed.
        unsafe { result::memcpy_dtoh_async(values, self.address.at(start).0, stream) }
            .map_err(failed("copy from the device"))?;
        self.cuda.synchronize()
    }

    /// Copies from another buffer of the device, all of it.
    pub fn copy_from(&self, other: &Self) -> Result<(), Error> {
        self.check(0, other.len)?;
        let (stream, bytes) = (self.cuda.stream()?, other.len * size_of::<T>());
        // SAFETY: in bounds; both buffers live until the work that uses them is done.
        unsafe { result::memcpy_dtod_async(self.address.0, other.address.0, bytes, stream) }
            .map_err(failed("copy on the device"))
    }

    fn check(&self, start: usize, len: usize) -> Result<(), Error> {
        crate::error::check_length("elements of a device buffer", self.len.max(start + len), self.len)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Work that uses the memory may still be under way. An error would leave nothing to do.
        if self.cuda.synchronize_all().is_ok() {
            // SAFETY: nothing uses the memory any more.
            let _ = unsafe { result::free_sync(self.address.0) };
        }
    }
}
