//! A training step, an evaluation and an optimiser step allocate nothing once a batch of that size has been seen.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use retrodict::models::{ExplicitDensity, RealNvp};
use retrodict::optim::{Adam, Optimiser};
use retrodict::store::Weights;
use retrodict::{Device, Feed, Graph, Layout, Request, Store};

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

#[test]
fn replaying_a_plan_allocates_nothing() {
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
        let mut counts = Vec::new();
        for _ in 0..5 {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            plan.mean_and_gradient(&mut store, 257, &feeds).unwrap();
            optimiser.step(&device, &mut store, 1.0).unwrap();
            plan.mean(store.weights(Weights::Ema), 257, &feeds).unwrap();
            plan.forward(store.weights(Weights::Raw), 257, &feeds, &mut [&mut values]).unwrap();
            counts.push(ALLOCATIONS.load(Ordering::SeqCst) - before);
        }
        assert!(ALLOCATIONS.load(Ordering::SeqCst) > 0, "the allocator counts");
        assert_eq!(counts[1..], [0; 4], "{threads} threads, after the first step");
    }
}
