//! One instruction, with everything about it decided that the text decides.

use super::alu::{Carrying, Function, Predicate};
use super::{Space, Type};

/// A register of a thread, by number.
pub type Register = usize;

/// Where a result goes; `None` for the sink `_`.
pub type Destination = Option<Register>;

/// A number that each thread knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `%tid`, by axis.
    Thread(usize),
    /// `%ntid`, by axis.
    BlockSize(usize),
    /// `%ctaid`, by axis.
    Block(usize),
    /// `%nctaid`, by axis.
    GridSize(usize),
    /// `%laneid`.
    Lane,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// A number, or the address of a variable.
    Immediate(u64),
    /// A special register.
    Special(Special),
}

/// What an instruction is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Integer and logical operations, moves.
    Integer,
    /// Single precision.
    Single,
    /// Double precision.
    Double,
    /// Reciprocals, roots, exponentials: the special function unit.
    Special,
    /// Loads, stores and atomics.
    Memory,
    /// Branches, calls, barriers, shuffles, votes.
    Control,
}

/// How a shuffle chooses the lane it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // PTX's own names
pub enum ShuffleMode {
    Index,
    Up,
    Down,
    Butterfly,
}

/// What a vote tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // PTX's own names
pub enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// The new value of an atomic from the old one and its operands.
pub type Atomic = fn(u64, u64, u64) -> u64;

/// Bytes of local memory that a call copies: (from, to, size).
pub type Arguments = Vec<(usize, usize, usize)>;

/// What an instruction does.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are what the instruction's text gives them
pub enum Kind {
    /// A function of up to four values.
    Compute {
        f: Function,
        to: Destination,
        from: [Operand; 4],
    },
    /// A function of up to three values that may read and write the carry flag.
    Carry {
        f: Carrying,
        reads: bool,
        sets: bool,
        to: Destination,
        from: [Operand; 3],
    },
    /// A comparison, combined with a truth value; the second destination gets the complement.
    Compare {
        f: Predicate,
        to: [Destination; 2],
        from: [Operand; 2],
        with: Option<(Combine, Operand, bool)>,
    },
    /// Several values side by side in one register.
    Pack {
        bits: usize,
        to: Destination,
        from: Vec<Operand>,
    },
    /// And apart again.
    Unpack {
        bits: usize,
        to: Vec<Destination>,
        from: Operand,
    },
    Load {
        space: Space,
        ty: Type,
        to: Vec<Destination>,
        address: Operand,
        offset: u64,
    },
    Store {
        space: Space,
        ty: Type,
        from: Vec<Operand>,
        address: Operand,
        offset: u64,
    },
    Atomic {
        space: Space,
        ty: Type,
        f: Atomic,
        to: Destination,
        address: Operand,
        offset: u64,
        from: [Operand; 2],
    },
    Branch {
        to: usize,
    },
    Call {
        to: usize,
        passed: Arguments,
        returned: Arguments,
    },
    /// From a function to its caller, from a kernel to the end.
    Return,
    Barrier,
    Shuffle {
        mode: ShuffleMode,
        to: [Destination; 2],
        value: Operand,
        lane: Operand,
        clamp: Operand,
        mask: Operand,
    },
    Vote {
        mode: VoteMode,
        to: Destination,
        value: Operand,
        negated: bool,
        mask: Operand,
    },
    WarpBarrier {
        mask: Operand,
    },
    /// A memory fence: memory is in order here anyway.
    Fence,
    Trap,
}

/// How a comparison is combined with a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // PTX's own names
pub enum Combine {
    And,
    Or,
    Xor,
}

/// An instruction and where it stands.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// Run only where this register is true (or false, if the second field says so).
    pub guard: Option<(Register, bool)>,
    /// What it is counted as.
    pub class: Class,
    /// Its opcode.
    pub text: String,
    /// Its line in the PTX.
    pub line: u32,
    /// (file, line) in the kernel's source.
    pub source: Option<(u32, u32)>,
}
