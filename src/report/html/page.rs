//! The page around the sections.

use crate::report::style::{GREY, INK, PALETTE, PAPER};
use crate::report::svg::escape;

const STYLE: &str = include_str!("style.css");

/// What the palette becomes on a dark page, in its order.
const DARK: [&str; PALETTE.len()] = ["#4fa8e0", "#f2935c", "#3cc29a", "#d490cf", "#eeb440", "#8ccdf2", "#b4b4b4"];

pub(super) fn encode(title: &str, sections: &[(String, String)]) -> String {
    let (title, version) = (escape(title), env!("CARGO_PKG_VERSION"));
    let body: String = sections.iter().enumerate().map(section).collect();
    let contents: String = sections.iter().enumerate().map(entry).collect();
    let night = night();
    // Nothing may be fetched and nothing run, whatever the content.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}{night}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n\
         <nav aria-label=\"Sections\"><ul>{contents}</ul></nav></header>\n\
         <main>\n{body}</main>\n<footer>Written by retrodict {version}.</footer>\n</body>\n</html>\n"
    )
}

fn section((k, (heading, content)): (usize, &(String, String))) -> String {
    if heading.is_empty() {
        return format!("<section>\n{content}</section>\n");
    }
    let heading = escape(heading);
    format!("<section aria-labelledby=\"section-{k}\">\n<h2 id=\"section-{k}\">{heading}</h2>\n{content}</section>\n")
}

fn entry((k, (heading, _)): (usize, &(String, String))) -> String {
    if heading.is_empty() {
        return String::new();
    }
    format!("<li><a href=\"#section-{k}\">{}</a></li>", escape(heading))
}

/// Rules that turn the colours of pictures to those of a dark page. Fills and strokes of the pictures are attributes, so
/// that the pictures are complete without these rules.
fn night() -> String {
    let pairs = PALETTE.iter().map(|colour| colour.hex()).zip(DARK);
    let fixed = [(INK.hex(), "#e4e6ea"), (GREY.hex(), "#a4a8b0"), (PAPER.hex(), "transparent")];
    let rules = fixed.into_iter().chain(pairs).map(|(light, dark)| {
        format!("svg [fill=\"{light}\"] {{ fill: {dark}; }} svg [stroke=\"{light}\"] {{ stroke: {dark}; }}\n")
    });
    format!("@media screen and (prefers-color-scheme: dark) {{\n{}}}\n", rules.collect::<String>())
}
