//! Kernels move little more than they must, and their warps read memory as it lies. Alone in its process: the simulated
//! driver counts everything that happens in it.
#![cfg(feature = "cuda")]

#[path = "../benches/kernels/cases.rs"]
mod cases;
#[path = "../benches/kernels/launch.rs"]
mod launch;

/// Whose blocks share what they read, so that what a block's cache lets through is no measure.
const PRODUCTS: &str = "linear_";

/// How many times the fewest sectors requests touch that cannot be tighter.
const SPREAD: [(&str, f64); 5] = [
    // A column of a matrix: each number lies in a sector of its own.
    ("add_column", 8.0),
    // The same, beside the sums of each chain.
    ("hmc_adapt", 1.7),
    // Rows of 7 momenta begin within sectors.
    ("hmc", 1.2),
    // Rows of triangles, which have all lengths.
    ("mixture_log_density_forward full", 1.4),
    ("mixture_log_density_backward full", 1.6),
];

#[test]
fn kernels_move_what_they_must_and_as_it_lies() {
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return; // a card counts nothing
    }
    let (device, mut mistakes) = (launch::Device::new().unwrap(), Vec::new());
    for case in cases::cases(128) {
        let prepared = device.prepare(&case).unwrap();
        cusim::reset();
        device.launch(&prepared).unwrap();
        device.stream.synchronize().unwrap();
        let (counts, name) = (cusim::counters(case.kernel), case.name());
        let (moved, least) = (32 * counts.fetched_sectors, case.floor() as u64);
        let (touched, ideal) = (counts.global_sectors, counts.ideal_sectors);
        let spread = SPREAD.iter().find(|(kernel, _)| name.starts_with(kernel)).map_or(1.1, |&(_, spread)| spread);
        let mut claim = |right: bool, what: String| {
            if !right {
                mistakes.push(format!("{name} {what}"));
            }
        };
        claim(name.starts_with(PRODUCTS) || 10 * moved <= 11 * least, format!("moves {moved} bytes, {least} would do"));
        claim(touched as f64 <= spread * ideal as f64, format!("touches {touched} sectors, {ideal} would do"));
        claim(counts.bank_conflicts == 0, format!("has {} bank conflicts", counts.bank_conflicts));
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// A kernel cannot be added without a case.
#[test]
fn every_kernel_has_a_case() {
    let cases = cases::cases(128);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/f32");
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    for ptx in files {
        for entry in ptx.lines().filter_map(|line| line.split_once(".entry ")?.1.strip_suffix('(')) {
            assert!(cases.iter().any(|case| case.kernel == entry), "{entry} has no case in benches/kernels/cases.rs");
        }
    }
}
