//! Compiles this crate a second time, as a C library with the name `libcuda.so`.

use std::env::var;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src");
    let library = PathBuf::from(var("OUT_DIR").expect("cargo sets it")).join("libcuda.so");
    let arguments = [
        "--edition=2024",
        "--crate-type=cdylib",
        "--crate-name=cuda",
        "--cap-lints=allow",
        "-Copt-level=3",
        "-Clink-arg=-Wl,-soname,libcuda.so",
        "src/lib.rs",
    ];
    let mut rustc = Command::new(var("RUSTC").expect("cargo sets it"));
    let status = rustc.args(arguments).arg("-o").arg(&library).status().expect("rustc can be started");
    assert!(status.success(), "the simulated driver does not compile");
    println!("cargo:rustc-env=CUSIM_LIBRARY={}", library.display());
}
