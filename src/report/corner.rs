//! The corner plot: every marginal on the diagonal, every pair of parameters below it.

use super::contour::{Density, bin, contours, fill_outline};
use super::frame::{Axis, Frame, exponent, pieces_above, signed, widened};
use super::style::{Canvas, Font, GREY, HEADING, INK, LABEL, LEGEND, Point, colour, render};
use crate::error::check_length;
use crate::error::{Error, check_finite};
use crate::files;
use ndarray::{ArrayView1, ArrayView2};
use plotters::prelude::Color;
use plotters::style::text_anchor::HPos;
use std::path::Path;

/// The mass inside the outer and the inner contour.
const PARTS: [f64; 2] = [0.95, 0.68];
/// How strongly the first series' regions are filled, the inner one over the outer one.
const SHADES: [f64; 2] = [0.22, 0.4];
/// Lattice nodes along a marginal, and along each side of a pair.
const NODES_1D: usize = 256;
const NODES_2D: usize = 128;

/// A corner plot under construction.
///
/// The first series is filled; each further one is drawn as lines. In every panel the shades or
/// lines are the smallest regions that hold 68 and 95 % of the *mass* of that panel's draws, from a
/// Gaussian kernel density whose bandwidth is chosen by leave-one-out likelihood. Above each
/// marginal stand the first series' median and the distances to its 84th and 16th percentile.
///
/// ```
/// use ndarray::Array2;
/// use retrodict::report::Corner;
///
/// # fn main() -> Result<(), retrodict::Error> {
/// let draws = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (7 + j)) as f64).sin() + j as f64);
/// let path = std::env::temp_dir().join("retrodict-doc-corner.svg");
/// Corner::new(&["log M* [M☉]", "age [Gyr]"])
///     .series("posterior", draws.view())
///     .truth(&[0.1, 1.2])
///     .save(&path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Corner<'a> {
    names: Vec<String>,
    title: String,
    series: Vec<Series<'a>>,
    truth: Option<Vec<f64>>,
    ranges: Vec<(usize, f64, f64)>,
}

#[derive(Debug, Clone)]
struct Series<'a> {
    name: String,
    draws: ArrayView2<'a, f64>,
    weights: Option<&'a [f64]>,
}

impl<'a> Corner<'a> {
    /// A plot of the named parameters; units belong to the name, as in `"age [Gyr]"`.
    pub fn new(names: &[impl AsRef<str>]) -> Self {
        let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { names, title: String::new(), series: Vec::new(), truth: None, ranges: Vec::new() }
    }

    /// Adds draws `[draws x parameters]` under a name for the legend.
    pub fn series(mut self, name: &str, draws: ArrayView2<'a, f64>) -> Self {
        self.series.push(Series { name: name.to_owned(), draws, weights: None });
        self
    }

    /// Adds draws of which each counts with its own weight; only the weights' ratios matter.
    pub fn weighted(mut self, name: &str, draws: ArrayView2<'a, f64>, weights: &'a [f64]) -> Self {
        self.series.push(Series { name: name.to_owned(), draws, weights: Some(weights) });
        self
    }

    /// Marks a value of every parameter by lines through all panels.
    pub fn truth(mut self, values: &[f64]) -> Self {
        self.truth = Some(values.to_vec());
        self
    }

    /// Sets the heading.
    pub fn title(mut self, title: &str) -> Self {
        self.title = title.to_owned();
        self
    }

    /// Shows parameter `i` from `lo` to `hi`, instead of from its 0.5 to its 99.5 percentile, a
    /// tenth wider on both sides and far enough for the truth.
    ///
    /// Give a prior's bounds here when draws pile up at them: densities are corrected for what the
    /// kernel would put beyond a panel's edge. Mass outside still counts: the contours hold 68 and
    /// 95 % of all draws, not of those shown.
    pub fn range(mut self, i: usize, lo: f64, hi: f64) -> Self {
        self.ranges.push((i, lo, hi));
        self
    }

    /// Writes the plot to an SVG file, replacing an older one in one step.
    ///
    /// # Errors
    /// As [`svg`](Self::svg), and [`Error::File`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::write(path, &self.svg()?)
    }

    /// The plot as the text of an SVG file, to be embedded in a page.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no parameter or no series, if a range is empty or of no
    /// parameter, if values are too far apart to be subtracted, or if weights are negative or all
    /// zero; [`Error::Length`] if a series has no draws, or its columns, its weights or the truth
    /// are not as many as they should be; [`Error::NonFinite`] for the first value that is NaN or
    /// infinite.
    pub fn svg(&self) -> Result<String, Error> {
        self.check()?;
        let weights = self.series.iter().map(|series| series.weights(self.names.len()));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        // Panels shrink as they become more, as long as their labels can be read.
        let side = (900.0 / self.names.len() as f64).clamp(110.0, 220.0);
        let axes = (0..self.names.len()).map(|i| self.axis(i, side, &weights));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        let page = Page::new(self, &axes, side);
        Ok(render(page.size(), &self.description(), |canvas| self.draw(canvas, &page, &weights)))
    }

    fn check(&self) -> Result<(), Error> {
        if self.names.is_empty() {
            return Err(Error::parameter("names", "is empty; a corner plot needs at least one"));
        }
        if self.series.is_empty() {
            return Err(Error::parameter("series", "is empty; a corner plot needs at least one"));
        }
        if let Some(truth) = &self.truth {
            check_length("truth values", self.names.len(), truth.len())?;
            let row = ArrayView1::from(truth).insert_axis(ndarray::Axis(0));
            check_finite("truth", row)?;
        }
        match self.ranges.iter().find(|range| range.0 >= self.names.len()) {
            None => Ok(()),
            Some((i, ..)) => {
                let why = format!("there are {} parameters, counted from zero", self.names.len());
                Err(Error::parameter(format!("range {i}"), why))
            }
        }
    }

    /// The axis of one parameter, with the range it was given or one that suits all series.
    fn axis(&self, i: usize, side: f64, weights: &[Vec<f64>]) -> Result<Axis, Error> {
        let given = self.ranges.iter().rev().find(|range| range.0 == i);
        let (lo, hi) = given.map_or_else(|| self.spread(i, weights), |&(_, lo, hi)| (lo, hi));
        Axis::new(&self.names[i], lo, hi, side)
    }

    fn spread(&self, i: usize, weights: &[Vec<f64>]) -> (f64, f64) {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for (series, weights) in self.series.iter().zip(weights) {
            let [low, high] = quantiles(series.draws.column(i), weights, [0.005, 0.995]);
            (lo, hi) = (lo.min(low), hi.max(high));
        }
        let truth = self.truth.as_ref().map(|truth| truth[i]);
        (lo, hi) = widened(lo, hi, 0.1);
        let margin = 0.05 * (hi - lo);
        truth.map_or((lo, hi), |truth| (lo.min(truth - margin), hi.max(truth + margin)))
    }

    fn description(&self) -> String {
        let series: Vec<&str> = self.series.iter().map(|series| &*series.name).collect();
        let title = if self.title.is_empty() { "Corner plot" } else { &self.title };
        format!("{title}: {} for {}", series.join(", "), self.names.join(", "))
    }

    fn draw(&self, canvas: &mut Canvas, page: &Page, weights: &[Vec<f64>]) {
        for i in 0..self.names.len() {
            for j in 0..i {
                self.pair(canvas, &page.panel(i, j), weights, i, j);
            }
            self.marginal(canvas, &page.panel(i, i), weights, i);
            self.summary(canvas, page, &weights[0], i);
        }
        page.labels(canvas);
        self.legend(canvas, page);
        let heading = HEADING.fit(&self.title, page.size()[0] - page.left - MARGIN);
        canvas.text([page.left, MARGIN + 4.0], &self.title, heading);
    }

    fn pair(&self, canvas: &mut Canvas, frame: &Frame, weights: &[Vec<f64>], i: usize, j: usize) {
        for (k, (series, weights)) in self.series.iter().zip(weights).enumerate() {
            let (x, y) = (series.draws.column(j), series.draws.column(i));
            let spots = x.into_iter().zip(y).map(|(&x, &y)| [frame.x.unit(x), frame.y.unit(y)]);
            let mass = bin((NODES_2D, NODES_2D), spots.zip(weights.iter().copied()));
            let density = Density::new(&mass, effective(weights));
            for (part, shade) in PARTS.into_iter().zip(SHADES) {
                let curves = contours(density.value.view(), density.level(part));
                if k == 0 {
                    canvas.area(&frame.spots(fill_outline(&curves)), colour(k).mix(shade));
                }
                for mut curve in curves {
                    curve.push(curve[0]);
                    canvas.line(&frame.spots(curve), colour(k), line_width(k, part));
                }
            }
        }
        if let Some(truth) = &self.truth {
            cross(canvas, frame, truth[j], Some(truth[i]));
        }
        frame.border(canvas);
        frame.x_ticks(canvas);
        frame.y_ticks(canvas);
    }

    fn marginal(&self, canvas: &mut Canvas, frame: &Frame, weights: &[Vec<f64>], i: usize) {
        let density = |(series, weights): (&Series, &Vec<f64>)| {
            let spots = series.draws.column(i).into_iter().map(|&x| [frame.x.unit(x), 0.0]);
            let mass = bin((1, NODES_1D), spots.zip(weights.iter().copied()));
            Density::new(&mass, effective(weights))
        };
        let densities: Vec<Density> = self.series.iter().zip(weights).map(density).collect();
        let values = densities.iter().flat_map(|density| &density.value);
        let height = 0.92 / values.fold(f64::MIN_POSITIVE, |peak, &value| peak.max(value));
        for (k, density) in densities.iter().enumerate() {
            let nodes = density.value.iter().enumerate();
            let curve: Vec<[f64; 2]> =
                nodes.map(|(c, value)| [c as f64 / (NODES_1D - 1) as f64, value * height]).collect();
            for (part, shade) in PARTS.into_iter().zip(SHADES).filter(|_| k == 0) {
                for mut piece in pieces_above(&curve, density.level(part) * height) {
                    let (first, last) = (piece[0][0], piece[piece.len() - 1][0]);
                    piece.extend([[last, 0.0], [first, 0.0]]);
                    canvas.area(&frame.spots(piece), colour(k).mix(shade));
                }
            }
            canvas.line(&frame.spots(curve), colour(k), line_width(k, PARTS[1]));
        }
        if let Some(truth) = &self.truth {
            cross(canvas, frame, truth[i], None);
        }
        frame.border(canvas);
        frame.x_ticks(canvas);
    }

    /// Name and `median +hi −lo` of the first series above a marginal.
    fn summary(&self, canvas: &mut Canvas, page: &Page, weights: &[f64], i: usize) {
        let (axis, frame) = (&page.axes[i], page.panel(i, i));
        let scale = 10f64.powi(-axis.power);
        let column = self.series[0].draws.column(i);
        let [low, median, high] = quantiles(column, weights, [0.16, 0.5, 0.84]).map(|q| q * scale);
        let (plus, minus) = (high - median, median - low);
        let smaller = if plus.min(minus) > 0.0 { plus.min(minus) } else { plus.max(minus) };
        // Two digits of the smaller error.
        let decimals = (1 - exponent(smaller)).clamp(0, 6) as usize;
        let text = signed(median, decimals);
        let [plus, minus] = [format!("+{plus:.decimals$}"), format!("−{minus:.decimals$}")];

        let small = Font { size: 0.76 * LABEL.size, ..LABEL };
        let [base, errors] = [LABEL.width(&text), small.width(&plus).max(small.width(&minus))];
        let all = base + errors + LABEL.width(&axis.times());
        let shrink = (page.side / all).min(1.0);
        let font = |like: Font, align| Font { size: shrink * like.size, align, ..like };

        let [middle, y] = [frame.left + frame.width / 2.0, frame.top - 12.0];
        // Where the number ends and its errors begin.
        let joint = middle + shrink * (base - all / 2.0);
        let raise = 0.42 * shrink * LABEL.size;
        canvas.text([joint - 1.0, y], &text, font(LABEL, HPos::Right));
        canvas.text([joint + 1.0, y - raise], &plus, font(small, HPos::Left));
        canvas.text([joint + 1.0, y + raise], &minus, font(small, HPos::Left));
        canvas.text([joint + shrink * errors + 3.0, y], &axis.times(), font(LABEL, HPos::Left));
        canvas.label([middle, y - 1.6 * LABEL.size], &self.names[i], page.side, 1.0, LABEL);
    }

    fn legend(&self, canvas: &mut Canvas, page: &Page) {
        let (left, mut y) = (page.legend_left(), page.top + 6.0);
        for (k, series) in self.series.iter().enumerate() {
            let halves = [[13.0, 7.0], [7.0, 3.5]];
            for ((part, shade), [w, h]) in PARTS.into_iter().zip(SHADES).zip(halves) {
                let [x0, x1, y0, y1] = [left + 13.0 - w, left + 13.0 + w, y - h, y + h];
                let corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]];
                if k == 0 {
                    canvas.area(&corners, colour(k).mix(shade));
                }
                canvas.line(&corners, colour(k), line_width(k, part));
            }
            canvas.text([left + 34.0, y], &series.name, LEGEND);
            y += ROW;
        }
        if self.truth.is_some() {
            canvas.line(&[[left, y], [left + 26.0, y]], INK, 0.9);
            square(canvas, [left + 13.0, y]);
            canvas.text([left + 34.0, y], TRUTH, LEGEND);
            y += ROW;
        }
        canvas.text([left, y], MASS, Font { colour: GREY, ..LEGEND });
    }
}

impl Series<'_> {
    /// Checks the series and returns its weights, which sum to 1.
    fn weights(&self, parameters: usize) -> Result<Vec<f64>, Error> {
        check_length("draws columns", parameters, self.draws.ncols())?;
        let rows = self.draws.nrows();
        if rows == 0 {
            return Err(Error::Length { what: "draws rows", expected: 1, found: 0 });
        }
        check_finite("draws", self.draws)?;
        let Some(weights) = self.weights else {
            return Ok(vec![1.0 / rows as f64; rows]);
        };
        check_length("weights", rows, weights.len())?;
        check_finite("weights", ArrayView1::from(weights).insert_axis(ndarray::Axis(1)))?;
        let largest = weights.iter().fold(0.0, |a: f64, &b| a.max(b));
        if largest <= 0.0 || weights.iter().any(|&weight| weight < 0.0) {
            let why = "has weights below zero or none above; they must be at least 0, and one above 0";
            return Err(Error::parameter(&*self.name, why));
        }
        let total: f64 = weights.iter().map(|weight| weight / largest).sum();
        Ok(weights.iter().map(|weight| weight / largest / total).collect())
    }
}

/// Kish's effective number of draws, (Σw)² / Σw², of weights that sum to 1.
fn effective(weights: &[f64]) -> f64 {
    1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>()
}

/// Weighted quantiles: each draw stands in the middle of its weight, with straight lines between.
fn quantiles<const N: usize>(column: ArrayView1<f64>, weights: &[f64], parts: [f64; N]) -> [f64; N] {
    let draws = column.into_iter().copied().zip(weights.iter().copied());
    let mut sorted: Vec<(f64, f64)> = draws.filter(|&(_, weight)| weight > 0.0).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = 0.0;
    for draw in &mut sorted {
        let weight = draw.1;
        draw.1 = below + 0.5 * weight;
        below += weight;
    }
    parts.map(|part| {
        let k = sorted.partition_point(|draw| draw.1 < part);
        let (a, b) = (sorted[k.saturating_sub(1)], sorted[k.min(sorted.len() - 1)]);
        if b.1 > a.1 { a.0 + (b.0 - a.0) * (part - a.1) / (b.1 - a.1) } else { b.0 }
    })
}

/// The truth's lines, as far as the frame shows them; a marginal has no second value.
fn cross(canvas: &mut Canvas, frame: &Frame, x: f64, y: Option<f64>) {
    let y = y.filter(|&y| frame.y.shows(y));
    if let Some(y) = y {
        canvas.line(&[frame.at(frame.x.lo, y), frame.at(frame.x.hi, y)], INK, 0.9);
    }
    if frame.x.shows(x) {
        canvas.line(&[frame.at(x, frame.y.lo), frame.at(x, frame.y.hi)], INK, 0.9);
        y.into_iter().for_each(|y| square(canvas, frame.at(x, y)));
    }
}

fn square(canvas: &mut Canvas, [x, y]: Point) {
    canvas.rectangle([x - 2.5, y - 2.5], [x + 2.5, y + 2.5], INK);
}

/// The outer contour is the thinner one, and a filled region needs less of a line.
fn line_width(series: usize, part: f64) -> f64 {
    let width = if part < 0.9 { 1.4 } else { 0.9 };
    if series == 0 { 0.8 * width } else { width }
}

const MARGIN: f64 = 18.0;
const ROW: f64 = 20.0;
const TRUTH: &str = "truth";
const MASS: &str = "68 / 95 % mass";

/// Where everything stands.
struct Page<'a> {
    axes: &'a [Axis],
    side: f64,
    gap: f64,
    left: f64,
    top: f64,
    /// The width of y tick labels, the same for all rows.
    widest: f64,
    legend: f64,
}

impl<'a> Page<'a> {
    fn new(corner: &Corner, axes: &'a [Axis], side: f64) -> Self {
        let texts = corner.series.iter().map(|series| &*series.name).chain([TRUTH]);
        let legend = texts.map(|text| 34.0 + LEGEND.width(text)).fold(LEGEND.width(MASS), f64::max);
        let widest = axes.iter().skip(1).map(Axis::widest).fold(0.0, f64::max);
        // Room for two lines of a name above the first marginal, left of the first column.
        let left = if axes.len() > 1 { MARGIN + 34.0 + widest } else { MARGIN };
        let top = MARGIN + if corner.title.is_empty() { 50.0 } else { 74.0 };
        Self { axes, side, gap: 0.09 * side, left, top, widest, legend }
    }

    /// Row `i` from the top, column `j` from the left.
    fn panel(&self, i: usize, j: usize) -> Frame<'_> {
        let pitch = self.side + self.gap;
        let (left, top) = (self.left + j as f64 * pitch, self.top + i as f64 * pitch);
        Frame { left, top, width: self.side, height: self.side, x: &self.axes[j], y: &self.axes[i] }
    }

    fn right(&self) -> f64 {
        let last = self.axes.len() - 1;
        self.panel(last, last).left + self.side
    }

    /// The legend stands in the upper right, beside the only panel if there is one.
    fn legend_left(&self) -> f64 {
        let beside_first = self.left + self.side + self.gap + 14.0;
        (self.right() - self.legend).max(beside_first)
    }

    fn size(&self) -> [f64; 2] {
        let last = self.axes.len() - 1;
        let right = self.right().max(self.legend_left() + self.legend);
        [right + MARGIN, self.panel(last, 0).top + self.side + 48.0 + MARGIN]
    }

    /// Names and tick labels under the bottom row and left of the first column.
    fn labels(&self, canvas: &mut Canvas) {
        let last = self.axes.len() - 1;
        for k in 0..=last {
            self.panel(last, k).x_labels(canvas, self.gap / 2.0);
        }
        for k in 1..=last {
            self.panel(k, 0).y_labels(canvas, self.widest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{Folder, assert_well_formed};
    use ndarray::{Array2, array};

    const NAMES: [&str; 3] = ["log M* [M☉]", "a<b & \"c\"", "τ"];

    fn draws(rows: usize, columns: usize) -> Array2<f64> {
        let wave = |i: usize, j: usize| ((i * (3 + 2 * j) + j) as f64 * 0.7).sin();
        Array2::from_shape_fn((rows, columns), |(i, j)| wave(i, j) + wave(i + 1, j + 1) + j as f64)
    }

    #[test]
    fn every_name_stands_in_a_well_formed_file() {
        let (a, b) = (draws(400, 3), draws(100, 3));
        let corner = Corner::new(&NAMES).series("mine", a.view()).series("<exact>", b.view());
        let svg = corner.truth(&[0.0, 1.0, 2.0]).title("Two & one").svg().unwrap();
        assert_well_formed(&svg);
        let texts = ["log M* [M☉]", "a&lt;b &amp; &quot;c&quot;", "τ", "mine", "&lt;exact&gt;"];
        for text in texts.into_iter().chain(["Two &amp; one", "truth", "68 / 95 % mass"]) {
            assert!(svg.contains(&format!(">\n{text}\n</text>")), "{text} is missing");
        }
        // The first series is filled at both levels in each of six panels and in the legend.
        for opacity in ["opacity=\"0.4\"", "opacity=\"0.22\""] {
            assert!(svg.matches(opacity).count() > 3 + 3);
        }
    }

    #[test]
    fn draws_without_weight_change_nothing() {
        let (few, mut all) = (draws(150, 2), draws(300, 2));
        all.slice_mut(ndarray::s![150.., ..]).fill(1e6);
        let weights: Vec<f64> = (0..300).map(|i| if i < 150 { 7.0 } else { 0.0 }).collect();
        let plain = Corner::new(&NAMES[..2]).series("s", few.view()).svg().unwrap();
        let weighted = Corner::new(&NAMES[..2]).weighted("s", all.view(), &weights).svg().unwrap();
        assert!(plain == weighted);
    }

    #[test]
    fn quantiles_are_those_of_the_weighted_draws() {
        let column = array![4.0, 1.0, 3.0, 2.0];
        let parts = [0.0, 0.125, 0.25, 0.5, 1.0];
        assert_eq!(quantiles(column.view(), &[0.25; 4], parts), [1.0, 1.0, 1.5, 2.5, 4.0]);
        let [median] = quantiles(array![0.0, 1.0].view(), &[0.25, 0.75], [0.5]);
        assert!((median - 0.75).abs() < 1e-15); // three quarters of the way from 1/8 to 5/8
        assert_eq!(quantiles(array![9.0].view(), &[1.0], [0.16, 0.84]), [9.0, 9.0]);
    }

    #[test]
    fn odd_draws_still_make_a_plot() {
        let odd = [
            array![[1.0, 2.0]],
            array![[0.0, 0.0], [0.0, 0.0], [0.0, 1e-320]],
            array![[3.0, 1.0], [3.0, 2.0], [3.0, 4.0]],
            array![[-1e300, 1e-290], [1e300, 2e-290], [1e299, 3e-290]],
            array![[1e16, 1e-300], [1e16 + 2.0, -1e-300], [1e16 + 4.0, 0.0]],
        ];
        for draws in &odd {
            for truth in [[1.0, 2.0], [-50.0, 1e200]] {
                let corner = Corner::new(&NAMES[..2]).series("odd", draws.view()).truth(&truth);
                assert_well_formed(&corner.svg().unwrap());
                assert_well_formed(&corner.range(0, 5.0, 6.0).range(1, -1e9, 0.0).svg().unwrap());
            }
        }
        let one = draws(50, 1);
        assert_well_formed(&Corner::new(&["x"]).series("one", one.view()).svg().unwrap());
        let many = draws(60, 11);
        let names: Vec<String> = (0..11).map(|i| format!("a rather long name {i} [km/s]")).collect();
        assert_well_formed(&Corner::new(&names).series("many", many.view()).svg().unwrap());
    }

    #[test]
    fn wrong_input_is_named() {
        let (good, three, empty) = (draws(10, 2), draws(10, 3), draws(0, 2));
        let signs = [1.0, -1.0].repeat(5);
        let corner = || Corner::new(&["a", "b"]);
        let parameter = |corner: Corner, what: &str| match corner.svg() {
            Err(Error::Parameter { name, .. }) => assert_eq!(name, what),
            other => panic!("{other:?}"),
        };
        parameter(Corner::new(&[""; 0]).series("s", good.view()), "names");
        parameter(corner(), "series");
        parameter(corner().series("s", good.view()).range(2, 0.0, 1.0), "range 2");
        for (lo, hi) in [(1.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-1e308, 1e308)] {
            parameter(corner().series("s", good.view()).range(1, lo, hi), "b");
        }
        let wide = array![[0.0, -1e308], [0.0, 1e308]];
        parameter(corner().series("s", wide.view()), "b");
        parameter(corner().weighted("s", good.view(), &[0.0; 10]), "s");
        parameter(corner().weighted("s", good.view(), &signs), "s");

        let length = |corner: Corner, what: &str, expected: usize, found: usize| {
            let Err(Error::Length { what: w, expected: e, found: f }) = corner.svg() else { panic!("{what}") };
            assert_eq!((w, e, f), (what, expected, found));
        };
        length(corner().series("s", three.view()), "draws columns", 2, 3);
        length(corner().series("s", empty.view()), "draws rows", 1, 0);
        length(corner().weighted("s", good.view(), &[1.0; 9]), "weights", 10, 9);
        length(corner().series("s", good.view()).truth(&[1.0]), "truth values", 2, 1);

        let mut bad = good.clone();
        bad[[7, 1]] = f64::NAN;
        let found = corner().series("s", good.view()).series("t", bad.view()).svg();
        assert_eq!(found, Err(Error::NonFinite { what: "draws", row: 7, column: 1 }));
        let found = corner().series("s", good.view()).truth(&[0.0, f64::INFINITY]).svg();
        assert_eq!(found, Err(Error::NonFinite { what: "truth", row: 0, column: 1 }));
        let mut weights = [1.0; 10];
        weights[3] = f64::INFINITY;
        let found = corner().weighted("s", good.view(), &weights).svg();
        assert_eq!(found, Err(Error::NonFinite { what: "weights", row: 3, column: 0 }));
    }

    #[test]
    fn an_older_file_survives_a_failing_call() {
        let folder = Folder::new("corner");
        let path = folder.0.join("corner.svg");
        let (good, bad) = (draws(20, 1), array![[f64::NAN]]);
        Corner::new(&["x"]).series("good", good.view()).save(&path).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        assert_well_formed(&before);
        assert!(Corner::new(&["x"]).series("bad", bad.view()).save(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}
