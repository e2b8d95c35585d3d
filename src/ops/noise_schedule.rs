//! A [`NoiseSchedule`] at the time of each row: $\alpha(t), \sigma(t), f(t), g^2(t)$.
//!
//! Nothing flows back: times are drawn or stepped, not learned.

#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::noise_schedule::NoiseSchedule;
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Kernels};
use crate::op::{Backward, Forward, Op};
use crate::ops::Case;
use crate::real::Real;

/// A noise schedule at the time of each row, `[rows x 1]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseLevel {
    /// What is left of the data, alpha.
    pub alpha: Var,
    /// Standard deviation of the noise, sigma.
    pub sigma: Var,
    /// Drift rate f.
    pub drift: Var,
    /// Squared diffusion g².
    pub diffusion_squared: Var,
}

#[derive(Debug)]
struct NoiseScheduleOp(NoiseSchedule);

impl<T: Real> Op<T> for NoiseScheduleOp {
    fn name(&self) -> &'static str {
        "noise_schedule"
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        if inputs[0] != 1 {
            return Err(Error::shape("noise_schedule", format!("takes 1 time a row, found {}", inputs[0])));
        }
        Ok(vec![1; 4])
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let [alpha, sigma, drift, diffusion_squared] = tile.outputs else { return };
        // In double precision whatever T is: 1 - e^-B cancels near t = 0, and 1 - t near 1.
        for (i, t) in tile.inputs[0].iter().map(|t| t.to_f64()).enumerate() {
            alpha[i] = T::from_f64(self.0.alpha(t));
            sigma[i] = T::from_f64(self.0.sigma(t));
            drift[i] = T::from_f64(self.0.drift(t));
            diffusion_squared[i] = T::from_f64(self.0.diffusion_squared(t));
        }
    }

    /// Nothing flows back.
    fn backward(&self, _: &mut Backward<'_, T>) {}

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for NoiseScheduleOp {
    fn table(&self, _: &[usize]) -> Vec<u32> {
        cuda::words(&self.0.numbers())
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let [alpha, sigma, drift, diffusion_squared] = [0, 1, 2, 3].map(|i| tile.outputs[i].into());
        let (t, rows) = (tile.inputs[0].into(), Argument::size(tile.rows));
        let arguments = [t, alpha, sigma, drift, diffusion_squared, tile.table.into(), rows];
        tile.launch(("noise_schedule", "noise_schedule_forward"), Grid::threads(tile.rows), &arguments)
    }

    /// Nothing flows back.
    fn backward(&self, _: &cuda::Backward<'_, T>) -> Result<(), Error> {
        Ok(())
    }
}

impl<T: Real> Graph<T> {
    /// The schedule at the times `t`, `[rows x 1]`, computed in double precision.
    ///
    /// Not differentiable: no gradient flows to `t`.
    ///
    /// # Errors
    /// What [`NoiseSchedule::check`] says, and [`Error::Shape`] if `t` has more than one column.
    pub fn noise_schedule(&mut self, t: Var, schedule: NoiseSchedule) -> Result<NoiseLevel, Error> {
        schedule.check()?;
        let outputs = self.push(NoiseScheduleOp(schedule), &[t])?;
        Ok(NoiseLevel { alpha: outputs[0], sigma: outputs[1], drift: outputs[2], diffusion_squared: outputs[3] })
    }
}

/// None: there is no gradient to check.
pub(super) fn cases<T: Real>() -> Vec<Case<T>> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate;
    use crate::plan::Feed;

    #[test]
    fn rows_have_the_schedule_of_their_times() {
        let schedule = NoiseSchedule::variance_preserving();
        let t = [1e-5_f32, 0.3, 0.999, f32::NAN];
        let values = evaluate(4, &[(1, Feed::Rows(&t))], |g, v| {
            let level = g.noise_schedule(v[0], schedule)?;
            Ok(vec![level.alpha, level.sigma, level.drift, level.diffusion_squared])
        });
        let functions =
            [NoiseSchedule::alpha, NoiseSchedule::sigma, NoiseSchedule::drift, NoiseSchedule::diffusion_squared];
        for (values, f) in values.iter().zip(functions) {
            for (&value, t) in values.iter().zip(t) {
                let expected = f(&schedule, f64::from(t)) as f32;
                assert!(value == expected || value.is_nan() && t.is_nan(), "{value}, not {expected}");
            }
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let mut graph = Graph::<f32>::new();
        let (one, two) = (graph.input("one", 1).unwrap(), graph.input("two", 2).unwrap());
        assert!(graph.noise_schedule(two, NoiseSchedule::Linear).is_err());
        assert!(graph.noise_schedule(one, NoiseSchedule::Edm { sigma_min: 1.0, sigma_max: 0.5 }).is_err());
    }
}
