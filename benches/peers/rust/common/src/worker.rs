//! The worker protocol: commands on standard input, one JSON line each as an answer.

use std::io::{self, BufRead, Write};
use std::time::Instant;

use crate::Workload;

/// What a worker does.
pub trait Job {
    /// n steps, finished when it returns.
    fn run(&mut self, n: usize);

    /// The ten check values, from a fresh start; later steps are not disturbed.
    fn check(&mut self) -> Vec<f64>;

    /// Rows of work in a step of inference; 1 for training.
    fn items(&self) -> usize {
        1
    }
}

/// The shortest time worth a reading of the clock, in seconds.
const READING: f64 = 0.004;
/// The most steps between two readings.
const MOST_STEPS: usize = 64;

/// Warms up, says that it is ready, and answers commands until it is told to quit. `start` is when the process began.
///
/// # Errors
/// If standard input or output ends early, or a command cannot be read.
pub fn serve(job: &mut dyn Job, start: Instant) -> io::Result<()> {
    job.run(1);
    let startup = start.elapsed().as_secs_f64();
    job.run(3);
    let clock = Instant::now();
    job.run(1);
    let steps = ((READING / clock.elapsed().as_secs_f64()).ceil() as usize).clamp(1, MOST_STEPS);
    job.run(steps);
    let items = job.items();
    answer(format!(r#"{{"ready": true, "startup_s": {startup:.4}, "items": {items}, "chunk": {steps}}}"#))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["slice", seconds] => {
                let seconds = seconds.parse().map_err(|_| io::Error::other(format!("no time: {seconds}")))?;
                answer(format!(r#"{{"ms": [{}]}}"#, list(&slice(job, steps, seconds))))?;
            }
            ["check"] => answer(format!(r#"{{"check": [{}]}}"#, list(&job.check())))?,
            ["quit"] => return answer(format!(r#"{{"rss_mb": {:.1}}}"#, peak_memory())),
            _ => return Err(io::Error::other(format!("no command: {line}"))),
        }
    }
    Ok(())
}

/// The main function of a framework's worker, `PROGRAM WORKLOAD THREADS`: its threads are those of rayon. A call of W7 has
/// 1000 rows, unless PEERS_CHUNK says otherwise.
///
/// # Errors
/// As [`serve`], or if the arguments are not these.
pub fn framework<J: Job>(job: impl FnOnce(Workload) -> J) -> io::Result<()> {
    let start = Instant::now();
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, threads] = &arguments[..] else { return Err(io::Error::other("usage: PROGRAM WORKLOAD THREADS")) };
    // SAFETY: no other thread is running yet.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads) };
    let chunk = std::env::var("PEERS_CHUNK").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let workload = Workload::named(name, chunk).ok_or_else(|| io::Error::other(format!("no workload: {name}")))?;
    serve(&mut job(workload), start)
}

/// Milliseconds per step of every chunk of `steps` that was begun within `seconds`.
fn slice(job: &mut dyn Job, steps: usize, seconds: f64) -> Vec<f64> {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || start.elapsed().as_secs_f64() < seconds {
        let clock = Instant::now();
        job.run(steps);
        times.push(1e3 * clock.elapsed().as_secs_f64() / steps as f64);
    }
    times
}

fn answer(line: String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn list(values: &[f64]) -> String {
    values.iter().map(|x| format!("{x:.9}")).collect::<Vec<_>>().join(", ")
}

/// The largest resident memory of this process so far in MB, NaN where the system does not say.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
