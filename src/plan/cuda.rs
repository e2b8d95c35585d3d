//! Replays a program on a CUDA device: the whole batch is one tile.
//!
//! Feeds, noise seeds and given adjoints go to the device in one copy, to one of two places; then everything up to the
//! results is launches, which are captured as a graph when the same replay comes a second time.

mod chains;
mod descent;
mod inputs;
pub(super) mod pass;
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::cuda::{Address, Argument, Buffer, Cuda, Graph, Grid, Staging};
use crate::error::Error;
use crate::op::cuda::Adjoint;
use crate::plan::compile::Program;
use crate::plan::cuda::inputs::{Inputs, Resident};
use crate::plan::cuda::pass::{Pass, State, Tables};
use crate::plan::{Batch, Call, Feed, Plan, Seed};
use crate::real::Real;
use crate::rng::Distribution;
use crate::store::{Parameters, Store};

/// Which launches a replay is: graphs are kept for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rows: usize,
    work: Work,
    /// Where parameters and gradient lie.
    addresses: [u64; 2],
    inputs: Inputs,
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
        let gradient = store.grads.on_device_mut(&on_device.cuda)?.address().at(self.program.trained.start);
        let seed = Some(Seed::Mean);
        let call = Call { params: &[], packed: &[], rows, feeds, noise, seed, outputs: &[], input_gradients: &[] };
        let sum = on_device.run_into(&self.program, (&store.params).into(), &call, gradient)?;
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
    /// A forward pass to the vector at this address.
    Into(u64),
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
    /// If the plan moves chains.
    chains: Option<chains::Resident<T>>,
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

/// Launches after those of a replay, given where the sum of its first output and the numbers of a step are.
type Then<'a> = &'a dyn Fn(Address<f64>, Argument) -> Result<(), Error>;

/// Number of graphs that are kept. Each of the two places of the inputs has its own.
const GRAPHS: usize = 32;

/// A program on a device.
#[derive(Debug)]
pub(super) struct OnDevice<T> {
    cuda: Arc<Cuda>,
    tables: Buffer<u32>,
    memory: Option<Memory<T>>,
    /// Of the replay.
    params: Arc<Buffer<T>>,
    /// Where those that come as a slice are copied.
    slice: Option<Arc<Buffer<T>>>,
    gradient: Buffer<T>,
    staging: Staging,
    total: Buffer<f64>,
    /// `None` after a first replay: what comes once is not captured.
    graphs: HashMap<Key, Option<Graph>>,
    resident: Vec<Resident<T>>,
}

impl<T: Real> OnDevice<T> {
    pub fn new(cuda: &Arc<Cuda>, program: &Program<T>) -> Result<Self, Error> {
        let _turn = cuda.turn();
        pass::check(program)?;
        Ok(Self {
            tables: Buffer::of(cuda, &Tables::of(program).words)?,
            memory: None,
            params: Arc::new(Buffer::new(cuda, 0)?),
            slice: None,
            gradient: Buffer::new(cuda, program.trained.len())?,
            staging: Staging::new(cuda),
            total: Buffer::new(cuda, 1)?,
            graphs: HashMap::new(),
            resident: Vec::new(),
            cuda: cuda.clone(),
        })
    }

    /// Runs forward and, if seeds are given, backward; keeps the gradient. Returns the sum of the first output.
    pub fn run(&mut self, program: &Program<T>, params: Parameters<'_, T>, call: &Call<'_, T>) -> Result<f64, Error> {
        self.run_into(program, params, call, self.gradient.address())
    }

    /// The same with the gradient at this address.
    fn run_into(
        &mut self,
        program: &Program<T>,
        params: Parameters<'_, T>,
        call: &Call<'_, T>,
        gradient: Address<T>,
    ) -> Result<f64, Error> {
        if call.rows == 0 {
            return Ok(0.0);
        }
        let cuda = self.cuda.clone();
        let _turn = cuda.turn();
        self.reserve(program, call.rows)?;
        self.take(program, params)?;
        let inputs = self.send(program, call, &[])?;
        let work = match &call.seed {
            None => Work::Forward,
            Some(Seed::Mean) => Work::Backward(Adjoints::Mean),
            Some(Seed::Given(_)) => Work::Backward(Adjoints::Given),
        };
        self.replay(program, call.rows, (work, inputs), gradient, None)?;
        self.store(program, call)
    }

    /// Finds the parameters of the next replay on the device, or copies them there.
    fn take(&mut self, program: &Program<T>, params: Parameters<'_, T>) -> Result<(), Error> {
        self.params = match params {
            Parameters::Stored(vector) => vector.on_device(&self.cuda)?,
            Parameters::Slice(values) => {
                let new = || Buffer::new(&self.cuda, program.params).map(Arc::new);
                let buffer = self.slice.take().map_or_else(new, Ok)?;
                buffer.write(0, &values[..program.params])?;
                self.slice.insert(buffer).clone()
            }
        };
        Ok(())
    }

    /// The gradient of the last backward pass, if one is wanted.
    pub fn read_gradient(&self, gradient: &mut [T]) -> Result<(), Error> {
        let _turn = self.cuda.turn();
        if gradient.is_empty() { Ok(()) } else { self.gradient.read(0, gradient) }
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
            program.outputs.iter().map(|&place| Buffer::new(&self.cuda, capacity * program.slots[place].cols));
        self.memory = Some(Memory {
            capacity,
            workspace: Buffer::new(&self.cuda, capacity * program.width)?,
            outputs: outputs.collect::<Result<_, _>>()?,
            chains: None,
            lanes: Buffer::new(&self.cuda, lanes(capacity, program.trained.len()) * program.trained.len())?,
        });
        Ok(())
    }

    fn memory(&self) -> Result<&Memory<T>, Error> {
        self.memory.as_ref().ok_or(Error::Device { what: "replay a plan", why: "it has no memory yet".into() })
    }

    /// Launches a replay, and what comes after it.
    fn replay(
        &mut self,
        program: &Program<T>,
        rows: usize,
        (work, inputs): (Work, Inputs),
        gradient: Address<T>,
        then: Option<Then<'_>>,
    ) -> Result<(), Error> {
        let state = State { params: self.params.address(), gradient, lanes: 1 };
        let give = |on: &Self| {
            on.give(program, rows, (work, &inputs), state)?;
            then.map_or(Ok(()), |then| then(on.total.address(), inputs.numbers))
        };
        let key = Key { rows, work, addresses: [state.params.raw(), state.gradient.raw()], inputs: inputs.clone() };
        match self.graphs.get(&key) {
            Some(Some(graph)) => graph.launch()?,
            Some(None) => {
                let graph = Graph::capture(&self.cuda, || give(self))?;
                graph.launch()?;
                self.graphs.insert(key, Some(graph));
            }
            None => {
                if self.graphs.len() >= GRAPHS {
                    self.graphs.clear();
                }
                self.graphs.insert(key, None);
                give(self)?;
            }
        }
        self.staging.used()
    }

    /// Gives the device all launches of a replay.
    fn give(
        &self,
        program: &Program<T>,
        rows: usize,
        (work, inputs): (Work, &Inputs),
        state: State<T>,
    ) -> Result<(), Error> {
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
        draw(&pass, inputs.noise)?;
        inputs.feed(&pass)?;
        pass.forward(matches!(work, Work::Backward(_) | Work::Descent(_)))?;
        match work {
            Work::Step => return chains::advance(&pass, memory),
            Work::Into(_) => return Ok(()),
            _ => {}
        }
        self.add_up(&pass)?;
        if !matches!(work, Work::Descent(_)) {
            keep_outputs(&pass, memory)?;
        }
        let adjoints = match work {
            Work::Forward | Work::Step | Work::Into(_) => return Ok(()),
            Work::Descent(_) => Adjoints::Mean,
            Work::Backward(adjoints) => adjoints,
        };
        seed(&pass, (adjoints, &inputs.seeds))?;
        pass.backward()?;
        add_lanes(&pass, state.gradient)
    }

    /// The sum of the first output.
    fn add_up(&self, pass: &Pass<'_, T>) -> Result<(), Error> {
        let (first, total) = (pass.program.outputs[0], self.total.address());
        let arguments = [pass.at(first).into(), total.into(), Argument::size(pass.elements(first))];
        pass.launch("total", Grid::blocks(1, 1024), &arguments)
    }

    /// Copies the results back and waits for them. The sum of the first output is one if there is no other.
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
        let mut total = [f64::NAN];
        if call.outputs.is_empty() {
            self.total.read(0, &mut total)?;
        }
        Ok(total[0])
    }
}

/// Draws the noise.
fn draw<T: Real>(pass: &Pass<'_, T>, address: Argument) -> Result<(), Error> {
    for drawn in &pass.program.noise {
        let Some(place) = drawn.buffer else { continue };
        let uniform = usize::from(drawn.distribution == Distribution::Uniform);
        let arguments = [
            pass.at(place).into(),
            address,
            Argument::int(drawn.id.0 as usize),
            Argument::int(uniform),
            Argument::int(drawn.cols),
            Argument::size(pass.rows),
        ];
        pass.launch("noise", Grid::threads(pass.rows * drawn.cols.div_ceil(4)), &arguments)?;
    }
    Ok(())
}

/// Sets the outputs' adjoints, and the gradient of all lanes to 0.
fn seed<T: Real>(pass: &Pass<'_, T>, (adjoints, given): (Adjoints, &[Argument])) -> Result<(), Error> {
    let program = pass.program;
    if !program.trained.is_empty() {
        let n = pass.state.lanes * program.trained.len();
        pass.fill(Adjoint::Set(pass.state.gradient), T::ZERO, n)?;
    }
    for (i, (&target, &place)) in program.seeds.iter().zip(&program.outputs).enumerate() {
        let (to, n) = (pass.adjoint(target), pass.elements(place));
        match (adjoints, given.get(i)) {
            _ if to.is_skipped() => {}
            (Adjoints::Given, Some(&from)) => pass.copy(from, to, n)?,
            _ => pass.fill(to, T::from_f64(1.0 / pass.rows as f64), n)?,
        }
    }
    Ok(())
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
