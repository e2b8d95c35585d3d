//! Copies between the processor and the device: what they read, and when.

mod support;

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, PinnedHostSlice, PushKernelArg};
use support::{Device, driver, grid};

const WORKS: &str = include_str!("kernels/works.ptx");
const LEN: usize = 16;

/// Page-locked memory full of one number.
fn pinned(device: &Device, value: f32) -> PinnedHostSlice<f32> {
    // SAFETY: it is filled before it is read.
    let mut memory = unsafe { device.stream.context().alloc_pinned_with_flags::<f32>(LEN, 0) }.unwrap();
    memory.as_mut_slice().unwrap().fill(value);
    memory
}

#[test]
fn pageable_memory_is_read_when_the_copy_is_asked_for() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let mut memory = vec![1.0_f32; LEN];
    let x = device.stream.clone_htod(&memory).unwrap();
    memory.fill(2.0);
    assert_eq!(device.stream.clone_dtoh(&x).unwrap(), [1.0; LEN]);
}

#[test]
fn page_locked_memory_that_is_overwritten_before_its_copy_has_run_arrives_wrong() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    for waits in [true, false] {
        let mut memory = pinned(&device, 1.0);
        let address = memory.as_mut_ptr().unwrap();
        let x = device.stream.clone_htod(&memory).unwrap();
        if waits {
            device.stream.record_event(None).unwrap().synchronize().unwrap();
        }
        // SAFETY: the memory is alive. That a copy may be under way is the mistake.
        unsafe { std::slice::from_raw_parts_mut(address, LEN) }.fill(2.0);
        let expected = if waits { 1.0 } else { 2.0 };
        assert_eq!(device.stream.clone_dtoh(&x).unwrap(), [expected; LEN], "waits: {waits}");
    }
}

#[test]
fn page_locked_memory_is_written_when_somebody_waits() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let mut memory = pinned(&device, 7.0);
    let address = memory.as_mut_ptr().unwrap();
    let x = device.stream.alloc_zeros::<f32>(LEN).unwrap();
    device.stream.memcpy_dtoh(&x, &mut memory).unwrap();
    // SAFETY: the memory is alive.
    let first = || unsafe { address.read_volatile() };
    assert_eq!(first(), 7.0);
    device.stream.synchronize().unwrap();
    assert_eq!(first(), 0.0);
}

/// What a pipeline of two places forgets to wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forgotten {
    Nothing,
    /// The host, for the place's last copy.
    Copied,
    /// The work, for the copy of its batch.
    Arrived,
    /// The copy, for the work on the batch that it overwrites.
    Used,
}

/// Batches that are copied in one stream while another works on the one before, through two places; their sum.
fn pipeline(device: &Device, forgotten: Forgotten) -> Vec<f32> {
    let (work, copies) = (&device.stream, device.stream.context().new_stream().unwrap());
    let places: Vec<_> = (0..2)
        .map(|_| {
            let mut host = pinned(device, 0.0);
            let address = host.as_mut_ptr().unwrap();
            let event = || device.stream.context().new_event(None).unwrap();
            (host, address, copies.alloc_zeros::<f32>(LEN).unwrap(), event(), event())
        })
        .collect();
    copies.synchronize().unwrap();
    let mut sum = work.alloc_zeros::<f32>(LEN).unwrap();
    for batch in 1..=5_u8 {
        let (_, address, there, copied, used) = &places[usize::from(batch % 2)];
        if forgotten != Forgotten::Copied {
            copied.synchronize().unwrap();
        }
        // SAFETY: the memory is alive.
        let host = unsafe { std::slice::from_raw_parts_mut(*address, LEN) };
        host.fill(f32::from(batch));
        if forgotten != Forgotten::Used {
            copies.wait(used).unwrap();
        }
        copy(&copies, host, there);
        copied.record(&copies).unwrap();
        if forgotten != Forgotten::Arrived {
            work.wait(copied).unwrap();
        }
        add(device, there, &mut sum);
        used.record(work).unwrap();
    }
    work.clone_dtoh(&sum).unwrap()
}

fn copy(stream: &CudaStream, from: &[f32], to: &CudaSlice<f32>) {
    let (address, _) = cudarc::driver::DevicePtr::device_ptr(to, stream);
    // SAFETY: both are of one length and alive.
    unsafe { cudarc::driver::result::memcpy_htod_async(address, from, stream.cu_stream()) }.unwrap();
}

fn add(device: &Device, x: &CudaSlice<f32>, sum: &mut CudaSlice<f32>) {
    let (stream, n): (&Arc<CudaStream>, _) = (&device.stream, LEN as i32);
    // SAFETY: the kernel's arguments.
    unsafe { stream.launch_builder(&device.kernel("accumulate")).arg(x).arg(sum).arg(&n).launch(grid(1, 32)) }.unwrap();
}

#[test]
fn a_pipeline_of_two_places_needs_all_of_its_waits() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    assert_eq!(pipeline(&device, Forgotten::Nothing), [15.0; LEN]);
    for forgotten in [Forgotten::Copied, Forgotten::Arrived, Forgotten::Used] {
        assert_ne!(pipeline(&device, forgotten), [15.0; LEN], "{forgotten:?}");
    }
}

#[test]
fn memory_is_as_large_as_was_asked_for() {
    let _driver = driver();
    let device = Device::new(WORKS).unwrap();
    let context = device.stream.context();
    let (free, total) = context.mem_get_info().unwrap();
    assert_eq!(total, 4 << 30);
    cusim::set_memory(Some(total - free + 1000));
    let buffer = device.stream.alloc_zeros::<u8>(600).unwrap();
    assert_eq!(context.mem_get_info().unwrap(), (400, total - free + 1000));
    assert!(device.stream.alloc_zeros::<u8>(401).is_err());
    drop(buffer);
    device.stream.synchronize().unwrap();
    assert!(device.stream.alloc_zeros::<u8>(1000).is_ok());
}
