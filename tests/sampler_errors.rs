//! Every sampler names the step and the chain at which numbers stop being finite, and stops when it is asked to.

use retrodict::noise_schedule::NoiseSchedule;
use retrodict::progress::{Cancel, Watch};
use retrodict::sample::{
    Ais, AnnealedLangevin, Corrector, Draws, Heun, Hmc, Langevin, LangevinStep, LogDensityFn, Mala, Ode,
    ProbabilityFlow, ReverseSde, ScoreFn, Transition,
};
use retrodict::{Device, Error};

const ROWS: usize = 7;
/// The chain that starts where nothing is finite.
const LOST: usize = 5;

/// A standard normal distribution that is not defined beyond 50.
fn score() -> ScoreFn<f64> {
    ScoreFn::new(2, |x: &[f64], _, score: &mut [f64]| {
        score.iter_mut().zip(x).for_each(|(s, x)| *s = if x.abs() > 50.0 { f64::NAN } else { -x });
    })
}

fn density() -> LogDensityFn<f64> {
    LogDensityFn::new(2, |x: &[f64], gradient: &mut [f64]| {
        gradient.iter_mut().zip(x).for_each(|(g, x)| *g = -x);
        if x[0].abs() > 50.0 { f64::NAN } else { -0.5 * x.iter().map(|x| x * x).sum::<f64>() }
    })
}

/// All samplers that move chains, with a name for each.
fn transitions() -> Vec<(&'static str, Box<dyn Transition<f64>>)> {
    let (device, score, density) = (Device::cpu(), score(), density());
    let schedule = NoiseSchedule::Edm { sigma_min: 0.01, sigma_max: 10.0 };
    let flow = ProbabilityFlow { schedule, score: &score };
    let sde = ReverseSde { steps: 40, ..ReverseSde::new(schedule) };
    let corrected = ReverseSde { corrector: Some(Corrector::default()), ..sde };
    let langevin = Langevin { step: LangevinStep::Eta(1e-3), steps: 40, level: 0.0 };
    let heun = Heun { start: 10.0, end: 0.01, steps: 40, rho: 7.0 };
    vec![
        ("Langevin", Box::new(langevin.compile(&device, &score).unwrap())),
        ("annealed Langevin", Box::new(AnnealedLangevin::geometric(1.0, 0.1, 4).compile(&device, &score).unwrap())),
        ("reverse SDE", Box::new(sde.compile(&device, &score).unwrap())),
        ("predictor-corrector", Box::new(corrected.compile(&device, &score).unwrap())),
        ("Heun", Box::new(heun.compile(&device, &flow).unwrap())),
        ("ODE", Box::new(Ode::new(10.0, 0.01).compile(&device, &flow).unwrap())),
        ("MALA", Box::new(Mala::default().compile(&device, &density).unwrap())),
        ("HMC", Box::new(Hmc::default().compile(&device, &density).unwrap())),
    ]
}

#[test]
fn the_chain_and_the_step_are_named() {
    for (name, mut transition) in transitions() {
        let mut x = vec![0.1; 2 * ROWS];
        x[2 * LOST] = 60.0;
        let error = transition.advance(&Draws::new(ROWS, &1, &Watch::default()), &mut x).unwrap_err();
        let Error::Sampling { step, chain, .. } = error else { panic!("{name}: {error}") };
        // An adaptive solver first tries smaller and smaller steps.
        assert!(step == 1 || name == "ODE" && step <= 20, "{name}: {error}");
        assert_eq!(chain, LOST, "{name}: {error}");
        assert!(error.to_string().contains(&format!("step {step}, chain 5")), "{name}: {error}");
    }
}

#[test]
fn a_switch_stops_the_work() {
    let cancel = Cancel::default();
    cancel.cancel();
    for (name, mut transition) in transitions() {
        let error = transition.advance(&Draws::new(ROWS, &1, &Watch::silent(&cancel)), &mut [0.1; 2 * ROWS]);
        assert!(matches!(error, Err(Error::Cancelled { step: 0, .. })), "{name}: {error:?}");
    }
    let stopped = Ais::default().log_z(&Device::cpu(), &density(), &Draws::new(ROWS, &1, &Watch::silent(&cancel)));
    assert!(matches!(stopped, Err(Error::Cancelled { step: 0, .. })), "{stopped:?}");
}

#[test]
fn an_importance_weight_that_is_not_finite_is_named() {
    let nowhere = LogDensityFn::new(1, |_: &[f64], gradient: &mut [f64]| {
        gradient.fill(0.0);
        f64::NAN
    });
    let found = Ais::default().log_z(&Device::cpu(), &nowhere, &Draws::new(ROWS, &1, &Watch::default()));
    assert!(matches!(found, Err(Error::Sampling { step: 1, chain: 0, .. })), "{found:?}");
}
