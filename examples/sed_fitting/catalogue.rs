//! The data of the example: a bank of simulated galaxies and a catalogue of real ones.

use std::path::Path;

use ndarray::Array2;
use retrodict::Error;
use retrodict::files::read_npy;

/// The number of photometric bands, from the near ultraviolet (0.37 micron) to the mid infrared (7.9 micron);
/// `examples/data/README.md` names them.
pub const BANDS: usize = 17;

/// The number of parameters to infer.
pub const PARAMETERS: usize = 7;

/// The simulated galaxies, a sample of the prior. A row fixes everything but the brightness.
pub struct Bank {
    /// log M*, log SFR (both per microjansky of amplitude), t25, t50, t75, log Z/Z_sun, A_V.
    pub theta: Vec<[f64; PARAMETERS]>,
    /// Redshift.
    pub redshift: Vec<f64>,
    /// Flux density per unit frequency, divided by that of the brightest band.
    pub sed: Vec<[f64; BANDS]>,
}

impl Bank {
    /// Reads the bank that comes with the example.
    pub fn load() -> Result<Self, Error> {
        let theta = read("sed_theta.npy", PARAMETERS + 1)?;
        let sed = read("sed_flux.npy", BANDS)?;
        if theta.nrows() != sed.nrows() {
            let (expected, found) = (theta.nrows(), sed.nrows());
            return Err(Error::Length { what: "sed_flux.npy rows", expected, found });
        }
        Ok(Self {
            theta: columns(&theta, 0),
            redshift: theta.column(PARAMETERS).iter().copied().collect(),
            sed: columns(&sed, 0),
        })
    }

    /// The number of simulated galaxies.
    pub fn len(&self) -> usize {
        self.redshift.len()
    }
}

/// What is measured of one galaxy, real or simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Photometry {
    /// Whether each band was observed.
    pub observed: [bool; BANDS],
    /// Flux density, microjansky; 0 where not observed.
    pub flux: [f64; BANDS],
    /// Reported standard error of the flux, microjansky; 1 where not observed.
    pub sigma: [f64; BANDS],
    /// Redshift.
    pub redshift: f64,
}

/// The real galaxies.
pub struct Galaxies {
    /// Identifier in the CANDELS GOODS-S catalogue.
    pub id: Vec<u32>,
    /// Their photometry.
    pub photometry: Vec<Photometry>,
}

impl Galaxies {
    /// Reads the catalogue that comes with the example.
    pub fn load() -> Result<Self, Error> {
        let table = read("galaxies.npy", 2 + 2 * BANDS)?;
        let magnitudes = columns(&table, 2);
        let errors = columns(&table, 2 + BANDS);
        let redshifts = table.column(1);
        Ok(Self {
            id: table.column(0).iter().map(|&id| id as u32).collect(),
            photometry: (0..table.nrows()).map(|i| from_magnitudes(&magnitudes[i], &errors[i], redshifts[i])).collect(),
        })
    }
}

/// AB magnitudes to microjansky: m = 23.9 - 2.5 log10 f, so that sigma_f = (ln 10 / 2.5) f sigma_m.
fn from_magnitudes(m: &[f64; BANDS], error: &[f64; BANDS], redshift: f64) -> Photometry {
    /// The catalogue rounds errors to a thousandth, so that the smallest read 0; they were below this.
    const ROUNDING: f64 = 0.0005;
    let observed = error.map(|e| e >= 0.0);
    let mut galaxy = Photometry { observed, flux: [0.0; BANDS], sigma: [1.0; BANDS], redshift };
    for b in (0..BANDS).filter(|&b| observed[b]) {
        let flux = 10f64.powf(0.4 * (23.9 - m[b]));
        galaxy.flux[b] = flux;
        galaxy.sigma[b] = flux * error[b].max(ROUNDING) * std::f64::consts::LN_10 / 2.5;
    }
    galaxy
}

/// Reads a table of finite numbers with `width` columns from `examples/data`.
fn read(name: &'static str, width: usize) -> Result<Array2<f64>, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name);
    let table = read_npy(&path)?;
    if table.is_empty() || table.ncols() != width {
        let why = format!("expected rows of {width} columns, found shape {:?}", table.shape());
        return Err(Error::File { path, why });
    }
    match table.indexed_iter().find(|(_, v)| !v.is_finite()) {
        Some(((row, column), _)) => Err(Error::NonFinite { what: name, row, column }),
        None => Ok(table),
    }
}

/// The `N` columns from `first` on, each row an array.
fn columns<const N: usize>(table: &Array2<f64>, first: usize) -> Vec<[f64; N]> {
    let row = |i| std::array::from_fn(|j| table[[i, first + j]]);
    (0..table.nrows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_become_microjansky() {
        let mut error = [-99.0; BANDS];
        error[..3].copy_from_slice(&[0.1, 0.0, 2.5]);
        let galaxy = from_magnitudes(&[23.9; BANDS], &error, 1.05);
        assert_eq!((galaxy.flux[0], galaxy.flux[3], galaxy.sigma[3]), (1.0, 0.0, 1.0));
        assert_eq!(galaxy.observed.map(u8::from)[..5], [1, 1, 1, 0, 0]);
        assert!((galaxy.sigma[2] - std::f64::consts::LN_10).abs() < 1e-12);
        assert!(galaxy.sigma[1] > 0.0, "an error rounded to zero is not zero");
    }

    #[test]
    fn the_files_are_those_described() {
        let (bank, galaxies) = (Bank::load().unwrap(), Galaxies::load().unwrap());
        assert_eq!((bank.len(), galaxies.id.len()), (60_000, 371));
        assert!(bank.redshift.iter().all(|z| (0.9..1.1).contains(z)));
        let peak = |sed: &[f64; BANDS]| sed.iter().copied().fold(0.0, f64::max);
        assert!(bank.sed.iter().all(|sed| (peak(sed) - 1.0).abs() < 1e-6));
        let observed = |g: &Photometry| g.observed.iter().filter(|&&o| o).count();
        assert_eq!(galaxies.photometry.iter().map(observed).sum::<usize>(), 5503);
    }
}
