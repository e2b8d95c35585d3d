//! The rational-quadratic function in one bin, its inverse, its slope and their derivatives.

use crate::real::Real;

/// One bin, in coordinates in which both its sides are 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bin<T> {
    /// s, the slope of its diagonal.
    pub chord: T,
    /// d0, the slope at its left end.
    pub left: T,
    /// d1, the slope at its right end.
    pub right: T,
}

/// Adjoints of ξ and of a bin's three slopes.
pub(super) struct BinAdjoint<T> {
    pub position: T,
    pub chord: T,
    pub left: T,
    pub right: T,
}

impl<T: Real> Bin<T> {
    /// E at ξ and ζ = 1 - ξ.
    #[inline(always)]
    fn denominator(&self, xi: T, zeta: T) -> T {
        self.chord * (xi * xi + zeta * zeta) + (self.left + self.right) * (xi * zeta)
    }

    /// N at ξ and ζ = 1 - ξ.
    #[inline(always)]
    fn numerator(&self, xi: T, zeta: T) -> T {
        let cross = self.chord * xi * zeta;
        self.right * xi * xi + (cross + cross) + self.left * zeta * zeta
    }

    /// η at ξ.
    #[inline(always)]
    pub fn forward(&self, xi: T) -> T {
        let zeta = T::ONE - xi;
        xi * (self.chord * xi + self.left * zeta) / self.denominator(xi, zeta)
    }

    /// ξ at η.
    #[inline(always)]
    pub fn inverse(&self, eta: T) -> T {
        let rest = T::ONE - eta;
        let chord = self.chord + self.chord;
        let e = self.left * rest - self.right * eta;
        let root = (e * e + chord * chord * (eta * rest)).sqrt();
        let from_left = e >= T::ZERO;
        let near = chord * if from_left { eta } else { rest };
        let xi = near / (e.abs() + near + root);
        if from_left { xi } else { T::ONE - xi }
    }

    /// dy/dx at ξ.
    #[inline(always)]
    pub fn slope(&self, xi: T) -> T {
        let zeta = T::ONE - xi;
        let ratio = self.chord / self.denominator(xi, zeta);
        ratio * ratio * self.numerator(xi, zeta)
    }

    /// dℓ/dξ, where ℓ = ln dy/dx.
    #[inline(always)]
    pub fn log_slope_derivative(&self, xi: T) -> T {
        let (zeta, two) = (T::ONE - xi, T::ONE + T::ONE);
        let skew = zeta - xi;
        let numerator = self.right * xi - self.left * zeta + self.chord * skew;
        let denominator = (self.left + self.right - two * self.chord) * skew;
        two * (numerator / self.numerator(xi, zeta) - denominator / self.denominator(xi, zeta))
    }

    /// The adjoints of ξ and the slopes, given those of η and ℓ = ln dy/dx:
    /// $$ \eta_\xi = s N / E^2, \quad \eta_s = \xi\zeta\,(d_1 \xi^2 - d_0 \zeta^2) / E^2, \quad
    ///    \eta_{d_0} = \xi\zeta^2 (s \zeta + d_1 \xi) / E^2, \quad
    ///    \eta_{d_1} = -\xi^2\zeta\,(s \xi + d_0 \zeta) / E^2, $$
    /// $$ \ell_s = 2 / s + 2 \xi\zeta / N - 2 (\xi^2 + \zeta^2) / E, \quad
    ///    \ell_{d_0} = \zeta^2 / N - 2 \xi\zeta / E, \quad \ell_{d_1} = \xi^2 / N - 2 \xi\zeta / E. $$
    #[inline(always)]
    pub fn gradient(&self, xi: T, d_eta: T, dl: T) -> BinAdjoint<T> {
        let (zeta, two) = (T::ONE - xi, T::ONE + T::ONE);
        let cross = xi * zeta;
        let (left, right) = (self.left * zeta, self.right * xi);
        let (per_e, n) = (T::ONE / self.denominator(xi, zeta), self.numerator(xi, zeta));
        let (along, dl_n, dl_e) = (d_eta * per_e * per_e, dl / n, two * dl * per_e);
        BinAdjoint {
            position: along * self.chord * n + dl * self.log_slope_derivative(xi),
            chord: along * cross * (right * xi - left * zeta) + two * dl / self.chord + two * dl_n * cross
                - dl_e * (xi * xi + zeta * zeta),
            left: along * cross * zeta * (self.chord * zeta + right) + dl_n * zeta * zeta - dl_e * cross,
            right: dl_n * xi * xi - dl_e * cross - along * cross * xi * (self.chord * xi + left),
        }
    }
}
