//! The embedded typeface: widths and outlines of text that are the same on every machine.
//!
//! Text is measured and drawn from a subset of DejaVu Sans (Latin, Greek, mathematics, a few astronomical symbols), so
//! that labels can be laid out exactly and a machine without any font draws the same picture.

use std::sync::LazyLock;

use ttf_parser::{Face, OutlineBuilder};

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(include_bytes!("DejaVuSans-subset.ttf"), 0).expect("the embedded font is whole"));

/// One step of an outline, in parts of the type size: x to the right of the text's start, y above its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    Move([f64; 2]),
    Line([f64; 2]),
    /// A quadratic Bézier curve: its control point, and its end.
    Curve([f64; 2], [f64; 2]),
    Close,
}

/// Half the height of a capital: what centres a line of text.
pub(super) const HALF_CAPITAL: f64 = 0.365;

/// How wide the text is, in parts of the type size.
pub(super) fn width(text: &str) -> f64 {
    text.chars().map(advance).sum()
}

/// Whether the typeface has every character of the text. One that it lacks is drawn as a box.
pub(super) fn covers(text: &str) -> bool {
    text.chars().all(|c| FACE.glyph_index(c).is_some())
}

/// The text as closed outlines, filled where the winding number is not zero.
pub(super) fn outline(text: &str) -> Vec<Step> {
    let mut pen = Pen { steps: Vec::new(), left: 0.0 };
    for c in text.chars() {
        FACE.outline_glyph(FACE.glyph_index(c).unwrap_or_default(), &mut pen);
        pen.left += advance(c);
    }
    pen.steps
}

fn advance(c: char) -> f64 {
    let glyph = FACE.glyph_index(c).unwrap_or_default();
    f64::from(FACE.glyph_hor_advance(glyph).unwrap_or_default()) / em()
}

/// Font units of one type size.
pub(super) fn em() -> f64 {
    f64::from(FACE.units_per_em())
}

struct Pen {
    steps: Vec<Step>,
    left: f64,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> [f64; 2] {
        [self.left + f64::from(x) / em(), f64::from(y) / em()]
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.steps.push(Step::Move(self.at(x, y)));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.steps.push(Step::Line(self.at(x, y)));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.steps.push(Step::Curve(self.at(x1, y1), self.at(x, y)));
    }

    /// A TrueType outline has no cubic curve; its end keeps the outline closed if a font had one.
    fn curve_to(&mut self, _: f32, _: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.quad_to(x2, y2, x, y);
    }

    fn close(&mut self) {
        self.steps.push(Step::Close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_of_the_field_are_covered() {
        for text in ["log M* [M☉]", "σ₈ Ωₘ h⁻¹ Mpc", "ΔΣ ± 0.1 × 10⁻¹²", "−+≤≥≈∞∂∇√∫", "ÅéïøŁß", "Zürich–μm…"]
        {
            assert!(covers(text), "{text}");
        }
        assert!(!covers("質量") && covers(""));
    }

    #[test]
    fn outlines_stay_within_the_width_and_a_missing_character_is_a_box() {
        for text in ["0123456789", "log M* [M☉]", "質"] {
            let (width, steps) = (width(text), outline(text));
            assert!(width > 0.3 * text.chars().count() as f64 && width < text.chars().count() as f64);
            let xs = steps.iter().filter_map(|step| match step {
                Step::Move([x, _]) | Step::Line([x, _]) | Step::Curve(_, [x, _]) => Some(*x),
                Step::Close => None,
            });
            assert!(xs.into_iter().all(|x| (-0.05..width + 0.05).contains(&x)), "{text}");
            let count = |f: fn(&&Step) -> bool| steps.iter().filter(f).count();
            assert_eq!(count(|s| matches!(s, Step::Move(_))), count(|s| matches!(s, Step::Close)));
        }
        assert!(outline("").is_empty() && outline(" ").is_empty());
    }
}
