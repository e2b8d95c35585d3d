//! Training that can be interrupted (feature `weights`).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::files::weights::{Kind, Tensor, decode, encode};
use crate::real::Real;
use crate::sbi::{Dataset, Estimator};
use crate::train::{Checkpoints, History, Snapshot};

const KIND: Kind = Kind { name: "checkpoint", version: 1 };

/// A file in which a training leaves where it stands after an epoch, so that it can be taken up again after Ctrl-C, a
/// crash or a loss of power.
///
/// The file is replaced as a whole, so it is at no moment unreadable. It is left behind when the training ends: remove
/// it when the posterior is saved.
///
/// ```no_run
/// # fn run(data: retrodict::Dataset) -> Result<(), retrodict::Error> {
/// use retrodict::{Device, Npe, models::SplineFlow, sbi::Checkpoint};
/// use std::{ops::ControlFlow, time::Duration};
///
/// let checkpoint = Checkpoint::new("fit.checkpoint").every(Duration::from_secs(300));
/// let estimator = Npe::new(SplineFlow::default());
/// let (posterior, _) =
///     estimator.fit_resumable(&Device::cpu(), &data, &checkpoint, |_| ControlFlow::Continue(()))?;
/// posterior.save("posterior.safetensors")?;
/// checkpoint.remove()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
    every: Duration,
}

impl Checkpoint {
    /// In this file, at most every 30 seconds.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), every: Duration::from_secs(30) }
    }

    /// The same, at most this often: after each epoch if it is zero. The last epoch is always kept.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be removed.
    pub fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(Error::file(&self.path, why)),
            _ => Ok(()),
        }
    }

    /// The checkpoints of this training and no other.
    pub(super) fn of<T: Real>(&self, estimator: Option<Estimator>, data: &Dataset<T>) -> Result<Kept<'_>, Error> {
        let Some(estimator) = estimator else {
            return Err(Error::parameter("family", "is not one of this library's; a checkpoint could not name it"));
        };
        let training = json!({
            "retrodict": env!("CARGO_PKG_VERSION"),
            "precision": T::SIGNIFICAND_BITS,
            "estimator": estimator,
            "data": data.summary(),
        });
        Ok(Kept { checkpoint: self, training, written: Cell::new(Instant::now()) })
    }
}

/// The checkpoints of one training.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    checkpoint: &'a Checkpoint,
    /// All on which its result depends.
    training: Value,
    written: Cell<Instant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    training: Value,
    steps: Vec<u64>,
    numbers: Vec<f64>,
    history: History,
}

impl<T: Real> Checkpoints<T> for Kept<'_> {
    fn restore(&self, snapshot: &mut Snapshot<'_, T>) -> Result<(), Error> {
        let path = &self.checkpoint.path;
        let file = match std::fs::read(path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(|why| Error::file(path, why))?,
        };
        let (header, tensors) = decode::<T, Header>(&KIND, &file).map_err(|why| Error::file(path, why))?;
        if let Some(difference) = difference("", &header.training, &self.training) {
            let why = format!("belongs to another training: {difference}; remove it to start anew");
            return Err(Error::file(path, why));
        }
        fill(snapshot, header, &tensors).ok_or_else(|| Error::file(path, "does not fit this training"))
    }

    fn keep(&self, snapshot: &Snapshot<'_, T>, last: bool) -> Result<(), Error> {
        if !last && self.written.get().elapsed() < self.checkpoint.every {
            return Ok(());
        }
        let header = Header {
            training: self.training.clone(),
            steps: snapshot.steps.iter().map(|steps| **steps).collect(),
            numbers: snapshot.numbers.iter().map(|number| **number).collect(),
            history: snapshot.history.clone(),
        };
        let vectors = snapshot.vectors.iter().map(|(name, values)| Tensor {
            name: (*name).into(),
            shape: [1, values.len()],
            values: (&**values).into(),
        });
        let vectors: Vec<_> = vectors.collect();
        let path = &self.checkpoint.path;
        crate::files::write(path, encode(&KIND, &header, &vectors).map_err(|why| Error::file(path, why))?)?;
        self.written.set(Instant::now());
        Ok(())
    }
}

/// Fills the snapshot with what was kept; none if it has other parts.
fn fill<T: Real>(snapshot: &mut Snapshot<'_, T>, header: Header, tensors: &[Tensor<'_, T>]) -> Option<()> {
    let fits = snapshot.steps.len() == header.steps.len() && snapshot.numbers.len() == header.numbers.len();
    fits.then_some(())?;
    for (name, values) in &mut snapshot.vectors {
        let kept = tensors.iter().find(|t| t.name == *name && t.values.len() == values.len())?;
        values.copy_from_slice(&kept.values);
    }
    snapshot.steps.iter_mut().zip(header.steps).for_each(|(steps, kept)| **steps = kept);
    snapshot.numbers.iter_mut().zip(header.numbers).for_each(|(number, kept)| **number = kept);
    *snapshot.history = header.history;
    Some(())
}

/// The first place in which two descriptions differ, in words.
fn difference(place: &str, kept: &Value, now: &Value) -> Option<String> {
    let (Value::Object(a), Value::Object(b)) = (kept, now) else {
        return (kept != now).then(|| format!("{place} was {} and is now {}", short(kept), short(now)));
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    keys.into_iter().find_map(|key| {
        let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        difference(&inner, &kept[key], &now[key])
    })
}

/// A value, or its beginning.
fn short(value: &Value) -> String {
    const MOST: usize = 40;
    let whole = value.to_string();
    if whole.chars().count() <= MOST { whole } else { whole.chars().take(MOST).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let a = json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"});
        assert_eq!(difference("", &a, &a), None);
        let b = json!({"a": {"b": 1, "c": [1, 3]}, "d": "x"});
        assert_eq!(difference("", &a, &b).unwrap(), "a.c was [1,2] and is now [1,3]");
        assert_eq!(difference("", &a, &json!({"a": a["a"]})).unwrap(), "d was \"x\" and is now null");
        let (gan, vae) =
            (json!({"f": {"gan": {"of": "many, many, many settings with names"}}}), json!({"f": {"vae": 1}}));
        let message = difference("", &gan, &vae).unwrap();
        assert!(message.starts_with("f.gan was {") && message.ends_with("… and is now null"), "{message}");
    }
}
