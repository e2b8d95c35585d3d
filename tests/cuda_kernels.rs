//! Kernels move little more than they must, and their warps read memory as it lies. Alone in its process: the simulated
//! driver counts everything that happens in it.
#![cfg(feature = "cuda")]

#[path = "../benches/kernels/cases.rs"]
mod cases;
#[path = "../benches/kernels/launch.rs"]
mod launch;

/// Whose lanes each follow a component of their own, or read a small matrix along its diagonal.
const SCATTERED: [&str; 2] = ["lu_linear_forward", "mixture_log_density_forward"];

#[test]
fn kernels_move_what_they_must_and_as_it_lies() {
    if std::env::var_os("RETRODICT_GPU").is_some() {
        return; // a card counts nothing
    }
    let device = launch::Device::new().unwrap();
    for case in cases::cases(128) {
        let prepared = device.prepare(&case).unwrap();
        cusim::reset();
        device.launch(&prepared).unwrap();
        device.stream.synchronize().unwrap();
        let counts = cusim::counters(case.kernel);
        let (moved, least) = (32 * counts.fetched_sectors, case.floor() as u64);
        let (touched, ideal) = (counts.global_sectors, counts.ideal_sectors);
        if !SCATTERED.contains(&case.kernel) {
            assert!(10 * moved <= 11 * least, "{} moves {moved} bytes, {least} would do", case.kernel);
            assert!(10 * touched <= 12 * ideal, "{} touches {touched} sectors, {ideal} would do", case.kernel);
        }
        assert_eq!(counts.bank_conflicts, 0, "{}", case.kernel);
    }
}
