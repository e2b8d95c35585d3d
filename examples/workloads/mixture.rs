//! W6: a training step of a mixture density network.

use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::ops::mixture_log_density::Covariance;
use retrodict::{Error, Feed, Graph, Layout};
use workloads::Workload;

use crate::training::{Batches, Learner, Noise, Task, parameters};

#[derive(Debug)]
pub struct Mixture {
    workload: Workload,
    batches: Batches,
    theta: Vec<f32>,
    x: Vec<f32>,
}

impl Mixture {
    pub fn new(workload: Workload) -> Self {
        let (theta, x) = workload.pairs();
        Self { batches: Batches::new(&workload), workload, theta, x }
    }
}

impl Task for Mixture {
    fn learner(&self, threads: usize, _: Noise) -> Result<Learner, Error> {
        let Workload { dim, context, hidden, latent, .. } = self.workload;
        let mut layout = Layout::new();
        let outputs = Covariance::Diagonal.raw_width(latent, dim);
        let net = Mlp::new(&mut layout.scope("net"), context, &[hidden; 2], outputs, Activation::Silu)?;
        let mut store = parameters(&self.workload, layout)?;
        // The workload's last columns are logarithms of deviations, ours of their inverses.
        let deviations = latent * (1 + dim);
        let last = net.layers()[2];
        for param in [last.weight(), last.bias()] {
            let mut values = store.get(param)?.to_owned();
            values.slice_mut(retrodict::ndarray::s![.., deviations..]).mapv_inplace(|w| -w);
            store.set(param, values.as_slice().expect("rows without gaps"))?;
        }

        let mut graph = Graph::new();
        let (theta, x) = (graph.input("theta", dim)?, graph.input("x", context)?);
        let raw = net.forward(&mut graph, &[x])?;
        let log_prob = graph.mixture_log_density(theta, raw, latent, Covariance::Diagonal)?;
        let loss = graph.scale(log_prob, -1.0)?;
        Learner::new(threads, store, &graph, loss)
    }

    fn step(&self, learner: &mut Learner, t: usize, _: Noise) -> Result<f64, Error> {
        let rows = self.batches.rows(t);
        learner.step(rows.len(), &[Feed::Gather(&self.theta, rows), Feed::Gather(&self.x, rows)])
    }
}
