//! The tape. Building a model pushes ops and hands out [`Var`]s; the graph holds shapes and ops, no data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, MAX_ARITY, Op};
use crate::real::Real;
use crate::rng::Distribution;

/// A value on the tape: a batch of row vectors, `[rows x cols]`. The row count is not part of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var {
    graph: u32,
    pub(crate) index: u32,
}

impl Var {
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// Another value of the same graph.
    pub(crate) fn at(self, index: usize) -> Self {
        Self { index: index as u32, ..self }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node<T> {
    pub op: Arc<dyn Op<T>>,
    pub inputs: Vec<Var>,
    pub outputs: Vec<Var>,
}

/// What the tape puts before an input that its op already takes: y = x.
#[derive(Debug)]
struct CopyOp;

impl<T: Real> Op<T> for CopyOp {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(inputs.to_vec())
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        tile.outputs[0].copy_from_slice(tile.inputs[0]);
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let dy = &*tile.output_adjoints[0];
        tile.input_adjoints[0].zip(dy, dy, |dy, _| dy);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for CopyOp {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let y = cuda::Adjoint::Set(tile.outputs[0]).into();
        tile.launch(("plan", "copy"), Grid::threads(n), &[tile.inputs[0].into(), y, Argument::size(n)])
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let (dy, dx) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into());
        tile.launch(("plan", "copy"), Grid::threads(n), &[dy, dx, Argument::size(n)])
    }
}

/// A Wengert list: nodes in the order in which they were recorded, which is an order in which they can run.
///
/// Every shape error is raised here, while recording; a compiled [`crate::Plan`] only replays. The methods that
/// record an op (`graph.linear(..)`, `graph.coupling(..)`) stand beside each op in [`crate::ops`].
#[derive(Debug)]
pub struct Graph<T> {
    id: u32,
    pub(crate) widths: Vec<usize>,
    pub(crate) nodes: Vec<Node<T>>,
    pub(crate) inputs: Vec<(String, Var)>,
    pub(crate) noise: Vec<(Distribution, Var)>,
}

impl<T: Real> Default for Graph<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Graph<T> {
    /// An empty tape.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, widths: Vec::new(), nodes: Vec::new(), inputs: Vec::new(), noise: Vec::new() }
    }

    /// A value that is fed at each step, `[rows x cols]`. Feeds are given in the order of these calls.
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn input(&mut self, name: &str, cols: usize) -> Result<Var, Error> {
        if cols == 0 {
            return Err(Error::shape("input", format!("`{name}` has no column")));
        }
        let var = self.new_var(cols);
        self.inputs.push((name.to_string(), var));
        Ok(var)
    }

    /// Noise that each replay draws anew, `[rows x cols]`: the k-th call names the source
    /// [`NoiseId(k)`](crate::rng::NoiseId); which rows of it a replay takes, its [`Batch`](crate::plan::Batch) says.
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn noise(&mut self, distribution: Distribution, cols: usize) -> Result<Var, Error> {
        if cols == 0 {
            return Err(Error::shape("noise", "has no column"));
        }
        let var = self.new_var(cols);
        self.noise.push((distribution, var));
        Ok(var)
    }

    /// Standard normal noise. See [`Graph::noise`].
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn normal(&mut self, cols: usize) -> Result<Var, Error> {
        self.noise(Distribution::Normal, cols)
    }

    /// Uniform noise on (0, 1). See [`Graph::noise`].
    ///
    /// # Errors
    /// [`Error::Shape`] if `cols` is 0.
    pub fn uniform(&mut self, cols: usize) -> Result<Var, Error> {
        self.noise(Distribution::Uniform, cols)
    }

    /// Width of a value.
    ///
    /// # Errors
    /// [`Error::Shape`] if it was recorded by another graph.
    pub fn cols(&self, var: Var) -> Result<usize, Error> {
        self.check("cols", var)?;
        Ok(self.widths[var.index()])
    }

    /// Records an op, which may be one of your own, and returns its outputs.
    ///
    /// # Errors
    /// What [`Op::shapes`] says, and [`Error::Shape`] for an input of another graph or for more than 16 of them.
    pub fn push(&mut self, op: impl Op<T> + 'static, inputs: &[Var]) -> Result<Vec<Var>, Error> {
        if inputs.len() > MAX_ARITY {
            let why = format!("{} inputs, at most {MAX_ARITY} are possible; nest the op", inputs.len());
            return Err(Error::shape(op.name(), why));
        }
        for &var in inputs {
            self.check(op.name(), var)?;
        }
        let widths: Vec<usize> = inputs.iter().map(|v| self.widths[v.index()]).collect();
        let outputs = op.shapes(&widths)?;
        if outputs.is_empty() || outputs.len() > MAX_ARITY || outputs.contains(&0) {
            let why =
                format!("outputs of widths {outputs:?}; an op has 1 to {MAX_ARITY} outputs, each of 1 column or more");
            return Err(Error::shape(op.name(), why));
        }
        let inputs = self.without_repeats(inputs)?;
        let outputs: Vec<Var> = outputs.into_iter().map(|cols| self.new_var(cols)).collect();
        self.nodes.push(Node { op: Arc::new(op), inputs, outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Records an op with one output.
    pub(crate) fn push_one(&mut self, op: impl Op<T> + 'static, inputs: &[Var]) -> Result<Var, Error> {
        Ok(self.push(op, inputs)?[0])
    }

    /// A value that an op takes twice is read through a copy the second time, so that a backward instruction
    /// never writes one adjoint through two of its inputs.
    fn without_repeats(&mut self, inputs: &[Var]) -> Result<Vec<Var>, Error> {
        let mut seen = Vec::with_capacity(inputs.len());
        for &var in inputs {
            let own = if seen.contains(&var) { self.push_one(CopyOp, &[var])? } else { var };
            seen.push(own);
        }
        Ok(seen)
    }

    fn new_var(&mut self, cols: usize) -> Var {
        let var = Var { graph: self.id, index: self.widths.len() as u32 };
        self.widths.push(cols);
        var
    }

    pub(crate) fn check(&self, op: &'static str, var: Var) -> Result<(), Error> {
        if var.graph == self.id {
            Ok(())
        } else {
            Err(Error::shape(op, "an input was recorded by another graph; record it in this one"))
        }
    }
}
