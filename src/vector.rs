//! A vector of numbers that lives on the processor, and on a CUDA device while one works on it.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::cpu::aligned::Aligned;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Buffer, Cuda};
use crate::error::Error;
use crate::real::Real;

/// A flat vector of a [`Store`](crate::Store), which is copied between processor and device only when the other side has
/// changed it.
///
/// It reads as a slice on the processor. If the device has failed and nothing can be copied back, that slice is NaN.
#[derive(Debug)]
pub struct Vector<T> {
    /// Empty while the device's copy is newer.
    host: OnceLock<Aligned<T>>,
    #[cfg(feature = "cuda")]
    device: Mutex<OnDevice<T>>,
}

/// The device's copy.
#[cfg(feature = "cuda")]
#[derive(Debug, Default)]
struct OnDevice<T> {
    buffer: Option<Arc<Buffer<T>>>,
    /// Whether the processor has changed the vector since.
    old: bool,
}

/// What a plan takes for the parameters of its graph: a slice, or a vector of a [`Store`](crate::Store).
///
/// To a device a slice is copied for each replay, a vector only if it has changed.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a, T> {
    /// Numbers.
    Slice(&'a [T]),
    /// What a store keeps.
    Stored(&'a Vector<T>),
}

impl<T: Real> Parameters<'_, T> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Slice(values) => values.len(),
            Self::Stored(vector) => vector.count(),
        }
    }
}

impl<'a, T: Real> Parameters<'a, T> {
    /// Their values on the processor.
    pub fn values(self) -> &'a [T] {
        match self {
            Self::Slice(values) => values,
            Self::Stored(vector) => vector,
        }
    }
}

impl<'a, T> From<&'a [T]> for Parameters<'a, T> {
    fn from(values: &'a [T]) -> Self {
        Self::Slice(values)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Parameters<'a, T> {
    fn from(values: &'a [T; N]) -> Self {
        Self::Slice(values)
    }
}

impl<'a, T> From<&'a Vec<T>> for Parameters<'a, T> {
    fn from(values: &'a Vec<T>) -> Self {
        Self::Slice(values)
    }
}

impl<'a, T> From<&'a Vector<T>> for Parameters<'a, T> {
    fn from(vector: &'a Vector<T>) -> Self {
        Self::Stored(vector)
    }
}

impl<T: Real> From<Vec<T>> for Vector<T> {
    fn from(values: Vec<T>) -> Self {
        Self {
            host: OnceLock::from(Aligned::from(&values[..])),
            #[cfg(feature = "cuda")]
            device: Mutex::new(OnDevice { buffer: None, old: true }),
        }
    }
}

impl<T: Real> Clone for Vector<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: Real> PartialEq for Vector<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Real> Deref for Vector<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.host.get_or_init(|| self.read_back())
    }
}

impl<'a, T: Real> IntoIterator for &'a Vector<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Real> DerefMut for Vector<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.host.get().is_none() {
            self.host = OnceLock::from(self.read_back());
        }
        #[cfg(feature = "cuda")]
        {
            self.copy_mut().old = true;
        }
        self.host.get_mut().map_or(&mut [], |values| &mut values[..])
    }
}

impl<T: Real> Vector<T> {
    /// So many elements; zeros if it had another number of them.
    pub(crate) fn resize(&mut self, len: usize) {
        if self.count() != len {
            *self = vec![T::ZERO; len].into();
        }
    }

    /// So many elements, all of which the caller sets.
    pub(crate) fn renew(&mut self, len: usize) -> &mut [T] {
        self.resize(len);
        if self.host.get().is_none() {
            self.host = OnceLock::from(Aligned::zeros(len));
        }
        self
    }
}

#[cfg(not(feature = "cuda"))]
impl<T: Real> Vector<T> {
    /// Without a device the host's copy is always there.
    fn read_back(&self) -> Aligned<T> {
        Aligned::zeros(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.len()
    }

    /// Takes the values of another vector of the same length.
    pub(crate) fn take(&mut self, other: &Self) -> Result<(), Error> {
        self.copy_from_slice(other);
        Ok(())
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Vector<T> {
    fn copy(&self) -> MutexGuard<'_, OnDevice<T>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy_mut(&mut self) -> &mut OnDevice<T> {
        self.device.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its length, for which nothing is copied.
    pub(crate) fn count(&self) -> usize {
        self.host.get().map_or_else(|| self.copy().buffer.as_ref().map_or(0, |buffer| buffer.len()), |host| host.len())
    }

    fn read_back(&self) -> Aligned<T> {
        let Some(buffer) = self.copy().buffer.clone() else { return Aligned::zeros(0) };
        let _turn = buffer.cuda().turn();
        let mut values = Aligned::zeros(buffer.len());
        if buffer.read(0, &mut values).is_err() {
            values.fill(T::from_f64(f64::NAN));
        }
        values
    }

    /// The values on a device, to be read there.
    pub(crate) fn on_device(&self, cuda: &Arc<Cuda>) -> Result<Arc<Buffer<T>>, Error> {
        let mut copy = self.copy();
        if let Some(buffer) = copy.buffer.clone().filter(|buffer| buffer.is_on(cuda)) {
            if let (true, Some(values)) = (copy.old, self.host.get()) {
                buffer.write(0, values)?;
            }
            copy.old = false;
            return Ok(buffer);
        }
        // It may have to be read back from another device.
        drop(copy);
        let buffer = Arc::new(Buffer::of(cuda, self)?);
        *self.copy() = OnDevice { buffer: Some(buffer.clone()), old: false };
        Ok(buffer)
    }

    /// The values on a device, to be changed there.
    pub(crate) fn on_device_mut(&mut self, cuda: &Arc<Cuda>) -> Result<Arc<Buffer<T>>, Error> {
        let buffer = self.on_device(cuda)?;
        self.host = OnceLock::new();
        Ok(buffer)
    }

    /// Takes the values of another vector of the same length, on the device if that is where they are.
    pub(crate) fn take(&mut self, other: &Self) -> Result<(), Error> {
        let newer = other.copy().buffer.clone().filter(|_| other.host.get().is_none());
        let Some(from) = newer else {
            self.copy_from_slice(other);
            return Ok(());
        };
        let _turn = from.cuda().turn();
        let own = self.copy_mut().buffer.take().filter(|buffer| buffer.is_on(from.cuda()));
        let buffer = own.map_or_else(|| Ok(Arc::new(Buffer::new(from.cuda(), from.len())?)), Ok::<_, Error>)?;
        buffer.copy_from(&from)?;
        self.host = OnceLock::new();
        *self.copy_mut() = OnDevice { buffer: Some(buffer), old: false };
        Ok(())
    }
}
