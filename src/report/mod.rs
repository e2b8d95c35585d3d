//! Pictures of posteriors and their diagnostics, as SVG and PNG files.
//!
//! - [`Corner`]: every marginal and every pair of parameters, with 68 / 95 % mass regions.
//! - [`pp_plot`], [`rank_histograms`]: is each parameter calibrated? The distribution of its ranks against uniform.
//! - [`coverage_plot`]: do regions hold the truth as often as they claim?
//! - [`predictive_plot`]: does what the posterior predicts look like the observation?
//! - [`loss_curves`]: the loss of the training and validation rows, epoch by epoch.
//! - [`scatter_grid`]: samples of the plane and densities side by side, in panels that share their axes.
//! - [`line_plots`]: how one number depends on another, on linear or logarithmic axes: a score against simulations, a cost
//!   against a size.
//! - [`ImageGrid`]: images side by side.
//! - [`Report`]: all of it on one page, a single HTML file.
//!
//! Each but the last gives a [`Picture`], which [`Picture::write`] puts into a file. Every function checks its numbers before it draws,
//! and every file is written beside its target and renamed: at the target stands the old picture or the new one, never half
//! of one.

mod axis;
mod calibration;
mod contour;
mod corner;
mod font;
mod frame;
mod histogram;
mod html;
mod image;
mod line_plot;
mod loss;
mod picture;
mod png;
mod predictive;
mod quantiles;
mod scatter;
mod style;
mod svg;

pub use calibration::{coverage_plot, pp_plot};
pub use corner::Corner;
pub use histogram::rank_histograms;
pub use html::Report;
pub use image::{ColourMap, ImageGrid};
pub use line_plot::{LinePlot, line_plots};
pub use loss::loss_curves;
pub use picture::Picture;
pub use predictive::predictive_plot;
pub use scatter::{Panel, scatter_grid};

use ndarray::{ArrayView1, Axis};

use crate::error::{Error, check_finite, check_length};

/// The names, of which there must be one for each thing of a list that is not empty.
fn check_names<'a>(names: &'a [impl AsRef<str>], what: &'static str, found: usize) -> Result<Vec<&'a str>, Error> {
    if names.is_empty() {
        return Err(Error::parameter("names", "is empty; a picture needs at least one"));
    }
    check_length(what, names.len(), found)?;
    Ok(names.iter().map(AsRef::as_ref).collect())
}

/// `Ok` if there is a value, and all are finite.
fn check_column(what: &'static str, values: &[f64]) -> Result<(), Error> {
    check_length(what, values.len().max(1), values.len())?;
    check_finite(what, ArrayView1::from(values).insert_axis(Axis(1)))
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::picture::{Mark, Point};
    use super::style::Colour;
    use super::{Error, Picture, font};

    /// A parser reads the file, and no coordinate is missing.
    pub(super) fn assert_well_formed(svg: &str) {
        Document::parse(svg).unwrap_or_else(|why| panic!("{why}"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate is not a number");
    }

    /// Every text of an SVG file.
    pub(super) fn texts(svg: &str) -> Vec<String> {
        let document = Document::parse(svg).unwrap();
        let root = document.root_element();
        let texts = root.children().filter(|n| n.is_element());
        texts
            .filter_map(|n| n.attribute("aria-label").or(n.text().filter(|_| n.has_tag_name("text"))))
            .map(Into::into)
            .collect()
    }

    /// No text touches another, and none leaves the page.
    pub(super) fn assert_apart(picture: &Picture) {
        let boxes: Vec<(&str, [f64; 4])> = picture.marks.iter().filter_map(text_box).collect();
        let [width, height] = picture.size;
        for (k, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
            let inside = *left >= 0.0 && *top >= 0.0 && *right <= width && *bottom <= height;
            assert!(inside, "{text} leaves the page: {left} {top} {right} {bottom}");
            for (other, [l, t, r, b]) in &boxes[..k] {
                let apart = left >= r || l >= right || top >= b || t >= bottom;
                assert!(apart, "{text} touches {other}");
            }
        }
    }

    /// A text and what it covers: left, top, right, bottom.
    fn text_box(mark: &Mark) -> Option<(&str, [f64; 4])> {
        let Mark::Text { start: [x, y], text, size, upward, .. } = mark else { return None };
        let (length, up, down) = (size * font::width(text), 0.73 * size, 0.1 * size);
        Some((text, if *upward { [x - up, y - length, x + down, *y] } else { [*x, y - up, x + length, y + down] }))
    }

    /// The points of every line of a colour.
    pub(super) fn lines(picture: &Picture, colour: Colour) -> Vec<&[Point]> {
        let marks = picture.marks.iter().filter_map(|mark| match mark {
            Mark::Line { points, colour: own, .. } if *own == colour => Some(&points[..]),
            _ => None,
        });
        marks.collect()
    }

    /// The call fails for the parameter of this name.
    pub(super) fn parameter(result: Result<Picture, Error>, what: &str) {
        assert!(matches!(&result, Err(Error::Parameter { name, .. }) if name == what), "{what}: {result:?}");
    }

    /// The call fails for the length of this table.
    pub(super) fn length(result: Result<Picture, Error>, what: &str) {
        assert!(matches!(&result, Err(Error::Length { what: found, .. }) if *found == what), "{what}: {result:?}");
    }

    /// A fresh folder for one test's files, removed when the test is over.
    pub(super) struct Folder(pub std::path::PathBuf);

    impl Folder {
        pub(super) fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("retrodict-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
