//! The Cholesky factor of a correlation matrix.

/// L with L Lᵀ = A.
#[derive(Clone, Debug)]
pub(super) struct Cholesky {
    /// Row i has i + 1 numbers.
    rows: Vec<Vec<f64>>,
}

/// A pivot below this, of a diagonal of one, is rounding.
const LEAST_PIVOT: f64 = 1e-12;

impl Cholesky {
    /// Of the symmetric matrix with these elements, asked for at j <= i only. A column that depends on those before it keeps
    /// a tiny pivot: what departs from the dependence lies very far out.
    pub fn new(size: usize, element: impl Fn(usize, usize) -> f64) -> Self {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
        for i in 0..size {
            let mut row = Vec::with_capacity(i + 1);
            for (j, other) in rows.iter().enumerate() {
                row.push((element(i, j) - dot(&row, other)) / other[j]);
            }
            row.push((element(i, i) - dot(&row, &row)).max(LEAST_PIVOT).sqrt());
            rows.push(row);
        }
        Self { rows }
    }

    /// xᵀ A⁻¹ x
    pub fn norm2(&self, x: &[f64]) -> f64 {
        let mut y: Vec<f64> = Vec::with_capacity(x.len());
        for (row, x) in self.rows.iter().zip(x) {
            y.push((x - dot(&y, row)) / row[y.len()]);
        }
        dot(&y, &y)
    }
}

/// Over the shorter of both.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_the_inverse() {
        let a = [[4.0, 2.0, 0.4], [2.0, 3.0, 0.2], [0.4, 0.2, 1.0]];
        let x = [1.0, -2.0, 0.5];
        let factor = Cholesky::new(3, |i, j| a[i][j]);
        // Solve A y = x by Cramer's rule.
        let det = |m: [[f64; 3]; 3]| {
            m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
                + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
        };
        let solved = |k: usize| {
            let mut m = a;
            (0..3).for_each(|i| m[i][k] = x[i]);
            det(m) / det(a)
        };
        let exact: f64 = (0..3).map(|k| x[k] * solved(k)).sum();
        assert!((factor.norm2(&x) - exact).abs() < 1e-12, "{} {exact}", factor.norm2(&x));
    }

    #[test]
    fn a_singular_matrix_puts_departures_far_out() {
        let factor = Cholesky::new(2, |_, _| 1.0);
        assert!((factor.norm2(&[1.0, 1.0]) - 1.0).abs() < 1e-6);
        assert!(factor.norm2(&[1.0, -1.0]) > 1e10);
        assert_eq!(Cholesky::new(0, |_, _| 0.0).norm2(&[]), 0.0);
    }
}
