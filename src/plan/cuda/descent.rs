//! Training steps that stay on the device: the tables lie there, and a step copies the numbers of its rows.

use std::sync::Arc;

use super::{OnDevice, Work};
use crate::device::cuda::{Address, Argument, Buffer, Cuda, Grid};
use crate::error::Error;
use crate::plan::cuda::pass::{Pass, State};
use crate::plan::{Batch, Call, Feed, Plan, Seed};
use crate::real::Real;
use crate::store::Store;

/// A table that was copied to the device.
#[derive(Debug)]
pub(super) struct Resident<T> {
    /// The table, by where it lies in the processor's memory and how long it is.
    host: (usize, usize),
    copy: Buffer<T>,
}

impl<T: Real> Plan<T> {
    /// Whether the plan runs on this device.
    pub(crate) fn is_on(&self, cuda: &Arc<Cuda>) -> bool {
        self.on_device.as_ref().is_some_and(|on| Arc::ptr_eq(&on.cuda, cuda))
    }

    /// Keeps copies of these tables on the device until it is given others, as many as fit, so that their rows are
    /// gathered there. The tables must not change before.
    pub(crate) fn keep_tables<'a>(&mut self, tables: impl Iterator<Item = &'a [T]>) {
        let Some(on) = &mut self.on_device else { return };
        let cuda = on.cuda.clone();
        let _turn = cuda.turn();
        on.graphs.clear();
        on.resident.clear();
        for table in tables {
            if on.resident.iter().any(|resident| resident.host == place(table)) {
                continue;
            }
            // One for which there is no memory is copied batch by batch.
            let Ok(copy) = Buffer::of(&cuda, table) else { continue };
            on.resident.push(Resident { host: place(table), copy });
        }
    }

    /// The gradient of the mean, then the launches `step` of an optimiser, given where the sum of the losses is. Nothing is
    /// waited for.
    pub(crate) fn descend_on_device(
        &mut self,
        store: &mut Store<T>,
        Batch { rows, noise }: Batch<'_>,
        feeds: &[Feed<'_, T>],
        key: [u64; 3],
        step: &dyn Fn(Address<f64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check_loss(store, rows)?;
        self.check(store.layout().len(), rows, noise, feeds)?;
        let Some(on) = &mut self.on_device else { return Ok(()) };
        let cuda = on.cuda.clone();
        let _turn = cuda.turn();
        let params = store.params.on_device(&cuda)?.address();
        let gradient = store.grads.on_device_mut(&cuda)?.address().at(self.program.trained.start);
        let seed = Some(Seed::Mean);
        let call = Call { params: &[], packed: &[], rows, feeds, noise, seed, outputs: &[], input_gradients: &[] };
        on.reserve(&self.program, rows)?;
        on.load(&self.program, &call)?;
        on.replay(&self.program, rows, Work::Descent(key), State { params, gradient, lanes: 1 }, Some(step))
    }
}

fn place<T>(table: &[T]) -> (usize, usize) {
    (table.as_ptr() as usize, table.len())
}

impl<T: Real> OnDevice<T> {
    /// The copy of the table from which the feed is gathered.
    pub(super) fn table_of(&self, feed: &Feed<'_, T>) -> Option<Address<T>> {
        let Feed::Gather(table, _) = feed else { return None };
        self.resident.iter().find(|resident| resident.host == place(table)).map(|resident| resident.copy.address())
    }

    /// Gathers the feeds whose tables are on the device.
    pub(super) fn gather(&self, pass: &Pass<'_, T>, memory: &super::Memory<T>) -> Result<(), Error> {
        for ((fed, table), index) in pass.program.feeds.iter().zip(&self.gathered).zip(&memory.indices) {
            let (Some(place), Some(table)) = (fed.buffer, table) else { continue };
            let (to, n) = (pass.at(place), pass.elements(place));
            let arguments =
                [(*table).into(), index.address().into(), to.into(), Argument::int(fed.cols), Argument::size(n)];
            pass.launch("gather", Grid::threads(n), &arguments)?;
        }
        Ok(())
    }
}
