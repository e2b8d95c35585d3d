//! An interrupted training ends as if it never had been, bit for bit.
#![cfg(feature = "weights")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ndarray::Array2;
use rand::RngExt;
use retrodict::models::{AnyFamily, EnergyBased, RealNvp};
use retrodict::ndarray;
use retrodict::optim::{Adam, Schedule};
use retrodict::rng::Philox;
use retrodict::sbi::{AnyPosterior, Checkpoint, Nle, Nre};
use retrodict::train::{Epoch, History, Training};
use retrodict::{Dataset, Device, Error, Npe, Posterior, Prior, Real, Support};

/// Set for the process that trains and is killed: the family's name.
const FAMILY: &str = "RETRODICT_TEST_FAMILY";

fn data(rows: usize, shift: f64) -> Dataset {
    let theta = Array2::from_shape_fn((rows, 2), |(i, j)| ((i * (7 + 4 * j)) % 31) as f64 / 31.0 - 0.5);
    let x = Array2::from_shape_fn((rows, 3), |(i, j)| theta[(i, j % 2)] + shift + ((i * 13) % 17) as f64 / 50.0);
    let support = Support::new().real("a").interval("b", -1.0, 1.0).build().unwrap();
    Dataset::new(&support, theta.view(), x.view(), Default::default()).unwrap()
}

fn training(max_epochs: usize) -> Training {
    let schedule = Schedule::Cosine { warmup: 0.2, floor: 0.01 };
    Training { max_epochs, batch: 37, adam: Adam::new(3e-3), schedule, seed: 4, ..Training::default() }
}

/// A quick variant of a family.
fn small(name: &str) -> AnyFamily {
    match name.parse().unwrap() {
        AnyFamily::RealNvp(family) => AnyFamily::RealNvp(RealNvp { layers: 2, hidden: vec![8], ..family }),
        AnyFamily::EnergyBased(family) => AnyFamily::EnergyBased(EnergyBased { hidden: vec![8], ..family }),
        AnyFamily::Diffusion(mut family) => {
            (family.network.hidden, family.network.blocks) = (8, 1);
            AnyFamily::Diffusion(family)
        }
        AnyFamily::Ncsn(mut family) => {
            (family.network.hidden, family.network.blocks) = (8, 1);
            AnyFamily::Ncsn(family)
        }
        other => other,
    }
}

fn estimator(name: &str, epochs: usize) -> Npe<AnyFamily> {
    Npe { training: training(epochs), seed: 3, ..Npe::new(small(name)) }
}

fn device() -> Device {
    Device::cpu_with_threads(1)
}

/// A file of its own for each test.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("retrodict-checkpoint-{name}-{}", std::process::id()))
}

fn after_each_epoch(path: &Path) -> Checkpoint {
    Checkpoint::new(path).every(Duration::ZERO)
}

fn keep_on(_: &Epoch) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn until(last: usize) -> impl FnMut(&Epoch) -> ControlFlow<()> {
    move |row| if row.epoch == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// A history but for the time that it took.
fn timeless(history: &History) -> Vec<Epoch> {
    history.epochs.iter().map(|row| Epoch { seconds: 0.0, ..*row }).collect()
}

fn assert_same<T: Real, M: ?Sized + retrodict::models::Generative<T>>(
    whole: &(Posterior<T, M>, History),
    pieces: &(Posterior<T, M>, History),
    name: &str,
) {
    assert_eq!(timeless(&whole.1), timeless(&pieces.1), "{name}");
    let bits = |p: &Posterior<T, M>| p.weights().iter().map(|w| w.to_f64().to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&whole.0), bits(&pieces.0), "{name}");
}

#[test]
fn every_family_goes_on_where_it_was_broken_off() {
    let (path, data) = (path("family"), data(150, 0.0));
    let checkpoint = after_each_epoch(&path);
    for name in AnyFamily::NAMES {
        let estimator = estimator(name, 5);
        let whole = estimator.fit(&device(), &data).unwrap();
        for last in [1, 3, 4] {
            let (_, history) = estimator.fit_resumable(&device(), &data, &checkpoint, until(last)).unwrap();
            assert_eq!(history.epochs.len(), last, "{name}");
        }
        let pieces = estimator.fit_resumable(&Device::cpu_with_threads(2), &data, &checkpoint, keep_on).unwrap();
        assert_same(&whole, &pieces, name);
        // What is finished stays finished.
        let again = estimator.fit_resumable(&device(), &data, &checkpoint, |_| panic!("no epoch is left")).unwrap();
        assert_same(&whole, &again, name);
        checkpoint.remove().unwrap();
    }
    assert!(!path.exists() && checkpoint.remove().is_ok());
}

#[test]
fn likelihoods_and_ratios_go_on_too() {
    let (path, data) = (path("nle"), data(150, 0.0));
    let prior = Prior::new().normal("a", 0.0, 1.0).uniform("b", -1.0, 1.0).build().unwrap();
    let checkpoint = after_each_epoch(&path);
    let nle = Nle { training: training(4), ..Nle::new(small("realnvp")) };
    let whole = nle.fit(&device(), &data, &prior).unwrap();
    nle.fit_resumable(&device(), &data, &prior, &checkpoint, until(2)).unwrap();
    assert_same(&whole, &nle.fit_resumable(&device(), &data, &prior, &checkpoint, keep_on).unwrap(), "nle");
    let nre = Nre { training: training(4), hidden: vec![8], ..Nre::default() };
    let other = nre.fit_resumable(&device(), &data, &prior, &checkpoint, keep_on).unwrap_err().to_string();
    assert!(other.contains("another training: estimator.nle"), "{other}");
    checkpoint.remove().unwrap();
    let whole = nre.fit(&device(), &data, &prior).unwrap();
    nre.fit_resumable(&device(), &data, &prior, &checkpoint, until(2)).unwrap();
    assert_same(&whole, &nre.fit_resumable(&device(), &data, &prior, &checkpoint, keep_on).unwrap(), "nre");
    checkpoint.remove().unwrap();
}

#[test]
fn patience_is_remembered() {
    let (path, data) = (path("patience"), data(60, 0.0));
    let mut estimator = estimator("mdn", 200);
    (estimator.training.patience, estimator.training.schedule) = (3, Schedule::Constant);
    estimator.training.adam.learning_rate = 0.05;
    let whole = estimator.fit(&device(), &data).unwrap();
    let epochs = whole.1.epochs.len();
    assert!(epochs < 200, "it never lost patience");
    // Broken off while it waits.
    let checkpoint = after_each_epoch(&path);
    estimator.fit_resumable(&device(), &data, &checkpoint, until(epochs - 1)).unwrap();
    assert_same(&whole, &estimator.fit_resumable(&device(), &data, &checkpoint, keep_on).unwrap(), "patience");
    checkpoint.remove().unwrap();
}

#[test]
fn another_training_is_not_taken_up() {
    let (path, data, own) = (path("other"), data(80, 0.0), estimator("realnvp", 3));
    let checkpoint = after_each_epoch(&path);
    own.fit_resumable(&device(), &data, &checkpoint, until(1)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let says = |estimator: &Npe<AnyFamily>, data: &Dataset, words: &str| {
        let message = estimator.fit_resumable(&device(), data, &checkpoint, keep_on).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains("retrodict-checkpoint-other"), "{message}");
    };
    let mut rate = own.clone();
    rate.training.adam.learning_rate = 1e-4;
    says(&rate, &data, "estimator.npe.training.adam.learning_rate was 0.003 and is now 0.0001");
    says(&Npe { seed: 9, ..own.clone() }, &data, "estimator.npe.seed was 3 and is now 9");
    says(&estimator("mdn", 3), &data, "estimator.npe.family");
    says(&own, &self::data(80, 0.001), "data.hash");
    says(&own, &self::data(81, 0.0), "data.");
    assert_eq!(std::fs::read(&path).unwrap(), before, "a refusal leaves the file as it was");

    std::fs::write(&path, &before[..before.len() - 3]).unwrap();
    says(&own, &data, "truncated");
    let mut flipped = before.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, flipped).unwrap();
    says(&own, &data, "damaged");
    own.fit(&device(), &data).unwrap().0.save(&path).unwrap();
    says(&own, &data, "a posterior, not a checkpoint");
    std::fs::remove_file(&path).unwrap();

    let nowhere = Checkpoint::new("no/such/folder/fit").every(Duration::ZERO);
    assert!(matches!(own.fit_resumable(&device(), &data, &nowhere, keep_on), Err(Error::File { .. })));
}

/// Trains with a checkpoint and saves the posterior: what the killed process does.
fn child(name: &str, folder: &Path) {
    let checkpoint = after_each_epoch(&folder.join("checkpoint"));
    let slowly = |_: &Epoch| {
        std::thread::sleep(Duration::from_millis(2));
        ControlFlow::Continue(())
    };
    let fitted = estimator(name, 40).fit_resumable(&device(), &data(150, 0.0), &checkpoint, slowly).unwrap();
    fitted.0.save(folder.join("posterior")).unwrap();
}

#[test]
fn a_killed_training_ends_as_if_it_never_was() {
    const OWN_NAME: &str = "a_killed_training_ends_as_if_it_never_was";
    let folder = std::env::var_os("RETRODICT_TEST_FOLDER").map(PathBuf::from);
    if let (Ok(name), Some(folder)) = (std::env::var(FAMILY), folder) {
        return child(&name, &folder);
    }
    let mut kills = 0;
    for (i, name) in ["realnvp", "vae", "gan", "energy", "flow-matching"].into_iter().enumerate() {
        let folder = path(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut rng = Philox::new(11, i as u64);
        let mut runs = 0;
        while !folder.join("posterior").exists() {
            let mut process = Command::new(std::env::current_exe().unwrap());
            process.args([OWN_NAME, "--exact"]).env(FAMILY, name).env("RETRODICT_TEST_FOLDER", &folder);
            let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Longer and longer, so that it comes to an end on a slow machine, too.
            let most = 40_000.0 * (1.0 + f64::from(runs) / 10.0);
            std::thread::sleep(Duration::from_micros((most * rng.random::<f64>()) as u64));
            process.kill().unwrap();
            let finished = process.wait().unwrap().code();
            assert!(finished.is_none_or(|code| code == 0), "{name} failed by itself");
            (runs, kills) = (runs + 1, kills + u32::from(finished.is_none()));
            if let Ok(file) = std::fs::read(folder.join("checkpoint")) {
                let whole = AnyPosterior::<f32>::from_bytes(&device(), &file).unwrap_err().to_string();
                assert!(whole.contains("a checkpoint, not a posterior"), "{name}, run {runs}: {whole}");
            }
        }
        let whole = estimator(name, 40).fit(&device(), &data(150, 0.0)).unwrap();
        let pieces = AnyPosterior::load(&device(), folder.join("posterior")).unwrap();
        let history = pieces.origin().history.clone();
        assert_same(&whole, &(pieces, history), name);
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert!(kills >= 10, "only {kills} kills");
}
