//! A posterior's file: whatever the bytes under a checksum that is right, a posterior or an error, and what is read comes
//! back from what is written.
#![no_main]

#[path = "../../tests/sealed/mod.rs"]
mod sealed;

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use retrodict::Device;
use retrodict::rng::Philox;
use retrodict::sbi::AnyPosterior;
use sealed::{File, reseal};

static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::cpu_with_threads(1));

fuzz_target!(|bytes: &[u8]| {
    let Ok(posterior) = AnyPosterior::<f32>::from_bytes(&DEVICE, bytes) else { return };
    let written = posterior.to_bytes().expect("it was read from a file");
    let again = AnyPosterior::<f32>::from_bytes(&DEVICE, &written).expect("it was written by us");
    assert_eq!(again.to_bytes().expect("as before"), written);
});

// By turns, a place in the headers' JSON and any bytes.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let file = if seed % 2 == 0 { File::open(&data[..size]) } else { None };
    let changed = file.and_then(|mut file| {
        file.mutate(&mut Philox::new(seed.into(), 0));
        file.close().filter(|bytes| bytes.len() <= max_size)
    });
    if let Some(bytes) = changed {
        data[..bytes.len()].copy_from_slice(&bytes);
        return bytes.len();
    }
    let size = fuzzer_mutate(data, size, max_size);
    reseal(&mut data[..size]);
    size
});
