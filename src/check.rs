//! Gradients against central differences, in f64: how every op of [`crate::ops`] is checked, and yours can be.

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::math::exp;
use crate::ops::{Case, Domain};
use crate::plan::{Batch, Feed, Plan, Request, Vjp};
use crate::rng::{Noise, NoiseId, NoiseRows};
use crate::store::{Init, Layout, Store, Weights};

/// Largest relative error of a case's gradients, with respect to all inputs and parameters, on `rows` random rows.
///
/// Each case is recorded twice: alone, so that the op sets its inputs' adjoints, and with its inputs used once more, so
/// that it adds to them. See [`graph_gradient_error`] for what the error is.
///
/// # Errors
/// What recording and compiling the case says.
pub fn gradient_error(case: &Case<f64>, rows: usize, seed: u64) -> Result<f64, Error> {
    let mut layout = Layout::new();
    let mut params = Vec::new();
    for (i, &(rows, cols)) in case.params.iter().enumerate() {
        params.push(layout.scope(case.name).param(&i.to_string(), rows, cols, Init::Normal(0.7))?);
    }
    let store = Store::new(layout, seed);
    let mut graph = Graph::new();
    let widths = case.inputs.iter().enumerate();
    let inputs: Vec<Var> = widths.map(|(i, &w)| graph.input(&i.to_string(), w)).collect::<Result<_, _>>()?;
    let mut outputs = (case.build)(&mut graph, &inputs, &params)?;
    let alone = Checked::new(&graph, &store, &outputs, case.domain, rows, seed)?.error()?;
    for &var in &inputs {
        outputs.push(graph.scale(var, 0.5)?);
    }
    let shared = Checked::new(&graph, &store, &outputs, case.domain, rows, seed)?.error()?;
    Ok(alone.max(shared))
}

/// Largest relative error of the gradients of `outputs` with respect to all inputs of the graph, fed with `rows`
/// standard normal rows, and to all parameters.
///
/// The scalar that is differentiated is a random linear combination of all outputs. The error of a table is
/// max |vjp - difference| / max |difference| over its elements.
///
/// # Errors
/// What compiling the graph says.
pub fn graph_gradient_error(
    graph: &Graph<f64>,
    store: &Store<f64>,
    outputs: &[Var],
    rows: usize,
    seed: u64,
) -> Result<f64, Error> {
    Checked::new(graph, store, outputs, Domain::Real, rows, seed)?.error()
}

/// A graph with the point and the direction at which it is differentiated.
struct Checked {
    plan: Plan<f64>,
    store: Store<f64>,
    rows: usize,
    inputs: Vec<Vec<f64>>,
    seeds: Vec<Vec<f64>>,
}

impl Checked {
    fn new(
        graph: &Graph<f64>,
        store: &Store<f64>,
        outputs: &[Var],
        domain: Domain,
        rows: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let inputs: Vec<Var> = graph.inputs.iter().map(|(_, var)| *var).collect();
        let request =
            Request::outputs(outputs).with_input_gradients(&inputs).with_parameter_gradients(0..store.layout().len());
        let plan = graph.compile(&Device::cpu_with_threads(1), &request)?;
        let normal = |step: u32, i: usize, var: Var| {
            let cols = graph.widths[var.index()];
            let mut table = vec![0.0; rows * cols];
            Noise { seed, step, id: NoiseId(i as u32) }.fill_normal(0, cols, &mut table);
            table
        };
        let mut tables: Vec<Vec<f64>> = inputs.iter().enumerate().map(|(i, &v)| normal(1, i, v)).collect();
        if domain == Domain::Positive {
            tables.iter_mut().flatten().for_each(|x| *x = exp(*x));
        }
        let seeds = outputs.iter().enumerate().map(|(i, &v)| normal(2, i, v)).collect();
        Ok(Self { plan, store: store.clone(), rows, inputs: tables, seeds })
    }

    fn error(mut self) -> Result<f64, Error> {
        let (input_gradients, parameter_gradient) = self.vjp()?;
        let mut worst = 0.0_f64;
        for (i, gradient) in input_gradients.iter().enumerate() {
            let difference = self.differences(gradient.len(), |this, j| &mut this.inputs[i][j])?;
            worst = worst.max(relative(gradient, &difference));
        }
        let difference = self.differences(parameter_gradient.len(), |this, j| &mut this.store.params[j])?;
        Ok(worst.max(relative(&parameter_gradient, &difference)))
    }

    fn vjp(&mut self) -> Result<(Vec<Vec<f64>>, Vec<f64>), Error> {
        let mut input_gradients: Vec<Vec<f64>> = self.inputs.iter().map(|x| vec![f64::NAN; x.len()]).collect();
        let mut parameter_gradient = vec![f64::NAN; self.store.layout().len()];
        let feeds: Vec<_> = self.inputs.iter().map(|x| Feed::Rows(x)).collect();
        let seeds: Vec<&[f64]> = self.seeds.iter().map(|s| &**s).collect();
        let mut slices: Vec<&mut [f64]> = input_gradients.iter_mut().map(|g| &mut **g).collect();
        let mut vjp = Vjp {
            seeds: &seeds,
            outputs: &mut [],
            input_gradients: &mut slices,
            parameter_gradient: &mut parameter_gradient,
        };
        self.plan.vjp(self.store.weights(Weights::Raw), batch(self.rows), &feeds, &mut vjp)?;
        Ok((input_gradients, parameter_gradient))
    }

    /// Sum over the outputs of seed times value.
    fn value(&mut self) -> Result<f64, Error> {
        let mut outputs: Vec<Vec<f64>> = self.seeds.iter().map(|s| vec![f64::NAN; s.len()]).collect();
        let feeds: Vec<_> = self.inputs.iter().map(|x| Feed::Rows(x)).collect();
        let mut slices: Vec<&mut [f64]> = outputs.iter_mut().map(|y| &mut **y).collect();
        self.plan.forward(self.store.weights(Weights::Raw), batch(self.rows), &feeds, &mut slices)?;
        Ok(outputs.iter().flatten().zip(self.seeds.iter().flatten()).map(|(y, s)| y * s).sum())
    }

    /// Central differences with respect to the numbers that `element` names.
    fn differences(&mut self, count: usize, element: impl Fn(&mut Self, usize) -> &mut f64) -> Result<Vec<f64>, Error> {
        let mut derivative = |j| {
            let x = *element(self, j);
            let h = 6e-6 * x.abs().max(1.0);
            *element(self, j) = x + h;
            let above = self.value()?;
            *element(self, j) = x - h;
            let below = self.value()?;
            *element(self, j) = x;
            Ok((above - below) / (2.0 * h))
        };
        (0..count).map(&mut derivative).collect()
    }
}

/// Noise that is the same in every replay, for graphs that draw some.
fn batch(rows: usize) -> Batch<'static> {
    Batch::with_noise(rows, NoiseRows::new(&11))
}

/// max |a - b| / max |b|, NaN counting as infinite.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|v| if v.is_nan() { f64::INFINITY } else { v.abs() }).fold(0.0, f64::max)
    };
    let scale = largest(&mut b.iter().copied());
    let difference = largest(&mut a.iter().zip(b).map(|(a, b)| a - b));
    if difference == 0.0 { 0.0 } else { difference / scale }
}
