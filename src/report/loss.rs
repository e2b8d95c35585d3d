//! Loss curves.

use super::axis::{Axis, signed};
use super::check_column;
use super::frame::{Frame, key, pieces_above};
use super::picture::{Picture, Point};
use super::style::{LEGEND, colour};
use crate::error::{Error, check_length};

const MARGIN: f64 = 20.0;

/// Draws the negative log-likelihood of the training and validation rows over epochs.
///
/// `best_epoch` is the one whose parameters were kept, counted from one. A first epoch far above
/// all others does not flatten the rest: the curve leaves the plot at the top.
///
/// # Errors
/// [`Error::Length`] if the two differ in length or are empty, [`Error::NonFinite`] for the first
/// loss that is NaN or infinite, [`Error::Parameter`] if there is no such best epoch or losses are
/// too far apart to be subtracted.
pub fn loss_curves(train: &[f64], valid: &[f64], best_epoch: usize) -> Result<Picture, Error> {
    check_column("training loss", train)?;
    check_column("validation loss", valid)?;
    check_length("validation loss", train.len(), valid.len())?;
    if !(1..=train.len()).contains(&best_epoch) {
        let why = format!("is {best_epoch}; epochs are counted from 1 to {}", train.len());
        return Err(Error::parameter("best_epoch", why));
    }
    draw_losses(train, valid, best_epoch)
}

fn draw_losses(train: &[f64], valid: &[f64], best_epoch: usize) -> Result<Picture, Error> {
    let [width, height] = [520.0, 280.0];
    let (lo, hi) = loss_range(train, valid);
    let epoch = Axis::new("epoch", 0.5, train.len() as f64 + 0.5, width)?.whole();
    let loss = Axis::new("negative log-likelihood", lo, hi, height)?;
    let left = loss.widest() + 2.4 * MARGIN;
    let frame = Frame { left, top: MARGIN + 24.0, width, height, x: &epoch, y: &loss };
    let size = [left + width + MARGIN, frame.top + height + 50.0];
    let best = valid[best_epoch - 1];

    let description = format!(
        "{} epochs; the lowest validation loss, {}, is that of epoch {best_epoch}.",
        train.len(),
        precise(best)
    );
    Ok(Picture::draw(size, "Training and validation loss", &description, |canvas| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_well_formed, length, lines, parameter, texts};

    #[test]
    fn loss_curves_show_all_epochs_unless_one_would_flatten_the_rest() {
        let picture = loss_curves(&[3.0, 2.0, 1.0], &[3.5, 2.5, 2.6], 2).unwrap();
        assert_well_formed(&picture.to_svg());
        assert!(lines(&picture, colour(0)).iter().any(|line| line.len() == 3));
        assert!(texts(&picture.to_svg()).contains(&"best epoch 2: 2.500".to_owned()));

        let mut train = vec![1.0; 40];
        (train[0], train[7]) = (1e9, 2.0);
        let (lo, hi) = loss_range(&train, &[1.5; 40]);
        assert!(lo < 1.0 && hi > 2.0 && hi < 10.0, "{lo} {hi}");
        let picture = loss_curves(&train, &[1.5; 40], 1).unwrap();
        assert_well_formed(&picture.to_svg());
        let top = lines(&picture, colour(0)).concat().iter().fold(f64::INFINITY, |top, at| top.min(at[1]));
        assert!(top >= MARGIN, "a curve leaves the page");

        for losses in [[0.0], [1e300], [-1e-310]] {
            assert_well_formed(&loss_curves(&losses, &losses, 1).unwrap().to_svg());
        }
        assert!(loss_curves(&[1e308, -1e308], &[1e308, -1e308], 1).is_err());
    }

    #[test]
    fn wrong_input_is_named() {
        length(loss_curves(&[], &[], 1), "training loss");
        length(loss_curves(&[1.0], &[1.0, 2.0], 1), "validation loss");
        parameter(loss_curves(&[1.0], &[1.0], 0), "best_epoch");
        parameter(loss_curves(&[1.0], &[1.0], 2), "best_epoch");
        let found = loss_curves(&[1.0, 2.0], &[1.0, f64::INFINITY], 1);
        assert_eq!(found.unwrap_err(), Error::NonFinite { what: "validation loss", row: 1, column: 0 });
    }
}
