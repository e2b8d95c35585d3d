//! Confidence band of an empirical distribution function.

use crate::error::Error;

/// Half-width ε of the band around the uniform distribution that contains the whole empirical distribution function
/// of n uniform numbers with at least this probability: ε = √(ln(2 / (1 - confidence)) / 2n)
/// (Dvoretzky-Kiefer-Wolfowitz inequality with the constant of Massart 1990).
///
/// # Errors
/// [`Error::Parameter`] unless 0 < confidence < 1, or if n is 0.
pub fn simultaneous_band(n: usize, confidence: f64) -> Result<f64, Error> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::parameter("confidence", format!("{confidence} must lie between 0 and 1")));
    }
    if n == 0 {
        return Err(Error::parameter("n", "an empirical distribution needs at least one number"));
    }
    Ok(((2.0 / (1.0 - confidence)).ln() / (2.0 * n as f64)).sqrt())
}

/// Largest distance between the empirical distribution function of numbers in \[0, 1\] and the uniform one
/// (the statistic of Kolmogorov and Smirnov).
pub(super) fn largest_distance(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = |(i, &v): (usize, &f64)| (v - i as f64 / n).max((i + 1) as f64 / n - v);
    values.iter().enumerate().map(distance).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Noise, NoiseId};

    #[test]
    fn the_band_contains_uniform_samples_as_often_as_it_says() {
        let (n, repeats) = (200, 2000);
        let mut table = vec![0.0; n * repeats];
        Noise { seed: 3, step: 0, id: NoiseId(0) }.fill_uniform::<f64>(0, n, &mut table);
        let band = simultaneous_band(n, 0.9).unwrap();
        let inside = table.chunks(n).filter(|u| largest_distance(u.iter().copied()) <= band).count();
        let fraction = inside as f64 / repeats as f64;
        assert!((0.88..0.94).contains(&fraction), "{fraction}");
    }

    #[test]
    fn distances_of_known_samples() {
        assert_eq!(largest_distance([0.5].into_iter()), 0.5);
        assert_eq!(largest_distance([0.0; 10].into_iter()), 1.0);
        assert!((largest_distance((0..100).map(|i| (f64::from(i) + 0.5) / 100.0)) - 0.005).abs() < 1e-12);
    }

    #[test]
    fn impossible_confidence_is_an_error() {
        assert!(simultaneous_band(10, 1.0).is_err());
        assert!(simultaneous_band(0, 0.5).is_err());
        assert!(simultaneous_band(10, f64::NAN).is_err());
    }
}
