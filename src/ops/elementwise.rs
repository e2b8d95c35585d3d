//! Elementwise functions, $y_i = f(x_i)$ and $\bar x_i = \bar y_i f'(x_i)$.
//!
//! The forward leaves $f'(x)$ in `saved`, where it costs least (an exponential serves both); the backward of any
//! function, alone or as the epilogue of [`super::linear`], is then one product.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::{Case, Domain};
use crate::real::Real;

/// An elementwise function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Activation {
    /// x
    #[default]
    Identity,
    /// max(x, 0), with derivative 0 at 0
    Relu,
    /// tanh x
    Tanh,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// x sigmoid(x), also called swish (Hendrycks & Gimpel 2016; Ramachandran et al. 2017)
    Silu,
    /// ln(1 + exp x)
    Softplus,
    /// exp x
    Exp,
    /// ln x
    Ln,
    /// x²
    Square,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Identity,
        Self::Relu,
        Self::Tanh,
        Self::Sigmoid,
        Self::Silu,
        Self::Softplus,
        Self::Exp,
        Self::Ln,
        Self::Square,
    ];

    /// Replaces each x by f(x), and fills `slope` with f'(x) unless it is empty.
    pub(crate) fn apply<T: Real>(self, x: &mut [T], slope: &mut [T]) {
        // The closure is inlined always; a function's bare name need not be, and would be called at the build's own
        // SIMD level.
        macro_rules! map {
            ($f:path) => {
                map(
                    x,
                    slope,
                    #[inline(always)]
                    |x| $f(x),
                )
            };
        }
        match self {
            Self::Identity => slope.fill(T::ONE),
            Self::Relu => map!(relu),
            Self::Tanh => map!(tanh),
            Self::Sigmoid => map!(sigmoid),
            Self::Silu => map!(math::silu_with_derivative),
            Self::Softplus => map!(softplus),
            Self::Exp => map!(exp),
            Self::Ln => map!(ln),
            Self::Square => map!(square),
        }
    }
}

// (f(x), f'(x))

#[inline(always)]
fn relu<T: Real>(x: T) -> (T, T) {
    // Written so that a NaN passes.
    (if x < T::ZERO { T::ZERO } else { x }, if x > T::ZERO { T::ONE } else { T::ZERO })
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> (T, T) {
    let y = math::tanh(x);
    (y, T::ONE - y * y)
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> (T, T) {
    let y = math::sigmoid(x);
    (y, y * (T::ONE - y))
}

#[inline(always)]
fn softplus<T: Real>(x: T) -> (T, T) {
    (math::softplus(x), math::sigmoid(x))
}

#[inline(always)]
fn exp<T: Real>(x: T) -> (T, T) {
    let y = math::exp(x);
    (y, y)
}

#[inline(always)]
fn ln<T: Real>(x: T) -> (T, T) {
    (math::ln(x), T::ONE / x)
}

#[inline(always)]
fn square<T: Real>(x: T) -> (T, T) {
    (x * x, x + x)
}

/// Elements that are computed together, apart from where they come from and go: several vectors, whose chains of
/// operations run side by side.
const BLOCK: usize = 64;

/// x <- f(x), slope <- f'(x); what is not asked for is not computed.
///
/// All must be inlined to be compiled for wide vectors, `f` too; loops are loops, as `for_each` is itself a function that
/// the compiler may choose to call.
fn map<T: Real>(x: &mut [T], slope: &mut [T], f: impl Fn(T) -> (T, T)) {
    let (blocks, rest) = x.as_chunks_mut::<BLOCK>();
    if slope.is_empty() {
        return wide(
            #[inline(always)]
            || {
                for block in blocks {
                    let mut x = *block;
                    for x in &mut x {
                        *x = f(*x).0;
                    }
                    *block = x;
                }
                for x in rest {
                    *x = f(*x).0;
                }
            },
        );
    }
    let (slopes, last) = slope.as_chunks_mut::<BLOCK>();
    wide(
        #[inline(always)]
        || {
            for (block, slopes) in blocks.iter_mut().zip(slopes) {
                let (mut x, mut slope) = (*block, *slopes);
                for (x, slope) in x.iter_mut().zip(&mut slope) {
                    (*x, *slope) = f(*x);
                }
                (*block, *slopes) = (x, slope);
            }
            for (x, slope) in rest.iter_mut().zip(last) {
                (*x, *slope) = f(*x);
            }
        },
    );
}

#[derive(Debug)]
struct Elementwise(Activation);

impl<T: Real> Op<T> for Elementwise {
    fn name(&self) -> &'static str {
        match self.0 {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Silu => "silu",
            Activation::Softplus => "softplus",
            Activation::Exp => "exp",
            Activation::Ln => "ln",
            Activation::Square => "square",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(inputs.to_vec())
    }

    fn saved(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let y = &mut tile.outputs[0];
        y.copy_from_slice(tile.inputs[0]);
        let slope = if tile.keep { &mut *tile.saved } else { &mut [] };
        self.0.apply(y, slope);
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        tile.input_adjoints[0].zip(tile.output_adjoints[0], tile.saved, |dy, slope| dy * slope);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Elementwise {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let slope = if tile.keep { tile.saved } else { Address::NONE };
        let (f, n_argument) = (Argument::int(self.0 as usize), Argument::size(n));
        let arguments = [tile.inputs[0].into(), tile.outputs[0].into(), slope.into(), f, n_argument];
        tile.launch(("elementwise", "elementwise_forward"), Grid::threads(n), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let n = tile.rows * tile.input_widths[0];
        let (dy, dx) = (tile.output_adjoints[0].into(), tile.input_adjoints[0].into());
        let arguments = [dy, tile.saved.into(), dx, Argument::size(n)];
        tile.launch(("elementwise", "elementwise_backward"), Grid::threads(n), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// f(x), element by element.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` was recorded by another graph.
    pub fn map(&mut self, f: Activation, x: Var) -> Result<Var, Error> {
        self.push_one(Elementwise(f), &[x])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |f| Case::new("elementwise", &[5], move |g, x, _| Ok(vec![g.map(f, x[0])?]));
    let domain = |f| if f == Activation::Ln { Domain::Positive } else { Domain::Real };
    Activation::ALL.into_iter().map(|f| case(f).on(domain(f))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(f: Activation, x: f64) -> (f64, f64) {
        let (mut y, mut slope) = ([x], [0.0]);
        f.apply(&mut y, &mut slope);
        (y[0], slope[0])
    }

    #[test]
    fn closed_forms() {
        for x in [-3.0, -0.5, 0.7, 2.0_f64] {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            let expected = [
                (Activation::Relu, x.max(0.0)),
                (Activation::Tanh, x.tanh()),
                (Activation::Sigmoid, sigmoid),
                (Activation::Silu, x * sigmoid),
                (Activation::Softplus, x.exp().ln_1p()),
                (Activation::Exp, x.exp()),
                (Activation::Square, x * x),
            ];
            for (f, y) in expected {
                assert!((values(f, x).0 - y).abs() < 1e-14 * y.abs().max(1.0), "{f:?}({x})");
            }
        }
    }

    #[test]
    fn large_arguments_saturate_and_nan_passes() {
        for f in Activation::ALL {
            assert!(values(f, f64::NAN).0.is_nan(), "{f:?}");
        }
        assert_eq!(values(Activation::Sigmoid, -1000.0), (0.0, 0.0));
        assert_eq!(values(Activation::Softplus, 1000.0), (1000.0, 1.0));
        assert_eq!(values(Activation::Silu, 1000.0), (1000.0, 1.0));
        assert_eq!(values(Activation::Tanh, -1000.0), (-1.0, 0.0));
    }
}
