//! Chains stay on the CUDA device while a sampler moves them. Alone in its process: the simulated driver counts
//! everything that happens in it.
#![cfg(feature = "cuda")]

use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::progress::Watch;
use retrodict::sample::{Draws, Hmc, Langevin, LangevinStep, LogDensity, Ode, Score, Transition, Velocity};
use retrodict::store::Weights;
use retrodict::{Device, Error, Feed, Graph, Layout, Store, Var};

fn device() -> Device {
    if std::env::var_os("RETRODICT_GPU").is_none() {
        cusim::install();
    }
    Device::cuda(0).unwrap()
}

/// A network's output as score, given a context of one column.
#[derive(Debug)]
struct Network(Mlp);

impl Score<f64> for Network {
    fn dim(&self) -> usize {
        3
    }

    fn context(&self) -> usize {
        1
    }

    fn score(&self, graph: &mut Graph<f64>, x: Var, _: Var, context: &[Var]) -> Result<Var, Error> {
        self.0.forward(graph, &[x, context[0]])
    }
}

/// e^x: it drives a chain to infinity, soon or late.
#[derive(Debug)]
struct Explosion;

impl Score<f64> for Explosion {
    fn dim(&self) -> usize {
        2
    }

    fn context(&self) -> usize {
        0
    }

    fn score(&self, graph: &mut Graph<f64>, x: Var, _: Var, _: &[Var]) -> Result<Var, Error> {
        graph.map(Activation::Exp, x)
    }
}

#[test]
fn chains_stay_on_the_device() {
    a_step_copies_its_numbers_and_the_address_of_its_noise();
    a_chain_that_diverges_is_named_as_on_the_processor();
    hamiltonian_chains_and_their_step_sizes_stay();
    an_integrator_copies_its_rows_but_neither_weights_nor_context();
}

fn a_step_copies_its_numbers_and_the_address_of_its_noise() {
    let mut layout = Layout::new();
    let score = Network(Mlp::new(&mut layout.scope("score"), 4, &[9], 3, Activation::Tanh).unwrap());
    let store = Store::<f64>::new(layout, 1);
    let (rows, watch) = (37_u32, Watch::default());
    let context: Vec<f64> = (0..rows).map(f64::from).collect();
    let feeds = [Feed::Rows(&context)];
    let run = |device: &Device, steps: usize| {
        let settings = Langevin { step: LangevinStep::Eta(0.05), steps, level: 0.0 };
        let mut chains = settings.compile(device, &score).unwrap();
        let draws = Draws {
            weights: store.weights(Weights::Raw).into(),
            context: &feeds,
            ..Draws::new(rows as usize, &3, &watch)
        };
        let mut x = vec![0.5; 3 * rows as usize];
        // The second time on the memory, and with the graph, of the first.
        chains.advance(&draws, &mut x).unwrap();
        if std::env::var_os("RETRODICT_GPU").is_none() {
            cusim::reset();
        }
        chains.advance(&draws, &mut x).unwrap();
        x
    };
    let device = device();
    let expected = run(&Device::cpu(), 20);
    let found = run(&device, 20);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}\n{expected:?}");
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return;
    }
    let (twenty, launches) = (cusim::copies(), cusim::counters("*").launches);
    run(&device, 10);
    let ten = cusim::copies();
    // Four numbers, and four of the noise, in one copy: rows in a group, first row, step, seed.
    assert_eq!(twenty.copies_to_device - ten.copies_to_device, 10);
    assert_eq!(twenty.bytes_to_device - ten.bytes_to_device, 10 * (4 + 4) * 8);
    assert_eq!(twenty.bytes_to_host, ten.bytes_to_host);
    let start = u64::from(rows) * ((3 + 1) * 8 + 4);
    assert_eq!(ten.bytes_to_device, start + 10 * (4 + 4) * 8, "chains and context, but no weights");
    assert_eq!(twenty.bytes_to_host, u64::from(rows) * (3 * 8 + 4), "the chains, and whether they are finite");
    assert_eq!(launches % 20, 0);
}

fn a_chain_that_diverges_is_named_as_on_the_processor() {
    let watch = Watch::default();
    let run = |device: &Device| {
        let settings = Langevin { step: LangevinStep::Eta(0.02), steps: 100, level: 0.0 };
        let mut x: Vec<f64> = (0..2 * 13).map(|i| 0.11 * f64::from(i % 19) - 2.0).collect();
        settings.compile(device, &Explosion).unwrap().advance(&Draws::new(13, &1, &watch), &mut x).unwrap_err()
    };
    let error = run(&device());
    assert!(matches!(error, Error::Sampling { step: 2.., .. }), "{error}");
    assert_eq!(error, run(&Device::cpu()));
}

/// N(c, I) times a network's tilt, given c in one column.
#[derive(Debug)]
struct Tilted(Mlp);

impl LogDensity<f64> for Tilted {
    fn dim(&self) -> usize {
        3
    }

    fn context(&self) -> usize {
        1
    }

    fn log_density(&self, graph: &mut Graph<f64>, x: Var, context: &[Var]) -> Result<Var, Error> {
        let tilt = self.0.forward(graph, &[x, context[0]])?;
        let shifted = graph.sub(x, context[0])?;
        let base = graph.normal_log_density(shifted)?;
        graph.add(tilt, base)
    }
}

/// Where so many trajectories lead, with the acceptance and the step size of each chain.
fn hamiltonian(device: &Device, hmc: Hmc, rows: usize) -> (Vec<f64>, Vec<(f64, f64)>) {
    let mut layout = Layout::new();
    let density = Tilted(Mlp::new(&mut layout.scope("tilt"), 4, &[5], 1, Activation::Tanh).unwrap());
    let (store, watch) = (Store::<f64>::new(layout, 1), Watch::default());
    let (context, index): (_, Vec<u32>) = ([0.3, -2.0], (0..rows as u32).map(|i| i % 2).collect());
    let feeds = [Feed::Gather(&context, &index)];
    let draws = Draws { weights: store.weights(Weights::Raw).into(), context: &feeds, ..Draws::new(rows, &3, &watch) };
    let (mut chains, mut x) = (hmc.compile(device, &density).unwrap(), vec![0.5; 3 * rows]);
    // The second time on the memory, and with the graphs, of the first.
    chains.advance(&draws, &mut x).unwrap();
    if std::env::var_os("RETRODICT_GPU").is_none() {
        cusim::reset();
    }
    chains.advance(&draws, &mut x).unwrap();
    (x, chains.chains().collect())
}

fn hamiltonian_chains_and_their_step_sizes_stay() {
    let (rows, device) = (11, device());
    let hmc = Hmc { warm_up: 3, leapfrog: 2, trajectories: 2, ..Hmc::default() };
    for hmc in [hmc, Hmc { leapfrog: 1, jumps: 0, ..hmc }] {
        let (expected, found) = (hamiltonian(&Device::cpu(), hmc, rows), hamiltonian(&device, hmc, rows));
        assert!(found.0.iter().zip(&expected.0).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}\n{expected:?}");
        for ((a, b), (c, d)) in found.1.iter().zip(&expected.1) {
            assert!((a - c).abs() < 1e-9 && (b - d).abs() < 1e-9 * d, "{found:?}\n{expected:?}");
        }
        let steps: Vec<u64> = found.1.iter().map(|(_, step)| step.to_bits()).collect();
        assert!(steps.iter().any(|&step| step != steps[0]), "each chain has a step of its own");
    }
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return;
    }
    let copies = |warm_up, trajectories| {
        hamiltonian(&device, Hmc { warm_up, trajectories, leapfrog: 1, ..hmc }, rows);
        cusim::copies()
    };
    let (short, long) = (copies(1, 1), copies(3, 4));
    // A jump and a trajectory each send the noise's address: rows in a group, first row, step, seed.
    assert_eq!(long.copies_to_device - short.copies_to_device, 5 * 2);
    assert_eq!(long.bytes_to_device - short.bytes_to_device, 5 * 2 * 4 * 8);
    // The chains are read when they are evaluated, and at the end; then the step sizes.
    assert_eq!((long.copies_to_host, long.bytes_to_host), (3, 11 * (8 + 8 + 1) * 8));
    assert_eq!(long.bytes_to_host, short.bytes_to_host);
}

impl Velocity<f64> for Network {
    fn dim(&self) -> usize {
        3
    }

    fn context(&self) -> usize {
        1
    }

    fn velocity(&self, graph: &mut Graph<f64>, x: Var, _: Var, context: &[Var]) -> Result<Var, Error> {
        self.score(graph, x, x, context)
    }
}

/// All rows are the same, so that they arrive together.
fn an_integrator_copies_its_rows_but_neither_weights_nor_context() {
    let rows = 5;
    let mut layout = Layout::new();
    let network = Network(Mlp::new(&mut layout.scope("velocity"), 4, &[9], 3, Activation::Tanh).unwrap());
    let (store, watch, context) = (Store::<f64>::new(layout, 1), Watch::default(), vec![0.3; rows]);
    let feeds = [Feed::Rows(&context[..])];
    let draws = Draws { weights: store.weights(Weights::Raw).into(), context: &feeds, ..Draws::new(rows, &3, &watch) };
    let run = |device: &Device| {
        let mut flow = Ode::new(0.0, 1.0).compile(device, &network).unwrap();
        flow.advance(&draws, &mut vec![0.5; 3 * rows]).unwrap();
        if std::env::var_os("RETRODICT_GPU").is_none() {
            cusim::reset();
        }
        let mut x = vec![0.5; 3 * rows];
        flow.advance(&draws, &mut x).unwrap();
        x
    };
    let expected = run(&Device::cpu());
    let found = run(&device());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}\n{expected:?}");
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return;
    }
    let copies = cusim::copies();
    let stages = copies.copies_to_device - 1;
    assert!(stages > 0 && stages.is_multiple_of(7), "the context goes there once: {copies:?}");
    // Each in whole sectors of 32 bytes: x, and the numbers of the rows; the network does not read the time.
    assert_eq!(copies.bytes_to_device, 5 * 8 + stages * (128 + 32));
    assert_eq!((copies.copies_to_host, copies.bytes_to_host), (stages, stages * 5 * 3 * 8));
}
