//! The frame that carries data to the page.

use super::axis::{Axis, Tick};
use super::picture::{Canvas, Point};
use super::style::{Align, Colour, Font, INK, LABEL, LEGEND, TICK};

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

    pub fn border(&self, canvas: &mut Canvas) {
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
        canvas.line(&corners.map(|corner| self.spot(corner)), INK, 0.8);
    }

    /// Ticks that point inwards from the lower edge.
    pub fn x_ticks(&self, canvas: &mut Canvas) {
        for (value, length) in ticks(self.x) {
            let [x, y] = self.at(value, self.y.lo);
            canvas.line(&[[x, y], [x, y - length]], INK, 0.8);
        }
    }

    /// Ticks that point inwards from the left edge.
    pub fn y_ticks(&self, canvas: &mut Canvas) {
        for (value, length) in ticks(self.y) {
            let [x, y] = self.at(self.x.lo, value);
            canvas.line(&[[x, y], [x + length, y]], INK, 0.8);
        }
    }

    /// The name and the tick labels under the lower edge.
    ///
    /// A label that sticks out by more than `overhang` is moved inwards a little, or left out.
    pub fn x_labels(&self, canvas: &mut Canvas, overhang: f64) {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        for Tick { value, label } in &self.x.ticks {
            let x = self.at(*value, self.y.lo)[0];
            let inner = TICK.width(label) / 2.0 - overhang;
            let moved = x.max(self.left + inner).min(right - inner);
            if (moved - x).abs() < TICK.size / 2.0 {
                canvas.text([moved, bottom + 10.0], label, TICK);
            }
        }
        let middle = [self.left + self.width / 2.0, bottom + 28.0];
        canvas.label(middle, &self.x.caption(), self.width, 0.0, LABEL);
    }

    /// Tick labels left of the frame, and the name left of labels `widest` pixels wide.
    pub fn y_labels(&self, canvas: &mut Canvas, widest: f64) {
        for Tick { value, label } in &self.y.ticks {
            let right = Font { align: Align::Right, ..TICK };
            canvas.text([self.left - 5.0, self.at(self.x.lo, *value)[1]], label, right);
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
        canvas.dashes(self.at(from[0], from[1]), self.at(to[0], to[1]), 1.0);
    }
}

/// Where an axis is marked, and by how long a line.
fn ticks(axis: &Axis) -> impl Iterator<Item = (f64, f64)> {
    axis.ticks.iter().map(|tick| (tick.value, 3.5)).chain(axis.minor.iter().map(|&value| (value, 2.0)))
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

/// A line of the legend: a stroke and its name.
pub(super) fn key(canvas: &mut Canvas, [x, y]: Point, name: &str, colour: Colour) {
    canvas.line(&[[x, y], [x + 20.0, y]], colour, 2.0);
    canvas.text([x + 28.0, y], name, LEGEND);
}

#[cfg(test)]
mod tests {
    use super::*;

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
