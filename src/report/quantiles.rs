//! Quantiles of weighted draws.

use ndarray::ArrayView1;

/// Kish's effective number of draws, (Σw)² / Σw², of weights that sum to 1.
pub(super) fn effective(weights: &[f64]) -> f64 {
    1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>()
}

/// Weighted quantiles: each draw stands in the middle of its weight, with straight lines between.
pub(super) fn quantiles<const N: usize>(column: ArrayView1<f64>, weights: &[f64], parts: [f64; N]) -> [f64; N] {
    let draws = column.into_iter().copied().zip(weights.iter().copied());
    let mut sorted: Vec<(f64, f64)> = draws.filter(|&(_, weight)| weight > 0.0).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = 0.0;
    for draw in &mut sorted {
        let weight = draw.1;
        draw.1 = below + 0.5 * weight;
        below += weight;
    }
    parts.map(|part| {
        let k = sorted.partition_point(|draw| draw.1 < part);
        let (a, b) = (sorted[k.saturating_sub(1)], sorted[k.min(sorted.len() - 1)]);
        if b.1 > a.1 { a.0 + (b.0 - a.0) * (part - a.1) / (b.1 - a.1) } else { b.0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn quantiles_are_those_of_the_weighted_draws() {
        let column = array![4.0, 1.0, 3.0, 2.0];
        let parts = [0.0, 0.125, 0.25, 0.5, 1.0];
        assert_eq!(quantiles(column.view(), &[0.25; 4], parts), [1.0, 1.0, 1.5, 2.5, 4.0]);
        let [median] = quantiles(array![0.0, 1.0].view(), &[0.25, 0.75], [0.5]);
        assert!((median - 0.75).abs() < 1e-15); // three quarters of the way from 1/8 to 5/8
        assert_eq!(quantiles(array![9.0].view(), &[1.0], [0.16, 0.84]), [9.0, 9.0]);
    }
}
