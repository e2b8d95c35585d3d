//! Linear map with its activation as epilogue, $y = f(x W + b)$.
//!
//! With $g = \bar y \odot f'(x W + b)$: $\bar x = g W^\top$, $\bar W = x^\top g$, $\bar b = \sum_r g_r$.
//!
//! Several inputs stand for their concatenation, which is never formed: $x W = \sum_k x_k W_k$ with $W_k$ the rows
//! of $W$ that meet $x_k$. An input that needs no gradient (data, context) then costs none.

use crate::device::cpu::gemm::{Mat, Packed, Start, gemm};
#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::wide;
use crate::op::{Adjoint, Backward, Forward, Op, Reads};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::ops::elementwise::Activation;
use crate::ops::Case;
use crate::real::Real;
use crate::store::Param;

/// Rows and columns of the result that a block of threads computes, as in `kernels/linear.cu`.
#[cfg(feature = "cuda")]
const TILE: usize = 64;

#[derive(Debug)]
struct Linear {
    weight: Param,
    bias: Option<Param>,
    activation: Activation,
}

impl Linear {
    /// The part of W (or of its gradient) that meets the k-th input, whose rows start at `start`.
    fn block(&self, start: usize, width: usize) -> std::ops::Range<usize> {
        start * self.weight.cols()..(start + width) * self.weight.cols()
    }
}

impl<T: Real> Op<T> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let (width, rows, cols) = (inputs.iter().sum::<usize>(), self.weight.rows(), self.weight.cols());
        if width != rows {
            let why = format!("inputs {inputs:?} have {width} columns together, the weight is {rows} x {cols}");
            return Err(Error::shape("linear", why));
        }
        match self.bias {
            Some(b) if (b.rows(), b.cols()) != (1, cols) => {
                let why = format!("the bias is {} x {}, it must be 1 x {cols}", b.rows(), b.cols());
                Err(Error::shape("linear", why))
            }
            _ => Ok(vec![cols]),
        }
    }

    fn params(&self) -> Vec<Param> {
        [self.weight].into_iter().chain(self.bias).collect()
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn saved(&self, _: &[usize]) -> usize {
        if self.activation == Activation::Identity { 0 } else { self.weight.cols() }
    }

    /// The blocks of W, then the transposes of those that a backward needs.
    fn packed(&self, inputs: &[usize], passes: &[bool]) -> usize {
        let cols = self.weight.cols();
        let transposed = inputs.iter().zip(passes).filter(|(_, passes)| **passes).map(|(&width, _)| Packed::<T>::len(cols, width));
        inputs.iter().map(|&width| Packed::<T>::len(width, cols)).chain(transposed).sum()
    }

    fn pack(&self, params: &[T], inputs: &[usize], passes: &[bool], mut packed: &mut [T]) {
        let (weight, cols) = (&params[self.weight.range()], self.weight.cols());
        let starts = inputs.iter().scan(0, |end, width| Some(std::mem::replace(end, *end + width)));
        let blocks = starts.zip(inputs).map(|(start, &width)| Mat::new(&weight[self.block(start, width)], width, cols));
        let transposed = blocks.clone().zip(passes).filter(|(_, passes)| **passes).map(|(block, _)| block.t());
        blocks.chain(transposed).for_each(|block| block.pack(&mut packed));
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let cols = self.weight.cols();
        let mut packed = tile.packed;
        let y = &mut *tile.outputs[0];
        let mut start = self.bias.map_or(Start::Zero, |b| Start::Bias(&tile.params[b.range()]));
        for (&x, &width) in tile.inputs.iter().zip(tile.input_widths) {
            let w = Packed::take(&mut packed, width, cols);
            gemm(Mat::new(x, tile.rows, width), w, start, y, cols, tile.scratch);
            start = Start::Add;
        }
        let slope = if tile.keep { &mut *tile.saved } else { &mut [] };
        self.activation.apply(y, slope);
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (rows, cols) = (tile.rows, self.weight.cols());
        let g = &mut *tile.output_adjoints[0];
        if self.activation != Activation::Identity {
            wide(#[inline(always)] || g.iter_mut().zip(&*tile.saved).for_each(|(g, &slope)| *g *= slope));
        }
        let g = &*g;
        if let Some(db) = self.bias.map_or(Adjoint::Skip, |b| tile.gradient.of(b)).zeroed() {
            wide(#[inline(always)] || g.chunks_exact(cols).for_each(|g| db.iter_mut().zip(g).for_each(|(db, &g)| *db += g)));
        }
        let mut packed = &tile.packed[Op::<T>::packed(self, tile.input_widths, &[])..];
        let mut d_weight = tile.gradient.of(self.weight);
        let mut row = 0;
        for ((&x, &width), dx) in tile.inputs.iter().zip(tile.input_widths).zip(&mut *tile.input_adjoints) {
            let block = self.block(row, width);
            if let Some((start, dx)) = dx.product() {
                let w_transposed = Packed::take(&mut packed, cols, width);
                gemm(Mat::new(g, rows, cols), w_transposed, start, dx, width, tile.scratch);
            }
            if let Some((start, dw)) = d_weight.product() {
                let x_transposed = Mat::new(x, rows, width).t();
                gemm(x_transposed, Mat::new(g, rows, cols), start, &mut dw[block], cols, tile.scratch);
            }
            row += width;
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Linear {
    /// One product for each input; the last applies the activation.
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (cols, last) = (self.weight.cols(), tile.inputs.len() - 1);
        let weight = tile.params.at(self.weight.range().start);
        let bias = self.bias.map_or(Address::NONE, |b| tile.params.at(b.range().start));
        let mut start = 0;
        for (i, (&x, &width)) in tile.inputs.iter().zip(tile.input_widths).enumerate() {
            let f = if i == last { self.activation } else { Activation::Identity };
            let slope = if f != Activation::Identity && tile.keep { tile.saved } else { Address::NONE };
            let [add, f, rows, columns, depth] = [usize::from(i > 0), f as usize, tile.rows, cols, width].map(Argument::int);
            let (x, w, y) = (x.into(), weight.at(start * cols).into(), tile.outputs[0].into());
            let arguments = [x, w, bias.into(), y, slope.into(), add, f, rows, columns, depth];
            tile.launch(("linear", "linear_forward"), Grid::tiles(tile.rows, cols, TILE), &arguments)?;
            start += width;
        }
        Ok(())
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let (rows, cols, g) = (tile.rows, self.weight.cols(), tile.output_adjoints[0]);
        if self.activation != Activation::Identity {
            let n = rows * cols;
            let arguments = [g.into(), tile.saved.into(), Argument::size(n)];
            tile.launch(("linear", "linear_through_activation"), Grid::threads(n), &arguments)?;
        }
        let weight = tile.params.at(self.weight.range().start);
        let mut start = 0;
        for ((&x, &width), &dx) in tile.inputs.iter().zip(tile.input_widths).zip(tile.input_adjoints) {
            let shape = [rows, cols, width].map(Argument::int);
            if !dx.is_skipped() {
                let arguments = [g.into(), weight.at(start * cols).into(), dx.into(), shape[0], shape[1], shape[2]];
                tile.launch(("linear", "linear_input_adjoint"), Grid::tiles(rows, width, TILE), &arguments)?;
            }
            if let Some(dw) = tile.gradient.of(self.weight) {
                let arguments = [x.into(), g.into(), dw.at(start * cols).into(), shape[0], shape[1], shape[2]];
                tile.launch(("linear", "linear_weight_gradient"), Grid::tiles(width, cols, TILE), &arguments)?;
            }
            start += width;
        }
        let Some(db) = self.bias.and_then(|b| tile.gradient.of(b)) else { return Ok(()) };
        let arguments = [g.into(), db.into(), Argument::int(rows), Argument::int(cols)];
        tile.launch(("linear", "linear_bias_gradient"), Grid::blocks(cols.div_ceil(32), 256), &arguments)
    }
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
        self.push_one(Linear { weight, bias, activation }, inputs)
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |inputs: &[usize], cols: usize, f: Activation| {
        let rows = inputs.iter().sum();
        Case::new("linear", inputs, move |g, x, p| Ok(vec![g.linear(x, p[0], Some(p[1]), f)?]))
            .with_params(&[(rows, cols), (1, cols)])
    };
    let no_bias = Case::new("linear without bias", &[3], |g, x, p| {
        Ok(vec![g.linear(x, p[0], None, Activation::Identity)?])
    });
    vec![
        case(&[3], 5, Activation::Silu),
        case(&[2, 19], 17, Activation::Tanh),
        case(&[1], 1, Activation::Identity),
        case(&[7, 1, 2], 33, Activation::Sigmoid),
        no_bias.with_params(&[(3, 4)]),
    ]
}
