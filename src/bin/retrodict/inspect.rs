use std::path::PathBuf;

use clap::Args;
use retrodict::sbi::{AnyPosterior, Origin};
use serde_json::{Value, json};

use crate::session::{Outcome, Session, Stop};

/// Show what a posterior file holds
///
/// Its parameters and their support, the prior, the estimator with all settings and seeds, the data it was trained on,
/// and how the training went.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict inspect posterior.safetensors
  retrodict inspect posterior.safetensors --json | jq .estimator")]
pub struct Inspect {
    /// The trained posterior
    #[arg(value_name = "POSTERIOR")]
    posterior: PathBuf,
}

impl Inspect {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        let posterior = AnyPosterior::<f32>::load(&session.device, &self.posterior)?;
        let origin = serde_json::to_value(posterior.origin()).map_err(|why| Stop::Failure(why.to_string()))?;
        let best = posterior.origin().history.best().map(|best| best.epoch);
        let mut json = json!({
            "parameters": posterior.support().names(), "support": posterior.support().describe(),
            "features": posterior.features(), "weights": posterior.weights().len(), "best_epoch": best,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut json, origin) {
            all.extend(more);
        }
        Ok(Outcome::new(text(&posterior), json))
    }
}

/// Name and value of everything, in lines.
pub fn text(posterior: &AnyPosterior<f32>) -> String {
    let pairs = pairs(posterior);
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// What there is to tell of a posterior.
pub fn pairs(posterior: &AnyPosterior<f32>) -> Vec<(String, String)> {
    let Origin { estimator, data, history, .. } = posterior.origin();
    let mut pairs: Vec<(String, String)> = [
        ("support", posterior.support().describe()),
        ("features of an observation", posterior.features().to_string()),
        ("weights", posterior.weights().len().to_string()),
        ("simulations", data.rows.to_string()),
        ("left out, not finite", data.dropped.to_string()),
        ("hash of the data", format!("{:016x}", data.hash)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec();
    if let (Some(best), Some(last)) = (history.best(), history.epochs.last()) {
        pairs.push(("epochs".into(), format!("{}, the best is {}", last.epoch, best.epoch)));
        pairs.push(("validation loss".into(), format!("{:.4}", best.validation_loss)));
        pairs.push(("training time".into(), format!("{:.1} s", last.seconds)));
    }
    settings("", &serde_json::to_value(estimator).unwrap_or_default(), &mut pairs);
    pairs
}

/// The leaves of a tree of settings, named by their path.
fn settings(path: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                settings(&path, value, pairs);
            }
        }
        Value::Null => {}
        Value::String(text) => pairs.push((path.into(), text.clone())),
        other => pairs.push((path.into(), other.to_string())),
    }
}
