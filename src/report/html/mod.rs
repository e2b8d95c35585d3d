//! The report: one HTML file that needs nothing else.

mod page;
mod sections;

use std::fmt::Display;
use std::path::Path;

use super::Picture;
use super::svg::escape;
use crate::error::Error;
use crate::files;

/// A page under construction that says how a posterior was made and what is known of it.
///
/// It is one self-contained file: pictures stand inside as SVG, and nothing is fetched or run. It follows the reader's
/// choice of a light or dark page, can be read on a phone, and every picture has a text alternative. What is given to it is
/// shown as text, whatever characters it has. Same content, same bytes.
///
/// ```
/// use retrodict::{ndarray::Array2, report::{Corner, Report}};
/// let draws = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (7 + j)) as f64).sin() + j as f64);
/// let path = std::env::temp_dir().join("retrodict-doc-report.html");
/// Report::new("Two parameters")
///     .settings(&[("family", "neural spline flow"), ("seed", "1")])
///     .corner(&Corner::new(&["a", "b"]).series("posterior", draws.view()), "The posterior at the observation.")?
///     .write(&path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    /// Each with its heading, and its content as HTML.
    sections: Vec<(String, String)>,
}

impl Report {
    /// An empty report with its heading.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), sections: Vec::new() }
    }

    /// Begins a section: what is added next stands under this heading.
    pub fn section(mut self, heading: &str) -> Self {
        self.sections.push((heading.to_owned(), String::new()));
        self
    }

    /// Adds a paragraph.
    pub fn text(self, text: &str) -> Self {
        self.add(&format!("<p>{}</p>\n", escape(text)))
    }

    /// Adds names and their values, for example settings, seeds and versions, in a section of their own.
    pub fn settings<N: AsRef<str>, V: Display>(self, pairs: &[(N, V)]) -> Self {
        self.section("Settings").pairs(pairs)
    }

    /// Adds names and their values to the section.
    pub fn pairs<N: AsRef<str>, V: Display>(self, pairs: &[(N, V)]) -> Self {
        let row = |(name, value): &(N, V)| {
            let [name, value] = [escape(name.as_ref()), escape(&value.to_string())];
            format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")
        };
        self.add(&format!("<dl>\n{}</dl>\n", pairs.iter().map(row).collect::<String>()))
    }

    /// Adds a table with a line of headings. Shorter rows end in empty cells.
    pub fn table(self, headings: &[impl AsRef<str>], rows: &[Vec<String>]) -> Self {
        let head: String = headings.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h.as_ref()))).collect();
        let cell = |row: &Vec<String>, k: usize| {
            let text = escape(row.get(k).map_or("", |cell| cell));
            if k == 0 { format!("<th scope=\"row\">{text}</th>") } else { format!("<td>{text}</td>") }
        };
        let line = |row: &Vec<String>| (0..headings.len()).map(|k| cell(row, k)).collect::<String>();
        let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", line(row))).collect();
        self.add(&format!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table>\n\
             <thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        ))
    }

    /// Adds a picture with a caption.
    pub fn picture(self, picture: &Picture, caption: &str) -> Self {
        let [width, _] = picture.size();
        let caption =
            if caption.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(caption)) };
        let title = escape(picture.title());
        self.add(&format!(
            "<figure><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\" \
             style=\"--width:{width:.0}px\">\n{}</div>{caption}</figure>\n",
            picture.to_svg()
        ))
    }

    /// The page.
    pub fn to_html(&self) -> String {
        page::encode(&self.title, &self.sections)
    }

    /// Writes the page, replacing an older file in one step.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::write(path, self.to_html())
    }

    /// Adds HTML to the last section; before the first one it opens the page.
    fn add(mut self, html: &str) -> Self {
        if self.sections.is_empty() {
            self = self.section("");
        }
        if let Some((_, content)) = self.sections.last_mut() {
            content.push_str(html);
        }
        self
    }
}
