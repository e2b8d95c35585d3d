//! What a replay reads. It goes to the device in one copy, but for tables that lie there already.

use std::sync::Arc;

use super::OnDevice;
use crate::device::cuda::{Address, Argument, Buffer, Grid, Packet, words};
use crate::error::Error;
use crate::op::cuda::Adjoint;
use crate::plan::compile::Program;
use crate::plan::cuda::pass::Pass;
use crate::plan::{Call, Feed, Plan};
use crate::real::Real;
use crate::rng::NoiseRows;

/// Where the launches of a replay find what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inputs {
    /// Of each input of the graph, if an op reads it.
    pub feeds: Vec<Option<Fed>>,
    /// What the noise is addressed by: rows in a group, first row, step, the seed of each group.
    pub noise: Argument,
    /// Given adjoints of the outputs.
    pub seeds: Vec<Argument>,
    /// The numbers of an optimiser's step.
    pub numbers: Argument,
}

/// Where an input is on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fed {
    /// A row for each row of the batch.
    Rows(Argument),
    /// Row i is row `index[i]` of the table.
    Gather { table: Argument, index: Argument },
    /// One row for the whole batch.
    Repeat(Argument),
}

/// A table that was copied to the device.
#[derive(Clone, Debug)]
pub(super) struct Resident<T> {
    /// The table, by where it lies in the processor's memory and how long it is.
    host: (usize, usize),
    copy: Arc<Buffer<T>>,
}

fn place<T>(table: &[T]) -> (usize, usize) {
    (table.as_ptr() as usize, table.len())
}

impl<T: Real> Plan<T> {
    /// Keeps copies of these tables on the device until it is given others, as many as fit beside the memory for batches of
    /// so many rows, so that their rows are gathered there. The tables must not change before.
    pub(crate) fn keep_tables<'a>(&mut self, rows: usize, tables: impl Iterator<Item = &'a [T]>) -> Result<(), Error> {
        let Some(on) = &mut self.on_device else { return Ok(()) };
        let cuda = on.cuda.clone();
        let _turn = cuda.turn();
        on.reserve(&self.program, rows)?;
        on.graphs.clear();
        on.resident.clear();
        for table in tables {
            let known = on.resident.iter().any(|resident| resident.host == place(table));
            if !known && cuda.fits(size_of_val(table))? {
                on.resident.push(Resident { host: place(table), copy: Arc::new(Buffer::of(&cuda, table)?) });
            }
        }
        Ok(())
    }

    /// Reads the tables that another plan keeps on the device.
    pub(crate) fn share_tables(&mut self, other: &Self) {
        let Some(on) = &mut self.on_device else { return };
        on.graphs.clear();
        on.resident = other.on_device.as_ref().map_or_else(Vec::new, |other| other.resident.clone());
    }
}

/// A feed, and the copy of the table from which it is gathered, if there is one.
struct Source<'a, T> {
    feed: &'a Feed<'a, T>,
    resident: Option<Address<T>>,
    rows: usize,
    cols: usize,
}

impl<T: Real> Source<'_, T> {
    /// Room that it takes in the copy to the device.
    fn words(&self) -> usize {
        match (self.feed, self.resident) {
            (Feed::Gather(..), Some(_)) => words::<u32>(self.rows),
            (Feed::Repeat(_), _) => words::<T>(self.cols),
            _ => words::<T>(self.rows * self.cols),
        }
    }

    fn put(&self, packet: &mut Packet<'_>) -> Fed {
        match (self.feed, self.resident) {
            (Feed::Gather(_, index), Some(table)) => {
                Fed::Gather { table: table.into(), index: packet.put(index).into() }
            }
            (Feed::Repeat(row), _) => Fed::Repeat(packet.put(row).into()),
            _ => {
                let (room, address) = packet.room(self.rows * self.cols);
                self.feed.copy_rows(0..self.rows, self.cols, room);
                Fed::Rows(address.into())
            }
        }
    }
}

/// What the noise is addressed by.
pub(super) fn noise_address(noise: Option<NoiseRows<'_>>) -> Vec<u64> {
    let Some(noise) = noise else { return Vec::new() };
    let head = [noise.group as u64, noise.first as u64, u64::from(noise.step)];
    head.iter().chain(noise.seeds).copied().collect()
}

impl<T: Real> OnDevice<T> {
    /// Sends what a replay reads to the device, with the numbers of an optimiser's step.
    pub(super) fn send(&mut self, program: &Program<T>, call: &Call<'_, T>, numbers: &[f64]) -> Result<Inputs, Error> {
        let (rows, tables) = (call.rows, &self.resident);
        let source = |feed, cols| Source { feed, resident: resident(tables, feed), rows, cols };
        let feeds = program.feeds.iter().zip(call.feeds);
        let sources: Vec<_> = feeds.map(|(fed, feed)| fed.buffer.map(|_| source(feed, fed.cols))).collect();
        let (noise, seeds) = (noise_address(call.noise), call.seed.map_or(&[][..], |seed| seed.given()));
        let size = sources.iter().flatten().map(Source::words).sum::<usize>()
            + seeds.iter().map(|seed| words::<T>(seed.len())).sum::<usize>()
            + words::<u64>(noise.len())
            + words::<f64>(numbers.len());
        self.staging.send(size, |packet| {
            Ok(Inputs {
                feeds: sources.iter().map(|source| Some(source.as_ref()?.put(packet))).collect(),
                noise: packet.put(&noise).into(),
                seeds: seeds.iter().map(|seed| packet.put(seed).into()).collect(),
                numbers: packet.put(numbers).into(),
            })
        })
    }
}

/// The copy of the table from which the feed is gathered.
fn resident<T: Real>(tables: &[Resident<T>], feed: &Feed<'_, T>) -> Option<Address<T>> {
    let Feed::Gather(table, _) = feed else { return None };
    tables.iter().find(|resident| resident.host == place(table)).map(|resident| resident.copy.address())
}

impl Inputs {
    /// Lays the inputs into the workspace.
    pub fn feed<T: Real>(&self, pass: &Pass<'_, T>) -> Result<(), Error> {
        for (to, fed) in pass.program.feeds.iter().zip(&self.feeds) {
            let (Some(place), Some(fed)) = (to.buffer, fed) else { continue };
            let (to, cols, n) = (pass.at(place), Argument::int(to.cols), pass.elements(place));
            let (size, grid) = (Argument::size(n), Grid::threads(n));
            match *fed {
                Fed::Rows(from) => pass.copy(from, Adjoint::Set(to), n)?,
                Fed::Gather { table, index } => pass.launch("gather", grid, &[table, index, to.into(), cols, size])?,
                Fed::Repeat(row) => pass.launch("repeat", grid, &[row, to.into(), cols, size])?,
            }
        }
        Ok(())
    }
}
