//! Simulation-based inference: prior -> simulate -> data set -> estimator -> posterior.

#[cfg(feature = "weights")]
mod checkpoint;
mod dataset;
mod density;
#[cfg(feature = "external")]
mod external;
mod learned_prior;
mod nle;
mod npe;
mod nre;
mod origin;
mod posterior;
#[cfg(feature = "weights")]
mod posterior_file;
pub mod prior;
#[cfg(feature = "toml")]
mod prior_file;
mod scalar;
mod shares;
mod simulate;
mod standardise;
pub mod support;

#[cfg(feature = "weights")]
pub use checkpoint::Checkpoint;
pub use dataset::{Dataset, DatasetOptions, Holdout, NonFinite, Scales};
pub use density::Learned;
#[cfg(feature = "external")]
pub use external::{Exchange, External, ExternalRun, Failure};
pub use nle::{LikelihoodModel, Nle};
pub use npe::Npe;
pub use nre::{Nre, RatioModel};
pub use origin::{DataSummary, Estimator, Origin};
pub use posterior::{AnyPosterior, Posterior};
#[cfg(feature = "weights")]
pub use posterior_file::Loadable;
pub use prior::Prior;
#[cfg(feature = "toml")]
pub use prior_file::PriorFile;
pub use simulate::{Simulations, simulate, simulate_joint};
pub(crate) use standardise::Standardise;
pub use support::Support;
