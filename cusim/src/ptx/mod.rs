//! PTX: from text to typed instructions.
//!
//! Source: NVIDIA, *Parallel Thread Execution ISA*, version 8.0. What is not known here is an error that names the
//! instruction and its line.

mod alu;
mod body;
mod instruction;
mod lexer;
mod parser;
mod statement;

pub use instruction::{Class, Destination, Instruction, Kind, Operand, ShuffleMode, Special, VoteMode};
pub use parser::parse;

use std::collections::HashMap;

/// The type of an instruction or of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A truth value.
    Pred,
    /// Eight bits without a meaning; likewise the next three.
    B8,
    B16,
    B32,
    B64,
    /// Unsigned.
    U8,
    U16,
    U32,
    U64,
    /// Signed.
    S8,
    S16,
    S32,
    S64,
    /// Floating point.
    F32,
    F64,
}

impl Type {
    /// The type that PTX calls `.name`.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// Bytes in memory.
    pub fn size(self) -> usize {
        match self {
            Self::Pred | Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// What a register holds after a load of these bits: signed values are extended.
    pub fn extend(self, bits: u64) -> u64 {
        match self {
            Self::S8 => bits as i8 as u64,
            Self::S16 => bits as i16 as u64,
            Self::S32 => bits as i32 as u64,
            _ => bits,
        }
    }
}

/// Where an address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Device memory, or a window into one of the others.
    Generic,
    /// Device memory.
    Global,
    /// The block's own memory.
    Shared,
    /// The thread's own memory.
    Local,
    /// The kernel's arguments.
    Argument,
}

/// Generic addresses from here on are addresses in shared memory.
pub const SHARED_WINDOW: u64 = 1 << 60;
/// And from here on in local memory.
pub const LOCAL_WINDOW: u64 = 2 << 60;

/// Where the parts of a block lie in the kernel's address spaces, and what it needs to run.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Index of its first instruction in [`Module::code`].
    pub entry: usize,
    /// (offset, size) of each argument.
    pub arguments: Vec<(usize, usize)>,
    /// Registers, those of all functions included.
    pub registers: usize,
    /// Bytes of shared memory, without the dynamic part, which follows aligned to 16.
    pub shared: usize,
    /// Bytes of local memory, those of all functions included.
    pub local: usize,
    /// The most threads a block may have.
    pub max_threads: usize,
}

/// A module: its code, its kernels, and the variables that live in device memory.
#[derive(Debug)]
pub struct Module {
    /// The instructions of all kernels and functions, one after the other.
    pub code: Vec<Instruction>,
    /// Kernels by name.
    pub kernels: HashMap<String, Kernel>,
    /// Initial values of the variables in device memory.
    pub data: Vec<u8>,
    /// The source files that `.loc` lines name.
    files: HashMap<u32, String>,
}

impl Module {
    /// Where an instruction stands: the line of the kernel's source, if the module has lines, and that of the PTX.
    pub fn place(&self, pc: usize) -> String {
        let instruction = &self.code[pc];
        let ptx = format!("`{}`, PTX line {}", instruction.text, instruction.line);
        match instruction.source.and_then(|(file, line)| Some((self.files.get(&file)?, line))) {
            Some((file, line)) => format!("{file}:{line} ({ptx})"),
            None => ptx,
        }
    }
}
