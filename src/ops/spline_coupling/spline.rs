//! The splines of all elements of a tile, plane by plane: shares, bins, values and adjoints.

use super::bin::Bin;
use crate::math;
use crate::ops::coupling::Direction;
use crate::real::Real;

/// The least share of $[-B, B]$ that a bin's width or height has.
const MIN_SHARE: f64 = 1e-3;
/// The least slope at a knot.
const MIN_SLOPE: f64 = 1e-3;
/// Where the raw slope of a knot is cut, so that no square overflows in single precision.
const MAX_RAW_SLOPE: f64 = 1e3;
/// Half of $[-B, B]$ is free when all bins have their least share.
pub(super) const MAX_BINS: usize = 500;
/// What the forward leaves for the backward, in planes of one number per element (the transformed columns, one after
/// the other), so that every loop runs along elements and vectorises whatever the number of bins and columns.
///
/// An element in the tails has the number -1, and lies at the lower corner of a bin with sides and slopes 1.
pub(super) struct Saved<'a, T> {
    /// K planes of the bins' widths (raw, then their softmax, then their adjoints), K of heights, K - 1 of raw slopes.
    pub planes: &'a mut [T],
    /// Number of the element's bin.
    pub number: &'a mut [T],
    /// ξ (in the inverse η, until it is solved for ξ).
    pub position: &'a mut [T],
    pub width: &'a mut [T],
    pub height: &'a mut [T],
    /// Raw slope at the bin's left end.
    pub left: &'a mut [T],
    /// Raw slope at the bin's right end.
    pub right: &'a mut [T],
    /// The element, then the result; backward, the adjoint of the result.
    pub value: &'a mut [T],
    /// ln dy/dx; backward, the adjoint of the log-det, then that of the edge from which the element counts.
    pub log_slope: &'a mut [T],
}

impl<'a, T> Saved<'a, T> {
    pub const SINGLE: usize = 8;

    pub fn new(saved: &'a mut [T], elements: usize) -> Self {
        let (planes, single) = saved.split_at_mut(saved.len() - Self::SINGLE * elements);
        let mut single = single.chunks_exact_mut(elements);
        let [number, position, width, height, left, right, value, log_slope] =
            std::array::from_fn(|_| single.next().unwrap_or_default());
        Self { planes, number, position, width, height, left, right, value, log_slope }
    }
}

/// Softmax over the planes; `temporary` is one plane.
#[inline(always)]
fn softmax<T: Real>(planes: &mut [T], temporary: &mut [T]) {
    let n = temporary.len();
    temporary.copy_from_slice(&planes[..n]);
    for plane in planes.chunks_exact(n) {
        temporary.iter_mut().zip(plane).for_each(|(most, &raw)| *most = most.max(raw));
    }
    for plane in planes.chunks_exact_mut(n) {
        plane.iter_mut().zip(&*temporary).for_each(|(raw, &most)| *raw = math::exp(*raw - most));
    }
    temporary.fill(T::ZERO);
    for plane in planes.chunks_exact(n) {
        temporary.iter_mut().zip(plane).for_each(|(sum, &power)| *sum += power);
    }
    temporary.iter_mut().for_each(|sum| *sum = T::ONE / *sum);
    for plane in planes.chunks_exact_mut(n) {
        plane.iter_mut().zip(&*temporary).for_each(|(power, &per_sum)| *power *= per_sum);
    }
}
/// What all splines of a coupling have in common.
#[derive(Debug)]
pub(super) struct Spline<T> {
    pub bins: usize,
    pub bound: T,
    pub direction: Direction,
    /// A bin's side is `least + free * share`.
    pub least: T,
    pub free: T,
    /// The slope at a knot is `floor + softplus(raw + offset)`.
    pub floor: T,
    pub offset: T,
}
impl<T: Real> Spline<T> {
    pub fn new(bins: usize, bound: T, direction: Direction) -> Self {
        let length = bound + bound;
        let offset = T::from_f64((1.0 - MIN_SLOPE).exp_m1().ln());
        Self {
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

    /// Raw values of an element.
    pub fn planes(&self) -> usize {
        3 * self.bins - 1
    }

    /// +1 for the forward, -1 for the inverse: the sign with which ℓ enters the log-det.
    pub fn sign(&self) -> T {
        if self.direction == Direction::Forward { T::ONE } else { -T::ONE }
    }

    /// Width or height of a bin.
    #[inline(always)]
    fn side(&self, share: T) -> T {
        share.mul_add(self.free, self.least)
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

    /// The number of the bin in which each x lies: how many inner edges are not above it. It is -1 outside of
    /// (-B, B), where a NaN is too.
    #[inline(always)]
    fn find(&self, shares: &[T], x: &[T], number: &mut [T], edge: &mut [T]) {
        number.fill(T::ZERO);
        edge.fill(-self.bound);
        for shares in shares.chunks_exact(x.len()).take(self.bins - 1) {
            for (((number, edge), &share), &x) in number.iter_mut().zip(&mut *edge).zip(shares).zip(x) {
                *edge += self.side(share);
                *number += if x >= *edge { T::ONE } else { T::ZERO };
            }
        }
        for (number, &x) in number.iter_mut().zip(x) {
            *number = if -self.bound < x && x < self.bound { *number } else { -T::ONE };
        }
    }

    /// Lower edge and length of the bin of each number along one axis; the edges are the same numbers as in `find`,
    /// and the last is the bound itself.
    #[inline(always)]
    fn sides(&self, shares: &[T], number: &[T], low: &mut [T], side: &mut [T], edge: &mut [T]) {
        low.fill(T::ZERO);
        side.fill(T::ONE);
        edge.fill(-self.bound);
        for (k, shares) in shares.chunks_exact(number.len()).enumerate() {
            let (last, k) = (k + 1 == self.bins, T::from_u32(k as u32));
            let bins = low.iter_mut().zip(&mut *side).zip(&mut *edge);
            for (((low, side), edge), (&share, &number)) in bins.zip(shares.iter().zip(number)) {
                let high = if last { self.bound } else { *edge + self.side(share) };
                let (own, found) = (*edge, number == k);
                (*low, *side) = (if found { own } else { *low }, if found { high - own } else { *side });
                *edge = high;
            }
        }
    }

    /// Finds each element's bin, and its position there; the values become the results' lower edges (in the tails,
    /// the results).
    #[inline(always)]
    pub fn locate(&self, saved: &mut Saved<'_, T>) {
        let Saved { planes, number, position, width, height, left, right, value, log_slope: temporary } = saved;
        let n = number.len();
        let (widths, rest) = planes.split_at_mut(self.bins * n);
        let (heights, slopes) = rest.split_at_mut(self.bins * n);
        softmax(widths, temporary);
        softmax(heights, temporary);
        let (along, across, length, other) = match self.direction {
            Direction::Forward => (widths, heights, &mut **width, &mut **height),
            Direction::Inverse => (heights, widths, &mut **height, &mut **width),
        };
        self.find(along, value, number, temporary);
        self.sides(along, number, position, length, temporary);
        self.sides(across, number, left, other, temporary);
        let found = number.iter().zip(&*length).zip(&**left);
        for ((value, position), ((&number, &length), &start)) in value.iter_mut().zip(&mut **position).zip(found) {
            // In [0, 1] also after rounding, as low <= value < low + length.
            let inside = number >= T::ZERO;
            *position = if inside { (*value - *position) / length } else { T::ZERO };
            *value = if inside { start } else { *value };
        }
        left.fill(T::ZERO);
        right.fill(T::ZERO);
        for (k, slopes) in slopes.chunks_exact(n).enumerate() {
            let (k, next) = (T::from_u32(k as u32), T::from_u32(k as u32 + 1));
            for (((left, right), &slope), &number) in left.iter_mut().zip(&mut **right).zip(slopes).zip(&**number) {
                *left += if number == next { slope } else { T::ZERO };
                *right += if number == k { slope } else { T::ZERO };
            }
        }
    }

    /// The bin with these sides and these raw slopes at its ends.
    #[inline(always)]
    fn bin(&self, width: T, height: T, left: T, right: T) -> Bin<T> {
        Bin { chord: height / width, left: self.slope(left), right: self.slope(right) }
    }

    /// Evaluates all elements in their bins.
    #[inline(always)]
    pub fn evaluate(&self, saved: &mut Saved<'_, T>) {
        let (n, direction) = (saved.number.len(), self.direction);
        let (width, height) = (&saved.width[..n], &saved.height[..n]);
        let (left, right) = (&saved.left[..n], &saved.right[..n]);
        let (position, value) = (&mut saved.position[..n], &mut saved.value[..n]);
        let log_slope = &mut saved.log_slope[..n];
        for i in 0..n {
            let bin = self.bin(width[i], height[i], left[i], right[i]);
            match direction {
                Direction::Forward => value[i] += height[i] * bin.forward(position[i]),
                Direction::Inverse => {
                    position[i] = bin.inverse(position[i]);
                    value[i] += width[i] * position[i];
                }
            }
            log_slope[i] = math::ln(bin.slope(position[i]));
        }
    }

    /// Pulls `value` and `log_slope`, here the adjoints of the result and of ℓ, back to the bin: its sides, its raw
    /// slopes, and its edges. As the result is added to its edge and the element counts from its own, the adjoint of
    /// one edge is that of the result, and of the other minus that of the element.
    #[inline(always)]
    pub fn pull_back(&self, saved: &mut Saved<'_, T>) {
        let (n, direction) = (saved.number.len(), self.direction);
        let (width, height) = (&mut saved.width[..n], &mut saved.height[..n]);
        let (left, right) = (&mut saved.left[..n], &mut saved.right[..n]);
        let (position, value) = (&saved.position[..n], &saved.value[..n]);
        let log_slope = &mut saved.log_slope[..n];
        for i in 0..n {
            let (w, h, xi, dl) = (width[i], height[i], position[i], log_slope[i]);
            let bin = self.bin(w, h, left[i], right[i]);
            let per_w = T::ONE / w;
            let dy = match direction {
                Direction::Forward => value[i],
                Direction::Inverse => -(value[i] + dl * bin.log_slope_derivative(xi) * per_w) / bin.slope(xi),
            };
            let adjoint = bin.gradient(xi, dy * h, dl);
            // ξ = (x - x0) / w, s = h / w, y = y0 + h η
            width[i] = -(adjoint.position * xi + adjoint.chord * bin.chord) * per_w;
            height[i] = dy * bin.forward(xi) + adjoint.chord * per_w;
            left[i] = adjoint.left * self.slope_derivative(left[i]);
            right[i] = adjoint.right * self.slope_derivative(right[i]);
            log_slope[i] = match direction {
                Direction::Forward => -adjoint.position * per_w,
                Direction::Inverse => dy,
            };
        }
    }

    /// Pulls the adjoints of each bin's lower edge and side along one axis back to the raw values.
    ///
    /// The edge is -B plus the sides of the bins below, each linear in its share, and shares are a softmax:
    /// $\bar r_i = \sigma_i (\bar\sigma_i - \sum_j \sigma_j \bar\sigma_j)$.
    #[inline(always)]
    fn pull_back_sides(&self, shares: &mut [T], number: &[T], edge: &[T], side: &[T], mean: &mut [T]) {
        let adjoints = || number.iter().zip(edge).zip(side);
        let of_share = |k: usize, ((&number, &edge), &side): ((&T, &T), &T)| {
            let k = T::from_u32(k as u32);
            self.free
                * if number > k {
                    edge
                } else if number == k {
                    side
                } else {
                    T::ZERO
                }
        };
        mean.fill(T::ZERO);
        for (k, shares) in shares.chunks_exact(number.len()).enumerate() {
            for ((mean, &share), adjoints) in mean.iter_mut().zip(shares).zip(adjoints()) {
                *mean += share * of_share(k, adjoints);
            }
        }
        for (k, shares) in shares.chunks_exact_mut(number.len()).enumerate() {
            for ((share, &mean), adjoints) in shares.iter_mut().zip(&*mean).zip(adjoints()) {
                *share *= of_share(k, adjoints) - mean;
            }
        }
    }

    /// Turns the planes into the adjoints of the raw values.
    #[inline(always)]
    pub fn pull_back_planes(&self, saved: &mut Saved<'_, T>) {
        let Saved { planes, number, position: temporary, width, height, left, right, value, log_slope } = saved;
        let n = number.len();
        let (widths, rest) = planes.split_at_mut(self.bins * n);
        let (heights, slopes) = rest.split_at_mut(self.bins * n);
        let (x_edge, y_edge) = match self.direction {
            Direction::Forward => (log_slope, value),
            Direction::Inverse => (value, log_slope),
        };
        self.pull_back_sides(widths, number, x_edge, width, temporary);
        self.pull_back_sides(heights, number, y_edge, height, temporary);
        for (k, slopes) in slopes.chunks_exact_mut(n).enumerate() {
            let (k, next) = (T::from_u32(k as u32), T::from_u32(k as u32 + 1));
            for (((slope, &left), &right), &number) in slopes.iter_mut().zip(&**left).zip(&**right).zip(&**number) {
                *slope = if number == next {
                    left
                } else if number == k {
                    right
                } else {
                    T::ZERO
                };
            }
        }
    }
}

/// The K + 1 edges of the bins along the axis that is searched.
#[cfg(test)]
pub(super) fn edges(raw: &[f64], bound: f64, direction: Direction) -> Vec<f64> {
    let bins = raw.len().div_ceil(3);
    let spline = Spline::new(bins, bound, direction);
    let axis = if direction == Direction::Forward { 0 } else { bins };
    let mut shares = raw[axis..][..bins].to_vec();
    softmax(&mut shares, &mut [0.0]);
    let low = |k: usize| {
        let mut low = [0.0];
        spline.sides(&shares, &[k as f64], &mut low, &mut [0.0], &mut [0.0]);
        low[0]
    };
    (0..bins).map(low).chain([bound]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_have_their_limits() {
        let spline = Spline::<f64>::new(4, 1.0, Direction::Forward);
        assert_eq!(spline.slope(0.0), 1.0);
        assert!((spline.slope(-1e9) - MIN_SLOPE).abs() < 1e-15);
        assert!(spline.slope(1e9) == spline.slope(MAX_RAW_SLOPE) && spline.slope_derivative(1e9) == 0.0);
        assert!(spline.slope(f64::NAN).is_nan());
        let spline = Spline::<f32>::new(4, 1.0, Direction::Forward);
        assert_eq!(spline.slope(0.0), 1.0);
        assert!((spline.slope(-1e9) / MIN_SLOPE as f32 - 1.0).abs() < 1e-3);
    }
}
