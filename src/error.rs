//! One error type. Every message names what was wrong, where, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::ArrayView2;

/// What can go wrong in this library.
///
/// The enum is non-exhaustive: match the variants you can act on and print the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes that do not fit together, found while a graph is recorded or a plan is fed.
    Shape {
        /// The operation that was given the shapes.
        op: &'static str,
        /// Which shapes they were and which would fit.
        why: String,
    },
    /// A named parameter (of a prior, a network, an optimiser) has a value it cannot have.
    Parameter {
        /// The parameter's name.
        name: String,
        /// Its value and the values it may take.
        why: String,
    },
    /// A table has the wrong number of rows or columns.
    Length {
        /// The table and its axis, for example `"x columns"`.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A value is NaN or infinite where only finite numbers have a meaning.
    NonFinite {
        /// The table it stands in.
        what: &'static str,
        /// Its row, counted from zero.
        row: usize,
        /// Its column, counted from zero.
        column: usize,
    },
    /// A value lies outside the support it was declared to have.
    OutsideSupport {
        /// The parameter's name.
        name: String,
        /// The row, counted from zero.
        row: usize,
        /// The value and the support.
        why: String,
    },
    /// Training could not go on.
    Training {
        /// The epoch, counted from one.
        epoch: usize,
        /// What happened and what may help.
        why: String,
    },
    /// Sampling could not go on.
    Sampling {
        /// The step of the sampler, counted from one.
        step: usize,
        /// The chain (the row of the batch), counted from zero.
        chain: usize,
        /// What happened and what may help.
        why: String,
    },
    /// Long work was stopped by its [`Cancel`](crate::progress::Cancel).
    Cancelled {
        /// The steps that were done.
        step: usize,
        /// Of how many.
        steps: usize,
    },
    /// There is no such device.
    NoDevice {
        /// What was looked for and what was found.
        why: String,
    },
    /// A device failed.
    Device {
        /// What it was to do.
        what: &'static str,
        /// What its driver said.
        why: String,
    },
    /// A file could not be read, written or understood.
    File {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl Error {
    pub(crate) fn shape(op: &'static str, why: impl Into<String>) -> Self {
        Self::Shape { op, why: why.into() }
    }

    pub(crate) fn parameter(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Parameter { name: name.into(), why: why.into() }
    }

    pub(crate) fn file(path: &Path, why: impl fmt::Display) -> Self {
        Self::File { path: path.to_path_buf(), why: why.to_string() }
    }
}

/// `Ok` if a table's axis has the length it should have.
pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// `Ok` if every number of a table is finite; names the first that is not.
pub(crate) fn check_finite(what: &'static str, table: ArrayView2<'_, f64>) -> Result<(), Error> {
    match table.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), _)) => Err(Error::NonFinite { what, row, column }),
        None => Ok(()),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { op, why } => write!(f, "{op}: {why}"),
            Self::Parameter { name, why } => write!(f, "parameter `{name}`: {why}"),
            Self::Length { what, expected, found } => {
                write!(f, "{what}: expected {expected}, found {found}")
            }
            Self::NonFinite { what, row, column } => {
                write!(f, "{what}: row {row}, column {column} is not finite")
            }
            Self::OutsideSupport { name, row, why } => {
                write!(f, "parameter `{name}`, row {row}: {why}")
            }
            Self::Training { epoch, why } => write!(f, "training, epoch {epoch}: {why}"),
            Self::Sampling { step, chain, why } => write!(f, "sampling, step {step}, chain {chain}: {why}"),
            Self::Cancelled { step, steps } => write!(f, "cancelled after {step} of {steps} steps"),
            Self::NoDevice { why } => write!(f, "no device: {why}"),
            Self::Device { what, why } => write!(f, "the device failed to {what}: {why}"),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Error {}
