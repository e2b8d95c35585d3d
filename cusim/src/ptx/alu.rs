//! What each arithmetic instruction computes, as a function from bits to bits.
//!
//! Rounding is to nearest, as everywhere in our kernels: another mode is an instruction that is not known here. The
//! `approx` instructions are computed in double precision and rounded; hardware may differ in the last bits.

#[macro_use]
mod word;
mod convert;
mod integer;

use super::Type;
use super::instruction::{Atomic, Combine};
use convert::convert;
use integer::integer;
use word::Word;

/// The result from up to four operands.
pub type Function = fn([u64; 4]) -> u64;

/// Result and carry from up to three operands and a carry.
pub type Carrying = fn([u64; 3], bool) -> (u64, bool);

/// A comparison.
pub type Predicate = fn(u64, u64) -> bool;

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
