//! One replay of a program over the rows of a batch, as launches in a stream.

use crate::device::cuda::{Address, Argument, Cuda, Grid};
use crate::error::Error;
use crate::op::cuda::{Adjoint, Backward, Forward, Gradient, Kernels};
use crate::plan::compile::{Buffer, Program, Replay, Reverse, Target};
use crate::real::Real;

/// Where a replay finds the parameters, and leaves the gradient of those that it trains, in so many lanes.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct State<T> {
    pub params: Address<T>,
    pub gradient: Address<T>,
    pub lanes: usize,
}

/// The tables of all ops of a program, one after the other.
#[derive(Debug, Default)]
pub(in crate::plan) struct Tables {
    pub words: Vec<u32>,
    starts: Vec<usize>,
}

impl Tables {
    /// Each begins at a multiple of 8 bytes, as numbers in double precision must.
    pub fn of<T: Real>(program: &Program<T>) -> Self {
        let mut tables = Self::default();
        for step in &program.forward {
            let table = step.node.op.kernels().map(|kernels| kernels.table(&step.input_widths));
            tables.starts.push(tables.words.len());
            tables.words.extend(table.unwrap_or_default());
            tables.words.resize(tables.words.len().next_multiple_of(2), 0);
        }
        tables
    }

    /// Where each lies, the words being at this address.
    pub fn at(&self, address: Address<u32>) -> Vec<Address<u32>> {
        self.starts.iter().map(|&start| address.at(start)).collect()
    }
}

/// `Ok` if every op of the program has kernels.
pub(in crate::plan) fn check<T: Real>(program: &Program<T>) -> Result<(), Error> {
    program.forward.iter().try_for_each(|step| kernels(step)?.check())
}

/// An op's kernels, or an error that says that it has none.
fn kernels<T: Real>(step: &Replay<T>) -> Result<&dyn Kernels<T>, Error> {
    let why = "has no kernels for a CUDA device; compile the plan for `Device::cpu()`";
    step.node.op.kernels().ok_or_else(|| Error::shape(step.node.op.name(), why))
}

/// A program, its memory, and the rows of it that are in use.
pub(in crate::plan) struct Pass<'a, T> {
    pub cuda: &'a Cuda,
    pub program: &'a Program<T>,
    /// That of each op of the forward pass.
    pub tables: &'a [Address<u32>],
    pub workspace: Address<T>,
    /// Rows that the workspace is laid out for, a multiple of 32, and rows in use.
    pub capacity: usize,
    pub rows: usize,
    pub state: State<T>,
}

impl<T: Real> Pass<'_, T> {
    pub fn at(&self, place: Buffer) -> Address<T> {
        self.workspace.at(self.capacity * self.program.slots[place].offset)
    }

    fn all(&self, places: &[Buffer]) -> Vec<Address<T>> {
        places.iter().map(|&place| self.at(place)).collect()
    }

    pub fn elements(&self, place: Buffer) -> usize {
        self.rows * self.program.slots[place].cols
    }

    pub fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<(), Error> {
        self.cuda.launch::<T>(("plan", kernel), grid, arguments)
    }

    pub fn copy(&self, from: impl Into<Argument>, to: Adjoint<T>, n: usize) -> Result<(), Error> {
        self.launch("copy", Grid::threads(n), &[from.into(), to.into(), Argument::size(n)])
    }

    pub fn fill(&self, to: Adjoint<T>, value: T, n: usize) -> Result<(), Error> {
        self.launch("fill", Grid::threads(n), &[to.into(), Argument::real(value), Argument::size(n)])
    }

    /// The forward pass; `keep` says that a backward pass will follow.
    pub fn forward(&self, keep: bool) -> Result<(), Error> {
        let mut steps = self.program.forward.iter().zip(self.tables);
        steps.try_for_each(|(step, &table)| {
            kernels(step)?.forward(&Forward {
                rows: self.rows,
                capacity: self.capacity,
                keep,
                params: self.state.params,
                input_widths: &step.input_widths,
                inputs: &self.all(&step.inputs),
                outputs: &self.all(&step.outputs),
                saved: self.at(step.saved),
                table,
                cuda: self.cuda,
            })
        })
    }

    /// The backward pass, from the outputs' adjoints.
    pub fn backward(&self) -> Result<(), Error> {
        self.program.backward.iter().try_for_each(|step| self.reverse(step))
    }

    fn reverse(&self, step: &Reverse) -> Result<(), Error> {
        for &place in &step.unused {
            self.fill(Adjoint::Set(self.at(place)), T::ZERO, self.elements(place))?;
        }
        let replay = &self.program.forward[step.of];
        let (inputs, outputs) = replay.read();
        let trained = &self.program.trained;
        let input_adjoints: Vec<_> = step.input_adjoints.iter().map(|&target| self.adjoint(target)).collect();
        kernels(replay)?.backward(&Backward {
            rows: self.rows,
            params: self.state.params,
            input_widths: &replay.input_widths,
            inputs: &self.all(inputs),
            outputs: &self.all(outputs),
            output_adjoints: &self.all(&step.output_adjoints),
            input_adjoints: &input_adjoints,
            gradient: Gradient {
                start: trained.start,
                len: trained.len(),
                address: self.state.gradient,
                lanes: self.state.lanes,
            },
            saved: self.at(replay.saved),
            table: self.tables[step.of],
            cuda: self.cuda,
        })
    }

    pub fn adjoint(&self, target: Target) -> Adjoint<T> {
        match target {
            Target::Skip => Adjoint::Skip,
            Target::Set(place) => Adjoint::Set(self.at(place)),
            Target::Add(place) => Adjoint::Add(self.at(place)),
        }
    }
}
