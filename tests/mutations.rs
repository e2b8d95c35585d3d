//! No header, however wrong, makes the reader of posterior files panic or ask for memory without end: random changes
//! of the header's JSON under a checksum that is right, and random bytes. `RETRODICT_MUTATIONS` says how many.
#![cfg(feature = "weights")]

mod sealed;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::Array2;
use rand::RngExt;
use retrodict::models::AnyFamily;
use retrodict::ndarray;
use retrodict::rng::Philox;
use retrodict::sbi::AnyPosterior;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Npe, Support};
use sealed::File;

/// The bytes of a posterior of each family, from one epoch on 20 rows.
fn files() -> Vec<Vec<u8>> {
    let theta = Array2::from_shape_fn((20, 2), |(i, j)| ((i * (3 + j)) % 7) as f64 / 8.0 + 0.01);
    let support = Support::new().interval("a", 0.0, 1.0).ordered(&["b"], 0.0, 1.0).build().unwrap();
    let data: Dataset = Dataset::new(&support, theta.view(), theta.view(), Default::default()).unwrap();
    let fit = |name: &str| {
        let training = Training { max_epochs: 1, ..Training::default() };
        let estimator = Npe { training, ..Npe::new(name.parse::<AnyFamily>().unwrap()) };
        estimator.fit(&Device::cpu_with_threads(1), &data).unwrap().0.to_bytes().unwrap()
    };
    AnyFamily::NAMES.into_iter().map(fit).collect()
}

#[test]
fn no_header_makes_the_reader_panic() {
    let executions = std::env::var("RETRODICT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000_u64);
    let files = files();
    let (device, mut read) = (Device::cpu_with_threads(1), 0);
    for bytes in &files {
        assert!(
            AnyPosterior::<f32>::from_bytes(&device, &File::open(bytes).unwrap().close().unwrap()).is_ok(),
            "unchanged"
        );
    }
    for i in 0..executions {
        let rng = &mut Philox::new(17, i);
        let mut file = File::open(&files[i as usize % files.len()]).unwrap();
        for _ in 0..rng.random_range(1..4) {
            file.mutate(rng);
        }
        let Some(bytes) = file.close() else { continue };
        let outcome = catch_unwind(AssertUnwindSafe(|| AnyPosterior::<f32>::from_bytes(&device, &bytes).is_ok()));
        read += u64::from(outcome.unwrap_or_else(|_| panic!("execution {i} panicked: {}", file.header())));
    }
    println!("{executions} executions, of which {read} were read");
    assert!(read > 0 && read < executions);
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let (files, device) = (files(), Device::cpu_with_threads(1));
    for i in 0..2000_u64 {
        let rng = &mut Philox::new(18, i);
        let mut bytes = files[i as usize % files.len()][..rng.random_range(0..3000)].to_vec();
        for _ in 0..rng.random_range(0..20) {
            let (at, byte) = (rng.random_range(0..bytes.len().max(1)), rng.random());
            if let Some(own) = bytes.get_mut(at) {
                *own = byte;
            }
        }
        assert!(AnyPosterior::<f32>::from_bytes(&device, &bytes).is_err(), "execution {i}");
    }
}
