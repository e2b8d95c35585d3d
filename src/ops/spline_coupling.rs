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

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{self, wide};
use crate::op::{Adjoint, Backward, Forward, Op};
use crate::ops::Case;
use crate::ops::coupling::Direction;
use crate::real::Real;

/// The least share of $[-B, B]$ that a bin's width or height has.
const MIN_SHARE: f64 = 1e-3;
/// The least slope at a knot.
const MIN_SLOPE: f64 = 1e-3;
/// Where the raw slope of a knot is cut, so that no square overflows in single precision.
const MAX_RAW_SLOPE: f64 = 1e3;
/// Half of $[-B, B]$ is free when all bins have their least share.
const MAX_BINS: usize = 500;

/// One bin, in coordinates in which both its sides are 1.
#[derive(Clone, Copy, Debug)]
struct Bin<T> {
    /// s, the slope of its diagonal.
    chord: T,
    /// d0, the slope at its left end.
    left: T,
    /// d1, the slope at its right end.
    right: T,
}

/// Adjoints of ξ and of a bin's three slopes.
struct BinAdjoint<T> {
    position: T,
    chord: T,
    left: T,
    right: T,
}

impl<T: Real> Bin<T> {
    /// E at ξ and ζ = 1 - ξ.
    #[inline(always)]
    fn denominator(&self, xi: T, zeta: T) -> T {
        self.chord * (xi * xi + zeta * zeta) + (self.left + self.right) * (xi * zeta)
    }

    /// N at ξ and ζ = 1 - ξ.
    #[inline(always)]
    fn numerator(&self, xi: T, zeta: T) -> T {
        let cross = self.chord * xi * zeta;
        self.right * xi * xi + (cross + cross) + self.left * zeta * zeta
    }

    /// η at ξ.
    #[inline(always)]
    fn forward(&self, xi: T) -> T {
        let zeta = T::ONE - xi;
        xi * (self.chord * xi + self.left * zeta) / self.denominator(xi, zeta)
    }

    /// ξ at η.
    #[inline(always)]
    fn inverse(&self, eta: T) -> T {
        let rest = T::ONE - eta;
        let chord = self.chord + self.chord;
        let e = self.left * rest - self.right * eta;
        let root = (e * e + chord * chord * (eta * rest)).sqrt();
        let from_left = e >= T::ZERO;
        let near = chord * if from_left { eta } else { rest };
        let xi = near / (e.abs() + near + root);
        if from_left { xi } else { T::ONE - xi }
    }

    /// dy/dx at ξ.
    #[inline(always)]
    fn slope(&self, xi: T) -> T {
        let zeta = T::ONE - xi;
        let ratio = self.chord / self.denominator(xi, zeta);
        ratio * ratio * self.numerator(xi, zeta)
    }

    /// dℓ/dξ, where ℓ = ln dy/dx.
    #[inline(always)]
    fn log_slope_derivative(&self, xi: T) -> T {
        let (zeta, two) = (T::ONE - xi, T::ONE + T::ONE);
        let skew = zeta - xi;
        let numerator = self.right * xi - self.left * zeta + self.chord * skew;
        let denominator = (self.left + self.right - two * self.chord) * skew;
        two * (numerator / self.numerator(xi, zeta) - denominator / self.denominator(xi, zeta))
    }

    /// The adjoints of ξ and the slopes, given those of η and ℓ = ln dy/dx:
    /// $$ \eta_\xi = s N / E^2, \quad \eta_s = \xi\zeta\,(d_1 \xi^2 - d_0 \zeta^2) / E^2, \quad
    ///    \eta_{d_0} = \xi\zeta^2 (s \zeta + d_1 \xi) / E^2, \quad
    ///    \eta_{d_1} = -\xi^2\zeta\,(s \xi + d_0 \zeta) / E^2, $$
    /// $$ \ell_s = 2 / s + 2 \xi\zeta / N - 2 (\xi^2 + \zeta^2) / E, \quad
    ///    \ell_{d_0} = \zeta^2 / N - 2 \xi\zeta / E, \quad \ell_{d_1} = \xi^2 / N - 2 \xi\zeta / E. $$
    #[inline(always)]
    fn gradient(&self, xi: T, d_eta: T, dl: T) -> BinAdjoint<T> {
        let (zeta, two) = (T::ONE - xi, T::ONE + T::ONE);
        let cross = xi * zeta;
        let (left, right) = (self.left * zeta, self.right * xi);
        let (per_e, n) = (T::ONE / self.denominator(xi, zeta), self.numerator(xi, zeta));
        let (along, dl_n, dl_e) = (d_eta * per_e * per_e, dl / n, two * dl * per_e);
        BinAdjoint {
            position: along * self.chord * n + dl * self.log_slope_derivative(xi),
            chord: along * cross * (right * xi - left * zeta) + two * dl / self.chord + two * dl_n * cross
                - dl_e * (xi * xi + zeta * zeta),
            left: along * cross * zeta * (self.chord * zeta + right) + dl_n * zeta * zeta - dl_e * cross,
            right: dl_n * xi * xi - dl_e * cross - along * cross * xi * (self.chord * xi + left),
        }
    }
}

/// What the forward leaves for the backward: `shares`, `[rows x 2 b K]`, and the others, `[rows x b]` each.
///
/// An element in the tails has the number K, and lies at the lower corner of a bin with sides and slopes 1.
struct Saved<'a, T> {
    /// Softmax of the raw widths and heights.
    shares: &'a mut [T],
    /// Number of the element's bin.
    number: &'a mut [T],
    /// ξ (in the inverse η, until it is solved for ξ).
    position: &'a mut [T],
    width: &'a mut [T],
    height: &'a mut [T],
    /// Raw slope at the bin's left end.
    left: &'a mut [T],
    /// Raw slope at the bin's right end.
    right: &'a mut [T],
    /// Distance of the result from its edge of the bin; backward, the adjoint of the result.
    result: &'a mut [T],
    /// ln dy/dx; backward, the adjoint of the log-det, then of the element.
    log_slope: &'a mut [T],
}

impl<'a, T> Saved<'a, T> {
    const BLOCKS: usize = 8;

    fn new(saved: &'a mut [T], elements: usize) -> Self {
        let (shares, blocks) = saved.split_at_mut(saved.len() - Self::BLOCKS * elements);
        let mut blocks = blocks.chunks_exact_mut(elements);
        let [number, position, width, height, left, right, result, log_slope] =
            std::array::from_fn(|_| blocks.next().unwrap_or_default());
        Self { shares, number, position, width, height, left, right, result, log_slope }
    }
}

#[derive(Debug)]
struct SplineCoupling<T> {
    columns: Vec<usize>,
    bins: usize,
    bound: T,
    direction: Direction,
    /// A bin's side is `least + free * share`.
    least: T,
    free: T,
    /// The slope at a knot is `floor + softplus(raw + offset)`.
    floor: T,
    offset: T,
}

impl<T: Real> SplineCoupling<T> {
    fn new(columns: &[usize], bins: usize, bound: T, direction: Direction) -> Self {
        let length = bound + bound;
        let offset = T::from_f64((1.0 - MIN_SLOPE).exp_m1().ln());
        Self {
            columns: columns.to_vec(),
            bins,
            bound,
            direction,
            least: length * T::from_f64(MIN_SHARE),
            free: length * T::from_f64(1.0 - MIN_SHARE * bins as f64),
            // MIN_SLOPE to rounding, and such that a raw slope of 0 gives 1 to the last bit.
            floor: T::ONE - math::softplus(offset),
            offset,
        }
    }

    /// Number of raw values of a row.
    fn raw_width(&self) -> usize {
        self.columns.len() * (3 * self.bins - 1)
    }

    /// The number of the bin in which `x` of (-bound, bound) lies, and the bin's edges: `low <= x < high`.
    #[inline(always)]
    fn find(&self, shares: &[T], x: T) -> (usize, T, T) {
        let mut low = -self.bound;
        for (k, share) in shares[..self.bins - 1].iter().enumerate() {
            let high = low + share.mul_add(self.free, self.least);
            if x < high {
                return (k, low, high);
            }
            low = high;
        }
        (self.bins - 1, low, self.bound)
    }

    /// The edges of bin `k`, the same numbers as in `find`.
    #[inline(always)]
    fn edges(&self, shares: &[T], k: usize) -> (T, T) {
        let side = |share: &T| share.mul_add(self.free, self.least);
        let low = shares[..k].iter().fold(-self.bound, |low, share| low + side(share));
        (low, if k + 1 < self.bins { low + side(&shares[k]) } else { self.bound })
    }

    /// Softmax of each K raw widths or heights.
    #[inline(always)]
    fn softmax(&self, raw: &[T], shares: &mut [T]) {
        let sides = 2 * self.bins * self.columns.len();
        for (shares, raw) in shares.chunks_exact_mut(sides).zip(raw.chunks_exact(self.raw_width())) {
            for (shares, raw) in shares.chunks_exact_mut(self.bins).zip(raw.chunks_exact(self.bins)) {
                let largest = raw.iter().copied().fold(raw[0], T::max);
                shares.iter_mut().zip(raw).for_each(|(share, &raw)| *share = raw - largest);
            }
        }
        shares.iter_mut().for_each(|share| *share = math::exp(*share));
        for shares in shares.chunks_exact_mut(self.bins) {
            let per_sum = T::ONE / shares.iter().copied().sum::<T>();
            shares.iter_mut().for_each(|share| *share *= per_sum);
        }
    }

    /// Finds each element's bin, and replaces the elements by the result's edge of the bin (tails: by the result).
    #[inline(always)]
    fn locate(&self, y: &mut [T], width: usize, raw: &[T], saved: &mut Saved<'_, T>) {
        let (b, bins) = (self.columns.len(), self.bins);
        let shares = saved.shares.chunks_exact(2 * b * bins);
        for (r, ((y, raw), shares)) in
            y.chunks_exact_mut(width).zip(raw.chunks_exact(self.raw_width())).zip(shares).enumerate()
        {
            for (j, &c) in self.columns.iter().enumerate() {
                let (i, y) = (r * b + j, &mut y[c]);
                let (mut k, mut position, mut sides, mut slopes) = (bins, T::ZERO, (T::ONE, T::ONE), (T::ZERO, T::ZERO));
                // A NaN counts as outside, and passes.
                if -self.bound < *y && *y < self.bound {
                    let (widths, heights) = (&shares[j * bins..][..bins], &shares[(b + j) * bins..][..bins]);
                    let inner = &raw[2 * b * bins + j * (bins - 1)..][..bins - 1];
                    let (along, across) = match self.direction {
                        Direction::Forward => (widths, heights),
                        Direction::Inverse => (heights, widths),
                    };
                    let (low, high);
                    (k, low, high) = self.find(along, *y);
                    let (start, end) = self.edges(across, k);
                    // In [0, 1] also after rounding, as low <= y < high.
                    position = (*y - low) / (high - low);
                    *y = start;
                    sides = match self.direction {
                        Direction::Forward => (high - low, end - start),
                        Direction::Inverse => (end - start, high - low),
                    };
                    slopes.0 = if k == 0 { T::ZERO } else { inner[k - 1] };
                    slopes.1 = if k == bins - 1 { T::ZERO } else { inner[k] };
                }
                saved.number[i] = T::from_u32(k as u32);
                saved.position[i] = position;
                (saved.width[i], saved.height[i]) = sides;
                (saved.left[i], saved.right[i]) = slopes;
            }
        }
    }

    /// The bin with these sides and raw slopes.
    #[inline(always)]
    fn bin(&self, width: T, height: T, left: T, right: T) -> Bin<T> {
        Bin { chord: height / width, left: self.slope(left), right: self.slope(right) }
    }

    /// The slope at a knot; 1 for a raw slope of 0.
    #[inline(always)]
    fn slope(&self, raw: T) -> T {
        let most = T::from_f64(MAX_RAW_SLOPE);
        self.floor + math::softplus(self.offset + if raw > most { most } else { raw })
    }

    /// Its derivative by the raw slope.
    #[inline(always)]
    fn slope_derivative(&self, raw: T) -> T {
        if raw > T::from_f64(MAX_RAW_SLOPE) { T::ZERO } else { math::sigmoid(self.offset + raw) }
    }

    /// Evaluates all elements in their bins.
    #[inline(always)]
    fn evaluate(&self, saved: &mut Saved<'_, T>) {
        let (n, direction) = (saved.number.len(), self.direction);
        let (width, height) = (&saved.width[..n], &saved.height[..n]);
        let (left, right) = (&saved.left[..n], &saved.right[..n]);
        let (position, result) = (&mut saved.position[..n], &mut saved.result[..n]);
        let log_slope = &mut saved.log_slope[..n];
        for i in 0..n {
            let bin = self.bin(width[i], height[i], left[i], right[i]);
            match direction {
                Direction::Forward => result[i] = height[i] * bin.forward(position[i]),
                Direction::Inverse => {
                    position[i] = bin.inverse(position[i]);
                    result[i] = width[i] * position[i];
                }
            }
            log_slope[i] = math::ln(bin.slope(position[i]));
        }
    }

    /// Pulls `result` and `log_slope`, here the adjoints of the result and of ℓ, back to the element and its bin.
    #[inline(always)]
    fn pull_back(&self, saved: &mut Saved<'_, T>) {
        let (n, direction) = (saved.number.len(), self.direction);
        let (width, height) = (&mut saved.width[..n], &mut saved.height[..n]);
        let (left, right) = (&mut saved.left[..n], &mut saved.right[..n]);
        let (position, result) = (&saved.position[..n], &saved.result[..n]);
        let log_slope = &mut saved.log_slope[..n];
        for i in 0..n {
            let (w, h, xi) = (width[i], height[i], position[i]);
            let bin = self.bin(w, h, left[i], right[i]);
            let per_w = T::ONE / w;
            let (dl, dy) = match direction {
                Direction::Forward => (log_slope[i], result[i]),
                Direction::Inverse => {
                    let dx = result[i] + log_slope[i] * bin.log_slope_derivative(xi) * per_w;
                    (log_slope[i], -dx / bin.slope(xi))
                }
            };
            let adjoint = bin.gradient(xi, dy * h, dl);
            // ξ = (x - x0) / w, s = h / w, y = y0 + h η
            width[i] = -(adjoint.position * xi + adjoint.chord * bin.chord) * per_w;
            height[i] = dy * bin.forward(xi) + adjoint.chord * per_w;
            left[i] = adjoint.left * self.slope_derivative(left[i]);
            right[i] = adjoint.right * self.slope_derivative(right[i]);
            log_slope[i] = match direction {
                Direction::Forward => adjoint.position * per_w,
                Direction::Inverse => -dy,
            };
        }
    }

    /// Pulls the adjoints of a bin's lower edge and side back to the raw widths (heights).
    ///
    /// The edge is -B plus the sides of the bins below, each linear in its share, and shares are a softmax:
    /// $\bar r_i = \sigma_i (\bar\sigma_i - \sum_j \sigma_j \bar\sigma_j)$.
    #[inline(always)]
    fn pull_back_sides(&self, shares: &[T], k: usize, (edge, side): (T, T), d_raw: &mut [T]) {
        let (edge, side) = (edge * self.free, side * self.free);
        let mean = edge * shares[..k].iter().copied().sum::<T>() + side * shares[k];
        for (i, (d_raw, &share)) in d_raw.iter_mut().zip(shares).enumerate() {
            let d_share = if i < k { edge } else { T::ZERO };
            *d_raw += share * (d_share - mean);
        }
        d_raw[k] += shares[k] * side;
    }

    /// Pulls all bins' adjoints back to the raw values.
    #[inline(always)]
    fn pull_back_raw(&self, saved: &Saved<'_, T>, d_raw: &mut [T]) {
        let (b, bins) = (self.columns.len(), self.bins);
        let shares = saved.shares.chunks_exact(2 * b * bins);
        for (r, (d_raw, shares)) in d_raw.chunks_exact_mut(self.raw_width()).zip(shares).enumerate() {
            let (d_sides, d_inner) = d_raw.split_at_mut(2 * b * bins);
            for j in 0..b {
                let i = r * b + j;
                let k = saved.number[i].to_f64() as usize;
                if k == bins {
                    continue;
                }
                // The element counts from its edge, and the result is added to its own.
                let (mut x_edge, mut y_edge) = (-saved.log_slope[i], saved.result[i]);
                if self.direction == Direction::Inverse {
                    std::mem::swap(&mut x_edge, &mut y_edge);
                }
                let (widths, heights) = (j * bins..(j + 1) * bins, (b + j) * bins..(b + j + 1) * bins);
                let (x, y) = ((x_edge, saved.width[i]), (y_edge, saved.height[i]));
                self.pull_back_sides(&shares[widths.clone()], k, x, &mut d_sides[widths]);
                self.pull_back_sides(&shares[heights.clone()], k, y, &mut d_sides[heights]);
                let d_inner = &mut d_inner[j * (bins - 1)..][..bins - 1];
                if k > 0 {
                    d_inner[k - 1] += saved.left[i];
                }
                if k < bins - 1 {
                    d_inner[k] += saved.right[i];
                }
            }
        }
    }
}

impl<T: Real> Op<T> for SplineCoupling<T> {
    fn name(&self) -> &'static str {
        match self.direction {
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
        if inputs[1] != self.raw_width() || inputs[2] != 1 {
            let why = format!(
                "{b} transformed columns with {} bins need a conditioner output {} wide (found {}) and a log-det 1 wide \
                 (found {})",
                self.bins,
                self.raw_width(),
                inputs[1],
                inputs[2]
            );
            return Err(Error::shape("spline_coupling", why));
        }
        Ok(vec![width, 1])
    }

    fn saved(&self, _: &[usize]) -> usize {
        self.columns.len() * (2 * self.bins + Saved::<T>::BLOCKS)
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let (x, raw, ln_det) = (tile.inputs[0], tile.inputs[1], tile.inputs[2]);
        let [y, new_ln_det] = tile.outputs else { return };
        let (b, width) = (self.columns.len(), tile.input_widths[0]);
        let sign = if self.direction == Direction::Forward { T::ONE } else { -T::ONE };
        let mut saved = Saved::new(tile.saved, tile.rows * b);
        y.copy_from_slice(x);
        wide(#[inline(always)] || {
            self.softmax(raw, saved.shares);
            self.locate(y, width, raw, &mut saved);
            self.evaluate(&mut saved);
        });
        for (y, result) in y.chunks_exact_mut(width).zip(saved.result.chunks_exact(b)) {
            self.columns.iter().zip(result).for_each(|(&c, &result)| y[c] += result);
        }
        for ((new, &old), log_slope) in new_ln_det.iter_mut().zip(ln_det).zip(saved.log_slope.chunks_exact(b)) {
            *new = old + sign * log_slope.iter().copied().sum::<T>();
        }
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (b, width) = (self.columns.len(), tile.input_widths[0]);
        let sign = if self.direction == Direction::Forward { T::ONE } else { -T::ONE };
        let [dy, dl] = &mut *tile.output_adjoints else { return };
        let [dx, d_raw, dl_in] = &mut *tile.input_adjoints else { return };
        let mut saved = Saved::new(tile.saved, tile.rows * b);
        for (dy, result) in dy.chunks_exact(width).zip(saved.result.chunks_exact_mut(b)) {
            self.columns.iter().zip(result).for_each(|(&c, result)| *result = dy[c]);
        }
        for (&dl, log_slope) in dl.iter().zip(saved.log_slope.chunks_exact_mut(b)) {
            log_slope.fill(sign * dl);
        }
        wide(#[inline(always)] || self.pull_back(&mut saved));
        for (dy, d_element) in dy.chunks_exact_mut(width).zip(saved.log_slope.chunks_exact(b)) {
            self.columns.iter().zip(d_element).for_each(|(&c, &d)| dy[c] = d);
        }
        dx.zip(dy, dy, |dy, _| dy);
        dl_in.zip(dl, dl, |dl, _| dl);
        if let Some(d_raw) = Adjoint::zeroed(d_raw) {
            wide(#[inline(always)] || self.pull_back_raw(&saved, d_raw));
        }
    }
}

impl<T: Real> Graph<T> {
    /// Coupling of the given columns of `x` by monotone rational-quadratic splines on [-bound, bound], the identity
    /// outside: returns (y, log-det + its own).
    ///
    /// `raw` is the conditioner's output, `[rows x b (3 bins - 1)]` for b columns: the widths of the bins of the first
    /// column, then of the next and so on; the heights in the same order; then for each column the slopes at its
    /// `bins - 1` inner knots. Widths and heights are a softmax, with a least share of 0.001 each; slopes are
    /// 0.001 + softplus(raw + const), and 1 at the ends. `raw` = 0 gives the identity.
    ///
    /// Infinities and NaN in `x` pass like all that is outside.
    ///
    /// # Errors
    /// [`Error::Shape`] if columns repeat or do not exist, or if the widths do not fit; [`Error::Parameter`] unless
    /// `bound` is positive and finite, and `bins` is 2 to 500 (a single bin could only be the identity).
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
        let length = T::from_f64(2.0 * bound);
        if !(length > T::ZERO && length.is_finite()) {
            return Err(Error::parameter("bound", format!("{bound} must be positive and finite")));
        }
        let op = SplineCoupling::new(columns, bins, T::from_f64(bound), direction);
        let outputs = self.push(op, &[x, raw, ln_det])?;
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
    let all = [both(&[0], 1, 2, 1.0), both(&[2, 0], 5, 5, 1.0), both(&[0, 1, 3], 4, 8, 1.5)];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::plan::{Feed, Request, Vjp};
    use crate::rng::{Noise, NoiseId};

    /// The spline of one column with these raw values, at many points: results and their log-dets.
    fn run<T: Real>(x: &[T], raw: &[T], bound: f64, direction: Direction) -> (Vec<T>, Vec<T>) {
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

    /// The K + 1 edges of the bins along the axis that is searched.
    fn edges(raw: &[f64], bound: f64, direction: Direction) -> Vec<f64> {
        let bins = raw.len().div_ceil(3);
        let op = SplineCoupling::new(&[0], bins, bound, direction);
        let mut shares = vec![0.0; 2 * bins];
        op.softmax(raw, &mut shares);
        let along = if direction == Direction::Forward { &shares[..bins] } else { &shares[bins..] };
        [-bound].into_iter().chain((0..bins).map(|k| op.edges(along, k).1)).collect()
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
                        assert!((x - y).abs() <= 2.0 * f64::EPSILON * bound && l.abs() <= 4.0 * f64::EPSILON, "{x} {y} {l}");
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
                let x = points(&raw, bound, there, 10_001);
                let (y, l) = run(&x, &raw, bound, there);
                let (again, l_back) = run(&y, &raw, bound, back);
                let rounding = 4.0 * f64::EPSILON * bound;
                let [below, above] = [-rounding, rounding].map(|d| {
                    run(&y.iter().map(|y| y + d).collect::<Vec<_>>(), &raw, bound, back).1
                });
                for i in 0..x.len() {
                    let (error, l_error) = ((again[i] - x[i]).abs(), (l[i] + l_back[i]).abs());
                    let l_change = (below[i] - l_back[i]).abs() + (above[i] - l_back[i]).abs();
                    let at = format!("{raw:?} {bound} {there:?} {}: {error:e} {l_error:e}", x[i]);
                    assert!(error <= rounding * (1.0 + 1.0 / l[i].exp()), "{at}");
                    assert!(l_error <= 1e-12 + l_change, "{at}");
                    assert!(scale > 1.0 || (error < 1e-10 && l_error < 1e-9), "{at}");
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
                let [below, above] = [-h, h].map(|h| {
                    run(&x.iter().map(|x| x + h).collect::<Vec<_>>(), &raw, bound, direction).0
                });
                let (_, l) = run(&x, &raw, bound, direction);
                for (i, l) in l.iter().enumerate() {
                    let slope = (above[i] - below[i]) / (2.0 * h);
                    assert!((slope.ln() - l).abs() < 1e-4, "{raw:?} {bound} {direction:?} {}: {slope} {}", x[i], l.exp());
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
    fn slopes_have_their_limits() {
        let op = SplineCoupling::<f64>::new(&[0], 4, 1.0, Direction::Forward);
        assert_eq!(op.slope(0.0), 1.0);
        assert!((op.slope(-1e9) - MIN_SLOPE).abs() < 1e-15);
        assert!(op.slope(1e9) == op.slope(MAX_RAW_SLOPE) && op.slope_derivative(1e9) == 0.0);
        assert!(op.slope(f64::NAN).is_nan());
        let op = SplineCoupling::<f32>::new(&[0], 4, 1.0, Direction::Forward);
        assert_eq!(op.slope(0.0), 1.0);
        assert!((op.slope(-1e9) / MIN_SLOPE as f32 - 1.0).abs() < 1e-3);
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
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e39] {
            assert!(record(&[1], 5, bound).starts_with("parameter `bound`"), "{bound}");
        }
        assert!(record(&[1, 1], 5, 3.0).contains("distinct"));
        assert!(record(&[3], 5, 3.0).contains("distinct"));
        assert!(record(&[], 5, 3.0).contains("distinct"));
        assert!(record(&[1], 6, 3.0).contains("17 wide (found 14)"));
    }
}
