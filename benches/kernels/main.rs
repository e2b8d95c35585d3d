//! Every kernel, one by one: what it moves against the least that it must, and how its warps fare.
//!
//! On the simulated device (the default) the figures are counts. With `RETRODICT_GPU` set they are the card's: bandwidth
//! and, for a training step, floating-point operations per second, beside its peaks. `--time` asks for these figures on
//! the simulated device too, where they mean nothing, to see that they can be had.

mod cases;
mod launch;
mod ptxas;
mod steps;

use std::collections::HashMap;
use std::error::Error;

use cudarc::driver::sys;
use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;

use cases::{Case, cases};
use launch::Device;
use ptxas::Needs;

/// Rows of a batch on the simulated device, and on a card.
const ROWS: [usize; 2] = [256, 1 << 19];

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::new()?;
    let hardware = std::env::var_os("RETRODICT_GPU").is_some();
    let timed = hardware || std::env::args().any(|argument| argument == "--time");
    let (needs, peaks) = (ptxas::needs(), Peaks::of(&device)?);
    println!(
        "{}, {} rows of 16 columns in single precision",
        device.stream.context().name()?,
        ROWS[usize::from(hardware)]
    );
    if timed {
        println!("peaks: {:.0} GB/s, {:.1} Tflop/s\n", peaks.bandwidth / 1e9, peaks.flops / 1e12);
        println!("{:40} {:>10} {:>8} {:>8} {:>10}", "kernel", "us", "GB/s", "of peak", "occupancy");
    } else {
        println!("{LEGEND}");
        println!("{:38}{}", "kernel", COLUMNS.map(|c| format!("{c:>11}")).concat());
    }
    for case in cases(ROWS[usize::from(hardware)]) {
        if timed {
            time(&device, &case, &needs, &peaks)?;
        } else {
            count(&device, &case, &needs)?;
        }
    }
    if timed { steps::table(hardware, peaks.flops) } else { Ok(()) }
}

/// What a card can do at most.
struct Peaks {
    /// In bytes and in single-precision operations per second.
    bandwidth: f64,
    flops: f64,
}

impl Peaks {
    fn of(device: &Device) -> Result<Self, Box<dyn Error>> {
        let attribute =
            |which: Attribute| -> Result<f64, Box<dyn Error>> { Ok(device.stream.context().attribute(which)?.into()) };
        let clock = 1e3 * attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
        let memory_clock = 1e3 * attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
        let bus = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)? / 8.0;
        let processors = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // 7.5 and 8.0 have 64 units for single precision in each multiprocessor, later ones 128; two transfers a clock.
        let units = if (major, minor) <= (8.0, 0.0) { 64.0 } else { 128.0 };
        Ok(Self { bandwidth: 2.0 * memory_clock * bus, flops: 2.0 * units * processors * clock })
    }
}

fn occupancy(case: &Case, needs: &HashMap<String, Needs>) -> (String, String) {
    match needs.get(case.kernel) {
        None => ("-".into(), "-".into()),
        Some(needs) => (needs.registers.to_string(), format!("{:.0}%", 100.0 * needs.occupancy(case.threads))),
    }
}

/// What is counted of a kernel.
const COLUMNS: [&str; 11] = [
    "KB",
    "of least",
    "sectors",
    "ideal",
    "conflicts",
    "divergent",
    "arithmetic",
    "registers",
    "occupancy",
    "memory",
    "issue",
];

/// What that means.
const LEGEND: &str = "\
KB, of least: moved, and that over each input once and each output once; what a block asks for twice is cached
sectors, ideal: of 32 bytes that a request of a warp touches, and could have touched
conflicts, divergent: of banks of shared memory; branches at which a warp's threads part
arithmetic: of all instructions, those on floating-point numbers
memory, issue: microseconds for 2^20 rows if an A100 did nothing but move the least, or nothing but compute
";

/// Of an A100 with 40 GB: bytes per second, clocks per second of all 108 multiprocessors, and instructions of threads that
/// one of them gives out in a clock: in all, and to its units for single precision.
const BANDWIDTH: f64 = 1555e9;
const CLOCKS: f64 = 108.0 * 1.41e9;
const ISSUE: [f64; 2] = [128.0, 64.0];

/// What the simulated device counted of one launch.
fn count(device: &Device, case: &Case, needs: &HashMap<String, Needs>) -> Result<(), Box<dyn Error>> {
    let prepared = device.prepare(case)?;
    cusim::reset();
    device.launch(&prepared)?;
    device.stream.synchronize()?;
    let counts = cusim::counters(case.kernel);
    let (requests, (registers, occupancy)) = (counts.global_requests as f64, occupancy(case, needs));
    let (moved, instructions) = ((32 * counts.fetched_sectors) as f64, counts.instructions.iter().sum::<u64>() as f64);
    let arithmetic = counts.instructions[1..4].iter().sum::<u64>() as f64;
    let million = 1e6 * (1 << 20) as f64 / ROWS[0] as f64;
    let columns = [
        format!("{:.0}", moved / 1024.0),
        format!("{:.2}", moved / case.floor() as f64),
        format!("{:.2}", counts.global_sectors as f64 / requests),
        format!("{:.2}", counts.ideal_sectors as f64 / requests),
        counts.bank_conflicts.to_string(),
        format!("{:.0}%", 100.0 * counts.divergent_branches as f64 / counts.branches.max(1) as f64),
        format!("{:.0}%", 100.0 * arithmetic / instructions),
        registers,
        occupancy,
        format!("{:.0}", million * case.floor() as f64 / BANDWIDTH),
        format!("{:.0}", million * (instructions / ISSUE[0]).max(arithmetic / ISSUE[1]) / CLOCKS),
    ];
    println!("{:38}{}", case.name(), columns.map(|c| format!("{c:>11}")).concat());
    Ok(())
}

/// Launches after which the time is taken.
const LAUNCHES: usize = 20;

/// The mean time of a launch on a card, and the bandwidth that it reached.
fn time(device: &Device, case: &Case, needs: &HashMap<String, Needs>, peaks: &Peaks) -> Result<(), Box<dyn Error>> {
    let prepared = device.prepare(case)?;
    device.launch(&prepared)?;
    let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = device.stream.record_event(timing)?;
    (0..LAUNCHES).try_for_each(|_| device.launch(&prepared))?;
    let end = device.stream.record_event(timing)?;
    let seconds = 1e-3 * f64::from(start.elapsed_ms(&end)?) / LAUNCHES as f64;
    let bandwidth = case.floor() as f64 / seconds;
    let (share, occupancy) = (100.0 * bandwidth / peaks.bandwidth, occupancy(case, needs).1);
    println!("{:40} {:>10.1} {:>8.0} {:>7.0}% {:>10}", case.name(), 1e6 * seconds, bandwidth / 1e9, share, occupancy);
    Ok(())
}
