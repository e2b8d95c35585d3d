//! Adam with gradient clipping and a moving average of the weights, one fused pass over flat memory.

use std::ops::Range;
#[cfg(feature = "cuda")]
use std::sync::Arc;

use crate::device::Device;
use crate::device::cpu::disjoint::Disjoint;
use crate::device::cpu::pool::Pool;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Cuda, Grid};
use crate::error::Error;
use crate::math::wide;
use crate::real::Real;
use crate::store::Store;

/// How the learning rate changes over the steps of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// A linear rise over the first `warmup` of all steps (a fraction), then half a cosine down to `floor` times
    /// the learning rate (Loshchilov & Hutter 2017).
    Cosine {
        /// Fraction of the steps in which the rate rises from 0.
        warmup: f64,
        /// Final rate as a fraction of the learning rate.
        floor: f64,
    },
}

impl Schedule {
    /// The factor on the learning rate at `step` (from 0) of `steps`.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine { warmup, floor } => {
                let progress = step as f64 / steps.max(1) as f64;
                if progress < warmup {
                    return (step + 1) as f64 / (warmup * steps as f64).max(1.0);
                }
                let decayed = ((progress - warmup) / (1.0 - warmup)).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * decayed).cos())
            }
        }
    }
}

/// Settings of Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019).
///
/// With g the gradient, scaled down to norm `clip` if it is longer:
/// m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g², w -= lr ( m̂ / (√v̂ + ε) + decay w ), where m̂ = m / (1 - β₁ᵗ) and
/// v̂ = v / (1 - β₂ᵗ); then the average follows, e = d e + (1 - d) w with d = min(`ema`, (1 + t) / (10 + t)).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient; infinite for none.
    #[cfg_attr(feature = "weights", serde(with = "or_null"))]
    pub clip: f64,
    /// Decay of the moving average of the weights.
    pub ema: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 5e-4, betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.0, clip: 5.0, ema: 0.999 }
    }
}

/// JSON has no infinity: a limit that is none is written as null.
#[cfg(feature = "weights")]
mod or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(limit: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        limit.is_finite().then_some(limit).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}

/// Numbers of a step that the kernel `adam` reads, in its order.
#[cfg(feature = "cuda")]
const NUMBERS: usize = 9;

/// The most blocks that add up squares.
#[cfg(feature = "cuda")]
const BLOCKS: usize = 256;

/// Lengths of `Store::control`: the numbers; the norm, and the sum of each block.
#[cfg(feature = "cuda")]
pub(crate) const CONTROL: [usize; 2] = [NUMBERS, 1 + BLOCKS];

/// The numbers of one step.
struct Step<T> {
    rate: T,
    clip: T,
    betas: (T, T),
    corrections: (T, T),
    epsilon: T,
    decay: T,
    ema: T,
}

impl Adam {
    /// With this learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the one that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        let unit = |b: f64| (0.0..1.0).contains(&b);
        let rules = [
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0 && self.learning_rate.is_finite()),
            ("beta 1", self.betas.0, unit(self.betas.0)),
            ("beta 2", self.betas.1, unit(self.betas.1)),
            ("epsilon", self.epsilon, self.epsilon > 0.0),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0),
            ("clip", self.clip, self.clip > 0.0),
            ("ema", self.ema, unit(self.ema)),
        ];
        match rules.iter().find(|(.., holds)| !holds) {
            Some((name, value, _)) => Err(Error::parameter(*name, format!("{value} is out of range"))),
            None => Ok(()),
        }
    }
}

/// Adam at work on a part of the flat vector: its settings, and how many steps it has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    adam: Adam,
    range: Range<usize>,
    steps: u64,
}

impl Optimiser {
    /// Before its first step on this part of the flat vector.
    ///
    /// # Errors
    /// What [`Adam::check`] says.
    pub fn new(adam: Adam, range: Range<usize>) -> Result<Self, Error> {
        adam.check()?;
        Ok(Self { adam, range, steps: 0 })
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn steps_mut(&mut self) -> &mut u64 {
        &mut self.steps
    }

    /// One step from the gradient in `store`; `factor` scales the learning rate.
    /// Returns the norm of the gradient before clipping. A gradient that is not finite changes nothing.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the range does not lie in the vector.
    pub fn step<T: Real>(&mut self, device: &Device, store: &mut Store<T>, factor: f64) -> Result<f64, Error> {
        let range = self.range.clone();
        store.check_range(&range)?;
        #[cfg(feature = "cuda")]
        if let Some(cuda) = device.as_cuda() {
            return self.step_on(cuda, store, factor);
        }
        let norm = norm(device.pool(), &store.grads[range.clone()]);
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let step = self.numbers(self.steps, norm, factor);
        let parts = [&mut store.params, &mut store.first_moment, &mut store.second_moment, &mut store.ema];
        let parts = parts.map(|v| Disjoint::new(&mut v[range.clone()]));
        let grads = &store.grads[range];
        device.pool().run_pieces(grads.len(), |piece| {
            // SAFETY: pieces are disjoint.
            let [w, m, v, e] = parts.each_ref().map(|part| unsafe { part.range(piece.clone()) });
            step.apply(w, m, v, e, &grads[piece]);
        });
        Ok(norm)
    }

    /// The same on a device.
    #[cfg(feature = "cuda")]
    fn step_on<T: Real>(&mut self, cuda: &Arc<Cuda>, store: &mut Store<T>, factor: f64) -> Result<f64, Error> {
        let _turn = cuda.turn();
        let launches = self.prepare(cuda, store)?;
        store.control[0].copy_from_slice(&self.numbers_of_next(factor));
        let numbers = store.control[0].on_device(cuda)?.address().into();
        launches.launch(cuda, numbers, None)?;
        let mut norm = [0.0];
        store.control[1].on_device(cuda)?.read(0, &mut norm)?;
        self.steps += u64::from(norm[0].is_finite());
        Ok(norm[0])
    }

    /// The numbers of the next step, as the kernel reads them. It clips by itself, since it knows the norm.
    #[cfg(feature = "cuda")]
    pub(crate) fn numbers_of_next(&self, factor: f64) -> [f64; NUMBERS] {
        let Step { rate, betas, corrections, epsilon, decay, ema, .. } =
            self.numbers::<f64>(self.steps + 1, 0.0, factor);
        [rate, self.adam.clip, betas.0, betas.1, corrections.0, corrections.1, epsilon, decay, ema]
    }

    /// Where a step finds everything on the device.
    #[cfg(feature = "cuda")]
    pub(crate) fn prepare<T: Real>(&self, cuda: &Arc<Cuda>, store: &mut Store<T>) -> Result<OnDevice<T>, Error> {
        let mut weights = [Address::NONE; 4];
        let parts = [&mut store.params, &mut store.first_moment, &mut store.second_moment, &mut store.ema];
        for (address, part) in weights.iter_mut().zip(parts) {
            *address = part.on_device_mut(cuda)?.address().at(self.range.start);
        }
        Ok(OnDevice {
            gradient: store.grads.on_device(cuda)?.address().at(self.range.start),
            weights,
            sums: store.control[1].on_device_mut(cuda)?.address(),
            len: self.range.len(),
        })
    }

    /// The numbers of step `t`, counted from 1.
    fn numbers<T: Real>(&self, t: u64, norm: f64, factor: f64) -> Step<T> {
        let Adam { learning_rate, betas, epsilon, weight_decay, clip, ema } = self.adam;
        let t = t as f64;
        let correction = |beta: f64| T::from_f64(1.0 / (1.0 - beta.powf(t)));
        Step {
            rate: T::from_f64(learning_rate * factor),
            clip: T::from_f64(if norm > clip { clip / norm } else { 1.0 }),
            betas: (T::from_f64(betas.0), T::from_f64(betas.1)),
            corrections: (correction(betas.0), correction(betas.1)),
            epsilon: T::from_f64(epsilon),
            decay: T::from_f64(weight_decay),
            ema: T::from_f64(ema.min((1.0 + t) / (10.0 + t))),
        }
    }
}

/// Where a step on a device finds everything but its numbers: the gradient, the weights with moments and average, and sums
/// of squares, before which the norm lies.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDevice<T> {
    gradient: Address<T>,
    weights: [Address<T>; 4],
    sums: Address<f64>,
    len: usize,
}

#[cfg(feature = "cuda")]
impl<T: Real> OnDevice<T> {
    /// The launches of a step with these numbers: the norm, then one pass, which does nothing if the norm is not finite. The
    /// step may first be added to a course, given the sum of its losses.
    pub fn launch(
        &self,
        cuda: &Cuda,
        numbers: Argument,
        course: Option<(Address<f64>, Address<f64>)>,
    ) -> Result<(), Error> {
        let (n, g) = (Argument::size(self.len), self.gradient.into());
        let (norm, parts) = (self.sums.into(), self.sums.at(1).into());
        let blocks = self.len.div_ceil(256).clamp(1, BLOCKS);
        cuda.launch::<T>(("optim", "squares"), Grid::blocks(blocks, 256), &[g, parts, n])?;
        cuda.launch::<T>(("optim", "norm"), Grid::blocks(1, 256), &[parts, norm, Argument::int(blocks)])?;
        if let Some((loss, course)) = course {
            cuda.launch::<T>(("optim", "follow"), Grid::blocks(1, 32), &[loss.into(), norm, course.into()])?;
        }
        let [w, m, v, e] = self.weights.map(Argument::from);
        let arguments = [g, w, m, v, e, numbers, norm, n];
        cuda.launch::<T>(("optim", "adam"), Grid::threads(self.len), &arguments)
    }

    /// What tells these launches, with this course, from others.
    pub fn key(&self, course: Address<f64>) -> [u64; 3] {
        [self.gradient.raw(), self.len as u64, course.raw()]
    }
}

impl<T: Real> Step<T> {
    fn apply(&self, w: &mut [T], m: &mut [T], v: &mut [T], e: &mut [T], g: &[T]) {
        let ((b1, b2), (c1, c2)) = (self.betas, self.corrections);
        wide(
            #[inline(always)]
            || {
                for ((((w, m), v), e), &g) in w.iter_mut().zip(m).zip(v).zip(e).zip(g) {
                    let g = g * self.clip;
                    *m = b1 * *m + (T::ONE - b1) * g;
                    *v = b2 * *v + (T::ONE - b2) * g * g;
                    *w -= self.rate * (*m * c1 / ((*v * c2).sqrt() + self.epsilon) + self.decay * *w);
                    *e += (T::ONE - self.ema) * (*w - *e);
                }
            },
        );
    }
}

/// Euclidean norm, summed in double precision in an order that does not depend on the threads.
fn norm<T: Real>(pool: &Pool, g: &[T]) -> f64 {
    const PARTS: usize = 64;
    let part = g.len().div_ceil(PARTS).max(8192);
    let mut sums = [0.0; PARTS];
    pool.run_over(&mut sums[..g.len().div_ceil(part)], |i, sum| {
        *sum = squares(&g[i * part..g.len().min((i + 1) * part)]);
    });
    sums.iter().sum::<f64>().sqrt()
}

/// Sum of squares; enough partial sums that none waits for its last addition. They are the closure's own, so that they
/// stay in registers.
fn squares<T: Real>(g: &[T]) -> f64 {
    wide(
        #[inline(always)]
        || {
            let mut partial = [0.0_f64; 64];
            let (whole, rest) = g.as_chunks::<64>();
            for g in whole {
                partial.iter_mut().zip(g).for_each(|(sum, &g)| *sum += g.to_f64() * g.to_f64());
            }
            partial.iter_mut().zip(rest).for_each(|(sum, &g)| *sum += g.to_f64() * g.to_f64());
            partial.iter().sum()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Init, Layout};

    fn store(values: &[f64]) -> Store<f64> {
        let mut layout = Layout::new();
        let w = layout.scope("x").param("w", 1, values.len(), Init::Constant(0.0)).unwrap();
        let mut store = Store::new(layout, 0);
        store.set(w, values).unwrap();
        store
    }

    /// Adam as its paper writes it, one number at a time.
    fn reference(adam: &Adam, w: &mut f64, gradients: &[f64]) {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in gradients.iter().enumerate() {
            let t = t as i32 + 1;
            m = adam.betas.0 * m + (1.0 - adam.betas.0) * g;
            v = adam.betas.1 * v + (1.0 - adam.betas.1) * g * g;
            let (m_hat, v_hat) = (m / (1.0 - adam.betas.0.powi(t)), v / (1.0 - adam.betas.1.powi(t)));
            *w -= adam.learning_rate * (m_hat / (v_hat.sqrt() + adam.epsilon) + adam.weight_decay * *w);
        }
    }

    #[test]
    fn steps_follow_the_paper() {
        let device = Device::cpu_with_threads(2);
        let n = 20_011;
        let adam = Adam { learning_rate: 0.01, weight_decay: 0.1, clip: f64::INFINITY, ..Adam::default() };
        let mut store = store(&vec![0.5; n]);
        let mut optimiser = Optimiser::new(adam.clone(), 0..n).unwrap();
        for g in [0.3, -2.0, 0.001] {
            store.grads.iter_mut().enumerate().for_each(|(i, out)| *out = g * (1 + i % 3) as f64);
            optimiser.step(&device, &mut store, 1.0).unwrap();
        }
        for i in [0, 1, 2, 8191, 8192, n - 1] {
            let mut w = 0.5;
            reference(&adam, &mut w, &[0.3, -2.0, 0.001].map(|g| g * (1 + i % 3) as f64));
            assert!((store.params[i] - w).abs() < 1e-14, "parameter {i}");
        }
    }

    #[test]
    fn clipping_scales_the_whole_gradient() {
        let device = Device::cpu_with_threads(1);
        let mut store = store(&[0.0, 0.0]);
        store.grads.copy_from_slice(&[30.0, 40.0]);
        let adam = Adam { clip: 5.0, ..Adam::default() };
        assert_eq!(Optimiser::new(adam, 0..2).unwrap().step(&device, &mut store, 1.0).unwrap(), 50.0);
        assert!((store.first_moment[0] - 0.1 * 3.0).abs() < 1e-15);
        assert!((store.first_moment[1] - 0.1 * 4.0).abs() < 1e-15);
    }

    #[test]
    fn only_the_range_is_trained_and_nan_changes_nothing() {
        let device = Device::cpu_with_threads(1);
        let mut store = store(&[1.0, 1.0, 1.0]);
        store.grads.copy_from_slice(&[1.0, 1.0, f64::NAN]);
        let optimiser = |range| Optimiser::new(Adam::default(), range).unwrap();
        optimiser(1..2).step(&device, &mut store, 1.0).unwrap();
        assert_eq!((store.params[0], store.params[2]), (1.0, 1.0));
        assert!(store.params[1] < 1.0);
        let before = store.clone();
        assert!(optimiser(0..3).step(&device, &mut store, 1.0).unwrap().is_nan());
        assert_eq!(store.params, before.params);
        assert!(optimiser(0..4).step(&device, &mut store, 1.0).is_err());
    }

    #[test]
    fn the_average_follows_the_weights() {
        let device = Device::cpu_with_threads(1);
        let mut store = store(&[1.0]);
        let adam = Adam { learning_rate: 0.1, ema: 0.5, ..Adam::default() };
        let mut optimiser = Optimiser::new(adam, 0..1).unwrap();
        let mut average = 1.0;
        for t in 1..20 {
            store.grads[0] = 1.0;
            optimiser.step(&device, &mut store, 1.0).unwrap();
            let decay = 0.5_f64.min((1.0 + t as f64) / (10.0 + t as f64));
            average = decay * average + (1.0 - decay) * store.params[0];
        }
        assert!((store.ema[0] - average).abs() < 1e-12);
    }

    #[test]
    fn settings_are_checked_by_name() {
        let bad = Adam { betas: (0.9, 1.0), ..Adam::default() };
        assert!(matches!(bad.check(), Err(Error::Parameter { name, .. }) if name == "beta 2"));
        assert!(Adam::new(f64::NAN).check().is_err());
        assert!(Adam { clip: f64::INFINITY, ..Adam::default() }.check().is_ok());
    }

    #[test]
    fn schedules_rise_and_fall() {
        let cosine = Schedule::Cosine { warmup: 0.1, floor: 0.01 };
        assert!((cosine.factor(0, 1000) - 0.01).abs() < 1e-12);
        assert!((cosine.factor(100, 1000) - 1.0).abs() < 1e-12);
        assert!((cosine.factor(550, 1000) - 0.505).abs() < 1e-12);
        assert!((cosine.factor(1000, 1000) - 0.01).abs() < 1e-12);
        assert_eq!(Schedule::Constant.factor(7, 10), 1.0);
    }
}
