//! Weights with a header, sealed by a checksum: safetensors files whose one entry of metadata, `retrodict`, is JSON.
//!
//! Any reader of safetensors sees the tensors and the header; we also see what is wrong with a file: a checksum of
//! all its bytes tells damage from what another version wrote.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::real::Real;
use crate::rng::mix;

/// What kind of file, and the version of its header that this library writes. It reads this one and those before.
pub(crate) struct Kind {
    /// As in "not a posterior".
    pub name: &'static str,
    /// Counted from 1; raised when a header is no longer what an older library understands.
    pub version: u32,
}

/// A named matrix, row by row.
pub(crate) struct Tensor<'a, T: Clone> {
    pub name: Cow<'a, str>,
    pub shape: [usize; 2],
    pub values: Cow<'a, [T]>,
}

/// What stands in the metadata.
#[derive(Serialize, Deserialize)]
struct Seal<H> {
    kind: String,
    version: u32,
    /// The library that wrote the file.
    retrodict: String,
    /// Of the whole file with zeros in this place.
    checksum: String,
    /// Bytes of all tensors, by which a file that ends too early is known.
    tensor_bytes: usize,
    header: H,
}

const KEY: &str = "retrodict";
const NO_CHECKSUM: &str = "0000000000000000";
/// Bytes before the JSON: its length.
const LENGTH: usize = 8;
/// Within so many bytes from the start the key and the checksum's field have appeared.
const START: usize = 256;

/// The bytes of a file.
///
/// # Errors
/// What cannot be written, in words.
pub(crate) fn encode<T: Real, H: Serialize>(
    kind: &Kind,
    header: &H,
    tensors: &[Tensor<'_, T>],
) -> Result<Vec<u8>, String> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|t| to_bytes(&t.values)).collect();
    let seal = Seal {
        kind: kind.name.into(),
        version: kind.version,
        retrodict: env!("CARGO_PKG_VERSION").into(),
        checksum: NO_CHECKSUM.into(),
        tensor_bytes: bytes.iter().map(Vec::len).sum(),
        header,
    };
    let json = serde_json::to_string(&seal).map_err(|e| e.to_string())?;
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view = TensorView::new(dtype::<T>(), tensor.shape.to_vec(), bytes).map_err(|e| e.to_string())?;
        Ok((&tensor.name, view))
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    let metadata = [(KEY.to_string(), json)].into_iter().collect();
    let mut file = safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())?;
    let place = checksum_place(&file).ok_or("the checksum has no place")?;
    let checksum = format!("{:016x}", checksum(&file));
    file[place..place + checksum.len()].copy_from_slice(checksum.as_bytes());
    Ok(file)
}

/// The header and the tensors of a file's bytes.
///
/// # Errors
/// In words: not a safetensors file, not one of ours, not of this kind, truncated, damaged, or newer.
pub(crate) fn decode<T: Real, H: DeserializeOwned>(
    kind: &Kind,
    file: &[u8],
) -> Result<(H, Vec<Tensor<'static, T>>), String> {
    if !is_ours(file) {
        return Err(match file.get(LENGTH) == Some(&b'{') {
            true => format!("a safetensors file, but no {} of this library", kind.name),
            false => format!("not a safetensors file, so no {}", kind.name),
        });
    }
    let parsed = SafeTensors::deserialize(file).ok();
    let json = SafeTensors::read_metadata(file).ok().and_then(|(_, m)| m.metadata().as_ref()?.get(KEY).cloned());
    let (Some(tensors), Some(json)) = (parsed, json) else { return Err(truncated_or_damaged(file)) };
    let seal: Seal<serde_json::Value> = serde_json::from_str(&json).map_err(|_| DAMAGED)?;
    if seal.checksum != format!("{:016x}", checksum(file)) {
        return Err(DAMAGED.into());
    }
    if seal.kind != kind.name {
        return Err(format!("a {}, not a {}", seal.kind, kind.name));
    }
    if seal.version > kind.version {
        return Err(format!(
            "in format {}, which retrodict {} wrote; this is retrodict {}, which reads up to format {}",
            seal.version,
            seal.retrodict,
            env!("CARGO_PKG_VERSION"),
            kind.version
        ));
    }
    let header = serde_json::from_value(seal.header).map_err(|e| format!("its header: {e}"))?;
    let tensors = tensors.iter().map(|(name, view)| from_view(name, &view)).collect::<Result<_, _>>()?;
    Ok((header, tensors))
}

const DAMAGED: &str = "damaged: its bytes are not those that were written (the checksum differs)";

/// What a file is that begins like ours but has not the form of a safetensors file.
fn truncated_or_damaged(file: &[u8]) -> String {
    let rest = file.get(LENGTH..).unwrap_or(&[]);
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<serde_json::Value>();
    let cut = match values.next() {
        None => Some("its header".to_string()),
        Some(Err(e)) => e.is_eof().then(|| "its header".to_string()),
        Some(Ok(header)) => {
            let json = header["__metadata__"][KEY].as_str().and_then(|json| serde_json::from_str(json).ok());
            let promised = json.map(|seal: Seal<serde_json::Value>| seal.tensor_bytes);
            let found = rest.len().saturating_sub(values.byte_offset().next_multiple_of(LENGTH));
            promised.filter(|&p: &usize| p > found).map(|p| format!("{found} of {p} bytes of its weights"))
        }
    };
    match cut {
        Some(what) => format!("truncated: it ends within {what}"),
        None => "damaged: its bytes are not those that were written".into(),
    }
}

/// Whether a file begins as ours do. The word stands there twice, as a key and in the JSON, so that one damaged byte
/// does not make the file a stranger.
fn is_ours(file: &[u8]) -> bool {
    file[..file.len().min(START)].windows(KEY.len()).any(|w| w == KEY.as_bytes())
}

/// Where the checksum's digits stand.
fn checksum_place(file: &[u8]) -> Option<usize> {
    // The JSON is a string within JSON, so its quotes are escaped.
    const FIELD: &[u8] = br#"\"checksum\":\""#;
    let start = &file[..file.len().min(START)];
    let place = start.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    (place + NO_CHECKSUM.len() <= file.len()).then_some(place)
}

/// Of all bytes but the checksum's own. Each word of 8 bytes is a bijection of what came before, so no change within
/// one word is missed.
fn checksum(file: &[u8]) -> u64 {
    let own = checksum_place(file).map_or(0..0, |place| place..place + NO_CHECKSUM.len());
    let [before, after] = [&file[..own.start], &file[own.end..]];
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    mix(file.len() as u64, before.chunks(8).chain(after.chunks(8)).map(word))
}

fn dtype<T: Real>() -> Dtype {
    if T::SIGNIFICAND_BITS == f32::MANTISSA_DIGITS { Dtype::F32 } else { Dtype::F64 }
}

fn to_bytes<T: Real>(values: &[T]) -> Vec<u8> {
    match dtype::<T>() {
        Dtype::F32 => values.iter().flat_map(|v| (v.to_f64() as f32).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_f64().to_le_bytes()).collect(),
    }
}

/// The numbers as T: `f32` as `f64` is exact, `f64` as `f32` takes the nearest.
fn from_view<T: Real>(name: &str, view: &TensorView<'_>) -> Result<Tensor<'static, T>, String> {
    let (rows, bytes) = (view.data().as_chunks::<4>().0, view.data().as_chunks::<8>().0);
    let values = match view.dtype() {
        Dtype::F32 => rows.iter().map(|b| T::from_f64(f32::from_le_bytes(*b).into())).collect(),
        Dtype::F64 => bytes.iter().map(|b| T::from_f64(f64::from_le_bytes(*b))).collect(),
        other => return Err(format!("`{name}` has elements of type {other:?}; expected F32 or F64")),
    };
    let shape = view.shape().try_into().map_err(|_| format!("`{name}` has {} axes; expected 2", view.shape().len()))?;
    Ok(Tensor { name: Cow::Owned(name.into()), shape, values: Cow::Owned(values) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { name: "posterior", version: 3 };

    fn file(kind: &Kind) -> Vec<u8> {
        let tensor = Tensor { name: "w".into(), shape: [1, 2], values: Cow::Borrowed(&[1.5_f32, -0.25][..]) };
        encode(kind, &"header", &[tensor]).unwrap()
    }

    fn complaint(file: &[u8]) -> String {
        decode::<f32, String>(&KIND, file).map(|_| ()).unwrap_err()
    }

    #[test]
    fn any_reader_of_safetensors_sees_tensors_and_header() {
        let file = file(&KIND);
        let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
        let seal: serde_json::Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()[KEY]).unwrap();
        assert_eq!(
            (&seal["kind"], &seal["version"], &seal["header"]),
            (&"posterior".into(), &3.into(), &"header".into())
        );
        let (header, tensors) = decode::<f64, String>(&KIND, &file).unwrap();
        assert_eq!((header.as_str(), &*tensors[0].name, tensors[0].shape), ("header", "w", [1, 2]));
        assert_eq!(*tensors[0].values, [1.5, -0.25]);
    }

    #[test]
    fn newer_files_and_those_of_another_kind_say_so() {
        let newer = complaint(&file(&Kind { version: 4, ..KIND }));
        assert!(newer.contains("in format 4") && newer.contains("up to format 3"), "{newer}");
        assert!(decode::<f32, String>(&KIND, &file(&Kind { version: 1, ..KIND })).is_ok(), "older ones are read");
        assert_eq!(complaint(&file(&Kind { name: "checkpoint", ..KIND })), "a checkpoint, not a posterior");
        // Damage is not taken for a newer version.
        let mut damaged = file(&KIND);
        let place = damaged.windows(12).position(|w| w == br#""version\":3"#).unwrap();
        damaged[place + 11] = b'4';
        assert!(complaint(&damaged).contains("damaged"));
    }

    #[test]
    fn another_header_or_element_type_is_an_error() {
        assert!(decode::<f32, f64>(&KIND, &file(&KIND)).map(|_| ()).unwrap_err().contains("header"));
        let whole = TensorView::new(Dtype::I64, vec![1], &[0; 8]).unwrap();
        assert!(from_view::<f32>("n", &whole).map(|_| ()).unwrap_err().contains("I64"));
        let cube = TensorView::new(Dtype::F32, vec![1, 1, 1], &[0; 4]).unwrap();
        assert!(from_view::<f32>("c", &cube).map(|_| ()).unwrap_err().contains("3 axes"));
    }
}
