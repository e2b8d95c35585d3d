//! From one type to another.

use super::Function;
use super::word::Word;
use crate::ptx::Type;

pub fn convert(parts: &[&str], to: Type, from: Type) -> Option<Function> {
    let rounding = ["rni", "rzi", "rmi", "rpi"].into_iter().find(|r| parts.contains(r));
    if ["rz", "rm", "rp"].iter().any(|r| parts.contains(r)) {
        return None;
    }
    match (from, to) {
        (Type::F32, Type::F32) => round_to_whole(rounding, to),
        (Type::F64, Type::F64) => round_to_whole(rounding, to),
        (Type::F32, Type::F64) => Some(|[a, ..]| f64::from(f32::of(a)).bits()),
        (Type::F64, Type::F32) => Some(|[a, ..]| (f64::of(a) as f32).bits()),
        (Type::F32 | Type::F64, _) => to_integer(rounding?, from, to),
        (_, Type::F32) => integers!(from; |[a, ..]| (V::of(a) as f32).bits()),
        (_, Type::F64) => integers!(from; |[a, ..]| (V::of(a) as f64).bits()),
        _ => between_integers(from, to),
    }
}

fn round_to_whole(rounding: Option<&str>, ty: Type) -> Option<Function> {
    match rounding {
        None => Some(|[a, ..]| a),
        Some("rni") => floats!(ty; |[a, ..]| V::of(a).round_ties_even().bits()),
        Some("rzi") => floats!(ty; |[a, ..]| V::of(a).trunc().bits()),
        Some("rmi") => floats!(ty; |[a, ..]| V::of(a).floor().bits()),
        _ => floats!(ty; |[a, ..]| V::of(a).ceil().bits()),
    }
}

fn to_integer(rounding: &str, from: Type, to: Type) -> Option<Function> {
    macro_rules! with {
        ($round:ident) => {
            match from {
                Type::F32 => integers!(to; |[a, ..]| (f32::of(a).$round() as V).bits()),
                _ => integers!(to; |[a, ..]| (f64::of(a).$round() as V).bits()),
            }
        };
    }
    match rounding {
        "rni" => with!(round_ties_even),
        "rzi" => with!(trunc),
        "rmi" => with!(floor),
        _ => with!(ceil),
    }
}

fn between_integers(from: Type, to: Type) -> Option<Function> {
    macro_rules! to {
        ($W:ty) => {
            by_type!(from; [B8 = u8, U8 = u8, S8 = i8, B16 = u16, U16 = u16, S16 = i16, B32 = u32, U32 = u32,
                S32 = i32, B64 = u64, U64 = u64, S64 = i64] |[a, ..]| (V::of(a) as $W).bits())
        };
    }
    match to.size() {
        1 => to!(u8),
        2 => to!(u16),
        4 => to!(u32),
        _ => to!(u64),
    }
}
