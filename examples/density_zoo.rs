//! Every density family on densities whose truth is known: one table, by a classifier that tries to tell draws from
//! the truth (0.5: it cannot), and one picture. It fails if a family misses its bound on two moons.
//!
//! `cargo run --release --features plots,progress --example density_zoo` (minutes on two cores). With `-- --quick`
//! it is a look at the machinery; with names of families, `-- edm "spline flow"`, it is about these.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use ndarray::Array2;
use retrodict::models::{Diffusion, EnergyBased, Family, Gan, Mdn, Ncsn, RealNvp, ScoreNetwork, SplineFlow, Vae};
use retrodict::optim::{Adam, Schedule};
use retrodict::report::{Panel, scatter_grid};
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::validate::{C2st, ModeCoverage};
use retrodict::{Device, Npe, Support};

/// How much is computed.
struct Scale {
    rows: usize,
    epochs: usize,
    draws: usize,
    targets: &'static [Target],
}

const FULL: Scale = Scale { rows: 10_000, epochs: 100, draws: 2000, targets: &Target::ALL };
const QUICK: Scale = Scale { rows: 1000, epochs: 2, draws: 200, targets: &[Target::TwoMoons, Target::Mixture10] };

/// The accuracy on two moons that a family must not exceed after a full training.
const BOUND: f64 = 0.60;
/// Of families that have no likelihood to be trained on.
const WEAKER_BOUND: f64 = 0.65;
/// Passes over the rows of an adversarial training for one of the others: a game takes longer than a descent.
const GAME: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, chosen): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let quick = flags.iter().any(|flag| flag == "--quick");
    let scale = if quick { QUICK } else { FULL };
    println!("classifier accuracy on {} draws after {} epochs over {} rows;", scale.draws, scale.epochs, scale.rows);
    println!("covered: eight Gaussians' rows near which there is a draw, and how many the truth's own draws cover\n");
    let mut zoo = Zoo { device: Device::cpu(), scale, chosen, columns: Vec::new(), failures: Vec::new() };
    zoo.header();
    zoo.family("mdn", &Mdn::default(), BOUND)?;
    zoo.family("realnvp", &RealNvp::default(), BOUND)?;
    zoo.family("spline flow", &SplineFlow::default(), BOUND)?;
    zoo.family("vae", &Vae::default(), BOUND)?;
    zoo.scale.epochs *= GAME;
    zoo.family("gan", &Gan::default(), WEAKER_BOUND)?;
    zoo.scale.epochs /= GAME;
    zoo.family("energy", &EnergyBased::default(), WEAKER_BOUND)?;
    zoo.family("vp", &fine(Diffusion::variance_preserving()), BOUND)?;
    zoo.family("sub-vp", &fine(Diffusion::sub_variance_preserving()), BOUND)?;
    zoo.family("ve", &fine(Diffusion::variance_exploding()), BOUND)?;
    zoo.family("edm", &fine(Diffusion::edm()), BOUND)?;
    zoo.family("flow matching", &fine(Diffusion::flow_matching()), BOUND)?;
    let ncsn = Ncsn::default();
    zoo.family("ncsn", &Ncsn { network: ScoreNetwork { waves: WAVES, ..ncsn.network }, ..ncsn }, BOUND)?;
    zoo.picture("target/density_zoo.png")?;
    match (quick, zoo.failures.is_empty()) {
        (true, _) => println!("no bound is asked for after so few epochs"),
        (false, true) => println!("every family is within its bound on two moons"),
        (false, false) => return Err(zoo.failures.join("; ").into()),
    }
    Ok(())
}

/// Octaves that score networks see: rings and squares are finer than what a posterior usually has.
const WAVES: u8 = 3;

fn fine(diffusion: Diffusion) -> Diffusion {
    Diffusion { network: ScoreNetwork { waves: WAVES, ..diffusion.network }, ..diffusion }
}

/// Draws and what is said of them.
type Captioned = (Array2<f64>, String);

/// The table in the making, and what the picture will show.
struct Zoo {
    device: Device,
    scale: Scale,
    chosen: Vec<String>,
    /// For each family its name and, for each target, its draws and what is said of them.
    columns: Vec<(&'static str, Vec<Captioned>)>,
    failures: Vec<String>,
}

impl Zoo {
    fn header(&self) {
        print!("| {:13} |", "family");
        for target in self.scale.targets {
            print!(" {:>15} |", if *target == Target::Mixture10 { "mixture in 10-D" } else { target.name() });
        }
        println!(" {:>13} | {:>7} | {:>11} |", "covered", "seconds", "two moons ≤");
        println!(
            "|{:-<15}|{}{:->15}|{:->9}|{:->13}|",
            "",
            "----------------:|".repeat(self.scale.targets.len()),
            ":",
            ":",
            ":"
        );
    }

    /// One row of the table.
    fn family<F: Family<f32> + Clone>(
        &mut self,
        name: &'static str,
        family: &F,
        bound: f64,
    ) -> Result<(), Box<dyn Error>> {
        if !self.chosen.is_empty() && !self.chosen.iter().any(|chosen| chosen == name) {
            return Ok(());
        }
        let (start, mut column, mut covered) = (Instant::now(), Vec::new(), String::new());
        print!("| {name:13} |");
        for &target in self.scale.targets {
            let (draws, truth) = (self.draws(family, target)?, target.sample(self.scale.draws, 3));
            let accuracy = C2st::default().accuracy(&self.device, draws.view(), truth.view())?;
            if target == Target::TwoMoons && accuracy.value > bound {
                self.failures.push(format!("{name}: {:.3} on two moons, more than {bound}", accuracy.value));
            }
            if target == Target::EightGaussians {
                let found = ModeCoverage::new(&self.device, truth.view(), draws.view(), 5)?;
                covered = format!("{:.3} / {:.3}", found.coverage, found.expected);
            }
            print!(" {:>15} |", format!("{:.3} ± {:.3}", accuracy.value, accuracy.error));
            std::io::stdout().flush()?;
            column.push((draws, format!("C2ST {:.3}", accuracy.value)));
        }
        println!(" {covered:>13} | {:>7.0} | {bound:>11.2} |", start.elapsed().as_secs_f64());
        self.columns.push((name, column));
        Ok(())
    }

    /// Learns the target from a table of its draws, and draws from what was learned.
    fn draws<F: Family<f32> + Clone>(&self, family: &F, target: Target) -> Result<Array2<f64>, retrodict::Error> {
        let names: Vec<String> = (0..target.dim()).map(|i| format!("x{i}")).collect();
        let support = names.iter().fold(Support::new(), |support, name| support.real(name)).build()?;
        let training = Training {
            max_epochs: self.scale.epochs,
            patience: self.scale.epochs,
            adam: Adam::new(2e-3),
            schedule: Schedule::Cosine { warmup: 0.02, floor: 0.01 },
            ..Training::default()
        };
        let estimator = Npe { family: family.clone(), training, seed: 1 };
        let table = target.sample(self.scale.rows, 1);
        let (learned, _) =
            estimator.learn::<f32>(&self.device, &support, table.view(), |_| ControlFlow::Continue(()))?;
        learned.sample(self.scale.draws, 2)
    }

    /// A row of panels for each target of the plane: the truth, then every family.
    fn picture(&self, path: &str) -> Result<(), retrodict::Error> {
        let plane = self.scale.targets.iter().enumerate().filter(|(_, target)| target.dim() == 2);
        let truths: Vec<_> = plane.map(|(i, target)| (i, target, target.sample(self.scale.draws, 3))).collect();
        let mut panels = Vec::new();
        for (i, target, truth) in &truths {
            panels.push(Panel::points(target.name(), truth.view()).caption("the truth"));
            for (name, column) in &self.columns {
                panels.push(Panel::points(name, column[*i].0.view()).caption(&column[*i].1));
            }
        }
        scatter_grid(&panels, 1 + self.columns.len())?.write(path)?;
        println!("{path}");
        Ok(())
    }
}
