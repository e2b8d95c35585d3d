//! Training steps that stay on the device: a graph goes from the batch to the optimiser.

use std::sync::Arc;

use super::Work;
use crate::device::cuda::{Address, Argument, Cuda};
use crate::error::Error;
use crate::plan::{Batch, Call, Feed, Plan, Seed};
use crate::real::Real;
use crate::store::Store;

impl<T: Real> Plan<T> {
    /// Whether the plan runs on this device.
    pub(crate) fn is_on(&self, cuda: &Arc<Cuda>) -> bool {
        self.on_device.as_ref().is_some_and(|on| Arc::ptr_eq(&on.cuda, cuda))
    }

    /// The gradient of the mean, then the launches `step` of an optimiser, given where the sum of the losses and its numbers
    /// are. Nothing is waited for.
    pub(crate) fn descend_on_device(
        &mut self,
        store: &mut Store<T>,
        Batch { rows, noise }: Batch<'_>,
        feeds: &[Feed<'_, T>],
        (key, numbers): ([u64; 3], &[f64]),
        step: &dyn Fn(Address<f64>, Argument) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check_loss(store, rows)?;
        self.check(store.layout().len(), rows, noise, feeds)?;
        let Some(on) = &mut self.on_device else { return Ok(()) };
        let cuda = on.cuda.clone();
        let _turn = cuda.turn();
        let gradient = store.grads.on_device_mut(&cuda)?.address().at(self.program.trained.start);
        let seed = Some(Seed::Mean);
        let call = Call { params: &[], packed: &[], rows, feeds, noise, seed, outputs: &[], input_gradients: &[] };
        on.reserve(&self.program, rows)?;
        on.take(&self.program, (&store.params).into())?;
        let inputs = on.send(&self.program, &call, numbers)?;
        on.replay(&self.program, rows, (Work::Descent(key), inputs), gradient, Some(step))
    }
}
