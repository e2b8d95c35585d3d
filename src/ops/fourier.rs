//! Embedding of numbers, such as a noise level, in waves of fixed frequencies (Vaswani et al. 2017; Tancik et al.
//! 2020).
//!
//! $$ c_j = \cos 2\pi f_j t, \quad s_j = \sin 2\pi f_j t; \qquad
//!    \bar t = \textstyle\sum_j 2\pi f_j (c_j \bar s_j - s_j \bar c_j). $$

use std::f64::consts::TAU;

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::{sin_cos_turns, wide};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op, Reads};
use crate::ops::Case;
use crate::real::Real;

/// `count` frequencies in geometric progression from `lowest` to `highest`, both included; `lowest` alone for one.
///
/// They should run from about a quarter of a turn over the range of t to a turn over the smallest step in t that
/// matters. A phase f t is rounded to [`Real::EPSILON`] of itself: in `f32`, f t = 1000 turns is good to 1e-4 of one.
///
/// # Errors
/// [`Error::Parameter`] unless there is a frequency and 0 < `lowest` <= `highest` are finite.
///
/// ```
/// use retrodict::ops::fourier::geometric_frequencies;
/// let f = geometric_frequencies(0.25, 4.0, 5)?;
/// assert!(f.iter().zip([0.25, 0.5, 1.0, 2.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-14));
/// # Ok::<(), retrodict::Error>(())
/// ```
pub fn geometric_frequencies(lowest: f64, highest: f64, count: usize) -> Result<Vec<f64>, Error> {
    if count == 0 || !(0.0 < lowest && lowest <= highest && highest.is_finite()) {
        let why = format!("{count} from {lowest} to {highest}; at least 1 from 0 < lowest <= highest, finite");
        return Err(Error::parameter("frequencies", why));
    }
    let step = (highest / lowest).ln() / (count - 1).max(1) as f64;
    Ok((0..count).map(|j| lowest * (step * j as f64).exp()).collect())
}

#[derive(Debug)]
struct Fourier<T> {
    frequencies: Vec<T>,
}

impl<T: Real> Op<T> for Fourier<T> {
    fn name(&self) -> &'static str {
        "fourier"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        Ok(vec![2 * self.frequencies.len() * inputs[0]])
    }

    fn reads(&self) -> Reads {
        Reads::Outputs
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let m = self.frequencies.len();
        let each = tile.outputs[0].chunks_exact_mut(2 * m).zip(tile.inputs[0]);
        wide(
            #[inline(always)]
            || {
                for (y, &t) in each {
                    let (cos, sin) = y.split_at_mut(m);
                    for ((cos, sin), &f) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
                        (*sin, *cos) = sin_cos_turns(f * t);
                    }
                }
            },
        );
    }

    fn backward(&self, tile: &mut Backward<'_, T>) {
        let (m, tau) = (self.frequencies.len(), T::from_f64(TAU));
        let each = tile.outputs[0].chunks_exact(2 * m).zip(tile.output_adjoints[0].chunks_exact(2 * m));
        for (i, (y, dy)) in each.enumerate() {
            let ((cos, sin), (dcos, dsin)) = (y.split_at(m), dy.split_at(m));
            let slopes = (0..m).map(|j| self.frequencies[j] * (cos[j] * dsin[j] - sin[j] * dcos[j]));
            tile.input_adjoints[0].put(i, tau * slopes.sum::<T>());
        }
    }

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Fourier<T> {
    fn table(&self, _: &[usize]) -> Vec<u32> {
        cuda::words(&self.frequencies)
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (m, n) = (self.frequencies.len(), tile.rows * tile.input_widths[0]);
        let (t, y) = (tile.inputs[0].into(), tile.outputs[0].into());
        let arguments = [t, tile.table.into(), y, Argument::int(m), Argument::size(n)];
        tile.launch(("fourier", "fourier_forward"), Grid::threads(n * m), &arguments)
    }

    fn backward(&self, tile: &cuda::Backward<'_, T>) -> Result<(), Error> {
        let (m, n) = (self.frequencies.len(), tile.rows * tile.input_widths[0]);
        let (dy, y, dt) = (tile.output_adjoints[0].into(), tile.outputs[0].into(), tile.input_adjoints[0].into());
        let arguments = [dy, y, tile.table.into(), dt, Argument::int(m), Argument::size(n)];
        tile.launch(("fourier", "fourier_backward"), Grid::teams(n, m), &arguments)
    }
}

impl<T: Real> Graph<T> {
    /// cos(2 pi f t) for each of the m frequencies, then sin(2 pi f t), of each column of `t` `[rows x cols]` in turn:
    /// `[rows x 2 m cols]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no frequency or one is not finite.
    pub fn fourier(&mut self, t: Var, frequencies: &[f64]) -> Result<Var, Error> {
        if frequencies.is_empty() || frequencies.iter().any(|f| !f.is_finite()) {
            return Err(Error::parameter("frequencies", format!("{frequencies:?}; at least 1, all finite")));
        }
        let frequencies = frequencies.iter().map(|&f| T::from_f64(f)).collect();
        self.push_one(Fourier { frequencies }, &[t])
    }
}

pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    let some: [(&[f64], &[usize]); 3] =
        [(&[0.7], &[1]), (&[0.0, 0.1, 0.3, 0.5, 1.0, -1.3, 2.1], &[1]), (&[0.2, 1.0], &[3])];
    some.map(|(f, cols)| Case::new("fourier", cols, move |g, t, _| Ok(vec![g.fourier(t[0], f)?]))).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;

    #[test]
    fn closed_form() {
        let (f, t) = (geometric_frequencies(0.3, 9.0, 3).unwrap(), [0.0, 0.4, -1.7, f64::NAN]);
        let embed =
            |rows, cols| evaluate(rows, &[(cols, Feed::Rows(&t))], |g, v| Ok(vec![g.fourier(v[0], &f)?])).remove(0);
        let y = embed(4, 1);
        // Two columns of a row stand one after the other.
        assert!(y.iter().zip(embed(2, 2)).all(|(a, b)| a.to_bits() == b.to_bits()));
        for (y, t) in y.chunks_exact(6).zip(t) {
            let phases = f.iter().map(|f| TAU * f * t);
            let expected: Vec<f64> = phases.clone().map(f64::cos).chain(phases.map(f64::sin)).collect();
            let same = |(a, b): (&f64, f64)| (a - b).abs() < 1e-13 || a.is_nan() && t.is_nan();
            assert!(y.iter().zip(expected).all(same), "{y:?}");
        }
    }

    #[test]
    fn what_cannot_be_embedded_is_said() {
        let mut graph = Graph::<f32>::new();
        let one = graph.input("one", 1).unwrap();
        assert!(graph.fourier(one, &[]).is_err());
        assert!(graph.fourier(one, &[1.0, f64::INFINITY]).is_err());
        assert!(geometric_frequencies(0.0, 1.0, 3).is_err() && geometric_frequencies(2.0, 1.0, 3).is_err());
        assert!(geometric_frequencies(1.0, f64::NAN, 3).is_err() && geometric_frequencies(1.0, 2.0, 0).is_err());
        assert_eq!(geometric_frequencies(3.0, 5.0, 1).unwrap(), [3.0]);
    }
}
