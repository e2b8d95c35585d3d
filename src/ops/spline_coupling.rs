//! Coupling by monotone rational-quadratic splines (Neural Spline Flows, Durkan et al. 2019, eqs. 4-8).
//!
//! Each transformed column has a spline of K bins on $[-B, B]$; outside, $y = x$. In the bin of width $w$ and height
//! $h$ whose lower left corner is $(x_0, y_0)$, with end slopes $d_0, d_1$, $s = h / w$, $\xi = (x - x_0) / w$ and
//! $\zeta = 1 - \xi$,
//! $$ y = y_0 + h\,\frac{\xi\,(s \xi + d_0 \zeta)}{E}, \qquad \frac{dy}{dx} = \frac{s^2 N}{E^2}, $$
//! $$ E = s\,(\xi^2 + \zeta^2) + (d_0 + d_1)\,\xi\zeta, \qquad N = d_1 \xi^2 + 2 s\,\xi\zeta + d_0 \zeta^2, $$
//! and $l' = l + \sum \ln dy/dx$. Every term is positive, so nothing cancels.
//!
//! The inverse solves a quadratic equation. With $\eta = (y - y_0) / h$ and $e = d_0 (1 - \eta) - d_1 \eta$ its
//! discriminant is the sum of squares $D^2 = e^2 + 4 s^2 \eta (1 - \eta)$, and the stable root, seen from either end, is
//! $$ \xi = \frac{2 s \eta}{e + 2 s \eta + D}, \qquad 1 - \xi = \frac{2 s (1 - \eta)}{-e + 2 s (1 - \eta) + D}. $$
//! The first is used for $e \ge 0$, the second for $e < 0$: again all terms are positive.
//!
//! Adjoints: for $y = f(x, p)$ and $\ell = \ln f'$ with the bin's parameters $p$,
//! $$ \bar x = \bar y f' + \bar l' \ell_x, \qquad \bar p = \bar y f_p + \bar l' \ell_p. $$
//! For the inverse, $x = f^{-1}(y, p)$ and $l' = l - \ell(x, p)$, the implicit function theorem says
//! $dx = (dy - f_p\,dp) / f'$, so
//! $$ \bar y = v, \qquad \bar p = -v f_p - \bar l' \ell_p, \qquad v = (\bar x - \bar l' \ell_x) / f', $$
//! which is the forward's $\bar p$ for the adjoints $-v$ and $-\bar l'$.

mod bin;
mod spline;

use spline::{MAX_BINS, Saved, Spline};

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::wide;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::ops::coupling::Direction;
use crate::real::Real;

/// The elements of column `c` of a table.
#[inline(always)]
fn column<T>(table: &[T], c: usize, width: usize) -> impl Iterator<Item = &T> {
    table[c..].iter().step_by(width)
}

#[inline(always)]
fn column_mut<T>(table: &mut [T], c: usize, width: usize) -> impl Iterator<Item = &mut T> {
    table[c..].iter_mut().step_by(width)
}

#[derive(Debug)]
struct SplineCoupling<T> {
    columns: Vec<usize>,
    spline: Spline<T>,
}

impl<T: Real> Op<T> for SplineCoupling<T> {
    fn name(&self) -> &'static str {
        match self.spline.direction {
            Direction::Forward => "spline_coupling",
            Direction::Inverse => "spline_coupling_inverse",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        let (width, b) = (inputs[0], self.columns.len());
        let distinct = (1..b).all(|i| !self.columns[..i].contains(&self.columns[i]));
        if b == 0 || !distinct || self.columns.iter().any(|&c| c >= width) {
            let why = format!("columns {:?} must be distinct columns of a value {width} wide", self.columns);
            return Err(Error::shape("spline_coupling", why));
        }
        if inputs[1] != b * self.spline.planes() || inputs[2] != 1 {
            let why = format!(
                "{b} transformed columns with {} bins need a conditioner output {} wide (found {}) and a log-det 1 wide \
                 (found {})",
                self.spline.bins,
                b * self.spline.planes(),
                inputs[1],
                inputs[2]
            );
            return Err(Error::shape("spline_coupling", why));
        }
        Ok(vec![width, 1])
    }

    fn saved(&self, _: &[usize]) -> usize {
        self.columns.len() * (self.spline.planes() + Saved::<T>::SINGLE)
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, raw, ln_det) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let [y, new_ln_det] = tile.outputs else { return };
        let (width, raw_width) = (tile.input_widths[0], tile.input_widths[1]);
        let mut saved = Saved::new(tile.saved, tile.rows * self.columns.len());
        wide(
            #[inline(always)]
            || {
                for (value, &c) in saved.value.chunks_exact_mut(tile.rows).zip(&self.columns) {
                    value.iter_mut().zip(column(x, c, width)).for_each(|(value, &x)| *value = x);
                }
                for (p, plane) in saved.planes.chunks_exact_mut(tile.rows).enumerate() {
                    plane.iter_mut().zip(column(raw, p, raw_width)).for_each(|(to, &raw)| *to = raw);
                }
                self.spline.locate(&mut saved);
                self.spline.evaluate(&mut saved);
                y.copy_from_slice(x);
                for (value, &c) in saved.value.chunks_exact(tile.rows).zip(&self.columns) {
                    column_mut(y, c, width).zip(value).for_each(|(y, &value)| *y = value);
                }
                new_ln_det.copy_from_slice(ln_det);
                for log_slope in saved.log_slope.chunks_exact(tile.rows) {
                    new_ln_det.iter_mut().zip(log_slope).for_each(|(new, &own)| *new += self.spline.sign() * own);
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let [dy, dl] = &mut *tile.output_adjoints else { return };
        let [dx, d_raw, dl_in] = &mut *tile.input_adjoints else { return };
        let (width, raw_width) = (tile.input_widths[0], tile.input_widths[1]);
        let mut saved = Saved::new(tile.saved, tile.rows * self.columns.len());
        wide(
            #[inline(always)]
            || {
                for (value, &c) in saved.value.chunks_exact_mut(tile.rows).zip(&self.columns) {
                    value.iter_mut().zip(column(dy, c, width)).for_each(|(value, &dy)| *value = dy);
                }
                for log_slope in saved.log_slope.chunks_exact_mut(tile.rows) {
                    log_slope.iter_mut().zip(&**dl).for_each(|(log_slope, &dl)| *log_slope = self.spline.sign() * dl);
                }
                self.spline.pull_back(&mut saved);
                for (edge, &c) in saved.log_slope.chunks_exact(tile.rows).zip(&self.columns) {
                    column_mut(dy, c, width).zip(edge).for_each(|(d, &edge)| *d = -edge);
                }
            },
        );
        dx.zip(dy, dy, |dy, _| dy);
        dl_in.zip(dl, dl, |dl, _| dl);
        if let Some(d_raw) = d_raw.zeroed() {
            wide(
                #[inline(always)]
                || {
                    self.spline.pull_back_planes(&mut saved);
                    for (p, plane) in saved.planes.chunks_exact(tile.rows).enumerate() {
                        column_mut(d_raw, p, raw_width).zip(plane).for_each(|(d_raw, &d)| *d_raw += d);
                    }
                },
            );
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> SplineCoupling<T> {
    /// The last arguments of both kernels.
    fn numbers(&self, width: usize, rows: usize) -> [Argument; 10] {
        let Spline { bins, bound, direction, least, free, floor, offset } = self.spline;
        let [bound, least, free, floor, offset] = [bound, least, free, floor, offset].map(Argument::real);
        let inverse = usize::from(direction == Direction::Inverse);
        let [bins, inverse, b, width] = [bins, inverse, self.columns.len(), width].map(Argument::int);
        [bins, bound, least, free, floor, offset, inverse, b, width, Argument::size(rows)]
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for SplineCoupling<T> {
    /// The number of each column among the transformed ones, or -1.
    fn table(&self, inputs: &[usize]) -> Vec<u32> {
        let number = |c| self.columns.iter().position(|&column| column == c);
        (0..inputs[0]).map(|c| number(c).map_or(u32::MAX, |j| j as u32)).collect()
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [x, raw, ln_det] = [0, 1, 2].map(|i| tile.inputs[i].into());
        let (y, new_ln_det) = (tile.outputs[0].into(), tile.outputs[1].into());
        let mut arguments = vec![x, raw, ln_det, y, new_ln_det, tile.saved.into(), tile.table.into()];
        arguments.extend(self.numbers(tile.input_widths[0], tile.rows));
        tile.launch(
            ("spline_coupling", "spline_coupling_forward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let [dx, draw, dl_in] = [0, 1, 2].map(|i| tile.input_adjoints[i].into());
        let (dy, dl) = (tile.output_adjoints[0].into(), tile.output_adjoints[1].into());
        let mut arguments = vec![dy, dl, tile.saved.into(), tile.table.into(), dx, draw, dl_in];
        arguments.extend(self.numbers(tile.input_widths[0], tile.rows));
        tile.launch(
            ("spline_coupling", "spline_coupling_backward"),
            Grid::teams(tile.rows, tile.input_widths[0]),
            &arguments,
        )
    }
}

impl<T: Real> Graph<T> {
    /// Coupling of the given columns of `x` by monotone rational-quadratic splines on [-bound, bound], the identity
    /// outside: returns (y, log-det + its own).
    ///
    /// `raw` is the conditioner's output, `[rows x (3 bins - 1) b]` for b columns: the widths of the first bin in each
    /// column, then of the next and so on; the heights in the same order; then the slopes at the `bins - 1` inner
    /// knots. Widths and heights are a softmax, with a least share of 0.001 each; slopes are
    /// 0.001 + softplus(raw + const), and 1 at the ends. `raw` = 0 gives the identity.
    ///
    /// Infinities and NaN in `x` pass like all that is outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if columns repeat or do not exist, or if the widths do not fit; [`Error::Parameter`] unless
    /// `bound` is positive, finite and far from the limits of `T`, and `bins` is 2 to 500 (a single bin could only be
    /// the identity).
    #[allow(clippy::too_many_arguments)]
    pub fn spline_coupling(
        &mut self,
        x: Var,
        raw: Var,
        ln_det: Var,
        columns: &[usize],
        bins: usize,
        bound: f64,
        direction: Direction,
    ) -> Result<(Var, Var), Error> {
        if !(2..=MAX_BINS).contains(&bins) {
            return Err(Error::parameter("bins", format!("{bins} must be 2 to {MAX_BINS}")));
        }
        let spline = Spline::new(bins, T::from_f64(bound), direction);
        if !(spline.least >= T::MIN_POSITIVE && spline.free.is_finite()) {
            return Err(Error::parameter(
                "bound",
                format!("{bound} must be positive and finite, and far from the limits"),
            ));
        }
        let outputs = self.push(SplineCoupling { columns: columns.to_vec(), spline }, &[x, raw, ln_det])?;
        Ok((outputs[0], outputs[1]))
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let case = |columns: &'static [usize], width: usize, bins: usize, bound: f64, direction: Direction| {
        Case::new("spline_coupling", &[width, columns.len() * (3 * bins - 1), 1], move |g, x, _| {
            // Milder splines: the error of a difference grows with the third derivative, in a narrow bin huge.
            let raw = g.scale(x[1], 0.5)?;
            let (y, ln_det) = g.spline_coupling(x[0], raw, x[2], columns, bins, bound, direction)?;
            Ok(vec![y, ln_det])
        })
    };
    let both = |columns, width, bins, bound| {
        [Direction::Forward, Direction::Inverse].map(|d| case(columns, width, bins, bound, d))
    };
    let all = [both(&[0], 1, 2, 1.0), both(&[2, 0], 5, 5, 1.0), both(&[3, 0], 4, 8, 1.5)];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::spline::edges;
    use super::*;
    use crate::device::Device;
    use crate::math;
    use crate::plan::{Feed, Request, Vjp};
    use crate::rng::{Noise, NoiseId};

    /// The spline of one column with these raw values, at many points: results and their log-dets.
    fn run(x: &[f64], raw: &[f64], bound: f64, direction: Direction) -> (Vec<f64>, Vec<f64>) {
        let mut graph = Graph::new();
        let (u, zero) = (graph.input("x", 1).unwrap(), graph.constant(0.0, 1).unwrap());
        let raws = graph.input("raw", raw.len()).unwrap();
        let (y, l) = graph.spline_coupling(u, raws, zero, &[0], raw.len().div_ceil(3), bound, direction).unwrap();
        let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&[y, l])).unwrap();
        let (mut y, mut l) = (x.to_vec(), x.to_vec());
        plan.forward(&[], x.len(), &[Feed::Rows(x), Feed::Repeat(raw)], &mut [&mut y, &mut l]).unwrap();
        (y, l)
    }

    fn normal<T: Real>(count: usize, scale: f64, id: u32) -> Vec<T> {
        let mut values = vec![T::ZERO; count];
        Noise { seed: 5, step: 0, id: NoiseId(id) }.fill_normal(0, 1, &mut values);
        values.iter_mut().for_each(|v| *v *= T::from_f64(scale));
        values
    }

    /// An even grid over ±1.2 bound with what is special: the bins' edges, ±bound, their neighbours, and far points.
    fn points(raw: &[f64], bound: f64, direction: Direction, count: usize) -> Vec<f64> {
        let near = edges(raw, bound, direction).into_iter().flat_map(|e| [e.next_down(), e, e.next_up()]);
        let far = [0.0, -0.0, 1e-300, 30.0 * bound, -1e10, f64::MAX, f64::MIN];
        let grid = (0..count).map(|i| 1.2 * bound * (2.0 * i as f64 / (count - 1) as f64 - 1.0));
        let mut points: Vec<f64> = near.chain(far).chain(grid).collect();
        points.sort_by(f64::total_cmp);
        points
    }

    /// Splines of many shapes: (raw, bound, scale of raw).
    fn splines() -> Vec<(Vec<f64>, f64, f64)> {
        let mut splines = Vec::new();
        for (i, bins) in [2, 3, 5, 8, 16, 101].into_iter().enumerate() {
            for (k, scale) in [0.3, 1.0, 10.0].into_iter().enumerate() {
                let bound = [1.0, 3.0, 8.0][(i + k) % 3];
                splines.push((normal(3 * bins - 1, scale, (3 * i + k) as u32), bound, scale));
            }
        }
        splines
    }

    #[test]
    fn raw_zero_is_the_identity() {
        for bins in [2, 3, 8, 32] {
            for bound in [0.7, 3.0, 10.0] {
                let raw = vec![0.0; 3 * bins - 1];
                for direction in [Direction::Forward, Direction::Inverse] {
                    let x = points(&raw, bound, direction, 10_001);
                    let (y, l) = run(&x, &raw, bound, direction);
                    for ((x, y), l) in x.iter().zip(y).zip(l) {
                        assert!(
                            (x - y).abs() <= 2.0 * f64::EPSILON * bound && l.abs() <= 4.0 * f64::EPSILON,
                            "{x} {y} {l}"
                        );
                        assert!(x.abs() < bound || (*x == y && l == 0.0), "tail {x} {y} {l}");
                    }
                }
            }
        }
    }

    /// A result is good to a few roundings of the bound. Going back, that becomes an error of x over the slope, and
    /// shifts the log-det as much as it changes over such a distance; mild splines stay below fixed limits.
    #[test]
    fn the_inverse_undoes_the_forward() {
        for (raw, bound, scale) in splines() {
            for (there, back) in [(Direction::Forward, Direction::Inverse), (Direction::Inverse, Direction::Forward)] {
                let x = points(&raw, bound, there, 100_001);
                let (y, l) = run(&x, &raw, bound, there);
                let (again, l_back) = run(&y, &raw, bound, back);
                let rounding = 4.0 * f64::EPSILON * bound;
                let [below, above] = [-rounding, rounding]
                    .map(|d| run(&y.iter().map(|y| y + d).collect::<Vec<_>>(), &raw, bound, back).1);
                for i in 0..x.len() {
                    let (error, l_error) = ((again[i] - x[i]).abs(), (l[i] + l_back[i]).abs());
                    let l_change = (below[i] - l_back[i]).abs() + (above[i] - l_back[i]).abs();
                    let at = || format!("{raw:?} {bound} {there:?} {}: {error:e} {l_error:e}", x[i]);
                    assert!(error <= rounding * (1.0 + 1.0 / l[i].exp()), "{}", at());
                    assert!(l_error <= 1e-12 + l_change, "{}", at());
                    assert!(scale > 1.0 || (error < 1e-10 && l_error < 1e-9), "{}", at());
                }
            }
        }
    }

    #[test]
    fn splines_rise() {
        for (raw, bound, _) in splines() {
            for direction in [Direction::Forward, Direction::Inverse] {
                let (y, _) = run(&points(&raw, bound, direction, 10_001), &raw, bound, direction);
                let rounding = 2.0 * f64::EPSILON * bound;
                assert!(y.windows(2).all(|y| y[1] >= y[0] - rounding), "{raw:?} {direction:?}");
            }
        }
    }

    #[test]
    fn the_log_det_is_that_of_the_numerical_derivative() {
        for (raw, bound, _) in splines().into_iter().filter(|(raw, _, scale)| *scale <= 1.0 && raw.len() < 40) {
            for direction in [Direction::Forward, Direction::Inverse] {
                let (x, h) = (normal::<f64>(2000, 0.7 * bound, 99), 1e-6 * bound);
                let [below, above] =
                    [-h, h].map(|h| run(&x.iter().map(|x| x + h).collect::<Vec<_>>(), &raw, bound, direction).0);
                let (_, l) = run(&x, &raw, bound, direction);
                for (i, l) in l.iter().enumerate() {
                    let slope = (above[i] - below[i]) / (2.0 * h);
                    assert!(
                        (slope.ln() - l).abs() < 1e-4,
                        "{raw:?} {bound} {direction:?} {}: {slope} {}",
                        x[i],
                        l.exp()
                    );
                }
            }
        }
    }

    /// The base N(0, 1) pulled through the spline, integrated bin by bin (its derivative jumps at the knots) with the
    /// midpoint rule; the tails are those of N(0, 1).
    #[test]
    fn densities_integrate_to_one() {
        const STEPS: usize = 10_000;
        for (raw, bound, _) in splines().into_iter().filter(|(raw, ..)| raw.len() < 100) {
            let mut integral = 2.0 * math::normal_cdf(-bound);
            for edges in edges(&raw, bound, Direction::Forward).windows(2) {
                let step = (edges[1] - edges[0]) / STEPS as f64;
                let x: Vec<f64> = (0..STEPS).map(|i| edges[0] + (i as f64 + 0.5) * step).collect();
                let (z, l) = run(&x, &raw, bound, Direction::Forward);
                integral += step * z.iter().zip(l).map(|(z, l)| (math::normal_ln_pdf(*z) + l).exp()).sum::<f64>();
            }
            assert!((integral - 1.0).abs() < 1e-6, "{raw:?} {bound}: {integral}");
        }
    }

    #[test]
    fn single_precision_stays_finite() {
        let (columns, width) = ([0, 2, 3], 4);
        for bins in [2, 8, 500] {
            for direction in [Direction::Forward, Direction::Inverse] {
                let raw_width = 3 * (3 * bins - 1);
                let mut graph = Graph::<f32>::new();
                let cols = [width, raw_width, 1];
                let inputs = [0, 1, 2].map(|i| graph.input(&i.to_string(), cols[i]).unwrap());
                let [x, raw, l] = inputs;
                let (y, l) = graph.spline_coupling(x, raw, l, &columns, bins, 4.0, direction).unwrap();
                let request = Request::outputs(&[y, l]).with_input_gradients(&inputs);
                let mut plan = graph.compile(&Device::cpu_with_threads(1), &request).unwrap();
                for scale in [0.1, 1.0, 10.0, 100.0, 1e4, 1e30, 4e37] {
                    let rows = 301;
                    let mut tables = cols.map(|cols| normal::<f32>(rows * cols, 2.0, 7));
                    tables[1] = normal(rows * raw_width, scale, 8);
                    tables[0].iter_mut().step_by(97).for_each(|x| *x *= 1e37);
                    let seeds = [normal::<f32>(rows * width, 1.0, 9), normal(rows, 1.0, 10)];
                    let mut results = [width, 1].map(|cols| vec![f32::NAN; rows * cols]);
                    let mut gradients = cols.map(|cols| vec![f32::NAN; rows * cols]);
                    let mut vjp = Vjp {
                        seeds: &seeds.each_ref().map(|s| &**s),
                        outputs: &mut results.each_mut().map(|r| &mut **r),
                        input_gradients: &mut gradients.each_mut().map(|g| &mut **g),
                        parameter_gradient: &mut [],
                    };
                    plan.vjp(&[], rows, &tables.each_ref().map(|t| Feed::Rows(t)), &mut vjp).unwrap();
                    let finite = results.iter().chain(&gradients).flatten().all(|v| v.is_finite());
                    assert!(finite, "{bins} bins, raw {scale:e}, {direction:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_passes() {
        let raw = normal::<f64>(14, 1.0, 0);
        for direction in [Direction::Forward, Direction::Inverse] {
            let (y, l) = run(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY], &raw, 2.0, direction);
            assert!(y[0].is_nan());
            assert_eq!((&y[1..], &*l), (&[f64::INFINITY, f64::NEG_INFINITY][..], &[0.0; 3][..]));
            for i in 0..10 {
                let mut raw = raw.clone();
                raw[i] = f64::NAN;
                let (y, _) = run(&[-1.9, 0.3, 1.9, 2.1], &raw, 2.0, direction);
                assert!(y[..3].iter().all(|y| y.is_nan()) && y[3] == 2.1, "raw {i}: {y:?}");
            }
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let mut graph = Graph::<f32>::new();
        let [x, raw, l] = [3, 14, 1].map(|cols| graph.input("", cols).unwrap());
        let mut record = |columns: &[usize], bins, bound| {
            let made = graph.spline_coupling(x, raw, l, columns, bins, bound, Direction::Forward);
            made.map_or_else(|error| error.to_string(), |_| String::new())
        };
        assert_eq!(record(&[1], 5, 3.0), "");
        assert_eq!(record(&[1], 1, 3.0), "parameter `bins`: 1 must be 2 to 500");
        assert_eq!(record(&[1], 501, 3.0), "parameter `bins`: 501 must be 2 to 500");
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e39, 1e-36] {
            assert!(record(&[1], 5, bound).starts_with("parameter `bound`"), "{bound}");
        }
        assert!(record(&[1, 1], 5, 3.0).contains("distinct"));
        assert!(record(&[3], 5, 3.0).contains("distinct"));
        assert!(record(&[], 5, 3.0).contains("distinct"));
        assert!(record(&[1], 6, 3.0).contains("17 wide (found 14)"));
    }
}
