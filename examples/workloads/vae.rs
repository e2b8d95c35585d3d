//! W5: a training step of a variational autoencoder.

use retrodict::nn::Linear;
use retrodict::ops::elementwise::Activation;
use retrodict::rng::NoiseRows;
use retrodict::{Batch, Error, Feed, Graph, Layout};
use workloads::Workload;

use crate::training::{Batches, Learner, Noise, Task, parameters};

#[derive(Debug)]
pub struct Autoencoder {
    workload: Workload,
    batches: Batches,
    x: Vec<f32>,
}

impl Autoencoder {
    pub fn new(workload: Workload) -> Self {
        Self { batches: Batches::new(&workload), x: workload.table(), workload }
    }
}

impl Task for Autoencoder {
    fn learner(&self, threads: usize, noise: Noise) -> Result<Learner, Error> {
        let Workload { dim, hidden, latent, .. } = self.workload;
        let mut layout = Layout::new();
        let mut layer = |name, inputs, outputs| Linear::new(&mut layout.scope(name), inputs, outputs);
        let encoder = layer("encoder", dim, hidden)?;
        let [mean, ln_variance] = [layer("mean", hidden, latent)?, layer("ln_variance", hidden, latent)?];
        let decoder = [layer("decoder.0", latent, hidden)?, layer("decoder.1", hidden, dim)?];
        let store = parameters(&self.workload, layout)?;

        let mut graph = Graph::new();
        let x = graph.input("x", dim)?;
        let eps = noise.record(&mut graph, latent)?;
        let h = encoder.forward(&mut graph, &[x], Activation::Relu)?;
        let mean = mean.forward(&mut graph, &[h], Activation::Identity)?;
        let ln_variance = ln_variance.forward(&mut graph, &[h], Activation::Identity)?;
        let ln_sigma = graph.scale(ln_variance, 0.5)?;
        let z = graph.gaussian_sample(mean, ln_sigma, eps)?;
        let h = decoder[0].forward(&mut graph, &[z], Activation::Relu)?;
        let y = decoder[1].forward(&mut graph, &[h], Activation::Identity)?;

        let difference = graph.sub(x, y)?;
        let squares = graph.map(Activation::Square, difference)?;
        let distance = graph.sum_cols(squares)?;
        let reconstruction = graph.scale(distance, 0.5)?;
        let divergence = graph.gaussian_kl(mean, ln_sigma)?;
        let loss = graph.add(reconstruction, divergence)?;
        Learner::new(threads, store, &graph, loss)
    }

    fn step(&self, learner: &mut Learner, t: usize, noise: Noise) -> Result<f64, Error> {
        let rows = self.batches.rows(t);
        let x = Feed::Gather(&self.x, rows);
        match noise {
            Noise::Drawn => learner.step(Batch::with_noise(rows.len(), NoiseRows::new(&1).at(t as u32)), &[x]),
            Noise::Fed => {
                let eps = self.workload.check_noise(t, self.workload.latent);
                learner.step(rows.len(), &[x, Feed::Rows(&eps)])
            }
        }
    }
}
