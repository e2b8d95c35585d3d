//! Rank histograms, with the band in which chance alone would leave their bins.

use super::axis::Axis;
use super::check_names;
use super::frame::Frame;
use super::picture::{Canvas, Picture};
use super::style::{GREY, LABEL, colour};
use crate::error::{Error, check_length};
use crate::validate::Histogram;

const WIDTH: f64 = 170.0;
const HEIGHT: f64 = 100.0;
const COLUMNS: usize = 4;
const GAP: f64 = 26.0;
const MARGIN: f64 = 18.0;
/// Above a panel: its name.
const NAME: f64 = 22.0;
/// Under a panel: tick labels, and under the last one of a column the axis' name.
const TICKS: f64 = 20.0;
const BOTTOM: f64 = 24.0;

/// Draws the histogram of each parameter's ranks: how often the truth fell into each part of the posterior's draws.
///
/// For calibrated posteriors every bin is as likely (Talts et al. 2018): the dashed line, and around it the band in which
/// all bins of a histogram stay. A hump in the middle is a posterior too wide, humps at both ends one too narrow, a slope
/// a shift.
///
/// # Errors
/// [`Error::Parameter`] for no name; [`Error::Length`] if names and histograms differ in number or a histogram has no bin.
pub fn rank_histograms(names: &[impl AsRef<str>], histograms: &[Histogram]) -> Result<Picture, Error> {
    let names = check_names(names, "histograms", histograms.len())?;
    histograms.iter().try_for_each(|h| check_length("bins", h.counts.len().max(1), h.counts.len()))?;
    let most = histograms.iter().flat_map(|h| h.counts.iter().chain([&h.upper])).max().copied().unwrap_or(0);
    let rank = Axis::new("", 0.0, 1.0, WIDTH)?;
    let count = Axis::new("", 0.0, 1.08 * most.max(1) as f64, HEIGHT)?;

    let left = MARGIN + 5.0 + count.widest();
    let columns = names.len().min(COLUMNS);
    let rows = names.len().div_ceil(COLUMNS);
    let pitch = NAME + HEIGHT + TICKS;
    let frame = |k: usize| {
        let (column, row) = (k % COLUMNS, k / COLUMNS);
        let (left, top) = (left + column as f64 * (WIDTH + GAP), MARGIN / 2.0 + NAME + row as f64 * pitch);
        Frame { left, top, width: WIDTH, height: HEIGHT, x: &rank, y: &count }
    };
    let width = left + columns as f64 * (WIDTH + GAP) - GAP + MARGIN;
    let size = [width, MARGIN / 2.0 + rows as f64 * pitch + BOTTOM];
    Ok(Picture::draw(size, "Rank histograms", &in_words(&names, histograms), |canvas| {
        for (k, (name, histogram)) in names.iter().zip(histograms).enumerate() {
            let frame = frame(k);
            draw_panel(canvas, &frame, histogram);
            let middle = frame.left + WIDTH / 2.0;
            canvas.text([middle, frame.top - 10.0], name, LABEL.fit(name, WIDTH));
            frame.x_labels(canvas, GAP / 2.0);
            if k % COLUMNS == 0 {
                frame.y_labels(canvas, count.widest());
            }
        }
        let middle = left + (width - left - MARGIN) / 2.0;
        canvas.text(
            [middle, size[1] - MARGIN],
            "rank of the truth, as a fraction",
            LABEL.fit("rank of the truth, as a fraction", WIDTH),
        );
    }))
}

fn draw_panel(canvas: &mut Canvas, frame: &Frame, histogram: &Histogram) {
    let bins = histogram.counts.len() as f64;
    for (k, &count) in histogram.counts.iter().enumerate() {
        let [x0, x1] = [k as f64 / bins, (k + 1) as f64 / bins];
        canvas.rectangle(frame.at(x0, count as f64), frame.at(x1, 0.0), colour(0).mix(0.4));
    }
    let [lower, upper] = [histogram.lower, histogram.upper].map(|count| count as f64);
    canvas.rectangle(frame.at(0.0, upper), frame.at(1.0, lower), GREY.mix(0.2));
    frame.guide(canvas, [0.0, histogram.expected], [1.0, histogram.expected]);
    let steps = histogram
        .counts
        .iter()
        .enumerate()
        .flat_map(|(k, &count)| [k, k + 1].map(|edge| frame.at(edge as f64 / bins, count as f64)));
    canvas.line(&steps.collect::<Vec<_>>(), colour(0), 1.2);
    frame.border(canvas);
    frame.x_ticks(canvas);
    frame.y_ticks(canvas);
}

fn in_words(names: &[&str], histograms: &[Histogram]) -> String {
    let words = |(name, histogram): (&&str, &Histogram)| {
        let outside = histogram.counts.iter().filter(|&&c| c < histogram.lower || c > histogram.upper).count();
        format!("{name}: {outside} of {} bins outside the band.", histogram.counts.len())
    };
    names.iter().zip(histograms).map(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_apart, assert_well_formed, length, parameter, texts};

    #[test]
    fn each_parameter_has_a_panel_and_bins_outside_are_counted() {
        let histogram = |shift: usize| {
            let counts = (0..10).map(|k| 100 + shift * k).collect();
            Histogram { counts, expected: 100.0, lower: 80, upper: 120 }
        };
        let names: Vec<String> = (0..6).map(|i| format!("a rather long name {i} [km/s]")).collect();
        let histograms: Vec<Histogram> = (0..6).map(histogram).collect();
        let picture = rank_histograms(&names, &histograms).unwrap();
        assert_well_formed(&picture.to_svg());
        assert_apart(&picture);
        assert!(names.iter().all(|name| texts(&picture.to_svg()).contains(name)));
        assert!(picture.description().contains("name 0 [km/s]: 0 of 10 bins outside"));
        assert!(picture.description().contains("name 5 [km/s]: 5 of 10 bins outside"));
    }

    #[test]
    fn odd_histograms_still_make_a_picture_and_wrong_ones_are_named() {
        let none = Histogram { counts: vec![0], expected: 0.0, lower: 0, upper: 0 };
        assert_well_formed(&rank_histograms(&["x"], std::slice::from_ref(&none)).unwrap().to_svg());
        parameter(rank_histograms(&[""; 0], &[]), "names");
        length(rank_histograms(&["x", "y"], std::slice::from_ref(&none)), "histograms");
        length(rank_histograms(&["x"], &[Histogram { counts: vec![], ..none }]), "bins");
    }
}
