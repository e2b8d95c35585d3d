//! A learned invertible linear map by its LU factors ("1x1 convolution"; Glow, Kingma & Dhariwal 2018; Oliva et al.
//! 2018).
//!
//! One matrix of parameters holds both: $L$ is unit lower triangular with the strict lower part, $U$ is upper
//! triangular with the strict upper part and the diagonal $e^{u}$, $u$ being the parameters' diagonal. On rows,
//! $$ z = x L, \quad y = z U, \qquad l' = l + \textstyle\sum u, $$
//! $$ \bar z = \bar y U^\top, \quad \bar x = \bar z L^\top, \qquad
//!    \bar L = x^\top \bar z, \quad \bar U = z^\top \bar y, \quad \bar u_i = \bar U_{ii} e^{u_i} + \bar l'. $$
//! The inverse solves the two triangular systems, $z U = y$ and $x L = z$, with $l' = l - \sum u$. From
//! $dx\,L = dz - x\,dL$ and $dz\,U = dy - z\,dU$,
//! $$ \bar z = \bar x L^{-\top}, \quad \bar y = \bar z U^{-\top}, \qquad
//!    \bar L = -x^\top \bar z, \quad \bar U = -z^\top \bar y, \quad \bar u_i = \bar U_{ii} e^{u_i} - \bar l'. $$

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
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

/// L and U, and the products with one row. Each works in place, and runs along rows of the matrix only.
#[derive(Clone, Copy)]
struct Factors<'a, T> {
    weight: &'a [T],
    /// e^u
    diagonal: &'a [T],
}

impl<T: Real> Factors<'_, T> {
    /// Row i of L, left of the diagonal.
    #[inline(always)]
    fn lower(&self, i: usize) -> &[T] {
        &self.weight[i * self.diagonal.len()..][..i]
    }

    /// Row i of U, right of the diagonal.
    #[inline(always)]
    fn upper(&self, i: usize) -> &[T] {
        &self.weight[i * self.diagonal.len()..][i + 1..self.diagonal.len()]
    }

    /// v L
    #[inline(always)]
    fn times_lower(&self, v: &mut [T]) {
        for i in 0..v.len() {
            let (left, right) = v.split_at_mut(i);
            add_multiple(left, right[0], self.lower(i));
        }
    }

    /// v U
    #[inline(always)]
    fn times_upper(&self, v: &mut [T]) {
        for i in (0..v.len()).rev() {
            let (left, right) = v.split_at_mut(i + 1);
            add_multiple(right, left[i], self.upper(i));
            left[i] *= self.diagonal[i];
        }
    }

    /// v L^-1
    #[inline(always)]
    fn over_lower(&self, v: &mut [T]) {
        for i in (0..v.len()).rev() {
            let (left, right) = v.split_at_mut(i);
            add_multiple(left, -right[0], self.lower(i));
        }
    }

    /// v U^-1
    #[inline(always)]
    fn over_upper(&self, v: &mut [T]) {
        for i in 0..v.len() {
            let (left, right) = v.split_at_mut(i + 1);
            left[i] = left[i] / self.diagonal[i];
            add_multiple(right, -left[i], self.upper(i));
        }
    }

    /// v L^T
    #[inline(always)]
    fn times_lower_transposed(&self, v: &mut [T]) {
        for i in (0..v.len()).rev() {
            v[i] += dot(&v[..i], self.lower(i));
        }
    }

    /// v U^T
    #[inline(always)]
    fn times_upper_transposed(&self, v: &mut [T]) {
        for i in 0..v.len() {
            v[i] = v[i] * self.diagonal[i] + dot(&v[i + 1..], self.upper(i));
        }
    }

    /// v L^-T
    #[inline(always)]
    fn over_lower_transposed(&self, v: &mut [T]) {
        for i in 0..v.len() {
            v[i] -= dot(&v[..i], self.lower(i));
        }
    }

    /// v U^-T
    #[inline(always)]
    fn over_upper_transposed(&self, v: &mut [T]) {
        for i in (0..v.len()).rev() {
            v[i] = (v[i] - dot(&v[i + 1..], self.upper(i))) / self.diagonal[i];
        }
    }

    /// Adds `sign` x^T dz, of which the strict lower part is that of L, to the gradient (empty if it is not wanted).
    #[inline(always)]
    fn add_lower_gradient(&self, x: &[T], dz: &[T], sign: T, gradient: &mut [T]) {
        for (i, row) in gradient.chunks_exact_mut(x.len()).enumerate() {
            add_multiple(&mut row[..i], sign * x[i], dz);
        }
    }

    /// Adds `sign` z^T dy, of which the upper part is that of U, to the gradient (empty if it is not wanted).
    #[inline(always)]
    fn add_upper_gradient(&self, z: &[T], dy: &[T], sign: T, gradient: &mut [T]) {
        for (i, row) in gradient.chunks_exact_mut(z.len()).enumerate() {
            row[i] += sign * z[i] * dy[i] * self.diagonal[i];
            add_multiple(&mut row[i + 1..], sign * z[i], &dy[i + 1..]);
        }
    }
}

/// y += a x
#[inline(always)]
fn add_multiple<T: Real>(y: &mut [T], a: T, x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x);
}

#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

#[derive(Debug)]
struct LuLinear {
    weight: Param,
    direction: Direction,
}

impl LuLinear {
    /// The sign with which u enters the log-det.
    fn sign<T: Real>(&self) -> T {
        if self.direction == Direction::Forward { T::ONE } else { -T::ONE }
    }

    /// Diagonal of the parameters.
    fn log_diagonal<'a, T: Real>(&self, params: &'a [T]) -> impl Iterator<Item = &'a T> {
        params[self.weight.range()].iter().step_by(self.weight.cols() + 1)
    }
}

impl<T: Real> Op<T> for LuLinear {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "lu_linear",
            Direction::Inverse => "lu_linear_inverse",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let (width, rows, cols) = (inputs[0], self.weight.rows(), self.weight.cols());
        if (rows, cols) != (width, width) {
            let why = format!("the weight is {rows} x {cols}, a value {width} wide needs {width} x {width}");
            return Err(Error::shape("lu_linear", why));
        }
        if inputs[1] != 1 {
            return Err(Error::shape("lu_linear", format!("the log-det is {} wide, it must be 1 wide", inputs[1])));
        }
        Ok(vec![width, 1])
    }

    fn params(&self) -> Vec<Param> {
        vec![self.weight]
    }

    /// x, which is an output of the inverse.
    fn reads(&self) -> Reads {
        match self.direction {
            Direction::Forward => Reads::Inputs,
            Direction::Inverse => Reads::Outputs,
        }
    }

    /// z, and after a tile's z the diagonal of U, for which one row is enough.
    fn saved(&self, inputs: &[usize]) -> usize {
        2 * inputs[0]
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (from, ln_det) = (tile.inputs[0], tile.inputs[1]);
        let [to, new_ln_det] = tile.outputs else { return };
        let own = self.sign::<T>() * self.log_diagonal(tile.params).copied().sum::<T>();
        new_ln_det.iter_mut().zip(ln_det).for_each(|(new, &old)| *new = old + own);

        let (d, weight) = (self.weight.cols(), &tile.params[self.weight.range()]);
        let (middle, diagonal) = tile.saved.split_at_mut(tile.rows * d);
        let diagonal = &mut diagonal[..d];
        middle.copy_from_slice(from);
        wide(
            #[inline(always)]
            || {
                diagonal.iter_mut().zip(self.log_diagonal(tile.params)).for_each(|(e, &u)| *e = math::exp(u));
                let factors = Factors { weight, diagonal };
                for (z, to) in middle.chunks_exact_mut(d).zip(to.chunks_exact_mut(d)) {
                    match self.direction {
                        Direction::Forward => factors.times_lower(z),
                        Direction::Inverse => factors.over_upper(z),
                    }
                    to.copy_from_slice(z);
                    match self.direction {
                        Direction::Forward => factors.times_upper(to),
                        Direction::Inverse => factors.over_lower(to),
                    }
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let [adjoint, dl] = &mut *tile.output_adjoints else { return };
        let [d_in, dl_in] = &mut *tile.input_adjoints else { return };
        let (d, weight, sign) = (self.weight.cols(), &tile.params[self.weight.range()], self.sign::<T>());
        let (middle, diagonal) = tile.saved.split_at(tile.rows * d);
        let factors = Factors { weight, diagonal: &diagonal[..d] };
        let values = match self.direction {
            Direction::Forward => tile.inputs[0],
            Direction::Inverse => tile.outputs[0],
        };
        let mut d_weight = tile.gradient.of(self.weight);
        let d_weight = d_weight.zeroed().unwrap_or(&mut []);
        let d_own = sign * dl.iter().copied().sum::<T>();
        d_weight.iter_mut().step_by(d + 1).for_each(|du| *du += d_own);
        dl_in.zip(dl, dl, |dl, _| dl);
        wide(
            #[inline(always)]
            || {
                let rows = adjoint.chunks_exact_mut(d).zip(values.chunks_exact(d)).zip(middle.chunks_exact(d));
                for ((v, x), z) in rows {
                    match self.direction {
                        Direction::Forward => {
                            factors.add_upper_gradient(z, v, sign, d_weight);
                            factors.times_upper_transposed(v);
                            factors.add_lower_gradient(x, v, sign, d_weight);
                            factors.times_lower_transposed(v);
                        }
                        Direction::Inverse => {
                            factors.over_lower_transposed(v);
                            factors.add_lower_gradient(x, v, sign, d_weight);
                            factors.over_upper_transposed(v);
                            factors.add_upper_gradient(z, v, sign, d_weight);
                        }
                    }
                }
            },
        );
        d_in.zip(adjoint, adjoint, |v, _| v);
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

/// Rows of a team of threads, as in `kernels/lu_linear.cu`.
#[cfg(feature = "cuda")]
const ROWS: usize = 4;

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for LuLinear {
    /// z is kept as on the processor.
    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (d, weight) = (self.weight.cols(), tile.params.at(self.weight.range().start).into());
        let [x, ln_det] = [0, 1].map(|i| tile.inputs[i].into());
        let [y, new_ln_det] = [0, 1].map(|i| tile.outputs[i].into());
        let (sign, cols, rows) = (Argument::real(self.sign::<T>()), Argument::int(d), Argument::size(tile.rows));
        let arguments = [x, ln_det, weight, y, new_ln_det, tile.saved.into(), sign, cols, rows];
        tile.launch(("lu_linear", "lu_linear_forward"), Grid::teams(tile.rows.div_ceil(ROWS), d), &arguments)
    }

    /// The adjoint of z takes the second half of `saved`.
    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let (d, weight) = (self.weight.cols(), tile.params.at(self.weight.range().start).into());
        let [dy, dl] = [0, 1].map(|i| tile.output_adjoints[i].into());
        let [dx, dl_in] = [0, 1].map(|i| tile.input_adjoints[i].into());
        let (z, through) = (tile.saved.into(), tile.saved.at(tile.rows * d).into());
        let (sign, cols, rows) = (Argument::real(self.sign::<T>()), Argument::int(d), Argument::size(tile.rows));
        let arguments = [dy, dl, weight, through, dx, dl_in, sign, cols, rows];
        tile.launch(("lu_linear", "lu_linear_backward"), Grid::teams(tile.rows.div_ceil(ROWS), d), &arguments)?;
        let (Some(_), Some(lanes)) = (tile.gradient.of(self.weight), tile.gradient.lanes()) else { return Ok(()) };
        let x = match self.direction {
            Direction::Forward => tile.inputs[0].into(),
            Direction::Inverse => tile.outputs[0].into(),
        };
        let gradient = lanes.origin.at(self.weight.range().start).into();
        let (stride, rows) = (Argument::size(lanes.stride), Argument::int(tile.rows));
        let arguments = [x, z, through, dy, dl, weight, gradient, stride, sign, rows, cols];
        let grid = Grid::blocks(d.div_ceil(32).pow(2), 256).times(lanes.count);
        tile.launch(("lu_linear", "lu_linear_gradient"), grid, &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// x L U with the triangular factors in `weight`, or its inverse: returns (y, log-det + its own).
    ///
    /// `weight` is `[x.cols() x x.cols()]`: below the diagonal that of L, whose diagonal is 1, above it that of U,
    /// and on it the logarithms of U's diagonal. Zeros give the identity. For a shift, see [`Graph::scale_shift`].
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight has another shape or `ln_det` is not 1 wide.
    pub fn lu_linear(&mut self, x: Var, ln_det: Var, weight: Param, direction: Direction) -> Result<(Var, Var), Error> {
        let outputs = self.push(LuLinear { weight, direction }, &[x, ln_det])?;
        Ok((outputs[0], outputs[1]))
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |width: usize, direction: Direction| {
        Case::new("lu_linear", &[width, 1], move |g, x, p| {
            let (y, ln_det) = g.lu_linear(x[0], x[1], p[0], direction)?;
            Ok(vec![y, ln_det])
        })
        .with_params(&[(width, width)])
    };
    let both = |width| [Direction::Forward, Direction::Inverse].map(|d| case(width, d));
    [1, 2, 5, 11].into_iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::plan::{Feed, Request};
    use crate::rng::{Noise, NoiseId};
    use crate::store::{Init, Layout, Store, Weights};

    /// The weight; x, y = forward(x) with its log-det, and the inverse of that with the sum of both log-dets.
    fn there_and_back(init: Init, rows: usize, d: usize) -> (Vec<f64>, [Vec<f64>; 5]) {
        let mut layout = Layout::new();
        let weight = layout.scope("lu").param("weight", d, d, init).unwrap();
        let store = Store::<f64>::new(layout, 1);
        let mut graph = Graph::new();
        let (x, zero) = (graph.input("x", d).unwrap(), graph.constant(0.0, 1).unwrap());
        let (y, ln_det) = graph.lu_linear(x, zero, weight, Direction::Forward).unwrap();
        let (back, none) = graph.lu_linear(y, ln_det, weight, Direction::Inverse).unwrap();
        let mut plan =
            graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[y, ln_det, back, none])).unwrap();
        let mut tables = [d, d, 1, d, 1].map(|cols| vec![f64::NAN; rows * cols]);
        let [x, results @ ..] = &mut tables;
        Noise { seed: 3, step: 0, id: NoiseId(0) }.fill_normal(0, d, x);
        let mut results = results.each_mut().map(|table| &mut **table);
        plan.forward(store.weights(Weights::Raw), rows, &[Feed::Rows(x)], &mut results).unwrap();
        (store.weights(Weights::Raw).to_vec(), tables)
    }

    #[test]
    fn the_product_is_that_of_the_dense_factors() {
        let (d, rows) = (5, 3);
        let (weight, [x, y, ln_det, ..]) = there_and_back(Init::Normal(0.7), rows, d);
        let at = |i: usize, j: usize| weight[i * d + j];
        let lower = |i: usize, j: usize| {
            if i == j {
                1.0
            } else if i > j {
                at(i, j)
            } else {
                0.0
            }
        };
        let upper = |i: usize, j: usize| {
            if i == j {
                at(i, i).exp()
            } else if i < j {
                at(i, j)
            } else {
                0.0
            }
        };
        let product = |i: usize, j: usize| (0..d).map(|k| lower(i, k) * upper(k, j)).sum::<f64>();
        for (x, y) in x.chunks(d).zip(y.chunks(d)) {
            for (j, y) in y.iter().enumerate() {
                let expected: f64 = (0..d).map(|i| x[i] * product(i, j)).sum();
                assert!((y - expected).abs() < 1e-13 * expected.abs().max(1.0), "{y} {expected}");
            }
        }
        let trace: f64 = (0..d).map(|i| at(i, i)).sum();
        assert!(ln_det.iter().all(|l| (l - trace).abs() < 1e-14));
    }

    #[test]
    fn the_inverse_undoes_the_forward() {
        for (rows, d) in [(1, 1), (131, 3), (64, 13)] {
            let (_, [x, y, _, back, none]) = there_and_back(Init::Normal(0.3), rows, d);
            assert_ne!(x, y);
            assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() < 1e-12));
            assert!(none.iter().all(|l| l.abs() < 1e-14));
        }
    }

    #[test]
    fn zeros_give_the_identity() {
        let (_, [x, y, ln_det, back, _]) = there_and_back(Init::Constant(0.0), 5, 3);
        assert_eq!(x, y);
        assert_eq!(x, back);
        assert_eq!(ln_det, [0.0; 5]);
    }
}
