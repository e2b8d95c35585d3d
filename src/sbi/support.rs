//! The region that parameters can lie in, and its bijection to the reals.
//!
//! Densities are learned in the unconstrained coordinates `u` of the support, so no draw can
//! leave it and nothing is rejected. A density carries over with the bijection's determinant:
//! $\ln p(\theta) = \ln p(u) - \ln |\det d\theta/du|$.
//!
//! Bounded parameters go through $u = \Phi^{-1}(F(\theta))$, with $F$ the uniform law on their
//! support: a flat prior is then exactly the standard normal, the base of a flow, which starts
//! out at the prior.
//!
//! Round trips `u -> theta -> u` are exact to 1e-10 for $|u| \le 6$ wherever `theta` can hold
//! them. Next to a bound $b$ it is rounded to $2^{-53} |b|$, which moves `u` by
//! $2^{-53} |b| / (d\theta/du)$: by 1e-10 at $u \approx 5$ below the bound 1 of `[0, 1]`, by
//! nothing above its bound 0, and sooner if $|b|$ is far larger than the width.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use super::scalar::Scalar;
use super::shares::Shares;
use crate::error::{Error, check_length};

/// Named parameters in blocks, each block with a bijection to the reals.
///
/// ```
/// use retrodict::Support;
///
/// let support = Support::new()
///     .interval("log_mass", 8.0, 12.0)
///     .ordered(&["t25", "t50", "t75"], 0.0, 13.8)
///     .positive("tau")
///     .build()?;
/// let theta = [10.0, 1.0, 3.0, 9.0, 0.5];
/// let (mut u, mut back) = ([0.0; 5], [0.0; 5]);
/// support.unconstrain(&theta, &mut u)?;
/// support.constrain(&u, &mut back)?;
/// assert!(theta.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-12));
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "weights",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<Named<Law>>", into = "Vec<Named<Law>>")
)]
pub struct Support {
    names: Vec<String>,
    blocks: Vec<Block>,
}

/// Neighbouring columns that share one bijection.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    columns: Range<usize>,
    law: Law,
}

/// The law that a block's bijection carries to the standard normal.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(untagged))]
enum Law {
    Scalar(Scalar),
    Shares(Shares),
}

/// A block as a file tells it.
#[cfg(feature = "weights")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named<L> {
    pub names: Vec<String>,
    pub law: L,
}

#[cfg(feature = "weights")]
impl From<Support> for Vec<Named<Law>> {
    fn from(support: Support) -> Self {
        let names = |block: &Block| support.names[block.columns.clone()].to_vec();
        support.blocks.iter().map(|block| Named { names: names(block), law: block.law }).collect()
    }
}

#[cfg(feature = "weights")]
impl TryFrom<Vec<Named<Law>>> for Support {
    type Error = Error;

    fn try_from(blocks: Vec<Named<Law>>) -> Result<Self, Error> {
        let add = |builder: SupportBuilder, Named { names, law }: Named<Law>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            builder.block(&names, law)
        };
        blocks.into_iter().fold(Support::new(), add).build()
    }
}

impl Support {
    /// Starts an empty list of parameters; add some, then [`build`](SupportBuilder::build).
    #[expect(clippy::new_ret_no_self, reason = "an empty support is not a support yet")]
    pub fn new() -> SupportBuilder {
        SupportBuilder { names: Vec::new(), blocks: Vec::new() }
    }

    /// The number of parameters, and of unconstrained coordinates.
    pub fn dim(&self) -> usize {
        self.names.len()
    }

    /// The parameters' names, one for each column.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether `theta` lies in the closed support. Values that are not finite do not, nor does
    /// a row of another length. Shares may exceed 1 in sum by the rounding error 1e-12.
    pub fn contains(&self, theta: &[f64]) -> bool {
        theta.len() == self.dim() && self.violation(theta).is_none()
    }

    /// Parameters to unconstrained coordinates, both of length [`dim`](Self::dim).
    ///
    /// Data tables contain values on bounds. Those are read as the nearest point inside: for an
    /// interval a fraction 2^-54 of its width, at |u| = 8.3; for a positive parameter the next
    /// float.
    ///
    /// # Errors
    /// As [`unconstrain_row`](Self::unconstrain_row), with row 0.
    pub fn unconstrain(&self, theta: &[f64], u: &mut [f64]) -> Result<(), Error> {
        self.unconstrain_row(0, theta, u)
    }

    /// [`unconstrain`](Self::unconstrain) for the row `row` of a table, which only the errors speak of.
    ///
    /// # Errors
    /// [`Error::Length`] unless both slices have [`dim`](Self::dim) values,
    /// [`Error::NonFinite`] for NaN and infinity, [`Error::OutsideSupport`] for a value out of
    /// the support.
    pub fn unconstrain_row(&self, row: usize, theta: &[f64], u: &mut [f64]) -> Result<(), Error> {
        check_length("theta columns", self.dim(), theta.len())?;
        check_length("u columns", self.dim(), u.len())?;
        if let Some(column) = theta.iter().position(|t| !t.is_finite()) {
            return Err(Error::NonFinite { what: "theta", row, column });
        }
        if let Some((block, column)) = self.violation(theta) {
            return Err(Error::OutsideSupport {
                name: self.names[column].clone(),
                row,
                why: format!("{} is outside {}", theta[column], self.region(block)),
            });
        }
        for Block { columns, law } in &self.blocks {
            let (theta, u) = (&theta[columns.clone()], &mut u[columns.clone()]);
            match law {
                Law::Scalar(scalar) => u[0] = scalar.unconstrain(theta[0]),
                Law::Shares(shares) => shares.unconstrain(theta, u),
            }
        }
        Ok(())
    }

    /// Unconstrained coordinates to parameters. The result lies in the closed support for every
    /// `u`, infinity included; NaN gives NaN.
    ///
    /// # Errors
    /// [`Error::Length`] unless both slices have [`dim`](Self::dim) values.
    pub fn constrain(&self, u: &[f64], theta: &mut [f64]) -> Result<(), Error> {
        check_length("u columns", self.dim(), u.len())?;
        check_length("theta columns", self.dim(), theta.len())?;
        for Block { columns, law } in &self.blocks {
            let (u, theta) = (&u[columns.clone()], &mut theta[columns.clone()]);
            match law {
                Law::Scalar(scalar) => theta[0] = scalar.constrain(u[0]),
                Law::Shares(shares) => shares.constrain(u, theta),
            }
        }
        Ok(())
    }

    /// `ln |det d theta / d u|` at `u`, so that `ln p(theta) = ln p(u) - ln_det(u)`.
    ///
    /// # Errors
    /// [`Error::Length`] unless `u` has [`dim`](Self::dim) values.
    pub fn ln_det(&self, u: &[f64]) -> Result<f64, Error> {
        check_length("u columns", self.dim(), u.len())?;
        let blocks = self.blocks.iter();
        let ln_dets = blocks.map(|Block { columns, law }| match law {
            Law::Scalar(scalar) => scalar.ln_det(u[columns.start]),
            Law::Shares(shares) => shares.ln_det(&u[columns.clone()]),
        });
        Ok(ln_dets.sum())
    }

    /// What the support is, block by block: `log_mass in [8, 12]; 0 <= t25 <= t50 <= 13.8`.
    pub fn describe(&self) -> String {
        let regions: Vec<_> = self.blocks.iter().map(|block| self.region(block)).collect();
        regions.join("; ")
    }

    /// The columns of each block.
    pub(super) fn columns(&self) -> impl Iterator<Item = Range<usize>> {
        self.blocks.iter().map(|block| block.columns.clone())
    }

    fn region(&self, block: &Block) -> String {
        let names = &self.names[block.columns.clone()];
        match block.law {
            Law::Scalar(scalar) => format!("{} in {}", names[0], scalar.interval()),
            Law::Shares(shares) => shares.region(names),
        }
    }

    /// The first column out of the support, with its block.
    fn violation(&self, theta: &[f64]) -> Option<(&Block, usize)> {
        self.blocks.iter().find_map(|block| {
            let theta = &theta[block.columns.clone()];
            let k = match block.law {
                Law::Scalar(scalar) => theta.iter().position(|&t| !scalar.contains(t)),
                Law::Shares(shares) => shares.violation(theta),
            };
            k.map(|k| (block, block.columns.start + k))
        })
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// The parameters of a [`Support`] to be, in the order of the columns.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct SupportBuilder {
    names: Vec<String>,
    blocks: Vec<Block>,
}

impl SupportBuilder {
    /// Any real number, left as it is.
    pub fn real(self, name: &str) -> Self {
        self.scalar(name, Scalar::Normal { mean: 0.0, sd: 1.0 })
    }

    /// A number of `[lo, hi]`.
    pub fn interval(self, name: &str, lo: f64, hi: f64) -> Self {
        self.scalar(name, Scalar::Uniform { lo, hi })
    }

    /// A number of `[lo, hi]`, `lo > 0`, whose order of magnitude is what is unknown.
    pub fn log_interval(self, name: &str, lo: f64, hi: f64) -> Self {
        self.scalar(name, Scalar::LogUniform { lo, hi })
    }

    /// A number above zero; `u` is its logarithm.
    pub fn positive(self, name: &str) -> Self {
        self.above(name, 0.0)
    }

    /// A number above `lo`; `u = ln(theta - lo)`.
    pub fn above(self, name: &str, lo: f64) -> Self {
        self.scalar(name, Scalar::LogNormal { lo, mean: 0.0, sd: 1.0 })
    }

    /// `K - 1` shares of one, each at least zero; the `K`-th is what remains.
    pub fn simplex(self, names: &[&str]) -> Self {
        self.shares(names, Shares::Simplex)
    }

    /// An increasing sequence `lo <= t1 <= t2 <= ... <= hi`.
    pub fn ordered(self, names: &[&str], lo: f64, hi: f64) -> Self {
        self.shares(names, Shares::Ordered { lo, hi })
    }

    pub(super) fn scalar(self, name: &str, scalar: Scalar) -> Self {
        self.block(&[name], Law::Scalar(scalar))
    }

    pub(super) fn shares(self, names: &[&str], shares: Shares) -> Self {
        self.block(names, Law::Shares(shares))
    }

    fn block(mut self, names: &[&str], law: Law) -> Self {
        let start = self.names.len();
        self.names.extend(names.iter().map(|&name| name.to_string()));
        self.blocks.push(Block { columns: start..self.names.len(), law });
        self
    }

    /// The finished support.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no parameter, or a block without one, if a name is empty
    /// or used twice, or if bounds are not finite or not `lo < hi`.
    pub fn build(self) -> Result<Support, Error> {
        let Self { names, blocks } = self;
        if names.is_empty() || blocks.iter().any(|block| block.columns.is_empty()) {
            return Err(Error::parameter("", "a block has no names; it must have at least one"));
        }
        let mut seen = HashSet::new();
        for (column, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                let why = format!("the name of column {column} is empty; give it one");
                return Err(Error::parameter(name, why));
            }
            if !seen.insert(name) {
                let why = "there are two of this name; names must differ";
                return Err(Error::parameter(name, why));
            }
        }
        for Block { columns, law } in &blocks {
            let checked = match law {
                Law::Scalar(_) if columns.len() != 1 => Err("this law is that of a single name".into()),
                Law::Scalar(scalar) => scalar.check(),
                Law::Shares(shares) => shares.check(),
            };
            checked.map_err(|why| Error::parameter(names[columns.clone()].join(", "), why))?;
        }
        Ok(Support { names, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use rand_distr::StandardNormal;

    fn every_block() -> Support {
        let support = Support::new()
            .interval("log_mass", 8.0, 12.0)
            .ordered(&["t25", "t50", "t75"], 0.0, 13.8)
            .real("x")
            .positive("tau")
            .above("z", -1.0)
            .simplex(&["f1", "f2"])
            .log_interval("rate", 1e-3, 10.0)
            .build();
        support.unwrap()
    }

    const THETA: [f64; 10] = [10.0, 1.0, 3.0, 9.0, -4.0, 0.5, 0.0, 0.2, 0.7, 0.1];

    #[test]
    fn blocks_keep_their_columns() {
        let support = every_block();
        assert_eq!(support.dim(), 10);
        assert_eq!(support.names()[3..6], ["t75", "x", "tau"]);
        let (mut u, mut back) = ([0.0; 10], [0.0; 10]);
        support.unconstrain(&THETA, &mut u).unwrap();
        support.constrain(&u, &mut back).unwrap();
        for (a, b) in THETA.iter().zip(back) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        assert!(u[0].abs() < 1e-15 && u[4] == -4.0);
        assert!((u[5] - 0.5_f64.ln()).abs() < 1e-15 && u[6].abs() < 1e-15);
        assert!(u[9].abs() < 1e-12);
    }

    #[test]
    fn ln_det_is_the_sum_over_blocks() {
        let whole = every_block();
        let parts = [
            Support::new().interval("a", 8.0, 12.0).build().unwrap(),
            Support::new().ordered(&["a", "b", "c"], 0.0, 13.8).build().unwrap(),
            Support::new().real("a").positive("b").above("c", -1.0).build().unwrap(),
            Support::new().simplex(&["a", "b"]).build().unwrap(),
            Support::new().log_interval("a", 1e-3, 10.0).build().unwrap(),
        ];
        let u = [0.3, -1.0, 2.0, 0.1, 5.0, -0.7, 0.2, 1.1, -2.0, 0.9];
        let mut start = 0;
        let mut sum = 0.0;
        for part in &parts {
            sum += part.ln_det(&u[start..start + part.dim()]).unwrap();
            start += part.dim();
        }
        assert_eq!(start, 10);
        assert!((whole.ln_det(&u).unwrap() - sum).abs() < 1e-12);
    }

    #[test]
    fn any_u_lands_in_the_support() {
        let support = every_block();
        let mut rng = SmallRng::seed_from_u64(4);
        for scale in [1.0, 10.0, 1e3, 1e308] {
            for _ in 0..2000 {
                let u: [f64; 10] = std::array::from_fn(|_| scale * rng.sample::<f64, _>(StandardNormal));
                let (mut theta, mut back) = ([0.0; 10], [0.0; 10]);
                support.constrain(&u, &mut theta).unwrap();
                assert!(support.contains(&theta), "{u:?} -> {theta:?}");
                support.unconstrain(&theta, &mut back).unwrap();
                assert!(back.iter().all(|u| u.is_finite()));
            }
        }
    }

    #[test]
    fn errors_name_parameter_and_row() {
        let support = every_block();
        let mut u = [0.0; 10];
        let mut message = |column: usize, value: f64| {
            let mut theta = THETA;
            theta[column] = value;
            assert!(!support.contains(&theta));
            support.unconstrain_row(7, &theta, &mut u).unwrap_err().to_string()
        };
        assert_eq!(message(0, 13.5), "parameter `log_mass`, row 7: 13.5 is outside log_mass in [8, 12]");
        assert_eq!(message(2, 0.5), "parameter `t50`, row 7: 0.5 is outside 0 <= t25 <= t50 <= t75 <= 13.8");
        assert_eq!(message(8, 0.9), "parameter `f2`, row 7: 0.9 is outside f1, f2 >= 0, f1 + f2 <= 1");
        assert_eq!(message(6, -2.0), "parameter `z`, row 7: -2 is outside z in [-1, inf)");
        assert_eq!(message(4, f64::NAN), "theta: row 7, column 4 is not finite");
        assert_eq!(message(5, f64::INFINITY), "theta: row 7, column 5 is not finite");
        assert!(!support.contains(&THETA[1..]));
        assert_eq!(
            support.unconstrain(&THETA[1..], &mut [0.0; 10]),
            Err(Error::Length { what: "theta columns", expected: 10, found: 9 })
        );
        assert_eq!(
            support.unconstrain(&THETA, &mut [0.0; 9]),
            Err(Error::Length { what: "u columns", expected: 10, found: 9 })
        );
    }

    #[test]
    fn description() {
        assert_eq!(
            every_block().to_string(),
            "log_mass in [8, 12]; 0 <= t25 <= t50 <= t75 <= 13.8; x in (-inf, inf); \
             tau in [0, inf); z in [-1, inf); f1, f2 >= 0, f1 + f2 <= 1; rate in [0.001, 10]"
        );
    }

    #[test]
    fn what_cannot_be_built() {
        let message = |builder: SupportBuilder| builder.build().unwrap_err().to_string();
        let new = Support::new;
        assert!(message(new()).contains("no names"));
        assert!(message(new().real("x").simplex(&[])).contains("no names"));
        assert_eq!(message(new().real(" ")), "parameter ` `: the name of column 0 is empty; give it one");
        assert_eq!(
            message(new().real("x").ordered(&["a", "x"], 0.0, 1.0)),
            "parameter `x`: there are two of this name; names must differ"
        );
        assert_eq!(message(new().interval("a", 2.0, 1.0)), "parameter `a`: [2, 1] is empty; it must be lo < hi");
        assert!(message(new().interval("a", 1.0, 1.0)).contains("lo < hi"));
        assert!(message(new().interval("a", f64::NAN, 1.0)).contains("not finite"));
        assert!(message(new().interval("a", 0.0, f64::INFINITY)).contains("not finite"));
        assert!(message(new().interval("a", -1e308, 1e308)).contains("hi - lo"));
        assert!(message(new().log_interval("a", 0.0, 1.0)).contains("0 < lo < hi"));
        assert!(message(new().log_interval("a", 2.0, 1.0)).contains("lo < hi"));
        assert!(message(new().log_interval("a", f64::NAN, 1.0)).contains("not finite"));
        assert!(message(new().above("a", f64::NEG_INFINITY)).contains("must be finite"));
        assert_eq!(
            message(new().ordered(&["a", "b"], 5.0, 4.0)),
            "parameter `a, b`: [5, 4] is empty; it must be lo < hi"
        );
    }
}
