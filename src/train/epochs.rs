//! The loop over epochs that every training shares: history, the weights that are kept, patience, checkpoints.

use std::fmt::Debug;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

use super::{Epoch, History, OnEpoch};
use crate::error::Error;
use crate::optim::Optimiser;
use crate::real::Real;
use crate::rng::permutation;
use crate::store::{Store, Vector, Weights};

/// What goes on from epoch to epoch.
pub(crate) trait Learner<T: Real> {
    /// One pass over the training rows.
    fn epoch(&mut self, store: &mut Store<T>, epoch: usize) -> Result<Losses, Error>;

    /// Everything that an epoch leaves behind for the next one, but the store: all other numbers follow from the
    /// settings and the epoch.
    fn state(&mut self) -> State<'_, T>;
}

/// What one pass gave.
pub(crate) struct Losses {
    pub training: f64,
    pub validation: f64,
    pub gradient_norm: f64,
}

/// The numbers that a learner carries from epoch to epoch.
pub(crate) struct State<'a, T> {
    pub optimisers: Vec<&'a mut Optimiser>,
    /// A vector of its own, such as chains; empty if it has none.
    pub vector: &'a mut [T],
    /// A number of its own.
    pub number: Option<&'a mut f64>,
}

/// When to stop, and what to keep.
pub(crate) struct Rules {
    /// The part of the parameters that is given the kept weights at the end.
    pub range: Range<usize>,
    pub max_epochs: usize,
    /// Stop after so many epochs without a better validation loss.
    pub patience: usize,
    /// Keep the last averaged weights instead of those with the lowest validation loss.
    pub last: bool,
}

/// Where a training stands between two epochs: everything that it needs to go on as if it had never stopped.
#[derive(Debug)]
pub struct Snapshot<'a, T> {
    /// The epochs so far.
    pub history: &'a mut History,
    /// Steps that each optimiser has taken.
    pub steps: Vec<&'a mut u64>,
    /// Further numbers of the family.
    pub numbers: Vec<&'a mut f64>,
    /// Named vectors: weights, moments, averages, the best weights so far, and what the family has of its own.
    pub vectors: Vec<(&'static str, &'a mut [T])>,
}

/// Where snapshots are kept.
pub trait Checkpoints<T: Real>: Debug {
    /// Fills the snapshot of a training that has not begun with the one that was kept, if there is one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or belongs to another training.
    fn restore(&self, snapshot: &mut Snapshot<'_, T>) -> Result<(), Error>;

    /// Is told of every epoch, and may keep it; it must if this is the last one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be kept.
    fn keep(&self, snapshot: &Snapshot<'_, T>, last: bool) -> Result<(), Error>;
}

/// Runs a learner through its epochs. At the end, however it came, the store's `range` holds the kept weights.
pub(crate) fn run<T: Real>(
    learner: &mut impl Learner<T>,
    store: &mut Store<T>,
    rules: &Rules,
    checkpoints: Option<&dyn Checkpoints<T>>,
    on_epoch: OnEpoch<'_>,
) -> Result<History, Error> {
    let mut course = Course { history: History::default(), kept: store.weights(Weights::Raw).clone() };
    if let Some(checkpoints) = checkpoints {
        checkpoints.restore(&mut course.snapshot(store, learner))?;
    }
    let clock = Clock { start: Instant::now(), before: course.history.epochs.last().map_or(0.0, |e| e.seconds) };
    let outcome = course.go_on(learner, store, rules, checkpoints, (&clock, on_epoch));
    store.restart_from(rules.range.clone(), &course.kept);
    outcome.map(|()| course.history)
}

/// Time spent in training, before an interruption and since.
struct Clock {
    start: Instant,
    before: f64,
}

/// How far a training has come.
struct Course<T> {
    history: History,
    kept: Vector<T>,
}

impl<T: Real> Course<T> {
    fn go_on(
        &mut self,
        learner: &mut impl Learner<T>,
        store: &mut Store<T>,
        rules: &Rules,
        checkpoints: Option<&dyn Checkpoints<T>>,
        (clock, on_epoch): (&Clock, OnEpoch<'_>),
    ) -> Result<(), Error> {
        while !self.is_over(rules) {
            let epoch = self.history.epochs.len() + 1;
            let losses = learner.epoch(store, epoch)?;
            if !losses.validation.is_finite() {
                let why = "the validation loss is no longer finite; a lower learning rate or a tighter clip may help";
                return Err(Error::Training { epoch, why: why.into() });
            }
            let row = self.add(losses, store, rules, clock)?;
            let broken_off = on_epoch(&row) == ControlFlow::Break(());
            if let Some(checkpoints) = checkpoints {
                let last = broken_off || self.is_over(rules);
                checkpoints.keep(&self.snapshot(store, learner), last)?;
            }
            if broken_off {
                break;
            }
        }
        Ok(())
    }

    fn is_over(&self, rules: &Rules) -> bool {
        let epochs = self.history.epochs.len();
        let waited = epochs - self.history.best().map_or(0, |best| best.epoch);
        epochs >= rules.max_epochs || waited >= rules.patience
    }

    fn add(&mut self, losses: Losses, store: &Store<T>, rules: &Rules, clock: &Clock) -> Result<Epoch, Error> {
        let lowest = self.history.best().map_or(f64::INFINITY, |best| best.validation_loss);
        let row = Epoch {
            epoch: self.history.epochs.len() + 1,
            training_loss: losses.training,
            validation_loss: losses.validation,
            gradient_norm: losses.gradient_norm,
            best: rules.last || losses.validation < lowest,
            seconds: clock.before + clock.start.elapsed().as_secs_f64(),
        };
        if row.best {
            self.kept.take(store.weights(Weights::Ema))?;
        }
        self.history.epochs.push(row);
        Ok(row)
    }

    fn snapshot<'a>(&'a mut self, store: &'a mut Store<T>, learner: &'a mut impl Learner<T>) -> Snapshot<'a, T> {
        let State { optimisers, vector, number } = learner.state();
        Snapshot {
            history: &mut self.history,
            steps: optimisers.into_iter().map(Optimiser::steps_mut).collect(),
            numbers: number.into_iter().collect(),
            vectors: vec![
                ("weights", &mut store.params),
                ("first_moment", &mut store.first_moment),
                ("second_moment", &mut store.second_moment),
                ("average", &mut store.ema),
                ("kept", &mut self.kept),
                ("own", vector),
            ],
        }
    }
}

/// The training rows in the order of this epoch.
pub(crate) fn shuffled(rows: &[u32], seed: u64, epoch: usize) -> Vec<u32> {
    permutation(rows.len() as u32, seed, epoch as u64).into_iter().map(|i| rows[i as usize]).collect()
}
