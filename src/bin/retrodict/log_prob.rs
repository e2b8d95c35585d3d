use std::path::PathBuf;

use clap::Args;
use retrodict::files::{CsvWriter, NpyWriter, Replacement};
use retrodict::ndarray::{Array1, Array2, Axis};
use retrodict::sbi::AnyPosterior;
use serde_json::json;

use crate::files::{Overwrite, StandardOutput, columns_of, is_standard, open};
use crate::sample::at_row;
use crate::session::{Outcome, Session, Stop};

/// Evaluate log q(θ | x) in nats, row by row
///
/// Row i of θ with row i of x, or all rows of θ with the one observation there is. Outside the prior's support the
/// density is zero and its logarithm -inf.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict log-prob posterior.safetensors --theta theta.npy --x x.npy --out log_prob.npy
  retrodict log-prob posterior.safetensors --theta grid.csv --x observed.npy")]
pub struct LogProb {
    /// The trained posterior
    #[arg(value_name = "POSTERIOR")]
    posterior: PathBuf,
    /// Parameters, a row each: .npy, .npz (array `theta`) or .csv (columns are found by their names)
    #[arg(long, value_name = "TABLE")]
    theta: PathBuf,
    /// Observations: as many rows, or one
    #[arg(long, value_name = "TABLE")]
    x: PathBuf,
    /// Where the densities go: .npy or .csv [default: CSV on standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// Rows that are read at once: what bounds the memory.
const AT_ONCE: usize = 1 << 14;

impl LogProb {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        self.overwrite.check(&self.out)?;
        let to_standard = is_standard(self.out.as_ref());
        if to_standard && session.json {
            return Err(Stop::Usage("--json and densities on standard output; --out names a file for them".into()));
        }
        let posterior = AnyPosterior::<f32>::load(&session.device, &self.posterior)?.with_cancel(&session.cancel);
        let mut sink = Sink::create(if to_standard { None } else { self.out.as_ref() })?;
        let rows = self.stream(&posterior, &mut sink, session)?;
        sink.finish()?;
        let text = format!("{rows} densities");
        Ok(Outcome { text, json: json!({ "rows": rows }), beside_a_table: to_standard })
    }

    fn stream(&self, posterior: &AnyPosterior<f32>, sink: &mut Sink, session: &Session) -> Result<usize, Stop> {
        let (mut theta, mut x) = (open(&self.theta, "theta")?, open(&self.x, "x")?);
        let places = columns_of(&self.theta, theta.names(), posterior.support().names())?;
        let mut observed = x.next_rows(AT_ONCE)?;
        let only_one = observed.nrows() == 1;
        let mut first = 0;
        loop {
            if session.cancel.is_cancelled() {
                return Err(Stop::Interrupted(format!("after {first} rows")));
            }
            let block = theta.next_rows(AT_ONCE)?;
            if block.nrows() == 0 && (only_one || observed.nrows() == 0) {
                return Ok(first);
            }
            let block = places.as_ref().map_or(block.clone(), |places| block.select(Axis(1), places));
            let log_q = match only_one {
                true => posterior.log_prob(block.view(), observed.row(0)),
                false => posterior.log_prob_many(block.view(), observed.view()),
            };
            sink.push(first, log_q.map_err(|error| at_row(error, first))?)?;
            first += block.nrows();
            if !only_one {
                observed = x.next_rows(AT_ONCE)?;
            }
        }
    }
}

enum Sink {
    Npy(NpyWriter),
    Csv(CsvWriter<Replacement>),
    Text(CsvWriter<StandardOutput>),
}

impl Sink {
    fn create(out: Option<&PathBuf>) -> Result<Self, Stop> {
        let names = ["row", "log_prob"];
        Ok(match out {
            None => Self::Text(CsvWriter::new("standard output", StandardOutput::default(), &names)?),
            Some(out) if out.extension().is_some_and(|extension| extension == "npy") => {
                Self::Npy(NpyWriter::create(out, &[])?)
            }
            Some(out) if out.extension().is_some_and(|extension| extension == "csv") => {
                Self::Csv(CsvWriter::create(out, &names)?)
            }
            Some(out) => {
                return Err(Stop::Usage(format!("{}: expected the extension .npy or .csv", out.display())));
            }
        })
    }

    fn push(&mut self, first: usize, log_q: Array1<f64>) -> Result<(), Stop> {
        let column: Array2<f64> = log_q.insert_axis(Axis(1));
        let mut rows = column.rows().into_iter().enumerate();
        match self {
            Self::Npy(npy) => npy.push(column.view()),
            Self::Csv(csv) => rows.try_for_each(|(i, row)| csv.push(&[first + i], row)),
            Self::Text(csv) => rows.try_for_each(|(i, row)| csv.push(&[first + i], row)),
        }?;
        Ok(())
    }

    fn finish(self) -> Result<(), Stop> {
        match self {
            Self::Npy(npy) => npy.finish(),
            Self::Csv(csv) => csv.finish(),
            Self::Text(mut csv) => csv.flush(),
        }?;
        Ok(())
    }
}
