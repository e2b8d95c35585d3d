//! Where everything on a corner plot stands.

use super::super::axis::Axis;
use super::super::frame::Frame;
use super::super::picture::Canvas;
use super::super::style::LEGEND;
use super::Corner;

pub(super) const MARGIN: f64 = 18.0;
pub(super) const ROW: f64 = 20.0;
pub(super) const TRUTH: &str = "truth";
pub(super) const MASS: &str = "68 / 95 % mass";

pub(super) struct Page<'a> {
    pub axes: &'a [Axis],
    pub side: f64,
    gap: f64,
    pub left: f64,
    pub top: f64,
    /// The width of y tick labels, the same for all rows.
    widest: f64,
    legend: f64,
}

impl<'a> Page<'a> {
    pub fn new(corner: &Corner, axes: &'a [Axis], side: f64) -> Self {
        let texts = corner.series.iter().map(|series| &*series.name).chain([TRUTH]);
        let legend = texts.map(|text| 34.0 + LEGEND.width(text)).fold(LEGEND.width(MASS), f64::max);
        let widest = axes.iter().skip(1).map(Axis::widest).fold(0.0, f64::max);
        // Room for two lines of a name above the first marginal, left of the first column.
        let left = if axes.len() > 1 { MARGIN + 34.0 + widest } else { MARGIN };
        let top = MARGIN + if corner.title.is_empty() { 50.0 } else { 74.0 };
        Self { axes, side, gap: 0.09 * side, left, top, widest, legend }
    }

    /// Row `i` from the top, column `j` from the left.
    pub fn panel(&self, i: usize, j: usize) -> Frame<'_> {
        let pitch = self.side + self.gap;
        let (left, top) = (self.left + j as f64 * pitch, self.top + i as f64 * pitch);
        Frame { left, top, width: self.side, height: self.side, x: &self.axes[j], y: &self.axes[i] }
    }

    fn right(&self) -> f64 {
        let last = self.axes.len() - 1;
        self.panel(last, last).left + self.side
    }

    /// The legend stands in the upper right, beside the only panel if there is one.
    pub fn legend_left(&self) -> f64 {
        let beside_first = self.left + self.side + self.gap + 14.0;
        (self.right() - self.legend).max(beside_first)
    }

    pub fn size(&self) -> [f64; 2] {
        let last = self.axes.len() - 1;
        let right = self.right().max(self.legend_left() + self.legend);
        [right + MARGIN, self.panel(last, 0).top + self.side + 48.0 + MARGIN]
    }

    /// Names and tick labels under the bottom row and left of the first column.
    pub fn labels(&self, canvas: &mut Canvas) {
        let last = self.axes.len() - 1;
        for k in 0..=last {
            self.panel(last, k).x_labels(canvas, self.gap / 2.0);
        }
        for k in 1..=last {
            self.panel(k, 0).y_labels(canvas, self.widest);
        }
    }
}
