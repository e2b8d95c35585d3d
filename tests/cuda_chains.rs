//! Chains stay on the CUDA device while a sampler moves them. Alone in its process: the simulated driver counts
//! everything that happens in it.
#![cfg(feature = "cuda")]

use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::progress::Watch;
use retrodict::sample::{Draws, Langevin, LangevinStep, Score, Transition};
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
