//! The trained posterior q(θ | x): draws and densities for one observation or many.

use std::ops::Range;

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3};

use crate::device::Device;
use crate::error::{Error, check_finite, check_length};
use crate::models::{AnyModel, Density, Evaluator, Generative, VaeModel};
use crate::plan::Feed;
use crate::progress::{Cancel, Watch};
use crate::real::Real;
use crate::rng::{NoiseRows, mix};
use crate::sample::{Draws, Sampler};
use crate::sbi::{Origin, Prior, Scales, Support};
use crate::store::{Store, Vector, Weights};

/// Rows that are computed at once: what bounds the memory beside the result.
const CHUNK: usize = 1 << 14;
/// Rows that one task converts.
const PIECE: usize = 512;

/// A posterior for any observation, in the prior's own units.
///
/// Everything lies in the support of the prior by construction: the density is learned in the coordinates in which
/// the support is all of R^d, so there is nothing to reject, and `log_prob` is normalised over the support.
///
/// The draws for an observation depend on the seed and on the observation's numbers alone, not on which others are
/// asked for in the same call, nor on threads.
///
/// What it can do is its type: every model can be drawn from, `log_prob` is there for a [`Density`] (the default).
#[derive(Debug)]
pub struct Posterior<T: Real = f32, M: ?Sized = dyn Density<T>> {
    pub(super) device: Device,
    pub(super) scales: Scales,
    pub(super) model: Box<M>,
    pub(super) store: Store<T>,
    pub(super) origin: Origin,
    cancel: Cancel,
}

/// A posterior of any family: what [`AnyFamily`](crate::models::AnyFamily) trains, and as what every file can be loaded.
pub type AnyPosterior<T = f32> = Posterior<T, AnyModel<T>>;

impl<T: Real, M: Generative<T> + ?Sized> Posterior<T, M> {
    pub(super) fn new(device: &Device, scales: &Scales, (model, store): (Box<M>, Store<T>), origin: Origin) -> Self {
        Self { device: device.clone(), scales: scales.clone(), model, store, origin, cancel: Cancel::default() }
    }

    /// The same, knowing the prior that the simulations were drawn from, which its file will tell.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the prior is on another support.
    pub fn with_prior(mut self, prior: &Prior) -> Result<Self, Error> {
        if *prior.support() != self.scales.support {
            let why = format!("is on {}; the posterior is on {}", prior.support(), self.scales.support);
            return Err(Error::parameter("prior", why));
        }
        self.origin.prior = Some(prior.clone());
        Ok(self)
    }

    /// The same, of which only running it tells whether it has a density: as what every file can be loaded.
    pub fn into_any(self) -> AnyPosterior<T>
    where
        AnyModel<T>: From<Box<M>>,
    {
        let Self { device, scales, model, store, origin, cancel } = self;
        Posterior { device, scales, model: Box::new(AnyModel::from(model)), store, origin, cancel }
    }

    /// How it came to be: settings, prior, data, history.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The same, with a switch that stops what takes long.
    pub fn with_cancel(self, cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// The trained model, in learned coordinates.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameters and where they lie.
    pub fn support(&self) -> &Support {
        &self.scales.support
    }

    /// Number of features of an observation.
    pub fn features(&self) -> usize {
        self.scales.x.width()
    }

    /// The trained weights, one flat vector; their names are those of the density's modules.
    pub fn weights(&self) -> &Vector<T> {
        self.store.weights(Weights::Ema)
    }

    /// Draws for one observation, `[draws x parameters]`.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::NonFinite`] if the observation cannot be one.
    pub fn sample(&self, x: ArrayView1<'_, f64>, draws: usize, seed: u64) -> Result<Array2<f64>, Error> {
        let many = self.sample_many(x.insert_axis(ndarray::Axis(0)), draws, seed)?;
        Ok(many.index_axis_move(ndarray::Axis(0), 0))
    }

    /// Draws for each row of `x`, `[observations x draws x parameters]`.
    ///
    /// # Errors
    /// As [`Posterior::sample`], naming the row.
    pub fn sample_many(&self, x: ArrayView2<'_, f64>, draws: usize, seed: u64) -> Result<Array3<f64>, Error> {
        let mut sampler = Chunks::new(self, x, draws, seed)?;
        let (rows, dim) = (x.nrows() * draws, self.scales.support.dim());
        let mut theta = vec![0.0; rows * dim];
        for (i, out) in theta.chunks_mut(CHUNK * dim).enumerate() {
            let start = i * CHUNK;
            sampler.draw(start..start + out.len() / dim, out)?;
        }
        let shape = (x.nrows(), draws, dim);
        Array3::from_shape_vec(shape, theta).map_err(|e| Error::shape("sample_many", e.to_string()))
    }

    /// The same for any number of observations and of draws in bounded memory: `each` is given the row and its draws,
    /// `[draws x parameters]`, one observation after the other; of more than 16 384 draws so many at a time.
    ///
    /// # Errors
    /// As [`Posterior::sample_many`].
    pub fn sample_each(
        &self,
        x: ArrayView2<'_, f64>,
        draws: usize,
        seed: u64,
        mut each: impl FnMut(usize, ArrayView2<'_, f64>),
    ) -> Result<(), Error> {
        if draws <= CHUNK {
            return self.sample_blocks(x, draws, seed, |first, block| {
                block.outer_iter().enumerate().for_each(|(i, draws)| each(first + i, draws));
                Ok(())
            });
        }
        let (mut sampler, dim) = (Chunks::new(self, x, draws, seed)?, self.scales.support.dim());
        let mut theta = vec![0.0; CHUNK * dim];
        for (i, start) in (0..x.nrows()).flat_map(|i| (0..draws).step_by(CHUNK).map(move |start| (i, start))) {
            let (first, count) = (i * draws + start, CHUNK.min(draws - start));
            let theta = &mut theta[..count * dim];
            sampler.draw(first..first + count, theta)?;
            each(i, ArrayView2::from_shape((count, dim), theta).expect("as many numbers as that"));
        }
        Ok(())
    }

    /// The same, several observations at a time: `each` is given the first row and `[observations x draws x parameters]`.
    pub(crate) fn sample_blocks(
        &self,
        x: ArrayView2<'_, f64>,
        draws: usize,
        seed: u64,
        mut each: impl FnMut(usize, ArrayView3<'_, f64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut sampler = Chunks::new(self, x, draws, seed)?;
        let dim = self.scales.support.dim();
        let together = (CHUNK / draws.max(1)).max(1);
        let mut theta = vec![0.0; together.min(x.nrows()) * draws * dim];
        for first in (0..x.nrows()).step_by(together) {
            let count = together.min(x.nrows() - first);
            let theta = &mut theta[..count * draws * dim];
            for (i, out) in theta.chunks_mut(CHUNK * dim).enumerate() {
                let start = first * draws + i * CHUNK;
                sampler.draw(start..start + out.len() / dim, out)?;
            }
            each(first, ArrayView3::from_shape((count, draws, dim), theta).expect("as many numbers as that"))?;
        }
        Ok(())
    }

    fn check_observations(&self, x: ArrayView2<'_, f64>) -> Result<(), Error> {
        check_length("observation features", self.features(), x.ncols())?;
        check_finite("observation", x)
    }

    /// Observations as the network sees them.
    fn standardised(&self, x: ArrayView2<'_, f64>) -> Result<Vec<T>, Error> {
        self.check_observations(x)?;
        Ok(x.indexed_iter().map(|((_, j), &v)| T::from_f64(self.scales.x.forward(j, v))).collect())
    }
}

impl<T: Real, M: Density<T> + ?Sized> Posterior<T, M> {
    /// log q(θ | x) in nats for each row of `theta` and one observation; -∞ outside the support.
    ///
    /// # Errors
    /// [`Error::Length`] if a width is wrong, [`Error::NonFinite`] if a number is not finite.
    pub fn log_prob(&self, theta: ArrayView2<'_, f64>, x: ArrayView1<'_, f64>) -> Result<Array1<f64>, Error> {
        self.evaluate(&mut *self.model.evaluator(&self.device)?, theta, x.insert_axis(ndarray::Axis(0)), |_| 0)
    }

    /// log q(θ_i | x_i) in nats for each row i of both tables; -∞ outside the support.
    ///
    /// # Errors
    /// As [`Posterior::log_prob`], and [`Error::Length`] if the tables differ in length.
    pub fn log_prob_many(&self, theta: ArrayView2<'_, f64>, x: ArrayView2<'_, f64>) -> Result<Array1<f64>, Error> {
        check_length("x rows (one for each row of theta)", theta.nrows(), x.nrows())?;
        self.evaluate(&mut *self.model.evaluator(&self.device)?, theta, x, |i| i)
    }
}

impl<T: Real, M: Generative<T> + ?Sized> Posterior<T, M> {
    /// log q(θ_i | x_k) with k = `observation(i)`, by an evaluator of learned coordinates.
    pub(crate) fn evaluate(
        &self,
        density: &mut dyn Evaluator<T>,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        observation: impl Fn(usize) -> usize + Sync,
    ) -> Result<Array1<f64>, Error> {
        let dim = self.scales.support.dim();
        check_length("theta columns", dim, theta.ncols())?;
        check_finite("theta", theta)?;
        let x = self.standardised(x)?;
        let mut result = Array1::zeros(theta.nrows());
        let (mut z, mut log_q) = (Vec::new(), Vec::new());
        let watch = Watch::new("log q", theta.nrows(), &self.cancel);
        for start in (0..theta.nrows()).step_by(CHUNK) {
            let rows = start..theta.nrows().min(start + CHUNK);
            let index: Vec<u32> = rows.clone().map(|i| observation(i) as u32).collect();
            z.resize(rows.len() * dim, T::ZERO);
            log_q.resize(rows.len(), T::ZERO);
            let ln_dets = self.to_learned(theta.slice(ndarray::s![rows.clone(), ..]), &mut z);
            let context = [Feed::Gather(&x, &index)];
            let request = Draws {
                weights: self.weights().into(),
                rows: rows.len(),
                context: &context[..usize::from(self.features() > 0)],
                noise: NoiseRows { first: start, ..NoiseRows::new(&0) },
                watch: &watch,
            };
            density.log_prob(&request, &z, &mut log_q)?;
            watch.finish(rows.len());
            for ((out, q), ln_det) in result.slice_mut(ndarray::s![rows]).iter_mut().zip(&log_q).zip(ln_dets) {
                *out = if ln_det == f64::NEG_INFINITY { ln_det } else { q.to_f64() + ln_det };
            }
        }
        Ok(result)
    }

    /// Carries rows of θ to learned coordinates; returns ln |det dz/dθ| of each, -∞ outside the support.
    fn to_learned(&self, theta: ArrayView2<'_, f64>, z: &mut [T]) -> Vec<f64> {
        let dim = self.scales.support.dim();
        let mut pieces: Vec<_> = z.chunks_mut(PIECE * dim).map(|z| (z, Vec::new())).collect();
        self.device.pool().run_over(&mut pieces, |p, (z, ln_dets)| {
            let mut u = vec![0.0; dim];
            for (i, z) in z.chunks_exact_mut(dim).enumerate() {
                let theta = theta.row(p * PIECE + i).to_vec();
                if self.scales.support.unconstrain(&theta, &mut u).is_err() {
                    z.fill(T::ZERO);
                    ln_dets.push(f64::NEG_INFINITY);
                    continue;
                }
                let bijection = self.scales.support.ln_det(&u).expect("u has the support's width");
                u.iter_mut().enumerate().for_each(|(j, u)| *u = self.scales.theta.forward(j, *u));
                ln_dets.push(self.scales.theta.ln_det(&u) - bijection);
                z.iter_mut().zip(&u).for_each(|(z, &u)| *z = T::from_f64(u));
            }
        });
        pieces.into_iter().flat_map(|(_, ln_dets)| ln_dets).collect()
    }
}

impl<T: Real> Posterior<T, VaeModel> {
    /// A lower bound of log q(θ_i | x_i) in nats for each row i of both tables, from this many importance samples a row;
    /// -∞ outside the support. In the mean it lies below the truth, and the closer the more samples there are (Burda,
    /// Grosse & Salakhutdinov 2016).
    ///
    /// # Errors
    /// As [`Posterior::log_prob_many`], and [`Error::Parameter`] if there is no sample.
    pub fn log_prob_bound(
        &self,
        theta: ArrayView2<'_, f64>,
        x: ArrayView2<'_, f64>,
        samples: usize,
    ) -> Result<Array1<f64>, Error> {
        check_length("x rows (one for each row of theta)", theta.nrows(), x.nrows())?;
        self.evaluate(&mut *self.model.bound(&self.device, samples)?, theta, x, |i| i)
    }
}

/// Draws rows (observation i, draw k), numbered i * draws + k, in chunks of any size.
struct Chunks<'a, T: Real, M: ?Sized> {
    posterior: &'a Posterior<T, M>,
    sampler: Box<dyn Sampler<T> + 'a>,
    x: ArrayView2<'a, f64>,
    draws: usize,
    seed: u64,
    z: Vec<T>,
    watch: Watch,
}

impl<'a, T: Real, M: Generative<T> + ?Sized> Chunks<'a, T, M> {
    fn new(posterior: &'a Posterior<T, M>, x: ArrayView2<'a, f64>, draws: usize, seed: u64) -> Result<Self, Error> {
        posterior.check_observations(x)?;
        let sampler = posterior.model.sampler(&posterior.device)?;
        let watch = Watch::new("sample", x.nrows() * draws, &posterior.cancel);
        Ok(Self { posterior, sampler, x, draws, seed, z: Vec::new(), watch })
    }

    fn draw(&mut self, rows: Range<usize>, theta: &mut [f64]) -> Result<(), Error> {
        let dim = self.posterior.scales.support.dim();
        self.z.resize(rows.len() * dim, T::ZERO);
        // The chunk's own observations, and a key of the noise for each, from its numbers.
        let first = rows.start / self.draws;
        let block = self.x.slice(ndarray::s![first..rows.end.div_ceil(self.draws), ..]);
        let keys: Vec<u64> = block.rows().into_iter().map(|x| mix(self.seed, x.iter().map(|v| v.to_bits()))).collect();
        let x = self.posterior.standardised(block)?;
        let index: Vec<u32> = rows.clone().map(|row| (row / self.draws - first) as u32).collect();
        let context = [Feed::Gather(&x, &index)];
        let draws = Draws {
            weights: self.posterior.weights().into(),
            rows: rows.len(),
            context: &context[..usize::from(self.posterior.features() > 0)],
            noise: NoiseRows { seeds: &keys, group: self.draws, first: rows.start - first * self.draws, step: 0 },
            watch: &self.watch,
        };
        self.sampler.sample(&draws, &mut self.z)?;
        self.watch.finish(rows.len());
        self.to_parameters(theta);
        match theta.iter().position(|t| !t.is_finite()) {
            Some(i) => Err(Error::NonFinite { what: "posterior draw", row: rows.start + i / dim, column: i % dim }),
            None => Ok(()),
        }
    }

    /// From learned coordinates to the prior's own.
    fn to_parameters(&self, theta: &mut [f64]) {
        let (support, scale) = (&self.posterior.scales.support, &self.posterior.scales.theta);
        let dim = support.dim();
        let mut pieces: Vec<_> = theta.chunks_mut(PIECE * dim).zip(self.z.chunks(PIECE * dim)).collect();
        self.posterior.device.pool().run_over(&mut pieces, |_, (theta, z)| {
            let mut u = vec![0.0; dim];
            for (theta, z) in theta.chunks_exact_mut(dim).zip(z.chunks_exact(dim)) {
                u.iter_mut().zip(z).enumerate().for_each(|(j, (u, z))| *u = scale.inverse(j, z.to_f64()));
                support.constrain(&u, theta).expect("both have the support's width");
            }
        });
    }
}
