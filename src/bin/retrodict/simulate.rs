use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use retrodict::files::{write, write_npz, write_table};
use retrodict::ndarray::ArrayView2;
use retrodict::rng::Philox;
use retrodict::sbi::{Exchange, External, ExternalRun, PriorFile, Simulations};
use retrodict::simulate_joint;
use retrodict::tasks::{GaussianLinear, GaussianMixture, Task, TwoMoons};
use serde_json::json;

use crate::files::Overwrite;
use crate::session::{Outcome, Session, Stop};

/// Draw parameters from a prior and simulate observations
///
/// The simulator is a built-in task, or any program: it reads requests on standard input and writes answers to
/// standard output until its input ends. With `--exchange json` a request is the line
/// {"row": 3, "seed": 8125, "theta": [0.5, 2.0]} and the answer the line {"row": 3, "x": [1.5, 0.25]}. With `--exchange npy` a
/// request is two arrays, theta [rows x parameters] and seed [rows], and the answer the array x [rows x features].
/// A row that crashes the simulator, or that takes too long, is filled with NaN; the simulator is started anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict simulate --task two-moons --rows 10000 --out simulations.npz --write-prior prior.toml
  retrodict simulate --prior prior.toml --rows 10000 --theta theta.npy --x x.npy -- python simulator.py
  retrodict simulate --prior prior.toml --rows 1e6 --exchange npy --workers 8 --out simulations.npz -- ./simulator

A simulator in Python:
  import json, sys, numpy as np
  for line in sys.stdin:
      request = json.loads(line)
      rng = np.random.default_rng(request[\"seed\"])
      x = rng.normal(request[\"theta\"], 0.1)
      print(json.dumps({\"row\": request[\"row\"], \"x\": x.tolist()}), flush=True)")]
pub struct Simulate {
    /// A built-in simulator
    #[arg(long, conflicts_with_all = ["prior", "command"], required_unless_present = "prior")]
    task: Option<TaskName>,
    /// The prior of an external simulator (see `retrodict fit --help` for the file)
    #[arg(long, value_name = "TOML", requires = "command")]
    prior: Option<PathBuf>,
    /// The external simulator and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "prior")]
    command: Vec<String>,
    /// How many rows; 1e6 is a million
    #[arg(long, value_parser = count)]
    rows: usize,
    /// The first row, to go on with a run that was interrupted
    #[arg(long, value_name = "ROW", default_value_t = 0)]
    first_row: usize,
    /// Seed of parameters and noise: row i is the same in every run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the parameters go, .npy or .csv
    #[arg(long, value_name = "FILE", requires = "x", required_unless_present = "out")]
    theta: Option<PathBuf>,
    /// Where the observations go, .npy or .csv
    #[arg(long, value_name = "FILE", requires = "theta")]
    x: Option<PathBuf>,
    /// Where both go: an .npz archive with the arrays `theta` and `x`
    #[arg(long, value_name = "NPZ", conflicts_with_all = ["theta", "x"])]
    out: Option<PathBuf>,
    /// Where the prior of a built-in task goes
    #[arg(long, value_name = "TOML", requires = "task")]
    write_prior: Option<PathBuf>,
    /// What goes through the pipes
    #[arg(long, default_value = "json")]
    exchange: ExchangeName,
    /// Rows in one request with `--exchange npy`
    #[arg(long, default_value_t = 256, value_name = "ROWS")]
    chunk: usize,
    /// External simulators that run side by side [default: all cores]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Seconds that one row may take, the start of the simulator included
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", value_parser = seconds)]
    timeout: f64,
    #[command(flatten)]
    overwrite: Overwrite,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskName {
    /// Two crescents, two parameters
    TwoMoons,
    /// Ten parameters, a normal posterior
    GaussianLinear,
    /// Two normals of the same centre and different widths
    GaussianMixture,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExchangeName {
    /// A line of JSON for each row
    Json,
    /// NumPy arrays for many rows
    Npy,
}

/// A number of rows, also as 1e6.
fn count(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a number of rows; expected 10000 or 1e4");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if (1.0..1e15).contains(&number) && number.fract() == 0.0 { Ok(number as usize) } else { Err(wrong()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number < 1e9 => Ok(number),
        _ => Err(format!("`{text}` is not a time; expected a number of seconds above 0")),
    }
}

impl TaskName {
    fn task(self) -> Box<dyn Task> {
        match self {
            Self::TwoMoons => Box::new(TwoMoons),
            Self::GaussianLinear => Box::new(GaussianLinear::default()),
            Self::GaussianMixture => Box::new(GaussianMixture),
        }
    }
}

impl Simulate {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        let outputs = [&self.theta, &self.x, &self.out, &self.write_prior];
        self.overwrite.check(outputs.into_iter().flatten())?;
        let (prior, run) = match self.task {
            Some(name) => self.built_in(&*name.task(), session)?,
            None => self.external(session)?,
        };
        if let Some(path) = &self.write_prior {
            write(path, prior.to_string())?;
        }
        let Simulations { theta, x } = &run.simulations;
        self.write(prior.prior.names(), theta.view(), x.view())?;
        if session.cancel.is_cancelled() {
            let next = self.first_row + theta.nrows();
            let left = self.rows - theta.nrows();
            return Err(Stop::Interrupted(format!(
                "{} rows are written; --first-row {next} --rows {left} simulates the rest",
                theta.nrows()
            )));
        }
        Ok(summary(&run))
    }

    fn built_in(&self, task: &dyn Task, session: &Session) -> Result<(PriorFile, ExternalRun), Stop> {
        let prior = task.prior()?;
        let simulations = simulate_joint(&session.device, self.rows, self.seed, |i, _| {
            let mut rng = Philox::new(self.seed, (self.first_row + i) as u64);
            let mut theta = vec![0.0; prior.dim()];
            let drawn = prior.sample(&mut rng, &mut theta);
            (theta.clone(), drawn.map_or(Vec::new(), |()| task.simulate(&theta, &mut rng)))
        })?;
        Ok((PriorFile::new(prior), ExternalRun { simulations, failures: Vec::new() }))
    }

    fn external(&self, session: &Session) -> Result<(PriorFile, ExternalRun), Stop> {
        let path = self.prior.as_ref().ok_or_else(|| Stop::Usage("--prior or --task is needed".into()))?;
        let prior = PriorFile::read(path)?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let external = External {
            command: self.command.clone(),
            exchange: match self.exchange {
                ExchangeName::Json => Exchange::JsonLines,
                ExchangeName::Npy => Exchange::Npy(self.chunk),
            },
            workers: self.workers.unwrap_or_else(cores),
            timeout: Duration::from_secs_f64(self.timeout),
        };
        let rows = self.first_row..self.first_row + self.rows;
        let run = external.simulate(&prior.prior, rows, self.seed, &session.cancel)?;
        Ok((prior, run))
    }

    fn write(&self, names: &[String], theta: ArrayView2<'_, f64>, x: ArrayView2<'_, f64>) -> Result<(), Stop> {
        if let Some(out) = &self.out {
            write_npz(out, &[("theta", theta.into_dyn()), ("x", x.into_dyn())])?;
        }
        if let (Some(to_theta), Some(to_x)) = (&self.theta, &self.x) {
            let features: Vec<String> = (0..x.ncols()).map(|j| format!("x{j}")).collect();
            write_table(to_theta, names, theta)?;
            write_table(to_x, &features, x)?;
        }
        Ok(())
    }
}

fn summary(run: &ExternalRun) -> Outcome {
    let Simulations { theta, x } = &run.simulations;
    let mut text = format!("{} rows of {} parameters and {} features", theta.nrows(), theta.ncols(), x.ncols());
    if !run.failures.is_empty() {
        text += &format!("; {} failed and are NaN (`fit --drop` leaves them out):", run.failures.len());
        for failure in run.failures.iter().take(5) {
            text += &format!("\n  row {}: {}", failure.row, failure.why);
        }
    }
    let failures: Vec<_> = run.failures.iter().map(|f| json!({ "row": f.row, "why": f.why })).collect();
    let json = json!({
        "rows": theta.nrows(), "parameters": theta.ncols(), "features": x.ncols(), "failures": failures,
    });
    Outcome::new(text, json)
}
