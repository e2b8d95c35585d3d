//! Variational autoencoders (Kingma & Welling 2014; Rezende et al. 2014), conditioned on x.
//!
//! A latent z ~ N(0, I) and a decoder p(θ | z, x) make a density whose logarithm is bounded from below by
//! $$ \mathbb E_{q(z \mid \theta, x)} \ln p(\theta \mid z, x) - \beta\, \mathrm{KL}\left(q(z \mid \theta, x) \,\|\,
//! N(0, I)\right), $$
//! which encoder and decoder maximise together; with β = 1 it is the evidence lower bound.

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::models::{AnyFamily, Evaluator, Family, Generative, OnEpoch, Problem, Trained, check_widths, context_input};
use crate::nn::Mlp;
use crate::ops::elementwise::Activation;
use crate::plan::{Batch, Feed, Plan, Request};
use crate::real::Real;
use crate::sample::{Draws, Sampler};
use crate::store::{Init, Layout, Param, Scope};
use crate::train::Source;

/// Log-widths of encoder and decoder are bounded to ±this softly, so that no exponential overflows.
const LN_SIGMA: f64 = 6.0;

/// The decoder's standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum DecoderNoise {
    /// This number, for standardised columns.
    Fixed(f64),
    /// One learned number for each column.
    Learned,
    /// The network's, for each z and x.
    Conditional,
}

/// Settings of a variational autoencoder.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Vae {
    /// Width of z. More columns than θ has are noise to decoder and encoder, and make the fit worse.
    pub latent: usize,
    /// Widths of the hidden layers of encoder and decoder.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Activation,
    /// The decoder's standard deviation.
    pub decoder: DecoderNoise,
    /// Weight of the divergence from the prior (Higgins et al. 2017).
    pub beta: f64,
    /// Fraction of the training in which that weight rises from 0, so that z is used before it is taxed.
    pub warm_up: f64,
    /// Importance samples of each row in training. With 1 it maximises the evidence lower bound with the divergence in
    /// closed form, with more the tighter bound of Burda et al. (2016), whose encoder need not be right.
    #[cfg_attr(feature = "weights", serde(default = "one"))]
    pub samples: usize,
}

/// What files from before there were several meant.
#[cfg(feature = "weights")]
fn one() -> usize {
    1
}

impl Default for Vae {
    fn default() -> Self {
        Self {
            latent: 2,
            hidden: vec![128, 128],
            activation: Activation::Silu,
            decoder: DecoderNoise::Conditional,
            beta: 1.0,
            warm_up: 0.1,
            samples: 8,
        }
    }
}

impl Vae {
    /// Registers encoder and decoder for θ `[rows x dim]` given x `[rows x context]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the setting that cannot be.
    pub fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<VaeModel, Error> {
        let sigma = if let DecoderNoise::Fixed(sigma) = self.decoder { sigma } else { 1.0 };
        let rules = [
            ("latent", self.latent as f64, self.latent > 0),
            ("samples", self.samples as f64, self.samples > 0),
            ("dim", dim as f64, dim > 0),
            ("decoder", sigma, sigma > 0.0 && sigma.is_finite()),
            ("beta", self.beta, self.beta >= 0.0 && self.beta.is_finite()),
            ("warm_up", self.warm_up, (0.0..=1.0).contains(&self.warm_up)),
        ];
        if let Some((name, value, _)) = rules.iter().find(|(.., holds)| !holds) {
            return Err(Error::parameter(*name, format!("{value} is out of range")));
        }
        let (hidden, f) = (&self.hidden, self.activation);
        let encoder = Mlp::new(&mut scope.scope("encoder"), dim + context, hidden, self.latent.saturating_mul(2), f)?;
        let outputs = if self.decoder == DecoderNoise::Conditional { 2 * dim } else { dim };
        let decoder = Mlp::new(&mut scope.scope("decoder"), self.latent.saturating_add(context), hidden, outputs, f)?;
        let ln_sigma = match self.decoder {
            DecoderNoise::Learned => Some(scope.param("ln_sigma", 1, dim, Init::Constant(0.0))?),
            _ => None,
        };
        Ok(VaeModel { settings: self.clone(), dim, context, encoder, decoder, ln_sigma })
    }
}

impl<T: Real> Family<T> for Vae {
    type Model = VaeModel;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<VaeModel>, Error> {
        Ok(Box::new(self.build(&mut layout.scope("vae"), dim, context)?))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(AnyFamily::Vae(self.clone()))
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, VaeModel>, Error> {
        let mut layout = Layout::new();
        let model = Family::<T>::model(self, &mut layout, problem.dim, problem.context)?;
        let loss = |graph: &mut Graph<T>, theta: Var, context: &[Var], more: &[Var]| match self.samples {
            1 => model.negative_elbo(graph, theta, context, more[0]),
            _ => model.negative_bound(graph, theta, context, more[0]),
        };
        let (store, history) = problem.minimise(layout, &[Source::WarmUp(self.warm_up)], loss, on_epoch)?;
        Ok(Trained { model, store, history })
    }
}

/// A registered variational autoencoder.
#[derive(Clone, Debug)]
pub struct VaeModel {
    settings: Vae,
    dim: usize,
    context: usize,
    encoder: Mlp,
    decoder: Mlp,
    ln_sigma: Option<Param>,
}

/// Mean and ln σ of the encoder's Gaussian.
type Encoded = (Var, Var);

impl VaeModel {
    /// Records -ELBO, `[rows x 1]`, with the divergence weighted by β and by `warm`, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn negative_elbo<T: Real>(
        &self,
        graph: &mut Graph<T>,
        theta: Var,
        context: &[Var],
        warm: Var,
    ) -> Result<Var, Error> {
        let (mean, ln_sigma) = self.encode(graph, theta, context)?;
        let noise = graph.normal(self.settings.latent)?;
        let z = graph.gaussian_sample(mean, ln_sigma, noise)?;
        let reconstruction = self.reconstruction(graph, theta, z, context)?;
        let divergence = graph.gaussian_kl(mean, ln_sigma)?;
        let weight = graph.scale(warm, self.settings.beta)?;
        let tax = graph.mul(divergence, weight)?;
        graph.sub(tax, reconstruction)
    }

    /// Records minus the importance-weighted bound, `[rows x 1]`, -ln 1/K Σₖ exp l(zₖ), with the settings' samples K and
    /// l(z) = ln p(θ | z, x) + w ln p(z) / q(z | θ, x), where w is β times `warm`, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    pub fn negative_bound<T: Real>(
        &self,
        graph: &mut Graph<T>,
        theta: Var,
        context: &[Var],
        warm: Var,
    ) -> Result<Var, Error> {
        let encoded = self.encode(graph, theta, context)?;
        let weight = graph.scale(warm, self.settings.beta)?;
        let mut sum = self.ln_weight(graph, theta, context, encoded, weight)?;
        for _ in 1..self.settings.samples {
            // ln(e^a + e^b) = a + ln(1 + e^(b - a))
            let next = self.ln_weight(graph, theta, context, encoded, weight)?;
            let difference = graph.sub(next, sum)?;
            let more = graph.map(Activation::Softplus, difference)?;
            sum = graph.add(sum, more)?;
        }
        let ln_count = graph.constant((self.settings.samples as f64).ln(), 1)?;
        graph.sub(ln_count, sum)
    }

    /// Compiles the importance-weighted bound of ln p(θ | x) with this many samples (Burda et al. 2016),
    /// ln 1/K Σₖ p(θ | zₖ, x) p(zₖ) / q(zₖ | θ, x).
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no sample.
    pub fn bound<T: Real>(&self, device: &Device, samples: usize) -> Result<Box<dyn Evaluator<T>>, Error> {
        if samples == 0 {
            return Err(Error::parameter("samples", "0 must be at least 1"));
        }
        let mut graph = Graph::new();
        let theta = graph.input("theta", self.dim)?;
        let context = context_input(&mut graph, self.context)?;
        let (encoded, weight) = (self.encode(&mut graph, theta, &context)?, graph.constant(1.0, 1)?);
        let ln_weight = self.ln_weight(&mut graph, theta, &context, encoded, weight)?;
        let plan = graph.compile(device, &Request::outputs(&[ln_weight]).with_common_inputs(&context))?;
        Ok(Box::new(Bound { plan, samples, ln_weight: Vec::new() }))
    }

    /// Records ln p(θ | z, x) + w ln p(z) / q(z | θ, x) of a z drawn from the encoder's Gaussian.
    fn ln_weight<T: Real>(
        &self,
        graph: &mut Graph<T>,
        theta: Var,
        context: &[Var],
        (mean, ln_sigma): Encoded,
        weight: Var,
    ) -> Result<Var, Error> {
        let noise = graph.normal(self.settings.latent)?;
        let z = graph.gaussian_sample(mean, ln_sigma, noise)?;
        let reconstruction = self.reconstruction(graph, theta, z, context)?;
        // ln q(z) = ln N(ε; 0, I) - Σ ln σ
        let [prior, base] = [graph.normal_log_density(z)?, graph.normal_log_density(noise)?];
        let (widths, ratio) = (graph.sum_cols(ln_sigma)?, graph.sub(prior, base)?);
        let ratio = graph.add(ratio, widths)?;
        let weighted = graph.mul(ratio, weight)?;
        graph.add(reconstruction, weighted)
    }

    fn encode<T: Real>(&self, graph: &mut Graph<T>, theta: Var, context: &[Var]) -> Result<Encoded, Error> {
        check_widths("vae", graph, (theta, self.dim), (context, self.context))?;
        let inputs: Vec<Var> = [theta].iter().chain(context).copied().collect();
        let raw = self.encoder.forward(graph, &inputs)?;
        halves(graph, raw, self.settings.latent)
    }

    /// (mean, ln σ) of p(θ | z, x)
    fn decode<T: Real>(&self, graph: &mut Graph<T>, z: Var, context: &[Var]) -> Result<(Var, Var), Error> {
        let inputs: Vec<Var> = [z].iter().chain(context).copied().collect();
        let raw = self.decoder.forward(graph, &inputs)?;
        match (self.settings.decoder, self.ln_sigma) {
            (DecoderNoise::Fixed(sigma), _) => Ok((raw, graph.constant(sigma.ln(), self.dim)?)),
            (DecoderNoise::Learned, Some(param)) => {
                let one = graph.constant(1.0, 1)?;
                Ok((raw, graph.linear(&[one], param, None, Activation::Identity)?))
            }
            _ => halves(graph, raw, self.dim),
        }
    }

    fn reconstruction<T: Real>(&self, graph: &mut Graph<T>, theta: Var, z: Var, context: &[Var]) -> Result<Var, Error> {
        let (mean, ln_sigma) = self.decode(graph, z, context)?;
        graph.gaussian_log_density(theta, mean, ln_sigma)
    }
}

/// Mean and softly bounded ln σ from their columns side by side.
fn halves<T: Real>(graph: &mut Graph<T>, raw: Var, width: usize) -> Result<(Var, Var), Error> {
    let columns: Vec<usize> = (0..2 * width).collect();
    let (mean, free) = (graph.select(raw, &columns[..width])?, graph.select(raw, &columns[width..])?);
    let small = graph.scale(free, 1.0 / LN_SIGMA)?;
    let bounded = graph.map(Activation::Tanh, small)?;
    Ok((mean, graph.scale(bounded, LN_SIGMA)?))
}

impl<T: Real> Generative<T> for VaeModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        let mut graph = Graph::new();
        let context = context_input(&mut graph, self.context)?;
        let z = graph.normal(self.settings.latent)?;
        let (mean, ln_sigma) = self.decode(&mut graph, z, &context)?;
        let noise = graph.normal(self.dim)?;
        let theta = graph.gaussian_sample(mean, ln_sigma, noise)?;
        Ok(Box::new(graph.compile(device, &Request::outputs(&[theta]).with_common_inputs(&context))?))
    }
}

/// The bound, one replay for each importance sample.
struct Bound<T> {
    plan: Plan<T>,
    samples: usize,
    ln_weight: Vec<T>,
}

impl<T: Real> Evaluator<T> for Bound<T> {
    fn log_prob(&mut self, request: &Draws<'_, T>, theta: &[T], log_q: &mut [T]) -> Result<(), Error> {
        let Draws { weights, rows, context, noise, watch } = *request;
        check_length("log-densities (one for each row)", rows, log_q.len())?;
        check_length("contexts (one, or none)", context.len().min(1), context.len())?;
        let feeds = [Feed::Rows(theta), context.first().copied().unwrap_or(Feed::Rows(&[]))];
        self.ln_weight.resize(log_q.len(), T::ZERO);
        // (largest ln weight, sum of the weights relative to it)
        let mut sums = vec![(f64::NEG_INFINITY, 0.0); log_q.len()];
        for k in 0..self.samples {
            watch.at(rows, k, self.samples)?;
            let batch = Batch::with_noise(rows, noise.at(k as u32));
            self.plan.forward(weights, batch, &feeds[..1 + context.len()], &mut [&mut self.ln_weight])?;
            for ((largest, sum), l) in sums.iter_mut().zip(&self.ln_weight) {
                let l = l.to_f64();
                if l > *largest {
                    *sum *= (*largest - l).exp();
                    *largest = l;
                }
                *sum += (l - *largest).exp();
            }
        }
        for (log_q, (largest, sum)) in log_q.iter_mut().zip(sums) {
            *log_q = T::from_f64(largest + (sum / self.samples as f64).ln());
        }
        Ok(())
    }
}
