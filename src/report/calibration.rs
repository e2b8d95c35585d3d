//! Is the posterior calibrated? P-P and coverage curves, with the bands in which chance alone would leave them.

use super::axis::Axis;
use super::frame::{Frame, key};
use super::picture::{Canvas, Picture};
use super::style::{Align, Colour, Font, GREY, LEGEND, colour};
use super::{check_column, check_names};
use crate::error::{Error, check_length};
use crate::validate::Curve;

/// The side of a square panel.
const SIDE: f64 = 280.0;
const MARGIN: f64 = 20.0;
/// From the page's edge to a panel: labels and a name.
const LEFT: f64 = 66.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 19.0;
const BAND: f64 = 0.16;

/// Draws the P-P curve of each parameter: the distribution of its PIT values, the parts of each posterior below the truth,
/// against the uniform one.
///
/// For calibrated posteriors PIT values are uniform (Cook, Gelman & Rubin 2006), and each curve follows the diagonal. The
/// second panel shows the difference, where a shape tells what is wrong: an S that falls and rises is a posterior too
/// wide, one that rises and falls one too narrow, and a bow a shift.
///
/// # Errors
/// [`Error::Parameter`] for no name, or for a curve that leaves 0..=1 or whose levels fall; [`Error::Length`] if names and
/// curves differ in number or a curve's columns in length; [`Error::NonFinite`] for the first value that is NaN or
/// infinite.
pub fn pp_plot(names: &[impl AsRef<str>], curves: &[Curve]) -> Result<Picture, Error> {
    let names = check_names(names, "P-P curves", curves.len())?;
    curves.iter().try_for_each(check_curve)?;
    let lines: Vec<Line> = names.iter().zip(curves).map(|(name, curve)| Line { name, curve }).collect();
    let differences: Vec<Curve> = curves.iter().map(difference).collect();
    let deepest = differences.iter().flat_map(|d| [&d.values, &d.lower, &d.upper]).flatten();
    let reach = 1.1 * deepest.fold(1e-3, |reach: f64, gap| reach.max(gap.abs()));

    let p = Axis::new("PIT value p", 0.0, 1.0, SIDE)?;
    let cdf = Axis::new("empirical CDF", 0.0, 1.0, SIDE)?;
    let gap = Axis::new("empirical CDF − p", -reach, reach, SIDE)?;
    let left = Frame { left: LEFT, top: MARGIN, width: SIDE, height: SIDE, x: &p, y: &cdf };
    let right = Frame { left: LEFT + SIDE + 82.0, y: &gap, ..left };
    let legend = right.left + SIDE + 20.0;
    let height = SIDE.max(ROW * (names.len() + 1) as f64);
    let size = [legend + legend_width(&lines) + MARGIN, MARGIN + height + BOTTOM];
    let description = format!("P-P curves with their bands. {}", lines_in_words(&lines));
    Ok(Picture::draw(size, "P-P plot", &description, |canvas| {
        let flat = differences.iter().zip(&names).map(|(curve, name)| Line { name, curve }).collect::<Vec<_>>();
        for (frame, lines, end) in [(&left, &lines, 1.0), (&right, &flat, 0.0)] {
            draw_lines(canvas, frame, lines);
            frame.guide(canvas, [0.0, 0.0], [1.0, end]);
            frame.axes(canvas);
        }
        draw_legend(canvas, [legend, MARGIN + 8.0], &lines);
    }))
}

/// Draws how often regions held the truth against how often they should: highest-density regions, TARP's balls, any
/// [`Curve`] with a name.
///
/// Below the diagonal a posterior is overconfident. Each curve is drawn with its band: one around the diagonal is where a
/// calibrated curve stays, one around the curve what it might have been with other test rows.
///
/// # Errors
/// As [`pp_plot`].
pub fn coverage_plot(curves: &[(&str, &Curve)]) -> Result<Picture, Error> {
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    check_names(&names, "coverage curves", curves.len())?;
    curves.iter().try_for_each(|(_, curve)| check_curve(curve))?;
    let lines: Vec<Line> = curves.iter().map(|&(name, curve)| Line { name, curve }).collect();

    let nominal = Axis::new("credibility level", 0.0, 1.0, SIDE)?;
    let actual = Axis::new("expected coverage", 0.0, 1.0, SIDE)?;
    let frame = Frame { left: LEFT, top: MARGIN, width: SIDE, height: SIDE, x: &nominal, y: &actual };
    let legend = frame.left + SIDE + 20.0;
    let size = [legend + legend_width(&lines) + MARGIN, MARGIN + SIDE + BOTTOM];
    let description = format!("Expected coverage against credibility level. {}", lines_in_words(&lines));
    Ok(Picture::draw(size, "Expected coverage", &description, |canvas| {
        let remark = Font { colour: GREY, ..LEGEND };
        canvas.text(frame.spot([0.04, 0.95]), "underconfident", remark);
        canvas.text(frame.spot([0.96, 0.05]), "overconfident", Font { align: Align::Right, ..remark });
        draw_lines(canvas, &frame, &lines);
        frame.guide(canvas, [0.0, 0.0], [1.0, 1.0]);
        frame.axes(canvas);
        draw_legend(canvas, [legend, MARGIN + 8.0], &lines);
    }))
}

#[derive(Clone, Copy)]
struct Line<'a> {
    name: &'a str,
    curve: &'a Curve,
}

/// Bands, then curves. A band that all share is grey.
fn draw_lines(canvas: &mut Canvas, frame: &Frame, lines: &[Line<'_>]) {
    let common = shared_band(lines);
    for (k, Line { curve, .. }) in lines.iter().enumerate().take(if common { 1 } else { lines.len() }) {
        let edge = |ends: &[f64]| curve.levels.iter().zip(ends).map(|(&x, &y)| frame.at(x, y)).collect::<Vec<_>>();
        let back = edge(&curve.upper).into_iter().rev();
        let outline: Vec<_> = edge(&curve.lower).into_iter().chain(back).collect();
        canvas.area(&outline, band_colour(common, k));
    }
    for (k, Line { curve, .. }) in lines.iter().enumerate() {
        let points = curve.levels.iter().zip(&curve.values).map(|(&x, &y)| frame.at(x, y));
        canvas.line(&points.collect::<Vec<_>>(), colour(k), 1.4);
    }
}

fn draw_legend(canvas: &mut Canvas, [left, mut y]: [f64; 2], lines: &[Line<'_>]) {
    let common = shared_band(lines);
    for (k, Line { name, .. }) in lines.iter().enumerate() {
        if !common {
            canvas.rectangle([left, y - 6.0], [left + 20.0, y + 6.0], band_colour(common, k));
        }
        key(canvas, [left, y], name, colour(k));
        y += ROW;
    }
    if common {
        canvas.rectangle([left, y - 6.0], [left + 20.0, y + 6.0], band_colour(common, 0));
        canvas.text([left + 28.0, y], BAND_NAME, LEGEND);
    }
}

const BAND_NAME: &str = "band of chance";

fn legend_width(lines: &[Line<'_>]) -> f64 {
    let names = lines.iter().map(|line| line.name).chain([BAND_NAME]);
    30.0 + names.map(|name| LEGEND.width(name)).fold(0.0, f64::max)
}

fn shared_band(lines: &[Line<'_>]) -> bool {
    lines.windows(2).all(|pair| {
        let [a, b] = [pair[0].curve, pair[1].curve];
        (&a.levels, &a.lower, &a.upper) == (&b.levels, &b.lower, &b.upper)
    })
}

fn band_colour(common: bool, k: usize) -> Colour {
    if common { GREY } else { colour(k) }.mix(BAND)
}

/// The curve and its band less the diagonal.
fn difference(curve: &Curve) -> Curve {
    let less = |values: &[f64]| values.iter().zip(&curve.levels).map(|(value, level)| value - level).collect();
    let Curve { levels, values, lower, upper } = curve;
    Curve { levels: levels.clone(), values: less(values), lower: less(lower), upper: less(upper) }
}

fn lines_in_words(lines: &[Line<'_>]) -> String {
    let words = |line: &Line<'_>| {
        let gaps = difference(line.curve).values;
        let largest =
            gaps.into_iter().fold(0.0, |largest: f64, gap| if gap.abs() > largest.abs() { gap } else { largest });
        format!("{}: {largest:+.3} off the diagonal at most.", line.name)
    };
    lines.iter().map(words).collect::<Vec<_>>().join(" ")
}

fn check_curve(curve: &Curve) -> Result<(), Error> {
    let Curve { levels, values, lower, upper } = curve;
    for (what, column) in [("levels", levels), ("curve", values), ("lower band", lower), ("upper band", upper)] {
        check_length(what, levels.len(), column.len())?;
        check_column(what, column)?;
        if let Some(value) = column.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::parameter(what, format!("has {value}; all must lie in 0..=1")));
        }
    }
    if !levels.is_sorted() {
        return Err(Error::parameter("levels", "they must rise from one to the next"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_well_formed, length, lines, parameter, texts};

    /// F(p) = p^power with a band of ±0.1.
    fn curve(power: i32) -> Curve {
        let levels: Vec<f64> = (0..=20).map(|k| f64::from(k) / 20.0).collect();
        let shifted = |by: f64| levels.iter().map(|p| (p + by).clamp(0.0, 1.0)).collect();
        let values = levels.iter().map(|p| p.powi(power)).collect();
        Curve { values, lower: shifted(-0.1), upper: shifted(0.1), levels }
    }

    #[test]
    fn a_pp_plot_draws_each_parameter_in_both_panels() {
        let names: Vec<String> = (0..9).map(|i| format!("<θ{i}>")).collect();
        let curves: Vec<Curve> = (1..10).map(curve).collect();
        let picture = pp_plot(&names, &curves).unwrap();
        assert_well_formed(&picture.to_svg());
        let found = texts(&picture.to_svg());
        assert!(names.iter().all(|name| found.contains(name)) && found.contains(&BAND_NAME.to_owned()));
        // The first parameter is uniform: its curve follows the diagonal from corner to corner, and then the zero.
        let drawn = lines(&picture, colour(0));
        for [x, y] in drawn[0] {
            assert!(((x - LEFT) + (y - MARGIN) - SIDE).abs() < 1e-9);
        }
        assert_eq!(drawn[0].last(), Some(&[LEFT + SIDE, MARGIN]));
        assert!(drawn[1].iter().all(|at| (at[1] - MARGIN - SIDE / 2.0).abs() < 1e-9));
        assert!(picture.description().contains("<θ0>: +0.000 off the diagonal"));
    }

    #[test]
    fn a_coverage_plot_shows_on_which_side_a_curve_lies() {
        let picture = coverage_plot(&[("regions", &curve(1)), ("balls", &curve(2))]).unwrap();
        assert_well_formed(&picture.to_svg());
        let below = lines(&picture, colour(1))[0];
        assert!(below.iter().all(|[x, y]| (x - LEFT) + (y - MARGIN) >= SIDE - 1e-9));
        assert!(picture.description().contains("balls: -0.250 off the diagonal"));
    }

    #[test]
    fn wrong_input_is_named() {
        let (good, none): (_, [&str; 0]) = (curve(1), []);
        parameter(pp_plot(&none, &[]), "names");
        length(pp_plot(&["a"], &[]), "P-P curves");
        let bad = |levels: &[f64], values: &[f64]| {
            let [levels, values] = [levels.to_vec(), values.to_vec()];
            let curve = Curve { lower: levels.clone(), upper: levels.clone(), levels, values };
            coverage_plot(&[("good", &good), ("bad", &curve)])
        };
        length(bad(&[], &[]), "levels");
        length(bad(&[0.1, 0.2], &[0.1]), "curve");
        parameter(bad(&[0.1, 1.2], &[0.1, 0.2]), "levels");
        parameter(bad(&[0.2, 0.1], &[0.1, 0.2]), "levels");
        parameter(bad(&[0.1], &[-0.1]), "curve");
        let found = bad(&[0.1, 0.2], &[0.1, f64::NAN]).unwrap_err();
        assert_eq!(found, Error::NonFinite { what: "curve", row: 1, column: 0 });
    }
}
