//! Chains that stay on the device from step to step.
//!
//! A step sends its numbers and the noise's address to the device, and launches a graph.

use super::{Memory, OnDevice, Work};
use crate::device::cuda::{Address, Argument, Buffer, Grid, words};
use crate::error::Error;
use crate::plan::Feed;
use crate::plan::compile::Program;
use crate::plan::cuda::inputs::{Fed, Inputs, noise_address};
use crate::plan::cuda::pass::Pass;
use crate::real::Real;
use crate::rng::NoiseRows;
use crate::store::Parameters;

/// What a step reads: the program's inputs, whose places in the workspace later ops reuse.
#[derive(Debug)]
pub(super) struct Resident<T> {
    x: Buffer<T>,
    context: Option<Buffer<T>>,
    /// Of each chain: steps since it left the finite numbers.
    since: Buffer<u32>,
}

impl<T: Real> OnDevice<T> {
    /// Copies what all steps read to the device; the feeds are those of the first step.
    pub fn begin(
        &mut self,
        program: &Program<T>,
        params: Parameters<'_, T>,
        rows: usize,
        feeds: &[Feed<'_, T>],
    ) -> Result<(), Error> {
        let cuda = self.cuda.clone();
        let _turn = cuda.turn();
        self.reserve(program, rows)?;
        self.take(program, params)?;
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let table = |cols: usize| Buffer::new(&cuda, memory.capacity * cols);
        let widths: Vec<usize> = program.feeds.iter().map(|fed| fed.cols).collect();
        if memory.chains.is_none() {
            memory.chains = Some(Resident {
                x: table(widths[0])?,
                context: widths.get(2).map(|&cols| table(cols)).transpose()?,
                since: Buffer::new(&cuda, memory.capacity)?,
            });
        }
        let Some(chains) = &memory.chains else { return Ok(()) };
        let tables = [(0, Some(&chains.x)), (2, chains.context.as_ref())];
        for (i, buffer) in tables.into_iter().filter_map(|(i, buffer)| Some((i, buffer?))) {
            let mut values = vec![T::ZERO; rows * widths[i]];
            feeds[i].copy_rows(0..rows, widths[i], &mut values);
            buffer.write(0, &values)?;
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
        let noise = noise_address(Some(noise));
        let Some(Memory { chains: Some(chains), .. }) = &self.memory else { return Ok(()) };
        let size = words::<u64>(noise.len()) + words::<T>(numbers.len());
        let inputs = self.staging.send(size, |packet| {
            let context = chains.context.as_ref().map(|context| Some(Fed::Rows(context.address().into())));
            let own = [Fed::Rows(chains.x.address().into()), Fed::Repeat(packet.put(numbers).into())].map(Some);
            let feeds = own.into_iter().chain(context).collect();
            Ok(Inputs {
                feeds,
                noise: packet.put(&noise).into(),
                seeds: Vec::new(),
                numbers: Address::<f64>::NONE.into(),
            })
        })?;
        self.replay(program, rows, (Work::Step, inputs), self.gradient.address(), None)
    }

    /// Waits, and returns the chain that has been without a finite number for the most steps, and for how many.
    pub fn lost(&self, rows: usize) -> Result<Option<(usize, usize)>, Error> {
        let _turn = self.cuda.turn();
        let Some(chains) = &self.memory()?.chains else { return Ok(None) };
        let mut since = vec![0; rows];
        chains.since.read(0, &mut since)?;
        let most = since.iter().copied().max().filter(|&steps| steps > 0);
        Ok(most.and_then(|most| Some((since.iter().position(|&steps| steps == most)?, most as usize))))
    }

    /// Where the chains are.
    pub fn read_chains(&self, x: &mut [T]) -> Result<(), Error> {
        let _turn = self.cuda.turn();
        self.memory()?.chains.as_ref().map_or(Ok(()), |chains| chains.x.read(0, x))
    }
}

/// The output becomes the next step's input.
pub(super) fn advance<T: Real>(pass: &Pass<'_, T>, memory: &Memory<T>) -> Result<(), Error> {
    let Some(chains) = &memory.chains else { return Ok(()) };
    let (next, cols) = (pass.program.outputs[0], pass.program.feeds[0].cols);
    let [next, x] = [pass.at(next), chains.x.address()].map(Argument::from);
    let arguments = [next, x, chains.since.address().into(), Argument::int(cols), Argument::size(pass.rows)];
    pass.cuda.launch::<T>(("chains", "advance"), Grid::teams(pass.rows, cols), &arguments)
}
