//! Neural ratio estimation (Hermans, Begy & Louppe 2020) learns ln p(x | θ) / p(x) as the logit of a classifier that tells
//! pairs (θ, x) that belong together from pairs that do not.

use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::Generative;
use crate::nn::WavedMlp;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::sample::{Hmc, LogDensity, Sampler};
use crate::sbi::learned_prior::{Evidence, LearnedPrior};
use crate::sbi::{Dataset, Estimator, Posterior, Prior, Scales};
use crate::store::Layout;
#[cfg(feature = "weights")]
use crate::train::Epoch;
use crate::train::{History, OnEpoch, Source, Training};

/// Settings of neural ratio estimation.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Nre {
    /// Widths of the classifier's hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// Octaves of sines and cosines of each parameter that the classifier sees beside it, for fine structure.
    #[cfg_attr(feature = "weights", serde(default))]
    pub waves: u8,
    /// How it is trained.
    pub training: Training,
    /// How the posterior is sampled.
    pub hmc: Hmc,
    /// Seed of the initial parameters.
    pub seed: u64,
}

impl Default for Nre {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64, 64],
            activation: Activation::Silu,
            waves: 0,
            training: Training::default(),
            hmc: Hmc::default(),
            seed: 0,
        }
    }
}

impl Nre {
    /// Trains the classifier on the data set, each row against the θ of another one.
    ///
    /// # Errors
    /// As [`Nle::fit`](crate::sbi::Nle::fit).
    pub fn fit<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        prior: &Prior,
    ) -> Result<(Posterior<T, RatioModel>, History), Error> {
        self.fit_kept(&Evidence { device, data, prior, checkpoints: None }, &mut |_| ControlFlow::Continue(()))
    }

    /// The same, taken up where `checkpoint` left it: see [`Npe::fit_resumable`](crate::Npe::fit_resumable).
    ///
    /// # Errors
    /// As both.
    #[cfg(feature = "weights")]
    pub fn fit_resumable<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        prior: &Prior,
        checkpoint: &crate::sbi::Checkpoint,
        mut on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
    ) -> Result<(Posterior<T, RatioModel>, History), Error> {
        let kept = checkpoint.of(self.known(), data)?;
        self.fit_kept(&Evidence { device, data, prior, checkpoints: Some(&kept) }, &mut on_epoch)
    }

    fn fit_kept<T: Real>(
        &self,
        evidence: &Evidence<'_, T>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(Posterior<T, RatioModel>, History), Error> {
        let problem = evidence.problem(&self.training, self.seed);
        let mut layout = Layout::new();
        let model = self.model(&mut layout, evidence.prior.clone(), &evidence.data.scales)?;
        let network = &model.network;
        let loss = |graph: &mut Graph<T>, theta: Var, x: &[Var], other: &[Var]| {
            let mut cost = |theta: Var, sign: f64| {
                let logit = network.forward(graph, theta, x)?;
                let signed = graph.scale(logit, sign)?;
                graph.map(Activation::Softplus, signed)
            };
            let (together, apart) = (cost(theta, -1.0)?, cost(other[0], 1.0)?);
            graph.add(together, apart)
        };
        let trained = problem.minimise(layout, &[Source::Next(problem.theta)], loss, on_epoch)?;
        Ok(evidence.posterior(self.known(), model, trained))
    }

    fn known(&self) -> Option<Estimator> {
        Some(Estimator::Nre(self.clone()))
    }

    /// Registers an untrained ratio.
    pub(super) fn model(&self, layout: &mut Layout, prior: Prior, scales: &Scales) -> Result<RatioModel, Error> {
        let prior = LearnedPrior::new(prior, scales)?;
        let (dim, context) = (scales.theta.width(), scales.x.width());
        let (scope, widths) = (&mut layout.scope("ratio"), (dim, context, 1));
        let network = WavedMlp::new(scope, widths, &self.hidden, self.waves, self.activation)?;
        Ok(RatioModel { dim, context, network, prior, hmc: self.hmc })
    }
}

/// A learned ratio with its prior.
#[derive(Debug)]
pub struct RatioModel {
    dim: usize,
    context: usize,
    network: WavedMlp,
    prior: LearnedPrior,
    hmc: Hmc,
}

impl<T: Real> LogDensity<T> for RatioModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn log_density(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        let ratio = self.network.forward(graph, theta, context)?;
        let prior = self.prior.record(graph, theta)?;
        graph.add(ratio, prior)
    }
}

impl<T: Real> Generative<T> for RatioModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        Ok(Box::new(self.hmc.compile(device, self)?))
    }
}
