//! What a person looks at: tables and pictures.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use ndarray::{Array2, ArrayView2, ArrayView3, Axis};
use retrodict::Validation;
use retrodict::report::{Corner, Report};
use retrodict::sbi::Simulations;
use retrodict::train::History;

use crate::catalogue::{Galaxies, PARAMETERS};
use crate::exact::Weighted;

/// The quantiles of one standard deviation about the median of a normal distribution.
const LEVELS: [f64; 3] = [0.16, 0.5, 0.84];

/// Names with units.
const LABELS: [&str; PARAMETERS] = ["log M* [M☉]", "log SFR [M☉/yr]", "t25", "t50", "t75", "log Z/Z☉", "A_V [mag]"];

/// One row for each galaxy: id, redshift, and 16, 50 and 84 % quantiles of each parameter.
pub fn table(
    path: &Path,
    names: &[String],
    galaxies: &Galaxies,
    draws: ArrayView3<'_, f64>,
) -> Result<(), Box<dyn Error>> {
    let mut csv = String::from("id,z");
    for name in names {
        write!(csv, ",{name}_p16,{name}_p50,{name}_p84")?;
    }
    for (i, draws) in draws.axis_iter(Axis(0)).enumerate() {
        write!(csv, "\n{},{}", galaxies.id[i], galaxies.photometry[i].redshift)?;
        for column in draws.columns() {
            let [low, median, high] = quantiles(column.to_vec());
            write!(csv, ",{low:.4},{median:.4},{high:.4}")?;
        }
    }
    csv.push('\n');
    Ok(retrodict::files::write(path, csv)?)
}

/// The posterior of one real galaxy, over the weighted bank; as pictures, and in a report on everything.
pub fn report(
    out: &Path,
    settings: &[(&str, String)],
    simulations: &Simulations,
    history: &History,
    validation: &Validation,
    (title, draws, exact): (&str, ArrayView2<'_, f64>, &Weighted),
) -> Result<(), Box<dyn Error>> {
    let exact = exact.one_per_row();
    let reference = Array2::from(exact.theta);
    let corner = Corner::new(&LABELS)
        .title(title)
        .range(5, -1.5, 0.5) // the whole prior where draws reach its bounds
        .range(6, 0.0, 1.0)
        .series("retrodict", draws)
        .weighted("likelihood-weighted bank", reference.view(), &exact.weight);
    let picture = corner.draw()?;
    picture.write(out.join("corner.svg"))?;
    picture.write(out.join("corner.png"))?;

    let mut validation = validation.clone();
    validation.names = LABELS.map(String::from).to_vec();
    Report::new("Galaxies of CANDELS GOODS-S")
        .settings(settings)
        .data(&LABELS, simulations.theta.view(), simulations.x.view())?
        .training(history)?
        .validation(&validation)?
        .corner(&corner, "One real galaxy: the learned posterior, and the bank weighted by its likelihood.")?
        .write(out.join("report.html"))?;
    Ok(())
}

/// Prints, for each parameter, how far the flow's medians lie from the exact ones, in units of the exact standard
/// deviations, and the ratio of the widths.
pub fn differences<'a>(names: &[String], exact: impl Iterator<Item = &'a Weighted> + Clone, flow: ArrayView3<'_, f64>) {
    println!("  parameter   median difference [sigma]   width ratio");
    println!("              mean    rms                 mean   rms about it");
    for (p, name) in names.iter().enumerate() {
        let pairs = exact.clone().zip(flow.axis_iter(Axis(0)));
        let (shifts, ratios): (Vec<f64>, Vec<f64>) = pairs
            .map(|(exact, draws)| {
                let reference = exact.quantiles(p, &LEVELS);
                let [low, median, high] = quantiles(draws.column(p).to_vec());
                let width = reference[2] - reference[0];
                (2.0 * (median - reference[1]) / width, (high - low) / width)
            })
            .unzip();
        let (shift, shift_scatter) = mean_and_scatter(&shifts);
        let (ratio, ratio_scatter) = mean_and_scatter(&ratios);
        let shift_rms = shift.hypot(shift_scatter);
        println!("  {name:9}   {shift:+.3}  {shift_rms:.3}               {ratio:.3}  {ratio_scatter:.3}");
    }
}

fn mean_and_scatter(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    LEVELS.map(|level| values[((values.len() - 1) as f64 * level).round() as usize])
}
