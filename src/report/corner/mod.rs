//! The corner plot: every marginal on the diagonal, every pair of parameters below it.

mod page;
mod summary;

use ndarray::{ArrayView1, ArrayView2};

use self::page::{MARGIN, MASS, Page, ROW, TRUTH};
use self::summary::Summary;
use super::axis::{Axis, widened};
use super::contour::{Density, bin, contours};
use super::frame::{Frame, pieces_above};
use super::picture::{Canvas, Picture, Point};
use super::quantiles::{effective, quantiles};
use super::style::{Font, GREY, HEADING, INK, LABEL, LEGEND, colour};
use crate::error::{Error, check_finite, check_length};

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
///     .draw()?
///     .write(&path)?;
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
    logarithmic: Vec<usize>,
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
        let (series, ranges, logarithmic) = (Vec::new(), Vec::new(), Vec::new());
        Self { names, title: String::new(), series, truth: None, ranges, logarithmic }
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

    /// Shows parameter `i` on a logarithmic axis. Densities are then those of its logarithm.
    pub fn log(mut self, i: usize) -> Self {
        self.logarithmic.push(i);
        self
    }

    /// Draws the plot.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no parameter or no series, if a range is empty or of no
    /// parameter, if a logarithmic axis would have to show a number that is not above 0, if values
    /// are too far apart to be subtracted, or if weights are negative or all zero;
    /// [`Error::Length`] if a series has no draws, or its columns, its weights or the truth are not
    /// as many as they should be; [`Error::NonFinite`] for the first value that is NaN or infinite.
    pub fn draw(&self) -> Result<Picture, Error> {
        self.check()?;
        let weights = self.series.iter().map(|series| series.weights(self.names.len()));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        // Panels shrink as they become more, as long as their labels can be read.
        let side = (900.0 / self.names.len() as f64).clamp(110.0, 220.0);
        let axes = (0..self.names.len()).map(|i| self.axis(i, side, &weights));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        let page = Page::new(self, &axes, side);
        let description = self.description(&axes, &weights[0]);
        let title = if self.title.is_empty() { "Corner plot" } else { &self.title };
        Ok(Picture::draw(page.size(), title, &description, |canvas| self.draw_on(canvas, &page, &weights)))
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
        let named = self.ranges.iter().map(|range| ("range", range.0));
        let mut named = named.chain(self.logarithmic.iter().map(|&i| ("log", i)));
        match named.find(|&(_, i)| i >= self.names.len()) {
            None => self.check_positive(),
            Some((what, i)) => {
                let why = format!("there are {} parameters, counted from zero", self.names.len());
                Err(Error::parameter(format!("{what} {i}"), why))
            }
        }
    }

    /// A logarithmic axis has no place for 0 and what is below.
    fn check_positive(&self) -> Result<(), Error> {
        for &i in &self.logarithmic {
            let columns = self.series.iter().filter(|series| i < series.draws.ncols());
            let draws = columns.flat_map(|series| series.draws.column(i)).chain(self.truth.as_ref().map(|t| &t[i]));
            if let Some(value) = draws.into_iter().find(|value| **value <= 0.0) {
                let why =
                    format!("{value} has no place on a logarithmic axis; all draws and the truth must be above 0");
                return Err(Error::parameter(&self.names[i], why));
            }
        }
        Ok(())
    }

    /// The axis of one parameter, with the range it was given or one that suits all series.
    fn axis(&self, i: usize, side: f64, weights: &[Vec<f64>]) -> Result<Axis, Error> {
        let given = self.ranges.iter().rev().find(|range| range.0 == i);
        let logarithmic = self.logarithmic.contains(&i);
        let [to, from]: [fn(f64) -> f64; 2] = if logarithmic { [f64::ln, f64::exp] } else { [|value| value; 2] };
        let spread = || {
            let (lo, hi) = self.spread(i, weights, to);
            (from(lo), from(hi))
        };
        let (lo, hi) = given.map_or_else(spread, |&(_, lo, hi)| (lo, hi));
        let axis = if logarithmic { Axis::logarithmic } else { Axis::new };
        axis(self.names[i].clone(), lo, hi, side)
    }

    /// What suits all series and the truth, on the scale of the axis.
    fn spread(&self, i: usize, weights: &[Vec<f64>], scale: fn(f64) -> f64) -> (f64, f64) {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for (series, weights) in self.series.iter().zip(weights) {
            let [low, high] = quantiles(series.draws.column(i), weights, [0.005, 0.995]).map(scale);
            (lo, hi) = (lo.min(low), hi.max(high));
        }
        let truth = self.truth.as_ref().map(|truth| scale(truth[i]));
        (lo, hi) = widened(lo, hi, 0.1);
        let margin = 0.05 * (hi - lo);
        truth.map_or((lo, hi), |truth| (lo.min(truth - margin), hi.max(truth + margin)))
    }

    fn description(&self, axes: &[Axis], weights: &[f64]) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| &*series.name).collect();
        let figures = (0..axes.len()).map(|i| format!("{} {}", self.names[i], self.summary(&axes[i], weights, i)));
        let figures: Vec<String> = figures.collect();
        format!("Marginals and pairs of {}. Medians of {}: {}.", names.join(", "), names[0], figures.join("; "))
    }

    fn draw_on(&self, canvas: &mut Canvas, page: &Page, weights: &[Vec<f64>]) {
        for i in 0..self.names.len() {
            for j in 0..i {
                self.pair(canvas, &page.panel(i, j), weights, i, j);
            }
            self.marginal(canvas, &page.panel(i, i), weights, i);
            self.heading(canvas, page, &weights[0], i);
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
                    let rings = curves.iter().map(|curve| frame.spots(curve.iter().copied()));
                    canvas.areas(rings.collect(), colour(k).mix(shade));
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
    fn heading(&self, canvas: &mut Canvas, page: &Page, weights: &[f64], i: usize) {
        let frame = page.panel(i, i);
        let middle = [frame.left + frame.width / 2.0, frame.top - 12.0];
        self.summary(&page.axes[i], weights, i).draw(canvas, middle, page.side);
        let above = [middle[0], middle[1] - 1.7 * LABEL.size];
        canvas.label(above, &self.names[i], page.side, 1.0, LABEL);
    }

    fn summary(&self, axis: &Axis, weights: &[f64], i: usize) -> Summary {
        let power = (!axis.is_logarithmic()).then_some(axis.power);
        Summary::new(quantiles(self.series[0].draws.column(i), weights, [0.16, 0.5, 0.84]), power)
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

#[cfg(test)]
mod tests;
