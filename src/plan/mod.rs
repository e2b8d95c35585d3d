//! A compiled graph: instructions on a workspace that is allocated once and replayed many times.
//!
//! A batch is cut into tiles of rows. Tile t is computed by lane t mod L: the number of lanes, the size of tiles, and
//! the order in which the lanes' gradients are added depend on the plan and the batch alone, so results are the same
//! bits whatever the number of threads.

mod chains;
mod compile;
#[cfg(feature = "cuda")]
mod cuda;
mod display;
mod memory;
mod nested;
mod profile;
mod runs;
mod tile;
mod vectors;

use std::ops::Range;
use std::sync::Arc;

use crate::device::Device;
use crate::device::cpu::aligned::Aligned;
use crate::device::cpu::disjoint::Disjoint;
use crate::device::cpu::pool::Pool;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::math::wide;
use crate::op::MAX_ARITY;
use crate::real::Real;
use crate::rng::NoiseRows;
use crate::store::{Parameters, Store};
pub(crate) use chains::{Chains, Given};
use compile::{Program, compile};
pub use profile::{Profile, Share};
use tile::{Tile, Workspace};

/// What a plan should compute.
#[derive(Clone, Debug)]
pub struct Request {
    outputs: Vec<Var>,
    params: Option<Range<usize>>,
    inputs: Vec<Var>,
    common: Vec<Var>,
}

impl Request {
    /// These values, `[rows x cols]` each.
    pub fn outputs(outputs: &[Var]) -> Self {
        Self { outputs: outputs.to_vec(), params: None, inputs: Vec::new(), common: Vec::new() }
    }

    /// And gradients with respect to this part of the flat parameter vector (training).
    pub fn with_parameter_gradients(self, range: Range<usize>) -> Self {
        Self { params: Some(range), ..self }
    }

    /// And gradients with respect to these inputs of the graph (scores, Hamiltonian Monte Carlo, guidance).
    pub fn with_input_gradients(self, inputs: &[Var]) -> Self {
        Self { inputs: inputs.to_vec(), ..self }
    }

    /// Where rows next to each other have these inputs of the graph in common, like draws for one observation, what
    /// depends on them alone is computed once for all of these rows. It is the same, bit for bit. Without effect on
    /// plans that compute gradients or run on a device.
    pub fn with_common_inputs(self, inputs: &[Var]) -> Self {
        Self { common: inputs.to_vec(), ..self }
    }

    fn wants_gradients(&self) -> bool {
        self.params.is_some() || !self.inputs.is_empty()
    }

    fn trains(&self, param: Range<usize>) -> bool {
        self.params.as_ref().is_some_and(|range| range.start <= param.start && param.end <= range.end)
    }
}

/// Rows for one input of the graph.
#[derive(Clone, Copy, Debug)]
pub enum Feed<'a, T> {
    /// A table with one row for each row of the batch.
    Rows(&'a [T]),
    /// Row i of the batch is row `index[i]` of this table.
    Gather(&'a [T], &'a [u32]),
    /// One row for the whole batch.
    Repeat(&'a [T]),
}

impl<T: Real> Feed<'_, T> {
    pub(crate) fn check(&self, rows: usize, cols: usize) -> Result<(), Error> {
        match *self {
            Self::Rows(table) => check_length("fed elements (rows x columns)", rows * cols, table.len()),
            Self::Repeat(row) => check_length("fed elements of the repeated row", cols, row.len()),
            Self::Gather(table, index) => {
                check_length("indices of gathered rows", rows, index.len())?;
                let table_rows = table.len() / cols;
                match index.iter().find(|&&i| i as usize >= table_rows) {
                    Some(i) => Err(Error::shape("gather", format!("row {i} of a table with {table_rows} rows"))),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether two rows of the batch are known to be the same row.
    fn same(&self, i: usize, j: usize) -> bool {
        match *self {
            Self::Rows(_) => i == j,
            Self::Gather(_, index) => index[i] == index[j],
            Self::Repeat(_) => true,
        }
    }

    pub(crate) fn copy_rows(&self, rows: Range<usize>, cols: usize, to: &mut [T]) {
        match *self {
            Self::Rows(table) => to.copy_from_slice(&table[rows.start * cols..rows.end * cols]),
            Self::Repeat(row) => to.chunks_exact_mut(cols).for_each(|to| to.copy_from_slice(row)),
            Self::Gather(table, index) => {
                for (to, &i) in to.chunks_exact_mut(cols).zip(&index[rows]) {
                    to.copy_from_slice(&table[i as usize * cols..][..cols]);
                }
            }
        }
    }
}

/// What a replay works on: a number of rows, and the noise that they take.
///
/// A plain number of rows is a batch without noise: `plan.forward(params, 256, ..)`.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    rows: usize,
    noise: Option<NoiseRows<'a>>,
}

impl<'a> Batch<'a> {
    /// Rows of a graph that draws noise.
    pub fn with_noise(rows: usize, noise: NoiseRows<'a>) -> Self {
        Self { rows, noise: Some(noise) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

impl From<usize> for Batch<'_> {
    fn from(rows: usize) -> Self {
        Self { rows, noise: None }
    }
}

/// Adjoints of the outputs.
#[derive(Clone, Copy, Debug)]
enum Seed<'a, T> {
    /// 1 / rows everywhere: the gradient of the mean over the rows.
    Mean,
    /// A table for each output.
    Given(&'a [&'a [T]]),
}

#[cfg(feature = "cuda")]
impl<'a, T> Seed<'a, T> {
    /// The tables, if they are given.
    fn given(self) -> &'a [&'a [T]] {
        match self {
            Self::Mean => &[],
            Self::Given(tables) => tables,
        }
    }
}

/// One replay over a batch, as the tiles see it.
struct Call<'a, T> {
    params: &'a [T],
    packed: &'a [T],
    rows: usize,
    feeds: &'a [Feed<'a, T>],
    noise: Option<NoiseRows<'a>>,
    seed: Option<Seed<'a, T>>,
    outputs: &'a [Disjoint<'a, T>],
    input_gradients: &'a [Disjoint<'a, T>],
}

/// Where the results of a replay go; empty where they are not wanted.
struct Results<'a, 'b, T> {
    outputs: &'a mut [&'b mut [T]],
    input_gradients: &'a mut [&'b mut [T]],
    gradient: &'a mut [T],
}

impl<T> Default for Results<'_, '_, T> {
    fn default() -> Self {
        Self { outputs: &mut [], input_gradients: &mut [], gradient: &mut [] }
    }
}

/// A vector-Jacobian product, v -> v dy/dx: what [`Plan::vjp`] is given and where its results go.
#[derive(Debug)]
pub struct Vjp<'a, T> {
    /// Adjoint of each output, `[rows x cols]`.
    pub seeds: &'a [&'a [T]],
    /// Each output, `[rows x cols]`; may be empty if no values are wanted.
    pub outputs: &'a mut [&'a mut [T]],
    /// Gradient of each input asked for, `[rows x cols]`.
    pub input_gradients: &'a mut [&'a mut [T]],
    /// Gradient of the parameters asked for.
    pub parameter_gradient: &'a mut [T],
}

/// A compiled graph. See the [module](self) for how it runs.
#[derive(Debug)]
pub struct Plan<T> {
    program: Program<T>,
    /// What ops make of the parameters before the first tile.
    packed: Aligned<T>,
    /// One for each thread, which all its tiles have in turn, so that it stays in the cache.
    workspaces: Vec<Workspace<T>>,
    /// The gradients of the lanes that run at once.
    gradients: Vec<Aligned<T>>,
    tile_sums: Vec<f64>,
    pool: Arc<Pool>,
    #[cfg(feature = "cuda")]
    on_device: Option<cuda::OnDevice<T>>,
}

/// A tile's workspace should about fit in the second-level cache of today's cores, 512 KiB to 2 MiB. A fixed number, not
/// this machine's: no result shall depend on it.
const CACHE_BYTES: usize = 1024 * 1024;

/// Lanes that sum a gradient: as many threads as can share a training step.
const GRADIENT_LANES: usize = 8;

/// Rows of a tile that sums a gradient. With fewer, reading the weights and writing their gradients, once a tile, costs
/// as much as the products; with more, nothing is gained, and threads have fewer tiles to share.
const GRADIENT_ROWS: [usize; 2] = [64, 256];

/// Rows of the tiles into which a plan cuts a batch.
fn tile_rows<T>(program: &Program<T>, batch: usize) -> usize {
    if program.trained.is_empty() {
        let fitting = CACHE_BYTES / (size_of::<T>() * program.width).max(1);
        return (fitting / 2 + 1).next_power_of_two().clamp(32, 128);
    }
    let [least, most] = GRADIENT_ROWS;
    batch.div_ceil(4).next_multiple_of(16).clamp(least, most)
}

/// Of how many lanes the gradients, so long, have memory at the same time: all if the cache holds them, or the same number
/// for each thread, so that none waits for another at the end of a round.
fn lanes_at_once<T>(len: usize, threads: usize) -> usize {
    let fitting = CACHE_BYTES / (size_of::<T>() * len).max(1);
    if fitting >= GRADIENT_LANES { GRADIENT_LANES } else { ((fitting / threads).max(1) * threads).min(GRADIENT_LANES) }
}

impl<T: Real> Graph<T> {
    /// Compiles what `request` asks for into a plan that runs on `device`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a value is of another graph, or if a gradient is asked for on which no output depends.
    pub fn compile(&self, device: &Device, request: &Request) -> Result<Plan<T>, Error> {
        #[cfg(feature = "cuda")]
        let request = &device.as_cuda().map_or_else(|| request.clone(), |_| request.clone().with_common_inputs(&[]));
        let program = compile(self, request)?;
        #[cfg(feature = "cuda")]
        let on_device = device.as_cuda().map(|cuda| cuda::OnDevice::new(cuda, &program)).transpose()?;
        let threads = device.pool().threads();
        let len = program.trained.len();
        Ok(Plan {
            packed: Aligned::zeros(program.packed()),
            gradients: (0..lanes_at_once::<T>(len, threads)).map(|_| Aligned::zeros(len)).collect(),
            program,
            workspaces: (0..threads).map(|_| Workspace::new()).collect(),
            tile_sums: Vec::new(),
            pool: device.pool().clone(),
            #[cfg(feature = "cuda")]
            on_device,
        })
    }
}

impl<T: Real> Plan<T> {
    /// Computes the outputs, `[rows x cols]` each.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Shape`] if parameters, feeds or outputs do not fit.
    pub fn forward<'a>(
        &mut self,
        params: impl Into<Parameters<'a, T>>,
        batch: impl Into<Batch<'a>>,
        feeds: &[Feed<'_, T>],
        outputs: &mut [&mut [T]],
    ) -> Result<(), Error> {
        let batch = batch.into();
        self.check_outputs(batch.rows, outputs)?;
        self.run(params.into(), batch, feeds, None, Results { outputs, ..Results::default() })
    }

    /// Mean over rows and columns of the first output.
    ///
    /// # Errors
    /// As [`Plan::forward`], and [`Error::Length`] if there is no row.
    pub fn mean<'a>(
        &mut self,
        params: impl Into<Parameters<'a, T>>,
        batch: impl Into<Batch<'a>>,
        feeds: &[Feed<'_, T>],
    ) -> Result<f64, Error>
    where
        T: 'a,
    {
        let batch = batch.into();
        check_some_rows(batch.rows)?;
        self.run(params.into(), batch, feeds, None, Results::default())?;
        Ok(self.mean_of_first(batch.rows))
    }

    /// Mean over the rows of the first output, which must have one column (a loss), and its gradient with respect to
    /// the parameters asked for, left in `store`.
    ///
    /// Allocates nothing, but for the first batch and one larger than any before.
    ///
    /// # Errors
    /// As [`Plan::mean`], and [`Error::Shape`] if the plan has another output or no parameter gradient.
    pub fn mean_and_gradient<'a>(
        &mut self,
        store: &mut Store<T>,
        batch: impl Into<Batch<'a>>,
        feeds: &[Feed<'_, T>],
    ) -> Result<f64, Error> {
        let batch = batch.into();
        self.check_loss(store, batch.rows)?;
        #[cfg(feature = "cuda")]
        if self.on_device.is_some() {
            return self.mean_and_gradient_on_device(store, batch, feeds);
        }
        let gradient = &mut store.grads[self.program.trained.clone()];
        self.run((&store.params).into(), batch, feeds, Some(Seed::Mean), Results { gradient, ..Results::default() })?;
        Ok(self.mean_of_first(batch.rows))
    }

    /// `Ok` if the plan computes a loss and its gradient with respect to parameters of this store.
    fn check_loss(&self, store: &Store<T>, rows: usize) -> Result<(), Error> {
        check_some_rows(rows)?;
        if self.width_of_outputs() != 1 || self.program.trained.is_empty() {
            let why = "needs a plan with one output of one column and with parameter gradients";
            return Err(Error::shape("mean_and_gradient", why));
        }
        check_length("gradient elements", self.program.trained.end, store.layout().len().min(self.program.trained.end))
    }

    /// Any adjoint of the outputs, pulled back to the inputs and parameters asked for.
    ///
    /// # Errors
    /// As [`Plan::forward`].
    pub fn vjp<'a>(
        &mut self,
        params: impl Into<Parameters<'a, T>>,
        batch: impl Into<Batch<'a>>,
        feeds: &[Feed<'_, T>],
        vjp: &mut Vjp<'_, T>,
    ) -> Result<(), Error> {
        let batch = batch.into();
        let rows = batch.rows;
        if !vjp.outputs.is_empty() {
            self.check_outputs(rows, vjp.outputs)?;
        }
        check_length("seeds (one for each output)", self.program.outputs.len(), vjp.seeds.len())?;
        for (&buffer, seed) in self.program.outputs.iter().zip(vjp.seeds) {
            check_length("seed elements (rows x columns)", rows * self.program.slots[buffer].cols, seed.len())?;
        }
        check_length("input gradients", self.program.input_gradients.len(), vjp.input_gradients.len())?;
        for (&(cols, _), gradient) in self.program.input_gradients.iter().zip(&*vjp.input_gradients) {
            check_length("input gradient elements (rows x columns)", rows * cols, gradient.len())?;
        }
        check_length("parameter gradient elements", self.program.trained.len(), vjp.parameter_gradient.len())?;
        let Vjp { seeds, outputs, input_gradients, parameter_gradient: gradient } = vjp;
        self.run(params.into(), batch, feeds, Some(Seed::Given(seeds)), Results { outputs, input_gradients, gradient })
    }

    fn check_outputs(&self, rows: usize, outputs: &[&mut [T]]) -> Result<(), Error> {
        check_length("outputs", self.program.outputs.len(), outputs.len())?;
        for (&buffer, out) in self.program.outputs.iter().zip(outputs) {
            check_length("output elements (rows x columns)", rows * self.program.slots[buffer].cols, out.len())?;
        }
        Ok(())
    }

    fn width_of_outputs(&self) -> usize {
        self.program.outputs.iter().map(|&buffer| self.program.slots[buffer].cols).sum()
    }

    /// `Ok` if so many parameters, these feeds and this noise are what a replay over `rows` rows reads.
    fn check(
        &self,
        params: usize,
        rows: usize,
        noise: Option<NoiseRows<'_>>,
        feeds: &[Feed<'_, T>],
    ) -> Result<(), Error> {
        let program = &self.program;
        check_length("parameters", program.params, params.min(program.params))?;
        check_length("feeds (one for each input of the graph)", program.feeds.len(), feeds.len())?;
        for (fed, feed) in program.feeds.iter().zip(feeds) {
            feed.check(rows, fed.cols)
                .map_err(|e| Error::shape("feed", format!("input `{}` of {} columns: {e}", fed.name, fed.cols)))?;
        }
        self.check_noise(rows, noise)
    }

    /// `Ok` if there is noise for so many rows, or none is drawn.
    fn check_noise(&self, rows: usize, noise: Option<NoiseRows<'_>>) -> Result<(), Error> {
        match noise {
            Some(noise) => noise.check(rows),
            None if self.program.noise.iter().all(|drawn| drawn.buffer.is_none()) => Ok(()),
            None => Err(Error::shape("noise", "the graph draws noise; replay it with `Batch::with_noise`")),
        }
    }

    /// Checks the feeds and replays all tiles.
    fn run(
        &mut self,
        params: Parameters<'_, T>,
        Batch { rows, noise }: Batch<'_>,
        feeds: &[Feed<'_, T>],
        seed: Option<Seed<'_, T>>,
        Results { outputs, input_gradients, gradient }: Results<'_, '_, T>,
    ) -> Result<(), Error> {
        self.check(params.count(), rows, noise, feeds)?;
        let (output_count, gradient_count) = (outputs.len(), input_gradients.len());
        let (outputs, input_gradients) = (shared(outputs), shared(input_gradients));
        let (outputs, input_gradients) = (&outputs[..output_count], &input_gradients[..gradient_count]);
        let call = Call { params: &[], packed: &[], rows, feeds, noise, seed, outputs, input_gradients };

        #[cfg(feature = "cuda")]
        if let Some(on_device) = &mut self.on_device {
            self.tile_sums = vec![on_device.run(&self.program, params, &call)?];
            return on_device.read_gradient(gradient);
        }
        self.run_tiles(Call { params: params.values(), ..call }, gradient);
        Ok(())
    }

    /// Packs, and replays all tiles.
    ///
    /// Lanes that sum a gradient run in rounds. After each, its gradients are added to the sum, in the order of the lanes,
    /// and the next round has their memory, which is in the cache.
    fn run_tiles(&mut self, call: Call<'_, T>, gradient: &mut [T]) {
        pack(&self.program, call.params, &mut self.packed, &self.pool);
        let tile = tile_rows(&self.program, call.rows);
        let tiles = call.rows.div_ceil(tile);
        self.tile_sums.resize(tiles, 0.0);
        self.workspaces.iter_mut().for_each(|workspace| workspace.make_room(&self.program, tile));
        if gradient.is_empty() || tiles == 0 {
            gradient.fill(T::ZERO);
            return self.run_lanes(&call, 0..tiles, tiles, gradient);
        }
        let (lanes, at_once) = (tiles.min(GRADIENT_LANES), self.gradients.len());
        for begin in (0..lanes).step_by(at_once) {
            let round = begin..lanes.min(begin + at_once);
            self.run_lanes(&call, round.clone(), lanes, gradient);
            add(&self.pool, &self.gradients[usize::from(begin == 0)..round.len()], gradient);
        }
    }

    /// Runs these of all `lanes`, each with its gradient, if one is wanted: the first of all with the sum.
    fn run_lanes(&mut self, call: &Call<'_, T>, round: Range<usize>, lanes: usize, sum: &mut [T]) {
        let Self { program, packed, workspaces, gradients, tile_sums, pool, .. } = self;
        let call = Call { packed, ..*call };
        let (tile, tiles, len) = (tile_rows(program, call.rows), tile_sums.len(), sum.len());
        let (tile_sums, gradients, sum) = (Disjoint::new(tile_sums), Disjoint::new(gradients), Disjoint::new(sum));
        pool.run_with(workspaces, round.len(), |workspace, i| {
            let l = round.start + i;
            // SAFETY: each lane is run once, and what has no elements overlaps with nothing.
            let gradient =
                unsafe { if l == 0 || len == 0 { sum.range(0..len) } else { &mut gradients.range(i..i + 1)[0] } };
            program.zero_untouched(gradient);
            for t in (l..tiles).step_by(lanes) {
                let rows = t * tile..call.rows.min((t + 1) * tile);
                // SAFETY: each tile is run once.
                let sum = unsafe { tile_sums.range(t..t + 1) };
                runs::find(program, &call, rows.clone(), &mut workspace.runs);
                sum[0] = Tile::new(program, workspace, gradient, tile, rows).first(t == l).run(&call);
            }
        });
    }

    fn mean_of_first(&self, rows: usize) -> f64 {
        let cols = self.program.slots[self.program.outputs[0]].cols;
        self.tile_sums.iter().sum::<f64>() / (rows * cols) as f64
    }
}

/// Adds gradients to their sum, one after the other.
fn add<T: Real>(pool: &Pool, gradients: &[Aligned<T>], sum: &mut [T]) {
    let (len, sum) = (sum.len(), Disjoint::new(sum));
    pool.run_pieces(len, |piece| {
        // SAFETY: pieces are disjoint.
        let sum = unsafe { sum.range(piece.clone()) };
        for gradient in gradients {
            wide(
                #[inline(always)]
                || sum.iter_mut().zip(&gradient[piece.clone()]).for_each(|(sum, &g)| *sum += g),
            );
        }
    });
}

/// Lets the ops make what their tiles share of the parameters.
fn pack<T: Real>(program: &Program<T>, params: &[T], packed: &mut [T], pool: &Pool) {
    let packed = Disjoint::new(packed);
    pool.run(program.packs.len(), &|i| {
        let pack = &program.packs[i];
        // SAFETY: the parts are disjoint.
        program.pack(pack, params, unsafe { packed.range(pack.range.clone()) });
    });
}

fn check_some_rows(rows: usize) -> Result<(), Error> {
    if rows == 0 { Err(Error::Length { what: "rows of a batch", expected: 1, found: 0 }) } else { Ok(()) }
}

/// The slices in a form that tiles can share.
fn shared<'a, T>(slices: &'a mut [&mut [T]]) -> [Disjoint<'a, T>; MAX_ARITY] {
    let mut slices = slices.iter_mut();
    std::array::from_fn(|_| Disjoint::new(slices.next().map_or(&mut [], |slice| &mut **slice)))
}
