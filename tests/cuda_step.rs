//! What a training step on a CUDA device launches and copies, and how its kernels go about memory. Alone in its process,
//! one test at a time: the simulated driver counts everything that happens in it.
#![cfg(feature = "cuda")]

use std::sync::{Mutex, MutexGuard};

use retrodict::models::{ExplicitDensity, RealNvp};
use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::optim::{Adam, Optimiser};
use retrodict::store::Weights;
use retrodict::{Device, Feed, Graph, Layout, Request, Store};

/// The simulated driver, for one test at a time; `None` if a card was asked for, which counts nothing.
fn simulated() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return None;
    }
    cusim::install();
    Some(TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[test]
fn a_step_copies_the_batch_the_optimisers_numbers_the_loss_and_the_norm() {
    let Some(_turn) = simulated() else { return };
    let device = Device::cuda(0).unwrap();
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 3, &[16], 1, Activation::Silu).unwrap();
    let mut store = Store::<f32>::new(layout, 0);
    let mut graph = Graph::new();
    let x = graph.input("x", 3).unwrap();
    let y = net.forward(&mut graph, &[x]).unwrap();
    let loss = graph.map(Activation::Square, y).unwrap();
    let all = 0..store.layout().len();
    let mut plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone())).unwrap();
    let mut optimiser = Optimiser::new(Adam::new(0.01), all.clone()).unwrap();
    let (rows, batch) = (20, vec![0.5; 20 * 3]);
    let mut step = || {
        plan.mean_and_gradient(&mut store, rows, &[Feed::Rows(&batch)]).unwrap();
        optimiser.step(&device, &mut store, 1.0).unwrap();
    };
    // Parameters and moments go to the device in the first steps, which also capture the graph.
    (0..3).for_each(|_| step());
    cusim::reset();
    (0..10).for_each(|_| step());
    let (copies, all_kernels) = (cusim::copies(), cusim::counters("*"));
    assert_eq!(copies.bytes_to_device, 10 * (20 * 3 * 4 + 9 * 8));
    assert_eq!(copies.bytes_to_host, 10 * (8 + 8));
    assert_eq!(all_kernels.launches % 10, 0);
    let steps = cusim::copies();
    assert!(store.weights(Weights::Raw).iter().all(|w| w.is_finite()));
    assert_eq!(cusim::copies().bytes_to_host - steps.bytes_to_host, all.len() as u64 * 4, "weights when they are read");
}

/// Runs a step of the flow of eight couplings with its default settings, and leaves its counts.
fn step_of_the_default_flow(rows: usize) {
    let device = Device::cuda(0).unwrap();
    let mut layout = Layout::new();
    let flow = RealNvp::default().flow(&mut layout.scope("flow"), 5, 16).unwrap();
    let mut store = Store::<f32>::new(layout, 0);
    let mut graph = Graph::new();
    let (theta, x) = (graph.input("theta", 5).unwrap(), graph.input("x", 16).unwrap());
    let log_q = flow.log_prob(&mut graph, theta, &[x]).unwrap();
    let loss = graph.scale(log_q, -1.0).unwrap();
    let all = 0..store.layout().len();
    let mut plan = graph.compile(&device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone())).unwrap();
    let mut optimiser = Optimiser::new(Adam::default(), all).unwrap();
    let (theta, x) = (vec![0.5; rows * 5], vec![0.5; rows * 16]);
    for replayed in [false, false, true] {
        // What was given before is done: the last step has read its results.
        if replayed {
            cusim::reset();
        }
        plan.mean_and_gradient(&mut store, rows, &[Feed::Rows(&theta), Feed::Rows(&x)]).unwrap();
        optimiser.step(&device, &mut store, 1.0).unwrap();
    }
}

#[test]
fn a_step_of_eight_couplings_is_at_most_sixty_launches() {
    let Some(_turn) = simulated() else { return };
    step_of_the_default_flow(256);
    let launches = cusim::counters("*").launches;
    assert!(launches <= 60, "{launches} launches");
    for kernel in ["linear_forward", "linear_input_adjoint", "linear_gradient"] {
        let counts = cusim::counters(kernel);
        assert_eq!((counts.launches, counts.bank_conflicts), (8, 0), "{kernel}");
        // What is more than the floor are rows of 5, 16 and 18 columns, of which each begins within a sector.
        assert!(3 * counts.global_sectors < 4 * counts.ideal_sectors, "{kernel}: {counts:?}");
    }
}
