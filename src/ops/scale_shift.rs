//! A learned scale and shift of each column ("actnorm"; Glow, Kingma & Dhariwal 2018).
//!
//! With the parameters $s, t$, one of each for a column:
//! $$ y = x e^{s} + t, \qquad l' = l + \textstyle\sum s, $$
//! $$ \bar x = \bar y e^s, \quad \bar s = \textstyle\sum_r (\bar y x e^s + \bar l'), \quad
//!    \bar t = \sum_r \bar y, \quad \bar l = \bar l'. $$
//! The inverse,
//! $$ y = (x - t) e^{-s}, \qquad l' = l - \textstyle\sum s, $$
//! $$ \bar x = \bar y e^{-s}, \quad \bar s = -\textstyle\sum_r (\bar y y + \bar l'), \quad
//!    \bar t = -\sum_r \bar y e^{-s}. $$

#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::ops::coupling::Direction;
use crate::real::Real;
use crate::store::Param;

#[derive(Debug)]
struct ScaleShift {
    log_scale: Param,
    shift: Param,
    direction: Direction,
}

impl ScaleShift {
    /// The sign with which s enters everywhere.
    fn sign<T: Real>(&self) -> T {
        if self.direction == Direction::Forward { T::ONE } else { -T::ONE }
    }
}

impl<T: Real> Op<T> for ScaleShift {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "scale_shift",
            Direction::Inverse => "scale_shift_inverse",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let width = inputs[0];
        for (name, param) in [("log-scale", self.log_scale), ("shift", self.shift)] {
            if (param.rows(), param.cols()) != (1, width) {
                let why = format!("the {name} is {} x {}, it must be 1 x {width}", param.rows(), param.cols());
                return Err(Error::shape("scale_shift", why));
            }
        }
        if inputs[1] != 1 {
            return Err(Error::shape("scale_shift", format!("the log-det is {} wide, it must be 1 wide", inputs[1])));
        }
        Ok(vec![width, 1])
    }

    fn params(&self) -> Vec<Param> {
        vec![self.log_scale, self.shift]
    }

    fn reads(&self) -> Reads {
        match self.direction {
            Direction::Forward => Reads::Inputs,
            Direction::Inverse => Reads::Outputs,
        }
    }

    /// The scales; of a tile's rows, the first is used.
    fn saved(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, ln_det) = (tile.inputs[0], tile.inputs[1]);
        let [y, new_ln_det] = tile.outputs else { return };
        let (log_scale, shift) = (&tile.params[self.log_scale.range()], &tile.params[self.shift.range()]);
        let (sign, scale) = (self.sign::<T>(), &mut tile.saved[..log_scale.len()]);
        let own = sign * log_scale.iter().copied().sum::<T>();
        new_ln_det.iter_mut().zip(ln_det).for_each(|(new, &old)| *new = old + own);
        wide(
            #[inline(always)]
            || {
                scale.iter_mut().zip(log_scale).for_each(|(e, &s)| *e = math::exp(sign * s));
                for (y, x) in y.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
                    let columns = y.iter_mut().zip(x).zip(&*scale).zip(shift);
                    match self.direction {
                        Direction::Forward => columns.for_each(|(((y, &x), &e), &t)| *y = x * e + t),
                        Direction::Inverse => columns.for_each(|(((y, &x), &e), &t)| *y = (x - t) * e),
                    }
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let [dy, dl] = &mut *tile.output_adjoints else { return };
        let [dx, dl_in] = &mut *tile.input_adjoints else { return };
        let (dy, dl, width) = (&mut **dy, &**dl, tile.input_widths[0]);
        let scale = &tile.saved[..width];
        if let Some(ds) = tile.gradient.of(self.log_scale).zeroed() {
            let d_own: T = dl.iter().copied().sum();
            for (c, ds) in ds.iter_mut().enumerate() {
                let along =
                    |values| column(dy, c, width).zip(column(values, c, width)).map(|(&dy, &v)| dy * v).sum::<T>();
                match self.direction {
                    Direction::Forward => *ds += along(tile.inputs[0]) * scale[c] + d_own,
                    Direction::Inverse => *ds -= along(tile.outputs[0]) + d_own,
                }
            }
        }
        if let Some(dt) = tile.gradient.of(self.shift).zeroed() {
            for (c, dt) in dt.iter_mut().enumerate() {
                let along: T = column(dy, c, width).copied().sum();
                match self.direction {
                    Direction::Forward => *dt += along,
                    Direction::Inverse => *dt -= along * scale[c],
                }
            }
        }
        for dy in dy.chunks_exact_mut(width) {
            dy.iter_mut().zip(scale).for_each(|(dy, &e)| *dy *= e);
        }
        dx.zip(dy, dy, |dy, _| dy);
        dl_in.zip(dl, dl, |dl, _| dl);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for ScaleShift {
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [log_scale, shift] = [self.log_scale, self.shift].map(|p| tile.params.at(p.range().start).into());
        let (x, ln_det, y, new_ln_det) = (tile.inputs[0], tile.inputs[1], tile.outputs[0], tile.outputs[1]);
        let (sign, width) = (Argument::real(self.sign::<T>()), Argument::int(tile.input_widths[0]));
        let rows = Argument::size(tile.rows);
        let arguments = [x.into(), ln_det.into(), log_scale, shift, y.into(), new_ln_det.into(), sign, width, rows];
        tile.launch(("scale_shift", "scale_shift_forward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let (log_scale, width) = (tile.params.at(self.log_scale.range().start).into(), tile.input_widths[0]);
        let (dy, dl) = (tile.output_adjoints[0].into(), tile.output_adjoints[1].into());
        let (dx, dl_in) = (tile.input_adjoints[0].into(), tile.input_adjoints[1].into());
        let (sign, cols) = (Argument::real(self.sign::<T>()), Argument::int(width));
        let arguments = [dy, dl, log_scale, dx, dl_in, sign, cols, Argument::size(tile.rows)];
        tile.launch(("scale_shift", "scale_shift_backward"), Grid::teams(tile.rows, tile.input_widths[0]), &arguments)?;
        let Some(lanes) = tile.gradient.lanes() else { return Ok(()) };
        let [ds, dt] = [self.log_scale, self.shift].map(|p| tile.gradient.of(p).unwrap_or(Address::NONE).into());
        let forward = self.direction == Direction::Forward;
        let values = if forward { tile.inputs[0] } else { tile.outputs[0] };
        let (stride, rows) = (Argument::size(lanes.stride), Argument::int(tile.rows));
        let arguments = [dy, dl, values.into(), log_scale, ds, dt, stride, sign, rows, cols];
        let grid = Grid::blocks(width.div_ceil(32), 256).times(lanes.count);
        tile.launch(("scale_shift", "scale_shift_gradient"), grid, &arguments)
    }
}

/// Column `c` of a table.
fn column<T>(table: &[T], c: usize, width: usize) -> impl Iterator<Item = &T> {
    table.iter().skip(c).step_by(width)
}

impl<T: Real> Graph<T> {
    /// x e^s + t with the parameters s and t, or its inverse: returns (y, log-det + its own).
    ///
    /// `log_scale` and `shift` are `[1 x x.cols()]`. Zeros give the identity.
    ///
    /// # Errors
    /// [`Error::Shape`] if the parameters have another shape or `ln_det` is not 1 wide.
    pub fn scale_shift(
        &mut self,
        x: Var,
        ln_det: Var,
        log_scale: Param,
        shift: Param,
        direction: Direction,
    ) -> Result<(Var, Var), Error> {
        let outputs = self.push(ScaleShift { log_scale, shift, direction }, &[x, ln_det])?;
        Ok((outputs[0], outputs[1]))
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |width: usize, direction: Direction| {
        Case::new("scale_shift", &[width, 1], move |g, x, p| {
            let (y, ln_det) = g.scale_shift(x[0], x[1], p[0], p[1], direction)?;
            Ok(vec![y, ln_det])
        })
        .with_params(&[(1, width), (1, width)])
    };
    let both = |width| [Direction::Forward, Direction::Inverse].map(|d| case(width, d));
    [1, 2, 7, 17].into_iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::plan::{Feed, Request};
    use crate::rng::{Noise, NoiseId};
    use crate::store::{Init, Layout, Store, Weights};

    /// x, y = forward(x) with its log-det, and the inverse of that with the sum of both log-dets.
    fn there_and_back(init: Init, rows: usize, width: usize) -> [Vec<f64>; 5] {
        let mut layout = Layout::new();
        let mut scope = layout.scope("norm");
        let [s, t] = ["s", "t"].map(|name| scope.param(name, 1, width, init).unwrap());
        let store = Store::<f64>::new(layout, 1);
        let mut graph = Graph::new();
        let (x, zero) = (graph.input("x", width).unwrap(), graph.constant(0.0, 1).unwrap());
        let (y, ln_det) = graph.scale_shift(x, zero, s, t, Direction::Forward).unwrap();
        let (back, none) = graph.scale_shift(y, ln_det, s, t, Direction::Inverse).unwrap();
        let mut plan =
            graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[y, ln_det, back, none])).unwrap();
        let mut tables = [width, width, 1, width, 1].map(|cols| vec![f64::NAN; rows * cols]);
        let [x, results @ ..] = &mut tables;
        Noise { seed: 3, step: 0, id: NoiseId(0) }.fill_normal(0, width, x);
        let mut results = results.each_mut().map(|table| &mut **table);
        plan.forward(store.weights(Weights::Raw), rows, &[Feed::Rows(x)], &mut results).unwrap();
        tables
    }

    #[test]
    fn the_inverse_undoes_the_forward() {
        for (rows, width) in [(1, 1), (131, 3), (64, 17)] {
            let [x, y, ln_det, back, none] = there_and_back(Init::Normal(1.0), rows, width);
            assert!(x.iter().zip(&y).all(|(x, y)| x != y) && ln_det.iter().all(|l| *l == ln_det[0] && *l != 0.0));
            assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() < 1e-13));
            assert!(none.iter().all(|l| l.abs() < 1e-14));
        }
    }

    #[test]
    fn zeros_give_the_identity() {
        let [x, y, ln_det, ..] = there_and_back(Init::Constant(0.0), 5, 3);
        assert_eq!(x, y);
        assert_eq!(ln_det, [0.0; 5]);
    }
}
