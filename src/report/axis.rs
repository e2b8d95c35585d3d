//! Axes with round tick values, linear or logarithmic.

use super::style::TICK;
use crate::error::Error;

/// The smallest width of a range whose ticks can be computed with.
const NARROWEST: f64 = 1e-300;

/// One quantity's range and its ticks.
///
/// Numbers are shown in units of $10^\mathrm{power}$, which is zero unless they would be long.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub name: String,
    pub lo: f64,
    pub hi: f64,
    pub power: i32,
    pub ticks: Vec<Tick>,
    /// Ticks without a label.
    pub minor: Vec<f64>,
    logarithmic: bool,
}

/// A value that is marked, and what stands beside it.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    pub value: f64,
    pub label: String,
}

impl Axis {
    /// An axis of `length` pixels, with as many ticks as have room for their labels side by side.
    ///
    /// An [`Error::Parameter`] unless it goes up by a finite number.
    pub fn new(name: impl Into<String>, lo: f64, hi: f64, length: f64) -> Result<Self, Error> {
        let width = hi - lo; // overflows for numbers near the largest there is
        if !(NARROWEST..f64::INFINITY).contains(&width) {
            let why = format!("it cannot be shown from {lo} to {hi}; a range goes up by a finite number");
            return Err(Error::parameter(name, why));
        }
        let (name, magnitude) = (name.into(), exponent(lo.abs().max(hi.abs())));
        let power = if (-3..5).contains(&magnitude) { 0 } else { magnitude };
        let axis = |count: usize| {
            let (digit, place) = round_step(width / count as f64);
            let decimals = (power - place).clamp(0, 15) as usize;
            let label = |value: f64| signed(value * 10f64.powi(-power), decimals);
            let values = multiples(digit * 10f64.powi(place), lo, hi).into_iter();
            let ticks = values.map(|value| Tick { value, label: label(value) }).collect();
            Self { name: name.clone(), lo, hi, power, ticks, minor: Vec::new(), logarithmic: false }
        };
        // A round step may be up to 2.5 times the one asked for.
        let finest = (2.5 * most(length)) as usize;
        Ok((2..=finest).rev().map(&axis).find(|axis| axis.has_room(length)).unwrap_or_else(|| axis(1)))
    }

    /// The same on a logarithmic scale, on which equal ratios are equally long.
    ///
    /// An [`Error::Parameter`] unless it begins above 0 and goes up.
    pub fn logarithmic(name: impl Into<String>, lo: f64, hi: f64, length: f64) -> Result<Self, Error> {
        let name = name.into();
        if lo < f64::MIN_POSITIVE {
            let why = format!("a logarithmic axis cannot go from {lo} to {hi}; it must begin above 0");
            return Err(Error::parameter(name, why));
        }
        let linear = Self { logarithmic: true, ..Self::new(name, lo, hi, length)? };
        let axis = |digits: &[i32], every: usize| {
            let values = powers(lo, hi, every).flat_map(|p| digits.iter().map(move |&digit| (digit, p)));
            let shown = values.filter(|&(digit, p)| (lo..=hi).contains(&times_ten(digit, p)));
            let ticks =
                shown.map(|(digit, p)| Tick { value: times_ten(digit, p), label: scientific(digit, p) }).collect();
            Self { power: 0, ticks, ..linear.clone() }
        };
        let coarser = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500].into_iter().map(|every| axis(&[1], every));
        let axes: Vec<Self> = [axis(&[1, 2, 5], 1), axis(&[1, 3], 1)].into_iter().chain(coarser).collect();
        let fits = |axis: &&Self| axis.ticks.len() > 1 && axis.has_room(length);
        // Within less than a decade that may be the round numbers of a linear axis; over hundreds, a single one.
        let single = || if hi / lo < 10.0 { None } else { axes.iter().find(|axis| axis.ticks.len() == 1) };
        let axis = axes.iter().find(fits).or_else(single).unwrap_or(&linear).clone();
        // More would be a solid bar.
        let digits = match (hi / lo).log10() {
            decades if decades < 6.0 => 1..10,
            decades if decades < 30.0 => 1..2,
            _ => 0..0,
        };
        let minor = powers(lo, hi, 1).flat_map(|p| digits.clone().map(move |digit| times_ten(digit, p)));
        Ok(Self { minor: minor.filter(|value| (lo..=hi).contains(value)).collect(), ..axis })
    }

    /// Whether there are no more ticks than should be, with room between the labels of neighbours.
    fn has_room(&self, length: f64) -> bool {
        let apart = |pair: &[Tick]| {
            let labels = 0.5 * (TICK.width(&pair[0].label) + TICK.width(&pair[1].label));
            length * (self.unit(pair[1].value) - self.unit(pair[0].value)) > labels + TICK.size
        };
        self.ticks.len() <= most(length) as usize + 1 && self.ticks.windows(2).all(apart)
    }

    /// The same axis with ticks at whole numbers only.
    pub fn whole(mut self) -> Self {
        self.ticks.retain(|tick| tick.value.fract() == 0.0);
        self.ticks.iter_mut().for_each(|tick| tick.label = signed(tick.value * 10f64.powi(-self.power), 0));
        self
    }

    /// The same axis without ticks and labels.
    pub fn bare(self) -> Self {
        Self { ticks: Vec::new(), minor: Vec::new(), ..self }
    }

    /// The axis' name, with the power of ten its numbers are given in.
    pub fn caption(&self) -> String {
        format!("{} {}", self.name, times(self.power)).trim_end().to_owned()
    }

    /// The width of the widest tick label in pixels.
    pub fn widest(&self) -> f64 {
        self.ticks.iter().map(|tick| TICK.width(&tick.label)).fold(0.0, f64::max)
    }

    pub fn shows(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Where a value lies: 0 at the low end, 1 at the high end. Not a number for a logarithm that is none.
    pub fn unit(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        }
    }

    /// Whether equal ratios are equally long.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }
}

/// The most steps between ticks.
fn most(length: f64) -> f64 {
    (length / 36.0).clamp(2.0, 8.0)
}

/// A range with room on both sides, `part` of its width; around one number, what is near it.
pub(super) fn widened(lo: f64, hi: f64, part: f64) -> (f64, f64) {
    let size = lo.abs().max(hi.abs());
    let room = if hi - lo > (1e-9 * size).max(NARROWEST) {
        part * (hi - lo)
    } else if size > 10.0 * NARROWEST {
        0.1 * size
    } else {
        1.0
    };
    (lo - room, hi + room)
}

/// A number with a true minus sign, and no sign at all on what rounds to zero.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

/// `×10⁶`, or nothing where numbers are given as they are.
pub(super) fn times(power: i32) -> String {
    if power == 0 { String::new() } else { format!("×{}", power_of_ten(power)) }
}

fn power_of_ten(power: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = |c: char| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    format!("10{}", power.to_string().chars().map(raised).collect::<String>())
}

/// The power of ten of a number's leading digit; 0 for zero.
pub(super) fn exponent(value: f64) -> i32 {
    if value > 0.0 { value.log10().floor() as i32 } else { 0 }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`, as digit and power.
fn round_step(step: f64) -> (f64, i32) {
    let place = exponent(step);
    let lead = step / 10f64.powi(place) * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].into_iter().find(|&digit| digit >= lead).map_or((1.0, place + 1), |digit| (digit, place))
}

/// The multiples of `step` from `lo` to `hi`.
fn multiples(step: f64, lo: f64, hi: f64) -> Vec<f64> {
    let slack = 1e-9;
    let (first, last) = ((lo / step - slack).ceil(), (hi / step + slack).floor());
    (0..=20).map(|k| first + k as f64).take_while(|&k| k <= last).map(|k| k * step).collect()
}

/// The powers of ten of a range's decades, those that are multiples of `every`.
fn powers(lo: f64, hi: f64, every: usize) -> impl Iterator<Item = i32> {
    (exponent(lo)..=exponent(hi)).filter(move |p| p.rem_euclid(every as i32) == 0)
}

/// The number nearest to digit times a power of ten: that of the decimal itself.
fn times_ten(digit: i32, power: i32) -> f64 {
    format!("{digit}e{power}").parse().unwrap_or(f64::NAN)
}

/// A digit times a power of ten as it is written on a logarithmic axis.
fn scientific(digit: i32, power: i32) -> String {
    match (power, digit) {
        (0..=4, _) => format!("{digit}{}", "0".repeat(power as usize)),
        (-3..=-1, _) => format!("0.{}{digit}", "0".repeat(-power as usize - 1)),
        (_, 1) => power_of_ten(power),
        _ => format!("{digit}×{}", power_of_ten(power)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| &*tick.label).collect()
    }

    #[test]
    fn ticks_are_round_and_their_labels_exact() {
        let axis = |lo, hi, length| Axis::new("x", lo, hi, length).unwrap();
        assert_eq!(labels(&axis(-0.31, 0.33, 128.0)), ["−0.2", "0.0", "0.2"]);
        assert_eq!(labels(&axis(0.0, 1.0, 300.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let millions = axis(0.0, 3.2e6, 130.0);
        assert_eq!((labels(&millions), millions.caption()), (vec!["0", "1", "2", "3"], "x ×10⁶".into()));
        assert_eq!(axis(1e-12, 3e-12, 90.0).caption(), "x ×10⁻¹²");
        assert_eq!(labels(&axis(1.0, 60.0, 400.0)), ["10", "20", "30", "40", "50", "60"]);
    }

    #[test]
    fn logarithmic_ticks_are_round_for_any_number_of_decades() {
        let axis = |lo, hi, length| Axis::logarithmic("x", lo, hi, length).unwrap();
        assert_eq!(labels(&axis(0.9, 12.0, 200.0)), ["1", "2", "5", "10"]);
        assert_eq!(labels(&axis(1e-3, 1.0, 110.0)), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(&axis(1e-9, 1.0, 220.0)), ["10⁻⁸", "10⁻⁶", "10⁻⁴", "0.01", "1"]);
        assert_eq!(labels(&axis(2.1, 2.9, 200.0)), ["2.2", "2.4", "2.6", "2.8"]);
        let decade = axis(1.0, 100.0, 200.0);
        assert!((decade.unit(10.0) - 0.5).abs() < 1e-15 && decade.minor.len() == 19);
        assert!(!decade.shows(0.0) && decade.unit(-1.0).is_nan());
        for (lo, hi) in [(0.0, 1.0), (-1.0, 1.0), (1.0, f64::INFINITY), (2.0, 1.0), (f64::NAN, 1.0)] {
            assert!(Axis::logarithmic("x", lo, hi, 100.0).is_err(), "{lo} {hi}");
        }
    }

    #[test]
    fn labels_have_room_side_by_side_and_any_range_has_few_ticks() {
        let ends = [0.0f64, 1.0, -1.0, 1e-300, 1e300, -1e300, 12345.678, 1e16, 7.0];
        let widths = [1e-3, 0.1, 2.0, 3.7, 1e4, 1e299];
        let ranges = ends.iter().flat_map(|&lo| widths.iter().map(move |&width| (lo, width)));
        for ((lo, width), length) in ranges.flat_map(|range| [96.0, 128.0, 400.0].map(|length| (range, length))) {
            let hi = lo + width;
            if hi == lo {
                assert!(Axis::new("x", lo, hi, length).is_err());
                continue;
            }
            let kinds = [Axis::new("x", lo, hi, length).ok(), Axis::logarithmic("x", lo, hi, length).ok()];
            for axis in kinds.iter().flatten() {
                assert!(axis.ticks.len() <= 9, "{lo} {hi}: {:?}", axis.ticks);
                let crowded = axis.ticks.len() > 2 && width > 1e-12 * lo.abs() && !axis.has_room(length);
                assert!(!crowded, "{axis:?}");
            }
            assert!(kinds[0].is_some() && kinds[1].is_some() == (lo > 0.0));
        }
    }
}
