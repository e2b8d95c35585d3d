//! The deterministic twin of a diffusion: $dx/dt = v(x, t) = f x - \tfrac12 g^2 s(x, t)$ has the same marginals
//! (Song et al. 2021, eq. 13), and so has the velocity that flow matching learns.

use std::fmt::Debug;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::noise_schedule::NoiseSchedule;
use crate::real::Real;
use crate::sample::reverse_sde::time_grid;
use crate::sample::{Draws, Score, Step, Transition};

/// The velocity v(x, t | context) of a flow.
pub trait Velocity<T: Real>: Debug + Send + Sync {
    /// The width of x.
    fn dim(&self) -> usize;

    /// The width of the context; 0 for none.
    fn context(&self) -> usize;

    /// Records the velocity of x, `[rows x dim]`, at time t, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    fn velocity(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error>;
}

/// The probability flow of a diffusion with this score.
#[derive(Clone, Copy, Debug)]
pub struct ProbabilityFlow<'a, S: ?Sized> {
    /// The diffusion.
    pub schedule: NoiseSchedule,
    /// Its score.
    pub score: &'a S,
}

impl<T: Real, S: Score<T> + ?Sized> Velocity<T> for ProbabilityFlow<'_, S> {
    fn dim(&self) -> usize {
        self.score.dim()
    }

    fn context(&self) -> usize {
        self.score.context()
    }

    fn velocity(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error> {
        let score = self.score.score(graph, x, t, context)?;
        let level = graph.noise_schedule(t, self.schedule)?;
        let half = graph.scale(level.diffusion_squared, -0.5)?;
        let coefficients = graph.concat(&[level.drift, half])?;
        graph.combine(&[x, score], coefficients)
    }
}

/// Heun's method of second order with fixed steps (Karras et al. 2022, Algorithm 1 without churn).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heun {
    /// Time at which the chains start.
    pub start: f64,
    /// Time at which they end. The last step is one of Euler if this is 0, where a score has no meaning.
    pub end: f64,
    /// Number of steps.
    pub steps: usize,
    /// Spacing of the times, see [`time_grid`].
    pub rho: f64,
}

impl Heun {
    /// Compiles the step for a velocity.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no step or a time is not finite; what recording the velocity says.
    pub fn compile<T: Real>(
        &self,
        device: &Device,
        velocity: &(impl Velocity<T> + ?Sized),
    ) -> Result<HeunFlow<T>, Error> {
        let sound = self.start >= 0.0 && self.end >= 0.0 && self.start.is_finite() && self.end.is_finite();
        if self.steps == 0 || !sound || !(self.rho > 0.0 && self.rho.is_finite()) {
            let why = format!("{self:?}: steps and rho must be positive, times finite and not negative");
            return Err(Error::parameter("heun", why));
        }
        let widths = (velocity.dim(), velocity.context(), 5);
        let heun = Step::compile(device, widths, |graph, x, numbers, context| {
            let [t, next, euler] = [&[0][..], &[1], &[2, 3]].map(|columns| graph.select(numbers, columns));
            let first = velocity.velocity(graph, x, t?, context)?;
            let predicted = graph.combine(&[x, first], euler?)?;
            let second = velocity.velocity(graph, predicted, next?, context)?;
            let trapezium = graph.select(numbers, &[2, 4, 4])?;
            graph.combine(&[x, first, second], trapezium)
        })?;
        let euler = Step::compile(device, (widths.0, widths.1, 3), |graph, x, numbers, context| {
            let (t, coefficients) = (graph.select(numbers, &[0])?, graph.select(numbers, &[1, 2])?);
            let v = velocity.velocity(graph, x, t, context)?;
            graph.combine(&[x, v], coefficients)
        })?;
        Ok(HeunFlow { settings: *self, heun, euler })
    }
}

/// A compiled flow with fixed steps.
#[derive(Debug)]
pub struct HeunFlow<T> {
    settings: Heun,
    heun: Step<T>,
    euler: Step<T>,
}

impl<T: Real> Transition<T> for HeunFlow<T> {
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        let Heun { start, end, steps, rho } = self.settings;
        let times = time_grid(start, end, steps, rho);
        // At time 0 a score has no meaning: a step that ends there is one of Euler.
        let trapezia = steps - times[1..].iter().filter(|&&t| t == 0.0).count();
        let heun = times.windows(2).take(trapezia).map(|pair| {
            let h = pair[1] - pair[0];
            [pair[0], pair[1], 1.0, h, 0.5 * h]
        });
        self.heun.run(draws, (0, steps), heun, x)?;
        let euler = times.windows(2).skip(trapezia).map(|pair| [pair[0], 1.0, pair[1] - pair[0]]);
        self.euler.run(draws, (trapezia, steps), euler, x)
    }
}
