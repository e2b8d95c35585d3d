//! Simulation-based inference from the shell: simulate, fit, sample, validate.

mod demo;
mod files;
mod fit;
mod inspect;
mod log_prob;
mod sample;
mod session;
mod simulate;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use session::{Common, Outcome, Session, Stop};

/// Simulation-based inference: train q(θ | x) on simulations, read it at observations.
///
/// Draw parameters θ from a prior, simulate observations x, and `fit` learns the posterior of any observation. Tables
/// are .npy, .npz or .csv files, told apart by their extension.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

const AFTER_HELP: &str = "\
Examples:
  retrodict demo
  retrodict simulate --prior prior.toml --rows 10000 --theta theta.npy --x x.npy -- python simulator.py
  retrodict fit --theta theta.npy --x x.npy --prior prior.toml --out posterior.safetensors
  retrodict validate posterior.safetensors --theta test_theta.npy --x test_x.npy --report report.html
  retrodict sample posterior.safetensors --x observed.npy --out draws.npz

Exit codes:
  0    done
  1    something failed; the message says what and where
  2    the command line cannot be understood
  130  interrupted by Ctrl-C (or a termination signal)";

#[derive(Debug, Subcommand)]
enum Command {
    Fit(fit::Fit),
    Sample(sample::Sample),
    LogProb(log_prob::LogProb),
    Validate(validate::Validate),
    Inspect(inspect::Inspect),
    Simulate(simulate::Simulate),
    Demo(demo::Demo),
}

impl Command {
    fn run(self, session: &Session) -> Result<Outcome, Stop> {
        match self {
            Self::Fit(fit) => fit.run(session),
            Self::Sample(sample) => sample.run(session),
            Self::LogProb(log_prob) => log_prob.run(session),
            Self::Validate(validate) => validate.run(session),
            Self::Inspect(inspect) => inspect.run(session),
            Self::Simulate(simulate) => simulate.run(session),
            Self::Demo(demo) => demo.run(session),
        }
    }
}

fn main() -> ExitCode {
    let Cli { command, common } = Cli::parse();
    let json = common.json;
    let outcome = Session::new(common).and_then(|session| command.run(&session));
    match outcome.and_then(|outcome| outcome.print(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.report(json),
    }
}
