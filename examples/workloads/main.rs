//! The library's worker in the peer benchmarks (`benches/peers`): the workloads W1 to W7 by the public API alone.
//!
//! `workloads W1 2` serves the first workload on two threads; `benches/peers/driver.py` starts it beside its peers.
//! `workloads W1 1 profile` prints which instructions take the time of a training step.

mod flow;
mod mixture;
mod score;
mod training;
mod vae;

use std::error::Error;
use std::time::Instant;

use workloads::worker::{Job, serve};
use workloads::{Kind, Workload};

use crate::training::Training;

/// Rows in a call of W7: the draws of four observations.
const CHUNK: usize = 4000;

/// A workload by name.
fn workload(name: &str) -> Result<Workload, Box<dyn Error>> {
    Ok(Workload::named(name, CHUNK).ok_or(format!("`{name}` is none of W1 .. W6, W7s, W7l"))?)
}

/// The job of a workload, on this many threads.
fn job(name: &str, threads: usize) -> Result<Box<dyn Job>, Box<dyn Error>> {
    let workload = workload(name)?;
    Ok(match workload.kind {
        Kind::Flow => Box::new(Training::new(flow::Flow::new(workload), threads)?),
        Kind::Dsm => Box::new(Training::new(score::Matching::new(workload), threads)?),
        Kind::Langevin => Box::new(score::Langevin::new(workload, threads)?),
        Kind::Vae => Box::new(Training::new(vae::Autoencoder::new(workload), threads)?),
        Kind::Mdn => Box::new(Training::new(mixture::Mixture::new(workload), threads)?),
        Kind::Sample => Box::new(flow::Sampling::new(workload, threads)?),
        Kind::LogProb => Box::new(flow::Densities::new(workload, threads)?),
    })
}

/// Where the time of a training step goes.
fn profile(name: &str, threads: usize) -> Result<String, Box<dyn Error>> {
    const STEPS: usize = 200;
    let workload = workload(name)?;
    Ok(match workload.kind {
        Kind::Flow => Training::new(flow::Flow::new(workload), threads)?.profile(STEPS),
        Kind::Dsm => Training::new(score::Matching::new(workload), threads)?.profile(STEPS),
        Kind::Vae => Training::new(vae::Autoencoder::new(workload), threads)?.profile(STEPS),
        Kind::Mdn => Training::new(mixture::Mixture::new(workload), threads)?.profile(STEPS),
        _ => return Err(format!("{name} trains nothing").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [name, threads] => serve(&mut *job(name, threads.parse()?)?, start)?,
        [name, threads, "profile"] => print!("{}", profile(name, threads.parse()?)?),
        _ => return Err("usage: workloads WORKLOAD THREADS [profile]".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ten numbers of a workload in `expected.json`.
    fn expected(name: &str) -> Vec<f64> {
        let file = include_str!("../../benches/peers/expected.json");
        let (_, rest) = file.split_once(&format!("\"{name}\": [")).expect("an entry for each workload");
        let (numbers, _) = rest.split_once(']').expect("a list");
        numbers.split(',').map(|x| x.trim().parse().expect("a number")).collect()
    }

    #[test]
    fn every_workload_gives_what_pytorch_and_jax_give() {
        for name in ["W1", "W2", "W3", "W4", "W5", "W6", "W7s", "W7l"] {
            let found = job(name, 2).unwrap().check();
            for (step, (y, exact)) in found.iter().zip(expected(name)).enumerate() {
                assert!((y - exact).abs() <= 2e-4 * exact.abs(), "{name}, number {step}: {y}, not {exact}");
            }
            assert_eq!(found.len(), 10, "{name}");
        }
    }
}
