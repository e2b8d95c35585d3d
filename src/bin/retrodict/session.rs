//! What all subcommands share: settings, the switch of Ctrl-C, results, and how a run ends.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use retrodict::progress::Cancel;
use retrodict::{Device, Error};
use serde_json::{Value, json};

use crate::files::StandardOutput;

#[derive(Debug, Args)]
pub struct Common {
    /// Print the result, or the error, as one JSON object on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Threads to use; results do not depend on the number [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

/// Where a run runs, and the switch that stops it.
pub struct Session {
    pub device: Device,
    pub cancel: Cancel,
    pub json: bool,
}

impl Session {
    /// From the first Ctrl-C on the switch is set; a second one ends the program at once.
    pub fn new(common: Common) -> Result<Self, Stop> {
        let cancel = Cancel::default();
        let switch = cancel.clone();
        let handler = move || {
            if switch.is_cancelled() {
                std::process::exit(i32::from(INTERRUPTED));
            }
            switch.cancel();
        };
        ctrlc::set_handler(handler).map_err(|why| Stop::Usage(format!("no handler for Ctrl-C: {why}")))?;
        let device = common.threads.map_or_else(Device::cpu, Device::cpu_with_threads);
        Ok(Self { device, cancel, json: common.json })
    }
}

/// What a subcommand has to say at its end: for people and for machines.
pub struct Outcome {
    pub text: String,
    pub json: Value,
    /// Whether standard output already has a table, so that the text belongs elsewhere.
    pub beside_a_table: bool,
}

impl Outcome {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, beside_a_table: false }
    }

    pub fn print(&self, json: bool) -> Result<(), Stop> {
        if self.beside_a_table {
            eprintln!("{}", self.text);
            return Ok(());
        }
        let mut out = StandardOutput::default();
        let written = if json { writeln!(out, "{:#}", self.json) } else { writeln!(out, "{}", self.text) };
        written.and_then(|()| out.flush()).map_err(|why| Stop::Failure(why.to_string()))
    }
}

/// Why a run ended early.
#[derive(Debug)]
pub enum Stop {
    /// Something went wrong.
    Failure(String),
    /// The command line asks for what cannot be.
    Usage(String),
    /// Ctrl-C, and what is left of the run.
    Interrupted(String),
}

const FAILED: u8 = 1;
const MISUSED: u8 = 2;
const INTERRUPTED: u8 = 130;

impl Stop {
    pub fn report(&self, json: bool) -> ExitCode {
        let (kind, code, text) = match self {
            Self::Failure(text) => ("error", FAILED, text),
            Self::Usage(text) => ("usage", MISUSED, text),
            Self::Interrupted(text) => ("interrupted", INTERRUPTED, text),
        };
        if json {
            let _ = writeln!(StandardOutput::default(), "{:#}", json!({ kind: text })); // the exit code says it too
        }
        eprintln!("{kind}: {text}");
        ExitCode::from(code)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled { .. } => Self::Interrupted(error.to_string()),
            _ => Self::Failure(error.to_string()),
        }
    }
}
