//! Posteriors known up to a constant: a learned likelihood or ratio times the prior, sampled by Hamiltonian Monte Carlo.
//!
//! - Neural likelihood estimation (Papamakarios, Sterratt & Murray 2019) learns q(x | θ) with any [`ExplicitFamily`]:
//!   the sampler differentiates q with respect to θ, so it must have a formula. The density of a diffusion is an integral
//!   along a flow, each row with steps of its own, and that of an energy model wants its Z(θ).
//! - Neural ratio estimation (Hermans, Begy & Louppe 2020) learns ln p(x | θ) / p(x) as the logit of a classifier that
//!   tells pairs (θ, x) that belong together from pairs that do not.

use std::fmt::Debug;
use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::models::{ExplicitDensity, ExplicitFamily, Generative, Problem};
use crate::nn::Mlp;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::sample::{Hmc, LogDensity, Sampler};
use crate::sbi::{Dataset, Estimator, Origin, Posterior, Prior, Scales, Standardise};
use crate::store::Layout;
#[cfg(feature = "weights")]
use crate::train::Epoch;
use crate::train::{Checkpoints, History, OnEpoch, Source, Training};

/// The prior in learned coordinates.
#[derive(Clone, Debug)]
struct LearnedPrior {
    prior: Prior,
    scale: Standardise,
}

impl LearnedPrior {
    fn new(prior: Prior, scales: &Scales) -> Result<Self, Error> {
        check_length("parameters of the prior (those of the data set)", scales.support.dim(), prior.dim())?;
        if scales.x.width() == 0 {
            let why = "the data set has no features: there is nothing whose likelihood could be learned";
            return Err(Error::parameter("x", why));
        }
        Ok(Self { prior, scale: scales.theta.clone() })
    }

    /// ln p(z) = ln p(θ) + ln |dθ/du| - ln |dz/du|
    fn log_prob(&self, z: &[f64]) -> f64 {
        let u: Vec<f64> = z.iter().enumerate().map(|(j, &z)| self.scale.inverse(j, z)).collect();
        let (support, mut theta) = (self.prior.support(), vec![0.0; z.len()]);
        match (support.constrain(&u, &mut theta), support.ln_det(&u)) {
            (Ok(()), Ok(ln_det)) => self.prior.log_prob(&theta) + ln_det - self.scale.ln_det(z),
            _ => f64::NEG_INFINITY,
        }
    }

    /// Records ln p(z). The gradient is a difference quotient: a prior is any code, and the Metropolis decision is made
    /// by the value alone.
    fn record<T: Real>(&self, graph: &mut Graph<T>, z: Var) -> Result<Var, Error> {
        const H: f64 = 1e-4;
        let own = self.clone();
        graph.log_density_function(z, move |z, gradient| {
            let mut z: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
            for (j, gradient) in gradient.iter_mut().enumerate() {
                let at = z[j];
                let [above, below] = [H, -H].map(|h| {
                    z[j] = at + h;
                    own.log_prob(&z)
                });
                z[j] = at;
                *gradient = T::from_f64((above - below) / (2.0 * H));
            }
            T::from_f64(own.log_prob(&z))
        })
    }
}

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
        self.fit_kept((device, data, prior), None, &mut |_| ControlFlow::Continue(()))
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
        self.fit_kept((device, data, prior), Some(&kept), &mut on_epoch)
    }

    fn fit_kept<T: Real>(
        &self,
        (device, data, prior): (&Device, &Dataset<T>, &Prior),
        checkpoints: Option<&dyn Checkpoints<T>>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(Posterior<T, LikelihoodModel<T>>, History), Error>
    where
        F: ExplicitFamily<T>,
    {
        let swapped = data.problem(device, &self.training, self.seed);
        let swapped = Problem {
            theta: swapped.x,
            dim: swapped.context,
            x: swapped.theta,
            context: swapped.dim,
            checkpoints,
            ..swapped
        };
        let mut layout = Layout::new();
        let model = self.model(&mut layout, prior.clone(), &data.scales)?;
        let loss = |graph: &mut Graph<T>, x: Var, theta: &[Var], _: &[Var]| {
            let log_prob = model.likelihood.log_prob(graph, x, theta)?;
            graph.scale(log_prob, -1.0)
        };
        let (store, history) = swapped.minimise(layout, &[], loss, on_epoch)?;
        let origin = Origin {
            estimator: self.known::<T>(),
            prior: Some(prior.clone()),
            data: data.summary(),
            history: history.clone(),
        };
        Ok((Posterior::new(device, &data.scales, (Box::new(model), store), origin), history))
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

/// Settings of neural ratio estimation.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Nre {
    /// Widths of the classifier's hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
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
    /// As [`Nle::fit`].
    pub fn fit<T: Real>(
        &self,
        device: &Device,
        data: &Dataset<T>,
        prior: &Prior,
    ) -> Result<(Posterior<T, RatioModel>, History), Error> {
        self.fit_kept((device, data, prior), None, &mut |_| ControlFlow::Continue(()))
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
        self.fit_kept((device, data, prior), Some(&kept), &mut on_epoch)
    }

    fn fit_kept<T: Real>(
        &self,
        (device, data, prior): (&Device, &Dataset<T>, &Prior),
        checkpoints: Option<&dyn Checkpoints<T>>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<(Posterior<T, RatioModel>, History), Error> {
        let problem = Problem { checkpoints, ..data.problem(device, &self.training, self.seed) };
        let mut layout = Layout::new();
        let model = self.model(&mut layout, prior.clone(), &data.scales)?;
        let network = &model.network;
        let loss = |graph: &mut Graph<T>, theta: Var, x: &[Var], other: &[Var]| {
            let mut cost = |theta: Var, sign: f64| {
                let logit = network.forward(graph, &[theta, x[0]])?;
                let signed = graph.scale(logit, sign)?;
                graph.map(Activation::Softplus, signed)
            };
            let (together, apart) = (cost(theta, -1.0)?, cost(other[0], 1.0)?);
            graph.add(together, apart)
        };
        let other = [Source::Next(problem.theta)];
        let (store, history) = problem.minimise(layout, &other, loss, on_epoch)?;
        let origin = Origin {
            estimator: self.known(),
            prior: Some(prior.clone()),
            data: data.summary(),
            history: history.clone(),
        };
        Ok((Posterior::new(device, &data.scales, (Box::new(model), store), origin), history))
    }

    fn known(&self) -> Option<Estimator> {
        Some(Estimator::Nre(self.clone()))
    }

    /// Registers an untrained ratio.
    pub(super) fn model(&self, layout: &mut Layout, prior: Prior, scales: &Scales) -> Result<RatioModel, Error> {
        let prior = LearnedPrior::new(prior, scales)?;
        let (dim, context) = (scales.theta.width(), scales.x.width());
        let network = Mlp::new(&mut layout.scope("ratio"), dim + context, &self.hidden, 1, self.activation)?;
        Ok(RatioModel { dim, context, network, prior, hmc: self.hmc })
    }
}

/// A learned ratio with its prior.
#[derive(Debug)]
pub struct RatioModel {
    dim: usize,
    context: usize,
    network: Mlp,
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
        let inputs: Vec<Var> = [theta].iter().chain(context).copied().collect();
        let ratio = self.network.forward(graph, &inputs)?;
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
