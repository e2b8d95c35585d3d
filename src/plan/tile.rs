//! Replays a program on one tile of rows.

use std::ops::Range;

use crate::device::cpu::aligned::Aligned;
use crate::device::cpu::disjoint::Disjoint;
use crate::device::cpu::gemm::Scratch;
use crate::op::{Adjoint, Backward, Forward, Gradient, MAX_ARITY, Runs};
use crate::plan::compile::{Buffer, Program, Replay, Reverse, Target};
use crate::plan::memory::Slot;
use crate::plan::profile::Laps;
use crate::plan::{Call, Seed};
use crate::real::Real;

/// What one thread works with: memory for one tile, and scratch memory.
#[derive(Debug)]
pub(super) struct Workspace<T> {
    memory: Aligned<T>,
    scratch: Box<Scratch<T>>,
    /// The ends of the runs of a tile's rows.
    pub runs: Vec<usize>,
    /// Of each instruction, if they are measured.
    pub seconds: Vec<f64>,
}

impl<T: Real> Workspace<T> {
    pub fn new() -> Self {
        Self { memory: Aligned::zeros(0), scratch: Scratch::boxed(), runs: Vec::new(), seconds: Vec::new() }
    }

    /// Makes room for tiles of this many rows, also where the thread will have none this time: later replays shall not
    /// allocate.
    pub fn make_room(&mut self, program: &Program<T>, tile: usize) {
        self.runs.clear();
        self.runs.reserve(tile);
        let elements = tile * program.width;
        if self.memory.len() < elements {
            self.memory = Aligned::zeros(elements);
        }
    }
}

/// The workspace as a program divides it.
struct Memory<'a, T> {
    workspace: Disjoint<'a, T>,
    slots: &'a [Slot],
    /// Rows that the workspace is laid out for, and rows in use.
    capacity: usize,
    rows: usize,
}

impl<T> Memory<'_, T> {
    /// The rows of a buffer.
    ///
    /// # Safety
    /// No part of the workspace that overlaps it may be borrowed.
    #[allow(clippy::mut_from_ref)] // the workspace is `Disjoint`
    unsafe fn at(&self, buffer: Buffer) -> &mut [T] {
        let Slot { offset, cols } = self.slots[buffer];
        let start = self.capacity * offset;
        // SAFETY: the caller's promise.
        unsafe { self.workspace.range(start..start + self.rows * cols) }
    }

    /// A buffer while no other is borrowed.
    fn only(&mut self, buffer: Buffer) -> &mut [T] {
        // SAFETY: `&mut self`.
        unsafe { self.at(buffer) }
    }

    /// # Safety
    /// As [`Memory::at`].
    unsafe fn adjoint(&self, target: Target) -> Adjoint<'_, T> {
        // SAFETY: the caller's promise.
        unsafe {
            match target {
                Target::Skip => Adjoint::Skip,
                Target::Set(buffer) => Adjoint::Set(self.at(buffer)),
                Target::Add(buffer) => Adjoint::Add(self.at(buffer)),
            }
        }
    }
}

/// One tile: the program, the thread's memory, and the rows of the batch it works on.
pub(super) struct Tile<'a, T> {
    program: &'a Program<T>,
    memory: Memory<'a, T>,
    gradient: &'a mut [T],
    scratch: &'a mut Scratch<T>,
    rows: Range<usize>,
    runs: Runs<'a>,
    /// Whether it is the first of its lane, which sets the gradient.
    first: bool,
    seconds: &'a mut [f64],
}

impl<'a, T: Real> Tile<'a, T> {
    pub fn new(
        program: &'a Program<T>,
        own: &'a mut Workspace<T>,
        gradient: &'a mut [T],
        capacity: usize,
        rows: Range<usize>,
    ) -> Self {
        let Workspace { memory, scratch, runs, seconds } = own;
        Self { runs: Runs::new(runs), seconds, ..Self::on(program, memory, gradient, scratch, capacity, rows) }
    }

    /// The same as the first of its lane.
    pub fn first(self, first: bool) -> Self {
        Self { first, ..self }
    }

    /// On memory from elsewhere, laid out for `capacity` rows.
    pub fn on(
        program: &'a Program<T>,
        workspace: &'a mut [T],
        gradient: &'a mut [T],
        scratch: &'a mut Scratch<T>,
        capacity: usize,
        rows: Range<usize>,
    ) -> Self {
        let workspace = Disjoint::new(workspace);
        let memory = Memory { workspace, slots: &program.slots, capacity, rows: rows.len() };
        Self { program, memory, gradient, scratch, rows, runs: Runs::default(), first: false, seconds: &mut [] }
    }

    /// Loads the rows, runs forward, stores the outputs; then, if seeds are given, runs backward and stores the
    /// input gradients. Returns the sum of the first output.
    pub fn run(mut self, call: &Call<'_, T>) -> f64 {
        let mut laps = Laps::start(std::mem::take(&mut self.seconds));
        self.load(call);
        laps.lap();
        let program = self.program;
        let keep = call.seed.is_some();
        let (common, rest) = program.forward.split_at(program.common);
        self.memory.rows = self.runs.count();
        for step in common {
            self.forward(step, keep, call);
            laps.lap();
        }
        self.memory.rows = self.rows.len();
        for &buffer in &program.repeated {
            self.runs.repeat(program.slots[buffer].cols, self.memory.only(buffer));
        }
        for step in rest {
            self.forward(step, keep, call);
            laps.lap();
        }
        let sum = self.store_outputs(call);
        laps.lap();
        if let Some(seed) = &call.seed {
            self.seed(seed, call.rows);
            for step in &program.backward {
                self.backward(step, call);
                laps.lap();
            }
            self.store_input_gradients(call);
        }
        sum
    }

    fn load(&mut self, call: &Call<'_, T>) {
        for (fed, feed) in self.program.feeds.iter().zip(call.feeds) {
            let Some(buffer) = fed.buffer else { continue };
            let to = self.memory.only(buffer);
            if fed.common {
                for (run, to) in self.runs.rows().zip(to.chunks_exact_mut(fed.cols)) {
                    let row = self.rows.start + run.start;
                    feed.copy_rows(row..row + 1, fed.cols, to);
                }
            } else {
                feed.copy_rows(self.rows.clone(), fed.cols, to);
            }
        }
        for drawn in &self.program.noise {
            let (Some(buffer), Some(noise)) = (drawn.buffer, call.noise) else { continue };
            noise.fill(drawn.distribution, drawn.id, self.rows.clone(), self.memory.only(buffer));
        }
    }

    fn forward(&mut self, step: &Replay<T>, keep: bool, call: &Call<'_, T>) {
        // SAFETY: all buffers of one instruction are alive at its time, so `memory::place` has put them apart, and
        // an op has each value among its inputs and outputs once (`Graph::push`).
        let (inputs, mut outputs, saved) = unsafe {
            (
                list(&step.inputs, |&b| self.memory.at(b) as &[T]),
                list(&step.outputs, |&b| self.memory.at(b)),
                self.memory.at(step.saved),
            )
        };
        step.node.op.forward(&mut Forward {
            rows: self.memory.rows,
            runs: self.runs,
            keep,
            params: call.params,
            packed: &call.packed[step.packed.clone()],
            input_widths: &step.input_widths,
            inputs: &inputs[..step.inputs.len()],
            outputs: &mut outputs[..step.outputs.len()],
            saved,
            scratch: self.scratch,
        });
    }

    fn backward(&mut self, step: &Reverse, call: &Call<'_, T>) {
        step.unused.iter().for_each(|&buffer| self.memory.only(buffer).fill(T::ZERO));
        let replay = &self.program.forward[step.of];
        let (read_inputs, read_outputs) = replay.read();
        // SAFETY: as in `forward`; values that the op does not read may be dead, and are not touched.
        let (inputs, outputs, mut output_adjoints, mut input_adjoints, saved) = unsafe {
            (
                list(read_inputs, |&b| self.memory.at(b) as &[T]),
                list(read_outputs, |&b| self.memory.at(b) as &[T]),
                list(&step.output_adjoints, |&b| self.memory.at(b)),
                list(&step.input_adjoints, |&target| self.memory.adjoint(target)),
                self.memory.at(replay.saved),
            )
        };
        replay.node.op.backward(&mut Backward {
            rows: self.rows.len(),
            params: call.params,
            packed: &call.packed[replay.packed.clone()],
            input_widths: &replay.input_widths,
            inputs: &inputs[..replay.inputs.len()],
            outputs: &outputs[..replay.outputs.len()],
            output_adjoints: &mut output_adjoints[..step.output_adjoints.len()],
            input_adjoints: &mut input_adjoints[..step.input_adjoints.len()],
            gradient: Gradient {
                start: self.program.trained.start,
                values: self.gradient,
                unset: if self.first { &step.sets } else { &[] },
                asked: 0,
            },
            saved,
            scratch: self.scratch,
        });
    }

    fn store_outputs(&mut self, call: &Call<'_, T>) -> f64 {
        for (&buffer, out) in self.program.outputs.iter().zip(call.outputs) {
            self.copy_out(Some(buffer), self.program.slots[buffer].cols, out);
        }
        self.memory.only(self.program.outputs[0]).iter().map(|y| y.to_f64()).sum()
    }

    fn store_input_gradients(&mut self, call: &Call<'_, T>) {
        for (&(cols, buffer), out) in self.program.input_gradients.iter().zip(call.input_gradients) {
            self.copy_out(buffer, cols, out);
        }
    }

    /// Sets the outputs' adjoints.
    fn seed(&mut self, seed: &Seed<'_, T>, batch: usize) {
        for (i, &target) in self.program.seeds.iter().enumerate() {
            let (Target::Set(buffer) | Target::Add(buffer)) = target else { continue };
            let cols = self.program.slots[buffer].cols;
            let rows = self.rows.start * cols..self.rows.end * cols;
            let adjoint = self.memory.only(buffer);
            match (seed, target) {
                (Seed::Mean, _) => adjoint.fill(T::from_f64(1.0 / batch as f64)),
                (Seed::Given(seeds), Target::Set(_)) => adjoint.copy_from_slice(&seeds[i][rows]),
                (Seed::Given(seeds), _) => adjoint.iter_mut().zip(&seeds[i][rows]).for_each(|(a, &s)| *a += s),
            }
        }
    }

    /// Copies a buffer (zeros if there is none) to this tile's rows of `out`.
    fn copy_out(&mut self, buffer: Option<Buffer>, cols: usize, out: &Disjoint<'_, T>) {
        // SAFETY: tiles have disjoint rows.
        let out = unsafe { out.range(self.rows.start * cols..self.rows.end * cols) };
        match buffer {
            Some(buffer) => out.copy_from_slice(self.memory.only(buffer)),
            None => out.fill(T::ZERO),
        }
    }
}

/// Up to `MAX_ARITY` things, without allocating.
fn list<A, B: Default>(items: &[A], f: impl Fn(&A) -> B) -> [B; MAX_ARITY] {
    std::array::from_fn(|i| items.get(i).map(&f).unwrap_or_default())
}
