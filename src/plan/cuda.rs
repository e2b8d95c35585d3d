//! Replays a program on a CUDA device: the whole batch is one tile.
//!
//! Feeds, parameters, noise seeds and given adjoints are copied to memory whose place does not change; then everything
//! up to the results is launches, which are captured as a graph when the same replay comes a second time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::cuda::{Address, Argument, Buffer, Cuda, Graph, Grid};
use crate::error::Error;
use crate::op::cuda::{Adjoint, Backward, Forward, Gradient, Kernels};
use crate::plan::compile::{Buffer as Place, Program, Replay, Reverse, Target};
use crate::plan::{Batch, Call, Feed, Plan, Seed};
use crate::real::Real;
use crate::rng::{Distribution, NoiseRows};
use crate::store::Store;

/// Which launches a replay is: graphs are kept for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    rows: usize,
    seed: Option<Adjoints>,
    /// Where parameters and gradient lie.
    addresses: [u64; 2],
}

/// Where a replay finds the parameters, and leaves the gradient of those that it trains.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<T> {
    params: Address<T>,
    gradient: Address<T>,
}

impl<T: Real> Plan<T> {
    /// [`Plan::mean_and_gradient`] on a store that lives on the device.
    pub(super) fn mean_and_gradient_on_device(
        &mut self,
        store: &mut Store<T>,
        Batch { rows, noise }: Batch<'_>,
        feeds: &[Feed<'_, T>],
    ) -> Result<f64, Error> {
        self.check(store.layout().len(), rows, noise, feeds)?;
        let Some(on_device) = &mut self.on_device else { return Ok(f64::NAN) };
        let params = store.params.on_device(&on_device.cuda)?.address();
        let gradient = store.grads.on_device_mut(&on_device.cuda)?.address().at(self.program.trained.start);
        let seed = Some(Seed::Mean);
        let call = Call { params: &[], rows, feeds, noise, seed, outputs: &[], input_gradients: &[] };
        let sum = on_device.run(&self.program, &call, Some(State { params, gradient }))?;
        Ok(sum / rows as f64)
    }
}

/// Where the outputs' adjoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Adjoints {
    Mean,
    Given,
}

/// The memory of batches of up to so many rows.
#[derive(Debug)]
struct Memory<T> {
    capacity: usize,
    workspace: Buffer<T>,
    /// The outputs, whose places in the workspace the backward pass may reuse.
    outputs: Vec<Buffer<T>>,
    /// Given adjoints of the outputs.
    seeds: Vec<Buffer<T>>,
}

/// Number of graphs that are kept.
const GRAPHS: usize = 16;

/// A program on a device.
#[derive(Debug)]
pub(super) struct OnDevice<T> {
    cuda: Arc<Cuda>,
    tables: Vec<Buffer<u32>>,
    memory: Option<Memory<T>>,
    params: Buffer<T>,
    gradient: Buffer<T>,
    /// What the noise of a batch is addressed by.
    noise: Option<Buffer<u64>>,
    total: Buffer<f64>,
    /// `None` after a first replay: what comes once is not captured.
    graphs: HashMap<Key, Option<Graph>>,
    staging: Vec<T>,
}

impl<T: Real> OnDevice<T> {
    pub fn new(cuda: &Arc<Cuda>, program: &Program<T>) -> Result<Self, Error> {
        let _turn = cuda.turn();
        let table = |step: &Replay<T>| Buffer::of(cuda, &kernels(step)?.table(&step.input_widths));
        Ok(Self {
            tables: program.forward.iter().map(table).collect::<Result<_, _>>()?,
            memory: None,
            params: Buffer::new(cuda, program.params)?,
            gradient: Buffer::new(cuda, program.trained.len())?,
            noise: None,
            total: Buffer::new(cuda, 1)?,
            graphs: HashMap::new(),
            staging: Vec::new(),
            cuda: cuda.clone(),
        })
    }

    /// Runs forward and, if seeds are given, backward, on the parameters of the call or on those of a state that is on
    /// the device already. Returns the sum of the first output.
    pub fn run(&mut self, program: &Program<T>, call: &Call<'_, T>, state: Option<State<T>>) -> Result<f64, Error> {
        if call.rows == 0 {
            return Ok(0.0);
        }
        let cuda = self.cuda.clone();
        let _turn = cuda.turn();
        self.reserve(program, call.rows)?;
        if state.is_none() {
            self.params.write(0, &call.params[..program.params])?;
        }
        self.load(program, call)?;
        let seed = call.seed.as_ref().map(|seed| match seed {
            Seed::Mean => Adjoints::Mean,
            Seed::Given(_) => Adjoints::Given,
        });
        let state = state.unwrap_or(State { params: self.params.address(), gradient: self.gradient.address() });
        let addresses = [state.params.raw(), state.gradient.raw()];
        self.replay(program, Key { rows: call.rows, seed, addresses }, state)?;
        self.store(program, call)
    }

    /// The gradient of the last backward pass.
    pub fn read_gradient(&self, gradient: &mut [T]) -> Result<(), Error> {
        self.gradient.read(0, gradient)
    }

    /// Memory for so many rows. Captured graphs know the old one.
    fn reserve(&mut self, program: &Program<T>, rows: usize) -> Result<(), Error> {
        if self.memory.as_ref().is_some_and(|memory| memory.capacity >= rows) {
            return Ok(());
        }
        self.graphs.clear();
        self.memory = None;
        // A multiple of 32 rows: every buffer of the workspace begins at a multiple of 128 bytes.
        let capacity = rows.next_multiple_of(32);
        let outputs =
            || program.outputs.iter().map(|&place| Buffer::new(&self.cuda, capacity * program.slots[place].cols));
        self.memory = Some(Memory {
            capacity,
            workspace: Buffer::new(&self.cuda, capacity * program.width)?,
            outputs: outputs().collect::<Result<_, _>>()?,
            seeds: outputs().collect::<Result<_, _>>()?,
        });
        Ok(())
    }

    fn memory(&self) -> Result<&Memory<T>, Error> {
        self.memory.as_ref().ok_or(Error::Device { what: "replay a plan", why: "it has no memory yet".into() })
    }

    /// Copies what the replay reads to the device.
    fn load(&mut self, program: &Program<T>, call: &Call<'_, T>) -> Result<(), Error> {
        if let Some(noise) = call.noise {
            self.load_noise(&noise)?;
        }
        let mut staging = std::mem::take(&mut self.staging);
        let memory = self.memory()?;
        for (fed, feed) in program.feeds.iter().zip(call.feeds) {
            let Some(place) = fed.buffer else { continue };
            staging.resize(call.rows * fed.cols, T::ZERO);
            feed.copy_rows(0..call.rows, fed.cols, &mut staging);
            memory.workspace.write(memory.capacity * program.slots[place].offset, &staging)?;
        }
        if let Some(Seed::Given(seeds)) = call.seed {
            memory.seeds.iter().zip(seeds).try_for_each(|(buffer, seed)| buffer.write(0, seed))?;
        }
        self.staging = staging;
        Ok(())
    }

    fn load_noise(&mut self, noise: &NoiseRows<'_>) -> Result<(), Error> {
        let head = [noise.group as u64, noise.first as u64, u64::from(noise.step)];
        let control: Vec<u64> = head.iter().chain(noise.seeds).copied().collect();
        if self.noise.as_ref().is_none_or(|buffer| buffer.len() < control.len()) {
            self.graphs.clear();
            self.noise = Some(Buffer::new(&self.cuda, control.len().next_power_of_two())?);
        }
        self.noise.as_ref().map_or(Ok(()), |buffer| buffer.write(0, &control))
    }

    fn replay(&mut self, program: &Program<T>, key: Key, state: State<T>) -> Result<(), Error> {
        match self.graphs.get(&key) {
            Some(Some(graph)) => graph.launch(),
            Some(None) => {
                let graph = Graph::capture(&self.cuda, || self.give(program, key, state))?;
                graph.launch()?;
                self.graphs.insert(key, Some(graph));
                Ok(())
            }
            None => {
                if self.graphs.len() >= GRAPHS {
                    self.graphs.clear();
                }
                self.graphs.insert(key, None);
                self.give(program, key, state)
            }
        }
    }

    /// Gives the device all launches of a replay.
    fn give(&self, program: &Program<T>, Key { rows, seed, .. }: Key, state: State<T>) -> Result<(), Error> {
        let pass = Pass { on: self, memory: self.memory()?, program, rows, state };
        pass.draw()?;
        program
            .forward
            .iter()
            .zip(&self.tables)
            .try_for_each(|(step, table)| pass.forward(step, seed.is_some(), table.address()))?;
        pass.keep_outputs()?;
        if let Some(seed) = seed {
            pass.seed(seed)?;
            program.backward.iter().try_for_each(|step| pass.backward(step))?;
        }
        Ok(())
    }

    /// Copies the results back and waits for them.
    fn store(&self, program: &Program<T>, call: &Call<'_, T>) -> Result<f64, Error> {
        let memory = self.memory()?;
        for (buffer, (&place, out)) in memory.outputs.iter().zip(program.outputs.iter().zip(call.outputs)) {
            // SAFETY: each output is a slice of its own, and read once.
            buffer.read(0, unsafe { out.range(0..call.rows * program.slots[place].cols) })?;
        }
        for (&(cols, place), out) in program.input_gradients.iter().zip(call.input_gradients) {
            // SAFETY: as above.
            let out = unsafe { out.range(0..call.rows * cols) };
            match place {
                Some(place) => memory.workspace.read(memory.capacity * program.slots[place].offset, out)?,
                None => out.fill(T::ZERO),
            }
        }
        let mut total = [0.0];
        self.total.read(0, &mut total)?;
        Ok(total[0])
    }
}

/// An op's kernels, or an error that says that it has none.
fn kernels<T: Real>(step: &Replay<T>) -> Result<&dyn Kernels<T>, Error> {
    let why = "has no kernels for a CUDA device; compile the plan for `Device::cpu()`";
    step.node.op.kernels().ok_or_else(|| Error::shape(step.node.op.name(), why))
}

/// One replay over the rows of a batch.
struct Pass<'a, T> {
    on: &'a OnDevice<T>,
    memory: &'a Memory<T>,
    program: &'a Program<T>,
    rows: usize,
    state: State<T>,
}

impl<T: Real> Pass<'_, T> {
    fn at(&self, place: Place) -> Address<T> {
        self.memory.workspace.address().at(self.memory.capacity * self.program.slots[place].offset)
    }

    fn all(&self, places: &[Place]) -> Vec<Address<T>> {
        places.iter().map(|&place| self.at(place)).collect()
    }

    fn elements(&self, place: Place) -> usize {
        self.rows * self.program.slots[place].cols
    }

    fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<(), Error> {
        self.on.cuda.launch::<T>(("plan", kernel), grid, arguments)
    }

    fn copy(&self, from: Address<T>, to: Adjoint<T>, n: usize) -> Result<(), Error> {
        self.launch("copy", Grid::threads(n), &[from.into(), to.into(), Argument::size(n)])
    }

    fn fill(&self, to: Adjoint<T>, value: T, n: usize) -> Result<(), Error> {
        self.launch("fill", Grid::threads(n), &[to.into(), Argument::real(value), Argument::size(n)])
    }

    fn draw(&self) -> Result<(), Error> {
        for drawn in &self.program.noise {
            let (Some(place), Some(control)) = (drawn.buffer, &self.on.noise) else { continue };
            let uniform = usize::from(drawn.distribution == Distribution::Uniform);
            let arguments = [
                self.at(place).into(),
                control.address().into(),
                Argument::int(drawn.id.0 as usize),
                Argument::int(uniform),
                Argument::int(drawn.cols),
                Argument::size(self.rows),
            ];
            self.launch("noise", Grid::threads(self.rows * drawn.cols.div_ceil(4)), &arguments)?;
        }
        Ok(())
    }

    fn forward(&self, step: &Replay<T>, keep: bool, table: Address<u32>) -> Result<(), Error> {
        kernels(step)?.forward(&Forward {
            rows: self.rows,
            keep,
            params: self.state.params,
            input_widths: &step.input_widths,
            inputs: &self.all(&step.inputs),
            outputs: &self.all(&step.outputs),
            saved: self.at(step.saved),
            table,
            cuda: &self.on.cuda,
        })
    }

    /// The sum of the first output, and all outputs, before the backward pass reuses their memory.
    fn keep_outputs(&self) -> Result<(), Error> {
        let (first, total) = (self.program.outputs[0], self.on.total.address());
        let arguments = [self.at(first).into(), total.into(), Argument::size(self.elements(first))];
        self.launch("total", Grid::blocks(1, 1024), &arguments)?;
        let pairs = self.program.outputs.iter().zip(&self.memory.outputs);
        pairs.into_iter().try_for_each(|(&place, buffer)| {
            self.copy(self.at(place), Adjoint::Set(buffer.address()), self.elements(place))
        })
    }

    /// Sets the outputs' adjoints, and the gradient to 0.
    fn seed(&self, seed: Adjoints) -> Result<(), Error> {
        if !self.program.trained.is_empty() {
            self.fill(Adjoint::Set(self.state.gradient), T::ZERO, self.program.trained.len())?;
        }
        let outputs = self.program.outputs.iter().zip(&self.memory.seeds);
        for (&target, (&place, given)) in self.program.seeds.iter().zip(outputs) {
            let (to, n) = (self.adjoint(target), self.elements(place));
            match seed {
                _ if to.is_skipped() => {}
                Adjoints::Mean => self.fill(to, T::from_f64(1.0 / self.rows as f64), n)?,
                Adjoints::Given => self.copy(given.address(), to, n)?,
            }
        }
        Ok(())
    }

    fn backward(&self, step: &Reverse) -> Result<(), Error> {
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
            gradient: Gradient { start: trained.start, len: trained.len(), address: self.state.gradient },
            saved: self.at(replay.saved),
            table: self.on.tables[step.of].address(),
            cuda: &self.on.cuda,
        })
    }

    fn adjoint(&self, target: Target) -> Adjoint<T> {
        match target {
            Target::Skip => Adjoint::Skip,
            Target::Set(place) => Adjoint::Set(self.at(place)),
            Target::Add(place) => Adjoint::Add(self.at(place)),
        }
    }
}
