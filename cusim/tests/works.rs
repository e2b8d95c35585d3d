//! Correct kernels give the right results in every order of threads, and the counts that follow from them by hand.

mod support;

use cudarc::driver::PushKernelArg;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use support::{Device, driver, grid};

const WORKS: &str = include_str!("kernels/works.ptx");

#[test]
fn functions_tables_and_carries_of_the_double_precision_library() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let stream = &device.stream;
    // The last ones need the long reduction of the argument.
    let x: Vec<f64> = (0..37).map(|i| f64::from(i) * 0.37 - 6.0).chain([1e9, -3e15, 1e22]).collect();
    let input = stream.clone_htod(&x).unwrap();
    let mut output = stream.alloc_zeros::<f64>(4 * x.len()).unwrap();
    let (function, n) = (device.kernel("library"), x.len() as i32);
    for order in [None, Some(5)] {
        cusim::set_order(order);
        // SAFETY: the kernel's arguments.
        unsafe { stream.launch_builder(&function).arg(&input).arg(&mut output).arg(&n).launch(grid(2, 32)) }.unwrap();
        let y = stream.clone_dtoh(&output).unwrap();
        for (x, y) in x.iter().zip(y.chunks(4)) {
            let close = |y: f64, exact: f64| (y - exact).abs() <= 4e-15 * exact.abs().max(1.0);
            assert!(close(y[0], x.sin()), "sin {x}: {} {}", y[0], x.sin());
            assert!(close(y[1], x.abs().powf(1.7)), "pow {x}");
            assert!(close(y[2], libm::erf(*x)), "erf {x}");
            assert!((y[3] - libm::lgamma(x.abs() + 0.5)).abs() <= 4e-15 * y[3].abs().max(1.0), "lgamma {x}");
        }
    }
}

#[test]
fn lanes_that_part_in_a_loop_of_a_function() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let (stream, n) = (&device.stream, 100_i32);
    let collatz = |mut n: u64| {
        let mut steps = 0;
        while n != 1 {
            n = if n % 2 == 1 { 3 * n + 1 } else { n / 2 };
            steps += 1;
        }
        steps
    };
    let expected: Vec<i32> = (1..=100).map(collatz).collect();
    for order in [None, Some(1), Some(2)] {
        cusim::set_order(order);
        let mut output = stream.alloc_zeros::<i32>(100).unwrap();
        let function = device.kernel("collatz_steps");
        // SAFETY: the kernel's arguments.
        unsafe { stream.launch_builder(&function).arg(&mut output).arg(&n).launch(grid(2, 64)) }.unwrap();
        assert_eq!(stream.clone_dtoh(&output).unwrap(), expected);
    }
    assert!(cusim::counters("collatz_steps").divergent_branches > 0);
}

#[test]
fn sums_by_shuffles_do_not_depend_on_the_order() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let (stream, n) = (&device.stream, 1000_i32);
    let x: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 * 0.1 - 3.0).collect();
    let input = stream.clone_htod(&x).unwrap();
    let mut first: Option<Vec<f32>> = None;
    for order in [None, Some(1), Some(2), Some(3)] {
        cusim::set_order(order);
        let mut sum = stream.alloc_zeros::<f32>(8).unwrap();
        let mut positive = stream.alloc_zeros::<u32>(1).unwrap();
        let function = device.kernel("block_sum");
        let mut launch = stream.launch_builder(&function);
        // SAFETY: the kernel's arguments.
        unsafe { launch.arg(&input).arg(&mut sum).arg(&mut positive).arg(&n).launch(grid(8, 128)) }.unwrap();
        let sum = stream.clone_dtoh(&sum).unwrap();
        assert!((sum.iter().sum::<f32>() - x.iter().sum::<f32>()).abs() < 1e-2);
        let count = x.iter().filter(|v| **v > 0.0).count();
        assert_eq!(stream.clone_dtoh(&positive).unwrap()[0] as usize, count);
        assert_eq!(first.get_or_insert(sum.clone()), &sum, "the same bits in every order");
    }
}

#[test]
fn counts_follow_from_the_kernel() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let stream = &device.stream;
    let input = stream.clone_htod(&vec![1.0_f32; 1024]).unwrap();
    let mut output = stream.alloc_zeros::<f32>(1024).unwrap();
    let (n, rows, cols) = (256_i32, 32_i32, 32_i32);
    // SAFETY: the kernels' arguments.
    unsafe {
        let function = device.kernel("vectors");
        stream.launch_builder(&function).arg(&input).arg(&mut output).arg(&n).launch(grid(2, 128)).unwrap();
        let function = device.kernel("transpose");
        let mut launch = stream.launch_builder(&function);
        launch.arg(&input).arg(&mut output).arg(&rows).arg(&cols).launch(grid(8, 128)).unwrap();
        let function = device.kernel("conflicts");
        stream.launch_builder(&function).arg(&mut output).launch(grid(1, 32)).unwrap();
    }
    stream.synchronize().unwrap();
    let vectors = cusim::counters("vectors");
    assert_eq!((vectors.launches, vectors.global_requests), (1, 16));
    assert_eq!((vectors.global_bytes_read, vectors.global_bytes_written), (4096, 4096));
    assert_eq!((vectors.global_sectors, vectors.ideal_sectors), (256, 256));
    let transpose = cusim::counters("transpose");
    assert_eq!((transpose.global_sectors, transpose.ideal_sectors), (128 + 1024, 256), "a sector for each element");
    let conflicts = cusim::counters("conflicts");
    assert_eq!(conflicts.bank_conflicts, 31);
    assert_eq!(cusim::counters("*").launches, 3);
    assert_eq!((cusim::copies().copies_to_device, cusim::copies().bytes_to_device), (1, 4096));
}

/// A stream with ones in memory, and a closure's worth of launches of `increment`.
fn increment(device: &Device, stream: &std::sync::Arc<cudarc::driver::CudaStream>, x: &cudarc::driver::CudaSlice<f32>) {
    let (function, n) = (device.kernel("increment"), x.len() as i32);
    // SAFETY: the kernel's arguments.
    unsafe { stream.launch_builder(&function).arg(x).arg(&n).launch(grid(1, 32)) }.unwrap();
}

const CAPTURE: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;

#[test]
fn a_graph_replays_what_was_captured_and_capturing_runs_nothing() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let stream = &device.stream;
    let x = stream.alloc_zeros::<f32>(16).unwrap();
    stream.synchronize().unwrap();
    stream.begin_capture(CAPTURE).unwrap();
    increment(&device, stream, &x);
    increment(&device, stream, &x);
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap()[0], 0.0);
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap(), vec![4.0; 16]);
}

#[test]
fn what_a_capture_may_not_do() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let stream = &device.stream;
    let other = device.stream.context().new_stream().unwrap();
    let x = stream.alloc_zeros::<f32>(16).unwrap();
    let outside = other.record_event(None).unwrap();
    let begin = || stream.begin_capture(CAPTURE).unwrap();

    begin();
    assert!(stream.wait(&outside).is_err(), "an event of outside");
    assert!(stream.end_capture(NO_FLAGS).is_err(), "and the capture is lost");
    begin();
    assert!(stream.synchronize().is_err(), "waiting for what does not run");
    assert!(stream.end_capture(NO_FLAGS).is_err());
    begin();
    assert!(stream.clone_dtoh(&x).is_err(), "a copy to pageable memory");
    assert!(stream.end_capture(NO_FLAGS).is_err());

    begin();
    other.wait(&stream.record_event(None).unwrap()).unwrap();
    increment(&device, &other, &x);
    assert!(stream.end_capture(NO_FLAGS).is_err(), "a stream that went out and never came back");
    begin();
    other.wait(&stream.record_event(None).unwrap()).unwrap();
    increment(&device, &other, &x);
    stream.wait(&other.record_event(None).unwrap()).unwrap();
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap()[0], 1.0, "one that did");
}

#[test]
fn a_missing_wait_reads_old_data() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let (a, b) = (&device.stream, device.stream.context().new_stream().unwrap());
    let x = a.alloc_zeros::<f32>(16).unwrap();
    a.synchronize().unwrap();
    increment(&device, a, &x);
    assert_eq!(b.clone_dtoh(&x).unwrap()[0], 0.0);
    b.wait(&a.record_event(None).unwrap()).unwrap();
    assert_eq!(b.clone_dtoh(&x).unwrap()[0], 1.0);
}

#[test]
fn misuse_of_the_driver_is_an_error() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let stream = &device.stream;
    let x = stream.alloc_zeros::<f32>(16).unwrap();
    let (function, n) = (device.kernel("increment"), 16_i32);
    for (blocks, threads) in [(0, 32), (1, 0), (1, 2048)] {
        // SAFETY: the kernel's arguments.
        let launched = unsafe { stream.launch_builder(&function).arg(&x).arg(&n).launch(grid(blocks, threads)) };
        assert!(launched.is_err(), "{blocks} blocks of {threads} threads");
    }
    // SAFETY: nothing reads the memory.
    let nothing = unsafe { stream.alloc::<f32>(0) };
    assert!(nothing.is_err());
    // SAFETY: nothing reads the memory.
    let too_much = unsafe { stream.alloc::<f32>(1 << 40) };
    assert!(too_much.is_err());
    stream.synchronize().expect("none of these is sticky");
}
