//! Every density family on densities whose truth is known: one table, by a classifier that tries to tell draws from
//! the truth (0.5: it cannot).
//!
//! `cargo run --release --example density_zoo` (a quarter of an hour on two cores; `-- --quick` for a look).

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use retrodict::models::{Diffusion, Family, Gan, Generative, Mdn, Ncsn, RealNvp, SplineFlow, Vae};
use retrodict::optim::{Adam, Schedule};
use retrodict::tasks::Target;
use retrodict::train::Training;
use retrodict::validate::C2st;
use retrodict::{Device, Npe, Support};

/// How much is computed.
#[derive(Clone, Copy)]
struct Scale {
    rows: usize,
    epochs: usize,
    draws: usize,
}

const FULL: Scale = Scale { rows: 10_000, epochs: 100, draws: 4000 };
const QUICK: Scale = Scale { rows: 2000, epochs: 5, draws: 500 };

const TARGETS: [Target; 5] =
    [Target::TwoMoons, Target::EightGaussians, Target::Checkerboard, Target::Rings, Target::Mixture10];

fn main() -> Result<(), Box<dyn Error>> {
    let scale = if std::env::args().any(|a| a == "--quick") { QUICK } else { FULL };
    let device = Device::cpu();
    println!("classifier accuracy on {} draws after {} epochs over {} rows", scale.draws, scale.epochs, scale.rows);
    print!("{:16}", "family");
    TARGETS.iter().for_each(|target| print!("{:>15}", target.name()));
    println!("{:>10}", "seconds");
    row(&device, scale, "mdn", &Mdn::default())?;
    row(&device, scale, "realnvp", &RealNvp::default())?;
    row(&device, scale, "spline flow", &SplineFlow::default())?;
    row(&device, scale, "vae", &Vae::default())?;
    row(&device, scale, "gan", &Gan::default())?;
    row(&device, scale, "vp", &Diffusion::variance_preserving())?;
    row(&device, scale, "sub-vp", &Diffusion::sub_variance_preserving())?;
    row(&device, scale, "ve", &Diffusion::variance_exploding())?;
    row(&device, scale, "edm", &Diffusion::edm())?;
    row(&device, scale, "flow matching", &Diffusion::flow_matching())?;
    row(&device, scale, "ncsn", &Ncsn::default())?;
    Ok(())
}

/// One family on all targets.
fn row<F: Family<f32> + Clone>(device: &Device, scale: Scale, name: &str, family: &F) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    print!("{name:16}");
    for target in TARGETS {
        let accuracy = accuracy(device, scale, family, target)?;
        print!("{:>15}", format!("{:.3} ± {:.3}", accuracy.value, accuracy.error));
        std::io::Write::flush(&mut std::io::stdout())?;
    }
    println!("{:>10.0}", start.elapsed().as_secs_f64());
    Ok(())
}

/// Learns the target from a table of its draws, and has new draws told from the truth.
fn accuracy<F: Family<f32> + Clone>(
    device: &Device,
    scale: Scale,
    family: &F,
    target: Target,
) -> Result<retrodict::validate::Estimate, retrodict::Error>
where
    F::Model: Generative<f32>,
{
    let names: Vec<String> = (0..target.dim()).map(|i| format!("x{i}")).collect();
    let support = names.iter().fold(Support::new(), |support, name| support.real(name)).build()?;
    let training = Training {
        max_epochs: scale.epochs,
        adam: Adam::new(1e-3),
        schedule: Schedule::Cosine { warmup: 0.02, floor: 0.01 },
        ..Training::default()
    };
    let estimator = Npe { family: family.clone(), training, seed: 1 };
    let table = target.sample(scale.rows, 1);
    let (learned, _) = estimator.learn::<f32>(device, &support, table.view(), |_| ControlFlow::Continue(()))?;
    let draws = learned.sample(scale.draws, 2)?;
    C2st::default().accuracy(device, draws.view(), target.sample(scale.draws, 3).view())
}
