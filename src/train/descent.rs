//! Steps along the gradient of a loss. On a device nothing is waited for between them.

use super::course::Course;
use crate::device::Device;
use crate::error::Error;
use crate::optim::Optimiser;
use crate::plan::{Batch, Feed, Plan};
use crate::real::Real;
use crate::store::Store;

/// Steps on a device after which it is asked whether loss and gradient are finite: it is waited for then.
const LOOK: usize = 64;

/// An optimiser on its way, and what its steps of this epoch come to.
#[derive(Debug)]
pub(crate) struct Descent {
    optimiser: Optimiser,
    course: Course,
    /// Steps of this epoch.
    done: usize,
    /// Whether they stay on a device.
    on_device: bool,
}

impl Descent {
    pub fn new(optimiser: Optimiser) -> Self {
        Self { optimiser, course: Course::new(), done: 0, on_device: false }
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.optimiser.steps()
    }

    pub fn optimiser_mut(&mut self) -> &mut Optimiser {
        &mut self.optimiser
    }

    /// Copies the tables to the device, if the plan runs on one: those that fit beside the weights and the memory for
    /// batches of so many rows.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "nothing is to be copied"))]
    pub fn keep_tables<'a, T: Real>(
        &self,
        plan: &mut Plan<T>,
        (device, store): (&Device, &mut Store<T>),
        rows: usize,
        tables: impl IntoIterator<Item = &'a [T]>,
    ) -> Result<(), Error> {
        #[cfg(feature = "cuda")]
        if let Some(cuda) = device.as_cuda().filter(|cuda| plan.is_on(cuda)) {
            self.optimiser.prepare(cuda, store)?;
            plan.keep_tables(rows, tables.into_iter())?;
        }
        Ok(())
    }

    /// Before the first step of the next epoch.
    pub fn restart(&mut self) {
        self.done = 0;
        self.course.restart();
    }

    /// One step along the gradient of the plan's loss, added to the course: the loss before the update, and the norm of its
    /// gradient. `factor` scales the learning rate.
    pub fn step<T: Real>(
        &mut self,
        plan: &mut Plan<T>,
        (device, store): (&Device, &mut Store<T>),
        batch: Batch<'_>,
        feeds: &[Feed<'_, T>],
        factor: f64,
    ) -> Result<(), Error> {
        self.done += 1;
        #[cfg(feature = "cuda")]
        if let Some(cuda) = device.as_cuda().filter(|cuda| plan.is_on(cuda)) {
            let launches = self.optimiser.prepare(cuda, store)?;
            let course = self.course.0.on_device_mut(cuda)?.address();
            let numbers = self.optimiser.numbers_of_next(factor);
            let then = |loss, numbers| launches.launch(cuda, numbers, Some((loss, course)));
            plan.descend_on_device(store, batch, feeds, (launches.key(course), &numbers), &then)?;
            *self.optimiser.steps_mut() += 1;
            self.on_device = true;
            return Ok(());
        }
        let loss = plan.mean_and_gradient(store, batch, feeds)?;
        self.course.add(loss * batch.rows() as f64, self.optimiser.step(device, store, factor)?);
        Ok(())
    }

    /// The step after which loss or gradient were no longer finite, if there is one. A device is asked now and then, and
    /// `now`.
    pub fn lost(&mut self, now: bool) -> Option<u64> {
        if self.on_device && !now && !self.done.is_multiple_of(LOOK) {
            return None;
        }
        let [.., lost] = self.course.sums();
        if lost == 0.0 {
            return None;
        }
        if self.on_device {
            *self.optimiser.steps_mut() -= lost as u64;
        }
        Some(self.optimiser.steps())
    }

    /// The sum over the rows of this epoch's steps of their losses, and the mean over the steps of their gradients' norms.
    pub fn sums(&self) -> (f64, f64) {
        let [losses, norms, _] = self.course.sums();
        (losses, norms / self.done.max(1) as f64)
    }
}
