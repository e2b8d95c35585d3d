//! The vocabulary of every diagnostic: a figure, its uncertainty, and what they mean.

use std::fmt;

/// A figure with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// What a diagnostic says, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing was found that chance does not explain.
    Sound,
    /// More than chance explains (p < 1 %), but slight, or not beyond doubt.
    Doubtful,
    /// So large that it matters, and beyond doubt (p < 0.01 %).
    Wrong,
}

impl Verdict {
    /// From the probability that chance does as much, and whether the departure is large enough to matter.
    ///
    /// With many test rows the slightest departure is beyond doubt, so significance alone would condemn every
    /// approximation.
    pub(super) fn judge(p_value: f64, matters: bool) -> Self {
        match p_value {
            p if p >= 0.01 => Self::Sound,
            p if p < 1e-4 && matters => Self::Wrong,
            _ => Self::Doubtful,
        }
    }

    /// The worst of the findings' verdicts; sound if there is none.
    pub fn worst(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.verdict).max().unwrap_or(Self::Sound)
    }

    /// One word, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Doubtful => "doubtful",
            Self::Wrong => "wrong",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// In which way something departs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Departure {
    /// Overconfident: the truth lies outside more often than is claimed.
    TooNarrow,
    /// Underconfident: the truth lies inside more often than is claimed.
    TooWide,
    /// Draws lie below the truth.
    TooLow,
    /// Draws lie above the truth.
    TooHigh,
    /// Different in another way.
    Other,
}

impl Departure {
    /// One phrase, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooNarrow => "too narrow",
            Self::TooWide => "too wide",
            Self::TooLow => "too low",
            Self::TooHigh => "too high",
            Self::Other => "different",
        }
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One figure of a diagnostic and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which diagnostic.
    pub diagnostic: &'static str,
    /// What it was applied to, for example a parameter's name; empty if to everything.
    pub subject: String,
    /// The figure.
    pub value: Estimate,
    /// What it would be if all were right, where that is known.
    pub expected: Option<f64>,
    /// Probability that chance departs as far, for any of the subjects if there are several (Bonferroni).
    pub p_value: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// In which way it departs; `None` if the verdict is [`Verdict::Sound`].
    pub departure: Option<Departure>,
    /// The same in plain words.
    pub sentence: String,
}

impl Finding {
    /// The diagnostic and its subject.
    pub fn name(&self) -> String {
        if self.subject.is_empty() {
            self.diagnostic.to_string()
        } else {
            format!("{}: {}", self.diagnostic, self.subject)
        }
    }
}

/// A tested figure, before it is put into words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub value: Estimate,
    pub expected: f64,
    pub p_value: f64,
    /// Whether the departure would matter if it is real.
    pub matters: bool,
    /// In which way the figure departs, if it does.
    pub departure: Departure,
}

impl Evidence {
    /// The finding, with one of two sentences (neither with its full stop): if nothing was found, or if something was.
    pub fn finding(self, diagnostic: &'static str, subject: &str, sound: &str, unsound: &str) -> Finding {
        let verdict = Verdict::judge(self.p_value, self.matters);
        let found = verdict != Verdict::Sound;
        Finding {
            diagnostic,
            subject: subject.to_string(),
            value: self.value,
            expected: Some(self.expected),
            p_value: Some(self.p_value),
            verdict,
            departure: found.then_some(self.departure),
            sentence: format!("{} ({}).", if found { unsound } else { sound }, p_text(self.p_value)),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.verdict, self.sentence)
    }
}

/// A curve over evenly spaced levels from 0 to 1, which is the diagonal if all is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// From 0 to 1.
    pub levels: Vec<f64>,
    /// The curve at each level.
    pub values: Vec<f64>,
    /// Lower end of the band at each level.
    pub lower: Vec<f64>,
    /// Upper end of the band at each level.
    pub upper: Vec<f64>,
}

/// How many ranks fell into each of equally likely bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Of each bin, from the lowest ranks to the highest.
    pub counts: Vec<usize>,
    /// What each would be in the mean if all is right.
    pub expected: f64,
    /// Lower end of the band of all bins.
    pub lower: usize,
    /// Upper end of the band of all bins.
    pub upper: usize,
}

/// A probability for a sentence.
fn p_text(p_value: f64) -> String {
    match p_value {
        p if p < 1e-4 => "p < 0.0001".into(),
        p if p < 0.1 => format!("p = {p:.4}"),
        p => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_asks_for_significance_and_for_size() {
        assert_eq!(Verdict::judge(0.5, true), Verdict::Sound);
        assert_eq!(Verdict::judge(0.009, true), Verdict::Doubtful);
        assert_eq!(Verdict::judge(1e-9, false), Verdict::Doubtful);
        assert_eq!(Verdict::judge(0.0, true), Verdict::Wrong);
        assert_eq!(Verdict::judge(f64::NAN, true), Verdict::Doubtful);
        assert!(Verdict::Sound < Verdict::Wrong);
    }
}
