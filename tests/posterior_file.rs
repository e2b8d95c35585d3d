//! A trained posterior is one file: what is loaded is what was saved, and a bad file says what is wrong with it.
#![cfg(feature = "weights")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use ndarray::{Array1, Array2, array};
use retrodict::models::{
    AnyFamily, Density, EnergyModel, Family, GanModel, Mdn, NcsnModel, OnEpoch, Problem, RealNvp, SplineFlow, Trained,
    VaeModel,
};
use retrodict::ndarray;
use retrodict::optim::{Adam, Schedule};
use retrodict::sample::Hmc;
use retrodict::sbi::{AnyPosterior, Estimator, Learned, LikelihoodModel, Nle, Nre, RatioModel};
use retrodict::train::Training;
use retrodict::{Dataset, Device, Error, Layout, Npe, Posterior, Prior, Real, Support};

fn device() -> Device {
    Device::cpu_with_threads(2)
}

/// A prior with every kind of law.
fn prior() -> Prior {
    let prior = Prior::new().uniform("a [m]", -1.0, 1.0).log_uniform("b", 0.1, 10.0).normal("c", 1.0 / 3.0, 0.7);
    let prior = prior.log_normal("d", 0.1, 0.2).truncated_normal("e", 0.0, 1.0, -1.0, 5.0);
    prior.dirichlet(&["f"], &[1.5, 2.5]).ordered_dirichlet(&["g", "h"], &[1.0, 2.0, 0.3]).build().unwrap()
}

/// 60 rows of it with two noisy features.
fn data<T: Real>() -> Dataset<T> {
    let simulations = retrodict::simulate(&device(), &prior(), 60, 1, |theta, rng| {
        use rand::RngExt;
        vec![theta[0] + rng.random::<f64>(), theta[1] * theta[3]]
    });
    let tables = simulations.unwrap();
    Dataset::new(prior().support(), tables.theta.view(), tables.x.view(), Default::default()).unwrap()
}

/// One epoch, with settings that no default has.
fn training() -> Training {
    let adam = Adam { clip: f64::INFINITY, learning_rate: 1.0 / 3.0e3, ..Adam::default() };
    let schedule = Schedule::Cosine { warmup: 0.1, floor: 0.01 };
    Training { max_epochs: 1, batch: 25, adam, schedule, seed: u64::MAX, ..Training::default() }
}

fn hmc() -> Hmc {
    Hmc { warm_up: 3, trajectories: 2, ..Hmc::default() }
}

/// A quick variant of a family.
fn small(name: &str) -> AnyFamily {
    match name.parse().unwrap() {
        AnyFamily::EnergyBased(family) => {
            AnyFamily::EnergyBased(retrodict::models::EnergyBased { hmc: hmc(), ..family })
        }
        AnyFamily::Diffusion(mut family) => {
            (family.network.hidden, family.network.blocks, family.tolerance) = (8, 1, 1e-2);
            AnyFamily::Diffusion(family)
        }
        AnyFamily::Ncsn(mut family) => {
            (family.network.hidden, family.network.blocks, family.steps_per_level) = (8, 1, 2);
            AnyFamily::Ncsn(family)
        }
        other => other,
    }
}

fn fit<T: Real>(family: AnyFamily) -> AnyPosterior<T> {
    let estimator = Npe { training: training(), seed: 7, ..Npe::new(family) };
    estimator.fit(&device(), &data()).unwrap().0.with_prior(&prior()).unwrap()
}

fn flow() -> RealNvp {
    RealNvp { layers: 2, hidden: vec![4], ..RealNvp::default() }
}

fn observation() -> Array1<f64> {
    array![0.3, 1.0]
}

/// A file of its own for each test.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("retrodict-posterior-{name}-{}.safetensors", std::process::id()))
}

fn draws<T: Real, M: retrodict::models::Generative<T> + ?Sized>(posterior: &Posterior<T, M>) -> Array2<f64> {
    posterior.sample(observation().view(), 6, 5).unwrap()
}

#[test]
fn every_family_is_what_it_was() {
    for name in AnyFamily::NAMES {
        let (path, saved) = (path(name), fit::<f32>(small(name)));
        saved.save(&path).unwrap();
        let loaded = AnyPosterior::<f32>::load(&Device::cpu_with_threads(1), &path).unwrap();
        let theta = draws(&saved);
        assert_eq!(theta, draws(&loaded), "{name}");
        let densities = [&saved, &loaded].map(|p| p.log_prob(theta.view(), observation().view()));
        assert_eq!(densities[0], densities[1], "{name}");
        assert_eq!((saved.origin(), saved.support()), (loaded.origin(), loaded.support()), "{name}");
        assert_eq!(loaded.origin().prior.as_ref(), Some(&prior()), "{name}");
        let Some(Estimator::Npe(npe)) = &loaded.origin().estimator else {
            panic!("{name} is of {:?}", loaded.origin())
        };
        assert_eq!((npe.family.name(), &npe.training), (name, &training()));
        assert_eq!(saved.to_bytes().unwrap(), loaded.to_bytes().unwrap(), "{name}: the same file, whoever writes it");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_a_loaded_posterior_can_do_is_its_type() {
    let bytes = |name| fit::<f32>(small(name)).to_bytes().unwrap();
    let (x, device) = (observation(), device());
    let flow = <Posterior>::from_bytes(&device, &bytes("nsf")).unwrap();
    let theta = draws(&flow);
    assert!(flow.log_prob(theta.view(), x.view()).is_ok());
    let vae = Posterior::<f32, VaeModel>::from_bytes(&device, &bytes("vae")).unwrap();
    let rows = Array2::from_shape_fn((6, 2), |(_, j)| x[j]);
    assert!(vae.log_prob_bound(theta.view(), rows.view(), 3).unwrap().iter().all(|l| l.is_finite()));
    Posterior::<f32, GanModel>::from_bytes(&device, &bytes("gan")).unwrap();
    Posterior::<f32, EnergyModel>::from_bytes(&device, &bytes("energy")).unwrap();
    Posterior::<f32, NcsnModel>::from_bytes(&device, &bytes("ncsn")).unwrap();

    let says = |error: Option<Error>, words: [&str; 2]| {
        let message = error.expect("another type").to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    says(<Posterior>::from_bytes(&device, &bytes("gan")).err(), ["a gan", "GanModel"]);
    says(Posterior::<f32, GanModel>::from_bytes(&device, &bytes("vp")).err(), ["a vp", "dyn Density"]);
    let gan = AnyPosterior::<f32>::from_bytes(&device, &bytes("gan")).unwrap();
    says(gan.log_prob(theta.view(), x.view()).err(), ["log_prob", "no normalised density"]);
}

#[test]
fn likelihoods_ratios_and_densities_are_what_they_were() {
    let nle = Nle { training: training(), hmc: hmc(), ..Nle::new(flow()) };
    let (saved, _) = nle.fit(&device(), &data::<f64>(), &prior()).unwrap();
    let loaded = Posterior::<f64, LikelihoodModel<f64>>::from_bytes(&device(), &saved.to_bytes().unwrap()).unwrap();
    assert_eq!(draws(&saved), draws(&loaded));
    assert_eq!(saved.origin(), loaded.origin());
    let any = AnyPosterior::<f64>::from_bytes(&device(), &saved.to_bytes().unwrap()).unwrap();
    assert_eq!(draws(&saved), draws(&any));

    let nre = Nre { training: training(), hmc: hmc(), hidden: vec![5], ..Nre::default() };
    let (saved, _) = nre.fit(&device(), &data::<f32>(), &prior()).unwrap();
    let loaded = Posterior::<f32, RatioModel>::from_bytes(&device(), &saved.to_bytes().unwrap()).unwrap();
    assert_eq!(draws(&saved), draws(&loaded));

    let (path, table) = (path("density"), Array2::from_shape_fn((40, 2), |(i, j)| ((i * (j + 3)) % 17) as f64));
    let support = Support::new().real("x").above("y", -1.0).build().unwrap();
    let estimator = Npe { training: training(), ..Npe::new(flow()) };
    let keep_on = |_: &_| ControlFlow::Continue(());
    let (saved, _) = estimator.learn::<f32>(&device(), &support, table.view(), keep_on).unwrap();
    saved.save(&path).unwrap();
    let loaded = <Learned>::load(&device(), &path).unwrap();
    assert_eq!(saved.sample(9, 1), loaded.sample(9, 1));
    assert_eq!(saved.log_prob(table.view()), loaded.log_prob(table.view()));
    fit::<f32>(AnyFamily::RealNvp(flow())).save(&path).unwrap();
    assert!(<Learned>::load(&device(), &path).unwrap_err().to_string().contains("2 features"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn numbers_of_one_type_are_read_as_the_other() {
    let family = AnyFamily::SplineFlow(SplineFlow { layers: 2, hidden: vec![4], bins: 3, ..SplineFlow::default() });
    let single = fit::<f32>(family.clone());
    let exact = AnyPosterior::<f64>::from_bytes(&device(), &single.to_bytes().unwrap()).unwrap();
    assert!(single.weights().iter().zip(exact.weights()).all(|(&a, &b)| f64::from(a) == b));
    let double = fit::<f64>(family);
    let nearest = AnyPosterior::<f32>::from_bytes(&device(), &double.to_bytes().unwrap()).unwrap();
    assert!(double.weights().iter().zip(nearest.weights()).all(|(&a, &b)| a as f32 == b));
    let theta = draws(&double);
    let [a, b] = [
        double.log_prob(theta.view(), observation().view()).unwrap(),
        nearest.log_prob(theta.view(), observation().view()).unwrap(),
    ];
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{a} {b}");
}

#[test]
fn another_prior_is_refused() {
    let other = Prior::new().normal("z", 0.0, 1.0).build().unwrap();
    let posterior = fit::<f32>(AnyFamily::RealNvp(flow()));
    assert!(matches!(posterior.with_prior(&other), Err(Error::Parameter { name, .. }) if name == "prior"));
}

/// A family that a file cannot name.
#[derive(Debug)]
struct Own(RealNvp);

impl Family<f32> for Own {
    type Model = dyn Density<f32>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<Self::Model>, Error> {
        self.0.model(layout, dim, context)
    }

    fn train(&self, problem: &Problem<'_, f32>, on_epoch: OnEpoch<'_>) -> Result<Trained<f32, Self::Model>, Error> {
        self.0.train(problem, on_epoch)
    }
}

#[test]
fn a_family_of_ones_own_is_not_saved() {
    let estimator = Npe { training: training(), ..Npe::new(Own(flow())) };
    let (posterior, _) = estimator.fit(&device(), &data::<f32>()).unwrap();
    let path = path("own");
    assert!(matches!(posterior.save(&path), Err(Error::Parameter { name, .. }) if name == "family"));
    assert!(!path.exists());
}

/// Written by version 0.1.0: `fit::<f32>(AnyFamily::RealNvp(flow()))` of this file. It is read for ever.
#[test]
fn a_file_of_version_1_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/posterior-v1.safetensors");
    let posterior = <Posterior>::load(&device(), path).unwrap();
    let Some(Estimator::Npe(npe)) = &posterior.origin().estimator else { panic!("{:?}", posterior.origin()) };
    assert_eq!((&npe.family, &npe.training, npe.seed), (&AnyFamily::RealNvp(flow()), &training(), 7));
    assert_eq!(posterior.origin().prior.as_ref(), Some(&prior()));
    assert_eq!((posterior.support(), posterior.features()), (prior().support(), 2));
    assert_eq!((posterior.origin().data.rows, posterior.origin().history.epochs.len()), (60, 1));
    // The first and the last draw of six, and their densities, as they were then.
    let then = [
        ([-0.75280376, 1.91971246, 0.30718821, 0.92640604, 0.11638165, 0.41721807, 0.17621577, 0.99955738], 1.66973586),
        (
            [0.00035088, 4.80694374, -1.20760936, 0.76507975, -0.21101605, 0.81309276, 0.27071157, 0.85191333],
            -6.96510987,
        ),
    ];
    let now = draws(&posterior);
    for (row, (theta, log_prob)) in [0, 5].into_iter().zip(then) {
        assert!(now.row(row).iter().zip(theta).all(|(now, then)| (now - then).abs() < 1e-4), "{now}");
        let density = posterior.log_prob(now.slice(ndarray::s![row..=row, ..]), observation().view()).unwrap()[0];
        assert!((density - log_prob).abs() < 1e-3, "{density}, not {log_prob}");
    }
}

/// A file of a few kilobytes.
fn file() -> Vec<u8> {
    fit::<f32>(AnyFamily::Mdn(Mdn { components: 1, hidden: vec![1], ..Mdn::default() })).to_bytes().unwrap()
}

fn complaint(bytes: &[u8]) -> String {
    let error = AnyPosterior::<f32>::from_bytes(&device(), bytes).expect_err("it is not what was written");
    error.to_string()
}

#[test]
fn every_flipped_bit_is_damage() {
    let whole = file();
    for at in 0..whole.len() {
        for bit in [at % 8, (at + 3) % 8] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let message = complaint(&bytes);
            assert!(message.contains("damaged"), "bit {bit} of byte {at} of {}: {message}", whole.len());
        }
    }
}

#[test]
fn a_file_that_ends_too_early_is_truncated() {
    let whole = file();
    for length in 100..whole.len() {
        let message = complaint(&whole[..length]);
        assert!(message.contains("truncated"), "{length} of {}: {message}", whole.len());
    }
    for length in 0..100 {
        complaint(&whole[..length]);
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(complaint(&longer).contains("damaged"));
}

#[test]
fn a_foreign_file_is_named_as_such() {
    let path = path("foreign");
    for (bytes, word) in [
        (&b""[..], "not a safetensors file"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}", "not a safetensors file"),
        (b"theta,x\n1,2\n", "not a safetensors file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "no posterior of this library"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "no posterior of this library"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = <Posterior>::load(&device(), &path).unwrap_err().to_string();
        assert!(message.contains(word) && message.contains("foreign"), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(<Posterior>::load(&device(), &path), Err(Error::File { path: p, .. }) if p == path));
}
