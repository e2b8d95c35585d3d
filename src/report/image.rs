//! Images side by side.

use ndarray::ArrayView2;

use super::axis::{Axis, widened};
use super::frame::Frame;
use super::picture::{Canvas, Image, Picture};
use super::style::{Align, Font, GREY, INK, LABEL, TICK};
use crate::error::{Error, check_finite, check_length};

/// The longer side of an image on the page.
const SIDE: f64 = 120.0;
const GAP: f64 = 12.0;
const MARGIN: f64 = 18.0;
/// Above an image: its title. Under it: its own scale.
const TITLE: f64 = 20.0;
const SCALE: f64 = 16.0;
const BAR: f64 = 12.0;

/// How values become colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMap {
    /// From dark blue over green to yellow: lightness rises evenly, for colour-blind readers and in grey print too.
    #[default]
    Viridis,
    /// From black to white.
    Grey,
    /// From blue over white at zero to red, as far down as up: for differences.
    Diverging,
}

impl ColourMap {
    /// The colour at a part of the scale from 0 to 1.
    fn colour(self, part: f64) -> [u8; 3] {
        // Viridis of van der Walt & Smith (2015), released to the public domain; red and blue of ColorBrewer's RdBu.
        let stops: &[u32] = match self {
            Self::Viridis => {
                &[0x440154, 0x472d7b, 0x3b528b, 0x2c728e, 0x21918c, 0x28ae80, 0x5ec962, 0xaddc30, 0xfde725]
            }
            Self::Grey => &[0x000000, 0xffffff],
            Self::Diverging => &[
                0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d, 0xb2182b,
                0x67001f,
            ],
        };
        let at = part.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let from = (at as usize).min(stops.len() - 2);
        let channel = |stop: u32, shift: u32| f64::from(stop >> shift & 255);
        [16, 8, 0].map(|shift| {
            let [a, b] = [stops[from], stops[from + 1]].map(|stop| channel(stop, shift));
            (a + (at - from as f64) * (b - a)).round() as u8
        })
    }
}

/// A grid of images under construction.
///
/// ```
/// use retrodict::{ndarray::Array2, report::{ColourMap, ImageGrid}};
/// let image = Array2::from_shape_fn((32, 32), |(r, c)| (r as f64 / 5.0).sin() * (c as f64 / 7.0).cos());
/// let path = std::env::temp_dir().join("retrodict-doc-images.png");
/// let grid = ImageGrid::new().image("true", image.view()).image("inferred", image.view());
/// grid.colours(ColourMap::Diverging).draw()?.write(&path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ImageGrid<'a> {
    images: Vec<(String, ArrayView2<'a, f64>)>,
    columns: Option<usize>,
    colours: ColourMap,
    own_scale: bool,
    range: Option<(f64, f64)>,
}

impl<'a> ImageGrid<'a> {
    /// No image yet; viridis, and one scale for all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image `[rows x columns]`, whose first row is the uppermost.
    pub fn image(mut self, title: &str, values: ArrayView2<'a, f64>) -> Self {
        self.images.push((title.to_owned(), values));
        self
    }

    /// Sets how many images stand in a row; by default six at most.
    pub fn columns(self, columns: usize) -> Self {
        Self { columns: Some(columns), ..self }
    }

    /// Sets the colour map.
    pub fn colours(self, colours: ColourMap) -> Self {
        Self { colours, ..self }
    }

    /// Gives each image a scale of its own, written under it, instead of one colour bar for all.
    pub fn own_scale(self) -> Self {
        Self { own_scale: true, ..self }
    }

    /// Sets the scale of all images; values outside have the colours of its ends.
    pub fn range(self, lo: f64, hi: f64) -> Self {
        Self { range: Some((lo, hi)), ..self }
    }

    /// Draws the grid.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no image or no column, or a scale that does not go up by a finite number;
    /// [`Error::Length`] for an image without pixels; [`Error::NonFinite`] for the first value that is NaN or infinite.
    pub fn draw(&self) -> Result<Picture, Error> {
        let columns = self.columns.unwrap_or(6).min(self.images.len());
        if columns == 0 {
            return Err(Error::parameter("images", "there must be at least one, in at least one column"));
        }
        for (_, values) in &self.images {
            check_length("pixels", values.len().max(1), values.len())?;
            check_finite("image", *values)?;
        }
        let scales = self.images.iter().map(|(_, values)| self.scale(std::slice::from_ref(values)));
        let scales = scales.collect::<Result<Vec<_>, _>>()?;
        let all: Vec<ArrayView2<f64>> = self.images.iter().map(|(_, values)| *values).collect();
        let common = self.scale(&all)?;

        let pitch = [SIDE + GAP, TITLE + SIDE + if self.own_scale { SCALE } else { 0.0 } + GAP];
        let rows = self.images.len().div_ceil(columns);
        let right = MARGIN + columns as f64 * pitch[0];
        let bar = if self.own_scale { 0.0 } else { BAR + 10.0 + common.widest() };
        let size = [right - GAP + bar + 2.0 * MARGIN, 2.0 * MARGIN + rows as f64 * pitch[1] - GAP];
        let titles: Vec<&str> = self.images.iter().map(|(title, _)| &**title).collect();
        let description = format!("{} images: {}.", titles.len(), titles.join(", "));
        Ok(Picture::draw(size, "Images", &description, |canvas| {
            for (k, (title, values)) in self.images.iter().enumerate() {
                let [column, row] = [k % columns, k / columns].map(|i| i as f64);
                let corner = [MARGIN + column * pitch[0], MARGIN + row * pitch[1] + TITLE];
                let scale = if self.own_scale { &scales[k] } else { &common };
                self.draw_image(canvas, corner, title, *values, scale);
            }
            if !self.own_scale {
                let height = rows as f64 * pitch[1] - GAP - TITLE;
                self.draw_bar(canvas, [right + 6.0, MARGIN + TITLE], height.min(2.0 * SIDE), &common);
            }
        }))
    }

    /// The scale of some images.
    fn scale(&self, images: &[ArrayView2<f64>]) -> Result<Axis, Error> {
        let values = images.iter().flat_map(|image| image.iter());
        let ends = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        let (lo, hi) = match (self.range, self.colours) {
            (Some(range), _) => range,
            (None, ColourMap::Diverging) => {
                let reach = ends.0.abs().max(ends.1.abs());
                if reach > 0.0 { (-reach, reach) } else { (-1.0, 1.0) }
            }
            (None, _) if ends.1 > ends.0 => ends,
            (None, _) => widened(ends.0, ends.1, 0.0),
        };
        Axis::new("colour scale", lo, hi, 2.0 * SIDE)
    }

    /// An image, as large as its place allows, in the middle of it.
    fn draw_image(&self, canvas: &mut Canvas, [x, y]: [f64; 2], title: &str, values: ArrayView2<f64>, scale: &Axis) {
        let (rows, columns) = values.dim();
        let pixel = SIDE / rows.max(columns) as f64;
        let size = [columns as f64 * pixel, rows as f64 * pixel];
        let corner = [x + (SIDE - size[0]) / 2.0, y + (SIDE - size[1]) / 2.0];
        let pixels = values.iter().map(|&value| self.colours.colour(scale.unit(value))).collect();
        canvas.image(corner, size, Image { columns, pixels });
        let [[left, top], [right, bottom]] = [corner, [corner[0] + size[0], corner[1] + size[1]]];
        canvas.line(&[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], INK, 0.6);
        let middle = x + SIDE / 2.0;
        canvas.text([middle, y - 10.0], title, LABEL.fit(title, SIDE));
        if self.own_scale {
            let text = format!("{} … {}", number(scale.lo), number(scale.hi));
            canvas.text([middle, y + SIDE + 10.0], &text, Font { colour: GREY, ..TICK }.fit(&text, SIDE));
        }
    }

    fn draw_bar(&self, canvas: &mut Canvas, [left, top]: [f64; 2], height: f64, scale: &Axis) {
        const SHADES: usize = 256;
        let pixels = (0..SHADES).rev().map(|k| self.colours.colour(k as f64 / (SHADES - 1) as f64)).collect();
        canvas.image([left, top], [BAR, height], Image { columns: 1, pixels });
        let x = scale.clone().bare();
        let frame = Frame { left, top, width: BAR, height, x: &x, y: scale };
        frame.border(canvas);
        for tick in &scale.ticks {
            let y = frame.at(scale.lo, tick.value)[1];
            canvas.line(&[[left + BAR, y], [left + BAR + 3.0, y]], INK, 0.8);
            canvas.text([left + BAR + 6.0, y], &tick.label, Font { align: Align::Left, ..TICK });
        }
    }
}

/// Three digits.
fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => format!("{size:.2e}"),
        _ => format!("{size:.*}", (2 - super::axis::exponent(size)).max(0) as usize),
    };
    if value < 0.0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::picture::Mark;
    use crate::report::tests::{assert_apart, assert_well_formed, length, parameter, texts};
    use ndarray::{Array2, array};

    fn images(picture: &Picture) -> Vec<&Image> {
        let marks = picture.marks.iter();
        marks.filter_map(|mark| if let Mark::Image { image, .. } = mark { Some(image) } else { None }).collect()
    }

    #[test]
    fn values_have_the_colours_of_the_scale() {
        let (first, second) = (array![[0.0, 1.0], [2.0, 4.0]], array![[8.0]]);
        let grid = || ImageGrid::new().image("a", first.view()).image("b", second.view()).colours(ColourMap::Grey);
        let grey = |picture: &Picture, k: usize| images(picture)[k].pixels.iter().map(|p| p[0]).collect::<Vec<_>>();
        let shared = grid().draw().unwrap();
        assert_eq!((grey(&shared, 0), grey(&shared, 1)), (vec![0, 32, 64, 128], vec![255]));
        let own = grid().own_scale().draw().unwrap();
        assert_eq!(grey(&own, 0), [0, 64, 128, 255]);
        assert!(texts(&own.to_svg()).contains(&"0 … 4.00".to_owned()));
        let given = grid().range(1.0, 2.0).draw().unwrap();
        assert_eq!(grey(&given, 0), [0, 0, 255, 255]);
        [shared, own, given].iter().for_each(|picture| {
            assert_well_formed(&picture.to_svg());
            assert_apart(picture);
        });
    }

    #[test]
    fn zero_is_white_on_a_diverging_scale() {
        let image = array![[-1.0, 0.0, 4.0]];
        let picture = ImageGrid::new().image("", image.view()).colours(ColourMap::Diverging).draw().unwrap();
        assert_eq!(images(&picture)[0].pixels[1..], [[0xf7; 3], [0x67, 0, 0x1f]]);
    }

    #[test]
    fn odd_images_still_make_a_picture_and_wrong_ones_are_named() {
        let (flat, wide) = (Array2::zeros((3, 5)), array![[-1e300, 1e-300, 1e300]]);
        for own in [false, true] {
            let grid = ImageGrid::new().image("flat", flat.view()).image("wide", wide.view()).columns(1);
            assert_well_formed(&if own { grid.own_scale() } else { grid }.draw().unwrap().to_svg());
        }
        parameter(ImageGrid::new().draw(), "images");
        parameter(ImageGrid::new().image("", flat.view()).columns(0).draw(), "images");
        parameter(ImageGrid::new().image("", flat.view()).range(1.0, 1.0).draw(), "colour scale");
        length(ImageGrid::new().image("", Array2::zeros((0, 3)).view()).draw(), "pixels");
        let found = ImageGrid::new().image("", array![[1.0, f64::NAN]].view()).draw().unwrap_err();
        assert_eq!(found, Error::NonFinite { what: "image", row: 0, column: 1 });
    }
}
