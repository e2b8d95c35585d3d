//! A picture: what is drawn, before it becomes a file.

use std::path::Path;

use super::style::{Colour, Font, GREY, halves};
use super::{font, png, svg};
use crate::error::Error;
use crate::files;

/// A point of the page in pixels from its upper left corner.
pub(super) type Point = [f64; 2];

/// A finished picture, to be written as SVG or PNG or put into a [`Report`](super::Report).
///
/// Text is drawn with an embedded typeface, in SVG files as outlines: it looks the same on a machine without fonts. The
/// words themselves stand beside each outline (`aria-label`), where programs find them. Only a text with a character
/// that the typeface lacks (it has Latin, Greek and mathematics) is left to the viewer's fonts in SVG, and has a box for
/// that character in PNG. Same data, same bytes.
#[derive(Clone, Debug)]
pub struct Picture {
    pub(super) size: [f64; 2],
    pub(super) title: String,
    pub(super) description: String,
    pub(super) marks: Vec<Mark>,
}

/// Something on the page; later ones cover earlier ones.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    Line {
        points: Vec<Point>,
        colour: Colour,
        width: f64,
    },
    /// Closed rings, filled where the winding number is not zero.
    Area {
        rings: Vec<Vec<Point>>,
        colour: Colour,
    },
    /// Dots that do not add up where they overlap.
    Dots {
        points: Vec<Point>,
        radius: f64,
        colour: Colour,
    },
    /// `start` is the left end of the baseline, the lower end of one that reads upward.
    Text {
        start: Point,
        text: String,
        size: f64,
        colour: Colour,
        upward: bool,
    },
    Image {
        corner: Point,
        size: Point,
        image: Image,
    },
}

/// Pixels in rows from the top, drawn as sharp squares.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub columns: usize,
    pub pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Draws a page of `size` pixels. `title` and `description` are what it says to readers who cannot see it.
    pub(super) fn draw(size: [f64; 2], title: &str, description: &str, draw: impl FnOnce(&mut Canvas)) -> Self {
        let mut canvas = Canvas { marks: Vec::new() };
        draw(&mut canvas);
        let plain = |text: &str| text.replace(char::is_control, " ");
        Self { size, title: plain(title), description: plain(description), marks: canvas.marks }
    }

    /// What the picture shows, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What can be read off it, for readers who cannot see it.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Width and height in pixels; a PNG file has twice as many of each.
    pub fn size(&self) -> [f64; 2] {
        self.size
    }

    /// Writes the picture as what the path's extension says, `.svg` or `.png`, replacing an older file in one step.
    ///
    /// # Errors
    /// [`Error::File`] for another extension, if the file cannot be written, or if the picture is too large for a PNG.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        match path.extension().map(|e| e.to_ascii_lowercase()).as_deref().and_then(|e| e.to_str()) {
            Some("svg") => self.write_svg(path),
            Some("png") => self.write_png(path),
            _ => Err(Error::file(path, "pictures are written as `.svg` or `.png`")),
        }
    }

    /// Writes the picture as SVG, whatever the path's extension.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::write(path, self.to_svg())
    }

    /// Writes the picture as PNG with two pixels for each of its own, whatever the path's extension.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written or the picture is too large.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        files::write(path, self.to_png().map_err(|why| Error::file(path, why))?)
    }

    /// The picture as the text of an SVG file, which can stand inside an HTML page as it is.
    pub fn to_svg(&self) -> String {
        svg::encode(self)
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a side has more than 8192 pixels.
    pub fn to_png(&self) -> Result<Vec<u8>, Error> {
        png::encode(self)
    }
}

/// A page under the pen.
pub(super) struct Canvas {
    marks: Vec<Mark>,
}

impl Canvas {
    pub fn line(&mut self, points: &[Point], colour: Colour, width: f64) {
        self.marks.push(Mark::Line { points: points.to_vec(), colour, width });
    }

    /// A straight line of dashes four pixels long and three apart.
    pub fn dashes(&mut self, from: Point, to: Point, width: f64) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy);
        let along = |s: f64| [from[0] + dx * s / length, from[1] + dy * s / length];
        for k in 0..(length / 7.0).ceil() as usize {
            let start = 7.0 * k as f64;
            self.line(&[along(start), along((start + 4.0).min(length))], GREY, width);
        }
    }

    pub fn area(&mut self, points: &[Point], colour: Colour) {
        self.areas(vec![points.to_vec()], colour);
    }

    pub fn areas(&mut self, rings: Vec<Vec<Point>>, colour: Colour) {
        self.marks.push(Mark::Area { rings, colour });
    }

    pub fn rectangle(&mut self, [left, top]: Point, [right, bottom]: Point, colour: Colour) {
        self.area(&[[left, top], [right, top], [right, bottom], [left, bottom]], colour);
    }

    pub fn dot(&mut self, at: Point, radius: f64, colour: Colour) {
        self.marks.push(Mark::Dots { points: vec![at], radius, colour });
    }

    /// Many translucent dots.
    ///
    /// Dots of one mark do not add up. Dealt out to several marks they do, and crowds are darker.
    pub fn cloud(&mut self, points: &[Point], radius: f64, colour: Colour) {
        const LAYERS: usize = 12;
        for start in 0..LAYERS.min(points.len()) {
            let points = points.iter().skip(start).step_by(LAYERS).copied().collect();
            self.marks.push(Mark::Dots { points, radius, colour });
        }
    }

    pub fn image(&mut self, corner: Point, size: Point, image: Image) {
        self.marks.push(Mark::Image { corner, size, image });
    }

    /// A line of text; `at` is the middle of its height, and where `font.align` says.
    pub fn text(&mut self, at: Point, text: &str, font: Font) {
        // Neither has an outline, and XML has no way to write a control character.
        let text = text.replace(char::is_control, " ");
        if text.trim().is_empty() {
            return;
        }
        let (back, down) = (font.align.part() * font.width(&text), font::HALF_CAPITAL * font.size);
        let start = if font.upward { [at[0] + down, at[1] + back] } else { [at[0] - back, at[1] + down] };
        self.marks.push(Mark::Text { start, text, size: font.size, colour: font.colour, upward: font.upward });
    }

    /// A name that must fit into `width`: on two lines where one is too short, then in smaller
    /// type.
    ///
    /// `grow` says where the second line goes: 0 keeps the first line at `at`, 1 the last.
    pub fn label(&mut self, at: Point, text: &str, width: f64, grow: f64, font: Font) {
        let lines = if font.width(text) > width { halves(text) } else { vec![text] };
        let longest = lines.iter().max_by(|a, b| font.width(a).total_cmp(&font.width(b))).unwrap_or(&text);
        let font = font.fit(longest, width);
        for (k, line) in lines.iter().enumerate() {
            let shift = 1.2 * font.size * (k as f64 - grow * (lines.len() - 1) as f64);
            let [x, y] = at;
            self.text(if font.upward { [x + shift, y] } else { [x, y + shift] }, line, font);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::Folder;

    #[test]
    fn the_extension_decides_and_an_older_file_survives_what_it_does_not_know() {
        let folder = Folder::new("picture");
        let picture = Picture::draw([20.0, 20.0], "dot", "A dot.", |canvas| canvas.dot([10.0, 10.0], 5.0, GREY));
        let bytes = |name: &str| std::fs::read(folder.0.join(name)).unwrap();
        for (name, start) in [("a.svg", &b"<svg "[..]), ("a.PNG", b"\x89PNG"), ("b.png", b"\x89PNG")] {
            picture.write(folder.0.join(name)).unwrap();
            assert!(bytes(name).starts_with(start), "{name}");
        }
        assert!(bytes("a.PNG") == bytes("b.png") && bytes("a.svg") == picture.to_svg().as_bytes());
        for name in ["a.jpg", "a", ".png", "svg"] {
            let message = picture.write(folder.0.join(name)).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("`.svg` or `.png`"), "{message}");
        }
        let endless = Picture::draw([1e5, 20.0], "", "", |_| ());
        assert!(matches!(endless.write(folder.0.join("b.png")), Err(Error::File { .. })));
        assert!(bytes("a.PNG") == bytes("b.png"));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 3);
    }
}
