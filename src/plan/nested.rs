//! Derivatives as values: an op that replays a program, forward and backward, on the tile it is given.
//!
//! The score of a learned density is ∇ₓ ln q(x); a step of a sampler needs it as a value among others. The inner graph
//! is compiled like any other, and its workspace is the op's `saved` block. Second derivatives are not available.

use crate::device::cpu::disjoint::Disjoint;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Address, Argument, Grid};
use crate::error::Error;
use crate::graph::{Graph, Var};
#[cfg(feature = "cuda")]
use crate::op::cuda::{self, Adjoint, Kernels};
use crate::op::{Backward, Forward, MAX_ARITY, Op};
use crate::plan::compile::{Program, compile};
#[cfg(feature = "cuda")]
use crate::plan::cuda::pass::{self, Pass, State, Tables};
use crate::plan::tile::Tile;
use crate::plan::{Call, Feed, Request, Seed};
use crate::real::Real;
use crate::store::Param;

/// Which product with the Jacobian J = ∂y/∂x₀ is wanted, beside y = f(x₀, x₁, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Product {
    /// vᵀ J with v the op's last input.
    Vector,
    /// tr J, from one vector-Jacobian product for each column.
    Trace,
}

#[derive(Debug)]
struct Nested<T> {
    program: Program<T>,
    product: Product,
    cols: usize,
}

impl<T: Real> Nested<T> {
    /// Replays the program on all rows of the tile with the given adjoint of y.
    fn replay(&self, tile: &mut Forward<'_, T>, memory: &mut [T], seed: &[T], gradient: &mut [T]) {
        let feeds: [Feed<'_, T>; MAX_ARITY] =
            std::array::from_fn(|i| Feed::Rows(tile.inputs.get(i).copied().unwrap_or_default()));
        let call = Call {
            params: tile.params,
            packed: tile.packed,
            rows: tile.rows,
            feeds: &feeds[..self.program.feeds.len()],
            noise: None,
            seed: Some(Seed::Given(&[seed])),
            outputs: &[Disjoint::new(tile.outputs[0])],
            input_gradients: &[Disjoint::new(gradient)],
        };
        Tile::on(&self.program, memory, &mut [], tile.scratch, tile.rows, 0..tile.rows).run(&call);
    }

    /// Σᵢ (eᵢᵀ J)ᵢ
    fn trace(&self, tile: &mut Forward<'_, T>, saved: &mut [T]) {
        let (memory, rest) = saved.split_at_mut(tile.rows * self.program.width);
        let (seed, gradient) = rest.split_at_mut(tile.rows * self.cols);
        tile.outputs[1].fill(T::ZERO);
        for i in 0..self.cols {
            seed.chunks_exact_mut(self.cols).for_each(|row| {
                row.fill(T::ZERO);
                row[i] = T::ONE;
            });
            self.replay(tile, memory, seed, gradient);
            let diagonal = gradient.iter().skip(i).step_by(self.cols);
            tile.outputs[1].iter_mut().zip(diagonal).for_each(|(trace, &g)| *trace += g);
        }
    }
}

impl<T: Real> Op<T> for Nested<T> {
    fn name(&self) -> &'static str {
        match self.product {
            Product::Vector => "value_and_vjp",
            Product::Trace => "value_and_trace",
        }
    }

    fn shapes(&self, inputs: &[usize]) -> Result<Vec<usize>, Error> {
        match self.product {
            Product::Trace => Ok(vec![self.cols, 1]),
            Product::Vector if inputs.last() == Some(&self.cols) => Ok(vec![self.cols, inputs[0]]),
            Product::Vector => {
                let why = format!("the vector has {:?} columns, the function {}", inputs.last(), self.cols);
                Err(Error::shape("value_and_vjp", why))
            }
        }
    }

    fn params(&self) -> Vec<Param> {
        self.program.forward.iter().flat_map(|step| step.node.op.params()).collect()
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn saved(&self, _: &[usize]) -> usize {
        let temporary = if self.product == Product::Trace { 2 * self.cols } else { 0 };
        self.program.width + temporary
    }

    fn packed(&self, _: &[usize], _: Option<&[bool]>) -> Vec<usize> {
        self.program.packs.iter().map(|pack| pack.range.len()).collect()
    }

    fn pack(&self, params: &[T], _: &[usize], _: Option<&[bool]>, part: usize, packed: &mut [T]) {
        self.program.pack(&self.program.packs[part], params, packed);
    }

    fn forward(&self, tile: &mut Forward<'_, T>) {
        let saved = std::mem::take(&mut tile.saved);
        match self.product {
            Product::Trace => self.trace(tile, saved),
            Product::Vector => {
                let seed = tile.inputs[self.program.feeds.len()];
                let [_, gradient] = &mut *tile.outputs else { return };
                let gradient = std::mem::take(gradient);
                self.replay(tile, saved, seed, gradient);
            }
        }
    }

    fn backward(&self, _: &mut Backward<'_, T>) {}

    #[cfg(feature = "cuda")]
    fn kernels(&self) -> Option<&dyn Kernels<T>> {
        Some(self)
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Nested<T> {
    /// [`Nested::replay`] as launches.
    fn launch(&self, tile: &cuda::Forward<'_, T>, seed: Address<T>, gradient: Address<T>) -> Result<(), Error> {
        let pass = Pass {
            cuda: tile.cuda,
            program: &self.program,
            tables: &Tables::of(&self.program).at(tile.table),
            workspace: tile.saved,
            capacity: tile.capacity,
            rows: tile.rows,
            state: State { params: tile.params, gradient: Address::NONE, lanes: 0 },
        };
        for (fed, &input) in self.program.feeds.iter().zip(tile.inputs) {
            let Some(place) = fed.buffer else { continue };
            pass.copy(input, Adjoint::Set(pass.at(place)), pass.elements(place))?;
        }
        pass.forward(true)?;
        let y = self.program.outputs[0];
        pass.copy(pass.at(y), Adjoint::Set(tile.outputs[0]), pass.elements(y))?;
        pass.copy(seed, pass.adjoint(self.program.seeds[0]), pass.elements(y))?;
        pass.backward()?;
        match self.program.input_gradients[0] {
            (_, Some(place)) => pass.copy(pass.at(place), Adjoint::Set(gradient), pass.elements(place)),
            (cols, None) => pass.fill(Adjoint::Set(gradient), T::ZERO, tile.rows * cols),
        }
    }

    /// [`Nested::trace`] as launches.
    fn launch_trace(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        let (rows, n) = (Argument::size(tile.rows), tile.rows * self.cols);
        let seed = tile.saved.at(tile.capacity * self.program.width);
        let gradient = seed.at(tile.capacity * self.cols);
        (0..self.cols).try_for_each(|i| {
            let (column, cols) = (Argument::int(i), Argument::int(self.cols));
            let arguments = [seed.into(), column, cols, Argument::size(n)];
            tile.launch(("nested", "unit_rows"), Grid::threads(n), &arguments)?;
            self.launch(tile, seed, gradient)?;
            let arguments = [gradient.into(), tile.outputs[1].into(), column, cols, rows];
            tile.launch(("nested", "add_column"), Grid::threads(tile.rows), &arguments)
        })
    }
}

#[cfg(feature = "cuda")]
impl<T: Real> Kernels<T> for Nested<T> {
    fn table(&self, _: &[usize]) -> Vec<u32> {
        Tables::of(&self.program).words
    }

    fn check(&self) -> Result<(), Error> {
        pass::check(&self.program)
    }

    fn forward(&self, tile: &cuda::Forward<'_, T>) -> Result<(), Error> {
        match self.product {
            Product::Trace => self.launch_trace(tile),
            Product::Vector => self.launch(tile, tile.inputs[self.program.feeds.len()], tile.outputs[1]),
        }
    }

    /// Second derivatives are not available.
    fn backward(&self, _: &cuda::Backward<'_, T>) -> Result<(), Error> {
        Ok(())
    }
}

impl<T: Real> Graph<T> {
    /// (y, vᵀ ∂y/∂x₀) for the function y = f(x₀, x₁, …) that `record` records, `[rows x cols of y]` and
    /// `[rows x cols of x₀]`.
    ///
    /// # Errors
    /// What `record` says; [`Error::Shape`] if `v` has not the width of y, or if f draws noise or does not depend on x₀.
    pub fn value_and_vjp(
        &mut self,
        inputs: &[Var],
        v: Var,
        record: impl FnOnce(&mut Graph<T>, &[Var]) -> Result<Var, Error>,
    ) -> Result<(Var, Var), Error> {
        let nested = self.nested("value_and_vjp", Product::Vector, inputs, record)?;
        let all: Vec<Var> = inputs.iter().copied().chain([v]).collect();
        let outputs = self.push(nested, &all)?;
        Ok((outputs[0], outputs[1]))
    }

    /// (y, ∂y/∂x₀) of a function with one column, `[rows x 1]` and `[rows x cols of x₀]`: a log-density and its score.
    ///
    /// # Errors
    /// As [`Graph::value_and_vjp`].
    pub fn value_and_gradient(
        &mut self,
        inputs: &[Var],
        record: impl FnOnce(&mut Graph<T>, &[Var]) -> Result<Var, Error>,
    ) -> Result<(Var, Var), Error> {
        let one = self.constant(1.0, 1)?;
        self.value_and_vjp(inputs, one, record)
    }

    /// (y, tr ∂y/∂x₀) of a function from x₀ to as many columns, `[rows x cols]` and `[rows x 1]`: a velocity and its
    /// divergence. It costs one forward and backward pass for each column.
    ///
    /// # Errors
    /// As [`Graph::value_and_vjp`], and [`Error::Shape`] unless y is as wide as x₀.
    pub fn value_and_divergence(
        &mut self,
        inputs: &[Var],
        record: impl FnOnce(&mut Graph<T>, &[Var]) -> Result<Var, Error>,
    ) -> Result<(Var, Var), Error> {
        let nested = self.nested("value_and_divergence", Product::Trace, inputs, record)?;
        if self.cols(inputs[0])? != nested.cols {
            let why = format!("a function from {} to {} columns has no divergence", self.cols(inputs[0])?, nested.cols);
            return Err(Error::shape("value_and_divergence", why));
        }
        let outputs = self.push(nested, inputs)?;
        Ok((outputs[0], outputs[1]))
    }

    fn nested(
        &self,
        name: &'static str,
        product: Product,
        inputs: &[Var],
        record: impl FnOnce(&mut Graph<T>, &[Var]) -> Result<Var, Error>,
    ) -> Result<Nested<T>, Error> {
        if inputs.is_empty() || inputs.len() >= MAX_ARITY {
            let why = format!("{} inputs, 1 to {} are possible", inputs.len(), MAX_ARITY - 1);
            return Err(Error::shape(name, why));
        }
        let mut inner = Graph::new();
        let widths = inputs.iter().map(|&v| self.cols(v)).collect::<Result<Vec<_>, _>>()?;
        let own = widths.iter().map(|&cols| inner.input("x", cols)).collect::<Result<Vec<_>, _>>()?;
        let output = record(&mut inner, &own)?;
        if !inner.noise.is_empty() {
            return Err(Error::shape(name, "the function draws noise; draw it outside and pass it in"));
        }
        let cols = inner.cols(output)?;
        let program = compile(&inner, &Request::outputs(&[output]).with_input_gradients(&own[..1]))?;
        Ok(Nested { program, product, cols })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::nn::Mlp;
    use crate::ops::elementwise::Activation;
    use crate::plan::Vjp;
    use crate::rng::{Noise, NoiseId};
    use crate::store::{Layout, Store, Weights};

    fn normal(rows: usize, cols: usize, id: u32) -> Vec<f64> {
        let mut table = vec![0.0; rows * cols];
        Noise { seed: 9, step: 0, id: NoiseId(id) }.fill_normal(0, cols, &mut table);
        table
    }

    /// A network from 3 + 2 to 3 columns.
    fn net() -> (Mlp, Store<f64>) {
        let mut layout = Layout::new();
        let net = Mlp::new(&mut layout.scope("net"), 5, &[7], 3, Activation::Tanh).unwrap();
        (net, Store::new(layout, 4))
    }

    /// eᵢᵀ J by a plan of its own, for all i.
    fn rows_of_jacobian(net: &Mlp, store: &Store<f64>, rows: usize, x: &[f64], c: &[f64]) -> Vec<Vec<f64>> {
        let mut graph = Graph::new();
        let (x_var, c_var) = (graph.input("x", 3).unwrap(), graph.input("c", 2).unwrap());
        let y = net.forward(&mut graph, &[x_var, c_var]).unwrap();
        let request = Request::outputs(&[y]).with_input_gradients(&[x_var]);
        let mut plan = graph.compile(&Device::cpu_with_threads(1), &request).unwrap();
        let mut pull = |i: usize| {
            let seed: Vec<f64> = (0..rows * 3).map(|k| if k % 3 == i { 1.0 } else { 0.0 }).collect();
            let mut gradient = vec![0.0; rows * 3];
            let mut vjp = Vjp {
                seeds: &[&seed],
                outputs: &mut [],
                input_gradients: &mut [&mut gradient],
                parameter_gradient: &mut [],
            };
            let feeds = [Feed::Rows(x), Feed::Rows(c)];
            plan.vjp(store.weights(Weights::Raw), rows, &feeds, &mut vjp).unwrap();
            gradient
        };
        (0..3).map(&mut pull).collect()
    }

    #[test]
    fn products_with_the_jacobian_are_those_of_a_plan_with_seeds() {
        let (net, store) = net();
        for rows in [1, 13, 300] {
            let (x, c, v) = (normal(rows, 3, 0), normal(rows, 2, 1), normal(rows, 3, 2));
            let mut graph = Graph::new();
            let vars = [graph.input("x", 3).unwrap(), graph.input("c", 2).unwrap()];
            let v_var = graph.input("v", 3).unwrap();
            let record = |g: &mut Graph<f64>, x: &[Var]| net.forward(g, x);
            let (y, pulled) = graph.value_and_vjp(&vars, v_var, record).unwrap();
            let (again, trace) = graph.value_and_divergence(&vars, record).unwrap();
            let plain = net.forward(&mut graph, &vars).unwrap();
            let outputs = [y, pulled, again, trace, plain];
            let mut plan = graph.compile(&Device::cpu_with_threads(2), &Request::outputs(&outputs)).unwrap();
            let mut results = [3, 3, 3, 1, 3].map(|cols| vec![0.0; rows * cols]);
            let mut slices = results.each_mut().map(|r| &mut r[..]);
            let feeds = [Feed::Rows(&x), Feed::Rows(&c), Feed::Rows(&v)];
            plan.forward(store.weights(Weights::Raw), rows, &feeds, &mut slices).unwrap();

            let jacobian = rows_of_jacobian(&net, &store, rows, &x, &c);
            assert!(results[0] == results[4] && results[2] == results[4], "the value is the function's");
            for r in 0..rows {
                let trace: f64 = (0..3).map(|i| jacobian[i][r * 3 + i]).sum();
                assert!((results[3][r] - trace).abs() < 1e-12);
                for j in 0..3 {
                    let sum: f64 = (0..3).map(|i| v[r * 3 + i] * jacobian[i][r * 3 + j]).sum();
                    assert!((results[1][r * 3 + j] - sum).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn a_second_derivative_is_refused_and_so_is_noise_inside() {
        let mut graph = Graph::<f64>::new();
        let x = graph.input("x", 2).unwrap();
        let (_, gradient) = graph.value_and_gradient(&[x], |g, x| g.normal_log_density(x[0])).unwrap();
        let sum = graph.sum_cols(gradient).unwrap();
        let request = Request::outputs(&[sum]).with_input_gradients(&[x]);
        let error = graph.compile(&Device::cpu_with_threads(1), &request).unwrap_err();
        assert!(error.to_string().contains("has no derivative"), "{error}");
        let noisy = graph.value_and_gradient(&[x], |g, x| {
            let noise = g.normal(2)?;
            let y = g.add(x[0], noise)?;
            g.normal_log_density(y)
        });
        assert!(noisy.is_err());
    }
}
