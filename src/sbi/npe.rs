//! Neural posterior estimation: train a conditional density on (θ, x) pairs and read it at the observation.
//!
//! For a density family, minimising $-\mathbb E_{p(\theta) p(x|\theta)} \ln q(\theta \mid x)$ minimises the average Kullback-Leibler
//! divergence from the posterior to q (Papamakarios & Murray 2016; Greenberg et al. 2019).

use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::models::{Family, RealNvp, Trained};
use crate::real::Real;
use crate::sbi::{Dataset, Estimator, Origin, Posterior};
use crate::train::{Epoch, History, Training};

/// Settings of an estimator: the density family, and how it is trained.
///
/// ```no_run
/// # fn run(data: retrodict::Dataset) -> Result<(), retrodict::Error> {
/// use retrodict::{Device, Npe, models::RealNvp, train::Training};
///
/// // Another family is another line here.
/// let family = RealNvp { layers: 10, ..RealNvp::default() };
/// let estimator = Npe { training: Training { batch: 200, ..Training::default() }, ..Npe::new(family) };
/// let (posterior, history) = estimator.fit(&Device::cpu(), &data)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Npe<F = RealNvp> {
    /// The density family.
    pub family: F,
    /// How it is trained.
    pub training: Training,
    /// Seed of the initial parameters.
    pub seed: u64,
}

impl<F> Npe<F> {
    /// This family with the default training and seed 0.
    pub fn new(family: F) -> Self {
        Self { family, training: Training::default(), seed: 0 }
    }

    /// Trains on the data set.
    ///
    /// # Errors
    /// What [`Npe::fit_with`] says.
    pub fn fit<T: Real>(&self, device: &Device, data: &Dataset<T>) -> Result<(Posterior<T, F::Model>, History), Error>
    where
        F: Family<T>,
    {
        self.fit_with(device, data, |_| ControlFlow::Continue(()))
    }

    /// The same, telling `on_epoch` of each epoch; it may break off the training.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be, [`Error::Training`] if the training diverges.
    pub fn fit_with<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
    ) -> Result<(Posterior<T, F::Model>, History), Error>
    where
        F: Family<T>,
    {
        let mut on_epoch = on_epoch;
        let problem = data.problem(device, &self.training, self.seed);
        let Trained { model, store, history } = self.family.train(&problem, &mut on_epoch)?;
        let known = |family| Estimator::Npe(Npe { family, training: self.training.clone(), seed: self.seed });
        let estimator = self.family.settings().map(known);
        let origin = Origin { estimator, prior: None, data: data.summary(), history: history.clone() };
        Ok((Posterior::new(device, &data.scales, (model, store), origin), history))
    }
}
