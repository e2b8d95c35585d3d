//! Probability integral transform.

use ndarray::{Array1, ArrayView1, ArrayView2};

/// Fraction of the draws `[draws x parameters]` that lie below the truth, for each parameter.
///
/// A draw equal to the truth counts half. If the posterior is right, the values of many simulations are uniform
/// (Cook, Gelman & Rubin 2006; Talts et al. 2018). The rank is divided by the number of draws.
pub fn pit(draws: ArrayView2<'_, f64>, truth: ArrayView1<'_, f64>) -> Array1<f64> {
    let rank = |(column, &t): (ArrayView1<'_, f64>, &f64)| {
        let below = column.iter().filter(|&&d| d < t).count() as f64;
        let equal = column.iter().filter(|&&d| d == t).count() as f64;
        (below + 0.5 * equal) / draws.nrows() as f64
    };
    draws.columns().into_iter().zip(truth).map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn ranks_are_divided_by_the_number_of_draws() {
        let draws = array![[0.0, 5.0], [1.0, 5.0], [2.0, 6.0], [3.0, 7.0]];
        assert_eq!(pit(draws.view(), array![1.5, 5.0].view()), array![0.5, 0.25]);
        assert_eq!(pit(draws.view(), array![-1.0, 9.0].view()), array![0.0, 1.0]);
    }
}
