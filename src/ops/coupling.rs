//! Affine coupling with soft-clamped log-scales (RealNVP, Dinh et al. 2017).
//!
//! For the transformed columns $b$, with $s = a \tanh(\tilde s / a)$:
//! $$ y_b = x_b e^{s} + t, \qquad l' = l + \textstyle\sum s, $$
//! $$ \bar x_b = \bar y_b e^s, \quad \bar s = \bar y_b x_b e^s + \bar l', \quad \bar t = \bar y_b, \quad
//!    \bar{\tilde s} = \bar s\,(1 - \tanh^2(\tilde s / a)), \quad \bar l = \bar l'. $$
//! The other columns pass unchanged. The inverse,
//! $$ y_b = (x_b - t) e^{-s}, \qquad l' = l - \textstyle\sum s, $$
//! $$ \bar x_b = \bar y_b e^{-s}, \quad \bar s = -\bar y_b y_b - \bar l', \quad \bar t = -\bar y_b e^{-s}. $$

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, unrolled, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

/// Which way a bijection is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// x -> y
    Forward,
    /// y -> x
    Inverse,
}

#[derive(Debug)]
struct Coupling<T> {
    columns: Vec<usize>,
    clamp: T,
    direction: Direction,
}

impl<T: Real> Coupling<T> {
    /// +a for the forward, -a for the inverse: the sign with which s enters everywhere.
    fn signed_clamp(&self) -> T {
        if self.direction == Direction::Forward { self.clamp } else { -self.clamp }
    }

    /// tanh(s~ / a) for all rows, gathered side by side so that it vectorises whatever the number of columns.
    fn tanh(&self, raw: &[T], tanh: &mut [T]) {
        let b = self.columns.len();
        unrolled(
            b,
            #[inline(always)]
            |b| {
                for (u, raw) in tanh.chunks_exact_mut(b).zip(raw.chunks_exact(2 * b)) {
                    u.iter_mut().zip(raw).for_each(|(u, &raw)| *u = raw);
                }
            },
        );
        let per_clamp = T::ONE / self.clamp;
        wide(
            #[inline(always)]
            || tanh.iter_mut().for_each(|u| *u = math::tanh(*u * per_clamp)),
        );
    }
}

impl<T: Real> Op<T> for Coupling<T> {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "coupling",
            Direction::Inverse => "coupling_inverse",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let (width, b) = (inputs[0], self.columns.len());
        let distinct = (1..b).all(|i| !self.columns[..i].contains(&self.columns[i]));
        if b == 0 || !distinct || self.columns.iter().any(|&c| c >= width) {
            let why = format!("columns {:?} must be distinct columns of a value {width} wide", self.columns);
            return Err(Error::shape("coupling", why));
        }
        if inputs[1] != 2 * b || inputs[2] != 1 {
            let why = format!(
                "{b} transformed columns need a conditioner output {} wide (found {}) and a log-det 1 wide (found {})",
                2 * b,
                inputs[1],
                inputs[2]
            );
            return Err(Error::shape("coupling", why));
        }
        Ok(vec![width, 1])
    }

    fn reads(&self) -> Reads {
        match self.direction {
            Direction::Forward => Reads::Inputs,
            Direction::Inverse => Reads::Outputs,
        }
    }

    fn saved(&self, _: &[usize]) -> usize {
        2 * self.columns.len()
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, raw, ln_det) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let [y, new_ln_det] = tile.outputs else { return };
        let (b, width, signed) = (self.columns.len(), tile.input_widths[0], self.signed_clamp());
        let (scale, slope) = tile.saved.split_at_mut(tile.rows * b);

        self.tanh(raw, slope);
        unrolled(
            b,
            #[inline(always)]
            |b| {
                for ((new, &old), tanh) in new_ln_det.iter_mut().zip(ln_det).zip(slope.chunks_exact(b)) {
                    *new = old + signed * tanh.iter().copied().sum::<T>();
                }
            },
        );
        wide(
            #[inline(always)]
            || {
                for (scale, tanh) in scale.iter_mut().zip(slope) {
                    *scale = math::exp(signed * *tanh);
                    *tanh = T::ONE - *tanh * *tanh;
                }
            },
        );
        y.copy_from_slice(x);
        unrolled(
            b,
            #[inline(always)]
            |b| {
                let shifts = raw.chunks_exact(2 * b).map(|raw| &raw[b..]);
                for ((y, shift), scale) in y.chunks_exact_mut(width).zip(shifts).zip(scale.chunks_exact(b)) {
                    for ((&c, &t), &e) in self.columns[..b].iter().zip(shift).zip(scale) {
                        y[c] = match self.direction {
                            Direction::Forward => y[c] * e + t,
                            Direction::Inverse => (y[c] - t) * e,
                        };
                    }
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let b = self.columns.len();
        let width = tile.input_widths[0];
        let (scale, slope) = tile.saved.split_at(tile.rows * b);
        let [dy, dl] = &mut *tile.output_adjoints else { return };
        let [dx, draw, dl_in] = &mut *tile.input_adjoints else { return };
        // dy/ds is x e^s forward and -y in the inverse.
        let (values, sign) = match self.direction {
            Direction::Forward => (tile.inputs[0], T::ONE),
            Direction::Inverse => (tile.outputs[0], -T::ONE),
        };
        dl_in.zip(dl, dl, |dl, _| dl);
        unrolled(
            b,
            #[inline(always)]
            |b| {
                let saved = scale.chunks_exact(b).zip(slope.chunks_exact(b));
                let rows = dy.chunks_exact_mut(width).zip(values.chunks_exact(width));
                for (r, (((dy, values), (scale, slope)), &dl)) in rows.zip(saved).zip(&**dl).enumerate() {
                    for ((j, &c), (&scale, &slope)) in self.columns[..b].iter().enumerate().zip(scale.iter().zip(slope))
                    {
                        let through = dy[c] * scale;
                        let (along, dt) = match self.direction {
                            Direction::Forward => (through * values[c], dy[c]),
                            Direction::Inverse => (dy[c] * values[c], -through),
                        };
                        draw.put(r * 2 * b + j, sign * (along + dl) * slope);
                        draw.put(r * 2 * b + b + j, dt);
                        dy[c] = through;
                    }
                }
            },
        );
        dx.zip(dy, dy, |dy, _| dy);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Coupling<T> {
    /// The number of each column among the transformed ones, or -1.
    fn table(&self, inputs: &[usize]) -> Vec<u32> {
        let number = |c| self.columns.iter().position(|&column| column == c);
        (0..inputs[0]).map(|c| number(c).map_or(u32::MAX, |j| j as u32)).collect()
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [b, width] = [self.columns.len(), tile.input_widths[0]].map(Argument::int);
        let [x, raw, ln_det] = [0, 1, 2].map(|i| tile.inputs[i].into());
        let (y, new_ln_det, clamp) =
            (tile.outputs[0].into(), tile.outputs[1].into(), Argument::real(self.signed_clamp()));
        let (saved, place, rows) = (tile.saved.into(), tile.table.into(), Argument::size(tile.rows));
        let arguments = [x, raw, ln_det, y, new_ln_det, saved, place, clamp, b, width, rows];
        tile.launch(("coupling", "coupling_forward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let inverse = self.direction == Direction::Inverse;
        let values = if inverse { tile.outputs[0] } else { tile.inputs[0] };
        let [inverse, b, width] = [usize::from(inverse), self.columns.len(), tile.input_widths[0]].map(Argument::int);
        let [dx, draw, dl_in] = [0, 1, 2].map(|i| tile.input_adjoints[i].into());
        let (dy, dl) = (tile.output_adjoints[0].into(), tile.output_adjoints[1].into());
        let (saved, place, rows) = (tile.saved.into(), tile.table.into(), Argument::size(tile.rows));
        let arguments = [dy, dl, values.into(), saved, place, dx, draw, dl_in, inverse, b, width, rows];
        tile.launch(("coupling", "coupling_backward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// Affine coupling of the given columns of `x`: returns (y, log-det + its own).
    ///
    /// `raw` is the conditioner's output, `[rows x 2 b]` for b columns: log-scales before the clamp, then shifts.
    /// `clamp` bounds |s|, so that one layer scales by at most e^clamp.
    ///
    /// # Errors
    /// [`Error::Shape`] if columns repeat or do not exist, or if the widths do not fit;
    /// [`Error::Parameter`] unless `clamp` is positive and finite.
    pub fn coupling(
        &mut self,
        x: Var,
        raw: Var,
        ln_det: Var,
        columns: &[usize],
        clamp: f64,
        direction: Direction,
    ) -> Result<(Var, Var), Error> {
        if !(clamp > 0.0 && clamp.is_finite()) {
            return Err(Error::parameter("clamp", format!("{clamp} must be positive and finite")));
        }
        let op = Coupling { columns: columns.to_vec(), clamp: T::from_f64(clamp), direction };
        let outputs = self.push(op, &[x, raw, ln_det])?;
        Ok((outputs[0], outputs[1]))
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |columns: &'static [usize], width: usize, direction: Direction| {
        Case::new("coupling", &[width, 2 * columns.len(), 1], move |g, x, _| {
            let (y, ln_det) = g.coupling(x[0], x[1], x[2], columns, 2.0, direction)?;
            Ok(vec![y, ln_det])
        })
    };
    let both = |columns, width| [Direction::Forward, Direction::Inverse].map(|d| case(columns, width, d));
    both(&[2, 0], 5).into_iter().chain(both(&[0], 1)).chain(both(&[0, 1, 2, 3, 4, 5, 6], 7)).collect()
}
