//! Flows integrated to a tolerance, each row with steps of its own, and the likelihood that comes with them.
//!
//! The pair of orders 5 and 4 of Dormand & Prince (1980), with step control as in Hairer, Nørsett & Wanner, *Solving
//! Ordinary Differential Equations I*, II.4. Rows that have arrived take no further part.
//!
//! Along $dx/dt = v(x, t)$ the density obeys $d \ln p / dt = -\nabla \cdot v$ (Chen et al. 2018), so
//! $\ln p_0(x_0) = \ln p_1(x_1) + \int_0^1 \nabla \cdot v\, dt$.

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::plan::{Feed, Plan, Request};
use crate::real::Real;
use crate::rng::{Distribution, NoiseId};
use crate::sample::{Draws, Transition, Velocity};

/// Nodes c, and the coefficients a of the stages, the last of which is the step of order 5.
const NODES: [f64; 7] = [0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0, 1.0];
const STAGES: [&[f64]; 6] = [
    &[0.2],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];
/// Order 5 minus order 4.
const ERROR: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0];

/// How a flow is integrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ode {
    /// Time at which the rows start.
    pub start: f64,
    /// Time at which they end; it may be the earlier one.
    pub end: f64,
    /// Error of a step that is tolerated, relative to the state.
    pub relative: f64,
    /// And the absolute one.
    pub absolute: f64,
    /// The most steps of a row, rejected ones included.
    pub max_steps: usize,
}

impl Ode {
    /// Tolerances 1e-5 both, as in `score_sde`, and 10 000 steps at most.
    pub fn new(start: f64, end: f64) -> Self {
        Self { start, end, relative: 1e-5, absolute: 1e-5, max_steps: 10_000 }
    }

    /// Compiles the velocity.
    ///
    /// # Errors
    /// [`Error::Parameter`] for times or tolerances that cannot be; what recording the velocity says.
    pub fn compile<T: Real>(
        &self,
        device: &Device,
        velocity: &(impl Velocity<T> + ?Sized),
    ) -> Result<OdeFlow<T>, Error> {
        let mut graph = Graph::new();
        let (x, t) = (graph.input("x", velocity.dim())?, graph.input("t", 1)?);
        let context = context_inputs(&mut graph, velocity.context())?;
        let v = velocity.velocity(&mut graph, x, t, &context)?;
        let plan = graph.compile(device, &Request::outputs(&[v]).with_common_inputs(&context))?;
        OdeFlow::new(*self, plan, (velocity.dim(), velocity.context()), Extra::Nothing)
    }

    /// Compiles the velocity with its divergence.
    ///
    /// # Errors
    /// As [`Ode::compile`].
    pub fn compile_log_likelihood<T: Real>(
        &self,
        device: &Device,
        velocity: &(impl Velocity<T> + ?Sized),
        trace: Trace,
    ) -> Result<LogLikelihood<T>, Error> {
        let (dim, cols) = (velocity.dim(), velocity.context());
        let mut graph = Graph::new();
        let (x, t) = (graph.input("x", dim)?, graph.input("t", 1)?);
        let context = context_inputs(&mut graph, cols)?;
        let inputs: Vec<_> = [x, t].iter().chain(&context).copied().collect();
        let record = |graph: &mut Graph<T>, own: &[_]| velocity.velocity(graph, own[0], own[1], &own[2..]);
        let (v, divergence) = match trace {
            Trace::Exact => graph.value_and_divergence(&inputs, record)?,
            Trace::Hutchinson => {
                let probe = graph.input("probe", dim)?;
                let (v, product) = graph.value_and_vjp(&inputs, probe, record)?;
                let diagonal = graph.mul(product, probe)?;
                (v, graph.sum_cols(diagonal)?)
            }
        };
        let rates = graph.concat(&[v, divergence])?;
        let plan = graph.compile(device, &Request::outputs(&[rates]))?;
        let extra = match trace {
            Trace::Exact => Extra::Divergence,
            Trace::Hutchinson => Extra::Estimate(Vec::new()),
        };
        Ok(LogLikelihood { flow: OdeFlow::new(*self, plan, (dim, cols), extra)?, state: Vec::new() })
    }

    fn check(&self) -> Result<(), Error> {
        let rules = [
            ("start", self.start, self.start.is_finite()),
            ("end", self.end, self.end.is_finite() && self.end != self.start),
            ("relative", self.relative, self.relative >= 0.0 && self.relative.is_finite()),
            ("absolute", self.absolute, self.absolute > 0.0 && self.absolute.is_finite()),
        ];
        match rules.iter().find(|(.., holds)| !holds) {
            Some((name, value, _)) => Err(Error::parameter(*name, format!("{value} cannot be"))),
            None => Ok(()),
        }
    }
}

fn context_inputs<T: Real>(graph: &mut Graph<T>, cols: usize) -> Result<Vec<Var>, Error> {
    if cols == 0 { Ok(Vec::new()) } else { Ok(vec![graph.input("context", cols)?]) }
}

/// How the divergence of the velocity is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Trace {
    /// Exactly, by one vector-Jacobian product for each column.
    #[default]
    Exact,
    /// Unbiased, by a single one with random signs, the same all along a row's way (Hutchinson 1990; Grathwohl et al.
    /// 2019).
    Hutchinson,
}

/// What is integrated beside x.
#[derive(Debug)]
enum Extra<T> {
    Nothing,
    /// The divergence, as one more column of the state.
    Divergence,
    /// Its estimate by these random signs, `[rows x dim]`.
    Estimate(Vec<T>),
}

/// A flow ready to be integrated.
#[derive(Debug)]
pub struct OdeFlow<T> {
    settings: Ode,
    plan: Plan<T>,
    /// Width of x, and of the context.
    dim: usize,
    context: usize,
    extra: Extra<T>,
}

/// The rows on their way: what only one of them needs, and what all of them share.
struct Journey<'a, T> {
    draws: &'a Draws<'a, T>,
    /// Rows that have not arrived.
    active: Vec<u32>,
    /// Of each row of the batch: time and next step.
    time: Vec<f64>,
    step: Vec<f64>,
    /// The context of each row of the batch.
    context: Vec<T>,
    /// Rates of the active rows at each stage.
    rates: [Vec<T>; 7],
    stage: Vec<T>,
    stage_time: Vec<T>,
    /// One row's state after its step.
    next: Vec<f64>,
}

impl<T: Real> OdeFlow<T> {
    fn new(settings: Ode, plan: Plan<T>, (dim, context): (usize, usize), extra: Extra<T>) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings, plan, dim, context, extra })
    }

    /// Width of the state.
    fn cols(&self) -> usize {
        self.dim + usize::from(!matches!(self.extra, Extra::Nothing))
    }

    fn integrate(&mut self, draws: &Draws<'_, T>, y: &mut [T]) -> Result<(), Error> {
        check_length("elements of the state (rows x columns)", draws.rows * self.cols(), y.len())?;
        let Ode { start, end, .. } = self.settings;
        let mut journey = Journey {
            draws,
            active: (0..draws.rows as u32).collect(),
            time: vec![start; draws.rows],
            step: vec![0.01 * (end - start); draws.rows],
            context: gather_context(draws, self.context)?,
            rates: Default::default(),
            stage: Vec::new(),
            stage_time: Vec::new(),
            next: vec![0.0; self.cols()],
        };
        #[cfg(feature = "cuda")]
        {
            let probe = if let Extra::Estimate(probe) = &self.extra { &probe[..] } else { &[] };
            self.plan.keep_tables(draws.rows, [&journey.context[..], probe].into_iter())?;
        }
        let outcome = self.travel(&mut journey, y);
        // The tables are only borrowed.
        #[cfg(feature = "cuda")]
        self.plan.keep_tables(0, std::iter::empty())?;
        outcome
    }

    /// Steps until all rows have arrived.
    fn travel(&mut self, journey: &mut Journey<'_, T>, y: &mut [T]) -> Result<(), Error> {
        let (Ode { end, max_steps, .. }, draws) = (self.settings, journey.draws);
        for step in 0..max_steps {
            if journey.active.is_empty() {
                return Ok(());
            }
            draws.watch.at(draws.rows, draws.rows - journey.active.len(), draws.rows)?;
            for stage in 0..7 {
                self.rate(journey, stage, y)?;
            }
            self.accept(journey, step, y)?;
        }
        match journey.active.first() {
            None => Ok(()),
            Some(&chain) => {
                let why = format!("not at time {end} but at {} after {max_steps} steps", journey.time[chain as usize]);
                Err(Error::Sampling { step: max_steps, chain: chain as usize, why })
            }
        }
    }

    /// Rates of all active rows at one stage of their steps.
    fn rate(&mut self, journey: &mut Journey<'_, T>, stage: usize, y: &[T]) -> Result<(), Error> {
        let (dim, cols, count) = (self.dim, self.cols(), journey.active.len());
        let (before, now) = journey.rates.split_at_mut(stage);
        journey.stage.clear();
        journey.stage_time.clear();
        for (i, &row) in journey.active.iter().enumerate() {
            let row = row as usize;
            let h = journey.step[row];
            journey.stage_time.push(T::from_f64(journey.time[row] + NODES[stage] * h));
            for c in 0..dim {
                let weights = if stage == 0 { &[] } else { STAGES[stage - 1] };
                let sum = weights.iter().zip(&*before).map(|(a, k)| a * k[i * cols + c].to_f64()).sum::<f64>();
                journey.stage.push(T::from_f64(y[row * cols + c].to_f64() + h * sum));
            }
        }
        let (mut feeds, mut used) =
            ([Feed::Rows(&journey.stage), Feed::Rows(&journey.stage_time), Feed::Rows(&[]), Feed::Rows(&[])], 2);
        if self.context > 0 {
            feeds[used] = Feed::Gather(&journey.context, &journey.active);
            used += 1;
        }
        if let Extra::Estimate(probe) = &self.extra {
            feeds[used] = Feed::Gather(probe, &journey.active);
            used += 1;
        }
        now[0].resize(count * cols, T::ZERO);
        self.plan.forward(journey.draws.weights, count, &feeds[..used], &mut [&mut now[0]])
    }

    /// Takes the steps whose error is tolerated, and chooses the next ones.
    fn accept(&self, journey: &mut Journey<'_, T>, step: usize, y: &mut [T]) -> Result<(), Error> {
        let Ode { start, end, relative, absolute, .. } = self.settings;
        let (cols, forward) = (self.cols(), (end - start).signum());
        let (next, rates) = (&mut journey.next, &journey.rates);
        for (i, &row) in journey.active.iter().enumerate() {
            let row = row as usize;
            let (state, h) = (&mut y[row * cols..][..cols], journey.step[row]);
            let mut squares = 0.0;
            for c in 0..cols {
                let sum =
                    |weights: &[f64]| weights.iter().zip(rates).map(|(a, k)| a * k[i * cols + c].to_f64()).sum::<f64>();
                let now = state[c].to_f64();
                next[c] = now + h * sum(STAGES[5]);
                let tolerated = absolute + relative * now.abs().max(next[c].abs());
                squares += (h * sum(&ERROR) / tolerated).powi(2);
            }
            let error = (squares / cols as f64).sqrt();
            if error <= 1.0 {
                journey.time[row] += h;
                state.iter_mut().zip(&*next).for_each(|(y, &v)| *y = T::from_f64(v));
            }
            // A step that leads out of the numbers is retried much smaller.
            let factor = if error.is_finite() { (0.9 * error.powf(-0.2)).clamp(0.2, 5.0) } else { 0.1 };
            let left = end - journey.time[row];
            journey.step[row] = if (h * factor).abs() < left.abs() { h * factor } else { left };
            if left * forward <= 0.0 {
                // Arrived.
                journey.step[row] = 0.0;
            } else if journey.step[row].abs() < 1e-12 * (end - start).abs() && journey.step[row] != left {
                let why = format!("the step at time {} shrank to nothing; the velocity may not be finite", end - left);
                return Err(Error::Sampling { step: step + 1, chain: row, why });
            }
        }
        journey.active.retain(|&row| journey.step[row as usize] != 0.0);
        Ok(())
    }
}

/// The context of each row, `[rows x cols]`.
fn gather_context<T: Real>(draws: &Draws<'_, T>, cols: usize) -> Result<Vec<T>, Error> {
    check_length("contexts", usize::from(cols > 0), draws.context.len())?;
    let mut table = vec![T::ZERO; draws.rows * cols];
    if let Some(feed) = draws.context.first() {
        feed.check(draws.rows, cols)?;
        feed.copy_rows(0..draws.rows, cols, &mut table);
    }
    Ok(table)
}

impl<T: Real> Transition<T> for OdeFlow<T> {
    fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T]) -> Result<(), Error> {
        self.integrate(draws, x)
    }
}

/// A flow ready to be integrated together with its divergence.
#[derive(Debug)]
pub struct LogLikelihood<T> {
    flow: OdeFlow<T>,
    state: Vec<T>,
}

impl<T: Real> LogLikelihood<T> {
    /// Moves `x`, `[rows x dim]`, along the flow and fills `ln_det`, `[rows]`, with ∫ ∇·v dt, which is ln |det| of the
    /// Jacobian of the end with respect to the start: ln p(start) = ln p(end) + ln_det.
    ///
    /// # Errors
    /// As [`Transition::advance`].
    pub fn advance(&mut self, draws: &Draws<'_, T>, x: &mut [T], ln_det: &mut [T]) -> Result<(), Error> {
        let dim = self.flow.dim;
        check_length("log-determinants (one for each row)", draws.rows, ln_det.len())?;
        check_length("elements of x (rows x columns)", draws.rows * dim, x.len())?;
        if let Extra::Estimate(probe) = &mut self.flow.extra {
            draws.noise.check(draws.rows)?;
            probe.resize(draws.rows * dim, T::ZERO);
            draws.noise.fill(Distribution::Normal, NoiseId(0), 0..draws.rows, probe);
            probe.iter_mut().for_each(|p| *p = T::ONE.copysign(*p));
        }
        self.state.clear();
        for x in x.chunks_exact(dim) {
            self.state.extend_from_slice(x);
            self.state.push(T::ZERO);
        }
        let mut state = std::mem::take(&mut self.state);
        let outcome = self.flow.integrate(draws, &mut state);
        for ((x, l), y) in x.chunks_exact_mut(dim).zip(ln_det).zip(state.chunks_exact(dim + 1)) {
            x.copy_from_slice(&y[..dim]);
            *l = y[dim];
        }
        self.state = state;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise_schedule::NoiseSchedule;
    use crate::progress::Watch;
    use crate::sample::{Heun, ProbabilityFlow, ScoreFn};

    /// The score of N(m, v) data under a schedule: N(α m, α² v + σ²).
    fn score(schedule: NoiseSchedule, m: [f64; 2], v: [f64; 2]) -> ScoreFn<f64> {
        ScoreFn::new(2, move |x: &[f64], t, s: &mut [f64]| {
            let (a, sigma) = (schedule.alpha(t), schedule.sigma(t));
            (0..2).for_each(|i| s[i] = -(x[i] - a * m[i]) / (a * a * v[i] + sigma * sigma));
        })
    }

    const M: [f64; 2] = [0.7, -1.2];
    const V: [f64; 2] = [0.3, 2.0];

    /// The exact flow of a Gaussian: it keeps (x - α m) / sd.
    fn carried(schedule: NoiseSchedule, x: [f64; 2], from: f64, to: f64) -> [f64; 2] {
        let sd = |t: f64, v: f64| (schedule.alpha(t).powi(2) * v + schedule.sigma(t).powi(2)).sqrt();
        std::array::from_fn(|i| {
            schedule.alpha(to) * M[i] + (x[i] - schedule.alpha(from) * M[i]) * sd(to, V[i]) / sd(from, V[i])
        })
    }

    fn schedules() -> [NoiseSchedule; 4] {
        [
            NoiseSchedule::variance_preserving(),
            NoiseSchedule::sub_variance_preserving(),
            NoiseSchedule::variance_exploding(),
            NoiseSchedule::edm(),
        ]
    }

    #[test]
    fn the_flow_of_a_gaussian_is_the_known_one() {
        for schedule in schedules() {
            let score = score(schedule, M, V);
            let flow = ProbabilityFlow { schedule, score: &score };
            let (start, end) = (schedule.t_max(), schedule.sampling_t_min());
            let settings = Ode { relative: 1e-8, absolute: 1e-8, ..Ode::new(start, end) };
            let x: Vec<f64> = (0..26).map(|i| schedule.sigma(start) * (f64::from(i) / 13.0 - 1.0)).collect();
            let mut adaptive = x.clone();
            let watch = Watch::default();
            settings
                .compile(&Device::cpu(), &flow)
                .unwrap()
                .advance(&Draws::new(13, &1, &watch), &mut adaptive)
                .unwrap();
            let mut fixed = x.clone();
            let heun = Heun { start, end, steps: 400, rho: 7.0 };
            heun.compile(&Device::cpu(), &flow).unwrap().advance(&Draws::new(13, &1, &watch), &mut fixed).unwrap();
            for i in 0..13 {
                let exact = carried(schedule, [x[2 * i], x[2 * i + 1]], start, end);
                for c in 0..2 {
                    assert!(
                        (adaptive[2 * i + c] - exact[c]).abs() < 1e-5,
                        "{schedule:?}: {} {}",
                        adaptive[2 * i + c],
                        exact[c]
                    );
                    assert!(
                        (fixed[2 * i + c] - exact[c]).abs() < 3e-3,
                        "{schedule:?}: {} {}",
                        fixed[2 * i + c],
                        exact[c]
                    );
                }
            }
        }
    }

    /// The same flow recorded so that it can be differentiated: v_i = a_i(t) x_i + b_i(t).
    #[derive(Debug)]
    struct GaussianFlow(NoiseSchedule);

    impl Velocity<f64> for GaussianFlow {
        fn dim(&self) -> usize {
            2
        }

        fn context(&self) -> usize {
            0
        }

        fn velocity(&self, graph: &mut Graph<f64>, x: Var, t: Var, _: &[Var]) -> Result<Var, Error> {
            let schedule = self.0;
            let line = move |t: f64, i: usize| {
                let (a, sigma) = (schedule.alpha(t), schedule.sigma(t));
                let pull = 0.5 * schedule.diffusion_squared(t) / (a * a * V[i] + sigma * sigma);
                (schedule.drift(t) + pull, -pull * a * M[i])
            };
            let slope = graph.function(&[t], 2, move |t, y| (0..2).for_each(|i| y[i] = line(t[0][0], i).0))?;
            let offset = graph.function(&[t], 2, move |t, y| (0..2).for_each(|i| y[i] = line(t[0][0], i).1))?;
            let product = graph.mul(x, slope)?;
            graph.add(product, offset)
        }
    }

    #[test]
    fn the_likelihood_of_a_gaussian_is_the_known_one() {
        let normal = |x: f64, m: f64, v: f64| -0.5 * (x - m).powi(2) / v - 0.5 * (std::f64::consts::TAU * v).ln();
        let log_p = |schedule: NoiseSchedule, x: &[f64], t: f64| -> f64 {
            let (a, sigma) = (schedule.alpha(t), schedule.sigma(t));
            (0..2).map(|i| normal(x[i], a * M[i], a * a * V[i] + sigma * sigma)).sum()
        };
        for (schedule, trace) in schedules().into_iter().flat_map(|s| [(s, Trace::Exact), (s, Trace::Hutchinson)]) {
            let (start, end) = (schedule.sampling_t_min(), schedule.t_max());
            let settings = Ode { relative: 1e-9, absolute: 1e-9, ..Ode::new(start, end) };
            let mut flow = settings.compile_log_likelihood(&Device::cpu(), &GaussianFlow(schedule), trace).unwrap();
            let x: Vec<f64> = (0..34).map(|i| 0.3 * f64::from(i) - 4.0).collect();
            let (mut z, mut ln_det) = (x.clone(), vec![0.0; 17]);
            flow.advance(&Draws::new(17, &5, &Watch::default()), &mut z, &mut ln_det).unwrap();
            for i in 0..17 {
                let (x, z) = (&x[2 * i..][..2], &z[2 * i..][..2]);
                let found = log_p(schedule, z, end) + ln_det[i];
                // The Jacobian is diagonal, so that random signs give its trace without error.
                assert!((found - log_p(schedule, x, start)).abs() < 1e-6, "{schedule:?}: {found}");
            }
        }
    }

    #[test]
    fn rows_do_not_feel_each_other() {
        let schedule = NoiseSchedule::variance_preserving();
        let score = score(schedule, M, V);
        let flow = ProbabilityFlow { schedule, score: &score };
        let settings = Ode::new(schedule.t_max(), schedule.sampling_t_min());
        let run = |threads: usize, x: &[f64]| {
            let mut x = x.to_vec();
            let mut flow = settings.compile(&Device::cpu_with_threads(threads), &flow).unwrap();
            flow.advance(&Draws::new(x.len() / 2, &1, &Watch::default()), &mut x).unwrap();
            x
        };
        let x: Vec<f64> = (0..600).map(|i| f64::from(i % 17) - 8.0).collect();
        let all = run(1, &x);
        assert_eq!(run(2, &x), all);
        assert_eq!(run(1, &x[100..104]), all[100..104]);
    }

    #[test]
    fn a_velocity_without_bounds_is_an_error_that_names_the_row() {
        #[derive(Debug)]
        struct Explosion;
        impl Velocity<f64> for Explosion {
            fn dim(&self) -> usize {
                1
            }
            fn context(&self) -> usize {
                0
            }
            fn velocity(&self, graph: &mut Graph<f64>, x: Var, _: Var, _: &[Var]) -> Result<Var, Error> {
                graph.mul(x, x) // x = 1 / (1/x0 - t) has a pole at t = 1/x0
            }
        }
        let mut flow = Ode::new(0.0, 1.0).compile(&Device::cpu(), &Explosion).unwrap();
        let mut x = [0.5, -3.0, 2.0];
        let error = flow.advance(&Draws::new(3, &1, &Watch::default()), &mut x).unwrap_err();
        assert!(matches!(error, Error::Sampling { chain: 2, .. }), "{error}");
        assert!((x[0] - 1.0).abs() < 1e-4 && (x[1] + 0.75).abs() < 1e-4, "{x:?}");
    }

    #[test]
    fn impossible_settings_are_errors() {
        let good = Ode::new(0.0, 1.0);
        for bad in [Ode { end: 0.0, ..good }, Ode { start: f64::NAN, ..good }, Ode { absolute: 0.0, ..good }] {
            assert!(bad.compile::<f64>(&Device::cpu(), &GaussianFlow(NoiseSchedule::edm())).is_err());
        }
    }
}
