//! Simulation-based inference: prior -> simulate -> data set -> estimator -> posterior.

mod dataset;
mod density;
#[cfg(feature = "external")]
mod external;
mod npe;
mod posterior;
pub mod prior;
#[cfg(feature = "toml")]
mod prior_file;
mod scalar;
mod shares;
mod simulate;
mod standardise;
pub mod support;
mod unnormalised;

pub use dataset::{Dataset, DatasetOptions, Holdout, NonFinite};
pub use density::Learned;
#[cfg(feature = "external")]
pub use external::{Exchange, External, ExternalRun, Failure};
pub use npe::Npe;
pub use posterior::Posterior;
pub use prior::Prior;
#[cfg(feature = "toml")]
pub use prior_file::PriorFile;
pub use simulate::{Simulations, simulate, simulate_joint};
pub(crate) use standardise::Standardise;
pub use support::Support;
pub use unnormalised::{LikelihoodModel, Nle, Nre, RatioModel};
