//! Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011) on any log-density that can be differentiated.
//!
//! A trajectory of leapfrog steps and its Metropolis decision are one replayed plan. The decision is exact, so a gradient
//! that is only nearly that of the density (a difference quotient) costs acceptance, not correctness: leapfrog steps
//! along any field of q are reversible and keep volume.

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::ops::function::Twin;
use crate::plan::{Batch, Plan, Request};
use crate::real::Real;
use crate::sample::step_sizes::{StepSizes, Update};
use crate::sample::{Draws, LogDensity, Sampler, Transition};
use crate::store::Vector;

/// Settings of Hamiltonian Monte Carlo.
///
/// Each chain finds a step size of its own in the warm-up, by dual averaging towards the target acceptance (Hoffman &
/// Gelman 2014, 3.2), and keeps it from then on.
///
/// Between the trajectories a chain may jump: a draw of N(0, I), accepted with the ratio of the two weights p / N(0, I)
/// (Metropolised independence sampling; Tierney 1994). Where the density is one of standardised columns and few
/// dimensions, that carries chains between modes which no trajectory connects.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Hmc {
    /// Leapfrog steps of a trajectory.
    pub leapfrog: usize,
    /// Step size at the start.
    pub step: f64,
    /// Acceptance that the step size aims at.
    pub target: f64,
    /// Trajectories in which the step size is found.
    pub warm_up: usize,
    /// Trajectories after that.
    pub trajectories: usize,
    /// Draws of N(0, I) proposed to a chain before each trajectory.
    pub jumps: usize,
    /// Draws of N(0, I) that a chain of a [`Sampler`] has been proposed before its first trajectory, so that every mode
    /// gets its share of chains.
    pub candidates: usize,
}

impl Default for Hmc {
    fn default() -> Self {
        Self { leapfrog: 8, step: 0.1, target: 0.8, warm_up: 60, trajectories: 20, jumps: 1, candidates: 64 }
    }
}

impl Hmc {
    /// Compiles a trajectory for a log-density.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings that cannot be; what recording the density says.
    pub fn compile<T: Real>(
        &self,
        device: &Device,
        density: &(impl LogDensity<T> + ?Sized),
    ) -> Result<HmcChains<T>, Error> {
        let positive = [("leapfrog", self.leapfrog), ("candidates", self.candidates)];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::parameter(*name, "0 must be at least 1"));
        }
        if !(self.step > 0.0 && self.step.is_finite() && self.target > 0.0 && self.target < 1.0) {
            let why = format!("step {} must be positive, target {} between 0 and 1", self.step, self.target);
            return Err(Error::parameter("hmc", why));
        }
        let plans = Recorder { density, dim: density.dim() };
        let dim = density.dim();
        let trajectory = plans.compile(device, |recorder, graph, state, step, context| {
            recorder.trajectory(graph, state, step, context, self.leapfrog)
        })?;
        let start = plans.compile(device, |recorder, graph, state, _, context| {
            let q = graph.select(state, &(0..dim).collect::<Vec<_>>())?;
            let (ln_p, gradient) = recorder.value_and_gradient(graph, q, context)?;
            let accepted = graph.constant(0.0, 1)?;
            graph.concat(&[q, gradient, ln_p, accepted])
        })?;
        let jump = plans.compile(device, |recorder, graph, state, _, context| recorder.jump(graph, state, context))?;
        Ok(HmcChains {
            settings: *self,
            dim,
            trajectory,
            start,
            jump,
            state: Vec::new().into(),
            next: Vec::new().into(),
            context: Vec::new().into(),
            context_cols: density.context(),
            sizes: StepSizes::new(device),
            replays: 0,
        })
    }

    /// How many steps of the noise a call takes.
    pub(crate) fn noise_steps(&self) -> u32 {
        (2 + self.candidates + (self.warm_up + self.trajectories) * (1 + self.jumps)) as u32
    }
}

/// A chain's state is a row: q, the gradient, the log-density, the acceptance of the last trajectory.
struct Recorder<'a, D: ?Sized> {
    density: &'a D,
    dim: usize,
}

impl<D: ?Sized> Recorder<'_, D> {
    fn compile<T: Real>(
        &self,
        device: &Device,
        record: impl FnOnce(&Self, &mut Graph<T>, Var, Var, &[Var]) -> Result<Var, Error>,
    ) -> Result<Plan<T>, Error>
    where
        D: LogDensity<T>,
    {
        let mut graph = Graph::new();
        let (state, step) = (graph.input("state", 2 * self.dim + 2)?, graph.input("step", 1)?);
        let cols = self.density.context();
        let context = if cols == 0 { Vec::new() } else { vec![graph.input("context", cols)?] };
        let next = record(self, &mut graph, state, step, &context)?;
        graph.compile(device, &Request::outputs(&[next]))
    }

    fn value_and_gradient<T: Real>(&self, graph: &mut Graph<T>, q: Var, context: &[Var]) -> Result<(Var, Var), Error>
    where
        D: LogDensity<T>,
    {
        let inputs: Vec<Var> = [q].iter().chain(context).copied().collect();
        graph.value_and_gradient(&inputs, |graph, own| self.density.log_density(graph, own[0], &own[1..]))
    }

    fn trajectory<T: Real>(
        &self,
        graph: &mut Graph<T>,
        state: Var,
        step: Var,
        context: &[Var],
        leapfrog: usize,
    ) -> Result<Var, Error>
    where
        D: LogDensity<T>,
    {
        let dim = self.dim;
        let columns: Vec<usize> = (0..2 * dim).collect();
        let (one, half) = (graph.constant(1.0, 1)?, graph.scale(step, 0.5)?);
        let (whole, half) = (graph.concat(&[one, step])?, graph.concat(&[one, half])?);
        let (mut q, mut gradient) = (graph.select(state, &columns[..dim])?, graph.select(state, &columns[dim..])?);
        let mut ln_p = graph.select(state, &[2 * dim])?;
        let start = graph.normal(dim)?;
        let mut p = graph.combine(&[start, gradient], half)?;
        for i in 0..leapfrog {
            q = graph.combine(&[q, p], whole)?;
            (ln_p, gradient) = self.value_and_gradient(graph, q, context)?;
            p = graph.combine(&[p, gradient], if i + 1 == leapfrog { half } else { whole })?;
        }
        let (u, no_decision) = (graph.uniform(1)?, graph.constant(0.0, 1)?);
        let proposal = graph.concat(&[q, gradient, ln_p, no_decision])?;
        let (inputs, twin) = ([state, proposal, start, p, u], self.twin("hmc_trajectory"));
        graph.function_with_twin(&inputs, 2 * dim + 2, twin, move |row, next| {
            let [state, proposal, p, p_end, u] = [row[0], row[1], row[2], row[3], row[4]];
            let kinetic = |p: &[T]| 0.5 * p.iter().map(|p| p.to_f64().powi(2)).sum::<f64>();
            let energy = |state: &[T], p: &[T]| kinetic(p) - state[2 * dim].to_f64();
            let gain = energy(state, p) - energy(proposal, p_end);
            let sound = gain.is_finite() && proposal.iter().all(|v| v.is_finite());
            let acceptance = if sound { gain.min(0.0).exp() } else { 0.0 };
            next.copy_from_slice(if u[0].to_f64() < acceptance { proposal } else { state });
            next[2 * dim + 1] = T::from_f64(acceptance);
        })
    }

    /// A decision's kernel.
    fn twin(&self, name: &'static str) -> Twin {
        Twin { kernel: ("hmc", name), numbers: vec![self.dim as f64], team: 2 * self.dim + 2 }
    }

    /// Keeps the state, or takes a draw of N(0, I) in its place. A state without a density gives way to any other.
    fn jump<T: Real>(&self, graph: &mut Graph<T>, state: Var, context: &[Var]) -> Result<Var, Error>
    where
        D: LogDensity<T>,
    {
        let dim = self.dim;
        let (here, there) = (graph.select(state, &(0..dim).collect::<Vec<_>>())?, graph.normal(dim)?);
        let [base_here, base_there] = [graph.normal_log_density(here)?, graph.normal_log_density(there)?];
        let (ln_p, gradient) = self.value_and_gradient(graph, there, context)?;
        let (u, acceptance) = (graph.uniform(1)?, graph.select(state, &[2 * dim + 1])?);
        let proposal = graph.concat(&[there, gradient, ln_p, acceptance])?;
        let (inputs, twin) = ([state, proposal, base_here, base_there, u], self.twin("hmc_jump"));
        graph.function_with_twin(&inputs, 2 * dim + 2, twin, move |row, next| {
            let [state, proposal, base_here, base_there, u] = [row[0], row[1], row[2], row[3], row[4]];
            let ln_weight = |state: &[T], base: &[T]| state[2 * dim].to_f64() - base[0].to_f64();
            let gain = ln_weight(proposal, base_there) - ln_weight(state, base_here);
            let stays = u[0].to_f64() >= gain.exp() || !proposal.iter().all(|v| v.is_finite());
            next.copy_from_slice(if stays { state } else { proposal });
        })
    }
}

/// Compiled chains. On a device they stay there from the start to the end of a call.
#[derive(Debug)]
pub struct HmcChains<T> {
    settings: Hmc,
    dim: usize,
    trajectory: Plan<T>,
    start: Plan<T>,
    jump: Plan<T>,
    state: Vector<T>,
    next: Vector<T>,
    /// `[rows x context_cols]`
    context: Vector<T>,
    context_cols: usize,
    sizes: StepSizes<T>,
    /// Of this call: each takes a step of the noise of its own.
    replays: u32,
}

/// What a replay does.
#[derive(Clone, Copy)]
enum Move {
    Start,
    Jump,
    Trajectory,
}

impl<T: Real> HmcChains<T> {
    /// Acceptance probability of each chain's last trajectory, and its step size.
    pub fn chains(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let width = 2 * self.dim + 2;
        let acceptance = self.state.chunks_exact(width).map(move |state| state[width - 1].to_f64());
        acceptance.zip(self.sizes.steps().iter().map(|step| step.to_f64()))
    }

    /// The step size with which the next call starts.
    pub(crate) fn set_step(&mut self, step: f64) {
        self.settings.step = step;
    }

    fn replay(&mut self, which: Move, draws: &Draws<'_, T>) -> Result<(), Error> {
        // Step 0 of the noise is the start's.
        self.replays += 1;
        let batch = Batch::with_noise(draws.rows, draws.noise.at(draws.noise.step + self.replays));
        let plan = match which {
            Move::Start => &mut self.start,
            Move::Jump => &mut self.jump,
            Move::Trajectory => &mut self.trajectory,
        };
        let inputs = [&self.state, self.sizes.steps(), &self.context];
        let inputs = &inputs[..2 + usize::from(self.context_cols > 0)];
        plan.forward_vectors(draws.weights, batch, inputs, &mut self.next)?;
        std::mem::swap(&mut self.state, &mut self.next);
        Ok(())
    }

    /// Puts the chains at `x` and evaluates them.
    fn begin(&mut self, draws: &Draws<'_, T>, x: &[T]) -> Result<(), Error> {
        let width = 2 * self.dim + 2;
        check_length("elements of the chains (rows x columns)", draws.rows * self.dim, x.len())?;
        check_length("contexts (one, or none)", usize::from(self.context_cols > 0), draws.context.len())?;
        if let Some(feed) = draws.context.first() {
            feed.check(draws.rows, self.context_cols)?;
            let context = self.context.renew(draws.rows * self.context_cols);
            feed.copy_rows(0..draws.rows, self.context_cols, context);
        }
        self.replays = 0;
        self.sizes.restart(draws.rows, self.settings.step);
        let state = self.state.renew(draws.rows * width);
        state.fill(T::ZERO);
        for (state, x) in state.chunks_exact_mut(width).zip(x.chunks_exact(self.dim)) {
            state[..self.dim].copy_from_slice(x);
        }
        self.next.resize(draws.rows * width);
        self.replay(Move::Start, draws)
    }

    /// Warm-up, then the settings' trajectories.
    fn run(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        let Hmc { target, warm_up, trajectories, jumps, .. } = self.settings;
        let (width, all) = (2 * self.dim + 2, warm_up + trajectories);
        if let Some(chain) = self.state.chunks_exact(width).position(|state| !state.iter().all(|v| v.is_finite())) {
            let why = "the log-density or its gradient is not finite where the chain starts";
            return Err(Error::Sampling { step: 1, chain, why: why.into() });
        }
        for i in 0..all {
            draws.watch.at(draws.rows, i, all)?;
            for _ in 0..jumps {
                self.replay(Move::Jump, draws)?;
            }
            self.replay(Move::Trajectory, draws)?;
            if i < warm_up {
                self.sizes.adapt(&self.state, width, Update { target, m: i + 1, last: i + 1 == warm_up })?;
            }
        }
        for (x, state) in x.chunks_exact_mut(self.dim).zip(self.state.chunks_exact(width)) {
            x.copy_from_slice(&state[..self.dim]);
        }
        Ok(())
    }
}

impl<T: Real> Transition<T> for HmcChains<T> {
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        self.begin(draws, x)?;
        self.run(draws, x)
    }
}

impl<T: Real> Sampler<T> for HmcChains<T> {
    /// A chain for each draw: the draws are independent.
    fn sample(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        draws.fill_normal(1.0, x)?;
        self.begin(draws, x)?;
        for _ in 1..self.settings.candidates {
            draws.watch.at(draws.rows, 0, 1)?;
            self.replay(Move::Jump, draws)?;
        }
        self.run(draws, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Watch;
    use crate::sample::LogDensityFn;

    /// (means, covariance) of two columns
    fn moments(x: &[f64]) -> ([f64; 2], [f64; 3]) {
        let n = (x.len() / 2) as f64;
        let mean = [0, 1].map(|c| x.chunks(2).map(|x| x[c]).sum::<f64>() / n);
        let product = |a: usize, b: usize| x.chunks(2).map(|x| (x[a] - mean[a]) * (x[b] - mean[b])).sum::<f64>() / n;
        (mean, [product(0, 0), product(0, 1), product(1, 1)])
    }

    /// N((1, -2), ((1, ρ s), (ρ s, s²)))
    fn correlated(s: f64, rho: f64) -> LogDensityFn<f64> {
        LogDensityFn::new(2, move |x: &[f64], gradient: &mut [f64]| {
            let (a, b, k) = (x[0] - 1.0, (x[1] + 2.0) / s, 1.0 / (1.0 - rho * rho));
            gradient.copy_from_slice(&[-k * (a - rho * b), -k * (b - rho * a) / s]);
            -0.5 * k * (a * a - 2.0 * rho * a * b + b * b)
        })
    }

    #[test]
    fn a_correlated_gaussian_is_sampled_whatever_the_first_step() {
        for step in [1e-3, 0.1, 50.0] {
            let (s, rho, rows) = (0.3, 0.8, 4000);
            let settings = Hmc { step, warm_up: 80, trajectories: 30, ..Hmc::default() };
            let mut chains = settings.compile(&Device::cpu(), &correlated(s, rho)).unwrap();
            let mut x = vec![0.0; 2 * rows];
            chains.sample(&Draws::new(rows, &3, &Watch::default()), &mut x).unwrap();
            let (mean, covariance) = moments(&x);
            let error = 4.0 / (rows as f64).sqrt();
            assert!((mean[0] - 1.0).abs() < error && (mean[1] + 2.0).abs() < s * error, "step {step}: {mean:?}");
            let expected = [1.0, rho * s, s * s];
            for (found, expected) in covariance.iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1.6 * error, "step {step}: {covariance:?}");
            }
            let (acceptance, _): (Vec<_>, Vec<_>) = chains.chains().unzip();
            let mean = acceptance.iter().sum::<f64>() / rows as f64;
            assert!((0.6..0.98).contains(&mean), "step {step}: acceptance {mean}");
        }
    }

    #[test]
    fn modes_get_their_shares_of_the_chains() {
        // 0.3 N(-2, 0.1²) + 0.7 N(2, 0.1²)
        let density = LogDensityFn::new(1, |x: &[f64], gradient: &mut [f64]| {
            let part = |w: f64, m: f64| w.ln() - (x[0] - m).powi(2) / 0.02;
            let (a, b) = (part(0.3, -2.0), part(0.7, 2.0));
            let top = a.max(b);
            let (ea, eb) = ((a - top).exp(), (b - top).exp());
            gradient[0] = -(ea * (x[0] + 2.0) + eb * (x[0] - 2.0)) / (0.01 * (ea + eb));
            top + (ea + eb).ln()
        });
        let rows = 3000;
        let mut chains = Hmc { candidates: 500, ..Hmc::default() }.compile(&Device::cpu(), &density).unwrap();
        let mut x = vec![0.0; rows];
        chains.sample(&Draws::new(rows, &3, &Watch::default()), &mut x).unwrap();
        let right = x.iter().filter(|&&x| x > 0.0).count() as f64 / rows as f64;
        assert!((right - 0.7).abs() < 4.0 * (0.21 / rows as f64).sqrt(), "{right}");
    }

    #[test]
    fn chains_do_not_depend_on_batch_mates_or_threads_and_a_bad_start_is_named() {
        let density = correlated(0.5, 0.3);
        let run = |threads: usize, rows: usize| {
            let mut chains = Hmc::default().compile(&Device::cpu_with_threads(threads), &density).unwrap();
            let mut x = vec![0.0; 2 * rows];
            chains.sample(&Draws::new(rows, &3, &Watch::default()), &mut x).unwrap();
            x
        };
        let all = run(1, 300);
        assert_eq!(run(2, 300), all);
        assert_eq!(run(2, 7), all[..14]);
        let mut chains = Hmc::default().compile(&Device::cpu(), &density).unwrap();
        let mut x = [0.0, 0.0, 0.0, f64::NAN];
        let error = chains.advance(&Draws::new(2, &3, &Watch::default()), &mut x).unwrap_err();
        assert!(matches!(error, Error::Sampling { chain: 1, .. }), "{error}");
    }
}
