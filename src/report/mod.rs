//! Plots of posteriors and their diagnostics, as SVG files.
//!
//! - [`Corner`]: every marginal and every pair of parameters, with 68 / 95 % mass regions.
//! - [`pp_plot`]: is each parameter calibrated? The distribution of its PIT values against uniform.
//! - [`coverage_plot`]: do highest-density regions hold the truth as often as they claim?
//! - [`loss_curves`]: the loss of the training and validation rows, epoch by epoch.
//! - [`scatter_grid`]: samples of the plane and densities side by side, in panels that share their axes.
//!
//! Every function checks its numbers before it draws, and every file is written beside its target
//! and renamed: at the target stands the old plot or the new one, never half of one.

mod contour;
mod corner;
mod curves;
mod frame;
mod scatter;
mod style;

pub use corner::Corner;
pub use curves::{coverage_plot, loss_curves, pp_plot};
pub use scatter::{Panel, scatter_grid};

#[cfg(test)]
mod tests {

    /// Walks an SVG file's tags: each is closed in order, attributes are quoted, no stray `<` or
    /// `&`.
    pub(super) fn assert_well_formed(svg: &str) {
        let (mut open, mut rest) = (Vec::new(), svg);
        while let Some(at) = rest.find('<') {
            assert_text(&rest[..at]);
            let (tag, after) = rest[at + 1..].split_once('>').expect("a tag ends");
            assert!(!tag.contains('<'), "a bare < in <{tag}>");
            let quoted: Vec<&str> = tag.split('"').collect();
            assert!(quoted.len() % 2 == 1, "unbalanced quotes in <{tag}>");
            quoted.iter().skip(1).step_by(2).for_each(|value| assert_text(value));
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (_, false) => open.push(name),
                _ => {}
            }
            rest = after;
        }
        assert!(open.is_empty(), "not closed: {open:?}");
        assert_eq!(rest.trim(), "");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate is not a number");
    }

    fn assert_text(text: &str) {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "control character in {text:?}");
        for (at, _) in text.match_indices('&') {
            let entity = text[at + 1..].split_once(';').expect("an entity ends").0;
            assert!(["lt", "gt", "amp", "quot", "apos"].contains(&entity), "unknown entity &{entity};");
        }
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
