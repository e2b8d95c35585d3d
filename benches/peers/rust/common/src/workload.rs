//! The workloads: shapes, data and initial parameters.

use crate::numbers::{normal, uniform};

/// Adam's learning rate; its other settings are the usual ones.
pub const LEARNING_RATE: f64 = 5e-4;
/// Numbers that a check compares.
pub const CHECK_STEPS: usize = 10;
/// Draws for each observation of W7s.
pub const DRAWS: usize = 1000;
/// ln(2π) / 2
pub const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
/// Noise levels of W3 and W4.
pub const LEVELS: usize = 10;
/// Step size of the Langevin updates at the last level.
pub const LANGEVIN_STEP: f64 = 2e-5;

/// What is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A training step of a conditional coupling flow.
    Flow,
    /// A training step by denoising score matching.
    Dsm,
    /// An update of Langevin chains.
    Langevin,
    /// A training step of a variational autoencoder.
    Vae,
    /// A training step of a mixture density network.
    Mdn,
    /// Draws from a flow.
    Sample,
    /// Log-densities of a flow.
    LogProb,
}

/// One workload and its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What is computed.
    pub kind: Kind,
    /// Width of a data row (of θ).
    pub dim: usize,
    /// Width of the context.
    pub context: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Coupling layers of a flow.
    pub layers: usize,
    /// Rows of a step.
    pub batch: usize,
    /// Rows of data.
    pub rows: usize,
    /// Width of the noise level's embedding.
    pub embedding: usize,
    /// Latent columns of the autoencoder, components of the mixture.
    pub latent: usize,
}

impl Workload {
    /// W1 to W7, by name; `chunk` is the number of rows in a call of W7.
    pub fn named(name: &str, chunk: usize) -> Option<Self> {
        let (kind, rows) = (Kind::Flow, 16_384);
        let small =
            Self { kind, dim: 5, context: 16, hidden: 64, layers: 8, batch: 256, rows, embedding: 32, latent: 0 };
        let score = Self { kind: Kind::Dsm, dim: 16, hidden: 256, batch: 512, ..small };
        Some(match name {
            "W1" => small,
            "W2" => Self { dim: 12, context: 64, hidden: 256, batch: 512, ..small },
            "W3" => score,
            "W4" => Self { kind: Kind::Langevin, batch: 4096, ..score },
            "W5" => Self { kind: Kind::Vae, dim: 784, hidden: 400, batch: 128, rows: 8192, latent: 20, ..small },
            "W6" => Self { kind: Kind::Mdn, latent: 8, ..small },
            "W7s" => Self { kind: Kind::Sample, batch: chunk, rows: 1000, ..small },
            "W7l" => Self { kind: Kind::LogProb, batch: chunk, rows: 1_000_000, ..small },
            _ => return None,
        })
    }

    /// Rows of work in a step: of inference those of the batch, 1 for training.
    pub fn items(&self) -> usize {
        match self.kind {
            Kind::Langevin | Kind::Sample | Kind::LogProb => self.batch,
            Kind::Flow | Kind::Dsm | Kind::Vae | Kind::Mdn => 1,
        }
    }

    /// (outputs, inputs) of the linear maps, in the order of the parameters.
    pub fn linear_shapes(&self) -> Vec<(usize, usize)> {
        let (d, h, k) = (self.dim, self.hidden, self.latent);
        match self.kind {
            Kind::Flow | Kind::Sample | Kind::LogProb => (0..self.layers).flat_map(|l| self.conditioner(l)).collect(),
            Kind::Dsm | Kind::Langevin => vec![(h, d + self.embedding), (h, h), (h, h), (h, h), (d, h)],
            Kind::Vae => vec![(h, d), (k, h), (k, h), (h, k), (d, h)],
            Kind::Mdn => vec![(h, self.context), (h, h), (k * (1 + 2 * d), h)],
        }
    }

    fn conditioner(&self, layer: usize) -> [(usize, usize); 3] {
        let (h, lower, upper) = (self.hidden, self.dim / 2, self.dim - self.dim / 2);
        let (identity, transformed) = if layer.is_multiple_of(2) { (lower, upper) } else { (upper, lower) };
        [(h, identity + self.context), (h, h), (2 * transformed, h)]
    }

    /// Weight, `[outputs x inputs]` row by row, and bias of each linear map.
    pub fn linear_params(&self) -> Vec<(Vec<f32>, Vec<f32>)> {
        let scaled = |seed: usize, n: usize, inputs: usize| -> Vec<f32> {
            let bound = (1.0 / (inputs as f64).sqrt()) as f32;
            uniform(seed as u64, n).iter().map(|u| (2.0 * u - 1.0) * bound).collect()
        };
        let params = |(j, (outputs, inputs)): (usize, (usize, usize))| {
            (scaled(100 + 2 * j, outputs * inputs, inputs), scaled(101 + 2 * j, outputs, inputs))
        };
        self.linear_shapes().into_iter().enumerate().map(params).collect()
    }

    /// θ, `[rows x dim]`, and x, `[rows x context]`.
    pub fn pairs(&self) -> (Vec<f32>, Vec<f32>) {
        let (d, c) = (self.dim, self.context);
        let theta = normal(1, self.rows * d);
        let mut x = normal(2, self.rows * c);
        for (x, theta) in x.chunks_exact_mut(c).zip(theta.chunks_exact(d)) {
            x.iter_mut().enumerate().for_each(|(j, x)| *x = theta[j % d] + 0.5 * *x);
        }
        (theta, x)
    }

    /// The rows of W3 (normal) and of W5 (uniform), `[rows x dim]`.
    pub fn table(&self) -> Vec<f32> {
        match self.kind {
            Kind::Vae => uniform(1, self.rows * self.dim),
            _ => normal(1, self.rows * self.dim).iter().map(|x| 0.5 * x).collect(),
        }
    }

    /// Where the chains of W4 start, `[batch x dim]`.
    pub fn chains(&self) -> Vec<f32> {
        uniform(5, self.batch * self.dim).iter().map(|u| 2.0 * u - 1.0).collect()
    }

    /// The noise of a check's step `t`, `[batch x cols]`.
    pub fn check_noise(&self, t: usize, cols: usize) -> Vec<f32> {
        normal(20_000 + t as u64, self.batch * cols)
    }

    /// The noise levels of a check's step `t`.
    pub fn check_levels(&self, t: usize) -> Vec<u32> {
        let levels = uniform(30_000 + t as u64, self.batch);
        levels.iter().map(|u| ((LEVELS as f32 * u) as u32).min(LEVELS as u32 - 1)).collect()
    }
}

/// σ of a level: 1, falling by equal factors to 0.01.
pub fn sigma(level: usize) -> f64 {
    0.01f64.powf(level as f64 / (LEVELS - 1) as f64)
}

/// Sines, then cosines, of f_k ln σ with f_k = 2^(k/4) / 4: one row of `width` columns for each level.
pub fn sigma_embedding(width: usize) -> Vec<f32> {
    let half = width / 2;
    let angle = |level: usize, k: usize| sigma(level).ln() * 0.25 * 2f64.powf(k as f64 / 4.0);
    let row = |level: usize| {
        (0..width).map(move |j| if j < half { angle(level, j).sin() } else { angle(level, j - half).cos() })
    };
    (0..LEVELS).flat_map(row).map(|x| x as f32).collect()
}
