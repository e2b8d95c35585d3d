//! What the steps of an epoch come to. On a device nothing is waited for between them.

use crate::vector::Vector;

/// The sum over the rows of their losses, the sum of the steps' norms, and how many steps there were since loss or norm was
/// last finite.
#[derive(Debug)]
pub(super) struct Course(pub Vector<f64>);

impl Course {
    /// Before the first step.
    pub fn new() -> Self {
        Self(vec![0.0; 3].into())
    }

    /// Before the first step of the next epoch.
    pub fn restart(&mut self) {
        self.0.fill(0.0);
    }

    /// One more step.
    pub fn add(&mut self, loss: f64, norm: f64) {
        let [sum, norms, lost] = &mut self.0[..] else { return };
        if *lost > 0.0 || !(loss.is_finite() && norm.is_finite()) {
            *lost += 1.0;
        } else {
            (*sum, *norms) = (*sum + loss, *norms + norm);
        }
    }

    /// Losses, norms, steps that were lost.
    pub fn sums(&self) -> [f64; 3] {
        std::array::from_fn(|i| self.0.get(i).copied().unwrap_or(f64::NAN))
    }
}
