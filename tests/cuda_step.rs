//! What a training step on a CUDA device launches and copies, and how its kernels go about memory. Alone in its process,
//! one test at a time: the simulated driver counts everything that happens in it.
#![cfg(feature = "cuda")]

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use retrodict::models::{EnergyBased, ExplicitDensity, Family, Gan, RealNvp};
use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::optim::{Adam, Optimiser, Schedule};
use retrodict::plan::Plan;
use retrodict::rng::Philox;
use retrodict::store::{Parameters, Weights};
use retrodict::train::{Epoch, History, Source, Training, TrainingSet, fit};
use retrodict::{Dataset, Device, Error, Feed, Graph, Layout, Npe, Prior, Request, Store, Var, simulate};

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
    assert_eq!(copies.bytes_to_device, 10 * (sectors(20 * 3 * 4) + 9 * 8));
    assert_eq!(copies.copies_to_device, 10 * 2, "a batch, and the numbers");
    assert_eq!(copies.bytes_to_host, 10 * (8 + 8));
    assert_eq!(all_kernels.launches % 10, 0);
    let steps = cusim::copies();
    assert!(store.weights(Weights::Raw).iter().all(|w| w.is_finite()));
    assert_eq!(cusim::copies().bytes_to_host - steps.bytes_to_host, all.len() as u64 * 4, "weights when they are read");
}

/// Bytes of a part of a copy, which begins and ends with a sector.
fn sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(32)
}

/// A flow, the graph of its loss, and data of so many rows.
struct Problem {
    graph: Graph<f32>,
    loss: Var,
    store: Store<f32>,
    theta: Vec<f32>,
    x: Vec<f32>,
}

impl Problem {
    fn new(settings: &RealNvp, rows: usize) -> Self {
        let mut layout = Layout::new();
        let flow = settings.flow(&mut layout.scope("flow"), 5, 16).unwrap();
        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", 5).unwrap(), graph.input("x", 16).unwrap());
        let log_q = flow.log_prob(&mut graph, theta, &[x]).unwrap();
        let loss = graph.scale(log_q, -1.0).unwrap();
        let numbers = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect();
        let (theta, x) = (numbers(rows * 5, 1.3), numbers(rows * 16, 0.7));
        Self { graph, loss, store: Store::new(layout, 0), theta, x }
    }

    fn plan(&self, device: &Device) -> Plan<f32> {
        let all = 0..self.store.layout().len();
        self.graph.compile(device, &Request::outputs(&[self.loss]).with_parameter_gradients(all)).unwrap()
    }

    /// What `fit` does on these rows; `on_epoch` is told of each epoch.
    fn fit(&mut self, training: &[u32], settings: &Training, on_epoch: impl FnMut(&Epoch)) -> History {
        self.fit_on(&Device::cuda(0).unwrap(), training, settings, on_epoch)
    }

    fn fit_on(
        &mut self,
        device: &Device,
        training: &[u32],
        settings: &Training,
        mut on_epoch: impl FnMut(&Epoch),
    ) -> History {
        let (mut plan, range) = (self.plan(device), 0..self.store.layout().len());
        let inputs = [Source::Table(&self.theta[..]), Source::Table(&self.x)];
        let set = TrainingSet { inputs: &inputs, training, validation: &[0, 1] };
        fit(device, &mut self.store, &mut plan, range, &set, settings, |epoch| {
            on_epoch(epoch);
            ControlFlow::Continue(())
        })
        .unwrap()
    }
}

#[test]
fn a_training_copies_a_few_numbers_for_each_step() {
    let Some(_turn) = simulated() else { return };
    let mut problem = Problem::new(&RealNvp { layers: 1, hidden: vec![4], ..RealNvp::default() }, 100);
    let rows: Vec<u32> = (0..96).collect();
    let settings = Training { batch: 32, max_epochs: 3, ..Training::default() };
    let mut after = Vec::new();
    problem.fit(&rows, &settings, |_| after.push(cusim::copies()));
    let (a, b) = (after[1], after[2]);
    // The rows of theta and x, the optimiser's numbers, the noise's address: of three steps and a validation, whose averaged
    // weights are there; and an empty course.
    let step = 2 * 4 * 32 + sectors(9 * 8) + 4 * 8;
    let validation = 2 * sectors(4 * 2) + 4 * 8;
    assert_eq!(b.bytes_to_device - a.bytes_to_device, 3 * step + validation + 3 * 8);
    assert_eq!(b.copies_to_device - a.copies_to_device, 3 + 1 + 1, "one for each step");
    // The course, the sum of the validation's losses.
    assert_eq!(b.bytes_to_host - a.bytes_to_host, 3 * 8 + 8);
}

#[test]
fn weights_of_a_store_go_to_the_device_when_they_have_changed() {
    let Some(_turn) = simulated() else { return };
    let device = Device::cuda(0).unwrap();
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), 3, &[16], 1, Activation::Silu).unwrap();
    let mut store = Store::<f32>::new(layout, 0);
    let mut graph = Graph::new();
    let x = graph.input("x", 3).unwrap();
    let y = net.forward(&mut graph, &[x]).unwrap();
    let mut plans = [(); 2].map(|()| graph.compile(&device, &Request::outputs(&[y])).unwrap());
    let (batch, mut out) = ([0.5; 3], [0.0]);
    let (all, sent) = (4 * store.layout().len() as u64, sectors(4 * 3));
    let mut copied = |params: Parameters<'_, f32>, which: usize| {
        let before = cusim::copies().bytes_to_device;
        plans[which].forward(params, 1, &[Feed::Rows(&batch)], &mut [&mut out]).unwrap();
        (cusim::copies().bytes_to_device - before, out[0])
    };
    let values = store.weights(Weights::Raw).to_vec();
    // The first replays also copy the plans' tables.
    let (_, y) = [0, 1].map(|which| copied((&values).into(), which))[0];
    assert_eq!([copied((&values).into(), 1), copied((&values).into(), 1)], [(all + sent, y); 2], "a slice, each time");
    assert_eq!(copied(store.weights(Weights::Raw).into(), 0), (all + sent, y), "a vector, once");
    for which in [0, 1, 0] {
        assert_eq!(copied(store.weights(Weights::Raw).into(), which), (sent, y), "for every plan");
    }
    assert_eq!(copied(store.weights(Weights::Ema).into(), 0), (all + sent, y), "another vector");
    let (_, weight) = store.layout().iter().next().unwrap();
    store.set(weight, &vec![0.25; weight.range().len()]).unwrap();
    let (again, changed) = copied(store.weights(Weights::Raw).into(), 0);
    assert!(again == all + sent && changed != y);
}

/// The bits of an epoch's losses and norm.
fn bits(history: &History) -> Vec<[u64; 3]> {
    let epochs = history.epochs.iter();
    epochs.map(|e| [e.training_loss, e.validation_loss, e.gradient_norm].map(f64::to_bits)).collect()
}

/// Theta takes 1.6 MB and x 5.1 MB. An epoch has more steps than there are places for batches, and a last one of one row.
#[test]
fn tables_that_do_not_fit_come_batch_by_batch() {
    let Some(_turn) = simulated() else { return };
    let settings = RealNvp { layers: 1, hidden: vec![4], ..RealNvp::default() };
    let table_rows = 80_000_u32;
    let rows: Vec<u32> = (0..193).map(|i| i * 823 % table_rows).collect();
    let training = Training { batch: 32, max_epochs: 3, adam: Adam::new(0.01), ..Training::default() };
    let train = |memory: Option<usize>| {
        let mut problem = Problem::new(&settings, table_rows as usize);
        cusim::set_memory(memory);
        let mut after = Vec::new();
        let history = problem.fit(&rows, &training, |_| after.push(cusim::copies()));
        cusim::set_memory(None);
        let copied = after[2].bytes_to_device - after[1].bytes_to_device;
        assert_eq!(after[2].copies_to_device - after[1].copies_to_device, 7 + 1 + 1, "one for each step");
        (history, problem.store.weights(Weights::Ema).to_vec(), copied)
    };
    let (history, weights, all_resident) = train(None);
    let expected = Problem::new(&settings, table_rows as usize).fit_on(&Device::cpu(), &rows, &training, |_| ());
    for (found, expected) in history.epochs.iter().zip(&expected.epochs) {
        assert!((found.training_loss / expected.training_loss - 1.0).abs() < 1e-5, "{found:?} {expected:?}");
        assert!((found.gradient_norm / expected.gradient_norm - 1.0).abs() < 1e-4, "{found:?} {expected:?}");
    }
    let batches = [32, 32, 32, 32, 32, 32, 1, 2];
    // A table that is not there sends rows instead of their numbers.
    let rows_for_numbers = |cols: u64| batches.map(|n| sectors(4 * n * cols) - sectors(4 * n)).iter().sum::<u64>();
    for (memory, copied) in [(4 << 20, rows_for_numbers(16)), (1 << 20, rows_for_numbers(16) + rows_for_numbers(5))] {
        let streamed = train(Some(memory));
        assert!(
            bits(&streamed.0) == bits(&history) && streamed.1 == weights,
            "{memory} bytes of memory: the same bits"
        );
        assert_eq!(streamed.2, all_resident + copied, "{memory} bytes of memory");
    }
}

/// All training rows are the same, so that their order is none; steps by hand are launched one by one or as the graph of a
/// pass beside the optimiser's launches.
#[test]
fn the_graph_of_a_step_gives_the_same_bits_as_its_launches() {
    let Some(_turn) = simulated() else { return };
    let settings = RealNvp { layers: 2, hidden: vec![9], ..RealNvp::default() };
    let training = Training {
        batch: 140,
        max_epochs: 3,
        adam: Adam::new(0.01),
        schedule: Schedule::Cosine { warmup: 0.2, floor: 0.1 },
        ..Training::default()
    };
    let history = Problem::new(&settings, 2).fit(&[0; 200], &training, |_| ());

    let (mut by_hand, device) = (Problem::new(&settings, 2), Device::cuda(0).unwrap());
    let mut optimiser = Optimiser::new(training.adam.clone(), 0..by_hand.store.layout().len()).unwrap();
    for epoch in &history.epochs {
        let (mut losses, mut norms) = (0.0, 0.0);
        for rows in [140, 60] {
            // A new plan has no graph.
            let (mut plan, index) = (by_hand.plan(&device), vec![0; rows]);
            let feeds = [Feed::Gather(&by_hand.theta[..], &index), Feed::Gather(&by_hand.x, &index)];
            let loss = plan.mean_and_gradient(&mut by_hand.store, rows, &feeds).unwrap();
            let factor = training.schedule.factor(optimiser.steps(), 6);
            norms += optimiser.step(&device, &mut by_hand.store, factor).unwrap();
            losses += loss * rows as f64;
        }
        let close = |a: f64, b: f64| (a - b).abs() <= 4.0 * f64::EPSILON * b.abs();
        assert!(close(epoch.training_loss, losses / 200.0), "{} {}", epoch.training_loss, losses / 200.0);
        assert_eq!(epoch.gradient_norm, norms / 2.0);
    }
    assert!(history.epochs[2].training_loss < history.epochs[0].training_loss);
}

#[test]
fn a_training_that_diverges_on_the_device_says_so_and_keeps_its_weights() {
    let Some(_turn) = simulated() else { return };
    let mut problem = Problem::new(&RealNvp { layers: 1, hidden: vec![4], ..RealNvp::default() }, 10);
    problem.theta[5 * 7] = f32::NAN;
    let device = Device::cuda(0).unwrap();
    let (mut plan, range) = (problem.plan(&device), 0..problem.store.layout().len());
    let inputs = [Source::Table(&problem.theta[..]), Source::Table(&problem.x)];
    let set = TrainingSet { inputs: &inputs, training: &[1, 2, 3, 4, 5, 6, 7, 8, 9], validation: &[0] };
    let settings = Training { batch: 1, max_epochs: 2, ..Training::default() };
    let found = fit(&device, &mut problem.store, &mut plan, range, &set, &settings, |_| ControlFlow::Continue(()));
    assert!(matches!(found, Err(Error::Training { epoch: 1, .. })), "{found:?}");
    assert!(problem.store.weights(Weights::Raw).iter().all(|w| w.is_finite()));
}

/// Launches of an epoch of so many steps, and its validation.
fn launches_of_an_epoch(steps: usize) -> u64 {
    let batch = 130;
    let rows: Vec<u32> = (0..(steps * batch) as u32).collect();
    let mut problem = Problem::new(&RealNvp { hidden: vec![3, 4], ..RealNvp::default() }, rows.len());
    cusim::reset();
    problem.fit(&rows, &Training { batch, max_epochs: 1, ..Training::default() }, |_| ());
    cusim::counters("*").launches
}

/// The number does not depend on the widths of the hidden layers, as long as they are narrow.
#[test]
fn a_step_of_eight_couplings_is_at_most_sixty_launches() {
    let Some(_turn) = simulated() else { return };
    assert_eq!(launches_of_an_epoch(2) - launches_of_an_epoch(1), 58);
}

#[test]
fn matrix_products_have_no_bank_conflict_and_read_memory_as_it_lies() {
    let Some(_turn) = simulated() else { return };
    cusim::reset();
    let rows: Vec<u32> = (0..256).collect();
    Problem::new(&RealNvp { layers: 2, ..RealNvp::default() }, 256).fit(
        &rows,
        &Training { max_epochs: 1, ..Training::default() },
        |_| (),
    );
    for kernel in ["linear_forward", "linear_input_adjoint", "linear_gradient"] {
        let counts = cusim::counters(kernel);
        assert!(counts.launches > 0 && counts.bank_conflicts == 0, "{kernel}: {counts:?}");
        // What is more than the floor are rows of 5, 16 and 18 columns, of which each begins within a sector.
        assert!(3 * counts.global_sectors < 4 * counts.ideal_sectors, "{kernel}: {counts:?}");
    }
}

/// What the host asks for in an epoch of a training that has come to replay graphs, which has `rows` rows to train on.
fn epoch_of<F: Family<f32> + Clone>(family: &F, rows: usize, batch: usize) -> cusim::Counters {
    let prior = Prior::new().normal("a", 0.0, 1.0).normal("b", 0.0, 2.0).build().unwrap();
    let simulator = |theta: &[f64], _: &mut Philox| vec![theta[0] + 0.1 * theta[1], theta[1]];
    let data = simulate(&Device::cpu(), &prior, rows, 1, simulator).unwrap();
    let data = Dataset::<f32>::new(prior.support(), data.theta.view(), data.x.view(), Default::default()).unwrap();
    let [two, three] = [2, 3].map(|max_epochs| {
        let device = Device::cuda(0).unwrap();
        cusim::reset();
        let training = Training { batch, max_epochs, ..Training::default() };
        Npe { training, ..Npe::new(family.clone()) }.fit(&device, &data).unwrap();
        cusim::copies()
    });
    cusim::Counters {
        asked: three.asked - two.asked,
        copies_to_device: three.copies_to_device - two.copies_to_device,
        copies_to_host: three.copies_to_host - two.copies_to_host,
        ..Default::default()
    }
}

/// Of 20 or 40 rows a tenth is for validation.
const STEPS: [(usize, u64); 2] = [(20, 3), (40, 6)];

#[test]
fn a_step_of_an_adversarial_network_is_two_graphs() {
    let Some(_turn) = simulated() else { return };
    for (rows, steps) in STEPS {
        let epoch = epoch_of(&Gan { hidden: vec![8], waves: 1, ..Gan::default() }, rows, 6);
        // Fakes are drawn and judged once; each network has a course.
        assert_eq!(epoch.asked, 2 * steps + 1);
        assert_eq!((epoch.copies_to_device, epoch.copies_to_host), (2 * steps + 1 + 2, 2 + 1));
    }
}

#[test]
fn a_step_of_an_energy_is_one_graph_behind_the_moves_of_its_chains() {
    let Some(_turn) = simulated() else { return };
    let family = EnergyBased { hidden: vec![8], waves: 1, trajectories: 2, leapfrog: 1, ..EnergyBased::default() };
    for (rows, steps) in STEPS {
        let epoch = epoch_of(&family, rows, 6);
        // The chains are evaluated, and jump before each of two trajectories.
        let moves = 1 + 2 * 2;
        assert_eq!(epoch.asked, (moves + 1) * steps);
        // Chains, context and step sizes go there; chains come back evaluated, to be checked, and moved.
        assert_eq!((epoch.copies_to_device, epoch.copies_to_host), ((moves + 1 + 3) * steps + 1, 2 * steps + 1));
    }
}
