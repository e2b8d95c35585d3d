//! A plan whose output is its first input at the next replay: a step of a sampler.
//!
//! The chains stay where the plan works. On the processor its input and its output change places; on a device nothing but
//! the numbers of each step is copied until the chains are asked for.

use crate::error::{Error, check_length};
use crate::plan::{Batch, Feed, Plan};
use crate::real::Real;
use crate::rng::NoiseRows;
use crate::store::Parameters;

/// Chains, and the plan that moves them. Its inputs are the chains, one row of numbers for all of them, and the context,
/// if there is one.
#[derive(Debug)]
pub(crate) struct Chains<T> {
    plan: Plan<T>,
    x: Vec<T>,
    next: Vec<T>,
    rows: usize,
    /// Steps taken.
    done: usize,
}

/// What all steps read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a, T> {
    pub params: Parameters<'a, T>,
    pub context: &'a [Feed<'a, T>],
}

/// Steps on a device after which it is waited for: a chain that has left the finite numbers is noticed then.
#[cfg(feature = "cuda")]
const LOOK: usize = 32;

impl<T: Real> Chains<T> {
    pub fn new(plan: Plan<T>) -> Self {
        Self { plan, x: Vec::new(), next: Vec::new(), rows: 0, done: 0 }
    }

    /// Puts the chains at `x`, `[rows x dim]`, after `done` steps.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Shape`] if anything does not fit.
    pub fn begin(&mut self, given: Given<'_, T>, batch: Batch<'_>, x: &[T], done: usize) -> Result<(), Error> {
        (self.rows, self.done) = (batch.rows, done);
        let numbers = vec![T::ZERO; self.plan.program.feeds[1].cols];
        let feeds = feeds(x, &numbers, given.context)?;
        let feeds = &feeds[..2 + given.context.len()];
        self.plan.check(given.params.count(), batch.rows, batch.noise, feeds)?;
        #[cfg(feature = "cuda")]
        if let (Some(on_device), 1..) = (&mut self.plan.on_device, self.rows) {
            return on_device.begin(&self.plan.program, given.params, batch.rows, feeds);
        }
        self.x.clear();
        self.x.extend_from_slice(x);
        self.next.resize(x.len(), T::ZERO);
        Ok(())
    }

    /// One step with these numbers.
    ///
    /// # Errors
    /// As [`Plan::forward`]; [`Error::Sampling`] for a chain that left the finite numbers.
    pub fn step(&mut self, given: Given<'_, T>, noise: NoiseRows<'_>, numbers: &[T]) -> Result<(), Error> {
        self.done += 1;
        #[cfg(feature = "cuda")]
        if let (Some(on_device), 1..) = (&mut self.plan.on_device, self.rows) {
            check_length("numbers of a step", self.plan.program.feeds[1].cols, numbers.len())?;
            on_device.step(&self.plan.program, self.rows, noise, numbers)?;
            return if self.done.is_multiple_of(LOOK) { self.look() } else { Ok(()) };
        }
        let feeds = feeds(&self.x, numbers, given.context)?;
        let (feeds, batch) = (&feeds[..2 + given.context.len()], Batch::with_noise(self.rows, noise));
        self.plan.forward(given.params, batch, feeds, &mut [&mut self.next])?;
        std::mem::swap(&mut self.x, &mut self.next);
        match self.x.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(i) => Err(left(self.done, i / (self.x.len() / self.rows))),
        }
    }

    /// Where the chains are, `[rows x dim]`.
    ///
    /// # Errors
    /// As [`Chains::step`].
    pub fn end(&self, x: &mut [T]) -> Result<(), Error> {
        #[cfg(feature = "cuda")]
        if let (Some(on_device), 1..) = (&self.plan.on_device, self.rows) {
            self.look()?;
            return on_device.read_chains(x);
        }
        check_length("elements of the chains", self.x.len(), x.len())?;
        x.copy_from_slice(&self.x);
        Ok(())
    }

    /// `Ok` if all chains on the device have been finite so far.
    #[cfg(feature = "cuda")]
    fn look(&self) -> Result<(), Error> {
        let Some(on_device) = &self.plan.on_device else { return Ok(()) };
        match on_device.lost(self.rows)? {
            None => Ok(()),
            Some((chain, steps)) => Err(left(self.done + 1 - steps, chain)),
        }
    }
}

/// The plan's inputs; the last is one too many where there is no context.
fn feeds<'a, T: Real>(x: &'a [T], numbers: &'a [T], context: &[Feed<'a, T>]) -> Result<[Feed<'a, T>; 3], Error> {
    check_length("contexts (one, or none)", context.len().min(1), context.len())?;
    Ok([Feed::Rows(x), Feed::Repeat(numbers), context.first().copied().unwrap_or(Feed::Rows(&[]))])
}

fn left(step: usize, chain: usize) -> Error {
    let why = "the chain left the finite numbers; a smaller step, or a score without extreme values, may help";
    Error::Sampling { step, chain, why: why.into() }
}
