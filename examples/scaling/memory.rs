//! Peak resident memory, each number that of a process of its own.

use std::error::Error;
use std::process::Command;
use std::time::Instant;

use retrodict::Feed;

use crate::cost::{CONTEXT, DIM, Descent, normal, observations, posterior};

/// Rows of W1's data, and of its batch.
const ROWS: usize = 16_384;
const BATCH: usize = 256;

/// The most memory in MB that a process had which did so many draws, observations or steps of training.
pub fn of(kind: &str, n: usize) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).args(["memory", kind, &n.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| format!("memory {kind} {n}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Milliseconds from the start of a process to its end after one step of training: the fastest of some.
pub fn first_step() -> Result<f64, Box<dyn Error>> {
    let run = |_| {
        let clock = Instant::now();
        of("training", 1).map(|_| 1e3 * clock.elapsed().as_secs_f64())
    };
    (0..5).map(run).try_fold(f64::INFINITY, |least, run| Ok(least.min(run?)))
}

/// What the process does, and then prints.
pub fn measure(kind: &str, n: usize) -> Result<(), Box<dyn Error>> {
    match kind {
        "training" => train(n)?,
        "draws" => draw(1, n)?,
        _ => draw(n, 10)?,
    }
    // The table of observations is the caller's.
    let table = if kind == "observations" { (8 * CONTEXT * n) as f64 } else { 0.0 };
    println!("{}", (peak()? - table) / f64::from(1 << 20));
    Ok(())
}

fn draw(rows: usize, draws: usize) -> Result<(), retrodict::Error> {
    let (x, mut sum) = (observations(rows), 0.0);
    posterior(1)?.sample_each(x.view(), draws, 1, |_, theta| sum += theta.sum())?;
    assert!(sum.is_finite());
    Ok(())
}

/// Steps of W1, its data in memory.
fn train(steps: usize) -> Result<(), retrodict::Error> {
    let (theta, x) = (normal(ROWS, DIM), normal(ROWS, CONTEXT));
    let mut descent = Descent::new(1, 64)?;
    let order: Vec<u32> = (0..ROWS as u32).collect();
    (0..steps).try_for_each(|t| {
        let rows = &order[t * BATCH % ROWS..][..BATCH];
        descent.step(BATCH, Feed::Gather(&theta, rows), Feed::Gather(&x, rows))
    })
}

/// The most bytes of this process that were resident so far, by the kernel's account.
fn peak() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: f64 = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM here")?.parse()?;
    Ok(1024.0 * kilobytes)
}
