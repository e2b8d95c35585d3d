//! From a picture to SVG.

use std::fmt::Write as _;

use super::font::{self, Step};
use super::picture::{Mark, Picture, Point};
use super::png;
use super::style::{Colour, PAPER};

/// Coordinates are whole tenths of a pixel: curves stay smooth, and files small.
const UNITS: f64 = 10.0;

fn units(value: f64) -> i64 {
    (value * UNITS).round() as i64
}

pub(super) fn encode(picture: &Picture) -> String {
    let [width, height] = picture.size;
    let (title, description) = (escape(&picture.title), escape(&picture.description));
    // The ground reaches over the edge: scaled to whole pixels, a page leaves a sliver.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {} {}\" stroke-linejoin=\"round\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n<desc>{description}</desc>\n\
         <rect x=\"-1%\" y=\"-1%\" width=\"102%\" height=\"102%\" fill=\"{}\"/>\n",
        units(width),
        units(height),
        PAPER.hex()
    );
    picture.marks.iter().for_each(|mark| svg += &element(mark));
    svg + "</svg>\n"
}

fn element(mark: &Mark) -> String {
    match mark {
        Mark::Line { points, colour, width } => {
            let width = units(*width);
            format!(
                "<path d=\"{}\" fill=\"none\"{} stroke-width=\"{width}\"/>\n",
                path(points),
                paint("stroke", *colour)
            )
        }
        Mark::Area { rings, colour } => {
            let rings: String = rings.iter().map(|ring| path(ring) + "z").collect();
            format!("<path d=\"{rings}\"{}/>\n", paint("fill", *colour))
        }
        Mark::Dots { points, radius, colour } => {
            // A path is painted once, however often it crosses itself; a line of no length has round ends.
            let dots: String = points.iter().map(|&[x, y]| format!("M{} {}h0", units(x), units(y))).collect();
            let (stroke, width) = (paint("stroke", *colour), units(2.0 * radius));
            format!("<path d=\"{dots}\"{stroke} stroke-width=\"{width}\" stroke-linecap=\"round\"/>\n")
        }
        Mark::Text { start, text, size, colour, upward } => text_element(*start, text, *size, *colour, *upward),
        Mark::Image { corner: [x, y], size: [width, height], image } => format!(
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
            units(*x),
            units(*y),
            units(*width),
            units(*height),
            base64(&png::pixels(image))
        ),
    }
}

/// ` fill="#rrggbb"`, with its opacity.
fn paint(what: &str, colour: Colour) -> String {
    let hex = colour.hex();
    if colour.opacity < 1.0 {
        format!(" {what}=\"{hex}\" {what}-opacity=\"{}\"", colour.opacity)
    } else {
        format!(" {what}=\"{hex}\"")
    }
}

/// Straight lines through points, each given from the one before.
fn path(points: &[Point]) -> String {
    let mut steps = Steps { text: String::new(), at: [0, 0] };
    for (k, point) in points.iter().enumerate() {
        let to = point.map(units);
        steps.write(
            match k {
                0 => 'M',
                1 => 'l',
                _ => ' ',
            },
            &[to],
        );
    }
    steps.text
}

/// Text as its outlines, in font units; what the typeface lacks is left to the viewer's fonts.
fn text_element([x, y]: Point, text: &str, size: f64, colour: Colour, upward: bool) -> String {
    let (words, fill) = (escape(text), paint("fill", colour));
    let turn = if upward { " rotate(-90)" } else { "" };
    let place = format!("translate({} {}){turn}", units(x), units(y));
    if !font::covers(text) {
        let size = units(size);
        return format!(
            "<text transform=\"{place}\" font-family=\"DejaVu Sans,Verdana,sans-serif\" font-size=\"{size}\"{fill}>\
             {words}</text>\n"
        );
    }
    let scale = UNITS * size / font::em();
    let outline = outline(text);
    format!(
        "<path aria-label=\"{words}\" transform=\"{place} scale({scale:.5} -{scale:.5})\"{fill} d=\"{outline}\"/>\n"
    )
}

fn outline(text: &str) -> String {
    let units = |point: Point| point.map(|v| (v * font::em()).round() as i64);
    let mut steps = Steps { text: String::new(), at: [0, 0] };
    for step in font::outline(text) {
        match step {
            Step::Move(to) => steps.write('M', &[units(to)]),
            Step::Line(to) => steps.write('l', &[units(to)]),
            Step::Curve(control, to) => steps.write('q', &[units(control), units(to)]),
            Step::Close => steps.text.push('z'),
        }
    }
    steps.text
}

/// The steps of a path under way, each relative to where the last one ended, except those that begin a piece.
struct Steps {
    text: String,
    at: [i64; 2],
}

impl Steps {
    fn write(&mut self, command: char, points: &[[i64; 2]]) {
        let from = if command == 'M' { [0, 0] } else { self.at };
        for (k, to) in points.iter().enumerate() {
            let sign = if k == 0 { command } else { ' ' };
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{sign}{} {}", to[0] - from[0], to[1] - from[1]);
        }
        self.at = points.last().copied().unwrap_or(self.at);
    }
}

/// Text inside an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), " ");
    text.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Six bits a letter (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, k| bits << 8 | u32::from(three.get(k).copied().unwrap_or(0)));
        [18, 12, 6, 0].map(|shift| LETTERS[(bits >> shift & 63) as usize] as char)
    };
    let mut text: String = bytes.chunks(3).flat_map(four).collect();
    let padding = (3 - bytes.len() % 3) % 3;
    text.truncate(text.len() - padding);
    text + &"=".repeat(padding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style::{Font, INK, LABEL};
    use crate::report::tests::{assert_well_formed, texts};

    #[test]
    fn any_text_makes_a_well_formed_page() {
        let nasty = "a<b> & \"c\" 'd' \u{0}\u{1b}\n\u{fffe} σ☉ ]]>";
        let picture = Picture::draw([50.0, 20.0], nasty, nasty, |canvas| {
            canvas.text([1.0, 2.0], nasty, LABEL);
            canvas.label([1.0, 2.0], nasty, 10.0, 1.0, Font { upward: true, ..LABEL });
            canvas.label([1.0, 2.0], "", 10.0, 0.0, LABEL);
            canvas.text([1.0, 2.0], "質量 <kg>", LABEL);
            canvas.text([1.0, 2.0], "σ☉ < 'd'", LABEL);
        });
        let svg = picture.to_svg();
        assert_well_formed(&svg);
        assert!(svg.contains("viewBox=\"0 0 500 200\""));
        let texts = texts(&svg);
        assert!(texts.contains(&"質量 <kg>".to_owned()) && texts.contains(&"σ☉ < 'd'".to_owned()), "{texts:?}");
    }

    #[test]
    fn paths_are_relative_and_round_to_tenths() {
        assert_eq!(path(&[[1.0, 2.0], [1.26, 1.0], [0.0, 0.0]]), "M10 20l3 -10 -13 -10");
        assert_eq!(path(&[]), "");
        let dot = Mark::Dots { points: vec![[1.0, 2.0], [3.0, 4.0]], radius: 1.5, colour: INK.mix(0.5) };
        assert_eq!(
            element(&dot),
            "<path d=\"M10 20h0M30 40h0\" stroke=\"#262626\" stroke-opacity=\"0.5\" stroke-width=\"30\" \
             stroke-linecap=\"round\"/>\n"
        );
    }

    #[test]
    fn base64_of_rfc_4648() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        pairs.iter().for_each(|(bytes, text)| assert_eq!(base64(bytes.as_bytes()), *text));
    }
}
