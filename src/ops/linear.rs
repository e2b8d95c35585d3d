//! Layers one after another, $y = f_n(\cdots f_1(x W_1 + b_1) \cdots)$: a linear map with its activation as epilogue, or a
//! multilayer perceptron.
//!
//! With $x_1 = x$, $x_{l+1} = f_l(x_l W_l + b_l)$ and $g_l = \bar x_{l+1} \odot f_l'(x_l W_l + b_l)$:
//! $\bar x_l = g_l W_l^\top$, $\bar W_l = x_l^\top g_l$, $\bar b_l = \sum_r g_{l,r}$.
//!
//! Several inputs stand for their concatenation, which is never formed: $x W = \sum_k x_k W_k$ with $W_k$ the rows
//! of $W$ that meet $x_k$. An input that needs no gradient (data, context) then costs none. An input may also be some
//! columns of a value.
//!
//! A sum begins with the bias and takes the last input first, by custom the context. So where many rows have it in common,
//! $b + x_n W_n$ can be computed once, and their sums begin with that.

use std::ops::Range;
use std::sync::Arc;

use crate::device::cpu::gemm::{Mat, Packed, Scratch, Start, gemm};
#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{unrolled, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Adjoint, Backward, Forward, Op, Reads, Split};
use crate::ops::Case;
use crate::ops::elementwise::Activation;
use crate::real::Real;
use crate::store::Param;

/// Weight, bias and activation of $f(x W + b)$.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// W, `[inputs x outputs]`.
    pub weight: Param,
    /// b, `[1 x outputs]`; `None` for none.
    pub bias: Option<Param>,
    /// f
    pub activation: Activation,
}

/// What the first layer takes of an input.
#[derive(Clone, Debug)]
struct Taken {
    /// Which of its columns; empty for all.
    columns: Vec<usize>,
    /// The rows of W that meet them.
    rows: Range<usize>,
}

#[derive(Clone, Debug)]
struct Layers {
    inputs: Vec<Taken>,
    /// First to last.
    layers: Vec<Layer>,
    /// Whether a further input is what the sums of the first layer begin with, one row for each run of rows.
    begun: bool,
}

impl Layers {
    /// Columns that are gathered from values of which some are taken.
    fn gathered(&self) -> usize {
        self.inputs.iter().map(|taken| taken.columns.len()).sum()
    }

    /// Elements per row of a layer's slope and, after it, of its value in `saved`. The last value is the output.
    fn kept(&self, l: usize) -> [usize; 2] {
        let (cols, last) = (self.layers[l].weight.cols(), l + 1 == self.layers.len());
        let slope = if last && self.layers[l].activation == Activation::Identity { 0 } else { cols };
        [slope, if last { 0 } else { cols }]
    }

    fn check(&self, inputs: &[usize]) -> Result<(), String> {
        for (&width, Taken { columns, .. }) in inputs.iter().zip(&self.inputs) {
            let twice = (1..columns.len()).any(|i| columns[..i].contains(&columns[i]));
            if twice || columns.iter().any(|&c| c >= width) {
                return Err(format!("columns {columns:?} must be distinct columns of a value {width} wide"));
            }
        }
        let params = Op::<f64>::params(self);
        if (1..params.len()).any(|i| params[..i].contains(&params[i])) {
            return Err("two of the layers share a parameter; record them one by one".into());
        }
        let mut width = self.inputs.last().map_or(0, |taken| taken.rows.end);
        for Layer { weight, bias, .. } in &self.layers {
            let (rows, cols) = (weight.rows(), weight.cols());
            if width != rows {
                return Err(format!("inputs {inputs:?} have {width} columns together, the weight is {rows} x {cols}"));
            }
            if let Some(b) = bias.filter(|b| (b.rows(), b.cols()) != (1, cols)) {
                return Err(format!("the bias is {} x {}, it must be 1 x {cols}", b.rows(), b.cols()));
            }
            width = cols;
        }
        Ok(())
    }
}

/// Rows that [`add_rows`] takes at a time, so that it reads them in the order of memory.
const HEIGHT: usize = 16;

/// sum += the sum of the rows of x.
fn add_rows<T: Real>(x: &[T], sum: &mut [T]) {
    for x in x.chunks(HEIGHT * sum.len()) {
        let j = strips::<T, 32>(x, 0, sum);
        let j = strips::<T, 8>(x, j, sum);
        strips::<T, 1>(x, j, sum);
    }
}

/// The same for as many strips of W columns as there are from column j on; returns where they end.
///
/// The sums of a strip are lanes of vector registers: one in memory waits until its last addition has been stored.
#[inline(never)]
fn strips<T: Real, const W: usize>(x: &[T], mut j: usize, sum: &mut [T]) -> usize {
    wide(
        #[inline(always)]
        || {
            let cols = sum.len();
            while let Some(to) = sum[j..].first_chunk_mut::<W>() {
                let mut total = *to;
                for x in x.chunks_exact(cols) {
                    let x: &[T; W] = x[j..].first_chunk().expect("as long as the sum");
                    total.iter_mut().zip(x).for_each(|(total, &x)| *total += x);
                }
                *to = total;
                j += W;
            }
            j
        },
    )
}

impl Layer {
    /// The elements of W (or of its gradient) in these rows.
    fn block(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.weight.cols()..rows.end * self.weight.cols()
    }

    /// What the sums of x W + b start from.
    fn start<'a, T>(&self, params: &'a [T]) -> Start<'a, T> {
        self.bias.map_or(Start::Zero, |b| Start::Bias(&params[b.range()]))
    }

    /// y = start + x W with x side by side in parts, each with its width, and the packed parts of W that meet them.
    fn product<'a, T: Real>(
        &self,
        (mut start, packed): (Start<'_, T>, &mut &[T]),
        rows: usize,
        x: impl Iterator<Item = (&'a [T], usize)>,
        y: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        let cols = self.weight.cols();
        for (x, width) in x {
            gemm(Mat::new(x, rows, width), Packed::take(packed, width, cols), start, y, cols, scratch);
            start = Start::Add;
        }
    }

    /// g <- g f', unless f' is one everywhere, and db += the sum of g over the rows.
    fn backward_of_activation<T: Real>(&self, g: &mut [T], slope: &[T], tile: &mut Backward<'_, T>) {
        wide(
            #[inline(always)]
            || g.iter_mut().zip(slope).for_each(|(g, &slope)| *g *= slope),
        );
        if let Some(db) = self.bias.map_or(Adjoint::Skip, |b| tile.gradient.of(b)).zeroed() {
            add_rows(g, db);
        }
    }

    /// dW += x^T g, then g W^T in the place of x.
    fn backward_of_hidden<T: Real>(&self, packed: &mut &[T], g: &[T], x: &mut [T], tile: &mut Backward<'_, T>) {
        let (rows, depth, cols) = (tile.rows, self.weight.rows(), self.weight.cols());
        let g = Mat::new(g, rows, cols);
        if let Some((start, dw)) = tile.gradient.of(self.weight).product() {
            gemm(Mat::new(x, rows, depth).t(), g, start, dw, cols, tile.scratch);
        }
        gemm(g, Packed::take(packed, cols, depth), Start::Zero, x, depth, tile.scratch);
    }
}

impl Layers {
    /// The inputs as the first layer takes them, the last one first; those of which it takes some columns lie in `gathered`.
    fn parts<'a, T>(
        &'a self,
        rows: usize,
        inputs: &'a [&'a [T]],
        mut gathered: &'a [T],
    ) -> impl Iterator<Item = (&'a [T], usize)> {
        self.inputs.iter().zip(inputs).rev().map(move |(taken, &x)| {
            if taken.columns.is_empty() {
                return (x, taken.rows.len());
            }
            let (rest, part) = gathered.split_at(gathered.len() - rows * taken.columns.len());
            gathered = rest;
            (part, taken.columns.len())
        })
    }

    /// The columns that are taken of each input that is not taken whole, one input after the other.
    fn gather<T: Copy>(&self, rows: usize, inputs: &[&[T]], widths: &[usize], mut gathered: &mut [T]) {
        for ((Taken { columns, .. }, &x), &width) in self.inputs.iter().zip(inputs).zip(widths) {
            let (part, rest) = gathered.split_at_mut(rows * columns.len());
            unrolled(
                columns.len(),
                #[inline(always)]
                |n| {
                    for (part, x) in part.chunks_exact_mut(n.max(1)).zip(x.chunks_exact(width)) {
                        part.iter_mut().zip(&columns[..n]).for_each(|(part, &c)| *part = x[c]);
                    }
                },
            );
            gathered = rest;
        }
    }

    /// y = x W + b of the first layer.
    fn first_product<T: Real>(&self, packed: &mut &[T], gathered: &[T], y: &mut [T], tile: &mut Forward<'_, T>) {
        let (layer, rows) = (&self.layers[0], tile.rows);
        let mut start = layer.start(tile.params);
        if self.begun {
            let (begun, cols) = (tile.inputs[self.inputs.len()], layer.weight.cols());
            let len = tile.runs.count() * cols;
            y[..len].copy_from_slice(&begun[..len]);
            tile.runs.repeat(cols, y);
            start = Start::Add;
        }
        let parts = self.parts(rows, tile.inputs, gathered);
        layer.product((start, packed), rows, parts, y, tile.scratch);
    }

    /// Contributions of the first layer, given its g: to the gradient of its weight, and to the adjoints of the inputs.
    fn backward_of_inputs<T: Real>(
        &self,
        packed: &mut &[T],
        g: &[T],
        mut gathered: &mut [T],
        tile: &mut Backward<'_, T>,
    ) {
        let (rows, layer) = (tile.rows, &self.layers[0]);
        let cols = layer.weight.cols();
        let g = Mat::new(g, rows, cols);
        let mut d_weight = tile.gradient.of(layer.weight);
        let inputs = tile.inputs.iter().zip(tile.input_widths).zip(&self.inputs);
        for (((&x, &width), Taken { columns, rows: block }), dx) in inputs.zip(&mut *tile.input_adjoints) {
            let taken = block.len();
            let (part, rest) = gathered.split_at_mut(rows * columns.len());
            if let Some((start, dw)) = d_weight.product() {
                let x = Mat::new(if columns.is_empty() { x } else { &*part }, rows, taken);
                gemm(x.t(), g, start, &mut dw[layer.block(block)], cols, tile.scratch);
            }
            if columns.is_empty() {
                if let Some((start, dx)) = dx.product() {
                    gemm(g, Packed::take(packed, cols, taken), start, dx, width, tile.scratch);
                }
            } else if let Some(dx) = dx.zeroed() {
                gemm(g, Packed::take(packed, cols, taken), Start::Zero, part, taken, tile.scratch);
                for (dx, part) in dx.chunks_exact_mut(width).zip(part.chunks_exact(taken)) {
                    columns.iter().zip(part).for_each(|(&c, &part)| dx[c] += part);
                }
            }
            gathered = rest;
        }
    }

    /// Each block of a weight that a forward multiplies with, in its order: the layer and the rows.
    fn blocks(&self) -> impl Iterator<Item = (&Layer, Range<usize>)> {
        let first = self.inputs.iter().rev().map(|taken| (&self.layers[0], taken.rows.clone()));
        first.chain(self.layers[1..].iter().map(|layer| (layer, 0..layer.weight.rows())))
    }

    /// Those whose transposes a backward multiplies with, in its order.
    fn transposed<'a>(&'a self, passes: Option<&'a [bool]>) -> impl Iterator<Item = (&'a Layer, Range<usize>)> {
        let hidden = self.layers[1..].iter().rev().filter(move |_| passes.is_some());
        let first = self.inputs.iter().zip(passes.unwrap_or_default()).filter(|(_, passes)| **passes);
        let first = first.map(|(taken, _)| (&self.layers[0], taken.rows.clone()));
        hidden.map(|layer| (layer, 0..layer.weight.rows())).chain(first)
    }
}

impl<T: Real> Op<T> for Layers {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        self.check(inputs).map_err(|why| Error::shape(Op::<T>::name(self), why))?;
        Ok(self.layers.last().map(|layer| layer.weight.cols()).into_iter().collect())
    }

    fn params(&self) -> Vec<Param> {
        self.layers.iter().flat_map(|layer| [layer.weight].into_iter().chain(layer.bias)).collect()
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    /// The gathered columns; then slope and value of each layer.
    fn saved(&self, _: &[usize]) -> usize {
        self.gathered() + (0..self.layers.len()).map(|l| self.kept(l).iter().sum::<usize>()).sum::<usize>()
    }

    /// The blocks of all weights, then the transposes of those that a backward needs.
    fn packed(&self, _: &[usize], passes: Option<&[bool]>) -> Vec<usize> {
        let blocks = self.blocks().map(|(layer, rows)| Packed::<T>::len(rows.len(), layer.weight.cols()));
        let transposed = self.transposed(passes);
        blocks.chain(transposed.map(|(layer, rows)| Packed::<T>::len(layer.weight.cols(), rows.len()))).collect()
    }

    fn pack(&self, params: &[T], _: &[usize], passes: Option<&[bool]>, part: usize, mut packed: &mut [T]) {
        let matrix = |(layer, rows): (&Layer, Range<usize>)| {
            Mat::new(&params[layer.weight.range()][layer.block(&rows)], rows.len(), layer.weight.cols())
        };
        let transposed = self.transposed(passes).map(|block| matrix(block).t());
        self.blocks().map(matrix).chain(transposed).skip(part).take(1).for_each(|block| block.pack(&mut packed));
    }

    /// What the sums of the first layer begin with, if the known inputs are those that they begin with; and the rest.
    fn split(&self, known: &[bool]) -> Option<Split<T>> {
        let others = known.iter().position(|&known| known)?;
        if others == 0 || self.begun || known[others..].contains(&false) {
            return None;
        }
        let (others, known) = self.inputs.split_at(others);
        let first = Layer { activation: Activation::Identity, ..self.layers[0] };
        let part = Self { inputs: known.to_vec(), layers: vec![first], begun: false };
        let rest = Self { inputs: others.to_vec(), layers: self.layers.clone(), begun: true };
        Some(Split { known: Arc::new(part), cols: first.weight.cols(), rest: Arc::new(rest) })
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let rows = tile.rows;
        let mut packed = tile.packed;
        let (gathered, mut rest) = std::mem::take(&mut tile.saved).split_at_mut(rows * self.gathered());
        self.gather(rows, tile.inputs, tile.input_widths, gathered);
        let mut x: (&[T], usize) = (&[], 0);
        for (l, layer) in self.layers.iter().enumerate() {
            let [slope, value] = self.kept(l).map(|cols| rows * cols);
            let (slope, after) = rest.split_at_mut(slope);
            let (value, after) = after.split_at_mut(value);
            let y = if l + 1 == self.layers.len() { std::mem::take(&mut tile.outputs[0]) } else { value };
            if l == 0 {
                self.first_product(&mut packed, gathered, y, tile);
            } else {
                let start = layer.start(tile.params);
                layer.product((start, &mut packed), rows, [x].into_iter(), y, tile.scratch);
            }
            layer.activation.apply(y, if tile.keep { slope } else { &mut [] });
            (x, rest) = ((&*y, layer.weight.cols()), after);
        }
    }

    /// From the last layer to the first. The g of a hidden layer takes the place of its value, which is read no more.
    fn backward(&self, tile: &mut Backward<'_, T>) {
        let rows = tile.rows;
        let (gathered, mut rest) = std::mem::take(&mut tile.saved).split_at_mut(rows * self.gathered());
        let mut g = std::mem::take(&mut tile.output_adjoints[0]);
        let blocks = self.blocks().map(|(layer, rows)| Packed::<T>::len(rows.len(), layer.weight.cols()));
        let mut packed = &tile.packed[blocks.sum()..];
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (front, slope) = rest.split_at_mut(rest.len() - rows * self.kept(l)[0]);
            layer.backward_of_activation(g, slope, tile);
            if l == 0 {
                return self.backward_of_inputs(&mut packed, g, gathered, tile);
            }
            let (front, x) = front.split_at_mut(front.len() - rows * self.kept(l - 1)[1]);
            layer.backward_of_hidden(&mut packed, g, x, tile);
            (g, rest) = (x, front);
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

/// Columns of the result that a block of threads computes at a time, as in `kernels/gemm.cuh`.
#[cfg(feature = "cuda")]
const WIDTH: usize = 64;

/// Rows of it: 64, or 16 where so few blocks would leave some of the processors idle. A sum has the same bits in either.
#[cfg(feature = "cuda")]
fn height(processors: usize, blocks: impl Fn(usize) -> usize) -> usize {
    if blocks(64) >= processors { 64 } else { 16 }
}

/// `tall` of the kernels.
#[cfg(feature = "cuda")]
fn tall(height: usize) -> Argument {
    Argument::int(usize::from(height == 64))
}

/// Layers of up to so many columns are launched together, a block taking its rows through all of them.
#[cfg(feature = "cuda")]
const NARROW: usize = 128;

#[cfg(feature = "cuda")]
impl Layers {
    /// The layers that each launch has, first to last, and into how many columns of tiles its blocks are split.
    fn launches(&self, extent: impl Fn(&Layer) -> usize) -> Vec<(Range<usize>, usize)> {
        let count = self.layers.len();
        if self.layers.iter().all(|layer| layer.weight.cols() <= NARROW) {
            return vec![(0..count, 1)];
        }
        self.layers.iter().enumerate().map(|(l, layer)| (l..l + 1, extent(layer).div_ceil(WIDTH))).collect()
    }

    /// Whether the first layer takes all of one input.
    fn whole(&self) -> bool {
        self.inputs.len() == 1 && self.inputs[0].columns.is_empty()
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Layers {
    /// `Table` of the kernels: the number of layers, whether the first one takes all of one input, `Layer` of each, and of
    /// all columns that the first one takes the inputs, their widths, and the columns there.
    fn table(&self, inputs: &[usize]) -> Vec<u32> {
        let mut words = vec![self.layers.len() as u32, u32::from(self.whole())];
        let mut place = self.gathered();
        for (l, layer) in self.layers.iter().enumerate() {
            let [slope, value] = self.kept(l);
            let slope_at = if slope == 0 { u32::MAX } else { place as u32 };
            let bias = layer.bias.map_or(u32::MAX, |b| b.range().start as u32);
            let shape = [layer.weight.rows(), layer.weight.cols(), layer.activation as usize].map(|n| n as u32);
            words.extend(shape);
            words.extend([layer.weight.range().start as u32, bias, (place + slope) as u32, slope_at]);
            place += value + slope;
        }
        let mut taken: Vec<[usize; 3]> = Vec::new();
        for (i, (&width, Taken { columns, .. })) in inputs.iter().zip(&self.inputs).enumerate() {
            let all = if columns.is_empty() { (0..width).collect() } else { columns.clone() };
            taken.extend(all.into_iter().map(|column| [i, width, column]));
        }
        words.extend((0..3).flat_map(|part| taken.iter().map(move |column| column[part] as u32)));
        words
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        for (layers, across) in self.launches(|layer| layer.weight.cols()) {
            let height = height(tile.processors(), |height| across * tile.rows.div_ceil(height));
            let [keep, first, last, rows] =
                [usize::from(tile.keep), layers.start, layers.end, tile.rows].map(Argument::int);
            let (inputs, params, table) = (tile.inputs.into(), tile.params.into(), tile.table.into());
            let (output, saved) = (tile.outputs[0].into(), tile.saved.into());
            let arguments = [inputs, params, table, output, saved, keep, first, last, rows, tall(height)];
            let grid = Grid::tiles([tile.rows, across], [height, 1]);
            tile.launch(("linear", "linear_forward"), grid, &arguments)?;
        }
        Ok(())
    }

    /// The adjoints of all values, then all gradients in one launch.
    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let adjoints = self.adjoints(tile)?;
        let (targets, added): (Vec<_>, Vec<_>) = adjoints.iter().map(|adjoint| adjoint.parts()).unzip();
        let added = added.iter().rev().fold(0, |bits, &add| 2 * bits + usize::from(add));
        let (dy, table, saved) = (tile.output_adjoints[0].into(), tile.table.into(), tile.saved.into());
        // Without an input that needs an adjoint the first layer passes none on.
        let end = usize::from(adjoints.iter().all(cuda::Adjoint::is_skipped));
        for (layers, across) in self.launches(|layer| layer.weight.rows()).into_iter().rev() {
            let layers = layers.start.max(end)..layers.end;
            if layers.is_empty() {
                continue;
            }
            let height = height(tile.processors(), |height| across * tile.rows.div_ceil(height));
            let [added, first, last, rows] = [added, layers.start, layers.end, tile.rows].map(Argument::int);
            let (params, targets) = (tile.params.into(), targets[..].into());
            let arguments = [dy, params, table, saved, targets, added, first, last, rows, tall(height)];
            let grid = Grid::tiles([tile.rows, across], [height, 1]);
            tile.launch(("linear", "linear_input_adjoint"), grid, &arguments)?;
        }
        self.gradients(tile)
    }
}

#[cfg(feature = "cuda")]
impl Layers {
    /// The gradients of all weights and biases, given the g of all layers.
    fn gradients<T: Real>(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let Some(lanes) = tile.gradient.lanes() else { return Ok(()) };
        let tiles = |height: usize| {
            let of = |layer: &Layer| layer.weight.rows().div_ceil(height) * layer.weight.cols().div_ceil(WIDTH);
            self.layers.iter().map(of).sum::<usize>()
        };
        let height = height(tile.processors(), |height| lanes.count * tiles(height));
        let grid = Grid::blocks(tiles(height), 256).times(lanes.count);
        let [stride, begin, end] = [lanes.stride, lanes.range.start, lanes.range.end].map(Argument::size);
        let (inputs, dy, rows) = (tile.inputs.into(), tile.output_adjoints[0].into(), Argument::int(tile.rows));
        let (saved, table) = (tile.saved.into(), tile.table.into());
        let arguments = [inputs, dy, saved, table, lanes.origin.into(), stride, begin, end, rows, tall(height)];
        tile.launch(("linear", "linear_gradient"), grid, &arguments)
    }

    /// Where the inputs' adjoints go. Of one that is set and of which some columns are taken, the others are zero.
    fn adjoints<T: Real>(&self, tile: &cuda::Backward<'_, T>) -> Result<Vec<cuda::Adjoint<T>>, Error> {
        let inputs = tile.input_adjoints.iter().zip(tile.input_widths).zip(&self.inputs);
        let added = |((&adjoint, &width), Taken { columns, .. }): ((&cuda::Adjoint<T>, &usize), &Taken)| match adjoint {
            cuda::Adjoint::Set(address) if !columns.is_empty() && columns.len() < width => {
                let n = tile.rows * width;
                let arguments = [adjoint.into(), Argument::real(T::ZERO), Argument::size(n)];
                tile.launch(("plan", "fill"), Grid::threads(n), &arguments)?;
                Ok(cuda::Adjoint::Add(address))
            }
            _ => Ok(adjoint),
        };
        inputs.map(added).collect()
    }
}

/// A value as an input of layers.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// All of its columns.
    All(Var),
    /// These columns of it, in this order.
    Columns(Var, &'a [usize]),
}

impl<T: Real> Graph<T> {
    /// f(x W + b), `[rows x W.cols()]`; `x` is the concatenation of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the inputs' widths add up to W's rows and `b` is `[1 x W.cols()]`.
    pub fn linear(
        &mut self,
        inputs: &[Var],
        weight: Param,
        bias: Option<Param>,
        activation: Activation,
    ) -> Result<Var, Error> {
        let inputs: Vec<Input<'_>> = inputs.iter().map(|&v| Input::All(v)).collect();
        self.layers(&inputs, &[Layer { weight, bias, activation }])
    }

    /// The layers one after another, `[rows x W.cols()]` of the last one's W; `x` is the concatenation of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no layer, unless the inputs' widths add up to the rows of the first W, those of each
    /// further one are the columns of the one before, and each b is `[1 x W.cols()]`; or if an input's columns repeat, do
    /// not exist, or are none.
    pub fn layers(&mut self, inputs: &[Input<'_>], layers: &[Layer]) -> Result<Var, Error> {
        if layers.is_empty() {
            return Err(Error::shape("linear", "needs at least one layer"));
        }
        let (mut vars, mut taken, mut row) = (Vec::new(), Vec::new(), 0);
        for input in inputs {
            let (var, columns) = match *input {
                Input::All(var) => (var, Vec::new()),
                Input::Columns(_, []) => return Err(Error::shape("linear", "no column of an input is taken")),
                Input::Columns(var, columns) => (var, columns.to_vec()),
            };
            self.check("linear", var)?;
            let width = if columns.is_empty() { self.widths[var.index()] } else { columns.len() };
            vars.push(var);
            taken.push(Taken { columns, rows: row..row + width });
            row += width;
        }
        self.push_one(Layers { inputs: taken, layers: layers.to_vec(), begun: false }, &vars)
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |inputs: &[usize], cols: usize, f: Activation| {
        let rows = inputs.iter().sum();
        Case::new("linear", inputs, move |g, x, p| Ok(vec![g.linear(x, p[0], Some(p[1]), f)?]))
            .with_params(&[(rows, cols), (1, cols)])
    };
    let no_bias =
        Case::new("linear without bias", &[3], |g, x, p| Ok(vec![g.linear(x, p[0], None, Activation::Identity)?]));
    // Some columns of one input, all of another, through as many layers as there are widths.
    let several = |hidden: &'static [usize], last: Activation| {
        let case = Case::new("linear, several", &[5, 2, 4], move |g, x, p| {
            let inputs = [Input::Columns(x[0], &[4, 0, 2]), Input::All(x[1]), Input::Columns(x[2], &[1])];
            let layer = |(l, p): (usize, &[Param])| {
                let activation = if l + 1 < hidden.len() { Activation::Silu } else { last };
                Layer { weight: p[0], bias: Some(p[1]), activation }
            };
            let layers: Vec<Layer> = p.chunks(2).enumerate().map(layer).collect();
            Ok(vec![g.layers(&inputs, &layers)?])
        });
        let widths: Vec<usize> = [6].iter().chain(hidden).copied().collect();
        let shapes: Vec<_> = widths.windows(2).flat_map(|w| [(w[0], w[1]), (1, w[1])]).collect();
        case.with_params(&shapes)
    };
    vec![
        case(&[3], 5, Activation::Silu),
        case(&[2, 19], 17, Activation::Tanh),
        case(&[1], 1, Activation::Identity),
        case(&[7, 1, 2], 33, Activation::Sigmoid),
        no_bias.with_params(&[(3, 4)]),
        several(&[4], Activation::Tanh),
        several(&[8, 5, 3], Activation::Identity),
        several(&[7, 130, 2], Activation::Sigmoid),
    ]
}
