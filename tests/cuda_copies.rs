//! What a training on a CUDA device copies between processor and device. Alone in its process: the simulated driver
//! counts everything that happens in it.
#![cfg(feature = "cuda")]

use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::optim::{Adam, Optimiser};
use retrodict::store::Weights;
use retrodict::{Device, Feed, Graph, Layout, Request, Store};

#[test]
fn a_step_copies_the_batch_the_optimisers_numbers_the_loss_and_the_norm() {
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return; // a card counts nothing
    }
    cusim::install();
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
