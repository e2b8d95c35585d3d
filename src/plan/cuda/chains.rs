//! Chains that stay on the device from step to step.
//!
//! A step copies the numbers of that step and the noise's address to the device, and launches a graph.

use super::{Memory, OnDevice, Work};
use crate::device::cuda::{Address, Argument, Buffer, Grid};
use crate::error::Error;
use crate::op::cuda::Adjoint;
use crate::plan::Feed;
use crate::plan::compile::Program;
use crate::plan::cuda::pass::Pass;
use crate::real::Real;
use crate::rng::NoiseRows;

/// What a step reads: the program's inputs, whose places in the workspace later ops reuse.
#[derive(Debug)]
pub(super) struct Resident<T> {
    x: Buffer<T>,
    /// One row for all chains.
    numbers: Buffer<T>,
    context: Option<Buffer<T>>,
    /// Of each chain: steps since it left the finite numbers.
    since: Buffer<u32>,
}

impl<T: Real> OnDevice<T> {
    /// Copies what all steps read to the device; the feeds are those of the first step.
    pub fn begin(
        &mut self,
        program: &Program<T>,
        params: &[T],
        rows: usize,
        feeds: &[Feed<'_, T>],
    ) -> Result<(), Error> {
        let cuda = self.cuda.clone();
        let _turn = cuda.turn();
        self.reserve(program, rows)?;
        self.params.write(0, &params[..program.params])?;
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let table = |cols: usize| Buffer::new(&cuda, memory.capacity * cols);
        let widths: Vec<usize> = program.feeds.iter().map(|fed| fed.cols).collect();
        if memory.chains.is_none() {
            memory.chains = Some(Resident {
                x: table(widths[0])?,
                numbers: Buffer::new(&cuda, widths[1])?,
                context: widths.get(2).map(|&cols| table(cols)).transpose()?,
                since: Buffer::new(&cuda, memory.capacity)?,
            });
        }
        let Some(chains) = &memory.chains else { return Ok(()) };
        let tables = [(0, Some(&chains.x)), (2, chains.context.as_ref())];
        for (i, buffer) in tables.into_iter().filter_map(|(i, buffer)| Some((i, buffer?))) {
            self.staging.resize(rows * widths[i], T::ZERO);
            feeds[i].copy_rows(0..rows, widths[i], &mut self.staging);
            buffer.write(0, &self.staging)?;
        }
        chains.since.write(0, &vec![0; rows])
    }

    /// One step.
    pub fn step(
        &mut self,
        program: &Program<T>,
        rows: usize,
        noise: NoiseRows<'_>,
        numbers: &[T],
    ) -> Result<(), Error> {
        let cuda = self.cuda.clone();
        let _turn = cuda.turn();
        self.load_noise(&noise)?;
        if let Some(chains) = &self.memory()?.chains {
            chains.numbers.write(0, numbers)?;
        }
        self.gathered.clear();
        self.replay(program, rows, Work::Step, self.own_state(), None)
    }

    /// Waits, and returns the chain that has been without a finite number for the most steps, and for how many.
    pub fn lost(&self, rows: usize) -> Result<Option<(usize, usize)>, Error> {
        let Some(chains) = &self.memory()?.chains else { return Ok(None) };
        let mut since = vec![0; rows];
        chains.since.read(0, &mut since)?;
        let most = since.iter().copied().max().filter(|&steps| steps > 0);
        Ok(most.and_then(|most| Some((since.iter().position(|&steps| steps == most)?, most as usize))))
    }

    /// Where the chains are.
    pub fn read_chains(&self, x: &mut [T]) -> Result<(), Error> {
        self.memory()?.chains.as_ref().map_or(Ok(()), |chains| chains.x.read(0, x))
    }
}

/// The launches of a step.
pub(super) fn step<T: Real>(pass: &Pass<'_, T>, memory: &Memory<T>) -> Result<(), Error> {
    let Some(chains) = &memory.chains else { return Ok(()) };
    let place = |i: usize| pass.program.feeds.get(i).and_then(|fed| fed.buffer);
    let load = |i: usize, from: Address<T>| {
        place(i).map_or(Ok(()), |place| pass.copy(from, Adjoint::Set(pass.at(place)), pass.elements(place)))
    };
    load(0, chains.x.address())?;
    chains.context.as_ref().map_or(Ok(()), |context| load(2, context.address()))?;
    if let Some(place) = place(1) {
        let (cols, n) = (pass.program.feeds[1].cols, pass.elements(place));
        let arguments =
            [chains.numbers.address().into(), pass.at(place).into(), Argument::int(cols), Argument::size(n)];
        pass.cuda.launch::<T>(("chains", "repeat"), Grid::threads(n), &arguments)?;
    }
    pass.forward(false)?;
    let (next, cols) = (pass.program.outputs[0], pass.program.feeds[0].cols);
    let [next, x] = [pass.at(next), chains.x.address()].map(Argument::from);
    let arguments = [next, x, chains.since.address().into(), Argument::int(cols), Argument::size(pass.rows)];
    pass.cuda.launch::<T>(("chains", "advance"), Grid::teams(pass.rows, cols), &arguments)
}
