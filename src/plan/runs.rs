//! What rows have in common is computed once: of many draws for one observation, all that follows from the observation.
//!
//! A run is neighbouring rows that have their common inputs in common. Nodes that depend on these inputs alone come first,
//! with one row for each run. Where a node takes such a value beside others, its op may be split ([`Op::split`]); else the
//! value is repeated for each row of the run. No bit of a result depends on it: an op treats each row alone.
//!
//! [`Op::split`]: crate::op::Op::split

use std::ops::Range;

use crate::graph::{Graph, Node, Var};
use crate::plan::compile::Program;
use crate::plan::{Call, Request};
use crate::real::Real;

/// The nodes in the order in which they run, and the widths of all values, those of split ops included.
pub(super) struct Order<T> {
    pub nodes: Vec<Node<T>>,
    pub widths: Vec<usize>,
    /// How many nodes have one row for each run.
    pub common: usize,
    /// The values to be repeated when these have run.
    pub repeated: Vec<Var>,
}

impl<T: Real> Order<T> {
    /// In recorded order, but for what depends on common inputs alone.
    pub fn new(graph: &Graph<T>, nodes: &[&Node<T>], request: &Request) -> Self {
        let nodes = nodes.iter().map(|&node| node.clone()).collect();
        let mut order = Self { nodes, widths: graph.widths.clone(), common: 0, repeated: Vec::new() };
        if !request.common.is_empty() && !request.wants_gradients() {
            order.divide(request);
        }
        order
    }

    fn divide(&mut self, request: &Request) {
        let mut common = vec![false; self.widths.len()];
        request.common.iter().for_each(|v| common[v.index()] = true);
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for node in std::mem::take(&mut self.nodes) {
            let known: Vec<bool> = node.inputs.iter().map(|v| common[v.index()]).collect();
            if known.iter().all(|&known| known) {
                node.outputs.iter().for_each(|v| common[v.index()] = true);
                first.push(node);
            } else if let Some([part, node]) = self.split(&node, &known) {
                first.push(part);
                rest.push(node);
            } else {
                rest.push(node);
            }
        }
        let read = |v: &Var| request.outputs.contains(v) || rest.iter().any(|n| n.inputs.contains(v));
        let made = first.iter().flat_map(|n| n.outputs.iter().copied());
        let values = request.common.iter().copied().chain(made);
        // Each once: taken from the list.
        let mut once = |v: &Var| common.get_mut(v.index()).is_some_and(std::mem::take);
        self.repeated = values.filter(|v| read(v) && once(v)).collect();
        (self.common, self.nodes) = (first.len(), first);
        self.nodes.append(&mut rest);
    }

    /// The node as two: what it makes of the known inputs, and what it makes of the others and of that.
    fn split(&mut self, node: &Node<T>, known: &[bool]) -> Option<[Node<T>; 2]> {
        let split = node.op.split(known)?;
        let value = node.outputs[0].at(self.widths.len());
        self.widths.push(split.cols);
        let inputs = |which: bool| node.inputs.iter().zip(known).filter(move |(_, k)| **k == which).map(|(&v, _)| v);
        let part = Node { op: split.known, inputs: inputs(true).collect(), outputs: vec![value] };
        let rest =
            Node { op: split.rest, inputs: inputs(false).chain([value]).collect(), outputs: node.outputs.clone() };
        Some([part, rest])
    }
}

/// Finds the runs in these rows of the batch: for each, the row after its last, counted from the first of all.
pub(super) fn find<T: Real>(program: &Program<T>, call: &Call<'_, T>, rows: Range<usize>, ends: &mut Vec<usize>) {
    ends.clear();
    let common = || program.feeds.iter().zip(call.feeds).filter(|(fed, _)| fed.common);
    if common().next().is_some() {
        let ends_at = |&row: &usize| !common().all(|(_, feed)| feed.same(row - 1, row));
        ends.extend((rows.start + 1..rows.end).filter(ends_at).chain([rows.end]).map(|row| row - rows.start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::Activation;
    use crate::ops::linear::Input;
    use crate::plan::{Batch, Feed};
    use crate::rng::NoiseRows;
    use crate::store::{Layout, Store, Weights};
    use crate::{Device, nn::Mlp};

    /// Two networks of an observation x, a level and a state, the first of x alone; noise; and x itself.
    struct Model {
        graph: Graph<f32>,
        inputs: [Var; 3],
        outputs: Vec<Var>,
        store: Store<f32>,
    }

    fn model() -> Model {
        let mut layout = Layout::new();
        let mut mlp = |name, inputs, outputs| {
            Mlp::new(&mut layout.scope(name), inputs, &[37, 20], outputs, Activation::Silu).unwrap()
        };
        let (embedding, body) = (mlp("embedding", 7, 6), mlp("body", 3 + 2 + 6 + 7, 5));
        let mut graph = Graph::new();
        let [x, state] = [("x", 7), ("state", 4)].map(|(name, cols)| graph.input(name, cols).unwrap());
        let level = graph.input("level", 2).unwrap();
        let embedded = embedding.forward(&mut graph, &[x]).unwrap();
        let inputs = [Input::Columns(state, &[3, 0, 1]), Input::All(level), Input::All(embedded), Input::All(x)];
        let y = body.forward_on(&mut graph, &inputs).unwrap();
        let noise = graph.normal(5).unwrap();
        let sum = graph.add(y, noise).unwrap();
        let doubled = graph.scale(x, 2.0).unwrap();
        let one = graph.constant(1.0, 1).unwrap();
        let store = Store::new(layout, 3);
        Model { graph, inputs: [x, level, state], outputs: vec![sum, doubled, embedded, x, one], store }
    }

    /// The outputs, given which of x and level are said to be common, and how x is fed.
    fn outputs(model: &Model, common: &[Var], x: &Feed<'_, f32>, rows: usize, threads: usize) -> Vec<Vec<u32>> {
        let state: Vec<f32> = (0..rows * 4).map(|i| (i as f32 * 0.7).sin()).collect();
        let request = Request::outputs(&model.outputs).with_common_inputs(common);
        let mut plan = model.graph.compile(&Device::cpu_with_threads(threads), &request).unwrap();
        let mut values = [5, 7, 6, 7, 1].map(|cols| vec![0.0f32; rows * cols]);
        let mut slices: Vec<&mut [f32]> = values.iter_mut().map(|y| &mut y[..]).collect();
        let feeds = [*x, Feed::Rows(&state), Feed::Repeat(&[0.3, -0.8])];
        let batch = Batch::with_noise(rows, NoiseRows::new(&5));
        plan.forward(model.store.weights(Weights::Raw), batch, &feeds, &mut slices).unwrap();
        values.iter().map(|y| y.iter().map(|y| y.to_bits()).collect()).collect()
    }

    #[test]
    fn what_is_common_is_the_same_bits() {
        let model = model();
        let [x, level, _] = model.inputs;
        let table: Vec<f32> = (0..9 * 7).map(|i| (i as f32 * 1.3).cos()).collect();
        // One row; runs of one row, of different lengths, longer than a tile; rows that come again later.
        for lengths in [&[1][..], &[1; 9], &[3, 1, 40, 2, 17], &[300, 1, 129], &[64, 64, 64, 64]] {
            let run = |(r, &n): (usize, &usize)| std::iter::repeat_n([2, 5, 2, 8, 0][r % 5], n);
            let index: Vec<u32> = lengths.iter().enumerate().flat_map(run).collect();
            let rows: Vec<f32> = index.iter().flat_map(|&i| &table[i as usize * 7..][..7]).copied().collect();
            let plain = outputs(&model, &[], &Feed::Rows(&rows), index.len(), 1);
            for common in [&[x, x][..], &[level], &[x, level]] {
                for feed in [Feed::Gather(&table, &index), Feed::Rows(&rows)] {
                    for threads in [1, 3] {
                        let found = outputs(&model, common, &feed, index.len(), threads);
                        assert_eq!(found, plain, "{lengths:?} {common:?} {feed:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_depends_on_common_inputs_alone_comes_first_and_layers_are_split() {
        let model = model();
        let [x, _, state] = model.inputs;
        let device = Device::cpu_with_threads(1);
        let request = Request::outputs(&model.outputs[..1]);
        let plain = model.graph.compile(&device, &request).unwrap();
        assert_eq!((plain.program.common, plain.program.forward.len()), (0, 3));
        // The embedding, and what the body makes of it and of x; then the rest of the body, and the sum.
        let split = model.graph.compile(&device, &request.clone().with_common_inputs(&[x])).unwrap();
        assert_eq!((split.program.common, split.program.forward.len()), (2, 4));
        assert!(split.program.repeated.is_empty());
        // The state is not what the sums begin with.
        let other = model.graph.compile(&device, &request.clone().with_common_inputs(&[state])).unwrap();
        assert_eq!((other.program.common, other.program.forward.len()), (0, 3));
        assert!(model.graph.compile(&device, &request.with_common_inputs(&model.outputs[1..2])).is_err());
    }
}
