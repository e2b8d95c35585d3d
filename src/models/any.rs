//! A family that is chosen at run time: by its name, or by a file.

use std::fmt;
use std::str::FromStr;

use crate::device::Device;
use crate::error::Error;
use crate::models::{
    Density, Diffusion, EnergyBased, Evaluator, ExplicitDensity, ExplicitFamily, Family, Gan, Generative, Mdn, Ncsn,
    OnEpoch, Problem, RealNvp, SplineFlow, Trained, Vae,
};
use crate::noise_schedule::NoiseSchedule;
use crate::real::Real;
use crate::sample::Sampler;
use crate::store::{Layout, Scope};

/// One of all families, with its settings.
///
/// ```
/// use retrodict::models::{AnyFamily, SplineFlow};
/// let family: AnyFamily = "nsf".parse()?;
/// assert_eq!(family, AnyFamily::SplineFlow(SplineFlow::default()));
/// assert_eq!(family.to_string(), "nsf");
/// # Ok::<(), retrodict::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "weights", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum AnyFamily {
    /// `mdn`
    Mdn(Mdn),
    /// `realnvp`
    RealNvp(RealNvp),
    /// `nsf`
    SplineFlow(SplineFlow),
    /// `vae`
    Vae(Vae),
    /// `gan`
    Gan(Gan),
    /// `energy`
    EnergyBased(EnergyBased),
    /// `vp`, `sub-vp`, `ve`, `edm`, `flow-matching`
    Diffusion(Diffusion),
    /// `ncsn`
    Ncsn(Ncsn),
}

/// Calls a method of the family that it is.
macro_rules! with_family {
    ($any:expr, $family:ident => $call:expr) => {
        match $any {
            AnyFamily::Mdn($family) => $call,
            AnyFamily::RealNvp($family) => $call,
            AnyFamily::SplineFlow($family) => $call,
            AnyFamily::Vae($family) => $call,
            AnyFamily::Gan($family) => $call,
            AnyFamily::EnergyBased($family) => $call,
            AnyFamily::Diffusion($family) => $call,
            AnyFamily::Ncsn($family) => $call,
        }
    };
}

impl AnyFamily {
    /// The names, each of a family with its default settings.
    pub const NAMES: [&str; 12] =
        ["mdn", "realnvp", "nsf", "vae", "gan", "energy", "vp", "sub-vp", "ve", "edm", "flow-matching", "ncsn"];

    /// The name of the family.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mdn(_) => "mdn",
            Self::RealNvp(_) => "realnvp",
            Self::SplineFlow(_) => "nsf",
            Self::Vae(_) => "vae",
            Self::Gan(_) => "gan",
            Self::EnergyBased(_) => "energy",
            Self::Ncsn(_) => "ncsn",
            Self::Diffusion(diffusion) => match diffusion.network.schedule {
                NoiseSchedule::VariancePreserving { .. } => "vp",
                NoiseSchedule::SubVariancePreserving { .. } => "sub-vp",
                NoiseSchedule::VarianceExploding { .. } => "ve",
                NoiseSchedule::Edm { .. } => "edm",
                NoiseSchedule::Linear => "flow-matching",
                NoiseSchedule::Geometric { .. } => "diffusion on geometric levels",
            },
        }
    }
}

impl fmt::Display for AnyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AnyFamily {
    type Err = Error;

    /// The family of this name with its default settings.
    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "mdn" => Self::Mdn(Mdn::default()),
            "realnvp" => Self::RealNvp(RealNvp::default()),
            "nsf" => Self::SplineFlow(SplineFlow::default()),
            "vae" => Self::Vae(Vae::default()),
            "gan" => Self::Gan(Gan::default()),
            "energy" => Self::EnergyBased(EnergyBased::default()),
            "vp" => Self::Diffusion(Diffusion::variance_preserving()),
            "sub-vp" => Self::Diffusion(Diffusion::sub_variance_preserving()),
            "ve" => Self::Diffusion(Diffusion::variance_exploding()),
            "edm" => Self::Diffusion(Diffusion::edm()),
            "flow-matching" => Self::Diffusion(Diffusion::flow_matching()),
            "ncsn" => Self::Ncsn(Ncsn::default()),
            _ => {
                let why = format!("no family is named `{name}`; there are {}", Self::NAMES.join(", "));
                return Err(Error::parameter("family", why));
            }
        })
    }
}

impl<T: Real> Family<T> for AnyFamily {
    type Model = AnyModel<T>;

    fn model(&self, layout: &mut Layout, dim: usize, context: usize) -> Result<Box<AnyModel<T>>, Error> {
        with_family!(self, family => Ok(Box::new(AnyModel::from(Family::<T>::model(family, layout, dim, context)?))))
    }

    fn settings(&self) -> Option<AnyFamily> {
        Some(self.clone())
    }

    fn train(&self, problem: &Problem<'_, T>, on_epoch: OnEpoch<'_>) -> Result<Trained<T, AnyModel<T>>, Error> {
        with_family!(self, family => {
            let Trained { model, store, history } = family.train(problem, on_epoch)?;
            Ok(Trained { model: Box::new(AnyModel::from(model)), store, history })
        })
    }
}

impl<T: Real> ExplicitFamily<T> for AnyFamily {
    /// # Errors
    /// Besides those of the family, [`Error::Parameter`] for one that is not explicit.
    fn build(&self, scope: &mut Scope<'_>, dim: usize, context: usize) -> Result<Box<dyn ExplicitDensity<T>>, Error> {
        match self {
            Self::Mdn(family) => family.build(scope, dim, context),
            Self::RealNvp(family) => family.build(scope, dim, context),
            Self::SplineFlow(family) => family.build(scope, dim, context),
            other => {
                let why = format!("`{other}` has no density in closed form; mdn, realnvp and nsf have");
                Err(Error::parameter("family", why))
            }
        }
    }
}

/// A model of any family: it can be drawn from; that it has no density is found when it is asked for one.
#[derive(Debug)]
pub enum AnyModel<T> {
    /// One with a density.
    Density(Box<dyn Density<T>>),
    /// One without.
    Generative(Box<dyn Generative<T>>),
}

impl<T: Real> From<Box<dyn Density<T>>> for AnyModel<T> {
    fn from(model: Box<dyn Density<T>>) -> Self {
        Self::Density(model)
    }
}

impl<T: Real, M: Generative<T> + 'static> From<Box<M>> for AnyModel<T> {
    fn from(model: Box<M>) -> Self {
        Self::Generative(model)
    }
}

impl<T: Real> AnyModel<T> {
    fn generative(&self) -> &dyn Generative<T> {
        match self {
            Self::Density(model) => &**model,
            Self::Generative(model) => &**model,
        }
    }
}

impl<T: Real> Generative<T> for AnyModel<T> {
    fn dim(&self) -> usize {
        self.generative().dim()
    }

    fn context(&self) -> usize {
        self.generative().context()
    }

    fn sampler(&self, device: &Device) -> Result<Box<dyn Sampler<T> + '_>, Error> {
        self.generative().sampler(device)
    }
}

impl<T: Real> Density<T> for AnyModel<T> {
    /// # Errors
    /// [`Error::Parameter`] if the model has no density.
    fn evaluator(&self, device: &Device) -> Result<Box<dyn Evaluator<T> + '_>, Error> {
        match self {
            Self::Density(model) => model.evaluator(device),
            Self::Generative(_) => {
                let why = "this family has draws and no normalised density; mixtures, flows and diffusions have one";
                Err(Error::parameter("log_prob", why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_family_and_every_family_tells_its_name() {
        for name in AnyFamily::NAMES {
            assert_eq!(name.parse::<AnyFamily>().unwrap().to_string(), name);
        }
        let message = "maf".parse::<AnyFamily>().unwrap_err().to_string();
        assert!(message.contains("`maf`") && message.contains("flow-matching"), "{message}");
    }

    #[test]
    fn a_model_has_a_density_or_says_that_it_has_none() {
        for name in AnyFamily::NAMES {
            let family: AnyFamily = name.parse().unwrap();
            let model: Box<AnyModel<f64>> = family.model(&mut Layout::new(), 2, 3).unwrap();
            assert_eq!((model.dim(), model.context()), (2, 3));
            let device = Device::cpu_with_threads(1);
            model.sampler(&device).unwrap();
            let has_none = ["vae", "gan", "energy", "ncsn"].contains(&name);
            assert_eq!(model.evaluator(&device).is_err(), has_none, "{name}");
        }
    }
}
