//! Posteriors of the stellar masses, star-formation histories and dust of 371 real galaxies, from simulations alone.
//!
//! simulate -> train a conditional density -> infer all galaxies -> validate, on held-out simulations and against
//! likelihood-based inference -> pictures and a table in `target/sed_fitting/`.
//!
//! `cargo run --release --features arrays,plots,progress --example sed_fitting` (`-- --quick` for a look at the
//! machinery with a posterior that has hardly been trained, `-- --family nsf` for another density).

#[path = "sed_fitting/catalogue.rs"]
mod catalogue;
#[path = "sed_fitting/exact.rs"]
mod exact;
#[path = "sed_fitting/forward.rs"]
mod forward;
#[path = "sed_fitting/show.rs"]
mod show;

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use ndarray::{Array2, Array3, Axis};
use retrodict::models::{AnyFamily, AnyModel, RealNvp};
use retrodict::optim::{Adam, Schedule};
use retrodict::rng::Philox;
use retrodict::sbi::{DatasetOptions, Holdout, Simulations};
use retrodict::train::{Epoch, History, Training};
use retrodict::validate::{SimulatedCloud, Verdict};
use retrodict::{Dataset, Device, Npe, Validation, simulate_joint};

use catalogue::{BANDS, Bank, Galaxies, Photometry};
use exact::Weighted;
use forward::{FEATURES, Forward};

/// How much of everything.
struct Scale {
    /// Observations drawn of each row of the bank that is trained on.
    observations: usize,
    epochs: usize,
    draws: usize,
    test_rows: usize,
    compared: usize,
}

const FULL: Scale = Scale { observations: 8, epochs: 20, draws: 4000, test_rows: 2000, compared: 600 };
const QUICK: Scale = Scale { observations: 1, epochs: 2, draws: 500, test_rows: 300, compared: 300 };

/// Rows of the bank kept from training, for tests.
const HELD_OUT: usize = 4000;
/// A reference posterior of fewer effective samples is too noisy to compare with.
const LEAST_ESS: f64 = 300.0;

type Posterior = retrodict::Posterior<f32, AnyModel<f32>>;

/// The density that is learned: any family that has one, by its name behind `--family`.
fn family() -> Result<AnyFamily, retrodict::Error> {
    match std::env::args().skip_while(|a| a != "--family").nth(1) {
        Some(name) => name.parse(),
        None => Ok(AnyFamily::RealNvp(RealNvp { layers: 8, hidden: vec![64, 64], ..RealNvp::default() })),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let scale = if std::env::args().any(|a| a == "--quick") { QUICK } else { FULL };
    let family = family()?;
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sed_fitting");
    std::fs::create_dir_all(&out)?;
    let device = Device::cpu();
    let (bank, galaxies) = (Bank::load()?, Galaxies::load()?);
    let forward = Forward::new(&bank, &galaxies);

    let simulations = simulate(&device, &forward, bank.len() - HELD_OUT, scale.observations)?;
    let (posterior, history) = train(&device, &simulations, &family, scale.epochs)?;
    unlike_simulations(&device, &simulations, &forward, &galaxies)?;
    let draws = infer(&posterior, &forward, &galaxies, scale.draws)?;
    show::table(&out.join("galaxies.csv"), posterior.support().names(), &galaxies, draws.view())?;

    let tests = held_out(&forward, &bank, scale.test_rows);
    let validation = validate(&posterior, &forward, &tests)?;
    let real: Vec<_> = galaxies.photometry.iter().map(|g| (g, None)).collect();
    println!("\nagainst likelihood-based inference: the bank weighted by its likelihood");
    let corner = compare("real", &posterior, &forward, &bank, &real, scale.draws)?;
    let simulated: Vec<_> = tests.iter().take(scale.compared).map(|t| (&t.photometry, Some(t.row))).collect();
    compare("simulated", &posterior, &forward, &bank, &simulated, scale.draws)?;

    let (galaxy, exact) = corner;
    let (id, z) = (galaxies.id[galaxy], galaxies.photometry[galaxy].redshift);
    let (title, draws) = (format!("CANDELS GOODS-S {id}, z = {z}"), draws.index_axis(Axis(0), galaxy));
    show::report(&out, &settings(&family, &scale), &simulations, &history, &validation, (&title, draws, &exact))?;
    println!("\nresults in {}", out.display());
    Ok(())
}

/// What the report says of how the posterior was made.
fn settings(family: &AnyFamily, scale: &Scale) -> Vec<(&'static str, String)> {
    let seeds = "simulations 1, training 1, draws 2, tests 3 and 4";
    vec![
        ("family", family.to_string()),
        ("simulations of each galaxy of the bank", scale.observations.to_string()),
        ("epochs at most", scale.epochs.to_string()),
        ("draws of each posterior", scale.draws.to_string()),
        ("seeds", seeds.into()),
    ]
}

/// `observations` of each of the first `rows` galaxies of the bank, one after the other.
fn simulate(
    device: &Device,
    forward: &Forward<'_>,
    rows: usize,
    observations: usize,
) -> Result<Simulations, retrodict::Error> {
    let start = Instant::now();
    let simulations = simulate_joint(device, rows * observations, 1, |i, rng| {
        let galaxy = forward.simulate(i / observations, rng);
        (galaxy.theta.to_vec(), forward.features(&galaxy.photometry).to_vec())
    })?;
    let n = rows * observations;
    println!("simulated {n} observations, {:.0} a second", n as f64 / start.elapsed().as_secs_f64());
    Ok(simulations)
}

fn train(
    device: &Device,
    simulations: &Simulations,
    family: &AnyFamily,
    epochs: usize,
) -> Result<(Posterior, History), retrodict::Error> {
    // The last rows come from galaxies of which training sees no other observation.
    let options = DatasetOptions { holdout: Holdout::Last(0.05), ..DatasetOptions::default() };
    let data = Dataset::new(&forward::support()?, simulations.theta.view(), simulations.x.view(), options)?;
    let estimator = Npe {
        family: family.clone(),
        training: Training {
            max_epochs: epochs,
            patience: 8,
            adam: Adam::new(2e-3),
            schedule: Schedule::Cosine { warmup: 0.02, floor: 0.01 },
            ..Training::default()
        },
        seed: 1,
    };
    let start = Instant::now();
    let (posterior, history) = estimator.fit_with(device, &data, |epoch: &Epoch| {
        let Epoch { epoch, training_loss, validation_loss, gradient_norm, best, seconds } = epoch;
        let mark = if *best { " *" } else { "" };
        println!(
            "epoch {epoch:3}  -log q: training {training_loss:7.4}, validation {validation_loss:7.4}  \
             |gradient| {gradient_norm:6.2}  {seconds:6.1} s{mark}"
        );
        ControlFlow::Continue(())
    })?;
    println!("trained on {} observations in {:.1} s", data.rows(), start.elapsed().as_secs_f64());
    Ok((posterior, history))
}

/// What the network sees of some galaxies, a row each.
fn features<'a>(forward: &Forward<'_>, galaxies: impl Iterator<Item = &'a Photometry>) -> Array2<f64> {
    let rows: Vec<[f64; FEATURES]> = galaxies.map(|g| forward.features(g)).collect();
    Array2::from(rows)
}

/// Says of which real galaxies a posterior would mean nothing, because nothing like them was simulated.
fn unlike_simulations(
    device: &Device,
    simulations: &Simulations,
    forward: &Forward<'_>,
    galaxies: &Galaxies,
) -> Result<(), retrodict::Error> {
    let cloud = SimulatedCloud::new(device, simulations.x.view(), 7)?;
    let mut counts = [0; 3];
    for (id, x) in galaxies.id.iter().zip(features(forward, galaxies.photometry.iter()).rows()) {
        let check = cloud.check(x)?;
        counts[check.verdict() as usize] += 1;
        for finding in check.findings().iter().filter(|finding| finding.verdict == Verdict::Wrong).take(1) {
            println!("galaxy {id}: {finding}");
        }
    }
    let [sound, doubtful, wrong] = counts;
    println!("real galaxies among the simulations: {sound} look like one, {doubtful} are doubtful, {wrong} do not");
    Ok(())
}

/// The posteriors of all real galaxies, in one call.
fn infer(
    posterior: &Posterior,
    forward: &Forward<'_>,
    galaxies: &Galaxies,
    draws: usize,
) -> Result<Array3<f64>, retrodict::Error> {
    let x = features(forward, galaxies.photometry.iter());
    let start = Instant::now();
    let theta = posterior.sample_many(x.view(), draws, 2)?;
    let (seconds, n) = (start.elapsed().as_secs_f64(), x.nrows());
    println!(
        "inferred {n} real galaxies with {draws} draws each: {:.0} draws a second, {:.2} ms a galaxy",
        (n * draws) as f64 / seconds,
        1e3 * seconds / n as f64
    );
    Ok(theta)
}

/// A simulated galaxy that training has not seen, and its row in the bank.
struct Test {
    row: usize,
    theta: [f64; catalogue::PARAMETERS],
    photometry: Photometry,
}

fn held_out(forward: &Forward<'_>, bank: &Bank, rows: usize) -> Vec<Test> {
    let first = bank.len() - HELD_OUT;
    let simulate = |row: usize| {
        let galaxy = forward.simulate(row, &mut Philox::new(3, row as u64));
        Test { row, theta: galaxy.theta, photometry: galaxy.photometry }
    };
    (first..first + rows.min(HELD_OUT)).map(simulate).collect()
}

fn validate(posterior: &Posterior, forward: &Forward<'_>, tests: &[Test]) -> Result<Validation, retrodict::Error> {
    let theta = Array2::from(tests.iter().map(|t| t.theta).collect::<Vec<_>>());
    let x = features(forward, tests.iter().map(|t| &t.photometry));
    let validation = Validation::run(posterior, theta.view(), x.view(), 1000, 4)?;
    println!("\nvalidated on {} held-out simulations", tests.len());
    for finding in validation.findings() {
        println!("{finding}");
    }
    Ok(validation)
}

/// Prints how the posterior's medians and widths differ from those of the weighted bank, over the galaxies for which the
/// latter has enough effective samples; returns the one with the most of them among those with all bands but two.
fn compare(
    what: &str,
    posterior: &Posterior,
    forward: &Forward<'_>,
    bank: &Bank,
    galaxies: &[(&Photometry, Option<usize>)],
    draws: usize,
) -> Result<(usize, Weighted), Box<dyn Error>> {
    let start = Instant::now();
    let exact = exact_posteriors(bank, galaxies);
    let seconds = start.elapsed().as_secs_f64() / galaxies.len() as f64;
    let usable: Vec<usize> = (0..galaxies.len()).filter(|&i| exact[i].ess >= LEAST_ESS).collect();
    println!(
        "\n{what} galaxies: {} of {} have an effective sample size of {LEAST_ESS} or more ({:.0} ms a galaxy)",
        usable.len(),
        galaxies.len(),
        1e3 * seconds
    );
    let x = features(forward, usable.iter().map(|&i| galaxies[i].0));
    let learned = posterior.sample_many(x.view(), draws, 6)?;
    show::differences(posterior.support().names(), usable.iter().map(|&i| &exact[i]), learned.view());

    let seen = |i: usize| galaxies[i].0.observed.iter().filter(|&&o| o).count();
    let best =
        usable.into_iter().filter(|&i| seen(i) + 2 >= BANDS).max_by(|&a, &b| exact[a].ess.total_cmp(&exact[b].ess));
    let best = best.ok_or_else(|| format!("no {what} galaxy has an effective sample size of {LEAST_ESS}"))?;
    let exact = exact.into_iter().nth(best).ok_or("the best is one of them")?;
    Ok((best, exact))
}

/// The reference posteriors, a part of the galaxies on each core.
fn exact_posteriors(bank: &Bank, galaxies: &[(&Photometry, Option<usize>)]) -> Vec<Weighted> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let part = galaxies.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let weigh = |part: &[(&Photometry, Option<usize>)]| -> Vec<Weighted> {
            part.iter().map(|(galaxy, except)| exact::posterior(bank, galaxy, *except)).collect()
        };
        let threads: Vec<_> = galaxies.chunks(part).map(|part| scope.spawn(move || weigh(part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic in the reference posterior")).collect()
    })
}
