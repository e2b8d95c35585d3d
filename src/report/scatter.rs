//! Samples of the plane and densities side by side.

use super::axis::{Axis, widened};
use super::contour::contours;
use super::frame::Frame;
use super::picture::{Canvas, Picture, Point};
use super::style::{Colour, Font, GREY, LABEL, TICK, colour};
use crate::error::{Error, check_finite, check_length};
use ndarray::{ArrayView1, ArrayView2};

/// The side of a panel, and what lies between panels and around them.
const SIDE: f64 = 200.0;
const GAP: f64 = 16.0;
const MARGIN: f64 = 20.0;
/// Above a panel: its title, and its caption under that.
const TITLE: f64 = 20.0;
const CAPTION: f64 = 15.0;
/// Under a panel: tick labels, and room before the next row.
const TICKS: f64 = 20.0;

/// The most dots of a panel; more would only fill it.
const MOST_DOTS: usize = 10_000;
/// Shades of a density.
const SHADES: usize = 24;

/// One panel of a [`scatter_grid`].
#[derive(Clone, Debug)]
pub struct Panel<'a> {
    title: String,
    caption: String,
    content: Content<'a>,
}

#[derive(Clone, Debug)]
enum Content<'a> {
    Points(ArrayView2<'a, f64>),
    Density { values: ArrayView2<'a, f64>, x: [f64; 2], y: [f64; 2] },
}

impl<'a> Panel<'a> {
    /// Points `[rows x 2]`. Of more than 10 000 the first 10 000 are drawn.
    pub fn points(title: &str, points: ArrayView2<'a, f64>) -> Self {
        Self { title: title.into(), caption: String::new(), content: Content::Points(points) }
    }

    /// A density on a lattice: `values[[r, c]]` belongs to the c-th of equally spaced abscissae from `x[0]` to `x[1]`
    /// and the r-th ordinate from `y[0]` to `y[1]`, ends included. Only the values' ratios matter.
    pub fn density(title: &str, values: ArrayView2<'a, f64>, x: [f64; 2], y: [f64; 2]) -> Self {
        Self { title: title.into(), caption: String::new(), content: Content::Density { values, x, y } }
    }

    /// Adds a line under the title, such as `"C2ST 0.53"`.
    pub fn caption(mut self, caption: &str) -> Self {
        self.caption = caption.into();
        self
    }

    fn check(&self) -> Result<(), Error> {
        match self.content {
            Content::Points(points) => {
                check_length("columns of points", 2, points.ncols())?;
                check_length("points", points.nrows().max(1), points.nrows())?;
                check_finite("points", points)
            }
            Content::Density { values, .. } => {
                for (what, nodes) in [("rows of a density", values.nrows()), ("columns of a density", values.ncols())] {
                    check_length(what, nodes.max(2), nodes)?;
                }
                check_finite("density", values)?;
                match values.iter().find(|&&value| value < 0.0) {
                    Some(value) => Err(Error::parameter("density", format!("{value}; it must not be below 0"))),
                    None => Ok(()),
                }
            }
        }
    }

    /// What the panel should show of axis 0 or 1.
    fn range(&self, axis: usize) -> (f64, f64) {
        match self.content {
            Content::Points(points) => bulk(points.column(axis)),
            Content::Density { x, y, .. } => ([x, y][axis][0], [x, y][axis][1]),
        }
    }

    fn description(&self) -> String {
        let what = match self.content {
            Content::Points(points) => format!("{} points", points.nrows()),
            Content::Density { .. } => "a density".to_owned(),
        };
        format!("{}: {what}. {}", self.title, self.caption).trim_end().to_owned()
    }

    fn draw(&self, canvas: &mut Canvas, frame: &Frame) {
        match self.content {
            Content::Points(points) => draw_points(canvas, frame, points),
            Content::Density { values, x, y } => draw_density(canvas, frame, values, [x, y]),
        }
        let middle = frame.left + SIDE / 2.0;
        let mut y = frame.top - 10.0;
        if !self.caption.is_empty() {
            let font = Font { colour: GREY, ..TICK };
            canvas.text([middle, y], &self.caption, font.fit(&self.caption, SIDE));
            y -= CAPTION;
        }
        canvas.text([middle, y], &self.title, LABEL.fit(&self.title, SIDE));
        frame.border(canvas);
        frame.x_ticks(canvas);
        frame.y_ticks(canvas);
    }
}

/// Draws panels row by row, `columns` in a row.
///
/// Panels of a row have the same axes, which hold 99.8 % of the points of each and all of each density. Abscissa and
/// ordinate are to the same scale, unless one would be more than three times as long as the other. Dots are translucent,
/// so that crowds are darker; shades of a density follow its square root, so that thin parts are seen beside peaks.
///
/// ```
/// use retrodict::{report::{Panel, scatter_grid}, tasks::Target};
/// let (exact, other) = (Target::TwoMoons.sample(2000, 1), Target::Rings.sample(2000, 2));
/// let path = std::env::temp_dir().join("retrodict-doc-scatter.svg");
/// let panels = [Panel::points("exact", exact.view()), Panel::points("learned", other.view()).caption("C2ST 0.93")];
/// scatter_grid(&panels, 2)?.write(&path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), retrodict::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for no panel or no column, for a density below 0 and for a range that cannot be shown,
/// [`Error::Length`] if points have not two columns or no row or a density's lattice is not 2 x 2 at least,
/// [`Error::NonFinite`] for the first value that is NaN or infinite.
pub fn scatter_grid(panels: &[Panel<'_>], columns: usize) -> Result<Picture, Error> {
    if panels.is_empty() || columns == 0 {
        return Err(Error::parameter("panels", "there must be at least one, in at least one column"));
    }
    panels.iter().try_for_each(Panel::check)?;
    let rows: Vec<&[Panel]> = panels.chunks(columns).collect();
    let axes = rows.iter().map(|row| axes(row)).collect::<Result<Vec<_>, _>>()?;
    let left = MARGIN + 5.0 + axes.iter().map(|[_, y]| y.widest()).fold(0.0, f64::max);

    let heading = |row: &[Panel]| if row.iter().any(|p| !p.caption.is_empty()) { TITLE + CAPTION } else { TITLE };
    let mut bottom = MARGIN / 2.0;
    let tops: Vec<f64> = rows
        .iter()
        .map(|row| {
            let top = bottom + heading(row);
            bottom = top + SIDE + TICKS;
            top
        })
        .collect();
    let width = left + columns.min(panels.len()) as f64 * (SIDE + GAP) - GAP + MARGIN;
    let titles: Vec<&str> = panels.iter().map(|panel| &*panel.title).collect();
    let described: Vec<String> = panels.iter().map(Panel::description).collect();
    let size = [width, bottom + MARGIN / 2.0];
    Ok(Picture::draw(size, &titles.join(", "), &described.join(" "), |canvas| {
        for ((row, [x, y]), &top) in rows.iter().zip(&axes).zip(&tops) {
            for (k, panel) in row.iter().enumerate() {
                let frame = Frame { left: left + k as f64 * (SIDE + GAP), top, width: SIDE, height: SIDE, x, y };
                panel.draw(canvas, &frame);
                frame.x_labels(canvas, GAP / 2.0);
                if k == 0 {
                    frame.y_labels(canvas, y.widest());
                }
            }
        }
    }))
}

/// Abscissa and ordinate of a row of panels.
fn axes(row: &[Panel]) -> Result<[Axis; 2], Error> {
    let [mut x, mut y] = [0, 1].map(|axis| {
        let ranges = row.iter().map(|panel| panel.range(axis));
        ranges.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), (a, b)| (lo.min(a), hi.max(b)))
    });
    let (short, long) = ((x.1 - x.0).min(y.1 - y.0), (x.1 - x.0).max(y.1 - y.0));
    if long <= 3.0 * short {
        // The same scale for both: circles stay circles.
        let around = |(lo, hi): (f64, f64)| (0.5 * lo + 0.5 * hi - 0.5 * long, 0.5 * lo + 0.5 * hi + 0.5 * long);
        (x, y) = (around(x), around(y));
    }
    let axis = |(lo, hi)| Axis::new("", lo, hi, SIDE);
    Ok([axis(x)?, axis(y)?])
}

/// From the 0.1 to the 99.9 percentile, with room around.
fn bulk(column: ArrayView1<'_, f64>) -> (f64, f64) {
    let mut sorted = column.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let out = (0.001 * last as f64) as usize;
    widened(sorted[out], sorted[last - out], 0.06)
}

fn draw_points(canvas: &mut Canvas, frame: &Frame, points: ArrayView2<'_, f64>) {
    let shown = points.rows().into_iter().take(MOST_DOTS);
    let inside = shown.filter(|row| frame.x.shows(row[0]) && frame.y.shows(row[1]));
    let spots: Vec<Point> = inside.map(|row| frame.at(row[0], row[1])).collect();
    // Many dots are small ones.
    let radius = (45.0 / (points.nrows().min(MOST_DOTS) as f64).sqrt()).clamp(0.6, 1.8);
    canvas.cloud(&spots, radius, colour(0).mix(0.45));
}

fn draw_density(canvas: &mut Canvas, frame: &Frame, values: ArrayView2<'_, f64>, [x, y]: [[f64; 2]; 2]) {
    let peak = values.iter().fold(0.0, |peak: f64, &value| peak.max(value));
    if peak == 0.0 {
        return;
    }
    let relative = values.mapv(|value| value / peak);
    for shade in 0..SHADES {
        let part = (shade as f64 + 0.5) / SHADES as f64;
        let at = |[u, v]: [f64; 2]| frame.at(x[0] + u * (x[1] - x[0]), y[0] + v * (y[1] - y[0]));
        let rings = contours(relative.view(), part * part).into_iter();
        canvas.areas(rings.map(|ring| ring.into_iter().map(at).collect()).collect(), tint(part));
    }
}

/// From white through the first series' colour to a dark blue.
fn tint(part: f64) -> Colour {
    let stops = [[255.0; 3], colour(0).rgb.map(f64::from), [0.0, 58.0, 108.0]];
    let (from, t) = if part < 0.7 { (0, part / 0.7) } else { (1, (part - 0.7) / 0.3) };
    Colour::solid([0, 1, 2].map(|c| (stops[from][c] + t * (stops[from + 1][c] - stops[from][c])).round() as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_well_formed, texts};
    use crate::tasks::Target;
    use ndarray::{Array2, array};

    fn moons() -> Array2<f64> {
        Target::TwoMoons.sample(500, 1)
    }

    #[test]
    fn titles_captions_and_every_dot_stand_in_a_well_formed_file() {
        let (points, values) = (moons(), Array2::from_shape_fn((30, 20), |(r, c)| (-((r + c) as f64)).exp()));
        let panels = [
            Panel::points("a<b & \"c\"", points.view()).caption("C2ST 0.53"),
            Panel::density("exact", values.view(), [-2.0, 2.0], [-2.0, 2.0]),
            Panel::points("third", points.view()),
        ];
        let svg = scatter_grid(&panels, 2).unwrap().to_svg();
        assert_well_formed(&svg);
        let found = texts(&svg);
        for text in ["a<b & \"c\"", "C2ST 0.53", "exact", "third"] {
            assert!(found.iter().any(|t| t == text), "{text} is missing");
        }
        // All points but the few beyond the 99.8 percent lie within the panels.
        assert!((2 * 490..=2 * 500).contains(&svg.matches("h0").count()));
        assert_eq!(svg.matches("z\" fill=").count(), SHADES);
    }

    #[test]
    fn panels_of_a_row_share_their_axes() {
        let (near, far) = (moons(), moons() + 3.0);
        let [x, y] = axes(&[Panel::points("", near.view()), Panel::points("", far.view())]).unwrap();
        assert!(x.lo < -1.5 && x.hi > 4.5 && y.hi > 3.5);
        assert!((x.hi - x.lo - (y.hi - y.lo)).abs() < 1e-12, "circles stay circles");
        // Different units have their own scales.
        let stretched = moons() * array![1.0, 100.0];
        let [x, y] = axes(&[Panel::points("", stretched.view())]).unwrap();
        assert!(x.hi - x.lo < 6.0 && y.hi - y.lo > 100.0);
    }

    #[test]
    fn odd_panels_still_make_a_plot() {
        let (one, same, wide) = (array![[1.0, -2.0]], Array2::zeros((9, 2)), array![[0.0, 1e-290], [1e300, 2e-290]]);
        for points in [&one, &same, &wide] {
            assert_well_formed(&scatter_grid(&[Panel::points("", points.view())], 5).unwrap().to_svg());
        }
        let flat = Array2::zeros((2, 2));
        let panel = Panel::density("flat", flat.view(), [0.0, 1.0], [0.0, 9.0]);
        assert_well_formed(&scatter_grid(&[panel], 1).unwrap().to_svg());
    }

    #[test]
    fn wrong_input_is_named() {
        let good = moons();
        let error = |panel: Panel<'_>| scatter_grid(&[panel], 2).unwrap_err();
        assert!(scatter_grid(&[], 2).is_err() && scatter_grid(&[Panel::points("", good.view())], 0).is_err());
        let (three, none, bad) = (Array2::zeros((4, 3)), Array2::zeros((0, 2)), array![[0.0, f64::NAN]]);
        let length = |what, expected, found| Error::Length { what, expected, found };
        assert_eq!(error(Panel::points("", three.view())), length("columns of points", 2, 3));
        assert_eq!(error(Panel::points("", none.view())), length("points", 1, 0));
        assert_eq!(error(Panel::points("", bad.view())), Error::NonFinite { what: "points", row: 0, column: 1 });
        let density = |values: &Array2<f64>, x| error(Panel::density("", values.view(), x, [0.0, 1.0]));
        assert_eq!(density(&Array2::zeros((1, 2)), [0.0, 1.0]), length("rows of a density", 2, 1));
        assert!(density(&array![[0.0, 1.0], [-1.0, 0.0]], [0.0, 1.0]).to_string().contains("not be below 0"));
        assert!(matches!(density(&Array2::zeros((2, 2)), [0.0, f64::NAN]), Error::Parameter { .. }));
        assert!(matches!(density(&Array2::zeros((2, 2)), [0.0, f64::INFINITY]), Error::Parameter { .. }));
    }
}
