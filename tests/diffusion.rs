//! Score networks in double precision: the loss is that of denoising score matching, and its optimum the score.

use retrodict::check::graph_gradient_error;
use retrodict::models::{Diffusion, Gan, Ncsn, Parameterisation, ScoreNetwork, Vae, Weighting};
use retrodict::noise_schedule::NoiseSchedule;
use retrodict::rng::NoiseRows;
use retrodict::sample::Score;
use retrodict::store::Weights;
use retrodict::{Batch, Device, Feed, Graph, Layout, Request, Store};

fn networks() -> [ScoreNetwork; 6] {
    let small = |network| ScoreNetwork { hidden: 8, blocks: 1, waves: 2, ..network };
    let mut score = ScoreNetwork::new(NoiseSchedule::variance_exploding());
    score.parameterisation = Parameterisation::Score;
    let vp = ScoreNetwork::new(NoiseSchedule::variance_preserving());
    let mut likelihood = vp;
    likelihood.weighting = Weighting::Likelihood;
    let networks =
        [vp, likelihood, score, Diffusion::edm().network, Diffusion::flow_matching().network, Ncsn::default().network];
    networks.map(small)
}

/// A store in which no layer is zero.
fn store(layout: Layout) -> Store<f64> {
    let mut store = Store::new(layout, 3);
    let params: Vec<_> = store.layout().iter().map(|(_, p)| p).collect();
    for p in params {
        let values: Vec<f64> = (0..p.range().len()).map(|i| 0.3 * (1.7 * (i + p.cols()) as f64).sin()).collect();
        store.set(p, &values).unwrap();
    }
    store
}

#[test]
fn the_loss_has_the_gradient_that_differences_have() {
    for network in networks() {
        let mut layout = Layout::new();
        let model = network.build(&mut layout.scope("score"), 2, 1).unwrap();
        let store = store(layout);
        let mut graph = Graph::new();
        let (x, context) = (graph.input("x", 2).unwrap(), graph.input("context", 1).unwrap());
        let loss = model.loss(&mut graph, x, &[context]).unwrap();
        let error = graph_gradient_error(&graph, &store, &[loss], 5, 1).unwrap();
        assert!(error < 1e-5, "{network:?}: {error:e}");
    }
}

#[test]
fn the_loss_is_the_denoising_score_matching_loss_of_the_recorded_score() {
    for network in networks() {
        let mut layout = Layout::new();
        let model = network.build(&mut layout.scope("score"), 2, 0).unwrap();
        let store = store(layout);
        let schedule = network.schedule;
        let rows = 40;
        let x: Vec<f64> = (0..2 * rows).map(|i| (i as f64).cos()).collect();
        let t: Vec<f64> = (0..rows).map(|i| schedule.t_max() * (0.05 + 0.9 * i as f64 / rows as f64)).collect();

        // The noise is the graph's first source.
        let mut graph = Graph::new();
        let (x_var, t_var) = (graph.input("x", 2).unwrap(), graph.input("t", 1).unwrap());
        let loss = model.loss_at(&mut graph, x_var, t_var, &[]).unwrap();
        let mut plan = graph.compile(&Device::cpu(), &Request::outputs(&[loss])).unwrap();
        let mut found = vec![0.0; rows];
        let batch = || Batch::with_noise(rows, NoiseRows::new(&5));
        let params = store.weights(Weights::Raw);
        plan.forward(params, batch(), &[Feed::Rows(&x), Feed::Rows(&t)], &mut [&mut found]).unwrap();
        let mut graph = Graph::<f64>::new();
        let noise = graph.normal(2).unwrap();
        let mut epsilon = vec![0.0; 2 * rows];
        let mut plan = graph.compile(&Device::cpu(), &Request::outputs(&[noise])).unwrap();
        plan.forward(&[], batch(), &[], &mut [&mut epsilon]).unwrap();

        let noised: Vec<f64> =
            (0..2 * rows).map(|i| schedule.alpha(t[i / 2]) * x[i] + schedule.sigma(t[i / 2]) * epsilon[i]).collect();
        let mut graph = Graph::new();
        let (x_var, t_var) = (graph.input("x", 2).unwrap(), graph.input("t", 1).unwrap());
        let score = model.score(&mut graph, x_var, t_var, &[]).unwrap();
        let mut plan = graph.compile(&Device::cpu(), &Request::outputs(&[score])).unwrap();
        let mut score = vec![0.0; 2 * rows];
        plan.forward(params, rows, &[Feed::Rows(&noised), Feed::Rows(&t)], &mut [&mut score]).unwrap();
        for i in 0..rows {
            let (alpha, sigma) = (schedule.alpha(t[i]), schedule.sigma(t[i]));
            // λ for which the weight on the network's own output is 1.
            let own = match network.parameterisation {
                Parameterisation::Edm { sigma_data } => {
                    let n2 = sigma * sigma + (alpha * sigma_data).powi(2);
                    sigma * sigma * n2 / (alpha * sigma_data).powi(2)
                }
                Parameterisation::Velocity => (sigma / alpha).powi(2),
                _ => f64::NAN,
            };
            let lambda = match network.weighting {
                Weighting::SigmaSquared => sigma * sigma,
                Weighting::Likelihood => schedule.diffusion_squared(t[i]),
                Weighting::Network => own,
            };
            let square = |c: usize| (score[2 * i + c] + epsilon[2 * i + c] / sigma).powi(2);
            let expected = 0.5 * lambda * 0.5 * (square(0) + square(1));
            assert!((found[i] / expected - 1.0).abs() < 1e-8, "{network:?}: {} against {expected}", found[i]);
        }
    }
}

#[test]
fn settings_that_cannot_be_are_errors() {
    let mut straight = Diffusion::flow_matching();
    straight.sampling = retrodict::models::DiffusionSampling::Sde(10, None);
    assert!(straight.check().is_err());
    let mut levels = Diffusion::edm();
    levels.network.schedule = NoiseSchedule::geometric();
    assert!(levels.check().is_err());
    let mut velocity = Diffusion::edm();
    velocity.network.parameterisation = Parameterisation::Velocity;
    assert!(velocity.check().is_err());
}

#[test]
fn the_losses_of_vae_and_gan_have_the_gradients_that_differences_have() {
    let mut layout = Layout::new();
    let vae = Vae { latent: 2, hidden: vec![5], samples: 3, ..Vae::default() };
    let model = vae.build(&mut layout.scope("vae"), 3, 1).unwrap();
    let weights = store(layout);
    let mut graph = Graph::new();
    let (theta, context) = (graph.input("theta", 3).unwrap(), graph.input("x", 1).unwrap());
    let warm = graph.input("warm", 1).unwrap();
    let elbo = model.negative_elbo(&mut graph, theta, &[context], warm).unwrap();
    let bound = model.negative_bound(&mut graph, theta, &[context], warm).unwrap();
    let error = graph_gradient_error(&graph, &weights, &[elbo, bound], 7, 1).unwrap();
    assert!(error < 1e-6, "vae: {error:e}");

    let mut layout = Layout::new();
    let model = Gan { latent: 2, hidden: vec![5], ..Gan::default() }.build(&mut layout, 3, 1).unwrap();
    let weights = store(layout);
    let mut graph = Graph::new();
    let (theta, context) = (graph.input("theta", 3).unwrap(), graph.input("x", 1).unwrap());
    let blur = graph.input("blur", 1).unwrap();
    let told = model.discriminator_loss(&mut graph, theta, &[context], blur).unwrap();
    let made = model.generator_loss(&mut graph, &[context], blur).unwrap();
    let error = graph_gradient_error(&graph, &weights, &[told, made], 7, 1).unwrap();
    assert!(error < 1e-6, "gan: {error:e}");
}
