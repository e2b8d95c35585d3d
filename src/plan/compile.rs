//! From a graph to a program: which instructions, in which order, on which memory.

use std::ops::Range;

use crate::error::Error;
use crate::graph::{Graph, Node, Var};
use crate::op::{MAX_ARITY, MAX_UNSET, Reads};
use crate::plan::Request;
use crate::plan::memory::{Lifetime, Slot, place};
use crate::plan::runs::Order;
use crate::real::Real;
use crate::rng::{Distribution, NoiseId};
use crate::store::Param;

/// A buffer of the workspace, by number; [`Program::slots`] says where it lies.
pub(super) type Buffer = usize;

/// Where an adjoint goes: the first contribution sets, later ones add, so nothing is zero-filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Skip,
    Set(Buffer),
    Add(Buffer),
}

/// An input of the graph: its name, its width, and where it is loaded (`None` if no op reads it).
#[derive(Clone, Debug)]
pub(super) struct Fed {
    pub name: String,
    pub cols: usize,
    pub buffer: Option<Buffer>,
    /// Whether it is loaded, and what depends on it alone computed, once for each run of rows.
    pub common: bool,
}

/// Noise that the plan draws: where it comes from, and where it goes (`None` if no op reads it).
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub distribution: Distribution,
    pub id: NoiseId,
    pub cols: usize,
    pub buffer: Option<Buffer>,
}

/// One op of the forward pass.
#[derive(Clone, Debug)]
pub(super) struct Replay<T> {
    pub node: Node<T>,
    pub input_widths: Vec<usize>,
    pub inputs: Vec<Buffer>,
    pub outputs: Vec<Buffer>,
    pub saved: Buffer,
    /// What its backward reads, asked once: the lifetimes follow from it.
    pub reads: Reads,
    /// For each input, whether its adjoint is asked for; `None` if the op is not run backward.
    pub passes: Option<Vec<bool>>,
    /// Its part of what is packed for all tiles.
    pub packed: Range<usize>,
}

impl<T> Replay<T> {
    /// The input and output values that the backward reads.
    pub fn read(&self) -> (&[Buffer], &[Buffer]) {
        match self.reads {
            Reads::Nothing => (&[], &[]),
            Reads::Inputs => (&self.inputs, &[]),
            Reads::Outputs => (&[], &self.outputs),
        }
    }
}

/// A part of what is packed for all tiles: the place of its op in the forward pass, and which of the op's parts it is.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    of: usize,
    part: usize,
    pub range: Range<usize>,
}

/// One op of the backward pass; `of` is its place in the forward pass.
#[derive(Clone, Debug)]
pub(super) struct Reverse {
    pub of: usize,
    pub output_adjoints: Vec<Buffer>,
    /// Adjoints of outputs on which nothing depends: zero.
    pub unused: Vec<Buffer>,
    pub input_adjoints: Vec<Target>,
    /// The parameters whose gradients it is the first to contribute to.
    pub sets: Vec<Param>,
}

/// What a plan replays.
#[derive(Clone, Debug)]
pub(super) struct Program<T> {
    pub feeds: Vec<Fed>,
    pub noise: Vec<Drawn>,
    pub forward: Vec<Replay<T>>,
    /// How many of these have one row for each run, and what is repeated for all rows then.
    pub common: usize,
    pub repeated: Vec<Buffer>,
    pub outputs: Vec<Buffer>,
    pub seeds: Vec<Target>,
    pub backward: Vec<Reverse>,
    /// Widths of the inputs whose gradients were asked for, and their adjoints (`None`: zero).
    pub input_gradients: Vec<(usize, Option<Buffer>)>,
    /// The part of the flat vector whose gradient is computed.
    pub trained: Range<usize>,
    /// Parts of it to which no op contributes.
    pub untouched: Vec<Range<usize>>,
    /// Length of the shortest flat vector that has all parameters the ops read.
    pub params: usize,
    pub slots: Vec<Slot>,
    /// Workspace elements per row.
    pub width: usize,
    /// What is packed for all tiles.
    pub packs: Vec<Pack>,
}

impl<T: Real> Program<T> {
    /// Elements that are packed for all tiles.
    pub fn packed(&self) -> usize {
        self.packs.last().map_or(0, |pack| pack.range.end)
    }

    /// Zeroes those parts of a gradient, if one is wanted, that no tile sets.
    pub fn zero_untouched(&self, gradient: &mut [T]) {
        let start = self.trained.start;
        let gaps = if gradient.is_empty() { &[][..] } else { &self.untouched };
        gaps.iter().for_each(|gap| gradient[gap.start - start..gap.end - start].fill(T::ZERO));
    }

    /// Fills one part of what is packed.
    pub fn pack(&self, pack: &Pack, params: &[T], to: &mut [T]) {
        let Replay { node, input_widths, passes, .. } = &self.forward[pack.of];
        node.op.pack(params, input_widths, passes.as_deref(), pack.part, to);
    }
}

/// Compiles the part of the graph that the request needs.
pub(super) fn compile<T: Real>(graph: &Graph<T>, request: &Request) -> Result<Program<T>, Error> {
    check(graph, request)?;
    let nodes = needed(graph, &request.outputs);
    let differentiated = differentiated(graph, &nodes, request);
    if request.wants_gradients() && !request.outputs.iter().any(|o| differentiated[o.index()]) {
        let why = "no output depends on a parameter or input whose gradient is asked for";
        return Err(Error::shape("compile", why));
    }
    let passed = |n: &&&Node<T>| n.outputs.iter().any(|v| differentiated[v.index()]);
    if let Some(node) = nodes.iter().filter(passed).find(|n| !n.op.differentiable()) {
        let why = "has no derivative, and a gradient was asked for that passes through it";
        return Err(Error::shape(node.op.name(), why));
    }
    let Order { nodes, widths, common, repeated } = Order::new(graph, &nodes, request);
    let count = widths.len();
    let compiler = Compiler {
        graph,
        request,
        nodes,
        widths,
        common,
        repeated,
        differentiated,
        buffers: Vec::new(),
        values: vec![None; count],
        adjoints: vec![None; count],
    };
    Ok(compiler.run())
}

fn check<T: Real>(graph: &Graph<T>, request: &Request) -> Result<(), Error> {
    if request.outputs.is_empty() || request.outputs.len() > MAX_ARITY || request.inputs.len() > MAX_ARITY {
        let why = format!("asks for {} outputs; 1 to {MAX_ARITY} are possible", request.outputs.len());
        return Err(Error::shape("compile", why));
    }
    for &var in request.outputs.iter().chain(&request.inputs).chain(&request.common) {
        graph.check("compile", var)?;
    }
    match request.inputs.iter().chain(&request.common).find(|v| !graph.inputs.iter().any(|(_, input)| input == *v)) {
        Some(_) => Err(Error::shape("compile", "only inputs of the graph can have a gradient or be common")),
        None => Ok(()),
    }
}

/// The nodes on which the outputs depend, in recorded order.
fn needed<'g, T>(graph: &'g Graph<T>, outputs: &[Var]) -> Vec<&'g Node<T>> {
    let mut wanted = vec![false; graph.widths.len()];
    outputs.iter().for_each(|v| wanted[v.index()] = true);
    let mut nodes = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|v| wanted[v.index()]) {
            node.inputs.iter().for_each(|v| wanted[v.index()] = true);
            nodes.push(node);
        }
    }
    nodes.reverse();
    nodes
}

/// For each value, whether it depends on something whose gradient is asked for.
fn differentiated<T: Real>(graph: &Graph<T>, nodes: &[&Node<T>], request: &Request) -> Vec<bool> {
    let mut differentiated = vec![false; graph.widths.len()];
    request.inputs.iter().for_each(|v| differentiated[v.index()] = true);
    for node in nodes {
        let trains = node.op.params().iter().any(|p| request.trains(p.range()));
        let passes_on = node.inputs.iter().any(|v| differentiated[v.index()]);
        node.outputs.iter().for_each(|v| differentiated[v.index()] = trains || passes_on);
    }
    differentiated
}

/// The gaps in the trained part that no op of the backward pass sets.
fn untouched(trained: &Range<usize>, backward: &[Reverse]) -> Vec<Range<usize>> {
    let mut set: Vec<Range<usize>> = backward.iter().flat_map(|r| &r.sets).map(|p| p.range()).collect();
    set.sort_by_key(|range| range.start);
    let ends = [trained.start].into_iter().chain(set.iter().map(|range| range.end));
    let starts = set.iter().map(|range| range.start).chain([trained.end]);
    ends.zip(starts).filter(|(end, start)| end < start).map(|(end, start)| end..start).collect()
}

/// Gives each op its part of what is packed; returns the parts of these.
fn packs<T: Real>(forward: &mut [Replay<T>], backward: &[Reverse]) -> Vec<Pack> {
    for reverse in backward {
        let passes = reverse.input_adjoints.iter().map(|&target| target != Target::Skip);
        forward[reverse.of].passes = Some(passes.collect());
    }
    let (mut packs, mut end) = (Vec::new(), 0);
    for (of, step) in forward.iter_mut().enumerate() {
        step.packed.start = end;
        for (part, len) in step.node.op.packed(&step.input_widths, step.passes.as_deref()).into_iter().enumerate() {
            packs.push(Pack { of, part, range: end..end + len });
            end += len;
        }
        step.packed.end = end;
    }
    packs
}

/// Walks forward, then backward, giving each value, adjoint and saved block a buffer and following how long it lives.
///
/// Time 0 loads the inputs, 1 + k runs the k-th op, `end` stores the outputs and seeds their adjoints, after which
/// each op runs backward, the last one first.
struct Compiler<'a, T> {
    graph: &'a Graph<T>,
    request: &'a Request,
    nodes: Vec<Node<T>>,
    widths: Vec<usize>,
    common: usize,
    repeated: Vec<Var>,
    differentiated: Vec<bool>,
    buffers: Vec<Lifetime>,
    values: Vec<Option<Buffer>>,
    adjoints: Vec<Option<Buffer>>,
}

impl<T: Real> Compiler<'_, T> {
    fn run(mut self) -> Program<T> {
        let end = 1 + self.nodes.len();
        let (feeds, noise) = (self.feeds(), self.noise());
        let mut forward = self.forward();
        let repeated = std::mem::take(&mut self.repeated).into_iter().map(|v| self.value(v, self.common)).collect();
        let outputs = self.request.outputs.iter().map(|&v| self.value(v, end)).collect();
        let (mut seeds, mut backward) = (vec![Target::Skip; self.request.outputs.len()], Vec::new());
        if self.request.wants_gradients() {
            seeds = self.request.outputs.iter().map(|&v| self.contribute(v, end)).collect();
            backward = self.backward(&forward, end);
        }
        let last = 2 * end;
        let input_gradients = self.request.inputs.iter().map(|&v| self.input_gradient(v, last)).collect();
        let (slots, width) = place(&self.buffers);
        let packs = packs(&mut forward, &backward);
        let params = self.nodes.iter().flat_map(|n| n.op.params()).map(|p| p.range().end);
        let trained = self.request.params.clone().unwrap_or(0..0);
        Program {
            params: params.max().unwrap_or(0),
            untouched: untouched(&trained, &backward),
            trained,
            feeds,
            noise,
            forward,
            common: self.common,
            repeated,
            outputs,
            seeds,
            backward,
            input_gradients,
            slots,
            width,
            packs,
        }
    }

    fn create(&mut self, cols: usize, time: usize) -> Buffer {
        self.buffers.push(Lifetime { cols, first: time, last: time });
        self.buffers.len() - 1
    }

    fn touch(&mut self, buffer: Buffer, time: usize) -> Buffer {
        self.buffers[buffer].last = self.buffers[buffer].last.max(time);
        buffer
    }

    fn width(&self, var: Var) -> usize {
        self.widths[var.index()]
    }

    /// The value's buffer, alive at `time`.
    fn value(&mut self, var: Var, time: usize) -> Buffer {
        let buffer = match self.values[var.index()] {
            Some(buffer) => buffer,
            None => self.create(self.width(var), time),
        };
        self.values[var.index()] = Some(buffer);
        self.touch(buffer, time)
    }

    /// Where a contribution to the value's adjoint at `time` goes.
    fn contribute(&mut self, var: Var, time: usize) -> Target {
        if !self.differentiated[var.index()] {
            return Target::Skip;
        }
        if let Some(buffer) = self.adjoints[var.index()] {
            return Target::Add(self.touch(buffer, time));
        }
        let buffer = self.create(self.width(var), time);
        self.adjoints[var.index()] = Some(buffer);
        Target::Set(buffer)
    }

    fn feeds(&mut self) -> Vec<Fed> {
        let graph = self.graph;
        let common = if self.request.wants_gradients() { &[][..] } else { &self.request.common };
        let fed = |(name, var): &(String, Var)| Fed {
            name: name.clone(),
            cols: self.width(*var),
            buffer: self.loaded(*var),
            common: common.contains(var),
        };
        graph.inputs.iter().map(fed).collect()
    }

    fn noise(&mut self) -> Vec<Drawn> {
        let graph = self.graph;
        let drawn = |(id, &(distribution, var)): (usize, &(Distribution, Var))| Drawn {
            distribution,
            id: NoiseId(id as u32),
            cols: self.width(var),
            buffer: self.loaded(var),
        };
        graph.noise.iter().enumerate().map(drawn).collect()
    }

    /// The buffer of a value that is there before the first op, if anything reads it.
    fn loaded(&mut self, var: Var) -> Option<Buffer> {
        let read = self.request.outputs.contains(&var) || self.nodes.iter().any(|n| n.inputs.contains(&var));
        read.then(|| self.value(var, 0))
    }

    fn forward(&mut self) -> Vec<Replay<T>> {
        let nodes = self.nodes.clone();
        let replay = |(k, node): (usize, Node<T>)| {
            let input_widths: Vec<usize> = node.inputs.iter().map(|&v| self.width(v)).collect();
            Replay {
                inputs: node.inputs.iter().map(|&v| self.value(v, 1 + k)).collect(),
                outputs: node.outputs.iter().map(|&v| self.value(v, 1 + k)).collect(),
                saved: self.create(node.op.saved(&input_widths), 1 + k),
                reads: node.op.reads(),
                passes: None,
                packed: 0..0,
                node,
                input_widths,
            }
        };
        nodes.into_iter().enumerate().map(replay).collect()
    }

    fn backward(&mut self, forward: &[Replay<T>], end: usize) -> Vec<Reverse> {
        let mut backward: Vec<Reverse> = Vec::new();
        for (of, step) in forward.iter().enumerate().rev() {
            let reached = |v: &Var| self.differentiated[v.index()] && self.adjoints[v.index()].is_some();
            if step.node.outputs.iter().any(reached) {
                let time = end + forward.len() - of;
                let later = |p: &Param| backward.iter().any(|r: &Reverse| forward[r.of].node.op.params().contains(p));
                let mut sets = step.node.op.params();
                sets.retain(|p| self.request.trains(p.range()) && !later(p));
                sets.truncate(MAX_UNSET);
                backward.push(self.reverse(of, step, time, sets));
            }
        }
        backward
    }

    fn reverse(&mut self, of: usize, step: &Replay<T>, time: usize, sets: Vec<Param>) -> Reverse {
        let (inputs, outputs) = step.read();
        for &buffer in inputs.iter().chain(outputs).chain([&step.saved]) {
            self.touch(buffer, time);
        }
        let (mut output_adjoints, mut unused) = (Vec::new(), Vec::new());
        for &var in &step.node.outputs {
            let target = self.contribute(var, time);
            let (Target::Set(buffer) | Target::Add(buffer)) = target else {
                unreachable!("all outputs of an op that is run backward are differentiated")
            };
            if target == Target::Set(buffer) {
                unused.push(buffer);
            }
            output_adjoints.push(buffer);
        }
        let input_adjoints = step.node.inputs.iter().map(|&v| self.contribute(v, time)).collect();
        Reverse { of, output_adjoints, unused, input_adjoints, sets }
    }

    fn input_gradient(&mut self, var: Var, time: usize) -> (usize, Option<Buffer>) {
        (self.width(var), self.adjoints[var.index()].map(|buffer| self.touch(buffer, time)))
    }
}
