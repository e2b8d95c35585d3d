//! A report is one well-formed page that shows what it was given as text, and its pictures as pictures.

#![cfg(feature = "plots")]

use ndarray::{Array2, Array3};
use retrodict::report::{Corner, ImageGrid, Report, predictive_plot};
use retrodict::train::{Epoch, History};
use retrodict::{Device, Error, Validation, rng::Noise, rng::NoiseId};
use roxmltree::{Document, ParsingOptions};

/// Names that would break out of an element, an attribute, a style or a script.
const NAMES: [&str; 3] = ["<script>alert('x')</script>", "a\" onload=\"x & ]]> \u{0}", "log M* [M☉] 質量 </style>"];

fn normals(id: u64, n: usize) -> Vec<f64> {
    let mut values = vec![0.0; n];
    Noise { seed: id, step: 0, id: NoiseId(0) }.fill_normal(0, n, &mut values);
    values
}

fn report() -> Result<Report, Error> {
    let truths = Array2::from_shape_vec((200, 3), normals(1, 600)).unwrap();
    let draws = Array3::from_shape_vec((200, 50, 3), normals(2, 30_000)).unwrap() * 0.5;
    let validation = Validation::from_draws(&Device::cpu(), &NAMES, truths.view(), draws.view(), None, 3)?;
    let epoch = |epoch: usize| {
        let loss = 1.0 / epoch as f64;
        let (training_loss, validation_loss, best) = (loss, loss, true);
        Epoch { epoch, training_loss, validation_loss, gradient_norm: 1.0, best, seconds: epoch as f64 }
    };
    let posterior = draws.index_axis(ndarray::Axis(0), 0);
    let corner = Corner::new(&NAMES).series(NAMES[0], posterior).truth(&[0.0; 3]).title(NAMES[1]);
    let x = Array2::from_shape_fn((200, 4), |(i, j)| if i == 3 { f64::NAN } else { (i * j) as f64 });
    let image = Array2::from_shape_fn((9, 9), |(r, c)| (r * c) as f64);
    let report = Report::new(NAMES[0])
        .settings(&[(NAMES[1], NAMES[2]), ("seed", "1")])
        .data(&NAMES, truths.view(), x.view())?
        .training(&History { epochs: (1..30).map(epoch).collect() })?
        .validation(&validation)?
        .corner(&corner, NAMES[2])?
        .section(NAMES[0])
        .text(NAMES[1])
        .picture(&predictive_plot(["x", NAMES[0]], &[1.0, 2.0, 3.0], posterior, &[0.0; 3])?, NAMES[1])
        .picture(&ImageGrid::new().image(NAMES[0], image.view()).draw()?, "")
        .table(&[NAMES[0], NAMES[1]], &[vec![NAMES[2].into()], vec![]]);
    Ok(report)
}

#[test]
fn the_page_is_well_formed_and_holds_nothing_but_what_it_should() {
    let html = report().unwrap().to_html();
    let page = Document::parse_with_options(&html, ParsingOptions { allow_dtd: true, ..Default::default() });
    let page = page.unwrap_or_else(|why| panic!("{why}"));
    let allowed = "html head meta title style body header h1 nav ul li a main section h2 dl div dt dd table thead tbody tr \
                   th td details summary figure figcaption p strong span footer svg desc rect path text image";
    for node in page.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(allowed.split_whitespace().any(|tag| tag == name), "<{name}>");
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(!name.starts_with("on"), "{name}");
            let inside = value.starts_with('#') || value.starts_with("data:image/png;base64,");
            assert!(!matches!(name, "href" | "src") || inside, "{name}={value}");
        }
    }
    // What was given stands there as text, with a space for what XML cannot write.
    let text: String = page.descendants().filter_map(|node| node.text()).collect();
    assert!(NAMES.iter().all(|name| text.contains(&name.replace('\u{0}', " "))));
}

#[test]
fn every_picture_has_a_text_alternative_and_every_section_a_heading() {
    let html = report().unwrap().to_html();
    let page = Document::parse_with_options(&html, ParsingOptions { allow_dtd: true, ..Default::default() }).unwrap();
    let named = |name: &'static str| page.descendants().filter(move |node| node.has_tag_name(name));
    let pictures: Vec<_> = page.descendants().filter(|n| n.tag_name().name() == "svg").collect();
    assert_eq!(pictures.len(), 7);
    for picture in pictures {
        assert_eq!(picture.attribute("role"), Some("img"));
        assert!(picture.attribute("aria-label").is_some_and(|label| !label.trim().is_empty()));
        let described = picture.children().find(|n| n.tag_name().name() == "desc").and_then(|n| n.text());
        assert!(described.is_some_and(|text| text.len() > 10));
    }
    assert_eq!((named("h1").count(), named("h2").count(), named("section").count()), (1, 6, 6));
    // Draws half as wide as the truths: the page says so.
    let text: String = page.descendants().filter_map(|node| node.text()).collect();
    assert!(text.contains("✗ wrong") && text.contains("too narrow"));
}

#[test]
fn the_same_content_makes_the_same_bytes_and_is_written_as_a_whole() {
    let report = report().unwrap();
    assert!(report.to_html() == self::report().unwrap().to_html());
    let folder = std::env::temp_dir().join(format!("retrodict-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("report.html");
    report.write(&path).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap() == report.to_html());
    assert!(matches!(report.write(folder.join("no/such.html")), Err(Error::File { .. })));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_empty_report_is_a_page_too() {
    let html = Report::new("").training(&History::default()).unwrap().to_html();
    assert!(html.contains("No epoch was completed."));
    assert!(Document::parse_with_options(&html, ParsingOptions { allow_dtd: true, ..Default::default() }).is_ok());
}

#[test]
fn a_validation_of_hardly_any_rows_makes_a_page_too() {
    for rows in [1, 2, 3, 11] {
        let (truths, draws) = (Array2::zeros((rows, 1)), Array3::ones((rows, 1, 1)));
        let check = Validation::from_draws(&Device::cpu(), &["x"], truths.view(), draws.view(), None, 3).unwrap();
        let html = Report::new("few").validation(&check).unwrap().to_html();
        assert!(!html.contains("NaN\"") && html.matches("<svg").count() == 3, "{rows}");
    }
}
