//! Numbers that every language makes alike, to the last bit.

use std::f64::consts::TAU;

/// SplitMix64's finaliser of a seed and an index.
fn hash(seed: u64, i: u64) -> u64 {
    let x = seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(i);
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The top 24 bits as a whole number.
fn bits(seed: u64, i: u64) -> f64 {
    (hash(seed, i) >> 40) as f64
}

const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// n numbers, uniform on [0, 1).
pub fn uniform(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| (bits(seed, i) * UNIT) as f32).collect()
}

/// n standard normals: the cosine half of Box-Muller in double precision, rounded.
pub fn normal(seed: u64, n: usize) -> Vec<f32> {
    let one = |i: u64| {
        let (u, v) = ((bits(seed, 2 * i) + 1.0) * UNIT, bits(seed, 2 * i + 1) * UNIT);
        ((-2.0 * u.ln()).sqrt() * (TAU * v).cos()) as f32
    };
    (0..n as u64).map(one).collect()
}

/// The numbers 0..n in the order in which the minibatches take them.
pub fn permutation(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by_key(|&i| hash(7, u64::from(i)));
    order
}
