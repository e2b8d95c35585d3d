//! Posterior files with changes and a checksum that is right, so that what lies behind the checksum is reached.

use rand::RngExt;
use retrodict::rng::{Philox, mix};
use serde_json::{Value, json};

/// A file as the format's description has it, apart from the code that writes files.
pub struct File {
    /// The safetensors header.
    outer: Value,
    /// The JSON in its metadata.
    seal: Value,
    tensors: Vec<u8>,
}

impl File {
    /// None unless both headers are objects.
    pub fn open(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (header, tensors) = rest.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
        let outer: Value = serde_json::from_slice(header).ok()?;
        let seal: Value = serde_json::from_str(outer.get("__metadata__")?.get("retrodict")?.as_str()?).ok()?;
        seal.is_object().then(|| Self { outer, seal, tensors: tensors.to_vec() })
    }

    /// The bytes, with the checksum that they should have; none if the outer header is no longer an object.
    pub fn close(&self) -> Option<Vec<u8>> {
        let mut seal = self.seal.clone();
        seal["checksum"] = "0".repeat(DIGITS).into();
        // The fields in the order in which they are written.
        let fields = ["kind", "version", "retrodict", "checksum", "tensor_bytes", "header"];
        let fields: Vec<String> = fields.iter().map(|f| format!("\"{f}\":{}", seal[f])).collect();
        let metadata = json!({ "retrodict": format!("{{{}}}", fields.join(",")) }).to_string();
        let mut tensors = self.outer.as_object()?.clone();
        tensors.remove("__metadata__");
        let mut header = format!("{{\"__metadata__\":{metadata}");
        tensors.iter().for_each(|(name, place)| header += &format!(",{}:{place}", json!(name)));
        header.push('}');
        let mut header = header.into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = [&(header.len() as u64).to_le_bytes()[..], &header, &self.tensors].concat();
        reseal(&mut file);
        Some(file)
    }

    /// Changes one random place, most often of our own header.
    pub fn mutate(&mut self, rng: &mut Philox) {
        let ours = rng.random_range(0..10) > 0;
        mutate(if ours { &mut self.seal["header"] } else { &mut self.outer }, rng);
    }

    /// Our own header.
    pub fn header(&self) -> &Value {
        &self.seal["header"]
    }
}

/// Digits of a checksum.
const DIGITS: usize = 16;

/// Writes the right checksum into any bytes that have a place for it.
pub fn reseal(file: &mut [u8]) {
    const FIELD: &[u8] = br#"\"checksum\":\""#;
    let Some(place) = file.windows(FIELD.len() + DIGITS).position(|w| w.starts_with(FIELD)) else { return };
    let place = place + FIELD.len();
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let words = file[..place].chunks(8).chain(file[place + DIGITS..].chunks(8)).map(word);
    let checksum = format!("{:016x}", mix(file.len() as u64, words));
    file[place..place + DIGITS].copy_from_slice(checksum.as_bytes());
}

/// Changes one random place of a JSON value.
fn mutate(value: &mut Value, rng: &mut Philox) {
    let stop = rng.random_range(0..12) == 0;
    match value {
        Value::Object(map) if !map.is_empty() && !stop => {
            let key = map.keys().nth(rng.random_range(0..map.len())).unwrap().clone();
            match rng.random_range(0..40) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert("surplus".into(), 1.into())),
                _ => mutate(&mut map[&key], rng),
            }
        }
        Value::Array(items) if !items.is_empty() && !stop => {
            let at = rng.random_range(0..items.len());
            match rng.random_range(0..20) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => mutate(&mut items[at], rng),
            }
        }
        other => *other = replacement(rng),
    }
}

fn replacement(rng: &mut Philox) -> Value {
    let values = [
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(1_u64 << 20),
        json!(1_u64 << 32),
        json!(1_u64 << 60),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(-1e-300),
        json!(0.5),
        json!(null),
        json!(""),
        json!("a"),
        json!([]),
        json!({}),
        json!([1, 2]),
        json!("none"),
        json!("silu"),
        json!({ "permuted": 7 }),
    ];
    values[rng.random_range(0..values.len())].clone()
}
