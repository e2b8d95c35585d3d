//! Kernels with one mistake each: the simulated driver must find it, in every order of threads, and say where it is.

mod support;

use cudarc::driver::{LaunchConfig, PushKernelArg};
use support::{Device, driver, grid};

const BUGS: &str = include_str!("kernels/bugs.ptx");

/// The message that the kernel dies with, or its output.
fn run(kernel: &str, blocks: u32) -> Result<Vec<f32>, String> {
    cusim::reset();
    let device = Device::new(BUGS).unwrap();
    let stream = &device.stream;
    let mut output = stream.alloc_zeros::<f32>(64).unwrap();
    let function = device.kernel(kernel);
    let dynamic = if kernel.starts_with("dynamic") { 256 } else { 0 };
    let config = LaunchConfig { shared_mem_bytes: dynamic, ..grid(blocks, 64) };
    // SAFETY: the mistakes are those of the simulated kernels.
    unsafe { stream.launch_builder(&function).arg(&mut output).launch(config) }.unwrap();
    let result = stream.clone_dtoh(&output).map_err(|_| cusim::last_message());
    if result.is_err() {
        assert!(stream.synchronize().is_err(), "{kernel}: the error is sticky");
        cusim::reset();
    }
    result
}

fn in_all_orders(check: impl Fn()) {
    let _driver = driver();
    for order in [None, Some(1), Some(2), Some(3)] {
        cusim::set_order(order);
        check();
    }
}

#[test]
fn every_mistake_is_found_and_placed() {
    let mistakes = [
        ("missing_barrier", 1, "data race in shared memory", "bugs.cu:1"),
        ("missing_second_barrier", 1, "data race in shared memory", "bugs.cu:2"),
        ("missing_warp_barrier", 1, "data race in shared memory", "bugs.cu:3"),
        (
            "global_out_of_bounds",
            1,
            "out-of-bounds write of 4 bytes at offset 256 of a buffer of 256 bytes",
            "bugs.cu:39 ",
        ),
        ("global_before_the_start", 1, "out-of-bounds write", "bugs.cu:41 "),
        ("shared_out_of_bounds", 1, "offset 256 of 256 bytes of shared memory", "bugs.cu:45"),
        ("dynamic_out_of_bounds", 1, "offset 256 of 256 bytes of shared memory", "bugs.cu:52"),
        ("misaligned_float4", 1, "misaligned read of 16 bytes", "bugs.cu:58"),
        ("divergent_barrier", 1, "divergent barrier", "bugs.cu:70"),
        ("two_barriers", 1, "divergent barrier", "bugs.cu:7"),
        ("race_between_blocks", 2, "data race in device memory", "bugs.cu:85"),
        ("shuffle_without_all", 1, "", "bugs.cu:92"),
        ("shuffle_not_in_mask", 1, "a lane that its own mask does not name", "bugs.cu:96"),
        ("shuffle_after_exit", 1, "lanes", "bugs.cu:101"),
        ("misaligned_shared_float4", 1, "misaligned read of 16 bytes", "bugs.cu:113"),
    ];
    in_all_orders(|| {
        for (kernel, blocks, what, place) in mistakes {
            let message = run(kernel, blocks).expect_err(kernel);
            assert!(message.contains(what), "{kernel}: {message}");
            assert!(message.starts_with(kernel) && message.contains(place), "{kernel}: {message}");
        }
    });
}

#[test]
fn uninitialised_memory_reads_as_nan() {
    in_all_orders(|| {
        let output = run("uninitialised_shared", 1).unwrap();
        assert!(output[..63].iter().all(|v| *v == 1.0) && output[63].is_nan());
    });
}

#[test]
fn kernels_without_a_mistake_pass() {
    in_all_orders(|| {
        assert!((0..64).all(|i| run("ok_neighbours", 1).unwrap()[i] == (i ^ 33) as f32));
        assert!((0..64).all(|i| run("ok_warp_barrier", 1).unwrap()[i] == (i ^ 1) as f32));
        assert_eq!(run("race_between_blocks", 1).unwrap()[0], 1.0, "one block alone does not race");
        assert_eq!(run("ok_atomic", 3).unwrap()[0], 192.0);
        assert!(run("traps", 1).is_ok());
    });
}

#[test]
fn an_unknown_instruction_is_named_with_its_line() {
    let _driver = driver();
    let unknown = BUGS.replacen("bar.sync", "bar.arrive", 1);
    let line = unknown.lines().position(|l| l.contains("bar.arrive")).unwrap() + 1;
    assert!(Device::new(&unknown).is_err());
    let message = cusim::last_message();
    assert!(message.contains(&format!("PTX line {line}: unsupported instruction at `bar.arrive`")), "{message}");
}
