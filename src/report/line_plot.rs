//! Lines through points: how one number depends on another, or several on one.

use super::axis::{Axis, widened};
use super::frame::{Frame, key};
use super::picture::{Canvas, Picture, Point};
use super::style::{LABEL, LEGEND, colour};
use crate::error::{Error, check_finite, check_length};
use ndarray::ArrayView2;

/// A panel, and what lies around it.
const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 190.0;
const GAP: f64 = 24.0;
const MARGIN: f64 = 16.0;
/// Left of a panel beside its tick labels, and under it.
const NAME: f64 = 30.0;
const BOTTOM: f64 = 42.0;
/// Above a panel: its title, and each row of the legend.
const TITLE: f64 = 20.0;
const ROW: f64 = 16.0;
/// What stands before a name in the legend, and between a name and the next entry.
const KEY: f64 = 28.0;
const APART: f64 = 12.0;

/// One panel of [`line_plots`]: lines, each through points and with a name, on axes of its own.
#[derive(Clone, Debug)]
pub struct LinePlot {
    title: String,
    axes: [String; 2],
    logarithmic: [bool; 2],
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    name: String,
    points: Vec<[f64; 2]>,
    /// A dashed line that others are compared with.
    guide: bool,
}

impl LinePlot {
    /// No line yet; `axes` name abscissa and ordinate, with their units.
    pub fn new(title: &str, axes: [&str; 2]) -> Self {
        Self { title: title.into(), axes: axes.map(Into::into), logarithmic: [false; 2], lines: Vec::new() }
    }

    /// Which of abscissa and ordinate are logarithmic: neither, unless it is said here.
    pub fn logarithmic(self, axes: [bool; 2]) -> Self {
        Self { logarithmic: axes, ..self }
    }

    /// Adds a line through these points, (abscissa, ordinate) each, which are marked.
    pub fn line(self, name: &str, points: &[[f64; 2]]) -> Self {
        self.with(Line { name: name.into(), points: points.to_vec(), guide: false })
    }

    /// Adds a dashed line to compare with: an ideal, a bound.
    pub fn guide(self, name: &str, points: &[[f64; 2]]) -> Self {
        self.with(Line { name: name.into(), points: points.to_vec(), guide: true })
    }

    fn with(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    fn check(&self) -> Result<(), Error> {
        check_length("lines of a plot", self.lines.len().max(1), self.lines.len())?;
        for Line { points, .. } in &self.lines {
            check_length("points of a line", points.len().max(1), points.len())?;
            check_finite("points of a line", ArrayView2::from(&points[..]))?;
        }
        Ok(())
    }

    /// Abscissa 0 or ordinate 1, with room around all points.
    fn axis(&self, axis: usize) -> Result<Axis, Error> {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point[axis]));
        let (lo, hi) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let (name, length, room) = (&*self.axes[axis], [WIDTH, HEIGHT][axis], [0.04, 0.07][axis]);
        if !self.logarithmic[axis] {
            let (lo, hi) = widened(lo, hi, room);
            return Axis::new(name, lo, hi, length);
        }
        let factor = (hi / lo).powf(room).max(1.1);
        Axis::logarithmic(name, lo / factor, hi * factor, length)
    }

    /// Where each line's entry in the legend begins, from its upper left corner; and its number of rows.
    fn legend(&self) -> (Vec<Point>, usize) {
        let (mut x, mut row) = (0.0, 0);
        let places = self.lines.iter().map(|line| {
            let width = KEY + LEGEND.width(&line.name);
            if x > 0.0 && x + width > WIDTH + MARGIN / 2.0 {
                (x, row) = (0.0, row + 1);
            }
            x += width + APART;
            [x - width - APART, ROW * row as f64]
        });
        (places.collect(), row + 1)
    }

    fn description(&self) -> String {
        let lines = self.lines.iter().filter(|line| !line.guide).map(|Line { name, points, .. }| {
            let ([x, y], [to_x, to_y]) = (points[0], points[points.len() - 1]);
            format!("{name} from {y:.3e} at {x:.3e} to {to_y:.3e} at {to_x:.3e}")
        });
        format!("{}: {}.", self.title, lines.collect::<Vec<_>>().join("; "))
    }

    fn draw(&self, canvas: &mut Canvas, frame: &Frame) {
        let (places, rows) = self.legend();
        let top = frame.top - ROW * rows as f64 + 4.0;
        let lines = || {
            self.lines
                .iter()
                .scan(0, |series, line| Some((std::mem::replace(series, *series + usize::from(!line.guide)), line)))
        };
        for ((series, line), [x, y]) in lines().zip(places) {
            let at = [frame.left + x, top + y];
            if line.guide {
                canvas.dashes(at, [at[0] + 20.0, at[1]], 1.0);
                canvas.text([at[0] + KEY, at[1]], &line.name, LEGEND);
            } else {
                key(canvas, at, &line.name, colour(series));
            }
            line.draw(canvas, frame, series);
        }
        canvas.text([frame.left + WIDTH / 2.0, top - ROW], &self.title, LABEL.fit(&self.title, WIDTH + GAP));
        frame.axes(canvas);
    }
}

impl Line {
    fn draw(&self, canvas: &mut Canvas, frame: &Frame, series: usize) {
        let spots: Vec<Point> = self.points.iter().map(|&[x, y]| frame.at(x, y)).collect();
        if self.guide {
            return spots.windows(2).for_each(|pair| canvas.dashes(pair[0], pair[1], 1.0));
        }
        canvas.line(&spots, colour(series), 1.5);
        spots.iter().for_each(|&spot| canvas.dot(spot, 2.6, colour(series)));
    }
}

/// Draws panels row by row, `columns` in a row. Each has its own axes, and a legend under its title.
///
/// ```
/// use retrodict::report::{LinePlot, line_plots};
/// let plot = LinePlot::new("accuracy of a classifier", ["simulations", "C2ST"])
///     .logarithmic([true, false])
///     .line("npe", &[[1e3, 0.93], [1e4, 0.71], [1e5, 0.58]])
///     .line("nle", &[[1e3, 0.81], [1e4, 0.66], [1e5, 0.57]])
///     .guide("cannot tell", &[[1e3, 0.5], [1e5, 0.5]]);
/// let path = std::env::temp_dir().join("retrodict-doc-lines.svg");
/// line_plots(&[plot], 1)?.write(&path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), retrodict::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for no panel or no column and for a range that cannot be shown, such as one of a logarithmic axis
/// that does not begin above 0; [`Error::Length`] for a panel without a line or a line without a point;
/// [`Error::NonFinite`] for the first number that is NaN or infinite.
pub fn line_plots(panels: &[LinePlot], columns: usize) -> Result<Picture, Error> {
    if panels.is_empty() || columns == 0 {
        return Err(Error::parameter("panels", "there must be at least one, in at least one column"));
    }
    panels.iter().try_for_each(LinePlot::check)?;
    let axes: Vec<[Axis; 2]> = panels.iter().map(|p| Ok([p.axis(0)?, p.axis(1)?])).collect::<Result<_, Error>>()?;
    let left = NAME + axes.iter().map(|[_, y]| y.widest()).fold(0.0, f64::max);
    let pitch = left + WIDTH + GAP;
    let mut bottom = MARGIN / 2.0;
    let heading = |row: &[LinePlot]| TITLE + ROW * row.iter().map(|p| p.legend().1).max().unwrap_or(0) as f64;
    let tops = panels.chunks(columns).map(|row| {
        let top = bottom + heading(row);
        bottom = top + HEIGHT + BOTTOM;
        top
    });
    let tops: Vec<f64> = tops.collect();
    let size = [columns.min(panels.len()) as f64 * pitch - GAP + MARGIN, bottom + MARGIN / 2.0];
    let titles: Vec<&str> = panels.iter().map(|panel| &*panel.title).collect();
    let described: Vec<String> = panels.iter().map(LinePlot::description).collect();
    Ok(Picture::draw(size, &titles.join(", "), &described.join(" "), |canvas| {
        for (k, (panel, [x, y])) in panels.iter().zip(&axes).enumerate() {
            let (left, top) = (left + (k % columns) as f64 * pitch, tops[k / columns]);
            panel.draw(canvas, &Frame { left, top, width: WIDTH, height: HEIGHT, x, y });
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_apart, assert_well_formed, length, lines, parameter, texts};

    const RISE: [[f64; 2]; 3] = [[1.0, 2.0], [100.0, 30.0], [1e4, 5e3]];

    fn plot() -> LinePlot {
        LinePlot::new("a<b", ["rows", "cost [ms]"]).line("one thread", &RISE).guide("linear", &[RISE[0], [1e4, 2e4]])
    }

    #[test]
    fn every_line_stands_in_a_well_formed_file_with_its_name() {
        for logarithmic in [[false, false], [true, false], [true, true]] {
            let panels = vec![plot().line("two threads", &RISE[..2]).logarithmic(logarithmic); 3];
            let picture = line_plots(&panels, 2).unwrap();
            assert_well_formed(&picture.to_svg());
            assert_apart(&picture);
            let found = texts(&picture.to_svg());
            for text in ["a<b", "one thread", "two threads", "linear", "rows", "cost [ms]"] {
                assert_eq!(found.iter().filter(|t| *t == text).count(), 3, "{text}");
            }
            let of = |series| lines(&picture, colour(series)).iter().filter(|line| line.len() == 3 - series).count();
            assert!(of(0) == 3 && of(1) >= 3);
        }
    }

    #[test]
    fn powers_are_straight_on_logarithmic_axes_and_stay_in_their_panel() {
        let points: Vec<[f64; 2]> = (0..5).map(|k| [10f64.powi(k), 0.03 * 10f64.powi(2 * k)]).collect();
        let plot = LinePlot::new("", ["n", "ms"]).logarithmic([true, true]).line("square", &points);
        let picture = line_plots(&[plot], 1).unwrap();
        let all = lines(&picture, colour(0));
        let line = all.iter().find(|line| line.len() == 5).unwrap();
        for three in line.windows(3) {
            assert!((three[0][0] + three[2][0] - 2.0 * three[1][0]).abs() < 1e-9);
            assert!((three[0][1] + three[2][1] - 2.0 * three[1][1]).abs() < 1e-9);
        }
        let [width, height] = picture.size();
        assert!(line.iter().all(|[x, y]| (0.0..width).contains(x) && (0.0..height).contains(y)));
    }

    #[test]
    fn a_single_point_and_a_long_legend_still_make_a_plot() {
        let mut plot = LinePlot::new("", ["n", "ms"]).logarithmic([true, true]);
        for k in 0..9 {
            plot = plot.line(&format!("a name of some length, {k}"), &[[3.0, 2.0]]);
        }
        let picture = line_plots(&[plot], 1).unwrap();
        assert_well_formed(&picture.to_svg());
        assert_apart(&picture);
    }

    #[test]
    fn wrong_input_is_named() {
        let one = |plot: LinePlot| line_plots(&[plot], 1);
        parameter(line_plots(&[], 1), "panels");
        parameter(line_plots(&[plot()], 0), "panels");
        length(one(LinePlot::new("", ["x", "y"])), "lines of a plot");
        length(one(plot().line("", &[])), "points of a line");
        parameter(one(plot().line("", &[[0.0, 1.0]]).logarithmic([true, false])), "rows");
        let found = one(plot().line("", &[[1.0, 2.0], [3.0, f64::NAN]])).unwrap_err();
        assert_eq!(found, Error::NonFinite { what: "points of a line", row: 1, column: 1 });
    }
}
