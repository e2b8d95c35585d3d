//! The fit loop: minibatches, early stopping on the averaged weights, a history, and checkpoints.

mod course;
mod descent;
mod epochs;

pub(crate) use descent::Descent;
pub use epochs::{Checkpoints, Snapshot};
pub(crate) use epochs::{Learner, Losses, Rules, State, run, shuffled};

use std::ops::{ControlFlow, Range};

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::op::MAX_ARITY;
use crate::optim::{Adam, Optimiser, Schedule};
use crate::plan::{Batch, Feed, Plan};
use crate::real::Real;
use crate::rng::{NoiseRows, mix};
use crate::store::{Store, Weights};

/// How to train.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Training {
    /// Rows per step; the last batch of an epoch has what is left.
    pub batch: usize,
    /// The most passes over the training rows.
    pub max_epochs: usize,
    /// Stop after this many epochs without a better validation loss.
    pub patience: usize,
    /// The optimiser, with clipping and the moving average of the weights.
    pub adam: Adam,
    /// The learning rate over `max_epochs`.
    pub schedule: Schedule,
    /// Seed of the order of rows.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { batch: 256, max_epochs: 300, patience: 20, adam: Adam::default(), schedule: Schedule::Constant, seed: 0 }
    }
}

impl Training {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the one that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        for (name, value) in [("batch", self.batch), ("max_epochs", self.max_epochs), ("patience", self.patience)] {
            if value == 0 {
                return Err(Error::parameter(name, "0 must be at least 1"));
            }
        }
        self.adam.check()
    }
}

/// Where one input of the loss's graph comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a, T> {
    /// The rows of a table.
    Table(&'a [T]),
    /// The rows of a table, but beside each row the one that follows it in the epoch's random order: what makes
    /// independent pairs (θ', x) of the tables of θ and x.
    Next(&'a [T]),
    /// One number for all rows, which rises from 0 to 1 over this first part of the training; 1 in validation.
    WarmUp(f64),
}

impl<'a, T> Source<'a, T> {
    /// Its table, if it has one.
    fn table(&self) -> Option<&'a [T]> {
        match *self {
            Self::Table(table) | Self::Next(table) => Some(table),
            Self::WarmUp(_) => None,
        }
    }
}

/// One source for each input of the loss's graph, tables of equal length, and which of their rows are for what.
#[derive(Clone, Debug)]
pub struct TrainingSet<'a, T> {
    /// The sources, in the order of the graph's inputs.
    pub inputs: &'a [Source<'a, T>],
    /// Rows that are trained on.
    pub training: &'a [u32],
    /// Rows on which early stopping is decided: always all of them.
    pub validation: &'a [u32],
}

/// What one epoch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss of the epoch's steps, each before its update.
    pub training_loss: f64,
    /// Mean loss of the averaged weights over all validation rows.
    pub validation_loss: f64,
    /// Mean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether the validation loss is the lowest so far.
    pub best: bool,
    /// Wall-clock time since the start of the training.
    pub seconds: f64,
}

/// Who is told of each epoch, and may break off the training.
pub type OnEpoch<'a> = &'a mut dyn FnMut(&Epoch) -> ControlFlow<()>;

/// All epochs.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct History {
    /// First to last.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// The epoch with the lowest validation loss, whose averaged weights the store holds after the training.
    pub fn best(&self) -> Option<&Epoch> {
        self.epochs.iter().rev().find(|e| e.best)
    }
}

/// Minimises the mean over rows of the loss that `plan` computes, over the part `range` of the parameters.
///
/// Noise that the graph draws is new in each step; in validation it is the same in each epoch, row by row.
///
/// After each epoch `on_epoch` is told; it may break off the training. At the end, however it came, the store holds
/// the averaged weights of the best epoch. Same seed, same weights, whatever the number of threads.
///
/// # Errors
/// [`Error::Parameter`] for impossible settings, [`Error::Length`] for no rows or feeds that do not fit, and
/// [`Error::Training`] if loss or gradient are no longer finite; the best weights up to then are kept.
pub fn fit<T: Real>(
    device: &Device,
    store: &mut Store<T>,
    plan: &mut Plan<T>,
    range: Range<usize>,
    set: &TrainingSet<'_, T>,
    settings: &Training,
    mut on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<History, Error> {
    store.check_range(&range)?;
    let mut minimiser = Minimiser::new(device, plan, range, set, settings)?;
    minimiser.run(store, None, &mut on_epoch)
}

/// Descends along the gradient of a loss.
pub(crate) struct Minimiser<'a, 'd, T> {
    device: &'a Device,
    plan: &'a mut Plan<T>,
    set: &'a TrainingSet<'d, T>,
    range: Range<usize>,
    descent: Descent,
    settings: &'a Training,
}

impl<'a, 'd, T: Real> Minimiser<'a, 'd, T> {
    pub fn new(
        device: &'a Device,
        plan: &'a mut Plan<T>,
        range: Range<usize>,
        set: &'a TrainingSet<'d, T>,
        settings: &'a Training,
    ) -> Result<Self, Error> {
        settings.check()?;
        for (what, rows) in [("training rows", set.training), ("validation rows", set.validation)] {
            check_length(what, rows.len().max(1), rows.len())?;
        }
        check_length("inputs", set.inputs.len().min(MAX_ARITY), set.inputs.len())?;
        let descent = Descent::new(Optimiser::new(settings.adam.clone(), range.clone())?);
        Ok(Self { device, plan, set, range, descent, settings })
    }

    /// All epochs.
    pub fn run(
        &mut self,
        store: &mut Store<T>,
        checkpoints: Option<&dyn Checkpoints<T>>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<History, Error> {
        let Training { max_epochs, patience, .. } = *self.settings;
        let rules = Rules { range: self.range.clone(), max_epochs, patience, last: false };
        self.keep_tables(store)?;
        let history = run(self, store, &rules, checkpoints, on_epoch);
        // The tables are only borrowed. If giving them back fails too, the training's own error is the one to tell.
        #[cfg(feature = "cuda")]
        let history = {
            let given_back = self.plan.keep_tables(0, std::iter::empty());
            history.and_then(|history| given_back.map(|()| history))
        };
        history
    }

    /// Copies the tables to the device, if there is one.
    fn keep_tables(&mut self, store: &mut Store<T>) -> Result<(), Error> {
        let rows = self.settings.batch.min(self.set.training.len()).max(self.set.validation.len());
        let tables = self.set.inputs.iter().filter_map(Source::table);
        self.descent.keep_tables(self.plan, (self.device, store), rows, tables)
    }

    /// One step.
    fn step(&mut self, store: &mut Store<T>, batch: &[u32], next: &[u32]) -> Result<(), Error> {
        let (step, steps) = (self.descent.steps(), self.steps_per_epoch() * self.settings.max_epochs as u64);
        let factor = self.settings.schedule.factor(step, steps);
        let ramps = ramps(self.set.inputs, step as f64 / steps as f64);
        let feeds = feeds(self.set.inputs, batch, next, &ramps);
        let feeds = &feeds[..self.set.inputs.len()];
        let seed = noise_seed(self.settings, "training");
        let rows = Batch::with_noise(batch.len(), NoiseRows::new(&seed).at(step as u32));
        self.descent.step(self.plan, (self.device, store), rows, feeds, factor)
    }

    /// `Ok` if loss and gradient of all steps have been finite.
    fn check(&mut self, epoch: usize, now: bool) -> Result<(), Error> {
        let Some(step) = self.descent.lost(now) else { return Ok(()) };
        let why = format!(
            "the loss or its gradient is no longer finite after step {step}; a lower learning rate, a tighter clip, or data \
             without extreme values may help"
        );
        Err(Error::Training { epoch, why })
    }

    fn validation_loss(&mut self, store: &Store<T>) -> Result<f64, Error> {
        let (rows, ramps) = (self.set.validation, ramps(self.set.inputs, 1.0));
        let next = following(rows);
        let feeds = feeds(self.set.inputs, rows, &next, &ramps);
        let seed = noise_seed(self.settings, "validation");
        let batch = Batch::with_noise(rows.len(), NoiseRows::new(&seed));
        self.plan.mean(store.weights(Weights::Ema), batch, &feeds[..self.set.inputs.len()])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.set.training.len().div_ceil(self.settings.batch) as u64
    }
}

impl<T: Real> Learner<T> for Minimiser<'_, '_, T> {
    /// One pass over the training rows, then the loss on the validation rows.
    fn epoch(&mut self, store: &mut Store<T>, epoch: usize) -> Result<Losses, Error> {
        let order = shuffled(self.set.training, self.settings.seed, epoch);
        let next = following(&order);
        self.descent.restart();
        let batches = order.chunks(self.settings.batch).zip(next.chunks(self.settings.batch));
        for (batch, next) in batches {
            self.step(store, batch, next)?;
            self.check(epoch, false)?;
        }
        self.check(epoch, true)?;
        let (losses, gradient_norm) = self.descent.sums();
        let (training, validation) = (losses / order.len() as f64, self.validation_loss(store)?);
        Ok(Losses { training, validation, gradient_norm })
    }

    fn state(&mut self) -> State<'_, T> {
        State { optimisers: vec![self.descent.optimiser_mut()], vector: &mut [], number: None }
    }
}

/// Each row's follower, the first one's after the last.
fn following(order: &[u32]) -> Vec<u32> {
    let mut next = order.to_vec();
    next.rotate_left(1);
    next
}

/// The noise of training and validation: keys that differ from each other and from that of the initial weights.
fn noise_seed(settings: &Training, purpose: &str) -> u64 {
    mix(settings.seed, purpose.bytes().map(u64::from))
}

/// The numbers that the warm-ups have reached.
fn ramps<T: Real>(inputs: &[Source<'_, T>], progress: f64) -> [[T; 1]; MAX_ARITY] {
    std::array::from_fn(|i| match inputs.get(i) {
        Some(Source::WarmUp(part)) if progress < *part => [T::from_f64(progress / part)],
        _ => [T::ONE],
    })
}

/// What each input is fed for these rows.
fn feeds<'a, T: Real>(
    inputs: &[Source<'a, T>],
    rows: &'a [u32],
    next: &'a [u32],
    ramps: &'a [[T; 1]; MAX_ARITY],
) -> [Feed<'a, T>; MAX_ARITY] {
    std::array::from_fn(|i| match inputs.get(i) {
        Some(Source::Table(table)) => Feed::Gather(table, rows),
        Some(Source::Next(table)) => Feed::Gather(table, next),
        Some(Source::WarmUp(_)) | None => Feed::Repeat(&ramps[i]),
    })
}
