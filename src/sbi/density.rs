//! Density estimation without observations: learn p(x) from a table, draw from it, evaluate it.

use std::ops::ControlFlow;

use ndarray::{Array1, Array2, ArrayView2};

use crate::device::Device;
use crate::error::Error;
use crate::models::{Density, Family, Generative};
use crate::real::Real;
use crate::sbi::{Dataset, DatasetOptions, Npe, Posterior, Support};
use crate::train::{Epoch, History};

/// A learned density p(x) in the units of its table: a posterior given nothing.
#[derive(Debug)]
pub struct Learned<T: Real = f32, M: ?Sized = dyn Density<T>>(Posterior<T, M>);

impl<F> Npe<F> {
    /// Learns the density of the rows of a table, `[rows x parameters]`, on its support.
    ///
    /// ```
    /// use retrodict::{Device, Npe, Support, models::RealNvp, tasks::Target, train::Training};
    /// let table = Target::TwoMoons.sample(300, 1);
    /// let estimator = Npe {
    ///     training: Training { max_epochs: 2, ..Training::default() },
    ///     ..Npe::new(RealNvp { layers: 2, hidden: vec![8], ..RealNvp::default() })
    /// };
    /// let support = Support::new().real("x").real("y").build()?;
    /// let (density, _) = estimator.learn::<f32>(&Device::cpu(), &support, table.view(), |_| {
    ///     std::ops::ControlFlow::Continue(())
    /// })?;
    /// let draws = density.sample(10, 2)?; // [10 x 2]
    /// assert!(density.log_prob(draws.view())?.iter().all(|l| l.is_finite()));
    /// # Ok::<(), retrodict::Error>(())
    /// ```
    ///
    /// # Errors
    /// What [`Dataset::new`] and [`Npe::fit_with`] say.
    pub fn learn<T: Real>(
        &self,
        device: &Device,
        support: &Support,
        table: ArrayView2<'_, f64>,
        on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
    ) -> Result<(Learned<T, F::Model>, History), Error>
    where
        F: Family<T>,
    {
        let data = Dataset::<T>::unconditional(support, table, DatasetOptions::default())?;
        let (posterior, history) = self.fit_with(device, &data, on_epoch)?;
        Ok((Learned(posterior), history))
    }
}

impl<T: Real, M: Generative<T> + ?Sized> Learned<T, M> {
    /// Draws, `[rows x parameters]`.
    ///
    /// # Errors
    /// [`Error::Sampling`] if a sampler diverges, [`Error::Cancelled`] if it was stopped.
    pub fn sample(&self, rows: usize, seed: u64) -> Result<Array2<f64>, Error> {
        self.0.sample(Array1::zeros(0).view(), rows, seed)
    }

    /// Writes the density to one file: see [`Posterior::save`].
    ///
    /// # Errors
    /// As [`Posterior::save`].
    #[cfg(feature = "weights")]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<(), Error> {
        self.0.save(path)
    }

    /// The same density as a posterior whose observations have no feature.
    pub fn as_posterior(&self) -> &Posterior<T, M> {
        &self.0
    }
}

#[cfg(feature = "weights")]
impl<T: Real, M: crate::sbi::Loadable<T> + ?Sized> Learned<T, M> {
    /// Reads a density from its file: see [`Posterior::load`].
    ///
    /// # Errors
    /// As [`Posterior::load`], and [`Error::File`] if the file holds a posterior that needs observations.
    pub fn load(device: &Device, path: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        let posterior = Posterior::load(device, &path)?;
        match posterior.features() {
            0 => Ok(Self(posterior)),
            n => Err(Error::file(path.as_ref(), format!("a posterior given {n} features, not a density of its own"))),
        }
    }
}

impl<T: Real, M: Density<T> + ?Sized> Learned<T, M> {
    /// ln p(x) in nats of each row; -∞ outside the support.
    ///
    /// # Errors
    /// As [`Posterior::log_prob`].
    pub fn log_prob(&self, table: ArrayView2<'_, f64>) -> Result<Array1<f64>, Error> {
        self.0.log_prob(table, Array1::zeros(0).view())
    }
}
