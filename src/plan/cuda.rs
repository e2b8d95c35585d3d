//! Replays a program on a CUDA device: the whole batch is one tile.
//!
//! Feeds, parameters, noise seeds and given adjoints are copied to memory whose place does not change; then everything
//! up to the results is launches, which are captured as a graph when the same replay comes a second time.

mod chains;
mod descent;
pub(super) mod pass;

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::cuda::{Address, Argument, Buffer, Cuda, Graph, Grid};
use crate::error::Error;
use crate::op::cuda::Adjoint;
use crate::plan::compile::Program;
use crate::plan::cuda::pass::{Pass, State, Tables};
use crate::plan::{Batch, Call, Feed, Plan, Seed};
use crate::real::Real;
use crate::rng::{Distribution, NoiseRows};
use crate::store::Store;

/// Which launches a replay is: graphs are kept for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rows: usize,
    work: Work,
    /// Where parameters and gradient lie.
    addresses: [u64; 2],
    /// For each feed, the table from which it is gathered.
    tables: Vec<Option<u64>>,
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
        let call = Call { params: &[], packed: &[], rows, feeds, noise, seed, outputs: &[], input_gradients: &[] };
        let sum = on_device.run(&self.program, &call, Some(State { params, gradient, lanes: 1 }))?;
        Ok(sum / rows as f64)
    }
}

/// What a replay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Forward,
    Backward(Adjoints),
    /// A step of chains that stay on the device.
    Step,
    /// A backward pass from the mean, then the step of an optimiser that has this key.
    Descent([u64; 3]),
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
    /// If the plan moves chains.
    chains: Option<chains::Resident<T>>,
    /// For each feed, the rows that are gathered.
    indices: Vec<Buffer<u32>>,
    /// The gradient once for each lane, if there are several.
    lanes: Buffer<T>,
}

/// Rows whose gradient a lane sums, the most lanes, and the most elements of all of them.
const LANE_ROWS: usize = 128;
const MAX_LANES: usize = 16;
const MAX_LANE_ELEMENTS: usize = 1 << 24;

/// Lanes that share the rows of a batch, for a gradient of so many elements: a number that follows from nothing else, as
/// the order of summation follows from it.
fn lanes(rows: usize, trained: usize) -> usize {
    rows.div_ceil(LANE_ROWS).min(MAX_LANES).min(MAX_LANE_ELEMENTS / trained.max(1)).max(1)
}

/// Launches after those of a replay, given where the sum of its first output is.
type Then<'a> = &'a dyn Fn(Address<f64>) -> Result<(), Error>;

/// Number of graphs that are kept.
const GRAPHS: usize = 16;

/// A program on a device.
#[derive(Debug)]
pub(super) struct OnDevice<T> {
    cuda: Arc<Cuda>,
    tables: Buffer<u32>,
    memory: Option<Memory<T>>,
    params: Buffer<T>,
    gradient: Buffer<T>,
    /// What the noise of a batch is addressed by.
    noise: Option<Buffer<u64>>,
    total: Buffer<f64>,
    /// `None` after a first replay: what comes once is not captured.
    graphs: HashMap<Key, Option<Graph>>,
    staging: Vec<T>,
    resident: Vec<descent::Resident<T>>,
    /// For each feed of the replay, the resident table from which it is gathered.
    gathered: Vec<Option<Address<T>>>,
}

impl<T: Real> OnDevice<T> {
    pub fn new(cuda: &Arc<Cuda>, program: &Program<T>) -> Result<Self, Error> {
        let _turn = cuda.turn();
        pass::check(program)?;
        Ok(Self {
            tables: Buffer::of(cuda, &Tables::of(program).words)?,
            memory: None,
            params: Buffer::new(cuda, program.params)?,
            gradient: Buffer::new(cuda, program.trained.len())?,
            noise: None,
            total: Buffer::new(cuda, 1)?,
            graphs: HashMap::new(),
            staging: Vec::new(),
            resident: Vec::new(),
            gathered: Vec::new(),
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
        let work = match &call.seed {
            None => Work::Forward,
            Some(Seed::Mean) => Work::Backward(Adjoints::Mean),
            Some(Seed::Given(_)) => Work::Backward(Adjoints::Given),
        };
        self.replay(program, call.rows, work, state.unwrap_or(self.own_state()), None)?;
        self.store(program, call)
    }

    /// Parameters of a call, and the gradient that it reads back.
    fn own_state(&self) -> State<T> {
        State { params: self.params.address(), gradient: self.gradient.address(), lanes: 1 }
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
            chains: None,
            indices: program.feeds.iter().map(|_| Buffer::new(&self.cuda, capacity)).collect::<Result<_, _>>()?,
            lanes: Buffer::new(&self.cuda, lanes(capacity, program.trained.len()) * program.trained.len())?,
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
        self.gathered = call.feeds.iter().map(|feed| self.table_of(feed)).collect();
        let memory = self.memory()?;
        for (i, (fed, feed)) in program.feeds.iter().zip(call.feeds).enumerate() {
            let Some(place) = fed.buffer else { continue };
            if let (Some(_), Feed::Gather(_, index)) = (self.gathered[i], feed) {
                memory.indices[i].write(0, index)?;
                continue;
            }
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

    /// Launches a replay, and what comes after it.
    fn replay(
        &mut self,
        program: &Program<T>,
        rows: usize,
        work: Work,
        state: State<T>,
        then: Option<Then<'_>>,
    ) -> Result<(), Error> {
        let tables = self.gathered.iter().map(|table| table.map(|table| table.raw())).collect();
        let key = Key { rows, work, addresses: [state.params.raw(), state.gradient.raw()], tables };
        let give = |on: &Self| {
            on.give(program, rows, work, state)?;
            then.map_or(Ok(()), |then| then(on.total.address()))
        };
        match self.graphs.get(&key) {
            Some(Some(graph)) => graph.launch(),
            Some(None) => {
                let graph = Graph::capture(&self.cuda, || give(self))?;
                graph.launch()?;
                self.graphs.insert(key, Some(graph));
                Ok(())
            }
            None => {
                if self.graphs.len() >= GRAPHS {
                    self.graphs.clear();
                }
                self.graphs.insert(key, None);
                give(self)
            }
        }
    }

    /// Gives the device all launches of a replay.
    fn give(&self, program: &Program<T>, rows: usize, work: Work, state: State<T>) -> Result<(), Error> {
        let memory = self.memory()?;
        let lanes = lanes(rows, program.trained.len());
        let in_lanes = if lanes == 1 { state } else { State { gradient: memory.lanes.address(), lanes, ..state } };
        let pass = Pass {
            cuda: &self.cuda,
            program,
            tables: &Tables::of(program).at(self.tables.address()),
            workspace: memory.workspace.address(),
            capacity: memory.capacity,
            rows,
            state: in_lanes,
        };
        self.draw(&pass)?;
        if work == Work::Step {
            return chains::step(&pass, memory);
        }
        self.gather(&pass, memory)?;
        pass.forward(work != Work::Forward)?;
        self.add_up(&pass)?;
        if !matches!(work, Work::Descent(_)) {
            keep_outputs(&pass, memory)?;
        }
        let adjoints = match work {
            Work::Forward | Work::Step => return Ok(()),
            Work::Descent(_) => Adjoints::Mean,
            Work::Backward(adjoints) => adjoints,
        };
        self.seed(&pass, memory, adjoints)?;
        pass.backward()?;
        add_lanes(&pass, state.gradient)
    }

    fn draw(&self, pass: &Pass<'_, T>) -> Result<(), Error> {
        for drawn in &pass.program.noise {
            let (Some(place), Some(control)) = (drawn.buffer, &self.noise) else { continue };
            let uniform = usize::from(drawn.distribution == Distribution::Uniform);
            let arguments = [
                pass.at(place).into(),
                control.address().into(),
                Argument::int(drawn.id.0 as usize),
                Argument::int(uniform),
                Argument::int(drawn.cols),
                Argument::size(pass.rows),
            ];
            pass.launch("noise", Grid::threads(pass.rows * drawn.cols.div_ceil(4)), &arguments)?;
        }
        Ok(())
    }

    /// The sum of the first output.
    fn add_up(&self, pass: &Pass<'_, T>) -> Result<(), Error> {
        let (first, total) = (pass.program.outputs[0], self.total.address());
        let arguments = [pass.at(first).into(), total.into(), Argument::size(pass.elements(first))];
        pass.launch("total", Grid::blocks(1, 1024), &arguments)
    }

    /// Sets the outputs' adjoints, and the gradient of all lanes to 0.
    fn seed(&self, pass: &Pass<'_, T>, memory: &Memory<T>, seed: Adjoints) -> Result<(), Error> {
        let program = pass.program;
        if !program.trained.is_empty() {
            let n = pass.state.lanes * program.trained.len();
            pass.fill(Adjoint::Set(pass.state.gradient), T::ZERO, n)?;
        }
        let outputs = program.outputs.iter().zip(&memory.seeds);
        for (&target, (&place, given)) in program.seeds.iter().zip(outputs) {
            let (to, n) = (pass.adjoint(target), pass.elements(place));
            match seed {
                _ if to.is_skipped() => {}
                Adjoints::Mean => pass.fill(to, T::from_f64(1.0 / pass.rows as f64), n)?,
                Adjoints::Given => pass.copy(given.address(), to, n)?,
            }
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

/// Copies all outputs, before the backward pass reuses their memory.
fn keep_outputs<T: Real>(pass: &Pass<'_, T>, memory: &Memory<T>) -> Result<(), Error> {
    let mut pairs = pass.program.outputs.iter().zip(&memory.outputs);
    pairs.try_for_each(|(&place, buffer)| {
        pass.copy(pass.at(place), Adjoint::Set(buffer.address()), pass.elements(place))
    })
}

/// The sum of the lanes, first to last.
fn add_lanes<T: Real>(pass: &Pass<'_, T>, gradient: Address<T>) -> Result<(), Error> {
    let (State { gradient: lanes, lanes: count, .. }, n) = (pass.state, pass.program.trained.len());
    if count == 1 {
        return Ok(());
    }
    let arguments = [lanes.into(), gradient.into(), Argument::int(count), Argument::size(n)];
    pass.launch("add_lanes", Grid::threads(n), &arguments)
}
