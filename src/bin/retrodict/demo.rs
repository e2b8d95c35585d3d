use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Parser};
use serde_json::json;

use crate::Cli;
use crate::files::Overwrite;
use crate::session::{Outcome, Session, Stop};

/// A whole run in under a minute: simulate, fit, validate, sample
///
/// Simulates two moons, a posterior of two thin crescents, and prints the commands that do what it does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict demo
  retrodict demo --folder moons --force")]
pub struct Demo {
    /// Where the files go
    #[arg(long, default_value = "retrodict-demo", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// The commands, with the demo's folder in the place of %.
const STEPS: [&str; 5] = [
    "simulate --task two-moons --rows 10000 --out %/simulations.npz --write-prior %/prior.toml",
    "simulate --task two-moons --rows 500 --seed 1 --out %/test.npz",
    "fit --theta %/simulations.npz --x %/simulations.npz --prior %/prior.toml --epochs 60 \
     --batch 128 --cosine --learning-rate 3e-3 --out %/posterior.safetensors",
    "validate %/posterior.safetensors --theta %/test.npz --x %/test.npz --report %/report.html",
    "sample %/posterior.safetensors --x %/test.npz --draws 1000 --out %/draws.npz",
];

impl Demo {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        self.overwrite.check([&self.folder.join("report.html")])?;
        std::fs::create_dir_all(&self.folder)
            .map_err(|why| Stop::Failure(format!("{}: {why}", self.folder.display())))?;
        let start = Instant::now();
        for step in STEPS {
            eprintln!("$ retrodict {}", step.replace('%', &self.folder.display().to_string()));
            let outcome = run_step(step, &self.folder, session)?;
            eprintln!("{}\n", outcome.text);
        }
        let report = self.folder.join("report.html");
        let seconds = start.elapsed().as_secs_f64();
        let text = format!("{} shows what was learned, in {seconds:.0} s.", report.display());
        Ok(Outcome::new(text, json!({ "folder": self.folder, "report": report, "seconds": seconds })))
    }
}

/// Runs one of the commands as the shell would, but in this process.
fn run_step(step: &str, folder: &Path, session: &Session) -> Result<Outcome, Stop> {
    let place = |word: &str| match word.strip_prefix('%') {
        Some(rest) => folder.join(rest.trim_start_matches('/')).into_os_string(),
        None => word.into(),
    };
    let words = ["retrodict".into()].into_iter().chain(step.split(' ').map(place)).chain(["--force".into()]);
    let Cli { command, .. } = Cli::try_parse_from(words).map_err(|why| Stop::Usage(why.to_string()))?;
    command.run(session)
}
