//! Posteriors known up to a constant: a learned likelihood or ratio times the prior, sampled by Hamiltonian Monte Carlo.

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::graph::{Graph, Var};
use crate::models::{Generative, Problem};
use crate::real::Real;
use crate::sbi::{Dataset, Estimator, Origin, Posterior, Prior, Scales, Standardise};
use crate::store::Store;
use crate::train::{Checkpoints, History, Training};

/// What is learned from, and for which prior.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a, T: Real> {
    pub device: &'a Device,
    pub data: &'a Dataset<T>,
    pub prior: &'a Prior,
    pub checkpoints: Option<&'a dyn Checkpoints<T>>,
}

impl<'a, T: Real> Evidence<'a, T> {
    pub fn problem(&self, training: &'a Training, seed: u64) -> Problem<'a, T> {
        Problem { checkpoints: self.checkpoints, ..self.data.problem(self.device, training, seed) }
    }

    /// The posterior of a trained model.
    pub fn posterior<M: Generative<T>>(
        &self,
        estimator: Option<Estimator>,
        model: M,
        (store, history): (Store<T>, History),
    ) -> (Posterior<T, M>, History) {
        let (prior, data) = (Some(self.prior.clone()), self.data.summary());
        let origin = Origin { estimator, prior, data, history: history.clone() };
        (Posterior::new(self.device, &self.data.scales, (Box::new(model), store), origin), history)
    }
}

/// The prior in learned coordinates.
#[derive(Clone, Debug)]
pub(super) struct LearnedPrior {
    prior: Prior,
    scale: Standardise,
}

impl LearnedPrior {
    pub fn new(prior: Prior, scales: &Scales) -> Result<Self, Error> {
        check_length("parameters of the prior (those of the data set)", scales.support.dim(), prior.dim())?;
        if scales.x.width() == 0 {
            let why = "the data set has no features: there is nothing whose likelihood could be learned";
            return Err(Error::parameter("x", why));
        }
        Ok(Self { prior, scale: scales.theta.clone() })
    }

    /// ln p(z) = ln p(θ) + ln |dθ/du| - ln |dz/du|
    fn log_prob(&self, z: &[f64]) -> f64 {
        let u: Vec<f64> = z.iter().enumerate().map(|(j, &z)| self.scale.inverse(j, z)).collect();
        let (support, mut theta) = (self.prior.support(), vec![0.0; z.len()]);
        match (support.constrain(&u, &mut theta), support.ln_det(&u)) {
            (Ok(()), Ok(ln_det)) => self.prior.log_prob(&theta) + ln_det - self.scale.ln_det(z),
            _ => f64::NEG_INFINITY,
        }
    }

    /// Records ln p(z). The gradient is a difference quotient: a prior is any code, and the Metropolis decision is made
    /// by the value alone.
    pub fn record<T: Real>(&self, graph: &mut Graph<T>, z: Var) -> Result<Var, Error> {
        const H: f64 = 1e-4;
        let own = self.clone();
        graph.log_density_function(z, move |z, gradient| {
            let mut z: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
            for (j, gradient) in gradient.iter_mut().enumerate() {
                let at = z[j];
                let [above, below] = [H, -H].map(|h| {
                    z[j] = at + h;
                    own.log_prob(&z)
                });
                z[j] = at;
                *gradient = T::from_f64((above - below) / (2.0 * H));
            }
            T::from_f64(own.log_prob(&z))
        })
    }
}
