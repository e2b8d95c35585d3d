use std::path::PathBuf;

use clap::Args;
use retrodict::Validation;
use retrodict::models::AnyModel;
use retrodict::ndarray::{Array2, ArrayView1};
use retrodict::report::{Corner, Report};
use retrodict::sbi::{AnyPosterior, PriorFile};
use retrodict::validate::{Finding, SimulatedCloud, Verdict};
use serde_json::json;

use crate::files::{Overwrite, read, read_theta};
use crate::inspect;
use crate::sample::at_row;
use crate::session::{Outcome, Session, Stop};

/// Check a posterior on simulations that it was not trained on
///
/// Prints a verdict for each diagnostic: is the posterior biased, too narrow, too wide? With --report everything goes
/// onto one page, pictures included. With --observed it also asks whether real observations look like the test simulations: a
/// posterior of one that does not means nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  retrodict validate posterior.safetensors --theta test_theta.npy --x test_x.npy --report report.html
  retrodict validate posterior.safetensors --theta test.npz --x test.npz --observed observed.npy
  retrodict validate posterior.safetensors --theta test.npz --x test.npz --strict --json")]
pub struct Validate {
    /// The trained posterior
    #[arg(value_name = "POSTERIOR")]
    pub posterior: PathBuf,
    /// The true parameters of the test simulations
    #[arg(long, value_name = "TABLE")]
    pub theta: PathBuf,
    /// Their observations
    #[arg(long, value_name = "TABLE")]
    pub x: PathBuf,
    /// Real observations, to be held against the test simulations (40 or more)
    #[arg(long, value_name = "TABLE")]
    pub observed: Option<PathBuf>,
    /// Draws for each test simulation
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub draws: u32,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where a page with all findings and pictures goes
    #[arg(long, value_name = "HTML")]
    pub report: Option<PathBuf>,
    /// The prior, for the units of the parameters in the report
    #[arg(long, value_name = "TOML")]
    pub prior: Option<PathBuf>,
    /// Exit with 1 if any verdict is `wrong`
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub overwrite: Overwrite,
}

impl Validate {
    pub fn run(self, session: &Session) -> Result<Outcome, Stop> {
        self.overwrite.check(&self.report)?;
        let posterior = AnyPosterior::<f32>::load(&session.device, &self.posterior)?.with_cancel(&session.cancel);
        let names = posterior.support().names();
        let (theta, x) = (read_theta(&self.theta, names)?, read(&self.x, "x")?.values);
        let (draws, seed) = (self.draws as usize, self.seed);
        let mut validation = match posterior.model() {
            AnyModel::Density(_) => Validation::run(&posterior, theta.view(), x.view(), draws, seed)?,
            AnyModel::Generative(_) => Validation::run_draws(&posterior, theta.view(), x.view(), draws, seed)?,
        };
        if let Some(prior) = &posterior.origin().prior {
            validation = validation.with_prior(prior)?;
        }
        let mut findings = validation.findings();
        let observed = self.observations(session, &x)?;
        if let Some(path) = &self.report {
            let page = self.page(&posterior, validation, &theta, &x)?;
            let page = if observed.is_empty() { page } else { page.section("Observations").findings(&observed) };
            page.write(path)?;
        }
        findings.extend(observed);
        self.outcome(&findings)
    }

    /// Whether each observation looks like a simulation; its row begins the sentence if there are several.
    fn observations(&self, session: &Session, simulated: &Array2<f64>) -> Result<Vec<Finding>, Stop> {
        let Some(path) = &self.observed else { return Ok(Vec::new()) };
        let observed = read(path, "x")?.values;
        let cloud = SimulatedCloud::new(&session.device, simulated.view(), self.seed)?;
        let mut all = Vec::new();
        for (i, row) in observed.outer_iter().enumerate() {
            let mut findings = cloud.check(row).map_err(|error| at_row(error, i))?.findings();
            for finding in &mut findings {
                finding.subject = format!("observation {i}");
                if observed.nrows() > 1 {
                    finding.sentence = format!("Row {i}: {}", finding.sentence);
                }
            }
            all.extend(findings);
        }
        Ok(all)
    }

    fn page(
        &self,
        posterior: &AnyPosterior<f32>,
        mut validation: Validation,
        theta: &Array2<f64>,
        x: &Array2<f64>,
    ) -> Result<Report, Stop> {
        if let Some(prior) = &self.prior {
            validation.names = PriorFile::read(prior)?.labels();
        }
        let names = validation.names.clone();
        let observed: ArrayView1<'_, f64> = x.row(0);
        let draws = posterior.sample(observed, 5000, self.seed)?;
        let corner = Corner::new(&names).series("posterior", draws.view()).truth(&theta.row(0).to_vec());
        let report = Report::new(&format!("Posterior of {}", names.join(", ")))
            .settings(&inspect::pairs(posterior))
            .data(&names, theta.view(), x.view())?
            .training(&posterior.origin().history)?
            .validation(&validation)?;
        Ok(report.corner(&corner, "The posterior of the first test simulation, and its true parameters.")?)
    }

    fn outcome(&self, findings: &[Finding]) -> Result<Outcome, Stop> {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Sound);
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        let mut text = format!("{}\nThe worst verdict is {worst}.", lines.join("\n"));
        if let Some(report) = &self.report {
            text += &format!("\n{} shows the pictures.", report.display());
        }
        if self.strict && worst == Verdict::Wrong {
            return Err(Stop::Failure(text));
        }
        let findings: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "diagnostic": finding.diagnostic, "subject": finding.subject, "value": finding.value.value,
                    "error": finding.value.error, "expected": finding.expected, "p_value": finding.p_value,
                    "verdict": finding.verdict.name(), "sentence": finding.sentence,
                })
            })
            .collect();
        let json = json!({ "verdict": worst.name(), "findings": findings, "report": self.report });
        Ok(Outcome::new(text, json))
    }
}
