//! Diagnostics drawn as curves: P-P, coverage, loss.

use super::frame::{Axis, Frame, pieces_above, signed};
use super::style::{Canvas, Font, GREY, LEGEND, Point, colour, render};
use crate::error::check_length;
use crate::error::{Error, check_finite};
use crate::files;
use ndarray::{ArrayView1, ArrayView2};
use plotters::prelude::Color;
use plotters::style::text_anchor::HPos;
use std::path::Path;

/// The side of a square panel.
const SIDE: f64 = 300.0;
const MARGIN: f64 = 20.0;
/// From the page's edge to a panel: labels and a name.
const LEFT: f64 = 74.0;
const BOTTOM: f64 = 50.0;
const ROW: f64 = 19.0;
const BAND: f64 = 0.16;

/// Draws the distribution of each parameter's PIT values against the uniform one, as an SVG file.
///
/// `pit` is `[observations x parameters]`: the part of each posterior below the true value, in
/// 0..=1. For calibrated posteriors these are uniform (Cook, Gelman & Rubin 2006), and each curve
/// follows the diagonal. The second panel shows the difference, where a shape tells what is wrong:
/// an S that falls and rises is a posterior too wide, one that rises and falls one too narrow, and
/// a bow a shift. `band` is the half-width of a band that holds all of a calibrated curve at once,
/// for example $\sqrt{\ln(2/\alpha)/(2n)}$ (Dvoretzky, Kiefer & Wolfowitz; Massart 1990).
///
/// # Errors
/// [`Error::Length`] if `names` and columns differ in number or there is no row,
/// [`Error::NonFinite`] and [`Error::OutsideSupport`] for the first value that is not in 0..=1,
/// [`Error::Parameter`] for no name or for a band outside 0..=1, [`Error::File`] if the file cannot
/// be written.
pub fn pp_plot(
    path: impl AsRef<Path>,
    names: &[impl AsRef<str>],
    pit: ArrayView2<f64>,
    band: f64,
) -> Result<(), Error> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    check_pit(&names, pit)?;
    check_unit("band", band)?;
    files::write(path, &pp_svg(&names, pit, band)?)
}

/// Draws how often highest-density regions held the truth against how often they should, as an SVG
/// file.
///
/// `levels` are the regions' masses, rising, in 0..=1; `coverage` the part of observations whose
/// truth lay inside. Below the diagonal a posterior is overconfident. `band` is the half-width of
/// the band in which a calibrated curve stays.
///
/// # Errors
/// [`Error::Length`] if the two differ in length or are empty, [`Error::NonFinite`] for the first
/// value that is NaN or infinite, [`Error::Parameter`] for one outside 0..=1 or for levels that
/// fall, [`Error::File`] if the file cannot be written.
pub fn coverage_plot(path: impl AsRef<Path>, levels: &[f64], coverage: &[f64], band: f64) -> Result<(), Error> {
    check_curve("levels", levels)?;
    check_curve("coverage", coverage)?;
    check_length("coverage", levels.len(), coverage.len())?;
    for (what, values) in [("levels", levels), ("coverage", coverage), ("band", &[band])] {
        values.iter().try_for_each(|&value| check_unit(what, value))?;
    }
    if !levels.is_sorted() {
        return Err(Error::parameter("levels", "they must rise from one to the next"));
    }
    files::write(path, &coverage_svg(levels, coverage, band)?)
}

/// Draws the negative log-likelihood of the training and validation rows over epochs, as an SVG
/// file.
///
/// `best_epoch` is the one whose parameters were kept, counted from one. A first epoch far above
/// all others does not flatten the rest: the curve leaves the plot at the top.
///
/// # Errors
/// [`Error::Length`] if the two differ in length or are empty, [`Error::NonFinite`] for the first
/// loss that is NaN or infinite, [`Error::Parameter`] if there is no such best epoch or losses are
/// too far apart to be subtracted, [`Error::File`] if the file cannot be written.
pub fn loss_curves(path: impl AsRef<Path>, train: &[f64], valid: &[f64], best_epoch: usize) -> Result<(), Error> {
    check_curve("training loss", train)?;
    check_curve("validation loss", valid)?;
    check_length("validation loss", train.len(), valid.len())?;
    if !(1..=train.len()).contains(&best_epoch) {
        let why = format!("is {best_epoch}; epochs are counted from 1 to {}", train.len());
        return Err(Error::parameter("best_epoch", why));
    }
    files::write(path, &loss_svg(train, valid, best_epoch)?)
}

fn check_pit(names: &[&str], pit: ArrayView2<f64>) -> Result<(), Error> {
    if names.is_empty() {
        return Err(Error::parameter("names", "is empty; a P-P plot needs at least one"));
    }
    check_length("pit columns", names.len(), pit.ncols())?;
    if pit.nrows() == 0 {
        return Err(Error::Length { what: "pit rows", expected: 1, found: 0 });
    }
    check_finite("pit", pit)?;
    match pit.indexed_iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
        None => Ok(()),
        Some(((row, column), value)) => {
            let why = format!("its PIT value is {value}; it must lie in 0..=1");
            Err(Error::OutsideSupport { name: names[column].to_owned(), row, why })
        }
    }
}

fn check_curve(what: &'static str, values: &[f64]) -> Result<(), Error> {
    if values.is_empty() {
        return Err(Error::Length { what, expected: 1, found: 0 });
    }
    check_finite(what, ArrayView1::from(values).insert_axis(ndarray::Axis(1)))
}

fn check_unit(name: &str, value: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::parameter(name, format!("is {value}; it must lie in 0..=1")))
}

fn pp_svg(names: &[&str], pit: ArrayView2<f64>, band: f64) -> Result<String, Error> {
    // Every half pixel, so that the steps of few observations stand upright.
    let columns = pit.columns().into_iter().map(|column| empirical_cdf(column, 2 * SIDE as usize));
    let curves: Vec<Vec<[f64; 2]>> = columns.collect();
    let difference = |curve: &Vec<[f64; 2]>| curve.iter().map(|&[p, f]| [p, f - p]).collect();
    let differences: Vec<Vec<[f64; 2]>> = curves.iter().map(difference).collect();
    let largest = differences.iter().flatten().fold(band, |largest, at| largest.max(at[1].abs()));
    let reach = 1.15 * largest.max(1e-3);

    let p = Axis::new("PIT value p", 0.0, 1.0, SIDE)?;
    let cdf = Axis::new("empirical CDF", 0.0, 1.0, SIDE)?;
    let gap = Axis::new("empirical CDF − p", -reach, reach, SIDE)?;
    let left = Frame { left: LEFT, top: MARGIN, width: SIDE, height: SIDE, x: &p, y: &cdf };
    let right = Frame { left: LEFT + SIDE + 84.0, y: &gap, ..left };

    let legend_left = right.left + SIDE + 20.0;
    let band_text = format!("band ±{}", signed(band, 3));
    let texts = names.iter().copied().chain([&*band_text]);
    let legend_width = 30.0 + texts.map(|text| LEGEND.width(text)).fold(0.0, f64::max);
    let height = SIDE.max(ROW * (names.len() + 1) as f64);
    let size = [legend_left + legend_width + MARGIN, MARGIN + height + BOTTOM];

    let title = format!("P-P plot of {}", names.join(", "));
    Ok(render(size, &title, |canvas| {
        diagonal(canvas, &left, band);
        canvas.rectangle(right.at(0.0, band), right.at(1.0, -band), GREY.mix(BAND));
        right.guide(canvas, [0.0, 0.0], [1.0, 0.0]);
        for (k, (curve, difference)) in curves.iter().zip(&differences).enumerate() {
            canvas.line(&left.curve(curve), colour(k), 1.3);
            canvas.line(&right.curve(difference), colour(k), 1.3);
        }
        left.axes(canvas);
        right.axes(canvas);
        let mut y = MARGIN + 8.0;
        for (k, name) in names.iter().enumerate() {
            key(canvas, [legend_left, y], name, colour(k));
            y += ROW;
        }
        canvas.rectangle([legend_left, y - 6.0], [legend_left + 20.0, y + 6.0], GREY.mix(BAND));
        canvas.text([legend_left + 28.0, y], &band_text, LEGEND);
    }))
}

fn coverage_svg(levels: &[f64], coverage: &[f64], band: f64) -> Result<String, Error> {
    let nominal = Axis::new("credibility level", 0.0, 1.0, SIDE)?;
    let actual = Axis::new("expected coverage", 0.0, 1.0, SIDE)?;
    let frame = Frame { left: LEFT, top: MARGIN, width: SIDE, height: SIDE, x: &nominal, y: &actual };
    let size = [LEFT + SIDE + MARGIN, MARGIN + SIDE + BOTTOM];
    let curve: Vec<[f64; 2]> = levels.iter().zip(coverage).map(|(&x, &y)| [x, y]).collect();
    Ok(render(size, "Expected coverage of highest-density regions", |canvas| {
        diagonal(canvas, &frame, band);
        let remark = Font { colour: GREY, ..LEGEND };
        canvas.text(frame.spot([0.04, 0.95]), "underconfident", remark);
        let right = Font { align: HPos::Right, ..remark };
        canvas.text(frame.spot([0.96, 0.05]), "overconfident", right);
        canvas.line(&frame.curve(&curve), colour(0), 1.6);
        if curve.len() <= 40 {
            frame.curve(&curve).into_iter().for_each(|at| canvas.dot(at, 2.6, colour(0)));
        }
        frame.axes(canvas);
    }))
}

fn loss_svg(train: &[f64], valid: &[f64], best_epoch: usize) -> Result<String, Error> {
    let [width, height] = [520.0, 280.0];
    let (lo, hi) = loss_range(train, valid);
    let epoch = Axis::new("epoch", 0.5, train.len() as f64 + 0.5, width)?.whole();
    let loss = Axis::new("negative log-likelihood", lo, hi, height)?;
    let left = loss.widest() + 2.4 * MARGIN;
    let frame = Frame { left, top: MARGIN + 24.0, width, height, x: &epoch, y: &loss };
    let size = [left + width + MARGIN, frame.top + height + BOTTOM];
    let best = valid[best_epoch - 1];

    let title = format!("Training and validation loss; best epoch {best_epoch}");
    Ok(render(size, &title, |canvas| {
        frame.guide(canvas, [best_epoch as f64, lo], [best_epoch as f64, hi]);
        for (k, losses) in [train, valid].into_iter().enumerate() {
            // Cut at the top: what lies above `hi` is what lies below -hi upside down.
            let down: Vec<[f64; 2]> = losses.iter().enumerate().map(|(e, y)| [e as f64 + 1.0, -y]).collect();
            for piece in pieces_above(&down, -hi) {
                let line: Vec<Point> = piece.iter().map(|&[x, y]| frame.at(x, -y)).collect();
                canvas.line(&line, colour(k), 1.5);
                if losses.len() == 1 {
                    canvas.dot(line[0], 3.0, colour(k));
                }
            }
        }
        if best < hi {
            canvas.dot(frame.at(best_epoch as f64, best), 3.6, colour(1));
        }
        frame.axes(canvas);
        let y = MARGIN + 4.0;
        key(canvas, [left, y], "training", colour(0));
        key(canvas, [left + 110.0, y], "validation", colour(1));
        canvas.dot([left + 240.0, y], 3.6, colour(1));
        let text = format!("best epoch {best_epoch}: {}", precise(best));
        canvas.text([left + 250.0, y], &text, LEGEND);
    }))
}

/// From the lowest loss to the highest that does not flatten the rest.
fn loss_range(train: &[f64], valid: &[f64]) -> (f64, f64) {
    let mut sorted = [train, valid].concat();
    sorted.sort_by(f64::total_cmp);
    let (lowest, highest) = (sorted[0], sorted[sorted.len() - 1]);
    let most = sorted[(0.9 * (sorted.len() - 1) as f64).ceil() as usize];
    let hi = if most > lowest { highest.min(lowest + 5.0 * (most - lowest)) } else { highest };
    let pad = if hi > lowest { 0.06 * (hi - lowest) } else { 0.1 * hi.abs().max(1.0) };
    (lowest - pad, hi + pad)
}

/// Three decimals, or an exponent where they would not do.
fn precise(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) { format!("{value:.3e}") } else { signed(value, 3) }
}

/// A line of the legend: a stroke and its name.
fn key(canvas: &mut Canvas, [x, y]: Point, name: &str, colour: impl Color) {
    canvas.line(&[[x, y], [x + 20.0, y]], colour, 2.0);
    canvas.text([x + 28.0, y], name, LEGEND);
}

/// The diagonal of the unit square and the band around it.
fn diagonal(canvas: &mut Canvas, frame: &Frame, band: f64) {
    let below = [[0.0, 0.0], [band, 0.0], [1.0, 1.0 - band]];
    let above = [[1.0, 1.0], [1.0 - band, 1.0], [0.0, band]];
    canvas.area(&frame.spots([below, above].concat()), GREY.mix(BAND));
    frame.guide(canvas, [0.0, 0.0], [1.0, 1.0]);
}

/// The part of values at or below p, for p from 0 to 1 in equal steps.
fn empirical_cdf(values: ArrayView1<f64>, steps: usize) -> Vec<[f64; 2]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |k: usize| {
        let p = k as f64 / steps as f64;
        [p, sorted.partition_point(|&value| value <= p) as f64 / sorted.len() as f64]
    };
    (0..=steps).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{Folder, assert_well_formed};
    use ndarray::{Array2, array};
    use std::fs::read_to_string;

    /// The points of every line of a colour, on the page.
    fn lines(svg: &str, colour: &str) -> Vec<Vec<Point>> {
        let of_colour = |line: &&str| line.starts_with("<polyline") && line.contains(colour);
        let number = |text: &str| text.parse::<f64>().unwrap() / 10.0;
        let point = |pair: &str| pair.split_once(',').map(|(x, y)| [number(x), number(y)]).unwrap();
        let points = |line: &str| line.split("points=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        svg.lines().filter(of_colour).map(|l| points(l).split_whitespace().map(point).collect()).collect()
    }

    const BLUE: &str = "#0072B2";

    #[test]
    fn the_empirical_cdf_counts_values_at_or_below() {
        let cdf = empirical_cdf(array![0.5, 0.0, 1.0, 0.5].view(), 4);
        assert_eq!(cdf, [[0.0, 0.25], [0.25, 0.25], [0.5, 0.75], [0.75, 0.75], [1.0, 1.0]]);
    }

    #[test]
    fn a_pp_plot_draws_each_parameter_in_both_panels() {
        let folder = Folder::new("pp");
        let path = folder.0.join("pp.svg");
        let names: Vec<String> = (0..9).map(|i| format!("<θ{i}>")).collect();
        let pit = Array2::from_shape_fn((101, 9), |(i, j)| (i as f64 / 100.0).powi(1 + j as i32));
        pp_plot(&path, &names, pit.view(), 0.13).unwrap();
        let svg = read_to_string(&path).unwrap();
        assert_well_formed(&svg);
        for i in 0..9 {
            assert!(svg.contains(&format!("\n&lt;θ{i}&gt;\n")), "θ{i}");
        }
        assert!(svg.contains("band ±0.130"));
        // The first parameter is uniform: its curve follows the diagonal from corner to corner.
        let diagonal = &lines(&svg, BLUE)[0];
        for [x, y] in diagonal {
            assert!(((x - LEFT) + (y - MARGIN) - SIDE).abs() < 0.02 * SIDE);
        }
        assert_eq!(diagonal.last(), Some(&[LEFT + SIDE, MARGIN]));
    }

    #[test]
    fn a_coverage_plot_puts_each_level_where_it_belongs() {
        let folder = Folder::new("coverage");
        let path = folder.0.join("coverage.svg");
        coverage_plot(&path, &[0.0, 0.25, 1.0], &[0.0, 0.5, 1.0], 0.1).unwrap();
        let svg = read_to_string(&path).unwrap();
        assert_well_formed(&svg);
        let expected = [[LEFT, MARGIN + SIDE], [LEFT + SIDE / 4.0, MARGIN + SIDE / 2.0], [LEFT + SIDE, MARGIN]];
        assert_eq!(lines(&svg, BLUE), [expected.to_vec()]);
        for band in [0.0, 0.7, 1.0] {
            coverage_plot(&path, &[0.5], &[0.5], band).unwrap();
            assert_well_formed(&read_to_string(&path).unwrap());
        }
    }

    #[test]
    fn loss_curves_show_all_epochs_unless_one_would_flatten_the_rest() {
        let svg = loss_svg(&[3.0, 2.0, 1.0], &[3.5, 2.5, 2.6], 2).unwrap();
        assert_well_formed(&svg);
        assert_eq!(lines(&svg, BLUE).iter().find(|line| line.len() == 3).map(Vec::len), Some(3));
        assert!(svg.contains("best epoch 2: 2.500"));

        let mut train = vec![1.0; 40];
        (train[0], train[7]) = (1e9, 2.0);
        let (lo, hi) = loss_range(&train, &[1.5; 40]);
        assert!(lo < 1.0 && hi > 2.0 && hi < 10.0, "{lo} {hi}");
        let svg = loss_svg(&train, &[1.5; 40], 1).unwrap();
        assert_well_formed(&svg);
        let top = lines(&svg, BLUE).concat().iter().fold(f64::INFINITY, |top, at| top.min(at[1]));
        assert!(top >= MARGIN, "a curve leaves the page");

        for losses in [[0.0], [1e300], [-1e-310]] {
            assert_well_formed(&loss_svg(&losses, &losses, 1).unwrap());
        }
        assert!(loss_svg(&[1e308, -1e308], &[1e308, -1e308], 1).is_err());
    }

    #[test]
    fn wrong_input_is_named_and_writes_nothing() {
        let folder = Folder::new("curves");
        let path = folder.0.join("plot.svg");
        let pit = |value: f64| array![[0.1, 0.2], [0.3, value]];
        let parameter = |result: Result<(), Error>, what: &str| match result {
            Err(Error::Parameter { name, .. }) => assert_eq!(name, what),
            other => panic!("{what}: {other:?}"),
        };
        let length = |result: Result<(), Error>, what: &str| match result {
            Err(Error::Length { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{what}: {other:?}"),
        };
        let (ab, none): ([&str; 2], [&str; 0]) = (["a", "b"], []);
        parameter(pp_plot(&path, &none, Array2::zeros((3, 0)).view(), 0.1), "names");
        length(pp_plot(&path, &["a"], pit(0.4).view(), 0.1), "pit columns");
        length(pp_plot(&path, &ab, Array2::zeros((0, 2)).view(), 0.1), "pit rows");
        parameter(pp_plot(&path, &ab, pit(0.4).view(), f64::NAN), "band");
        let found = pp_plot(&path, &ab, pit(f64::NAN).view(), 0.1);
        assert_eq!(found, Err(Error::NonFinite { what: "pit", row: 1, column: 1 }));
        let found = pp_plot(&path, &ab, pit(1.1).view(), 0.1);
        assert!(matches!(found, Err(Error::OutsideSupport { name, row: 1, .. }) if name == "b"));

        length(coverage_plot(&path, &[], &[], 0.1), "levels");
        length(coverage_plot(&path, &[0.1, 0.2], &[0.1], 0.1), "coverage");
        parameter(coverage_plot(&path, &[0.1, 1.2], &[0.1, 0.2], 0.1), "levels");
        parameter(coverage_plot(&path, &[0.2, 0.1], &[0.1, 0.2], 0.1), "levels");
        parameter(coverage_plot(&path, &[0.1], &[-0.1], 0.1), "coverage");
        parameter(coverage_plot(&path, &[0.1], &[0.1], -0.1), "band");

        length(loss_curves(&path, &[], &[], 1), "training loss");
        length(loss_curves(&path, &[1.0], &[1.0, 2.0], 1), "validation loss");
        parameter(loss_curves(&path, &[1.0], &[1.0], 0), "best_epoch");
        parameter(loss_curves(&path, &[1.0], &[1.0], 2), "best_epoch");
        let found = loss_curves(&path, &[1.0, 2.0], &[1.0, f64::INFINITY], 1);
        assert_eq!(found, Err(Error::NonFinite { what: "validation loss", row: 1, column: 0 }));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    }
}
