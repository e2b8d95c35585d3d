//! Long work: a bar that shows how far it is, and a switch that stops it.
//!
//! The bar stands on standard error (feature `progress`); there is none without the feature, and none where standard
//! error is not a terminal.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Stops long work from elsewhere: another thread, or a handler of Ctrl-C. Its clones are the same switch.
///
/// ```
/// use retrodict::progress::Cancel;
/// let cancel = Cancel::default();
/// let handle = cancel.clone();
/// std::thread::spawn(move || handle.cancel()).join().unwrap();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the work to stop at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Accompanies work on many rows in many steps: shows how far it is, and hears when it should stop.
#[derive(Debug)]
pub struct Watch {
    bar: Progress,
    done: Cell<usize>,
    cancel: Cancel,
}

impl Watch {
    /// A bar of this many rows, and the switch that stops the work.
    pub fn new(label: &'static str, rows: usize, cancel: &Cancel) -> Self {
        Self { bar: Progress::new(label, rows), done: Cell::new(0), cancel: cancel.clone() }
    }

    /// No bar.
    pub fn silent(cancel: &Cancel) -> Self {
        Self { bar: Progress::hidden(), done: Cell::new(0), cancel: cancel.clone() }
    }

    /// The switch that stops the work.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The next `rows` rows have done `step` of `steps` steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the work was asked to stop.
    pub fn at(&self, rows: usize, step: usize, steps: usize) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled { step, steps });
        }
        self.bar.show(self.done.get() + rows * step / steps.max(1));
        Ok(())
    }

    /// The next `rows` rows are done.
    pub fn finish(&self, rows: usize) {
        self.done.set(self.done.get() + rows);
        self.bar.show(self.done.get());
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::silent(&Cancel::default())
    }
}

#[cfg(feature = "progress")]
#[derive(Debug)]
pub(crate) struct Progress(indicatif::ProgressBar);

#[cfg(feature = "progress")]
impl Progress {
    pub fn new(label: &'static str, steps: usize) -> Self {
        let bar = indicatif::ProgressBar::new(steps as u64);
        let style = indicatif::ProgressStyle::with_template("{msg:9} {wide_bar} {percent:>3} % {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
        bar.set_message(label);
        Self(bar)
    }

    pub fn hidden() -> Self {
        Self(indicatif::ProgressBar::hidden())
    }

    pub fn advance(&self, steps: usize) {
        self.0.inc(steps as u64);
    }

    pub fn show(&self, steps: usize) {
        self.0.set_position(steps as u64);
    }
}

#[cfg(feature = "progress")]
impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(not(feature = "progress"))]
#[derive(Debug)]
pub(crate) struct Progress;

#[cfg(not(feature = "progress"))]
impl Progress {
    pub fn new(_: &'static str, _: usize) -> Self {
        Self
    }

    pub fn hidden() -> Self {
        Self
    }

    pub fn advance(&self, _: usize) {}

    pub fn show(&self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stops_at_the_step_after_the_switch() {
        let cancel = Cancel::default();
        let watch = Watch::new("test", 10, &cancel);
        assert_eq!(watch.at(10, 3, 5), Ok(()));
        cancel.clone().cancel();
        assert_eq!(watch.at(10, 4, 5), Err(Error::Cancelled { step: 4, steps: 5 }));
    }
}
