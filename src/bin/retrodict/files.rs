//! Tables and outputs as the command line names them.

use std::io::{ErrorKind, Result as IoResult, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use retrodict::Error;
use retrodict::files::{CsvReader, Table, TableReader};
use retrodict::ndarray::{Array2, Axis};

use crate::session::Stop;

/// Standard input, or standard output.
const DASH: &str = "-";

/// Whether an older file may be replaced.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Overwrite {
    /// Replace output files that exist already
    #[arg(long)]
    force: bool,
}

impl Overwrite {
    /// Stops before the work if one of its files stands there already.
    pub fn check<'a>(self, outputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Stop> {
        match outputs.into_iter().find(|path| path.is_file()) {
            Some(path) if !self.force => {
                Err(Stop::Failure(format!("{} exists already; --force replaces it", path.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Opens a table in blocks; `-` is CSV on standard input, and `array` the name to look for in an .npz archive.
pub fn open(path: &Path, array: &str) -> Result<TableReader, Error> {
    if path.as_os_str() == DASH {
        return CsvReader::new("standard input", std::io::stdin()).map(TableReader::from);
    }
    TableReader::open(path, array)
}

/// A whole table.
pub fn read(path: &Path, array: &str) -> Result<Table, Error> {
    open(path, array)?.rest()
}

/// Where the wanted columns of θ stand in a table: by their names if it has some, otherwise as they are.
pub fn columns_of(path: &Path, found: Option<&[String]>, wanted: &[String]) -> Result<Option<Vec<usize>>, Stop> {
    let Some(found) = found else { return Ok(None) };
    let place = |name| {
        let absent = || format!("{}: no column `{name}` among {}", path.display(), found.join(", "));
        found.iter().position(|other| other == name).ok_or_else(|| Stop::Failure(absent()))
    };
    wanted.iter().map(place).collect::<Result<_, _>>().map(Some)
}

/// θ as a whole table with the columns of these names.
pub fn read_theta(path: &Path, wanted: &[String]) -> Result<Array2<f64>, Stop> {
    let table = open(path, "theta")?;
    let places = columns_of(path, table.names(), wanted)?;
    let values = table.rest()?.values;
    Ok(match places {
        Some(places) => values.select(Axis(1), &places),
        None => values,
    })
}

/// The output that is meant if none is given, or `-`.
pub fn is_standard(out: Option<&PathBuf>) -> bool {
    out.is_none_or(|out| out.as_os_str() == DASH)
}

/// Standard output that ends the program quietly once nobody reads on, as `head` does.
#[derive(Debug)]
pub struct StandardOutput(std::io::BufWriter<std::io::Stdout>);

impl Default for StandardOutput {
    fn default() -> Self {
        Self(std::io::BufWriter::new(std::io::stdout()))
    }
}

fn unless_closed<T>(result: IoResult<T>) -> IoResult<T> {
    if result.as_ref().is_err_and(|why| why.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    result
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        unless_closed(self.0.write(bytes))
    }

    fn flush(&mut self) -> IoResult<()> {
        unless_closed(self.0.flush())
    }
}
