//! From a picture to pixels.

use tiny_skia::{
    FillRule, FilterQuality, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, PixmapPaint, Shader, Stroke,
    Transform,
};

use super::font::{self, Step};
use super::picture::{Image, Mark, Picture, Point};
use super::style::{Colour, PAPER};
use crate::error::Error;

/// Pixels of the file for one of the page: sharp on screens of high resolution, and in print at a usual size.
const SCALE: f64 = 2.0;
/// The longest side of a page.
const LONGEST: f64 = 8192.0;

pub(super) fn encode(picture: &Picture) -> Result<Vec<u8>, Error> {
    let [width, height] = picture.size;
    let too_large = || {
        let why = format!("{width:.0} x {height:.0} pixels; a PNG can have {LONGEST:.0} a side, an SVG any number");
        Error::parameter("picture size", why)
    };
    if width.max(height) > LONGEST {
        return Err(too_large());
    }
    let side = |length: f64| (SCALE * length.max(1.0)).round() as u32;
    let mut page = Pixmap::new(side(width), side(height)).ok_or_else(too_large)?;
    page.fill(tiny_skia::Color::from_rgba8(PAPER.rgb[0], PAPER.rgb[1], PAPER.rgb[2], 255));
    picture.marks.iter().for_each(|mark| draw(&mut page, mark));
    page.encode_png().map_err(|why| Error::parameter("picture", why.to_string()))
}

/// An image alone as the bytes of a PNG file, one pixel for each of its own.
pub(super) fn pixels(image: &Image) -> Vec<u8> {
    pixmap(image).and_then(|pixmap| pixmap.encode_png().ok()).unwrap_or_default()
}

fn draw(page: &mut Pixmap, mark: &Mark) {
    let scale = Transform::from_scale(SCALE as f32, SCALE as f32);
    match mark {
        Mark::Line { points, colour, width } => stroke(page, lines(&[points], false), *colour, *width, LineCap::Butt),
        Mark::Area { rings, colour } => fill(page, lines(rings, true), *colour, scale),
        Mark::Dots { points, radius, colour } => {
            let mut path = PathBuilder::new();
            points.iter().for_each(|&[x, y]| path.push_circle(x as f32, y as f32, *radius as f32));
            fill(page, path.finish(), *colour, scale);
        }
        Mark::Text { start: [x, y], text, size, colour, upward } => {
            let place = scale.pre_translate(*x as f32, *y as f32);
            let turned = if *upward { place.pre_rotate(-90.0) } else { place };
            fill(page, outline(text), *colour, turned.pre_scale(*size as f32, -*size as f32));
        }
        Mark::Image { corner: [x, y], size: [width, height], image } => {
            let Some(pixmap) = pixmap(image) else { return };
            let cell = [width / f64::from(pixmap.width()), height / f64::from(pixmap.height())];
            let place = scale.pre_translate(*x as f32, *y as f32).pre_scale(cell[0] as f32, cell[1] as f32);
            let sharp = PixmapPaint { quality: FilterQuality::Nearest, ..PixmapPaint::default() };
            page.draw_pixmap(0, 0, pixmap.as_ref(), &sharp, place, None);
        }
    }
}

fn pixmap(image: &Image) -> Option<Pixmap> {
    let rows = image.pixels.len() / image.columns.max(1);
    let mut pixmap = Pixmap::new(image.columns as u32, rows as u32)?;
    for (to, [r, g, b]) in pixmap.pixels_mut().iter_mut().zip(&image.pixels) {
        *to = tiny_skia::ColorU8::from_rgba(*r, *g, *b, 255).premultiply();
    }
    Some(pixmap)
}

fn lines(pieces: &[impl AsRef<[Point]>], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for piece in pieces {
        for (k, &[x, y]) in piece.as_ref().iter().enumerate() {
            if k == 0 { path.move_to(x as f32, y as f32) } else { path.line_to(x as f32, y as f32) }
        }
        if closed {
            path.close();
        }
    }
    path.finish()
}

fn outline(text: &str) -> Option<Path> {
    let mut path = PathBuilder::new();
    let f = |[x, y]: Point| (x as f32, y as f32);
    for step in font::outline(text) {
        match step {
            Step::Move(to) => path.move_to(f(to).0, f(to).1),
            Step::Line(to) => path.line_to(f(to).0, f(to).1),
            Step::Curve(control, to) => path.quad_to(f(control).0, f(control).1, f(to).0, f(to).1),
            Step::Close => path.close(),
        }
    }
    path.finish()
}

fn paint(colour: Colour) -> Paint<'static> {
    let [r, g, b] = colour.rgb;
    let alpha = (255.0 * colour.opacity).round() as u8;
    let shader = Shader::SolidColor(tiny_skia::Color::from_rgba8(r, g, b, alpha));
    Paint { shader, anti_alias: true, ..Paint::default() }
}

/// A path that is empty, or a single point, leaves no trace.
fn fill(page: &mut Pixmap, path: Option<Path>, colour: Colour, place: Transform) {
    if let Some(path) = path {
        page.fill_path(&path, &paint(colour), FillRule::Winding, place, None);
    }
}

fn stroke(page: &mut Pixmap, path: Option<Path>, colour: Colour, width: f64, line_cap: LineCap) {
    let stroke = Stroke { width: width as f32, line_join: LineJoin::Round, line_cap, ..Stroke::default() };
    if let Some(path) = path {
        page.stroke_path(&path, &paint(colour), &stroke, Transform::from_scale(SCALE as f32, SCALE as f32), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style::{INK, LABEL, colour};

    /// The colour at a place of the page.
    fn at(pixmap: &Pixmap, [x, y]: Point) -> [u8; 3] {
        let pixel = pixmap.pixel((SCALE * x) as u32, (SCALE * y) as u32).unwrap().demultiply();
        [pixel.red(), pixel.green(), pixel.blue()]
    }

    fn inked(pixmap: &Pixmap) -> usize {
        pixmap.pixels().iter().filter(|pixel| pixel.red() < 128).count()
    }

    #[test]
    fn every_mark_leaves_its_colour_where_it_belongs() {
        let picture = Picture::draw([100.0, 50.0], "", "", |canvas| {
            canvas.rectangle([10.0, 10.0], [20.0, 20.0], colour(0));
            canvas.line(&[[30.0, 5.0], [30.0, 45.0]], INK, 3.0);
            canvas.dot([50.0, 25.0], 4.0, colour(1));
            let image = Image { columns: 2, pixels: vec![[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]] };
            canvas.image([60.0, 10.0], [20.0, 20.0], image);
        });
        let pixmap = Pixmap::decode_png(&picture.to_png().unwrap()).unwrap();
        assert_eq!((pixmap.width(), pixmap.height()), (200, 100));
        let expected = [
            ([15.0, 15.0], colour(0).rgb),
            ([30.0, 25.0], INK.rgb),
            ([50.0, 25.0], colour(1).rgb),
            ([62.0, 12.0], [255, 0, 0]),
            ([77.0, 12.0], [0, 255, 0]),
            ([62.0, 27.0], [0, 0, 255]),
            ([99.0, 1.0], PAPER.rgb),
        ];
        expected.iter().for_each(|&(place, colour)| assert_eq!(at(&pixmap, place), colour, "{place:?}"));
    }

    #[test]
    fn text_is_drawn_upright_and_upward_and_the_same_each_time() {
        let picture = |upward| {
            let draw = |canvas: &mut super::super::picture::Canvas| {
                canvas.text([60.0, 60.0], "σ☉ 0.5", super::super::style::Font { upward, ..LABEL });
            };
            Picture::draw([120.0, 120.0], "", "", draw).to_png().unwrap()
        };
        let [flat, tall] = [false, true].map(|upward| Pixmap::decode_png(&picture(upward)).unwrap());
        assert!(inked(&flat) > 100 && inked(&tall).abs_diff(inked(&flat)) < 40);
        assert!(picture(true) == picture(true));
        // Nothing is drawn far beside a line of text that reads upward.
        assert!((0..120).all(|y| at(&tall, [40.0, f64::from(y)]) == PAPER.rgb));
    }

    #[test]
    fn a_page_without_end_is_an_error() {
        let page = |size| Picture::draw(size, "", "", |_| ()).to_png();
        assert!(matches!(page([9000.0, 10.0]), Err(Error::Parameter { name, .. }) if name == "picture size"));
        assert!(page([0.0, 0.0]).is_ok());
    }
}
