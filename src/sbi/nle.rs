//! Neural likelihood estimation (Papamakarios, Sterratt & Murray 2019) learns q(x | θ) with any [`ExplicitFamily`]: the
//! sampler differentiates q with respect to θ, so it must have a formula. The density of a diffusion is an integral along
//! a flow, each row with steps of its own, and that of an energy model wants its Z(θ).

use std::fmt::Debug;
use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::models::{ExplicitDensity, ExplicitFamily, Generative, Problem};
use crate::real::Real;
use crate::sample::{Hmc, LogDensity, Sampler};
use crate::sbi::learned_prior::{Evidence, LearnedPrior};
use crate::sbi::{Dataset, Estimator, Posterior, Prior, Scales};
use crate::store::Layout;
#[cfg(feature = "weights")]
use crate::train::Epoch;
use crate::train::{History, OnEpoch, Training};

/// Settings of neural likelihood estimation.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Nle<F> {
    /// The family of q(x | θ).
    pub family: F,
    /// How it is trained.
    pub training: Training,
    /// How the posterior is sampled.
    pub hmc: Hmc,
    /// Seed of the initial parameters.
    pub seed: u64,
}

impl<F> Nle<F> {
    /// This family with the default training and sampling, and seed 0.
    pub fn new(family: F) -> Self {
        Self { family, training: Training::default(), hmc: Hmc::default(), seed: 0 }
    }

    /// Trains q(x | θ) on the data set; the posterior is for this prior, which may be another than the one that the
    /// simulations were drawn from, on the same support.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be and for data without features, [`Error::Length`] if prior and
    /// data differ in parameters, [`Error::Training`] if the training diverges.
    pub fn fit<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        prior: &Prior,
    ) -> Result<(Posterior<T, LikelihoodModel<T>>, History), Error>
    where
        F: ExplicitFamily<T>,
    {
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
    ) -> Result<(Posterior<T, LikelihoodModel<T>>, History), Error>
    where
        F: ExplicitFamily<T>,
    {
        let kept = checkpoint.of(self.known::<T>(), data)?;
        self.fit_kept(&Evidence { device, data, prior, checkpoints: Some(&kept) }, &mut on_epoch)
    }

    fn fit_kept<T: Real>(
        &self,
        evidence: &Evidence<'_, T>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(Posterior<T, LikelihoodModel<T>>, History), Error>
    where
        F: ExplicitFamily<T>,
    {
        let Problem { theta, dim, x, context, .. } = evidence.problem(&self.training, self.seed);
        let swapped =
            Problem { theta: x, dim: context, x: theta, context: dim, ..evidence.problem(&self.training, self.seed) };
        let mut layout = Layout::new();
        let model = self.model(&mut layout, evidence.prior.clone(), &evidence.data.scales)?;
        let loss = |graph: &mut Graph<T>, x: Var, theta: &[Var], _: &[Var]| {
            let log_prob = model.likelihood.log_prob(graph, x, theta)?;
            graph.scale(log_prob, -1.0)
        };
        let trained = swapped.minimise(layout, &[], loss, on_epoch)?;
        Ok(evidence.posterior(self.known::<T>(), model, trained))
    }

    /// The settings, if the family is one of this library's.
    fn known<T: Real>(&self) -> Option<Estimator>
    where
        F: ExplicitFamily<T>,
    {
        let Self { training, hmc, seed, .. } = self;
        let known = |family| Estimator::Nle(Nle { family, training: training.clone(), hmc: *hmc, seed: *seed });
        self.family.settings().map(known)
    }

    /// Registers an untrained likelihood.
    pub(super) fn model<T: Real>(
        &self,
        layout: &mut Layout,
        prior: Prior,
        scales: &Scales,
    ) -> Result<LikelihoodModel<T>, Error>
    where
        F: ExplicitFamily<T>,
    {
        let prior = LearnedPrior::new(prior, scales)?;
        let (theta, x) = (scales.theta.width(), scales.x.width());
        let likelihood = self.family.build(&mut layout.scope("likelihood"), x, theta)?;
        Ok(LikelihoodModel { likelihood, prior, hmc: self.hmc })
    }
}

/// A learned likelihood with its prior.
#[derive(Debug)]
pub struct LikelihoodModel<T> {
    likelihood: Box<dyn ExplicitDensity<T>>,
    prior: LearnedPrior,
    hmc: Hmc,
}

impl<T: Real> LogDensity<T> for LikelihoodModel<T> {
    fn dim(&self) -> usize {
        self.likelihood.context()
    }

    fn context(&self) -> usize {
        self.likelihood.dim()
    }

    fn log_density(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Var, Error> {
        let [x] = context else { return Err(Error::shape("likelihood", "needs one observation")) };
        let likelihood = self.likelihood.log_prob(graph, *x, &[theta])?;
        let prior = self.prior.record(graph, theta)?;
        graph.add(likelihood, prior)
    }
}

impl<T: Real> Generative<T> for LikelihoodModel<T> {
    fn dim(&self) -> usize {
        LogDensity::dim(self)
    }

    fn context(&self) -> usize {
        LogDensity::context(self)
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        Ok(Box::new(self.hmc.compile(device, self)?))
    }
}
