//! A median and its errors, as a corner plot's headings give them.

use std::fmt;

use super::super::axis::{exponent, signed, times};
use super::super::picture::{Canvas, Point};
use super::super::style::{Align, Font, LABEL};

/// The median of draws and the distances to their 84th and 16th percentile, with two digits of the smaller distance.
pub(super) struct Summary {
    median: String,
    plus: String,
    minus: String,
    times: String,
}

impl Summary {
    /// From the three percentiles, in units of a power of ten, by default one that keeps the numbers short.
    pub fn new(percentiles: [f64; 3], power: Option<i32>) -> Self {
        let own = exponent(percentiles[1].abs());
        let power = power.unwrap_or(if (-3..5).contains(&own) { 0 } else { own });
        let [low, median, high] = percentiles.map(|value| value * 10f64.powi(-power));
        let (plus, minus) = (high - median, median - low);
        let smaller = if plus.min(minus) > 0.0 { plus.min(minus) } else { plus.max(minus) };
        let decimals = (1 - exponent(smaller)).clamp(0, 6) as usize;
        Self {
            median: signed(median, decimals),
            plus: format!("+{plus:.decimals$}"),
            minus: format!("−{minus:.decimals$}"),
            times: times(power),
        }
    }

    /// The errors stand raised and lowered behind the median, all of it no wider than `room`.
    pub fn draw(&self, canvas: &mut Canvas, [middle, y]: Point, room: f64) {
        const GAP: f64 = 3.0;
        let small = Font { size: 0.76 * LABEL.size, ..LABEL };
        let [base, errors] = [LABEL.width(&self.median), small.width(&self.plus).max(small.width(&self.minus))];
        let all = base + GAP + errors + if self.times.is_empty() { 0.0 } else { GAP + LABEL.width(&self.times) };
        let shrink = (room / all).min(1.0);
        let font = |like: Font| Font { size: shrink * like.size, align: Align::Left, ..like };

        let left = middle - shrink * all / 2.0;
        // Where the number has ended and its errors begin.
        let joint = left + shrink * (base + GAP);
        let raise = 0.5 * shrink * LABEL.size;
        canvas.text([left, y], &self.median, font(LABEL));
        canvas.text([joint, y - raise], &self.plus, font(small));
        canvas.text([joint, y + raise], &self.minus, font(small));
        canvas.text([joint + shrink * (errors + GAP), y], &self.times, font(LABEL));
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, plus, minus, times } = self;
        write!(f, "{median} {plus} {minus}{}{times}", if times.is_empty() { "" } else { " " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_of_the_smaller_error_are_given() {
        let text = |percentiles, power| Summary::new(percentiles, power).to_string();
        assert_eq!(text([0.98, 1.2, 1.523], Some(0)), "1.20 +0.32 −0.22");
        assert_eq!(text([-1.0, -0.5, 3.0], Some(0)), "−0.50 +3.50 −0.50");
        assert_eq!(text([2e6, 3e6, 5e6], Some(6)), "3.0 +2.0 −1.0 ×10⁶");
        assert_eq!(text([2e-9, 3e-9, 5e-9], None), "3.0 +2.0 −1.0 ×10⁻⁹");
        assert_eq!(text([7.0, 7.0, 7.0], None), "7.0 +0.0 −0.0");
        assert_eq!(text([100.0, 250.0, 400.0], None), "250 +150 −150");
    }
}
