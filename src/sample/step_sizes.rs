//! Step sizes of chains, found by dual averaging (Hoffman & Gelman 2014, 3.2).
//!
//! They stay where the chains are: on a device a kernel adapts them.

#[cfg(feature = "cuda")]
use std::sync::Arc;

use crate::device::Device;
#[cfg(feature = "cuda")]
use crate::device::cuda::{Argument, Cuda, Grid};
use crate::error::Error;
use crate::real::Real;
use crate::store::Vector;

/// The step size of each chain, and what its adaptation has come to.
#[derive(Debug)]
pub(super) struct StepSizes<T> {
    #[cfg(feature = "cuda")]
    cuda: Option<Arc<Cuda>>,
    steps: Vector<T>,
    errors: Vector<f64>,
    /// The averages of ln(step).
    averages: Vector<f64>,
    /// Towards which ln(step) is drawn.
    centre: f64,
}

/// The adaptation after the m-th trajectory of a warm-up, counted from 1, with the constants of Hoffman & Gelman.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    /// Acceptance that the steps aim at.
    pub target: f64,
    pub m: usize,
    /// Whether the warm-up is over, after which the averages are kept.
    pub last: bool,
}

impl<T: Real> StepSizes<T> {
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "there is only the processor"))]
    pub fn new(device: &Device) -> Self {
        let [errors, averages] = [(); 2].map(|()| Vec::new().into());
        Self {
            #[cfg(feature = "cuda")]
            cuda: device.as_cuda().cloned(),
            steps: Vec::new().into(),
            errors,
            averages,
            centre: 0.0,
        }
    }

    /// All chains take this step.
    pub fn restart(&mut self, chains: usize, step: f64) {
        self.centre = (10.0 * step).ln();
        self.steps.renew(chains).fill(T::from_f64(step));
        self.errors.renew(chains).fill(0.0);
        self.averages.renew(chains).fill(step.ln());
    }

    /// The steps, one for each chain.
    pub fn steps(&self) -> &Vector<T> {
        &self.steps
    }

    /// Chooses the next steps by the acceptance of the last ones, the last column of the chains' state.
    pub fn adapt(&mut self, state: &Vector<T>, width: usize, update: Update) -> Result<(), Error> {
        #[cfg(feature = "cuda")]
        if let Some(cuda) = self.cuda.clone() {
            return self.adapt_on(&cuda, state, width, update);
        }
        let Update { target, m, last } = update;
        let [count, root, rate] = factors(m);
        let chains = self.steps.iter_mut().zip(self.errors.iter_mut()).zip(self.averages.iter_mut());
        for (((step, error), average), state) in chains.zip(state.chunks_exact(width)) {
            let shortfall = target - state[width - 1].to_f64();
            *error += (shortfall - *error) / count;
            let ln_step = self.centre - *error * root / 0.05;
            *average += rate * (ln_step - *average);
            *step = T::from_f64(if last { *average } else { ln_step }.exp());
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn adapt_on(
        &mut self,
        cuda: &Arc<Cuda>,
        state: &Vector<T>,
        width: usize,
        Update { target, m, last }: Update,
    ) -> Result<(), Error> {
        if state.count() == 0 {
            return Ok(());
        }
        let _turn = cuda.turn();
        let state = state.on_device(cuda)?;
        let (chains, steps) = (state.len() / width, self.steps.on_device_mut(cuda)?);
        let [errors, averages] = [self.errors.on_device_mut(cuda)?, self.averages.on_device_mut(cuda)?];
        let [count, root, rate] = factors(m);
        let [target, centre, count, root, rate] = [target, self.centre, count, root, rate].map(Argument::real);
        let tables =
            [state.address().into(), steps.address().into(), errors.address().into(), averages.address().into()];
        let numbers = [target, centre, count, root, rate];
        let sizes = [Argument::int(usize::from(last)), Argument::int(width), Argument::size(chains)];
        let arguments: Vec<Argument> = tables.into_iter().chain(numbers).chain(sizes).collect();
        cuda.launch::<T>(("hmc", "hmc_adapt"), Grid::threads(chains), &arguments)
    }
}

/// m + t₀, √m, m^-κ
fn factors(m: usize) -> [f64; 3] {
    let m = m as f64;
    [m + 10.0, m.sqrt(), m.powf(-0.75)]
}
