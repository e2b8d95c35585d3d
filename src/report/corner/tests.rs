use super::*;
use crate::report::tests::{Folder, assert_apart, assert_well_formed, texts};
use ndarray::{Array2, array};

const NAMES: [&str; 3] = ["log M* [M☉]", "a<b & \"c\"", "τ"];

fn draws(rows: usize, columns: usize) -> Array2<f64> {
    let wave = |i: usize, j: usize| ((i * (3 + 2 * j) + j) as f64 * 0.7).sin();
    Array2::from_shape_fn((rows, columns), |(i, j)| wave(i, j) + wave(i + 1, j + 1) + j as f64)
}

#[test]
fn every_name_stands_in_a_well_formed_file() {
    let (a, b) = (draws(400, 3), draws(100, 3));
    let corner = Corner::new(&NAMES).series("mine", a.view()).series("<exact>", b.view());
    let svg = corner.truth(&[0.0, 1.0, 2.0]).title("Two & one").draw().unwrap().to_svg();
    assert_well_formed(&svg);
    let found = texts(&svg);
    for text in NAMES.into_iter().chain(["mine", "<exact>", "Two & one", "truth", "68 / 95 % mass"]) {
        assert!(found.iter().any(|t| t == text), "{text} is missing");
    }
    // The first series is filled at both levels in each of six panels and in the legend.
    for opacity in ["opacity=\"0.4\"", "opacity=\"0.22\""] {
        assert!(svg.matches(opacity).count() > 3 + 3);
    }
}

#[test]
fn no_label_touches_another_for_any_number_of_parameters() {
    for parameters in [1, 2, 7] {
        for scale in [1.0, 3e-7] {
            let names: Vec<String> = (0..parameters).map(|i| format!("a rather long name {i} [km/s]")).collect();
            let draws = draws(200, parameters).mapv(|value| scale * value.exp());
            let corner = Corner::new(&names).series("a long name of a series", draws.view()).title("A heading");
            assert_apart(&corner.clone().truth(&vec![scale; parameters]).draw().unwrap());
            let picture = (0..parameters).fold(corner, Corner::log).draw().unwrap();
            assert_apart(&picture);
            assert_well_formed(&picture.to_svg());
        }
    }
}

#[test]
fn a_logarithmic_axis_shows_the_logarithm() {
    let draws = draws(300, 1);
    let exponential = draws.mapv(f64::exp);
    let curve = |corner: Corner| {
        let picture = corner.draw().unwrap();
        let curve = crate::report::tests::lines(&picture, colour(0))[0].to_vec();
        (curve, picture)
    };
    let (plain, _) = curve(Corner::new(&["x"]).series("s", draws.view()));
    let (logarithmic, picture) = curve(Corner::new(&["x"]).series("s", exponential.view()).log(0));
    let close = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - b[0]).abs() < 1e-6 && (a[1] - b[1]).abs() < 1e-6;
    assert!(plain.len() == logarithmic.len() && plain.iter().zip(&logarithmic).all(close));
    assert!(picture.description().contains("Medians of s: x "));
}

#[test]
fn draws_without_weight_change_nothing() {
    let (few, mut all) = (draws(150, 2), draws(300, 2));
    all.slice_mut(ndarray::s![150.., ..]).fill(1e6);
    let weights: Vec<f64> = (0..300).map(|i| if i < 150 { 7.0 } else { 0.0 }).collect();
    let plain = Corner::new(&NAMES[..2]).series("s", few.view()).draw().unwrap().to_svg();
    let weighted = Corner::new(&NAMES[..2]).weighted("s", all.view(), &weights).draw().unwrap().to_svg();
    assert!(plain == weighted);
}

#[test]
fn odd_draws_still_make_a_plot() {
    let odd = [
        array![[1.0, 2.0]],
        array![[0.0, 0.0], [0.0, 0.0], [0.0, 1e-320]],
        array![[3.0, 1.0], [3.0, 2.0], [3.0, 4.0]],
        array![[-1e300, 1e-290], [1e300, 2e-290], [1e299, 3e-290]],
        array![[1e16, 1e-300], [1e16 + 2.0, -1e-300], [1e16 + 4.0, 0.0]],
    ];
    for draws in &odd {
        for truth in [[1.0, 2.0], [-50.0, 1e200]] {
            let corner = Corner::new(&NAMES[..2]).series("odd", draws.view()).truth(&truth);
            assert_well_formed(&corner.draw().unwrap().to_svg());
            assert_well_formed(&corner.range(0, 5.0, 6.0).range(1, -1e9, 0.0).draw().unwrap().to_svg());
        }
    }
    let one = draws(50, 1);
    assert_well_formed(&Corner::new(&["x"]).series("one", one.view()).draw().unwrap().to_svg());
    let many = draws(60, 11);
    let names: Vec<String> = (0..11).map(|i| format!("a rather long name {i} [km/s]")).collect();
    assert_well_formed(&Corner::new(&names).series("many", many.view()).draw().unwrap().to_svg());
}

#[test]
fn wrong_input_is_named() {
    let (good, three, empty) = (draws(10, 2), draws(10, 3), draws(0, 2));
    let signs = [1.0, -1.0].repeat(5);
    let corner = || Corner::new(&["a", "b"]);
    let parameter = |corner: Corner, what: &str| match corner.draw() {
        Err(Error::Parameter { name, .. }) => assert_eq!(name, what),
        other => panic!("{other:?}"),
    };
    parameter(Corner::new(&[""; 0]).series("s", good.view()), "names");
    parameter(corner(), "series");
    parameter(corner().series("s", good.view()).range(2, 0.0, 1.0), "range 2");
    for (lo, hi) in [(1.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-1e308, 1e308)] {
        parameter(corner().series("s", good.view()).range(1, lo, hi), "b");
    }
    let wide = array![[0.0, -1e308], [0.0, 1e308]];
    parameter(corner().series("s", wide.view()), "b");
    let (below, above) = (&good - 5.0, &good + 9.0);
    parameter(corner().series("s", good.view()).log(2), "log 2");
    parameter(corner().series("s", below.view()).log(1), "b");
    parameter(corner().series("s", above.view()).log(0).truth(&[0.0, 1.0]), "a");
    parameter(corner().series("s", above.view()).log(0).range(0, 0.0, 1.0), "a");
    parameter(corner().weighted("s", good.view(), &[0.0; 10]), "s");
    parameter(corner().weighted("s", good.view(), &signs), "s");

    let length = |corner: Corner, what: &str, expected: usize, found: usize| {
        let Err(Error::Length { what: w, expected: e, found: f }) = corner.draw() else { panic!("{what}") };
        assert_eq!((w, e, f), (what, expected, found));
    };
    length(corner().series("s", three.view()), "draws columns", 2, 3);
    length(corner().series("s", empty.view()), "draws rows", 1, 0);
    length(corner().weighted("s", good.view(), &[1.0; 9]), "weights", 10, 9);
    length(corner().series("s", good.view()).truth(&[1.0]), "truth values", 2, 1);

    let mut bad = good.clone();
    bad[[7, 1]] = f64::NAN;
    let found = corner().series("s", good.view()).series("t", bad.view()).draw();
    assert_eq!(found.unwrap_err(), (Error::NonFinite { what: "draws", row: 7, column: 1 }));
    let found = corner().series("s", good.view()).truth(&[0.0, f64::INFINITY]).draw();
    assert_eq!(found.unwrap_err(), (Error::NonFinite { what: "truth", row: 0, column: 1 }));
    let mut weights = [1.0; 10];
    weights[3] = f64::INFINITY;
    let found = corner().weighted("s", good.view(), &weights).draw();
    assert_eq!(found.unwrap_err(), (Error::NonFinite { what: "weights", row: 3, column: 0 }));
}

#[test]
fn an_older_file_survives_a_failing_call() {
    let folder = Folder::new("corner");
    let path = folder.0.join("corner.svg");
    let (good, bad) = (draws(20, 1), array![[f64::NAN]]);
    Corner::new(&["x"]).series("good", good.view()).draw().unwrap().write(&path).unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    assert_well_formed(&before);
    assert!(Corner::new(&["x"]).series("bad", bad.view()).draw().is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}
