//! State: one flat vector of parameters, and the layout that names its parts.
//!
//! Gradients, Adam moments and the moving average are vectors of the same length, so clipping, optimiser
//! and checkpoint are each one pass over flat memory.

use std::fmt::Display;
use std::ops::Range;

use ndarray::ArrayView2;

use crate::error::{Error, check_length};
use crate::real::Real;
use crate::rng::{Noise, NoiseId};
pub use crate::vector::{Parameters, Vector};

/// A matrix of parameters: a `Copy` id that says where in the flat vector it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    offset: usize,
    rows: usize,
    cols: usize,
}

impl Param {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Where it lies in the flat vector, row by row.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.cols
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element has this value.
    Constant(f64),
    /// Uniform on (-bound, bound).
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    param: Param,
    init: Init,
}

/// The table of parameter names. Modules register themselves in it through a [`Scope`].
#[derive(Clone, Debug, Default)]
pub struct Layout {
    entries: Vec<Entry>,
    len: usize,
    limit: Option<usize>,
}

impl Layout {
    /// An empty layout.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty layout that takes no more than this many parameters (scalars): for settings that a file tells.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// A scope whose parameters are named `name.…`.
    pub fn scope(&mut self, name: impl Display) -> Scope<'_> {
        Scope { layout: self, prefix: name.to_string() }
    }

    /// Number of parameters (scalars).
    pub fn len(&self) -> usize {
        self.len
    }

    /// No parameter yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every parameter with its full name, in the order of the flat vector.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Param)> {
        self.entries.iter().map(|e| (e.name.as_str(), e.param))
    }

    /// The parameter of this full name.
    pub fn get(&self, name: &str) -> Option<Param> {
        self.iter().find(|(n, _)| *n == name).map(|(_, p)| p)
    }

    /// The range of the flat vector that the scope `name` fills: what one of several optimisers trains.
    ///
    /// # Errors
    /// [`Error::Parameter`] if no parameter lies in the scope, or if others lie between its parameters.
    pub fn range(&self, name: &str) -> Result<Range<usize>, Error> {
        let inside = |full: &str| full.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let ranges: Vec<_> = self.iter().filter(|(n, _)| inside(n)).map(|(_, p)| p.range()).collect();
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Err(Error::parameter(name, "no parameter lies in this scope"));
        };
        if ranges.windows(2).any(|w| w[0].end != w[1].start) {
            return Err(Error::parameter(name, "other parameters were registered in between"));
        }
        Ok(first.start..last.end)
    }

    fn register(&mut self, name: String, rows: usize, cols: usize, init: Init) -> Result<Param, Error> {
        if rows == 0 || cols == 0 {
            return Err(Error::parameter(name, format!("a {rows} x {cols} matrix has no element")));
        }
        if self.get(&name).is_some() {
            return Err(Error::parameter(name, "this name is taken"));
        }
        let limit = self.limit.unwrap_or(isize::MAX as usize / size_of::<f64>());
        let len = rows.checked_mul(cols).and_then(|size| size.checked_add(self.len)).filter(|&len| len <= limit);
        let Some(len) = len else {
            return Err(Error::parameter(
                name,
                format!("a {rows} x {cols} matrix is one too many for {limit} numbers"),
            ));
        };
        let param = Param { offset: self.len, rows, cols };
        self.len = len;
        self.entries.push(Entry { name, param, init });
        Ok(param)
    }
}

/// A prefix under which a module registers its parameters.
#[derive(Debug)]
pub struct Scope<'a> {
    layout: &'a mut Layout,
    prefix: String,
}

impl Scope<'_> {
    /// The scope `self.name`.
    pub fn scope(&mut self, name: impl Display) -> Scope<'_> {
        let prefix = format!("{}.{name}", self.prefix);
        Scope { layout: self.layout, prefix }
    }

    /// Registers a `[rows x cols]` parameter.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the name is taken or the matrix is empty.
    pub fn param(&mut self, name: &str, rows: usize, cols: usize, init: Init) -> Result<Param, Error> {
        self.layout.register(format!("{}.{name}", self.prefix), rows, cols, init)
    }
}

/// Which of the two sets of weights a plan reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// The parameters themselves.
    #[default]
    Raw,
    /// Their exponential moving average over the training steps.
    Ema,
}

/// Parameters, gradients, Adam moments and moving average, each one flat vector.
#[derive(Debug)]
pub struct Store<T> {
    layout: Layout,
    pub(crate) params: Vector<T>,
    pub(crate) grads: Vector<T>,
    pub(crate) first_moment: Vector<T>,
    pub(crate) second_moment: Vector<T>,
    pub(crate) ema: Vector<T>,
    /// What an optimiser on a device reads and writes beside them: the numbers of a step, and sums of squares.
    #[cfg(feature = "cuda")]
    pub(crate) control: [Vector<f64>; 2],
}

impl<T: Real> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            params: self.params.clone(),
            grads: self.grads.clone(),
            first_moment: self.first_moment.clone(),
            second_moment: self.second_moment.clone(),
            ema: self.ema.clone(),
            #[cfg(feature = "cuda")]
            control: self.control.clone(),
        }
    }
}

impl<T: Real> Store<T> {
    /// Draws the initial parameters. The same seed gives the same values in every run.
    pub fn new(layout: Layout, seed: u64) -> Self {
        let mut params = vec![T::ZERO; layout.len()];
        for (index, entry) in layout.entries.iter().enumerate() {
            let noise = Noise { seed, step: 0, id: NoiseId(index as u32) };
            draw(entry, &noise, &mut params[entry.param.range()]);
        }
        Self::of(layout, params)
    }

    /// With these weights, and nothing of how they came to be.
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one for each parameter of the layout.
    pub fn with_weights(layout: Layout, weights: Vec<T>) -> Result<Self, Error> {
        check_length("weights", layout.len(), weights.len())?;
        Ok(Self::of(layout, weights))
    }

    fn of(layout: Layout, params: Vec<T>) -> Self {
        let zeros = vec![T::ZERO; layout.len()];
        Self {
            layout,
            ema: params.clone().into(),
            params: params.into(),
            grads: zeros.clone().into(),
            first_moment: zeros.clone().into(),
            second_moment: zeros.into(),
            #[cfg(feature = "cuda")]
            control: crate::optim::CONTROL.map(|len| vec![0.0; len].into()),
        }
    }

    /// The names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The flat vector that `weights` names.
    pub fn weights(&self, weights: Weights) -> &Vector<T> {
        match weights {
            Weights::Raw => &self.params,
            Weights::Ema => &self.ema,
        }
    }

    /// The gradient that the last backward pass left.
    pub fn grads(&self) -> &[T] {
        &self.grads
    }

    /// One parameter as a matrix.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is not a parameter of this store.
    pub fn get(&self, param: Param) -> Result<ArrayView2<'_, T>, Error> {
        self.check(param)?;
        let values = &self.params[param.range()];
        Ok(ArrayView2::from_shape((param.rows, param.cols), values).expect("a range has rows * cols elements"))
    }

    /// Replaces the values of one parameter (`rows * cols` values, row by row) and of its moving average.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is not a parameter of this store, [`Error::Length`] if the number of values is wrong,
    /// [`Error::NonFinite`] if one is not finite.
    pub fn set(&mut self, param: Param, values: &[T]) -> Result<(), Error> {
        self.check(param)?;
        check_length("parameter values", param.range().len(), values.len())?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (i / param.cols, i % param.cols);
            return Err(Error::NonFinite { what: "parameter values", row, column });
        }
        self.params[param.range()].copy_from_slice(values);
        self.ema[param.range()].copy_from_slice(values);
        Ok(())
    }

    /// `Ok` if the range is a part of the flat vector.
    pub(crate) fn check_range(&self, range: &Range<usize>) -> Result<(), Error> {
        if range.start <= range.end && range.end <= self.layout.len() {
            return Ok(());
        }
        let why = format!("{range:?} is not a part of the {} parameters", self.layout.len());
        Err(Error::parameter("range", why))
    }

    fn check(&self, param: Param) -> Result<(), Error> {
        if self.layout.iter().any(|(_, own)| own == param) {
            return Ok(());
        }
        let Param { offset, rows, cols } = param;
        Err(Error::parameter(format!("[{rows} x {cols}] at {offset}"), "not a parameter of this store"))
    }

    /// Takes a part of `weights` as parameters and as their average, forgetting the moments.
    pub(crate) fn restart_from(&mut self, part: Range<usize>, weights: &[T]) {
        self.params[part.clone()].copy_from_slice(&weights[part.clone()]);
        self.ema[part.clone()].copy_from_slice(&weights[part.clone()]);
        self.first_moment[part.clone()].fill(T::ZERO);
        self.second_moment[part].fill(T::ZERO);
    }
}

fn draw<T: Real>(entry: &Entry, noise: &Noise, out: &mut [T]) {
    let cols = entry.param.cols;
    match entry.init {
        Init::Constant(c) => out.fill(T::from_f64(c)),
        Init::Uniform(bound) => {
            noise.fill_uniform(0, cols, out);
            out.iter_mut().for_each(|u| *u = T::from_f64(bound * (2.0 * u.to_f64() - 1.0)));
        }
        Init::Normal(sd) => {
            noise.fill_normal(0, cols, out);
            out.iter_mut().for_each(|z| *z = T::from_f64(sd * z.to_f64()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::new();
        layout.scope("a").param("w", 3, 2, Init::Uniform(0.5)).unwrap();
        layout.scope("a").scope("inner").param("b", 1, 2, Init::Constant(1.0)).unwrap();
        layout.scope("ab").param("w", 5, 7, Init::Normal(2.0)).unwrap();
        layout
    }

    #[test]
    fn names_lead_to_ranges() {
        let layout = layout();
        assert_eq!(layout.len(), 6 + 2 + 35);
        assert_eq!(layout.get("a.inner.b").unwrap().range(), 6..8);
        assert_eq!(layout.range("a").unwrap(), 0..8);
        assert_eq!(layout.range("ab").unwrap(), 8..43);
        assert!(matches!(layout.range("c"), Err(Error::Parameter { name, .. }) if name == "c"));
    }

    #[test]
    fn names_are_unique_and_matrices_not_empty() {
        let mut layout = layout();
        assert!(layout.scope("a").param("w", 1, 1, Init::Constant(0.0)).is_err());
        assert!(layout.scope("a").param("x", 0, 1, Init::Constant(0.0)).is_err());
        layout.scope("a").param("late", 1, 1, Init::Constant(0.0)).unwrap();
        assert!(layout.range("a").is_err(), "scope a is no longer one range");
    }

    #[test]
    fn the_seed_decides_the_initial_values() {
        let (a, b, c) = [1, 1, 2].map(|seed| Store::<f32>::new(layout(), seed)).into();
        assert_eq!(a.params, b.params);
        assert_ne!(a.params, c.params);
        assert!(a.params[..6].iter().all(|w| w.abs() < 0.5 && *w != 0.0));
        assert_eq!(a.params[6..8], [1.0, 1.0]);
        assert_eq!(a.ema, a.params);
    }

    #[test]
    fn set_checks_its_values() {
        let mut store = Store::<f64>::new(layout(), 1);
        let w = store.layout().get("a.w").unwrap();
        assert!(matches!(store.set(w, &[0.0; 5]), Err(Error::Length { expected: 6, found: 5, .. })));
        let nan = store.set(w, &[0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0]);
        assert_eq!(nan, Err(Error::NonFinite { what: "parameter values", row: 1, column: 1 }));
        let mut other = Layout::new();
        let foreign = other.scope("a").param("w", 7, 7, Init::Constant(0.0)).unwrap();
        assert!(store.set(foreign, &[0.0; 49]).is_err() && store.get(foreign).is_err());
        store.set(w, &[1., 2., 3., 4., 5., 6.]).unwrap();
        assert_eq!(store.get(w).unwrap()[(2, 0)], 5.0);
    }
}
