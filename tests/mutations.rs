//! No header, however wrong, makes the reader of posterior files panic or ask for memory without end: random changes
//! of the header's JSON under a checksum that is right, and random bytes. `RETRODICT_MUTATIONS` says how many.
#![cfg(feature = "weights")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::Array2;
use rand::RngExt;
use retrodict::models::AnyFamily;
use retrodict::ndarray;
use retrodict::rng::{Philox, mix};
use retrodict::sbi::AnyPosterior;
use retrodict::train::Training;
use retrodict::{Dataset, Device, Npe, Support};
use serde_json::{Value, json};

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

/// A file as the format's description has it, apart from the code that writes files.
struct File {
    /// The safetensors header.
    outer: Value,
    /// The JSON in its metadata.
    seal: Value,
    tensors: Vec<u8>,
}

impl File {
    fn open(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let outer: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let seal = serde_json::from_str(outer["__metadata__"]["retrodict"].as_str().unwrap()).unwrap();
        Self { outer, seal, tensors: bytes[8 + length..].to_vec() }
    }

    /// The bytes, with the checksum that they should have.
    fn close(&self) -> Vec<u8> {
        let (mut outer, mut seal) = (self.outer.clone(), self.seal.clone());
        seal["checksum"] = "0".repeat(16).into();
        // The fields in the order in which they are written.
        let fields = ["kind", "version", "retrodict", "checksum", "tensor_bytes", "header"];
        let fields: Vec<String> = fields.iter().map(|f| format!("\"{f}\":{}", seal[f])).collect();
        let json = format!("{{{}}}", fields.join(","));
        let tensors = outer.as_object_mut().unwrap();
        tensors.remove("__metadata__");
        let rest = Value::Object(tensors.clone()).to_string();
        let metadata = json!({ "retrodict": json }).to_string();
        let mut header = format!("{{\"__metadata__\":{metadata},{}", &rest[1..]).into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = [&(header.len() as u64).to_le_bytes()[..], &header, &self.tensors].concat();
        let zeros = file.windows(16).position(|w| w == [b'0'; 16]).unwrap();
        let without = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let words = file[..zeros].chunks(8).chain(file[zeros + 16..].chunks(8)).map(without);
        let checksum = format!("{:016x}", mix(file.len() as u64, words));
        file[zeros..zeros + 16].copy_from_slice(checksum.as_bytes());
        file
    }
}

/// Changes one random place of a JSON value.
fn mutate(value: &mut Value, rng: &mut Philox) {
    let stop = rng.random_range(0..12) == 0;
    match value {
        Value::Object(map) if !map.is_empty() && !stop => {
            let key = map.keys().nth(rng.random_range(0..map.len())).unwrap().clone();
            match rng.random_range(0..40) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert("surplus".into(), 1.into())),
                _ => mutate(&mut map[&key], rng),
            }
        }
        Value::Array(items) if !items.is_empty() && !stop => {
            let at = rng.random_range(0..items.len());
            match rng.random_range(0..20) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => mutate(&mut items[at], rng),
            }
        }
        other => *other = replacement(rng),
    }
}

fn replacement(rng: &mut Philox) -> Value {
    let values = [
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(1_u64 << 20),
        json!(1_u64 << 32),
        json!(1_u64 << 60),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(-1e-300),
        json!(0.5),
        json!(null),
        json!(""),
        json!("a"),
        json!([]),
        json!({}),
        json!([1, 2]),
        json!("none"),
        json!("silu"),
        json!({ "permuted": 7 }),
    ];
    values[rng.random_range(0..values.len())].clone()
}

#[test]
fn no_header_makes_the_reader_panic() {
    let executions = std::env::var("RETRODICT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000_u64);
    let files = files();
    let (device, mut read) = (Device::cpu_with_threads(1), 0);
    for bytes in &files {
        assert!(AnyPosterior::<f32>::from_bytes(&device, &File::open(bytes).close()).is_ok(), "unchanged");
    }
    for i in 0..executions {
        let rng = &mut Philox::new(17, i);
        let mut file = File::open(&files[i as usize % files.len()]);
        for _ in 0..rng.random_range(1..4) {
            let seal = rng.random_range(0..10) > 0;
            mutate(if seal { &mut file.seal["header"] } else { &mut file.outer }, rng);
        }
        if !file.outer.is_object() {
            continue;
        }
        let bytes = file.close();
        let outcome = catch_unwind(AssertUnwindSafe(|| AnyPosterior::<f32>::from_bytes(&device, &bytes).is_ok()));
        read += u64::from(outcome.unwrap_or_else(|_| panic!("execution {i} panicked: {}", file.seal["header"])));
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
