//! What each arithmetic instruction computes, as a function from bits to bits.
//!
//! Rounding is to nearest, as everywhere in our kernels: another mode is an instruction that is not known here. The
//! `approx` instructions are computed in double precision and rounded; hardware may differ in the last bits.

use super::Type;
use super::instruction::{Atomic, Combine};

/// The result from up to four operands.
pub type Function = fn([u64; 4]) -> u64;

/// Result and carry from up to three operands and a carry.
pub type Carrying = fn([u64; 3], bool) -> (u64, bool);

/// A comparison.
pub type Predicate = fn(u64, u64) -> bool;

/// A register's bits as a number and back.
trait Word: Copy {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! words {
    ($($T:ty),*) => { $(impl Word for $T {
        fn of(bits: u64) -> Self { bits as $T }
        fn bits(self) -> u64 { self as u64 }
    })* };
}
words!(u8, u16, u32, u64, i64);

macro_rules! narrow_signed {
    ($($T:ty as $U:ty),*) => { $(impl Word for $T {
        fn of(bits: u64) -> Self { bits as $T }
        fn bits(self) -> u64 { u64::from(self as $U) }
    })* };
}
narrow_signed!(i8 as u8, i16 as u16, i32 as u32);

impl Word for f32 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Word for f64 {
    fn of(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// One function for each type that is listed; `V` names the type in the body.
macro_rules! by_type {
    ($ty:expr; [$($name:ident = $V:ty),*] |$x:pat_param| $body:expr) => {
        match $ty {
            $(Type::$name => {
                type V = $V;
                let f: Function = |$x: [u64; 4]| $body;
                Some(f)
            })*
            _ => None,
        }
    };
}

macro_rules! integers {
    ($ty:expr; |$x:pat_param| $body:expr) => {
        by_type!($ty; [B16 = u16, U16 = u16, S16 = i16, B32 = u32, U32 = u32, S32 = i32, B64 = u64, U64 = u64, S64 = i64]
            |$x| $body)
    };
}

macro_rules! unsigned {
    ($ty:expr; |$x:pat_param| $body:expr) => {
        by_type!($ty; [B16 = u16, U16 = u16, S16 = u16, B32 = u32, U32 = u32, S32 = u32, B64 = u64, U64 = u64, S64 = u64]
            |$x| $body)
    };
}

macro_rules! floats {
    ($ty:expr; |$x:pat_param| $body:expr) => {
        by_type!($ty; [F32 = f32, F64 = f64] |$x| $body)
    };
}

/// The function of an opcode with its suffixes, `None` if it is not known.
pub(super) fn function(parts: &[&str], types: &[Type]) -> Option<Function> {
    let has = |suffix: &str| parts[1..].contains(&suffix);
    let approximate = has("approx") || has("full");
    if has("sat") || ["rz", "rm", "rp"].into_iter().any(has) && parts[0] != "cvt" || has("ftz") && !approximate {
        return None;
    }
    let ty = *types.first()?;
    match parts[0] {
        "cvt" => return convert(parts, ty, *types.get(1)?),
        "mov" => return Some(|[a, ..]| a),
        "selp" => return Some(|[a, b, p, _]| if p & 1 == 1 { a } else { b }),
        _ => {}
    }
    if ty.is_float() { float(parts[0], ty, approximate) } else { integer(parts, ty) }
}

fn float(opcode: &str, ty: Type, approximate: bool) -> Option<Function> {
    match opcode {
        "add" => floats!(ty; |[a, b, ..]| (V::of(a) + V::of(b)).bits()),
        "sub" => floats!(ty; |[a, b, ..]| (V::of(a) - V::of(b)).bits()),
        "mul" => floats!(ty; |[a, b, ..]| (V::of(a) * V::of(b)).bits()),
        "div" => floats!(ty; |[a, b, ..]| (V::of(a) / V::of(b)).bits()),
        "fma" | "mad" => floats!(ty; |[a, b, c, _]| V::of(a).mul_add(V::of(b), V::of(c)).bits()),
        "neg" => floats!(ty; |[a, ..]| (-V::of(a)).bits()),
        "abs" => floats!(ty; |[a, ..]| V::of(a).abs().bits()),
        "min" => floats!(ty; |[a, b, ..]| V::of(a).min(V::of(b)).bits()),
        "max" => floats!(ty; |[a, b, ..]| V::of(a).max(V::of(b)).bits()),
        "copysign" => floats!(ty; |[sign, a, ..]| V::of(a).copysign(V::of(sign)).bits()),
        "sqrt" => floats!(ty; |[a, ..]| V::of(a).sqrt().bits()),
        "rcp" => floats!(ty; |[a, ..]| (1.0 / V::of(a)).bits()),
        _ if approximate => transcendental(opcode, ty),
        _ => None,
    }
}

fn transcendental(opcode: &str, ty: Type) -> Option<Function> {
    macro_rules! in_double {
        (|$x:ident| $body:expr) => {
            floats!(ty; |[a, ..]| { let $x = f64::from(V::of(a)); ($body as V).bits() })
        };
    }
    match opcode {
        "rsqrt" => in_double!(|x| 1.0 / x.sqrt()),
        "ex2" => in_double!(|x| x.exp2()),
        "lg2" => in_double!(|x| x.log2()),
        "sin" => in_double!(|x| x.sin()),
        "cos" => in_double!(|x| x.cos()),
        "tanh" => in_double!(|x| x.tanh()),
        _ => None,
    }
}

fn integer(parts: &[&str], ty: Type) -> Option<Function> {
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

fn convert(parts: &[&str], to: Type, from: Type) -> Option<Function> {
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

/// Sums and products with a carry, in 32 bits: `mad` multiplies first.
pub(super) fn carrying(parts: &[&str]) -> Option<Carrying> {
    let high = parts.contains(&"hi");
    Some(match parts[0] {
        "add" | "addc" => |[a, b, _], carry| split(u64::from(a as u32) + u64::from(b as u32) + u64::from(carry)),
        "sub" | "subc" => |[a, b, _], borrow| {
            let difference = i64::from(a as u32) - i64::from(b as u32) - i64::from(borrow);
            (u64::from(difference as u32), difference < 0)
        },
        "mad" | "madc" if high => |[a, b, c], carry| {
            split(((u64::from(a as u32) * u64::from(b as u32)) >> 32) + u64::from(c as u32) + u64::from(carry))
        },
        "mad" | "madc" => |[a, b, c], carry| {
            split(u64::from((a as u32).wrapping_mul(b as u32)) + u64::from(c as u32) + u64::from(carry))
        },
        _ => return None,
    })
}

fn split(sum: u64) -> (u64, bool) {
    (sum & 0xFFFF_FFFF, sum >> 32 != 0)
}

/// A comparison by name. The names that end in `u`, and `nan`, are true for unordered numbers.
pub(super) fn predicate(name: &str, ty: Type) -> Option<Predicate> {
    macro_rules! compare {
        ([$($t:ident = $V:ty),*] |$a:ident, $b:ident| $body:expr) => {
            match ty {
                $(Type::$t => Some(|a, b| { let ($a, $b) = (<$V>::of(a), <$V>::of(b)); $body }),)*
                _ => None,
            }
        };
        (|$a:ident, $b:ident| $body:expr) => {
            compare!([B16 = u16, U16 = u16, S16 = i16, B32 = u32, U32 = u32, S32 = i32, B64 = u64, U64 = u64, S64 = i64,
                F32 = f32, F64 = f64] |$a, $b| $body)
        };
    }
    let float = ty.is_float();
    match name {
        "eq" => compare!(|a, b| a == b),
        "ne" if float => compare!([F32 = f32, F64 = f64] | a, b | a != b && !a.is_nan() && !b.is_nan()),
        "ne" => compare!(|a, b| a != b),
        "lt" | "lo" => compare!(|a, b| a < b),
        "le" | "ls" => compare!(|a, b| a <= b),
        "gt" | "hi" => compare!(|a, b| a > b),
        "ge" | "hs" => compare!(|a, b| a >= b),
        "equ" => compare!([F32 = f32, F64 = f64] | a, b | a == b || a.is_nan() || b.is_nan()),
        "neu" => compare!([F32 = f32, F64 = f64] | a, b | a != b),
        "ltu" => compare!([F32 = f32, F64 = f64] | a, b | a < b || a.is_nan() || b.is_nan()),
        "leu" => compare!([F32 = f32, F64 = f64] | a, b | a <= b || a.is_nan() || b.is_nan()),
        "gtu" => compare!([F32 = f32, F64 = f64] | a, b | a > b || a.is_nan() || b.is_nan()),
        "geu" => compare!([F32 = f32, F64 = f64] | a, b | a >= b || a.is_nan() || b.is_nan()),
        "num" => compare!([F32 = f32, F64 = f64] | a, b | !a.is_nan() && !b.is_nan()),
        "nan" => compare!([F32 = f32, F64 = f64] | a, b | a.is_nan() || b.is_nan()),
        _ => None,
    }
}

/// The new value of `atom.op`.
pub(super) fn atomic(op: &str, ty: Type) -> Option<Atomic> {
    macro_rules! atomics {
        ([$($t:ident = $V:ty),*] |$old:ident, $x:ident| $body:expr) => {
            match ty {
                $(Type::$t => Some(|old, x, _| { let ($old, $x) = (<$V>::of(old), <$V>::of(x)); $body.bits() }),)*
                _ => None,
            }
        };
    }
    match op {
        "add" if ty.is_float() => atomics!([F32 = f32, F64 = f64] | old, x | (old + x)),
        "add" => atomics!([U32 = u32, S32 = i32, U64 = u64] | old, x | old.wrapping_add(x)),
        "min" => atomics!([U32 = u32, S32 = i32, U64 = u64, S64 = i64] | old, x | old.min(x)),
        "max" => atomics!([U32 = u32, S32 = i32, U64 = u64, S64 = i64] | old, x | old.max(x)),
        "exch" => Some(|_, x, _| x),
        "cas" => Some(|old, compare, x| if old == compare { x } else { old }),
        "and" => Some(|old, x, _| old & x),
        "or" => Some(|old, x, _| old | x),
        "xor" => Some(|old, x, _| old ^ x),
        "inc" => atomics!([U32 = u32] | old, x | if old >= x { 0 } else { old + 1 }),
        _ => None,
    }
}

impl Combine {
    /// The combination of two truth values.
    pub fn apply(self, a: bool, b: bool) -> bool {
        match self {
            Self::And => a && b,
            Self::Or => a || b,
            Self::Xor => a != b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(opcode: &str, operands: &[u64]) -> u64 {
        let parts: Vec<&str> = opcode.split('.').collect();
        let types: Vec<Type> = parts.iter().filter_map(|p| Type::named(p)).collect();
        let mut x = [0; 4];
        x[..operands.len()].copy_from_slice(operands);
        function(&parts, &types).unwrap_or_else(|| panic!("{opcode}"))(x)
    }

    #[test]
    fn integers_wrap_in_their_own_width() {
        assert_eq!(run("add.s32", &[u64::from(u32::MAX), 1]), 0);
        assert_eq!(run("sub.s64", &[0, 1]), u64::MAX);
        assert_eq!(run("mul.wide.s32", &[-2_i32 as u32 as u64, 3]), -6_i64 as u64);
        assert_eq!(run("mul.hi.u32", &[1 << 31, 4]), 2);
        assert_eq!(run("mul.hi.s64", &[-1_i64 as u64, 2]), u64::MAX);
        assert_eq!(run("mad.lo.s32", &[5, 7, 1]), 36);
        assert_eq!(run("neg.s32", &[1]), u64::from(u32::MAX));
        assert_eq!(run("rem.s32", &[-7_i32 as u32 as u64, 3]), -1_i32 as u32 as u64);
    }

    #[test]
    fn shifts_by_the_width_clear_or_leave_the_sign() {
        assert_eq!(run("shl.b32", &[1, 32]), 0);
        assert_eq!(run("shl.b64", &[1, 32]), 1 << 32);
        assert_eq!(run("shr.u32", &[0x8000_0000, 32]), 0);
        assert_eq!(run("shr.s32", &[0x8000_0000, 40]), u64::from(u32::MAX));
        assert_eq!(run("shf.l.wrap.b32", &[0x8000_0000, 1, 1]), 3);
        assert_eq!(run("shf.r.wrap.b32", &[2, 1, 1]), 0x8000_0001);
    }

    #[test]
    fn fields_bytes_and_tables() {
        assert_eq!(run("bfe.u32", &[0xF0, 4, 4]), 15);
        assert_eq!(run("bfe.s32", &[0xF0, 4, 4]), u64::from(u32::MAX));
        assert_eq!(run("bfi.b32", &[0b11, 0, 4, 2]), 0b11_0000);
        assert_eq!(run("prmt.b32", &[0x4433_2211, 0x8877_6655, 0x0123]), 0x1122_3344);
        assert_eq!(run("prmt.b32", &[0x80, 0, 0x8888]), 0xFFFF_FFFF);
        assert_eq!(run("lop3.b32", &[0b1100, 0b1010, 0b1111, 0xC0]), 0b1000);
        assert_eq!(run("clz.b32", &[1]), 31);
        assert_eq!(run("popc.b64", &[u64::MAX]), 64);
    }

    #[test]
    fn conversions_saturate_and_round_as_they_say() {
        assert_eq!(run("cvt.rni.s32.f32", &[2.5_f32.bits()]), 2);
        assert_eq!(run("cvt.rzi.s32.f64", &[(-1e300).bits()]), i32::MIN as u32 as u64);
        assert_eq!(run("cvt.s64.s32", &[u64::from(u32::MAX)]), u64::MAX);
        assert_eq!(run("cvt.u64.u32", &[u64::from(u32::MAX)]), u64::from(u32::MAX));
        assert_eq!(run("cvt.rn.f32.s32", &[-3_i32 as u32 as u64]), (-3.0_f32).bits());
        assert_eq!(run("cvt.rn.f64.u32", &[u64::from(u32::MAX)]), 4_294_967_295.0.bits());
    }

    #[test]
    fn comparisons_of_unordered_numbers() {
        let nan = f32::NAN.bits();
        for (name, holds) in [("lt", false), ("ltu", true), ("ne", false), ("neu", true), ("equ", true), ("nan", true)]
        {
            assert_eq!(predicate(name, Type::F32).unwrap()(nan, 0), holds, "{name}");
        }
        assert!(predicate("lt", Type::S32).unwrap()(u64::from(u32::MAX), 0));
        assert!(!predicate("lt", Type::U32).unwrap()(u64::from(u32::MAX), 0));
    }

    #[test]
    fn other_rounding_modes_are_not_known() {
        for opcode in ["add.rz.f32", "cvt.rz.f32.f64", "fma.rn.sat.f32", "add.ftz.f32", "dp4a.u32"] {
            let parts: Vec<&str> = opcode.split('.').collect();
            let types: Vec<Type> = parts.iter().filter_map(|p| Type::named(p)).collect();
            assert!(function(&parts, &types).is_none(), "{opcode}");
        }
    }
}
