//! What the assembler makes of the kernels for one card: registers, shared memory, and how many warps fit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The card, and what one of its multiprocessors has.
const CARD: &str = "sm_80";
const REGISTERS: usize = 65_536;
const THREADS: usize = 2048;
const SHARED_BYTES: usize = 164 << 10;

/// Of one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub registers: usize,
    pub shared_bytes: usize,
}

impl Needs {
    /// The share of the threads that a multiprocessor can hold, in blocks of so many.
    pub fn occupancy(&self, threads: usize) -> f64 {
        // Registers are given to warps by 256.
        let of_block = (32 * self.registers).next_multiple_of(256) * threads / 32;
        let by_shared = SHARED_BYTES.checked_div(self.shared_bytes).unwrap_or(usize::MAX);
        let blocks = (THREADS / threads).min(REGISTERS / of_block).min(by_shared);
        (blocks * threads) as f64 / THREADS as f64
    }
}

/// The needs of all kernels; empty where the assembler is not installed (`just kernels` does that).
pub fn needs() -> HashMap<String, Needs> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (Some(ptxas), Ok(files)) = (assembler(root), std::fs::read_dir(root.join("kernels/f32"))) else {
        return HashMap::new();
    };
    files.flatten().flat_map(|file| assemble(&ptxas, &file.path())).collect()
}

fn assembler(root: &Path) -> Option<PathBuf> {
    let python = std::fs::read_dir(root.join("target/cuda-tools/lib")).ok()?.flatten().next()?.path();
    Some(python.join("site-packages/nvidia/cuda_nvcc/bin/ptxas")).filter(|path| path.exists())
}

fn assemble(ptxas: &Path, file: &Path) -> Vec<(String, Needs)> {
    let mut command = Command::new(ptxas);
    command.args(["-v", "-o", "/dev/null"]).arg(format!("-arch={CARD}")).arg(file);
    let Ok(output) = command.output() else { return Vec::new() };
    let (text, mut kernel, mut found) = (String::from_utf8_lossy(&output.stderr), "", Vec::new());
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default();
        }
        let before =
            |what: &str| line.split(what).next()?.rsplit([' ', ',']).find(|word| !word.is_empty())?.parse().ok();
        if let (true, Some(registers)) = (line.contains("Used "), before(" registers")) {
            found.push((kernel.to_string(), Needs { registers, shared_bytes: before(" bytes smem").unwrap_or(0) }));
        }
    }
    found
}
