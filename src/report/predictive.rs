//! What the posterior predicts, as bands about the observation.

use ndarray::ArrayView2;

use super::axis::{Axis, widened};
use super::check_column;
use super::frame::{Frame, key};
use super::picture::{Canvas, Picture, Point};
use super::quantiles::quantiles;
use super::style::{INK, LEGEND, colour};
use crate::error::{Error, check_finite, check_length};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// The quantiles that bound the 95 and the 68 % band, and the median.
const LEVELS: [f64; 5] = [0.025, 0.16, 0.5, 0.84, 0.975];
/// How strongly the two bands are filled.
const SHADES: [f64; 2] = [0.2, 0.35];

/// Draws what the posterior predicts at each abscissa, as a median in 68 and 95 % bands, and what was observed.
///
/// `x` are the abscissae, rising: times, wavelengths, the index of a feature. `predicted` is `[draws x abscissae]`, a
/// simulation from each of some draws of the posterior; `observed` holds the observation at each abscissa. `axes` name
/// abscissa and ordinate, with their units. The bands hold 68 and 95 % of the simulations at each abscissa by itself.
///
/// # Errors
/// [`Error::Length`] if there is no abscissa or no draw or the widths differ, [`Error::NonFinite`] for the first value
/// that is NaN or infinite, [`Error::Parameter`] if abscissae do not rise or values are too far apart to be subtracted.
pub fn predictive_plot(
    axes: [&str; 2],
    x: &[f64],
    predicted: ArrayView2<'_, f64>,
    observed: &[f64],
) -> Result<Picture, Error> {
    check_column("abscissae", x)?;
    check_length("columns of predictions", x.len(), predicted.ncols())?;
    check_length("predictions", predicted.nrows().max(1), predicted.nrows())?;
    check_length("observation", x.len(), observed.len())?;
    check_finite("predictions", predicted)?;
    check_column("observation", observed)?;
    if !x.is_sorted() {
        return Err(Error::parameter("abscissae", "they must rise from one to the next"));
    }
    let weights = vec![1.0 / predicted.nrows() as f64; predicted.nrows()];
    let bands: Vec<[f64; 5]> = predicted.columns().into_iter().map(|c| quantiles(c, &weights, LEVELS)).collect();
    draw(axes, x, &bands, observed)
}

fn draw(axes: [&str; 2], x: &[f64], bands: &[[f64; 5]], observed: &[f64]) -> Result<Picture, Error> {
    let values = bands.iter().flat_map(|band| [band[0], band[4]]).chain(observed.iter().copied());
    let ends = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let around = |(lo, hi), part| widened(lo, hi, part);
    let (x_ends, y_ends) = (around((x[0], x[x.len() - 1]), 0.02), around(ends, 0.06));
    let abscissa = Axis::new(axes[0], x_ends.0, x_ends.1, WIDTH)?;
    let ordinate = Axis::new(axes[1], y_ends.0, y_ends.1, HEIGHT)?;
    let left = ordinate.widest() + 2.4 * MARGIN;
    let frame = Frame { left, top: MARGIN + 24.0, width: WIDTH, height: HEIGHT, x: &abscissa, y: &ordinate };
    let size = [left + WIDTH + MARGIN, frame.top + HEIGHT + BOTTOM];

    let inside = bands.iter().zip(observed).filter(|(band, value)| (band[0]..=band[4]).contains(value)).count();
    let description = format!("{inside} of {} observed values lie in the 95 % band of the predictions.", x.len());
    Ok(Picture::draw(size, "Posterior predictions and the observation", &description, |canvas| {
        let curve = |q: usize| x.iter().zip(bands).map(|(&x, band)| frame.at(x, band[q])).collect::<Vec<_>>();
        for (q, shade) in SHADES.into_iter().enumerate() {
            draw_band(canvas, &curve(q), &curve(4 - q), shade);
        }
        canvas.line(&curve(2), colour(0), 1.4);
        let radius = (90.0 / x.len() as f64).clamp(1.2, 2.8);
        x.iter().zip(observed).for_each(|(&x, &y)| canvas.dot(frame.at(x, y), radius, INK));
        frame.axes(canvas);
        legend(canvas, [left, MARGIN + 4.0]);
    }))
}

/// The area between two curves; where there is but one abscissa, a bar around it.
fn draw_band(canvas: &mut Canvas, low: &[Point], high: &[Point], shade: f64) {
    if let ([[x, bottom]], [[_, top]]) = (low, high) {
        canvas.rectangle([x - 8.0, *top], [x + 8.0, *bottom], colour(0).mix(shade));
        return;
    }
    let outline: Vec<Point> = low.iter().chain(high.iter().rev()).copied().collect();
    canvas.area(&outline, colour(0).mix(shade));
}

fn legend(canvas: &mut Canvas, [left, y]: Point) {
    SHADES.into_iter().zip([6.0, 3.5]).for_each(|(shade, half)| {
        canvas.rectangle([left, y - half], [left + 20.0, y + half], colour(0).mix(shade));
    });
    key(canvas, [left, y], "predicted, 68 / 95 %", colour(0));
    let next = left + 62.0 + LEGEND.width("predicted, 68 / 95 %");
    canvas.dot([next, y], 2.8, INK);
    canvas.text([next + 10.0, y], "observed", LEGEND);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_apart, assert_well_formed, length, parameter};
    use ndarray::{Array2, array};

    #[test]
    fn the_observation_is_counted_where_it_is_inside() {
        let predicted = Array2::from_shape_fn((101, 3), |(i, j)| i as f64 / 100.0 + j as f64);
        let picture = predictive_plot(["t [s]", "flux [Jy]"], &[0.0, 1.0, 4.0], predicted.view(), &[0.5, 1.99, 2.9]);
        let picture = picture.unwrap();
        assert_well_formed(&picture.to_svg());
        assert_apart(&picture);
        assert!(picture.description().starts_with("2 of 3 observed"), "{}", picture.description());
    }

    #[test]
    fn odd_predictions_still_make_a_picture_and_wrong_ones_are_named() {
        let plot = |x: &[f64], predicted: &Array2<f64>, observed: &[f64]| {
            predictive_plot(["x", "y"], x, predicted.view(), observed)
        };
        for (x, predicted) in [(vec![1.0], array![[2.0]]), (vec![1.0, 1.0], array![[0.0, 1e300], [0.0, 0.0]])] {
            assert_well_formed(&plot(&x, &predicted, &x).unwrap().to_svg());
        }
        let good = array![[1.0, 2.0]];
        length(plot(&[], &good, &[]), "abscissae");
        length(plot(&[1.0], &good, &[1.0]), "columns of predictions");
        length(plot(&[1.0, 2.0], &Array2::zeros((0, 2)), &[1.0, 2.0]), "predictions");
        length(plot(&[1.0, 2.0], &good, &[1.0]), "observation");
        parameter(plot(&[2.0, 1.0], &good, &[1.0, 1.0]), "abscissae");
        parameter(plot(&[1.0, 2.0], &array![[-1e308, 1e308]], &[1.0, 1.0]), "y");
        let found = plot(&[1.0, 2.0], &array![[0.0, f64::NAN]], &[1.0, 1.0]).unwrap_err();
        assert_eq!(found, Error::NonFinite { what: "predictions", row: 0, column: 1 });
    }
}
