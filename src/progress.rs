//! A progress bar on standard error while something long runs (feature `progress`); silent without the feature and
//! where standard error is not a terminal.

#[cfg(feature = "progress")]
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

    pub fn advance(&self, steps: usize) {
        self.0.inc(steps as u64);
    }
}

#[cfg(feature = "progress")]
impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(not(feature = "progress"))]
pub(crate) struct Progress;

#[cfg(not(feature = "progress"))]
impl Progress {
    pub fn new(_: &'static str, _: usize) -> Self {
        Self
    }

    pub fn advance(&self, _: usize) {}
}
