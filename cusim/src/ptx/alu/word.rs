//! A register's bits as numbers, and functions that are the same for several types of them.

/// A register's bits as a number and back.
pub trait Word: Copy {
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
