//! How a posterior came to be: what its file tells beside the weights.

use crate::models::AnyFamily;
use crate::sbi::{Nle, Npe, Nre, Prior};
use crate::train::History;

/// An estimator with all its settings.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Estimator {
    /// Neural posterior estimation.
    Npe(Npe<AnyFamily>),
    /// Neural likelihood estimation.
    Nle(Nle<AnyFamily>),
    /// Neural ratio estimation.
    Nre(Nre),
}

/// How a posterior came to be.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Origin {
    /// What was trained; none if its family is not one of this library's.
    pub estimator: Option<Estimator>,
    /// The prior of the simulations, if it is known.
    pub prior: Option<Prior>,
    /// What it was trained on.
    pub data: DataSummary,
    /// The training, first to last epoch.
    pub history: History,
}

/// What is known of a data set after the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct DataSummary {
    /// Rows, for training and validation together.
    pub rows: usize,
    /// Rows that were left out because they were not finite.
    pub dropped: usize,
    /// [`Dataset::hash`](crate::Dataset::hash) of it.
    pub hash: u64,
}
