//! The look of every plot: colours, fonts, and a canvas that puts lines, areas and text on an SVG
//! page.

use plotters::prelude::{Color, DrawingBackend, IntoFont, RGBAColor, RGBColor, SVGBackend, TextStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, ShapeStyle};

/// A point of the page in pixels from its upper left corner.
pub(super) type Point = [f64; 2];

/// Text, frames and ticks.
pub(super) const INK: RGBColor = RGBColor(38, 38, 38);
/// What should stay in the background: diagonals, bands, remarks.
pub(super) const GREY: RGBColor = RGBColor(120, 120, 120);

/// The colour of the `i`-th series: Okabe and Ito's palette, told apart by colour-blind readers
/// too, and darker each time it is used up.
pub(super) fn colour(i: usize) -> RGBColor {
    const PALETTE: [RGBColor; 7] = [
        RGBColor(0, 114, 178),
        RGBColor(213, 94, 0),
        RGBColor(0, 158, 115),
        RGBColor(170, 68, 153),
        RGBColor(230, 159, 0),
        RGBColor(86, 180, 233),
        RGBColor(90, 90, 90),
    ];
    let RGBColor(r, g, b) = PALETTE[i % PALETTE.len()];
    let darker = |c: u8| (f64::from(c) * 0.55f64.powf((i / PALETTE.len()) as f64)) as u8;
    RGBColor(darker(r), darker(g), darker(b))
}

/// How a line of text is set; `at` of [`Canvas::text`] is the middle of its height.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub size: f64,
    pub align: HPos,
    pub colour: RGBColor,
    /// Reads from bottom to top.
    pub upward: bool,
}

pub(super) const TICK: Font = Font { size: 9.5, align: HPos::Center, colour: INK, upward: false };
pub(super) const LABEL: Font = Font { size: 11.5, ..TICK };
pub(super) const LEGEND: Font = Font { align: HPos::Left, ..LABEL };
pub(super) const HEADING: Font = Font { size: 15.0, align: HPos::Left, ..LABEL };

impl Font {
    /// An upper estimate of a text's width: the viewer chooses the face, and most are narrower.
    pub fn width(&self, text: &str) -> f64 {
        0.6 * self.size * text.chars().count() as f64
    }

    /// The same font, made smaller where the text would not fit into `width`.
    pub fn fit(self, text: &str, width: f64) -> Self {
        Self { size: self.size * (width / self.width(text)).min(1.0), ..self }
    }
}

/// Plotters places everything on whole units; a tenth of a pixel keeps curves smooth.
const UNITS: f64 = 10.0;

fn units(value: f64) -> i32 {
    (value * UNITS).round() as i32
}

fn place(at: &Point) -> (i32, i32) {
    (units(at[0]), units(at[1]))
}

/// A page under the pen. Its methods return nothing: writing to memory cannot fail.
pub(super) struct Canvas<'a> {
    page: SVGBackend<'a>,
    /// What lies under everything else on the page, as SVG elements.
    under: String,
}

impl Canvas<'_> {
    pub fn line(&mut self, points: &[Point], colour: impl Color, width: f64) {
        let style = ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: units(width) as u32 };
        let _ = self.page.draw_path(points.iter().map(place), &style);
    }

    /// A straight line of dashes four pixels long and three apart.
    pub fn dashes(&mut self, from: Point, to: Point, colour: impl Color + Copy, width: f64) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy);
        let along = |s: f64| [from[0] + dx * s / length, from[1] + dy * s / length];
        for k in 0..(length / 7.0).ceil() as usize {
            let start = 7.0 * k as f64;
            self.line(&[along(start), along((start + 4.0).min(length))], colour, width);
        }
    }

    pub fn area(&mut self, points: &[Point], colour: impl Color) {
        let colour: RGBAColor = colour.to_rgba();
        let _ = self.page.fill_polygon(points.iter().map(place), &colour);
    }

    pub fn rectangle(&mut self, [left, top]: Point, [right, bottom]: Point, colour: impl Color) {
        self.area(&[[left, top], [right, top], [right, bottom], [left, bottom]], colour);
    }

    pub fn dot(&mut self, at: Point, radius: f64, colour: impl Color) {
        let colour: RGBAColor = colour.to_rgba();
        let _ = self.page.draw_circle(place(&at), units(radius) as u32, &colour, true);
    }

    /// Many translucent dots, under everything else on the page.
    ///
    /// A path is painted once, however often it crosses itself: dots in one path do not add up. Dealt out to several
    /// paths they do, and crowds are darker, at a sixth of the bytes of as many circles.
    pub fn cloud(&mut self, points: &[Point], radius: f64, RGBColor(r, g, b): RGBColor, opacity: f64) {
        const PATHS: usize = 12;
        let width = units(2.0 * radius);
        for start in 0..PATHS.min(points.len()) {
            let spots = points.iter().skip(start).step_by(PATHS).map(place);
            // A line of no length with round ends.
            let dots: String = spots.map(|(x, y)| format!("M{x} {y}h0")).collect();
            self.under += &format!(
                "<path d=\"{dots}\" stroke=\"#{r:02x}{g:02x}{b:02x}\" stroke-opacity=\"{opacity}\" \
                 stroke-width=\"{width}\" stroke-linecap=\"round\"/>\n"
            );
        }
    }

    pub fn text(&mut self, at: Point, text: &str, font: Font) {
        // XML has no way to write a control character.
        let text = text.replace(char::is_control, " ");
        // The backend divides a font's size by 1.24.
        let mut face = ("sans-serif", 1.24 * UNITS * font.size).into_font();
        if font.upward {
            face = face.transform(FontTransform::Rotate270);
        }
        let style = TextStyle::from(face).color(&font.colour).pos(Pos::new(font.align, VPos::Center));
        let _ = self.page.draw_text(&text, &style, place(&at));
    }

    /// A name that must fit into `width`: on two lines where one is too short, then in smaller
    /// type.
    ///
    /// `grow` says where the second line goes: 0 keeps the first line at `at`, 1 the last.
    pub fn label(&mut self, at: Point, text: &str, width: f64, grow: f64, font: Font) {
        let lines = if font.width(text) > width { halves(text) } else { vec![text] };
        let longest = lines.iter().max_by_key(|line| line.chars().count()).unwrap_or(&text);
        let font = font.fit(longest, width);
        for (k, line) in lines.iter().enumerate() {
            let shift = 1.2 * font.size * (k as f64 - grow * (lines.len() - 1) as f64);
            let [x, y] = at;
            self.text(if font.upward { [x + shift, y] } else { [x, y + shift] }, line, font);
        }
    }
}

/// Splits at the space that leaves the shortest longer half.
fn halves(text: &str) -> Vec<&str> {
    let longer = |(a, b): &(&str, &str)| a.chars().count().max(b.chars().count());
    let split = text.match_indices(' ').map(|(at, _)| (&text[..at], &text[at + 1..])).min_by_key(longer);
    split.map_or(vec![text], |(a, b)| vec![a, b])
}

/// Draws a page of `width` by `height` pixels; `title` is its text for readers who cannot see it.
pub(super) fn render([width, height]: [f64; 2], title: &str, draw: impl FnOnce(&mut Canvas)) -> String {
    let mut svg = String::new();
    let page = SVGBackend::with_string(&mut svg, (units(width) as u32, units(height) as u32));
    let mut canvas = Canvas { page, under: String::new() };
    draw(&mut canvas);
    let under = std::mem::take(&mut canvas.under);
    let _ = canvas.page.present();
    drop(canvas);

    // The backend's own first line would show every unit as a pixel. The white ground reaches over the edge: scaled to
    // whole pixels, a page leaves a sliver.
    let body = svg.split_once('\n').map_or("", |(_, body)| body);
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {} {}\" stroke-linejoin=\"round\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n\
         <rect x=\"-1%\" y=\"-1%\" width=\"102%\" height=\"102%\" fill=\"#ffffff\"/>\n{under}{body}",
        units(width),
        units(height),
    )
}

fn escape(text: &str) -> String {
    let text = text.replace(char::is_control, " ").replace('&', "&amp;").replace('"', "&quot;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::assert_well_formed;

    #[test]
    fn any_text_makes_a_well_formed_page() {
        let nasty = "a<b> & \"c\" 'd' \u{0}\u{1b}\n\u{fffd} σ☉ ]]>";
        let svg = render([50.0, 20.0], nasty, |canvas| {
            canvas.text([1.0, 2.0], nasty, LABEL);
            canvas.label([1.0, 2.0], nasty, 10.0, 1.0, Font { upward: true, ..LABEL });
            canvas.label([1.0, 2.0], "", 10.0, 0.0, LABEL);
        });
        assert_well_formed(&svg);
        assert!(svg.contains("viewBox=\"0 0 500 200\"") && svg.contains("σ☉"));
    }

    #[test]
    fn a_long_name_is_split_where_its_halves_balance() {
        assert_eq!(halves("a b"), ["a", "b"]);
        assert_eq!(halves("formation time scale [Gyr]"), ["formation time", "scale [Gyr]"]);
        assert_eq!(halves("unbroken"), ["unbroken"]);
        assert_eq!(halves(""), [""]);
    }
}
