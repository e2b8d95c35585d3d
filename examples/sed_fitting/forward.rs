//! The forward model: from a simulated galaxy to what a telescope would report of it.
//!
//! A row of the bank fixes the spectrum's shape s and the mass per unit of amplitude. Then
//!
//! | quantity | model |
//! |---|---|
//! | brightness | log M* ~ U(8.5, 12), A = 10^(log M* - log M*_row) microjansky, f_b = A s_b |
//! | depth | which bands are observed and their errors sigma_b: a real galaxy's, errors jittered |
//! | flux | F_b ~ N(f_b, sigma_b^2 + (phi_b f_b)^2) |
//! | redshift | z_obs ~ N(z, 0.01^2) |
//!
//! Depths are drawn independently of the galaxy, so they say nothing about its parameters and
//! `exact.rs` can write the likelihood given them down.

use std::f64::consts::LN_10;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use retrodict::{Error, Support};

use crate::catalogue::{BANDS, Bank, Galaxies, PARAMETERS, Photometry};

/// The parameters to infer and where they lie. The bank comes as a table, so this is all that is said of the prior.
pub fn support() -> Result<Support, Error> {
    Support::new()
        .interval("log_mass", LOG_MASS.0, LOG_MASS.1) // M*: solar masses
        .interval("log_sfr", -7.5, 4.0) // solar masses a year; the bank's extremes are -6.8, 3.6
        .ordered(&["t25", "t50", "t75"], 0.0, 1.0) // when 25, 50, 75 % of the stars had formed, over the cosmic age
        .interval("log_z", -1.5, 0.5) // metallicity over the Sun's
        .interval("a_v", 0.0, 1.0) // dust attenuation, magnitudes
        .build()
}

/// Prior range of log M*: the real galaxies lie between 8.9 and 11.7.
pub const LOG_MASS: (f64, f64) = (8.5, 12.0);

/// Standard deviation of an observed redshift about the true one.
pub const REDSHIFT_ERROR: f64 = 0.01;

/// The model error phi_b, a fraction of the flux: templates, calibration, the dust law. In the fits of
/// the bank to the real galaxies the typical residual is 4 to 10 % in most bands, and 0.3 to 1.3 of
/// phi_b in all; F606W is observed about 17 % brighter than modelled, Ks about 15 % fainter, and the
/// two longest bands, where dust glows, scatter most. Rounding up to 10 % also keeps `exact.rs` exact:
/// with less noise, too few of the bank's rows resemble any one galaxy.
pub const FLOOR: [f64; BANDS] = [0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.15, 0.2];

/// Scatter, in dex, of simulated depths about the real ones: of a galaxy, and of each of its bands.
const JITTER: (f64, f64) = (0.1, 0.05);

/// The number of features: brightness, error and mask of each band, and the redshift.
pub const FEATURES: usize = 3 * BANDS + 1;

/// Turns rows of the bank into observations like those of a catalogue.
pub struct Forward<'a> {
    bank: &'a Bank,
    donors: &'a [Photometry],
    depth: [f64; BANDS],
}

/// A simulated galaxy: the truth and what is observed of it.
pub struct Simulation {
    /// The parameters, in the order of [`support`].
    pub theta: [f64; PARAMETERS],
    /// The observation.
    pub photometry: Photometry,
}

impl<'a> Forward<'a> {
    /// Simulates galaxies of `bank` observed as those of `galaxies`, of which there must be one.
    pub fn new(bank: &'a Bank, galaxies: &'a Galaxies) -> Self {
        let donors = &galaxies.photometry;
        Self { bank, donors, depth: std::array::from_fn(|b| median_error(donors, b)) }
    }

    /// Observes the galaxy in row `row` of the bank.
    pub fn simulate<R: Rng + ?Sized>(&self, row: usize, rng: &mut R) -> Simulation {
        let mut normal = |sd: f64| sd * rng.sample::<f64, _>(StandardNormal);
        let redshift = self.bank.redshift[row] + normal(REDSHIFT_ERROR);
        let common = normal(JITTER.0);
        let scatter: [[f64; 2]; BANDS] = std::array::from_fn(|_| [normal(JITTER.1), normal(1.0)]);
        let log_mass = rng.random_range(LOG_MASS.0..LOG_MASS.1);
        let donor = &self.donors[rng.random_range(0..self.donors.len())];

        let log_amplitude = log_mass - self.bank.theta[row][0];
        let amplitude = 10f64.powf(log_amplitude);
        let mut photometry = Photometry { redshift, ..donor.clone() };
        for b in (0..BANDS).filter(|&b| donor.observed[b]) {
            let [jitter, noise] = scatter[b];
            let sigma = donor.sigma[b] * (LN_10 * (common + jitter)).exp();
            let flux = amplitude * self.bank.sed[row][b];
            photometry.sigma[b] = sigma;
            photometry.flux[b] = flux + variance(b, sigma, flux).sqrt() * noise;
        }
        let theta = at_amplitude(&self.bank.theta[row], log_amplitude);
        Simulation { theta, photometry }
    }

    /// What the network sees, band by band: asinh(F / 2d), log10(sigma / d) and 1, or three zeros
    /// where the band was not observed; and the redshift.
    ///
    /// The typical depth d softens the logarithm (asinh magnitudes: Lupton, Gunn & Szalay 1999), so
    /// that fluxes lost in the noise, or below zero, keep their place.
    pub fn features(&self, galaxy: &Photometry) -> [f64; FEATURES] {
        let mut x = [0.0; FEATURES];
        for b in (0..BANDS).filter(|&b| galaxy.observed[b]) {
            let (flux, sigma) = (galaxy.flux[b] / self.depth[b], galaxy.sigma[b] / self.depth[b]);
            x[b] = (0.5 * flux).asinh();
            x[BANDS + b] = sigma.log10();
            x[2 * BANDS + b] = 1.0;
        }
        x[3 * BANDS] = galaxy.redshift;
        x
    }
}

/// The variance of the observed flux of a galaxy whose flux in band `b` is `flux`.
pub fn variance(b: usize, sigma: f64, flux: f64) -> f64 {
    sigma * sigma + (FLOOR[b] * flux).powi(2)
}

/// The parameters of a galaxy of the bank made 10^`log_amplitude` times as bright: mass and star
/// formation rate grow with the flux, the rest stays.
pub fn at_amplitude(row: &[f64; PARAMETERS], log_amplitude: f64) -> [f64; PARAMETERS] {
    let mut theta = *row;
    theta[0] += log_amplitude;
    theta[1] += log_amplitude;
    theta
}

/// The median error of the galaxies observed in band `b`; 1 where none was.
fn median_error(galaxies: &[Photometry], b: usize) -> f64 {
    let mut errors: Vec<f64> = galaxies.iter().filter(|g| g.observed[b]).map(|g| g.sigma[b]).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};

    fn data() -> (Bank, Galaxies) {
        let sed = std::array::from_fn(|b| 0.1 + 0.05 * b as f64);
        let bank = Bank { theta: vec![[9.0; PARAMETERS]], redshift: vec![1.0], sed: vec![sed] };
        let observed = std::array::from_fn(|b| b != 4);
        let sigma = std::array::from_fn(|b| if observed[b] { 0.02 } else { 1.0 });
        let donor = Photometry { observed, flux: [0.0; BANDS], sigma, redshift: 1.0 };
        (bank, Galaxies { id: vec![1], photometry: vec![donor] })
    }

    #[test]
    fn noise_has_the_stated_moments() {
        const N: usize = 100_000;
        let (bank, galaxies) = data();
        let forward = Forward::new(&bank, &galaxies);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let (mut mean, mut square, mut jitter, mut redshift) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..N {
            let Simulation { theta, photometry } = forward.simulate(0, &mut rng);
            assert!((LOG_MASS.0..LOG_MASS.1).contains(&theta[0]) && theta[0] == theta[1]);
            let flux = 10f64.powf(theta[0] - 9.0) * bank.sed[0][3];
            let pull = (photometry.flux[3] - flux) / variance(3, photometry.sigma[3], flux).sqrt();
            mean += pull / N as f64;
            square += pull * pull / N as f64;
            jitter += (photometry.sigma[3] / 0.02).log10().powi(2) / N as f64;
            redshift += (photometry.redshift - 1.0).powi(2) / N as f64;
        }
        // Five standard errors: 1/sqrt(N) of a mean, sqrt(2/N) of a variance.
        assert!(mean.abs() < 0.016 && (square - 1.0).abs() < 0.023, "{mean} {square}");
        assert!((jitter / (0.1f64.powi(2) + 0.05f64.powi(2)) - 1.0).abs() < 0.023, "{jitter}");
        assert!((redshift / REDSHIFT_ERROR.powi(2) - 1.0).abs() < 0.023, "{redshift}");
    }

    #[test]
    fn features_of_an_unobserved_band_are_zero() {
        let (bank, galaxies) = data();
        let galaxy = &galaxies.photometry[0];
        let x = Forward::new(&bank, &galaxies).features(galaxy);
        assert_eq!([x[4], x[BANDS + 4], x[2 * BANDS + 4]], [0.0; 3]);
        assert_eq!([x[5], x[BANDS + 5], x[2 * BANDS + 5], x[3 * BANDS]], [0.0, 0.0, 1.0, 1.0]);
    }
}
