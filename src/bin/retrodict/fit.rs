use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use retrodict::models::AnyFamily;
use retrodict::optim::{Adam, Schedule};
use retrodict::sbi::{AnyPosterior, Checkpoint, DatasetOptions, Holdout, Nle, NonFinite, Npe, Nre, PriorFile};
use retrodict::train::{Epoch, Training};
use retrodict::{Dataset, Error};
use serde_json::json;

use crate::files::{Overwrite, read, read_theta};
use crate::session::{Outcome, Session, Stop};

/// Train a posterior on simulations
///
/// Row i of x was simulated from row i of θ. Densities are learned on the prior's support, so no draw can leave it.
/// Training stops when the loss of the rows that are kept for validation no longer improves.
#[derive(Debug, Args)]
#[command(after_help = PRIOR_HELP)]
pub struct Fit {
    /// Parameters, a row for each simulation: .npy, .npz (array `theta`), .csv (columns are found by their names)
    #[arg(long, value_name = "TABLE")]
    pub theta: PathBuf,
    /// Observations, a row for each simulation: .npy, .npz (array `x`) or .csv
    #[arg(long, value_name = "TABLE")]
    pub x: PathBuf,
    /// The parameters' names and distributions; see below
    #[arg(long, value_name = "TOML")]
    pub prior: PathBuf,
    /// Where the trained posterior goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The density family
    #[arg(long, default_value = "nsf", value_parser = family, long_help = format!("The density family: {}", AnyFamily::NAMES.join(", ")))]
    pub family: AnyFamily,
    /// What is learned
    #[arg(long, default_value = "npe")]
    pub method: Method,
    /// Seed of the first weights, the order of rows, and which rows are kept for validation
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The most passes over the simulations
    #[arg(long, default_value_t = 300)]
    pub epochs: usize,
    /// Rows in one step
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    /// Learning rate of Adam [default: 5e-4 or what the family says]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Let the learning rate fall to zero along a cosine over all epochs
    #[arg(long)]
    pub cosine: bool,
    /// Epochs without improvement after which training stops
    #[arg(long, default_value_t = 20)]
    pub patience: usize,
    /// The part of the rows that is kept for validation
    #[arg(long, default_value_t = 0.1, value_name = "FRACTION")]
    pub holdout: f64,
    /// Leave out simulations that are not finite, instead of stopping at the first
    #[arg(long)]
    pub drop: bool,
    /// Go on with an interrupted training; it ends with the same weights as one that never was
    #[arg(long)]
    pub resume: bool,
    /// Where the training leaves its state after an epoch, for --resume [default: <OUT>.checkpoint]
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// At most one checkpoint in so many seconds; Ctrl-C always leaves one
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub checkpoint_every: u64,
    #[command(flatten)]
    pub overwrite: Overwrite,
}

const PRIOR_HELP: &str = "\
The prior is a text file with a table for each parameter, in the order of the columns of theta:

  [[parameter]]
  name = \"log_mass\"
  distribution = \"uniform\"      # low, high
  low = 8
  high = 12
  unit = \"dex\"                  # may be left out

  [[parameter]]
  name = \"dust\"
  distribution = \"truncated_normal\"
  mean = 0.3
  sd = 1
  low = 0
  high = 4

  [[parameter]]
  names = [\"t25\", \"t50\", \"t75\"]   # a block of parameters
  distribution = \"ordered_dirichlet\"
  concentrations = [1, 1, 1, 1]     # one for each name and one for what remains

Other distributions: log_uniform (low, high), normal and log_normal (mean, sd), dirichlet (as ordered_dirichlet).

Examples:
  retrodict fit --theta theta.npy --x x.npy --prior prior.toml --out posterior.safetensors
  retrodict fit --theta simulations.npz --x simulations.npz --prior prior.toml --family flow-matching \\
      --epochs 100 --seed 1 --out posterior.safetensors
  retrodict fit --theta theta.npy --x x.npy --prior prior.toml --out posterior.safetensors --resume";

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The posterior itself
    Npe,
    /// The likelihood, sampled together with the prior
    Nle,
    /// The ratio of likelihood and evidence, sampled together with the prior
    Nre,
}

fn family(name: &str) -> Result<AnyFamily, String> {
    name.parse().map_err(|why: Error| match why {
        Error::Parameter { why, .. } => why,
        other => other.to_string(),
    })
}

impl Fit {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        self.overwrite.check([&self.out])?;
        let prior = PriorFile::read(&self.prior)?;
        let data = self.data(&prior)?;
        let checkpoint = self.checkpoint()?;
        let posterior = self.train(session, &data, &prior, &checkpoint)?;
        if session.cancel.is_cancelled() {
            let path = checkpoint.path().display();
            return Err(Stop::Interrupted(format!("{path} has the state of the training; --resume goes on with it")));
        }
        posterior.save(&self.out)?;
        checkpoint.remove()?;
        let history = &posterior.origin().history;
        let best = history.best();
        let (epoch, loss) = best.map_or((0, f64::NAN), |best| (best.epoch, best.validation_loss));
        let text = format!(
            "{}: {} of {} parameters and {} features; {} epochs, the best is {epoch} with validation loss {loss:.4}",
            self.out.display(),
            self.family,
            prior.prior.dim(),
            data.features(),
            history.epochs.len(),
        );
        let json = json!({
            "posterior": self.out, "family": self.family.to_string(), "rows": data.rows(), "dropped": data.dropped(),
            "epochs": history.epochs.len(), "best_epoch": epoch, "validation_loss": loss,
        });
        Ok(Outcome::new(text, json))
    }

    /// The file that an interrupted training left, or none yet.
    fn checkpoint(&self) -> Result<Checkpoint, Stop> {
        let path = self.checkpoint.clone().unwrap_or_else(|| {
            let mut path = self.out.clone().into_os_string();
            path.push(".checkpoint");
            path.into()
        });
        let checkpoint = Checkpoint::new(path).every(Duration::from_secs(self.checkpoint_every));
        if !self.resume && checkpoint.path().exists() {
            let path = checkpoint.path().display();
            self.overwrite.check([&checkpoint.path().to_path_buf()]).map_err(|_| {
                Stop::Failure(format!("{path} is of an interrupted training; --resume goes on, --force begins anew"))
            })?;
            checkpoint.remove()?;
        }
        Ok(checkpoint)
    }

    fn data(&self, prior: &PriorFile) -> Result<Dataset, Stop> {
        let theta = read_theta(&self.theta, prior.prior.names())?;
        let x = read(&self.x, "x")?.values;
        let options = DatasetOptions {
            holdout: Holdout::Random(self.holdout, self.seed),
            non_finite: if self.drop { NonFinite::Drop } else { NonFinite::Error },
        };
        Dataset::new(prior.prior.support(), theta.view(), x.view(), options).map_err(|why| match why {
            Error::NonFinite { .. } => Stop::Failure(format!("{why}; --drop leaves such rows out")),
            other => other.into(),
        })
    }

    fn training(&self) -> Training {
        let adam = Adam::default();
        Training {
            batch: self.batch,
            max_epochs: self.epochs,
            patience: self.patience,
            schedule: if self.cosine { Schedule::Cosine { warmup: 0.05, floor: 0.0 } } else { Schedule::Constant },
            adam: self.learning_rate.map_or(adam.clone(), |learning_rate| Adam { learning_rate, ..adam }),
            seed: self.seed,
        }
    }

    fn train(
        &self,
        session: &Session,
        data: &Dataset,
        prior: &PriorFile,
        checkpoint: &Checkpoint,
    ) -> Result<AnyPosterior, Stop> {
        let (training, seed, device) = (self.training(), self.seed, &session.device);
        let bar = Bar::new(self.epochs);
        let on_epoch = |epoch: &Epoch| {
            bar.show(epoch);
            if session.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        Ok(match self.method {
            Method::Npe => {
                let estimator = Npe { family: self.family.clone(), training, seed };
                estimator.fit_resumable(device, data, checkpoint, on_epoch)?.0.with_prior(&prior.prior)?
            }
            Method::Nle => {
                let estimator = Nle { training, seed, ..Nle::new(self.family.clone()) };
                estimator.fit_resumable(device, data, &prior.prior, checkpoint, on_epoch)?.0.into_any()
            }
            Method::Nre => {
                let estimator = Nre { training, seed, ..Nre::default() };
                estimator.fit_resumable(device, data, &prior.prior, checkpoint, on_epoch)?.0.into_any()
            }
        })
    }
}

/// How far the training is; nothing where standard error is not a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(epochs: usize) -> Self {
        let bar = ProgressBar::new(epochs as u64);
        let style = ProgressStyle::with_template("fit {wide_bar} epoch {pos}/{len}, {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn show(&self, epoch: &Epoch) {
        self.0.set_position(epoch.epoch as u64);
        self.0.set_message(format!("validation loss {:.4}", epoch.validation_loss));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
