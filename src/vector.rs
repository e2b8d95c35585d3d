//! A vector of numbers that lives on the processor, and on a CUDA device while one works on it.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use std::sync::Arc;

use crate::device::cpu::aligned::Aligned;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Buffer, Cuda};
#[cfg(feature = "cuda")]
use crate::error::Error;
use crate::real::Real;

/// A vector that is copied between processor and device only when the other side has changed it.
///
/// It reads as a slice on the processor. If the device has failed and nothing can be copied back, that slice is NaN.
#[derive(Debug)]
pub(crate) struct Vector<T> {
    /// Empty while the device's copy is newer.
    host: OnceLock<Aligned<T>>,
    #[cfg(feature = "cuda")]
    device: Option<Buffer<T>>,
    /// Whether the device's copy is old.
    #[cfg(feature = "cuda")]
    changed: bool,
}

impl<T: Real> From<Vec<T>> for Vector<T> {
    fn from(values: Vec<T>) -> Self {
        Self {
            host: OnceLock::from(Aligned::from(&values[..])),
            #[cfg(feature = "cuda")]
            device: None,
            #[cfg(feature = "cuda")]
            changed: true,
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

impl<T: Real> DerefMut for Vector<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.host.get().is_none() {
            self.host = OnceLock::from(self.read_back());
        }
        #[cfg(feature = "cuda")]
        {
            self.changed = true;
        }
        self.host.get_mut().map_or(&mut [], |values| &mut values[..])
    }
}

#[cfg(not(feature = "cuda"))]
impl<T: Real> Vector<T> {
    /// Without a device the host's copy is always there.
    fn read_back(&self) -> Aligned<T> {
        Aligned::zeros(0)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Vector<T> {
    fn read_back(&self) -> Aligned<T> {
        let Some(device) = &self.device else { return Aligned::zeros(0) };
        let mut values = Aligned::zeros(device.len());
        if device.read(0, &mut values).is_err() {
            values.fill(T::from_f64(f64::NAN));
        }
        values
    }

    /// The values on a device, to be read there.
    pub fn on_device(&mut self, cuda: &Arc<Cuda>) -> Result<&Buffer<T>, Error> {
        let there = self.device.as_ref().is_some_and(|buffer| buffer.is_on(cuda));
        if !there {
            let copy = Buffer::of(cuda, self)?;
            self.device = Some(copy);
        } else if let (true, Some(buffer), Some(values)) = (self.changed, &self.device, self.host.get()) {
            buffer.write(0, values)?;
        }
        self.changed = false;
        self.device.as_ref().ok_or(Error::Device { what: "hold a vector", why: "it has no memory".into() })
    }

    /// The values on a device, to be changed there.
    pub fn on_device_mut(&mut self, cuda: &Arc<Cuda>) -> Result<&Buffer<T>, Error> {
        self.on_device(cuda)?;
        self.host = OnceLock::new();
        self.on_device(cuda)
    }
}
