//! Replays from vectors to a vector, which stay on the device: only the noise's address is copied.

use super::inputs::{Fed, Inputs, noise_address};
use super::{OnDevice, Work};
use crate::device::cuda::{Address, Argument, Grid, words};
use crate::error::Error;
use crate::op::cuda::Adjoint;
use crate::plan::{Batch, Plan};
use crate::real::Real;
use crate::store::{Parameters, Vector};

impl<T: Real> Plan<T> {
    /// [`Plan::forward_vectors`]; the lengths are known to fit.
    pub(in crate::plan) fn forward_vectors_on_device(
        &mut self,
        params: Parameters<'_, T>,
        Batch { rows, noise }: Batch<'_>,
        inputs: &[&Vector<T>],
        output: &mut Vector<T>,
    ) -> Result<(), Error> {
        let (Some(on), program) = (&mut self.on_device, &self.program) else { return Ok(()) };
        let cuda = on.cuda.clone();
        let _turn = cuda.turn();
        on.reserve(program, rows)?;
        on.take(program, params)?;
        let buffers = inputs.iter().map(|vector| vector.on_device(&cuda)).collect::<Result<Vec<_>, _>>()?;
        let feeds = buffers.iter().map(|buffer| Some(Fed::Rows(buffer.address().into()))).collect();
        let inputs = on.send_noise(&noise_address(noise), feeds)?;
        let (output, place) = (output.on_device_mut(&cuda)?, program.outputs[0]);
        let memory = on.memory()?;
        let from = memory.workspace.address().at(memory.capacity * program.slots[place].offset);
        let (to, n) = (Adjoint::Set(output.address()), rows * program.slots[place].cols);
        let arguments = [from.into(), to.into(), Argument::size(n)];
        let copy = |_, _| cuda.launch::<T>(("plan", "copy"), Grid::threads(n), &arguments);
        let (work, gradient) = (Work::Into(output.address().raw()), on.gradient.address());
        on.replay(program, rows, (work, inputs), gradient, Some(&copy))
    }
}

impl<T: Real> OnDevice<T> {
    /// Sends the noise's address, beside inputs that are on the device.
    fn send_noise(&mut self, noise: &[u64], feeds: Vec<Option<Fed>>) -> Result<Inputs, Error> {
        self.staging.send(words::<u64>(noise.len()), |packet| {
            let numbers = Address::<f64>::NONE.into();
            Ok(Inputs { feeds, noise: packet.put(noise).into(), seeds: Vec::new(), numbers })
        })
    }
}
