use std::path::PathBuf;

use clap::Args;
use retrodict::Error;
use retrodict::files::{DrawsWriter, TableReader};
use retrodict::ndarray::ArrayView2;
use retrodict::sbi::AnyPosterior;
use serde_json::json;

use crate::files::{Overwrite, StandardOutput, is_standard, open};
use crate::session::{Outcome, Session, Stop};

/// Draw from the posterior of each observation
///
/// Any number of observations passes through in bounded memory. The draws for one depend on the seed and on its own
/// numbers alone. An .npz file has an array for each parameter, as ArviZ reads it: [1 x draws], or
/// [1 x draws x observations]; an .npy file is [observations x draws x parameters]; .csv has a line for each draw.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict sample posterior.safetensors --x observed.npy --out draws.npz
  retrodict sample posterior.safetensors --x observed.csv --draws 5 | head
  cat observed.csv | retrodict sample posterior.safetensors --x - --out draws.npy

In Python:
  posterior = arviz.from_dict(posterior=dict(numpy.load(\"draws.npz\")))
  corner.corner(posterior)")]
pub struct Sample {
    /// The trained posterior
    #[arg(value_name = "POSTERIOR")]
    posterior: PathBuf,
    /// Observations, a row each: .npy, .npz (array `x`), .csv, or - for CSV on standard input
    #[arg(long, value_name = "TABLE")]
    x: PathBuf,
    /// Draws for each observation
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the draws go: .npy, .npz or .csv [default: CSV on standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// Draws that are made at once: what bounds the memory.
const AT_ONCE: usize = 1 << 16;

impl Sample {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        self.overwrite.check(&self.out)?;
        let to_standard = is_standard(self.out.as_ref());
        if to_standard && session.json {
            return Err(Stop::Usage("--json and draws on standard output; --out names a file for the draws".into()));
        }
        let posterior = AnyPosterior::<f32>::load(&session.device, &self.posterior)?.with_cancel(&session.cancel);
        let mut x = open(&self.x, "x")?;
        let (names, draws) = (posterior.support().names(), self.draws as usize);
        let mut writer = match &self.out {
            Some(out) if !to_standard => DrawsWriter::create(out, names, draws)?,
            _ => DrawsWriter::text("standard output", StandardOutput::default(), names, draws)?,
        };
        let observations = stream(&posterior, &mut x, draws, self.seed, &mut writer)?;
        writer.finish()?;
        let text = format!("{observations} observations, {draws} draws of {} parameters each", names.len());
        let json = json!({ "observations": observations, "draws": draws, "parameters": names });
        Ok(Outcome { text, json, beside_a_table: to_standard })
    }
}

/// Block after block of observations; how many there were.
fn stream(
    posterior: &AnyPosterior<f32>,
    x: &mut TableReader,
    draws: usize,
    seed: u64,
    writer: &mut DrawsWriter,
) -> Result<usize, Stop> {
    let mut first = 0;
    loop {
        let block = x.next_rows((AT_ONCE / draws).max(1))?;
        if block.nrows() == 0 {
            return Ok(first);
        }
        let mut written = Ok(());
        let each = |_: usize, draws: ArrayView2<'_, f64>| {
            if written.is_ok() {
                written = writer.push(draws);
            }
        };
        posterior.sample_each(block.view(), draws, seed, each).map_err(|error| at_row(error, first))?;
        written?;
        first += block.nrows();
    }
}

/// The error with the row of the whole table instead of the block's.
pub fn at_row(error: Error, first: usize) -> Error {
    match error {
        Error::NonFinite { what, row, column } => Error::NonFinite { what, row: first + row, column },
        other => other,
    }
}
