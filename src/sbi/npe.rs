//! Neural posterior estimation: train a conditional density on (θ, x) pairs and read it at the observation.
//!
//! Minimising $-\mathbb E_{p(\theta) p(x|\theta)} \ln q(\theta \mid x)$ minimises the average Kullback-Leibler
//! divergence from the posterior to q (Papamakarios & Murray 2016; Greenberg et al. 2019).

use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::graph::Graph;
use crate::models::{Family, RealNvp};
use crate::plan::Request;
use crate::real::Real;
use crate::sbi::{Dataset, Posterior};
use crate::store::{Layout, Store};
use crate::train::{Epoch, History, Training, fit};

/// Settings of an estimator: the density family, and how it is trained.
///
/// ```no_run
/// # fn run(data: retrodict::Dataset) -> Result<(), retrodict::Error> {
/// use retrodict::{Device, Npe, models::RealNvp, train::Training};
///
/// let family = RealNvp { layers: 10, ..RealNvp::default() };
/// let estimator = Npe { training: Training { batch: 200, ..Training::default() }, ..Npe::new(family) };
/// let (posterior, history) = estimator.fit(&Device::cpu(), &data)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
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
    pub fn fit<T: Real>(&self, device: &Device, data: &Dataset<T>) -> Result<(Posterior<T>, History), Error>
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
    ) -> Result<(Posterior<T>, History), Error>
    where
        F: Family<T>,
    {
        let (dim, features) = (data.support.dim(), data.features());
        let mut layout = Layout::new();
        let density = self.family.build(&mut layout.scope("posterior"), dim, features)?;
        let mut store = Store::new(layout, self.seed);

        let mut graph = Graph::new();
        let theta = graph.input("theta", dim)?;
        let x = graph.input("x", features)?;
        let log_prob = density.log_prob(&mut graph, theta, x)?;
        let loss = graph.scale(log_prob, -1.0)?;
        let all = 0..store.layout().len();
        let request = Request::outputs(&[loss]).with_parameter_gradients(all.clone());
        let mut plan = graph.compile(device, &request)?;

        let tables = data.tables();
        let set = data.training_set(&tables);
        let history = fit(device, &mut store, &mut plan, all, &set, &self.training, on_epoch)?;
        Ok((Posterior::new(device, data, density, store), history))
    }
}
