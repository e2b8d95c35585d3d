//! What is sampled: scores and log-densities, from networks or closures.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::real::Real;

/// The score of a family of densities, $s(x, t) = \nabla_x \ln p_t(x \mid \text{context})$, at noise level t.
pub trait Score<T: Real>: fmt::Debug + Send + Sync {
    /// The width of x.
    fn dim(&self) -> usize;

    /// The width of the context; 0 for none.
    fn context(&self) -> usize;

    /// Records the score of x, `[rows x dim]`, at level t, `[rows x 1]`: a time, or σ itself, as the family counts.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    fn score(&self, graph: &mut Graph<T>, x: Var, t: Var, context: &[Var]) -> Result<Var, Error>;
}

/// A log-density up to a constant, $\ln \tilde p(x \mid \text{context})$, that can be differentiated.
pub trait LogDensity<T: Real>: fmt::Debug + Send + Sync {
    /// The width of x.
    fn dim(&self) -> usize;

    /// The width of the context; 0 for none.
    fn context(&self) -> usize;

    /// Records the log-density of x, `[rows x 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a width is wrong.
    fn log_density(&self, graph: &mut Graph<T>, x: Var, context: &[Var]) -> Result<Var, Error>;
}

/// The gradient of a log-density as a score, the same at every level.
#[derive(Clone, Copy, Debug)]
pub struct ScoreOf<'a, D: ?Sized>(pub &'a D);

impl<T: Real, D: LogDensity<T> + ?Sized> Score<T> for ScoreOf<'_, D> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn score(&self, graph: &mut Graph<T>, x: Var, _: Var, context: &[Var]) -> Result<Var, Error> {
        let inputs: Vec<Var> = [x].iter().chain(context).copied().collect();
        Ok(graph.value_and_gradient(&inputs, |graph, own| self.0.log_density(graph, own[0], &own[1..]))?.1)
    }
}

type ScoreRow<T> = dyn Fn(&[T], T, &mut [T]) + Send + Sync;
type LogDensityRow<T> = dyn Fn(&[T], &mut [T]) -> T + Send + Sync;

/// A score given by a closure: `f(x, t, score)` fills the score of one row.
#[derive(Clone)]
pub struct ScoreFn<T> {
    dim: usize,
    f: Arc<ScoreRow<T>>,
}

impl<T: Real> ScoreFn<T> {
    /// The closure, for rows of `dim` columns.
    pub fn new(dim: usize, f: impl Fn(&[T], T, &mut [T]) + Send + Sync + 'static) -> Self {
        Self { dim, f: Arc::new(f) }
    }
}

impl<T> fmt::Debug for ScoreFn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScoreFn {{ dim: {} }}", self.dim)
    }
}

impl<T: Real> Score<T> for ScoreFn<T> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        0
    }

    fn score(&self, graph: &mut Graph<T>, x: Var, t: Var, _: &[Var]) -> Result<Var, Error> {
        let f = self.f.clone();
        graph.function(&[x, t], self.dim, move |row, score| f(row[0], row[1][0], score))
    }
}

/// A log-density given by a closure: `f(x, gradient)` returns the value at one row and fills its gradient.
#[derive(Clone)]
pub struct LogDensityFn<T> {
    dim: usize,
    f: Arc<LogDensityRow<T>>,
}

impl<T: Real> LogDensityFn<T> {
    /// The closure, for rows of `dim` columns.
    pub fn new(dim: usize, f: impl Fn(&[T], &mut [T]) -> T + Send + Sync + 'static) -> Self {
        Self { dim, f: Arc::new(f) }
    }
}

impl<T> fmt::Debug for LogDensityFn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogDensityFn {{ dim: {} }}", self.dim)
    }
}

impl<T: Real> LogDensity<T> for LogDensityFn<T> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        0
    }

    fn log_density(&self, graph: &mut Graph<T>, x: Var, _: &[Var]) -> Result<Var, Error> {
        let f = self.f.clone();
        graph.log_density_function(x, move |x, gradient| f(x, gradient))
    }
}
