//! Axes with round tick values, and the frame that carries data to the page.

use super::style::{Canvas, Font, GREY, INK, LABEL, Point, TICK};
use crate::error::Error;
use plotters::style::text_anchor::HPos;

/// The smallest width of a range whose ticks can be computed with.
const NARROWEST: f64 = 1e-300;

/// One quantity's range, its ticks and how its numbers are written.
///
/// Numbers are shown in units of $10^\mathrm{power}$, which is zero unless they would be long.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub name: String,
    pub lo: f64,
    pub hi: f64,
    pub power: i32,
    pub ticks: Vec<f64>,
    decimals: usize,
}

impl Axis {
    /// An axis of `length` pixels, with as many ticks as have room for their labels side by side.
    ///
    /// An [`Error::Parameter`] unless it goes up by a finite number.
    pub fn new(name: impl Into<String>, lo: f64, hi: f64, length: f64) -> Result<Self, Error> {
        let width = hi - lo; // overflows for numbers near the largest there is
        if !(NARROWEST..f64::INFINITY).contains(&width) {
            let why = format!("it cannot be shown from {lo} to {hi}; a range goes up by a finite number");
            return Err(Error::parameter(name, why));
        }
        let most = (length / 36.0).clamp(2.0, 8.0);
        let (name, magnitude) = (name.into(), exponent(lo.abs().max(hi.abs())));
        let axis = |count: usize| {
            let (digit, place) = round_step(width / count as f64);
            let power = if !(-3..5).contains(&magnitude) { magnitude } else { 0 };
            let decimals = (power - place).clamp(0, 15) as usize;
            let ticks = multiples(digit * 10f64.powi(place), lo, hi);
            Self { name: name.clone(), lo, hi, power, ticks, decimals }
        };
        let fits = |axis: &Axis| {
            let steps = axis.ticks.len().saturating_sub(1) as f64;
            steps <= most && (axis.widest() + TICK.size) * steps < length * axis.covered()
        };
        // A round step may be up to 2.5 times the one asked for.
        let finest = (2.5 * most) as usize;
        Ok((2..=finest).rev().map(&axis).find(fits).unwrap_or_else(|| axis(1)))
    }

    /// The part of the axis between its first and its last tick.
    fn covered(&self) -> f64 {
        self.ticks.last().map_or(0.0, |&last| self.unit(last) - self.unit(self.ticks[0]))
    }

    /// The same axis with ticks at whole numbers only.
    pub fn whole(mut self) -> Self {
        self.ticks.retain(|tick| tick.fract() == 0.0);
        self.decimals = 0;
        self
    }

    /// A value as it stands beside its tick.
    pub fn label(&self, value: f64) -> String {
        signed(value * 10f64.powi(-self.power), self.decimals)
    }

    /// The axis' name, with the power of ten its numbers are given in.
    pub fn caption(&self) -> String {
        format!("{} {}", self.name, self.times()).trim_end().to_owned()
    }

    /// `×10⁶`, or nothing where numbers are given as they are.
    pub fn times(&self) -> String {
        const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
        let raised = |c: char| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
        let power: String = self.power.to_string().chars().map(raised).collect();
        if self.power == 0 { String::new() } else { format!("×10{power}") }
    }

    /// The width of the widest tick label in pixels.
    pub fn widest(&self) -> f64 {
        self.ticks.iter().map(|&tick| TICK.width(&self.label(tick))).fold(0.0, f64::max)
    }

    pub fn shows(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub fn unit(&self, value: f64) -> f64 {
        (value - self.lo) / (self.hi - self.lo)
    }
}

/// A range with room on both sides, `part` of its width; around one number, what is near it.
pub(super) fn widened(lo: f64, hi: f64, part: f64) -> (f64, f64) {
    let size = lo.abs().max(hi.abs());
    let room = if hi - lo > (1e-9 * size).max(NARROWEST) {
        part * (hi - lo)
    } else if size > 10.0 * NARROWEST {
        0.1 * size
    } else {
        1.0
    };
    (lo - room, hi + room)
}

/// A number with a true minus sign, and no sign at all on what rounds to zero.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

/// The power of ten of a number's leading digit; 0 for zero.
pub(super) fn exponent(value: f64) -> i32 {
    if value > 0.0 { value.log10().floor() as i32 } else { 0 }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`, as digit and power.
fn round_step(step: f64) -> (f64, i32) {
    let place = exponent(step);
    let lead = step / 10f64.powi(place) * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].into_iter().find(|&digit| digit >= lead).map_or((1.0, place + 1), |digit| (digit, place))
}

/// The multiples of `step` from `lo` to `hi`.
fn multiples(step: f64, lo: f64, hi: f64) -> Vec<f64> {
    let slack = 1e-9;
    let (first, last) = ((lo / step - slack).ceil(), (hi / step + slack).floor());
    (0..=20).map(|k| first + k as f64).take_while(|&k| k <= last).map(|k| k * step).collect()
}

/// A rectangle of the page and the ranges of data it shows.
pub(super) struct Frame<'a> {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

impl Frame<'_> {
    /// Where a point of the data lies on the page.
    pub fn at(&self, x: f64, y: f64) -> Point {
        self.spot([self.x.unit(x), self.y.unit(y)])
    }

    /// Where a point of the unit square lies on the page.
    pub fn spot(&self, [u, v]: [f64; 2]) -> Point {
        [self.left + u * self.width, self.top + (1.0 - v) * self.height]
    }

    /// The page's points for a curve in the unit square.
    pub fn spots(&self, points: impl IntoIterator<Item = [f64; 2]>) -> Vec<Point> {
        points.into_iter().map(|point| self.spot(point)).collect()
    }

    /// The page's points for a curve of the data.
    pub fn curve(&self, points: &[[f64; 2]]) -> Vec<Point> {
        points.iter().map(|&[x, y]| self.at(x, y)).collect()
    }

    pub fn border(&self, canvas: &mut Canvas) {
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
        canvas.line(&corners.map(|corner| self.spot(corner)), INK, 0.8);
    }

    /// Ticks that point inwards from the lower edge.
    pub fn x_ticks(&self, canvas: &mut Canvas) {
        for &tick in &self.x.ticks {
            let [x, y] = self.at(tick, self.y.lo);
            canvas.line(&[[x, y], [x, y - 3.5]], INK, 0.8);
        }
    }

    /// Ticks that point inwards from the left edge.
    pub fn y_ticks(&self, canvas: &mut Canvas) {
        for &tick in &self.y.ticks {
            let [x, y] = self.at(self.x.lo, tick);
            canvas.line(&[[x, y], [x + 3.5, y]], INK, 0.8);
        }
    }

    /// The name and the tick labels under the lower edge.
    ///
    /// A label that sticks out by more than `overhang` is moved inwards a little, or left out.
    pub fn x_labels(&self, canvas: &mut Canvas, overhang: f64) {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        for &tick in &self.x.ticks {
            let (x, label) = (self.at(tick, self.y.lo)[0], self.x.label(tick));
            let inner = TICK.width(&label) / 2.0 - overhang;
            let moved = x.max(self.left + inner).min(right - inner);
            if (moved - x).abs() < TICK.size / 2.0 {
                canvas.text([moved, bottom + 10.0], &label, TICK);
            }
        }
        let middle = [self.left + self.width / 2.0, bottom + 28.0];
        canvas.label(middle, &self.x.caption(), self.width, 0.0, LABEL);
    }

    /// Tick labels left of the frame, and the name left of labels `widest` pixels wide.
    pub fn y_labels(&self, canvas: &mut Canvas, widest: f64) {
        for &tick in &self.y.ticks {
            let right = Font { align: HPos::Right, ..TICK };
            canvas.text([self.left - 5.0, self.at(self.x.lo, tick)[1]], &self.y.label(tick), right);
        }
        let middle = [self.left - widest - 18.0, self.top + self.height / 2.0];
        canvas.label(middle, &self.y.caption(), self.height, 1.0, Font { upward: true, ..LABEL });
    }

    /// Border, ticks, labels and names of a plot that stands alone.
    pub fn axes(&self, canvas: &mut Canvas) {
        self.border(canvas);
        self.x_ticks(canvas);
        self.y_ticks(canvas);
        self.x_labels(canvas, f64::INFINITY);
        self.y_labels(canvas, self.y.widest());
    }

    /// A dashed straight line between two points of the data.
    pub fn guide(&self, canvas: &mut Canvas, from: [f64; 2], to: [f64; 2]) {
        canvas.dashes(self.at(from[0], from[1]), self.at(to[0], to[1]), GREY, 1.0);
    }
}

/// The pieces of a curve that lie above `level`, cut by linear interpolation where it crosses.
pub(super) fn pieces_above(curve: &[[f64; 2]], level: f64) -> Vec<Vec<[f64; 2]>> {
    let (mut pieces, mut piece) = (Vec::new(), Vec::new());
    for (k, &[x, y]) in curve.iter().enumerate() {
        if k > 0 && (curve[k - 1][1] > level) != (y > level) {
            let [before, from] = curve[k - 1];
            let t = (level - from) / (y - from);
            piece.push([before + t * (x - before), level]);
        }
        if y > level {
            piece.push([x, y]);
        } else if !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces.extend((!piece.is_empty()).then_some(piece));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_their_labels_exact() {
        let labels = |lo, hi, length| {
            let axis = Axis::new("x", lo, hi, length).unwrap();
            (axis.ticks.iter().map(|&tick| axis.label(tick)).collect::<Vec<_>>(), axis.times())
        };
        assert_eq!(labels(-0.31, 0.33, 128.0).0, ["−0.2", "0.0", "0.2"]);
        assert_eq!(labels(0.0, 1.0, 300.0).0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0, 3.2e6, 130.0), (vec!["0".into(), "1".into(), "2".into(), "3".into()], "×10⁶".into()));
        assert_eq!(labels(1e-12, 3e-12, 90.0).1, "×10⁻¹²");
        assert_eq!(labels(1.0, 60.0, 400.0).0, ["10", "20", "30", "40", "50", "60"]);
    }

    #[test]
    fn labels_have_room_side_by_side_and_any_range_has_few_ticks() {
        let ends = [0.0f64, 1.0, -1.0, 1e-300, 1e300, -1e300, 12345.678, 1e16, 7.0];
        let widths = [1e-3, 0.1, 2.0, 3.7, 1e4, 1e299];
        for (lo, width, length) in ends
            .iter()
            .flat_map(|&lo| widths.iter().flat_map(move |&w| [96.0, 128.0, 400.0].map(move |length| (lo, w, length))))
        {
            let hi = lo + width;
            if hi == lo {
                assert!(Axis::new("x", lo, hi, length).is_err());
                continue;
            }
            let axis = Axis::new("x", lo, hi, length).unwrap();
            assert!(axis.ticks.len() <= 9, "{lo} {hi}: {:?}", axis.ticks);
            if axis.ticks.len() > 2 && width > 1e-12 * lo.abs() {
                let step = length * (axis.unit(axis.ticks[1]) - axis.unit(axis.ticks[0]));
                assert!(step > 0.8 * axis.widest(), "{lo} {hi} {length}: {axis:?}");
            }
        }
    }

    #[test]
    fn a_curve_is_cut_at_the_level() {
        let curve = [[0.0, 2.0], [1.0, 0.0], [2.0, 0.0], [3.0, 4.0], [4.0, 0.0]];
        let pieces = pieces_above(&curve, 1.0);
        assert_eq!(pieces, [vec![[0.0, 2.0], [0.5, 1.0]], vec![[2.25, 1.0], [3.0, 4.0], [3.75, 1.0]]]);
        assert!(pieces_above(&curve, 4.0).is_empty());
        assert_eq!(pieces_above(&curve, -1.0), [curve.to_vec()]);
        assert!(pieces_above(&[], 0.0).is_empty());
    }
}
