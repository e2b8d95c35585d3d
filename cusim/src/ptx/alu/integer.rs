//! Arithmetic and logic of integers.

use super::Function;
use super::word::Word;
use crate::ptx::Type;

pub fn integer(parts: &[&str], ty: Type) -> Option<Function> {
    let form = parts.get(1).copied().unwrap_or_default();
    match parts[0] {
        "add" => integers!(ty; |[a, b, ..]| V::of(a).wrapping_add(V::of(b)).bits()),
        "sub" => integers!(ty; |[a, b, ..]| V::of(a).wrapping_sub(V::of(b)).bits()),
        "mul" if form == "lo" => integers!(ty; |[a, b, ..]| V::of(a).wrapping_mul(V::of(b)).bits()),
        "mad" if form == "lo" => {
            integers!(ty; |[a, b, c, _]| V::of(a).wrapping_mul(V::of(b)).wrapping_add(V::of(c)).bits())
        }
        "mul" | "mad" if form == "wide" => wide_product(ty),
        "mul" | "mad" if form == "hi" => high_product(ty),
        "div" => integers!(ty; |[a, b, ..]| V::of(a).checked_div(V::of(b)).map_or(u64::MAX, V::bits)),
        "rem" => integers!(ty; |[a, b, ..]| V::of(a).checked_rem(V::of(b)).map_or(a, V::bits)),
        "neg" => integers!(ty; |[a, ..]| V::of(0).wrapping_sub(V::of(a)).bits()),
        "min" => integers!(ty; |[a, b, ..]| V::of(a).min(V::of(b)).bits()),
        "max" => integers!(ty; |[a, b, ..]| V::of(a).max(V::of(b)).bits()),
        "abs" => by_type!(ty; [S16 = i16, S32 = i32, S64 = i64] |[a, ..]| V::of(a).wrapping_abs().bits()),
        _ => logical(parts, ty),
    }
}

fn wide_product(ty: Type) -> Option<Function> {
    match ty {
        Type::U16 => Some(|[a, b, c, _]| u64::from((u32::from(a as u16) * u32::from(b as u16)).wrapping_add(c as u32))),
        Type::S16 => Some(|[a, b, c, _]| (i32::from(a as i16) * i32::from(b as i16)).wrapping_add(c as i32).bits()),
        Type::U32 => Some(|[a, b, c, _]| (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c)),
        Type::S32 => Some(|[a, b, c, _]| (i64::from(a as i32) * i64::from(b as i32)).wrapping_add(c as i64) as u64),
        _ => None,
    }
}

fn high_product(ty: Type) -> Option<Function> {
    match ty {
        Type::U32 => {
            Some(|[a, b, c, _]| (((a as u32 as u64 * (b as u32 as u64)) >> 32) as u32).wrapping_add(c as u32).bits())
        }
        Type::S32 => Some(|[a, b, c, _]| {
            (((i64::of(a) as i32 as i64 * (b as i32 as i64)) >> 32) as i32).wrapping_add(c as i32).bits()
        }),
        Type::U64 => Some(|[a, b, c, _]| ((u128::from(a) * u128::from(b)) >> 64).wrapping_add(u128::from(c)) as u64),
        Type::S64 => {
            Some(|[a, b, c, _]| ((i128::from(a as i64) * i128::from(b as i64)) >> 64).wrapping_add(c as i128) as u64)
        }
        _ => None,
    }
}

fn logical(parts: &[&str], ty: Type) -> Option<Function> {
    match parts[0] {
        "and" => Some(|[a, b, ..]| a & b),
        "or" => Some(|[a, b, ..]| a | b),
        "xor" => Some(|[a, b, ..]| a ^ b),
        "not" if ty == Type::Pred => Some(|[a, ..]| !a & 1),
        "not" => unsigned!(ty; |[a, ..]| (!V::of(a)).bits()),
        "shl" => unsigned!(ty; |[a, n, ..]| V::of(a).checked_shl(n as u32).unwrap_or(0).bits()),
        "shr" => integers!(ty; |[a, n, ..]| (V::of(a) >> (n as u32).min(V::BITS - 1)).bits() * shift_keeps::<V>(n)),
        "shf" => funnel_shift(parts),
        "popc" => unsigned!(ty; |[a, ..]| u64::from(V::of(a).count_ones())),
        "clz" => unsigned!(ty; |[a, ..]| u64::from(V::of(a).leading_zeros())),
        "brev" => unsigned!(ty; |[a, ..]| V::of(a).reverse_bits().bits()),
        "bfe" => {
            integers!(ty; |[a, at, len, _]| extract_field(V::of(a) as i128, V::BITS, at, len, V::MIN as i128 != 0) as u64 & V::of(u64::MAX).bits())
        }
        "bfi" => {
            unsigned!(ty; |[a, b, at, len]| insert_field(V::of(a).bits(), V::of(b).bits(), at, len) & V::MAX.bits())
        }
        "prmt" if parts.len() == 2 => Some(permute_bytes),
        "lop3" => Some(logic_table),
        _ => None,
    }
}

/// A logical shift by the width or more leaves nothing; an arithmetic one leaves the sign.
fn shift_keeps<V: Word + PartialOrd>(n: u64) -> u64 {
    let signed = V::of(u64::MAX) < V::of(0);
    u64::from(signed || (n as u32) < 8 * size_of::<V>() as u32)
}

fn funnel_shift(parts: &[&str]) -> Option<Function> {
    match parts {
        [_, "l", "wrap", _] => Some(|[low, high, n, _]| (joined(low, high) << (n & 31)) >> 32),
        [_, "r", "wrap", _] => Some(|[low, high, n, _]| (joined(low, high) >> (n & 31)) & 0xFFFF_FFFF),
        _ => None,
    }
}

/// Two words of 32 bits as one of 64.
fn joined(low: u64, high: u64) -> u64 {
    (high & 0xFFFF_FFFF) << 32 | low & 0xFFFF_FFFF
}

/// `len` bits from bit `at` on, sign-extended from the last of them if `signed`.
fn extract_field(a: i128, width: u32, at: u64, len: u64, signed: bool) -> i128 {
    let (at, len) = ((at & 255) as u32, (len & 255) as u32);
    let len = len.min(width.saturating_sub(at));
    if len == 0 {
        return if signed && at >= width && a < 0 { -1 } else { 0 };
    }
    let field = (a >> at) & ((1 << len) - 1);
    if signed && field >> (len - 1) & 1 == 1 { field - (1 << len) } else { field }
}

fn insert_field(a: u64, b: u64, at: u64, len: u64) -> u64 {
    let (at, len) = ((at & 255) as u32, (len & 255) as u32);
    let ones = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    let mask = ones.checked_shl(at).unwrap_or(0);
    b & !mask | a.checked_shl(at).unwrap_or(0) & mask
}

/// Each nibble of `selector` chooses one of eight bytes, or that byte's sign.
fn permute_bytes([a, b, selector, _]: [u64; 4]) -> u64 {
    let bytes = joined(a, b);
    (0..4).fold(0, |word, i| {
        let choice = selector >> (4 * i);
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        word | u64::from(byte) << (8 * i)
    })
}

/// Any function of three bits, by its truth table.
fn logic_table([a, b, c, table]: [u64; 4]) -> u64 {
    let term = |i: u64, bit: u64, x: u64| if i & bit == 0 { !x } else { x };
    let terms = (0..8).filter(|i| table >> i & 1 == 1).map(|i| term(i, 4, a) & term(i, 2, b) & term(i, 1, c));
    terms.fold(0, |word, term| word | term) & 0xFFFF_FFFF
}
