//! The ops, one file each: the equation, the struct, its shapes, its forward with the backward right under it, the
//! method that records it, and the cases on which its gradient is checked.
//!
//! [`table`] lists them all; the gradient check (`tests/gradients.rs`) iterates over that table, and a file cannot
//! join this folder without entering it.

use std::fmt;

use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::real::Real;
use crate::store::Param;

/// Declares the op files and the table over them in one go.
macro_rules! ops {
    ($($file:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every op with the shapes on which it is checked.
        pub fn table<T: Real>() -> Vec<Case<T>> {
            let files = [$($file::cases()),*];
            files.into_iter().flatten().collect()
        }
    };
}

ops! {
    affine, arithmetic, combine, concat, constant, coupling, elementwise, fourier, function, gaussian_kl,
    gaussian_log_density, gaussian_sample, linear, lu_linear, mixture_log_density, mixture_sample, noise_schedule,
    normal_log_density, reduce, scale_shift, select, spline_coupling,
}

/// Where a case's inputs are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Standard normal.
    Real,
    /// Exponentials of standard normals.
    Positive,
}

type Build<T> = dyn Fn(&mut Graph<T>, &[Var], &[Param]) -> Result<Vec<Var>, Error> + Send + Sync;

/// A small graph around one op: input widths, parameter shapes, and how to record it.
pub struct Case<T> {
    /// The op, and what is special about the case.
    pub name: &'static str,
    /// Widths of the inputs.
    pub inputs: Vec<usize>,
    /// Shapes of the parameters.
    pub params: Vec<(usize, usize)>,
    /// Where the inputs lie.
    pub domain: Domain,
    /// Records the op, given its inputs and parameters, and returns its outputs.
    pub build: Box<Build<T>>,
}

impl<T: Real> Case<T> {
    /// A case without parameters on the whole real line.
    pub fn new(
        name: &'static str,
        inputs: &[usize],
        build: impl Fn(&mut Graph<T>, &[Var], &[Param]) -> Result<Vec<Var>, Error> + Send + Sync + 'static,
    ) -> Self {
        let (inputs, build) = (inputs.to_vec(), Box::new(build));
        Self { name, inputs, params: Vec::new(), domain: Domain::Real, build }
    }

    /// The same with parameters of these shapes.
    pub fn with_params(self, shapes: &[(usize, usize)]) -> Self {
        Self { params: shapes.to_vec(), ..self }
    }

    /// The same with inputs from this domain.
    pub fn on(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }
}

impl<T> fmt::Debug for Case<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.inputs, self.params)
    }
}

/// The values that `build` records on inputs of these widths.
#[cfg(test)]
fn evaluate<T: Real>(
    rows: usize,
    inputs: &[(usize, crate::Feed<'_, T>)],
    build: impl FnOnce(&mut Graph<T>, &[Var]) -> Result<Vec<Var>, Error>,
) -> Vec<Vec<T>> {
    use crate::{Device, Request};
    let mut graph = Graph::new();
    let vars: Vec<Var> = inputs.iter().map(|(cols, _)| graph.input("input", *cols).unwrap()).collect();
    let outputs = build(&mut graph, &vars).unwrap();
    let mut values: Vec<Vec<T>> = outputs.iter().map(|&v| vec![T::ZERO; rows * graph.cols(v).unwrap()]).collect();
    let mut plan = graph.compile(&Device::cpu_with_threads(1), &Request::outputs(&outputs)).unwrap();
    let feeds: Vec<_> = inputs.iter().map(|&(_, feed)| feed).collect();
    let mut slices: Vec<&mut [T]> = values.iter_mut().map(|v| &mut **v).collect();
    plan.forward(&[], rows, &feeds, &mut slices).unwrap();
    values
}
