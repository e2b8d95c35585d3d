//! Small matrix products, in flop/s: ours beside `matrixmultiply`, and the most this core can do.
//!
//! The shapes are those of a dense layer on a tile of 128 rows, m x k x n: NN is the forward
//! product with its bias, NT the gradient of the input, TN that of the weights. Pin the process
//! to one core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retrodict::device::cpu::gemm::{Mat, Scratch, Start, gemm};
use retrodict::math;

/// Independent sums: 12 vectors of 16, which hide the latency of a fused multiply-add.
const LANES: usize = 192;
const STEPS: usize = 1000;

/// Fused multiply-adds on registers alone.
fn peak(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm f32");
    group.throughput(Throughput::Elements((2 * LANES * STEPS) as u64));
    let mut memory = [1.0f32; LANES];
    group.bench_function("peak", |bench| {
        bench.iter(|| {
            math::wide(
                #[inline(always)]
                || {
                    let mut sums = black_box(memory);
                    let x = black_box(0.5);
                    for _ in 0..STEPS {
                        sums.iter_mut().for_each(|sum| *sum = sum.mul_add(x, 0.25));
                    }
                    memory = black_box(sums);
                },
            );
        });
    });
}

/// Whether A and B are given as their transposes, and what C starts from.
#[derive(Clone, Copy, Debug)]
enum Product {
    NN,
    NT,
    TN,
}

fn products(criterion: &mut Criterion) {
    use Product::{NN, NT, TN};
    let mut group = criterion.benchmark_group("gemm f32");
    for (m, k, n) in [(128, 18, 64), (128, 64, 64), (128, 64, 6), (128, 256, 256)] {
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32).cos()).collect();
        let (bias, mut c) = (vec![0.1; n], vec![0.0; m * n]);
        let mut scratch = Scratch::boxed();
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        for product in [NN, NT, TN] {
            let (x, y, start) = match product {
                NN => (Mat::new(&a, m, k), Mat::new(&b, k, n), Start::Bias(&bias[..])),
                NT => (Mat::new(&a, m, k), Mat::new(&b, n, k).t(), Start::Zero),
                TN => (Mat::new(&a, k, m).t(), Mat::new(&b, k, n), Start::Add),
            };
            let name = format!("{m}x{k}x{n} {product:?}");
            group.bench_function(format!("{name} ours"), |bench| {
                bench.iter(|| gemm(black_box(x), black_box(y), start, &mut c, n, &mut scratch));
            });
            let (a_rows, a_cols) = if matches!(product, TN) { (1, m) } else { (k, 1) };
            let (b_rows, b_cols) = if matches!(product, NT) { (1, k) } else { (n, 1) };
            let beta = if matches!(product, TN) { 1.0 } else { 0.0 };
            group.bench_function(format!("{name} matrixmultiply"), |bench| {
                bench.iter(|| {
                    let (a, b) = (black_box(&a), black_box(&b));
                    let (ra, ca, rb, cb) = (a_rows as isize, a_cols as isize, b_rows as isize, b_cols as isize);
                    let (x, y, z) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                    // SAFETY: the strides are those of m x k, k x n and m x n elements, which
                    // the three vectors hold.
                    unsafe {
                        matrixmultiply::sgemm(m, k, n, 1.0, x, ra, ca, y, rb, cb, beta, z, n as isize, 1);
                    }
                });
            });
        }
    }
}

criterion_group!(benches, peak, products);
criterion_main!(benches);
