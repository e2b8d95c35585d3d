//! The classifier of two-sample tests: a network that tells labelled rows apart.

use std::ops::ControlFlow;

use crate::device::Device;
use crate::error::Error;
use crate::graph::{Graph, Var};
use crate::nn::Mlp;
use crate::ops::elementwise::Activation;
use crate::plan::{Feed, Plan, Request};
use crate::progress::Cancel;
use crate::store::{Layout, Store, Weights};
use crate::train::{Source, Training, TrainingSet, fit};

/// Rows with a label each, 1 or -1.
pub(super) struct Labelled {
    pub columns: usize,
    /// `[rows x columns]`, standardised.
    pub table: Vec<f32>,
    pub label: Vec<f32>,
}

/// How a classifier is made.
pub(super) struct Settings<'a> {
    pub hidden: &'a [usize],
    pub training: &'a Training,
    pub seed: u64,
    pub cancel: &'a Cancel,
}

/// A trained classifier. Its logit is ln p(label 1) / p(label -1).
pub(super) struct Classifier {
    store: Store<f32>,
    plan: Plan<f32>,
}

impl Classifier {
    /// Minimises the logistic loss ln(1 + exp(-label logit)) over the training rows.
    pub fn train(
        device: &Device,
        settings: &Settings<'_>,
        rows: &Labelled,
        training: &[u32],
        validation: &[u32],
    ) -> Result<Self, Error> {
        let mut layout = Layout::new();
        let net = Mlp::new(&mut layout.scope("c2st"), rows.columns, settings.hidden, 1, Activation::Relu)?;
        let mut store = Store::new(layout, settings.seed);
        let record = |graph: &mut Graph<f32>| -> Result<Var, Error> {
            let x = graph.input("x", rows.columns)?;
            net.forward(graph, &[x])
        };
        let mut graph = Graph::new();
        let (logit, label) = (record(&mut graph)?, graph.input("label", 1)?);
        let margin = graph.mul(logit, label)?;
        let negative = graph.scale(margin, -1.0)?;
        let loss = graph.map(Activation::Softplus, negative)?;
        let all = 0..store.layout().len();
        let mut plan = graph.compile(device, &Request::outputs(&[loss]).with_parameter_gradients(all.clone()))?;
        let inputs = [Source::Table(&rows.table), Source::Table(&rows.label)];
        let set = TrainingSet { inputs: &inputs, training, validation };
        let cancel = settings.cancel;
        fit(device, &mut store, &mut plan, all, &set, settings.training, |_| {
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;

        let mut graph = Graph::new();
        let logit = record(&mut graph)?;
        Ok(Self { store, plan: graph.compile(device, &Request::outputs(&[logit]))? })
    }

    /// The logits of some rows of a table.
    pub fn logits(&mut self, table: &[f32], rows: &[u32]) -> Result<Vec<f32>, Error> {
        let mut logits = vec![0.0; rows.len()];
        let feed = Feed::Gather(table, rows);
        self.plan.forward(self.store.weights(Weights::Ema), rows.len(), &[feed], &mut [&mut logits])?;
        Ok(logits)
    }
}

/// The two rows of each pair.
pub(super) fn rows_of(pairs: &[u32]) -> Vec<u32> {
    pairs.iter().flat_map(|pair| [2 * pair, 2 * pair + 1]).collect()
}
