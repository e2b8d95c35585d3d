//! A training step, an evaluation, an optimiser step and a step of a sampler allocate nothing once a batch of that size
//! has been seen.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use retrodict::models::{
    Density, Diffusion, EnergyBased, ExplicitDensity, ExplicitFamily, Gan, Mdn, Mixing, RealNvp, ScoreModel,
    ScoreNetwork, SplineFlow, Vae,
};
use retrodict::noise_schedule::NoiseSchedule;
use retrodict::optim::{Adam, Optimiser};
use retrodict::progress::Watch;
use retrodict::rng::NoiseRows;
use retrodict::sample::{
    AnnealedLangevin, Corrector, Draws, Heun, Hmc, Langevin, LangevinStep, LogDensity, Mala, Ode, ReverseSde, Trace,
    Transition,
};
use retrodict::store::Weights;
use retrodict::{Batch, Device, Feed, Graph, Layout, Request, Store, Var};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(memory) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, memory) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of a call, once it has been made before. The least of some: a thread of the pool that is late to start
/// may allocate once for itself.
fn allocations(mut call: impl FnMut()) -> usize {
    call();
    let mut count = || {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        call();
        ALLOCATIONS.load(Ordering::SeqCst) - before
    };
    (0..5).map(|_| count()).fold(usize::MAX, usize::min)
}

/// One test without a test runner, since what runs beside it would be counted.
fn main() {
    replaying_a_plan();
    every_family_is_trained();
    every_sampler_steps();
}

fn replaying_a_plan() {
    for threads in [1, 2] {
        let device = Device::cpu_with_threads(threads);
        let mut layout = Layout::new();
        let flow = RealNvp::default().flow(&mut layout.scope("flow"), 5, 16).unwrap();
        let mut store = Store::<f32>::new(layout, 0);
        let all = 0..store.layout().len();
        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", 5).unwrap(), graph.input("x", 16).unwrap());
        let log_prob = flow.log_prob(&mut graph, theta, &[x]).unwrap();
        let loss = graph.scale(log_prob, -1.0).unwrap();
        let mut plan =
            graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone())).unwrap();

        let (thetas, xs): (Vec<f32>, Vec<f32>) =
            ((0..5000).map(|i| (i as f32).sin()).collect(), (0..16000).map(|i| (i as f32).cos()).collect());
        let rows: Vec<u32> = (0..257).map(|i| i * 7 % 1000).collect();
        let feeds = [Feed::Gather(&thetas, &rows), Feed::Gather(&xs, &rows)];
        let mut optimiser = Optimiser::new(Adam::default(), all.clone()).unwrap();
        let mut values = vec![0.0; 257];
        let mut counts = Vec::with_capacity(5);
        for _ in 0..5 {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            plan.mean_and_gradient(&mut store, 257, &feeds).unwrap();
            optimiser.step(&device, &mut store, 1.0).unwrap();
            plan.mean(store.weights(Weights::Ema), 257, &feeds).unwrap();
            plan.forward(store.weights(Weights::Raw), 257, &feeds, &mut [&mut values]).unwrap();
            counts.push(ALLOCATIONS.load(Ordering::SeqCst) - before);
        }
        assert!(ALLOCATIONS.load(Ordering::SeqCst) > 0, "the allocator counts");
        // The second thread may be late to start, and then allocates once for itself.
        let allocating = counts[1..].iter().filter(|&&n| n > 0).count();
        assert!(allocating < threads, "{threads} threads, after the first step: {counts:?}");
    }
}

/// One loss, replayed with its gradient and its noise.
fn trained(name: &str, build: impl FnOnce(&mut Layout, &mut Graph<f32>, Var, Var) -> Var) {
    let (mut layout, mut graph) = (Layout::new(), Graph::new());
    let (theta, x) = (graph.input("theta", 3).unwrap(), graph.input("x", 2).unwrap());
    let loss = build(&mut layout, &mut graph, theta, x);
    let mut store = Store::new(layout, 0);
    let request = Request::outputs(&[loss]).with_parameter_gradients(0..store.layout().len());
    let mut plan = graph.compile(&Device::cpu_with_threads(2), &request).unwrap();
    let (thetas, xs) = ([0.3; 3 * 257], [0.1; 2 * 257]);
    let found = allocations(|| {
        let batch = Batch::with_noise(257, NoiseRows::new(&1));
        plan.mean_and_gradient(&mut store, batch, &[Feed::Rows(&thetas), Feed::Rows(&xs)]).unwrap();
    });
    assert_eq!(found, 0, "{name}");
}

fn every_family_is_trained() {
    type AnyExplicit = Box<dyn ExplicitFamily<f32, Model = dyn Density<f32>>>;
    let explicit: [(&str, AnyExplicit); 3] = [
        ("mixture", Box::new(Mdn::default())),
        ("spline flow", Box::new(SplineFlow { mixing: Mixing::Linear, ..SplineFlow::default() })),
        ("affine flow", Box::new(RealNvp { mixing: Mixing::ActNorm, ..RealNvp::default() })),
    ];
    for (name, family) in explicit {
        trained(name, |layout, graph, theta, x| {
            let model = family.build(&mut layout.scope("density"), 3, 2).unwrap();
            model.log_prob(graph, theta, &[x]).unwrap()
        });
    }
    trained("autoencoder", |layout, graph, theta, x| {
        let model = Vae::default().build(&mut layout.scope("vae"), 3, 2).unwrap();
        let warm = graph.constant(1.0, 1).unwrap();
        model.negative_elbo(graph, theta, &[x], warm).unwrap()
    });
    trained("adversarial network", |layout, graph, theta, x| {
        let model = Gan::default().build(layout, 3, 2).unwrap();
        let blur = graph.constant(0.1, 1).unwrap();
        let told = model.discriminator_loss(graph, theta, &[x], blur).unwrap();
        let made = model.generator_loss(graph, &[x], blur).unwrap();
        graph.add(told, made).unwrap()
    });
    for diffusion in [Diffusion::variance_preserving(), Diffusion::edm(), Diffusion::flow_matching()] {
        trained("diffusion", |layout, graph, theta, x| {
            let model = diffusion.network.build(&mut layout.scope("score"), 3, 2).unwrap();
            model.loss(graph, theta, &[x]).unwrap()
        });
    }
}

/// Weights of which none is zero.
fn weights(layout: Layout) -> Vec<f32> {
    (0..layout.len()).map(|i| 0.3 * (1.7 * i as f32).sin()).collect()
}

fn energy() -> (impl LogDensity<f32>, Vec<f32>) {
    let mut layout = Layout::new();
    let family = EnergyBased { hidden: vec![16], ..EnergyBased::default() };
    (family.build(&mut layout.scope("energy"), 3, 0).unwrap(), weights(layout))
}

fn score_network(diffusion: Diffusion) -> (ScoreModel, Vec<f32>) {
    let mut layout = Layout::new();
    let network = ScoreNetwork { hidden: 16, blocks: 1, ..diffusion.network };
    (network.build(&mut layout.scope("score"), 3, 0).unwrap(), weights(layout))
}

/// Chains: two tiles and a bit.
const ROWS: usize = 300;

/// A long run allocates no more often than a short one: what it allocates, it allocates before its first step.
fn steps_are_free<S: Transition<f32>>(name: &str, weights: &[f32], [short, long]: [S; 2]) {
    let watch = Watch::default();
    let draws = Draws { weights: weights.into(), ..Draws::new(ROWS, &1, &watch) };
    let mut x = vec![0.0; 3 * ROWS];
    let [short, long] = [short, long].map(|mut sampler| {
        allocations(|| {
            draws.fill_normal(1.0, &mut x).unwrap();
            sampler.advance(&draws, &mut x).unwrap();
        })
    });
    assert_eq!(short, long, "{name}");
    assert!(long < 30, "{name}: {long}");
}

fn every_sampler_steps() {
    let device = Device::cpu_with_threads(2);
    let (score, weights) = score_network(Diffusion::variance_preserving());
    let langevin = |steps| Langevin { step: LangevinStep::Eta(0.01), steps, level: 0.5 };
    steps_are_free("langevin", &weights, [3, 30].map(|n| langevin(n).compile(&device, &score).unwrap()));
    let annealed = |steps_per_level| AnnealedLangevin {
        levels: vec![(0.9, 0.9), (0.1, 0.1)],
        steps_per_level,
        epsilon: 0.001,
        denoise: true,
    };
    steps_are_free("annealed langevin", &weights, [3, 30].map(|n| annealed(n).compile(&device, &score).unwrap()));
    let sde = |steps| {
        let corrector = Some(Corrector::default());
        ReverseSde { steps, corrector, ..ReverseSde::new(NoiseSchedule::variance_preserving()) }
    };
    steps_are_free("reverse diffusion", &weights, [5, 50].map(|n| sde(n).compile(&device, &score).unwrap()));

    let (flow, flow_weights) = score_network(Diffusion::flow_matching());
    let heun = |steps| Heun { start: 1.0, end: 0.0, steps, rho: 1.0 };
    steps_are_free("heun", &flow_weights, [3, 30].map(|n| heun(n).compile(&device, &flow).unwrap()));
    let ode = |absolute| Ode { absolute, relative: 1e-3, ..Ode::new(1.0, 0.0) };
    steps_are_free("adaptive flow", &flow_weights, [1e-1, 1e-3].map(|a| ode(a).compile(&device, &flow).unwrap()));
    for trace in [Trace::Exact, Trace::Hutchinson] {
        let watch = Watch::default();
        let draws = Draws { weights: (&flow_weights).into(), ..Draws::new(ROWS, &1, &watch) };
        let [short, long] = [1e-1, 1e-3].map(|absolute| {
            let mut flow = ode(absolute).compile_log_likelihood(&device, &flow, trace).unwrap();
            let (mut x, mut ln_det) = (vec![0.0; 3 * ROWS], vec![0.0; ROWS]);
            allocations(|| {
                draws.fill_normal(1.0, &mut x).unwrap();
                flow.advance(&draws, &mut x, &mut ln_det).unwrap();
            })
        });
        assert_eq!(short, long, "likelihood, {trace:?}");
    }

    let (energy, weights) = energy();
    let hmc = |trajectories| Hmc { warm_up: 2, trajectories, ..Hmc::default() };
    steps_are_free("hmc", &weights, [2, 20].map(|n| hmc(n).compile(&device, &energy).unwrap()));
    let mala = |steps| Mala { warm_up: 2, steps, ..Mala::default() };
    steps_are_free("mala", &weights, [2, 20].map(|n| mala(n).compile(&device, &energy).unwrap()));
}
