//! A trained posterior as one file (feature `weights`): weights in the safetensors format, and in its metadata a header
//! that tells everything else in JSON.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::error::{Error, check_length};
use crate::files::weights::{Kind, Tensor, decode, encode};
use crate::models::{AnyFamily, AnyModel, Density, EnergyModel, Family, GanModel, Generative, NcsnModel, VaeModel};
use crate::real::Real;
use crate::sbi::{Estimator, LikelihoodModel, Origin, Posterior, Prior, RatioModel, Scales};
use crate::store::{Layout, Store, Weights};

/// The version is raised when a header changes so that an older library would misread it. A field that is added needs
/// a default that says what its absence meant.
const KIND: Kind = Kind { name: "posterior", version: 1 };

/// Everything but the weights.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    scales: Cow<'a, Scales>,
    origin: Cow<'a, Origin>,
}

impl<T: Real, M: Generative<T> + ?Sized> Posterior<T, M> {
    /// Writes the posterior to one file, beside it first, so that a failing run leaves an older file as it was.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written; [`Error::Parameter`] if its family is not one of this library's.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        crate::files::write(path, self.to_bytes()?)
    }

    /// The bytes of that file.
    ///
    /// # Errors
    /// As [`Posterior::save`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        if self.origin.estimator.is_none() {
            return Err(Error::parameter("family", "is not one of this library's; a file could not name it"));
        }
        let header = Header { scales: Cow::Borrowed(&self.scales), origin: Cow::Borrowed(&self.origin) };
        let weights = self.store.weights(Weights::Ema);
        let tensors = self.store.layout().iter().map(|(name, param)| Tensor {
            name: name.into(),
            shape: [param.rows(), param.cols()],
            values: weights[param.range()].into(),
        });
        let tensors: Vec<_> = tensors.collect();
        encode(&KIND, &header, &tensors).map_err(|why| Error::parameter("posterior", why))
    }
}

impl<T: Real, M: Loadable<T> + ?Sized> Posterior<T, M> {
    /// Reads a posterior from its file. Draws and densities are those of the posterior that was saved, bit for bit.
    ///
    /// What it can do is again its type: `<Posterior>::load` is for families with a density,
    /// `Posterior::<f32, VaeModel>::load` for autoencoders, and an [`AnyPosterior`](crate::sbi::AnyPosterior) for any.
    /// A file of `f32` can be read as `f64`, exactly; one of `f64` as `f32` takes the nearest numbers.
    ///
    /// # Errors
    /// [`Error::File`] that says whether the file cannot be read, is foreign, truncated, damaged, or of a newer
    /// version, or that another type is the one for its family.
    pub fn load(device: &Device, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|why| Error::file(path, why))?;
        parse(device, &bytes).map_err(|why| Error::file(path, why))
    }

    /// The same from the bytes of a file.
    ///
    /// # Errors
    /// As [`Posterior::load`].
    pub fn from_bytes(device: &Device, bytes: &[u8]) -> Result<Self, Error> {
        parse(device, bytes).map_err(|why| Error::file(Path::new("posterior in memory"), why))
    }
}

fn parse<T: Real, M: Loadable<T> + ?Sized>(device: &Device, bytes: &[u8]) -> Result<Posterior<T, M>, String> {
    let (header, tensors): (Header<'_>, Vec<Tensor<'_, T>>) = decode(&KIND, bytes)?;
    let (scales, origin) = (header.scales, header.origin.into_owned());
    let restore = || {
        scales.check()?;
        let mut layout = Layout::with_limit(tensors.iter().map(|t| t.values.len()).sum());
        let model = M::restore(&origin, &scales, &mut layout)?;
        let weights = arrange(&layout, &tensors)?;
        Ok((model, Store::with_weights(layout, weights)?))
    };
    let trained = restore().map_err(|e: Error| e.to_string())?;
    Ok(Posterior::new(device, &scales, trained, origin))
}

/// The weights in the order of the layout.
fn arrange<T: Real>(layout: &Layout, tensors: &[Tensor<'_, T>]) -> Result<Vec<T>, Error> {
    let mut weights = vec![T::ZERO; layout.len()];
    check_length("tensors (those of its network)", layout.iter().count(), tensors.len())?;
    for Tensor { name, shape, values } in tensors {
        let param = layout.get(name).filter(|p| [p.rows(), p.cols()] == *shape);
        let param = param.ok_or_else(|| Error::parameter(&**name, format!("{shape:?} is not part of its network")))?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::parameter(&**name, format!("weight {i} is not finite in this number type")));
        }
        weights[param.range()].copy_from_slice(values);
    }
    Ok(weights)
}

/// A type of model as which a file can be loaded.
pub trait Loadable<T: Real>: Generative<T> {
    /// Registers the model that is described, if it is of this type.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is of another, or if the settings cannot be.
    fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error>;
}

impl<T: Real> Loadable<T> for AnyModel<T> {
    fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error> {
        let (dim, context) = (scales.theta.width(), scales.x.width());
        match &origin.estimator {
            Some(Estimator::Npe(npe)) => npe.family.model(layout, dim, context),
            Some(Estimator::Nle(_)) => Ok(Box::new(LikelihoodModel::restore(origin, scales, layout)?.into())),
            Some(Estimator::Nre(_)) => {
                let model: Box<RatioModel> = Loadable::<T>::restore(origin, scales, layout)?;
                Ok(Box::new(model.into()))
            }
            None => Err(Error::parameter("estimator", "the file names none")),
        }
    }
}

impl<T: Real> Loadable<T> for dyn Density<T> {
    fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error> {
        match *AnyModel::restore(origin, scales, layout)? {
            AnyModel::Density(model) => Ok(model),
            AnyModel::Generative(_) => Err(another_type(origin)),
        }
    }
}

impl<T: Real> Loadable<T> for LikelihoodModel<T> {
    fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error> {
        match &origin.estimator {
            Some(Estimator::Nle(nle)) => Ok(Box::new(nle.model(layout, prior(origin)?, scales)?)),
            _ => Err(another_type(origin)),
        }
    }
}

impl<T: Real> Loadable<T> for RatioModel {
    fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error> {
        match &origin.estimator {
            Some(Estimator::Nre(nre)) => Ok(Box::new(nre.model(layout, prior(origin)?, scales)?)),
            _ => Err(another_type(origin)),
        }
    }
}

/// Families whose model is a type of its own.
macro_rules! loadable {
    ($($Model:ident: $Family:ident),*) => {$(
        impl<T: Real> Loadable<T> for $Model {
            fn restore(origin: &Origin, scales: &Scales, layout: &mut Layout) -> Result<Box<Self>, Error> {
                let (dim, context) = (scales.theta.width(), scales.x.width());
                match &origin.estimator {
                    Some(Estimator::Npe(npe)) => match &npe.family {
                        AnyFamily::$Family(family) => Family::<T>::model(family, layout, dim, context),
                        _ => Err(another_type(origin)),
                    },
                    _ => Err(another_type(origin)),
                }
            }
        }
    )*};
}

loadable!(VaeModel: Vae, GanModel: Gan, EnergyModel: EnergyBased, NcsnModel: Ncsn);

fn prior(origin: &Origin) -> Result<Prior, Error> {
    origin.prior.clone().ok_or_else(|| Error::parameter("prior", "the file tells none, and this posterior needs one"))
}

fn another_type(origin: &Origin) -> Error {
    let (what, model) = match &origin.estimator {
        Some(Estimator::Npe(npe)) => (
            npe.family.name(),
            match npe.family {
                AnyFamily::Vae(_) => "VaeModel",
                AnyFamily::Gan(_) => "GanModel",
                AnyFamily::EnergyBased(_) => "EnergyModel",
                AnyFamily::Ncsn(_) => "NcsnModel",
                _ => "dyn Density<T>",
            },
        ),
        Some(Estimator::Nle(_)) => ("likelihood", "LikelihoodModel<T>"),
        Some(Estimator::Nre(_)) => ("ratio", "RatioModel"),
        None => ("model of no known family", "_"),
    };
    Error::parameter("model", format!("a {what}; load it as a Posterior<T, {model}> or as an AnyPosterior<T>"))
}
