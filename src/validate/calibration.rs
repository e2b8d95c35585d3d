//! What the ranks and densities of a validation mean, in words.

use super::bootstrap;
use super::envelope::{Envelope, binomial_p_value};
use super::finding::{Departure, Estimate, Evidence, Finding, Verdict};
use super::uniform::{Tested, Uniform};

/// Departures from which on they matter: a tenth of a posterior's standard deviation in position or width, a twentieth
/// in probability.
const MATTERS: (f64, f64) = (0.1, 0.05);

/// Masses of the highest-density regions that have a finding each.
const MASSES: [f64; 3] = [0.5, 0.68, 0.95];

/// Mean log q of the truths against the prior's mean log p.
pub(super) fn log_prob(log_q: &[f64], prior: Option<&[f64]>, seed: u64) -> Finding {
    let value = bootstrap::mean(log_q, seed);
    let finding = |expected, p_value, verdict, sentence| {
        let departure = (verdict != Verdict::Sound).then_some(Departure::Other);
        Finding { diagnostic: "log q", subject: String::new(), value, expected, p_value, verdict, departure, sentence }
    };
    let excluded = log_q.iter().filter(|q| !q.is_finite()).count();
    if excluded > 0 {
        let sentence = format!("{excluded} of {} true parameters have density zero under the posterior.", log_q.len());
        return finding(None, None, Verdict::Wrong, sentence);
    }
    let mean = format!("The mean log q(θ | x) of the truth is {:.3} ± {:.3} nats", value.value, value.error);
    let Some(prior) = prior else {
        return finding(None, None, Verdict::Sound, format!("{mean}; no prior was given to compare it with."));
    };
    let gains: Vec<f64> = log_q.iter().zip(prior).map(|(q, p)| q - p).collect();
    let gain = bootstrap::mean(&gains, seed);
    let z = if gain.error > 0.0 { gain.value / gain.error } else { 0.0 };
    let (verdict, answer) = match z {
        z if z > 3.0 => (Verdict::Sound, "more than the prior's: it learned from the observations"),
        z if z > -3.0 => (Verdict::Doubtful, "no more than the prior's: it learned nothing that shows"),
        _ => (Verdict::Wrong, "less than the prior's: not looking at the observations would do better"),
    };
    let sentence = format!("{mean}, {:.3} ± {:.3} {answer}.", gain.value.abs(), gain.error);
    finding(Some(prior.iter().sum::<f64>() / prior.len() as f64), None, verdict, sentence)
}

/// Bias, spread, P-P distance and rank histogram of one of `of` parameters.
pub(super) fn parameter(name: &str, of: usize, pit: Uniform<'_>, envelope: &Envelope) -> [Finding; 4] {
    [bias(name, of, pit), spread(name, of, pit), pp_distance(name, of, pit, envelope), rank_histogram(name, of, pit)]
}

/// One of `of` tests, corrected for their number.
fn evidence(tested: Tested, of: usize, expected: f64, matters: bool, departure: Departure) -> Evidence {
    let p_value = (tested.p_value * of as f64).min(1.0);
    Evidence { value: tested.value, expected, p_value, matters, departure }
}

fn bias(name: &str, of: usize, pit: Uniform<'_>) -> Finding {
    let tested = pit.bias();
    let Estimate { value: shift, error } = tested.value;
    let side = if shift > 0.0 { Departure::TooLow } else { Departure::TooHigh };
    evidence(tested, of, 0.0, shift.abs() >= MATTERS.0, side).finding(
        "bias",
        name,
        &format!("Posteriors of {name} are centred: {shift:+.2} ± {error:.2} of their standard deviations off"),
        &format!("Posteriors of {name} are {side}, by {:.2} ± {error:.2} of their standard deviations", shift.abs()),
    )
}

fn spread(name: &str, of: usize, pit: Uniform<'_>) -> Finding {
    let tested = pit.spread();
    let Estimate { value: ratio, error } = tested.value;
    let side = if ratio > 1.0 { Departure::TooNarrow } else { Departure::TooWide };
    let scatter = format!("truths scatter {ratio:.2} ± {error:.2} times as widely as they say");
    evidence(tested, of, 1.0, ratio.ln().abs() >= MATTERS.0, side).finding(
        "spread",
        name,
        &format!("Posteriors of {name} are as wide as they should be: {scatter}"),
        &format!("Posteriors of {name} are {side}: {scatter}"),
    )
}

fn pp_distance(name: &str, of: usize, pit: Uniform<'_>, envelope: &Envelope) -> Finding {
    let (tested, side) = (pit.distance(envelope), pit.departure());
    let gap = tested.value.value;
    evidence(tested, of, 0.0, gap >= MATTERS.1, side).finding(
        "P-P distance",
        name,
        &format!("The P-P curve of {name} is within {gap:.3} of the diagonal, inside its simultaneous band"),
        &format!("The P-P curve of {name} is up to {gap:.3} off the diagonal; {}", explain(side)),
    )
}

fn rank_histogram(name: &str, of: usize, pit: Uniform<'_>) -> Finding {
    let (tested, side) = (pit.chi_square(), pit.departure());
    let chi_square = format!("χ² of the ranks is {:.2} times its degrees of freedom", tested.value.value);
    evidence(tested, of, 1.0, pit.roughness() >= 2.0 * MATTERS.0, side).finding(
        "SBC",
        name,
        &format!("Ranks of {name} are uniform: {chi_square}"),
        &format!("Ranks of {name} are not uniform; {}; {chi_square}", explain(side)),
    )
}

/// Highest-density regions as a whole, and those of a few masses.
pub(super) fn coverage(hpd_level: &[f64], envelope: &Envelope) -> Vec<Finding> {
    let tested = Uniform(hpd_level).distance(envelope);
    let gap = tested.value.value;
    let excess = 0.5 - hpd_level.iter().sum::<f64>() / hpd_level.len() as f64;
    let (side, how) = confidence(excess);
    let whole = evidence(tested, 1, 0.0, gap >= MATTERS.1, side).finding(
        "expected coverage",
        "",
        &format!("Highest-density regions of every mass hold the truth as often as they say, to within {gap:.3}"),
        &format!("Highest-density regions hold the truth {how}, by up to {gap:.3}"),
    );
    std::iter::once(whole).chain(MASSES.map(|mass| coverage_at(mass, hpd_level))).collect()
}

fn coverage_at(mass: f64, hpd_level: &[f64]) -> Finding {
    let n = hpd_level.len();
    let held = hpd_level.iter().filter(|&&level| level <= mass).count();
    let value = Estimate { value: held as f64 / n as f64, error: (mass * (1.0 - mass) / n as f64).sqrt() };
    let excess = value.value - mass;
    let (side, how) = confidence(excess);
    let [percent, found, error] = [mass, value.value, value.error].map(|fraction| 100.0 * fraction);
    let hold = format!("{percent:.0} % highest-density regions hold the truth in {found:.1} ± {error:.1} % of cases");
    // At 95 % a shortfall matters when half as much again lies outside as should.
    let matters = excess.abs() >= MATTERS.1.min(0.5 * (1.0 - mass));
    let tested = Tested { value, p_value: binomial_p_value(n, mass, held) };
    let unsound = format!("{hold}, {how}");
    evidence(tested, MASSES.len(), mass, matters, side).finding("coverage", &format!("{percent:.0} %"), &hold, &unsound)
}

/// What coverage above or below the level means.
fn confidence(excess: f64) -> (Departure, &'static str) {
    if excess < 0.0 {
        (Departure::TooNarrow, "less often than they say: overconfident")
    } else {
        (Departure::TooWide, "more often than they say: underconfident")
    }
}

/// Coverage of balls around random points.
pub(super) fn tarp(ranks: &[f64], envelope: &Envelope) -> Finding {
    let (tested, shape) = (Uniform(ranks).distance(envelope), Uniform(ranks).departure());
    let gap = tested.value.value;
    // A truth that is displaced from its draws is often the nearest, or the farthest, of all.
    let (side, answer) = match shape {
        Departure::TooNarrow => (shape, "outside all the draws too often: too narrow, or displaced"),
        Departure::TooWide => (shape, "amid the draws too often: too wide"),
        _ => (Departure::Other, "on one side of the draws too often: displaced"),
    };
    evidence(tested, 1, 0.0, gap >= MATTERS.1, side).finding(
        "TARP",
        "",
        &format!("Balls around random points hold the truth as often as they say, to within {gap:.3}"),
        &format!(
            "Balls around random points do not hold the truth as often as they say, by up to {gap:.3}; it lies {answer}"
        ),
    )
}

fn explain(departure: Departure) -> &'static str {
    match departure {
        Departure::TooNarrow => "the truth is too often outside most draws: overconfident",
        Departure::TooWide => "the truth is too often amid the draws: underconfident",
        Departure::TooLow => "the truth is too often above most draws: too low",
        Departure::TooHigh => "the truth is too often below most draws: too high",
        Departure::Other => "the shape is wrong, though neither centre nor width stand out",
    }
}
