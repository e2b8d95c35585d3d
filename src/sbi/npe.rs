//! Neural posterior estimation: train a conditional density on (θ, x) pairs and read it at the observation.
//!
//! For a density family, minimising $-\mathbb E_{p(\theta) p(x|\theta)} \ln q(\theta \mid x)$ minimises the average Kullback-Leibler
//! divergence from the posterior to q (Papamakarios & Murray 2016; Greenberg et al. 2019).

use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::models::{Family, Problem, RealNvp, Trained};
use crate::real::Real;
use crate::sbi::{Dataset, Estimator, Origin, Posterior};
use crate::train::{Checkpoints, Epoch, History, Training};

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
        self.fit_kept(device, data, None, on_epoch)
    }

    /// The same, taken up where `checkpoint` left it, if it has begun before, and leaving checkpoints. However often it
    /// is interrupted, the weights are in the end those of a training that never was, bit for bit.
    ///
    /// # Errors
    /// As [`Npe::fit_with`]; [`Error::File`] if the checkpoint cannot be read or written, or says that it belongs to
    /// another training and in what they differ; [`Error::Parameter`] if the family is not one of this library's.
    #[cfg(feature = "weights")]
    pub fn fit_resumable<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        checkpoint: &crate::sbi::Checkpoint,
        on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
    ) -> Result<(Posterior<T, F::Model>, History), Error>
    where
        F: Family<T>,
    {
        let kept = checkpoint.of(self.known::<T>(), data)?;
        self.fit_kept(device, data, Some(&kept), on_epoch)
    }

    fn fit_kept<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        checkpoints: Option<&dyn Checkpoints<T>>,
        mut on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
    ) -> Result<(Posterior<T, F::Model>, History), Error>
    where
        F: Family<T>,
    {
        let problem = Problem { checkpoints, ..data.problem(device, &self.training, self.seed) };
        let Trained { model, store, history } = self.family.train(&problem, &mut on_epoch)?;
        let origin =
            Origin { estimator: self.known::<T>(), prior: None, data: data.summary(), history: history.clone() };
        Ok((Posterior::new(device, &data.scales, (model, store), origin), history))
    }

    /// The settings, if the family is one of this library's.
    fn known<T: Real>(&self) -> Option<Estimator>
    where
        F: Family<T>,
    {
        let Self { training, seed, .. } = self;
        let known = |family| Estimator::Npe(Npe { family, training: training.clone(), seed: *seed });
        self.family.settings().map(known)
    }
}
