//! W3: a training step by denoising score matching; W4: annealed Langevin updates with the same network.

use retrodict::nn::Mlp;
use retrodict::ops::elementwise::Activation;
use retrodict::rng::{self, NoiseId, NoiseRows};
use retrodict::store::Weights;
use retrodict::{Batch, Device, Error, Feed, Graph, Layout, Plan, Request, Store};
use workloads::numbers::{normal, uniform};
use workloads::worker::Job;
use workloads::{CHECK_STEPS, LANGEVIN_STEP, LEVELS, Workload, sigma, sigma_embedding};

use crate::training::{Batches, Learner, Noise, Task, parameters};

/// The network of a noisy x and the embedding of its noise level, with its initial parameters.
fn model(workload: &Workload) -> Result<(Mlp, Store<f32>), Error> {
    let Workload { dim, hidden, embedding, .. } = *workload;
    let mut layout = Layout::new();
    let net = Mlp::new(&mut layout.scope("net"), dim + embedding, &[hidden; 4], dim, Activation::Silu)?;
    Ok((net, parameters(workload, layout)?))
}

/// W3.
#[derive(Debug)]
pub struct Matching {
    workload: Workload,
    batches: Batches,
    x: Vec<f32>,
    sigmas: Vec<f32>,
    embeddings: Vec<f32>,
}

impl Matching {
    pub fn new(workload: Workload) -> Self {
        let sigmas = (0..LEVELS).map(|level| sigma(level) as f32).collect();
        let embeddings = sigma_embedding(workload.embedding);
        Self { batches: Batches::new(&workload), x: workload.table(), workload, sigmas, embeddings }
    }

    /// Noise levels of step `t`, uniform over all, by the library's generator.
    fn levels(&self, t: usize) -> Vec<u32> {
        let noise = rng::Noise { seed: 1, step: t as u32, id: NoiseId(1) };
        let mut unit = vec![0.0f32; self.workload.batch];
        noise.fill_uniform(0, 1, &mut unit);
        unit.iter().map(|u| (LEVELS as f32 * u) as u32).collect()
    }
}

impl Task for Matching {
    fn learner(&self, threads: usize, noise: Noise) -> Result<Learner, Error> {
        let Workload { dim, embedding, .. } = self.workload;
        let (net, store) = model(&self.workload)?;
        let mut graph = Graph::new();
        let (x, sigma) = (graph.input("x", dim)?, graph.input("sigma", 1)?);
        let embedding = graph.input("embedding", embedding)?;
        let eps = noise.record(&mut graph, dim)?;
        let perturbation = graph.mul(eps, sigma)?;
        let noisy = graph.add(x, perturbation)?;
        let out = net.forward(&mut graph, &[noisy, embedding])?;
        let error = graph.add(out, eps)?;
        let squares = graph.map(Activation::Square, error)?;
        let distance = graph.sum_cols(squares)?;
        let loss = graph.scale(distance, 0.5)?;
        Learner::new(threads, store, &graph, loss)
    }

    fn step(&self, learner: &mut Learner, t: usize, noise: Noise) -> Result<f64, Error> {
        let rows = self.batches.rows(t);
        let levels = if noise == Noise::Fed { self.workload.check_levels(t) } else { self.levels(t) };
        let (x, sigma) = (Feed::Gather(&self.x, rows), Feed::Gather(&self.sigmas, &levels));
        let embedding = Feed::Gather(&self.embeddings, &levels);
        match noise {
            Noise::Drawn => {
                let batch = Batch::with_noise(rows.len(), NoiseRows::new(&1).at(t as u32));
                learner.step(batch, &[x, sigma, embedding])
            }
            Noise::Fed => {
                let eps = self.workload.check_noise(t, self.workload.dim);
                learner.step(rows.len(), &[x, sigma, embedding, Feed::Rows(&eps)])
            }
        }
    }
}

/// Updates of a chain at one level.
const UPDATES: usize = 100;

/// W4.
#[derive(Debug)]
pub struct Langevin {
    workload: Workload,
    threads: usize,
    net: Mlp,
    store: Store<f32>,
    plan: Plan<f32>,
    embeddings: Vec<f32>,
    chains: Vec<f32>,
    next: Vec<f32>,
    steps: usize,
}

impl Langevin {
    pub fn new(workload: Workload, threads: usize) -> Result<Self, Error> {
        let (net, store) = model(&workload)?;
        let plan = Self::plan(&workload, &net, threads, Noise::Drawn)?;
        let chains = Self::start(&workload);
        let (next, embeddings) = (chains.clone(), sigma_embedding(workload.embedding));
        Ok(Self { workload, threads, net, store, plan, embeddings, chains, next, steps: 0 })
    }

    fn start(workload: &Workload) -> Vec<f32> {
        uniform(5, workload.batch * workload.dim).iter().map(|u| 2.0 * u - 1.0).collect()
    }

    /// x + c₁ out(x, level) + c₂ z, whose coefficients are fed.
    fn plan(workload: &Workload, net: &Mlp, threads: usize, noise: Noise) -> Result<Plan<f32>, Error> {
        let mut graph = Graph::new();
        let (x, embedding) = (graph.input("x", workload.dim)?, graph.input("embedding", workload.embedding)?);
        let coefficients = graph.input("coefficients", 3)?;
        let z = noise.record(&mut graph, workload.dim)?;
        let out = net.forward(&mut graph, &[x, embedding])?;
        let next = graph.combine(&[x, out, z], coefficients)?;
        graph.compile(&Device::cpu_with_threads(threads), &Request::outputs(&[next]))
    }

    /// The coefficients of x, of the network and of the noise.
    fn coefficients(level: usize) -> [f32; 3] {
        let alpha = LANGEVIN_STEP * (sigma(level) / sigma(LEVELS - 1)).powi(2);
        [1.0, (0.5 * alpha / sigma(level)) as f32, alpha.sqrt() as f32]
    }

    fn embedding(&self, level: usize) -> Feed<'_, f32> {
        let width = self.workload.embedding;
        Feed::Repeat(&self.embeddings[level * width..][..width])
    }
}

impl Job for Langevin {
    fn run(&mut self, n: usize) {
        for _ in 0..n {
            let level = self.steps / UPDATES % LEVELS;
            if self.steps.is_multiple_of(UPDATES * LEVELS) {
                self.chains = Self::start(&self.workload);
            }
            let width = self.workload.embedding;
            let embedding = Feed::Repeat(&self.embeddings[level * width..][..width]);
            let feeds = [Feed::Rows(&self.chains), embedding, Feed::Repeat(&Self::coefficients(level))];
            let batch = Batch::with_noise(self.workload.batch, NoiseRows::new(&1).at(self.steps as u32));
            let weights = self.store.weights(Weights::Raw);
            self.plan.forward(weights, batch, &feeds, &mut [&mut self.next]).expect("feeds that fit");
            std::mem::swap(&mut self.chains, &mut self.next);
            self.steps += 1;
        }
    }

    fn check(&mut self) -> Vec<f64> {
        let Workload { batch, dim, .. } = self.workload;
        let mut plan = Self::plan(&self.workload, &self.net, self.threads, Noise::Fed).expect("widths that fit");
        let mut chains = Self::start(&self.workload);
        let mut next = chains.clone();
        let step = |level: usize| {
            let z = normal(20_000 + level as u64, batch * dim);
            let coefficients = Self::coefficients(level);
            let feeds = [Feed::Rows(&chains), self.embedding(level), Feed::Repeat(&coefficients), Feed::Rows(&z)];
            let weights = self.store.weights(Weights::Raw);
            plan.forward(weights, batch, &feeds, &mut [&mut next]).expect("feeds that fit");
            std::mem::swap(&mut chains, &mut next);
            chains.iter().map(|&x| f64::from(x.abs())).sum::<f64>() / chains.len() as f64
        };
        (0..CHECK_STEPS).map(step).collect()
    }

    fn items(&self) -> usize {
        self.workload.batch
    }
}
