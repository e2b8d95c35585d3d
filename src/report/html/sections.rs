//! The sections that most reports have.

use ndarray::{ArrayView1, ArrayView2};

use super::Report;
use crate::error::{Error, check_length};
use crate::report::axis::signed;
use crate::report::svg::escape;
use crate::report::{Corner, coverage_plot, loss_curves, pp_plot, rank_histograms};
use crate::train::{Epoch, History};
use crate::validate::{Finding, Validation, Verdict};

/// Points of calibration curves, bins of rank histograms, and what bands hold.
const LEVELS: usize = 100;
const BINS: usize = 20;
const CONFIDENCE: f64 = 0.95;

impl Report {
    /// Adds what the simulations look like: rows, and mean, deviation and range of each parameter `[rows x parameters]` and
    /// feature `[rows x features]`. Numbers that are not finite are left out and counted.
    ///
    /// # Errors
    /// [`Error::Length`] if names and parameters differ in number, or the tables in rows.
    pub fn data(self, names: &[impl AsRef<str>], theta: ArrayView2<f64>, x: ArrayView2<f64>) -> Result<Self, Error> {
        check_length("names", theta.ncols(), names.len())?;
        check_length("x rows (one for each row of theta)", theta.nrows(), x.nrows())?;
        let [rows, parameters, features] = [theta.nrows(), theta.ncols(), x.ncols()].map(|n| n.to_string());
        let pairs = [("simulations", rows), ("parameters", parameters), ("features", features)];
        let headings = ["", "mean", "deviation", "least", "greatest", "not finite"];
        let names = names.iter().map(|name| name.as_ref().to_owned());
        let theta: Vec<_> = names.zip(theta.columns()).map(|(name, column)| summary(name, column)).collect();
        let x: Vec<_> =
            x.columns().into_iter().enumerate().map(|(j, column)| summary(format!("x{j}"), column)).collect();
        let report = self.section("Data").pairs(&pairs).table(&headings, &theta);
        Ok(report.add("<details><summary>The features</summary>\n").table(&headings, &x).add("</details>\n"))
    }

    /// Adds how the training went: its best epoch, its time and its loss curves.
    ///
    /// # Errors
    /// As [`loss_curves`].
    pub fn training(self, history: &History) -> Result<Self, Error> {
        let column = |f: fn(&Epoch) -> f64| history.epochs.iter().map(f).collect::<Vec<_>>();
        let report = self.section("Training");
        let (Some(best), Some(last)) = (history.best(), history.epochs.last()) else {
            return Ok(report.text("No epoch was completed."));
        };
        let losses = loss_curves(&column(|e| e.training_loss), &column(|e| e.validation_loss), best.epoch)?;
        let report = report.pairs(&[
            ("epochs", last.epoch.to_string()),
            ("best epoch", best.epoch.to_string()),
            ("its validation loss", signed(best.validation_loss, 4)),
            ("time", format!("{:.1} s", last.seconds)),
        ]);
        Ok(report.picture(&losses, "Mean loss of the training rows and of the rows kept for early stopping."))
    }

    /// Adds the findings of a validation, with verdicts, and its P-P curves, rank histograms, and coverage.
    ///
    /// # Errors
    /// As [`pp_plot`], [`rank_histograms`] and [`coverage_plot`].
    pub fn validation(self, validation: &Validation) -> Result<Self, Error> {
        let names = &validation.names;
        let pp = pp_plot(names, &validation.pp_curves(LEVELS, CONFIDENCE)?)?;
        let bins = (validation.pit.nrows() / 5).clamp(2, BINS);
        let ranks = rank_histograms(names, &validation.rank_histograms(bins, CONFIDENCE)?)?;
        let (regions, balls) = (validation.coverage(LEVELS, CONFIDENCE)?, validation.tarp_curve(LEVELS, CONFIDENCE)?);
        let mut curves: Vec<_> = regions.iter().map(|curve| ("highest-density regions", curve)).collect();
        curves.push(("random points (TARP)", &balls));

        let [rows, draws] = [validation.pit.nrows(), validation.draws].map(|n| n.to_string());
        let report = self.section("Validation").pairs(&[("test simulations", rows), ("draws for each", draws)]);
        let report = report.findings(&validation.findings());
        let report =
            report.picture(&pp, "P-P curves of each parameter's PIT values. Right posteriors follow the diagonal.");
        let report = report.picture(&ranks, "Ranks of the true parameters. Right posteriors give flat histograms.");
        Ok(report.picture(
            &coverage_plot(&curves)?,
            "How often regions held the truth. The band of highest-density regions is where a right posterior stays; that of \
             TARP is the curve's own uncertainty, and should hold the diagonal.",
        ))
    }

    /// Adds findings: the worst verdict, then every one that is not sound, and folded away those that are.
    pub fn findings(self, findings: &[Finding]) -> Self {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Sound);
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let counts =
            [Verdict::Sound, Verdict::Doubtful, Verdict::Wrong].map(|v| format!("{} {v}", count(v))).join(", ");
        let item = |finding: &Finding| {
            format!("<li>{}<span>{}</span></li>\n", badge(finding.verdict), escape(&finding.sentence))
        };
        let list = |sound| {
            let some = findings.iter().filter(|finding| (finding.verdict == Verdict::Sound) == sound);
            let items: String = some.map(item).collect();
            if items.is_empty() { items } else { format!("<ul class=\"findings\">\n{items}</ul>\n") }
        };
        let summary = format!("<strong>{} {worst}</strong> <span>overall: {counts}.</span>", mark(worst));
        self.add(&format!("<p class=\"summary {worst}\">{summary}</p>\n{}", list(false)))
            .add(&format!("<details><summary>What is sound</summary>\n{}</details>\n", list(true)))
    }

    /// Adds a corner plot in a section of its own.
    ///
    /// # Errors
    /// As [`Corner::draw`].
    pub fn corner(self, corner: &Corner<'_>, caption: &str) -> Result<Self, Error> {
        Ok(self.section("Posterior").picture(&corner.draw()?, caption))
    }
}

/// A verdict that is told apart without colours.
fn badge(verdict: Verdict) -> String {
    format!("<span class=\"verdict {verdict}\">{} {verdict}</span>", mark(verdict))
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Sound => "✓",
        Verdict::Doubtful => "?",
        Verdict::Wrong => "✗",
    }
}

/// A row of the table of data.
fn summary(name: String, column: ArrayView1<f64>) -> Vec<String> {
    let finite: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
    let n = finite.len() as f64;
    // Divided first: sums and squares of large numbers overflow.
    let mean: f64 = finite.iter().map(|value| value / n).sum();
    let reach = finite.iter().map(|value| (value - mean).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let square: f64 = finite.iter().map(|value| ((value - mean) / reach).powi(2) / n).sum();
    let deviation = reach * square.sqrt();
    let [least, greatest] = [f64::min as fn(f64, f64) -> f64, f64::max].map(|f| finite.iter().copied().reduce(f));
    let figures =
        [Some(mean), Some(deviation), least, greatest].map(|f| f.filter(|_| n > 0.0).map_or("–".into(), number));
    let missing = (column.len() - finite.len()).to_string();
    [vec![name], figures.to_vec(), vec![missing]].concat()
}

/// Four digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e6).contains(&size) {
        let decimals = if size == 0.0 { 0 } else { (3 - size.log10().floor() as i32).max(0) as usize };
        return signed(value, decimals);
    }
    format!("{value:.3e}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn columns_are_summed_up_and_what_is_not_finite_is_counted() {
        let row = |values: ArrayView1<f64>| summary("a".into(), values)[1..].join(" ");
        assert_eq!(row(array![1.0, 2.0, 3.0, f64::NAN].view()), "2.000 0.8165 1.000 3.000 1");
        assert_eq!(row(array![1e300, -1e300].view()), "0 1.000e300 −1.000e300 1.000e300 0");
        assert_eq!(row(array![f64::INFINITY].view()), "– – – – 1");
        assert_eq!(row(array![].view()), "– – – – 0");
    }
}
