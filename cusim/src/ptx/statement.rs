//! One statement, `@%p1 opcode.suffixes operands;`, to one instruction.

use super::alu;
use super::body::{Body, Call, Symbol, operands, types};
use super::instruction::{Class, Combine, Destination, Instruction, Kind, Operand, ShuffleMode, VoteMode};
use super::lexer::Token;
use super::parser::error;
use super::{LOCAL_WINDOW, SHARED_WINDOW, Space, Type};

impl Instruction {
    /// Without a guard.
    pub(super) fn plain(kind: Kind, text: &str, line: u32, source: Option<(u32, u32)>) -> Self {
        Self { kind, guard: None, class: Class::Control, text: text.to_string(), line, source }
    }
}

/// An opcode with its suffixes and its operands.
struct Statement<'a> {
    opcode: &'a Token,
    parts: Vec<&'a str>,
    types: Vec<Type>,
    operands: Vec<&'a [Token]>,
}

impl Statement<'_> {
    fn has(&self, suffix: &str) -> bool {
        self.parts[1..].contains(&suffix)
    }

    fn unsupported(&self) -> String {
        error(Some(self.opcode), "unsupported instruction")
    }

    /// The i-th operand.
    fn at(&self, i: usize) -> Result<&[Token], String> {
        self.operands.get(i).copied().ok_or_else(|| error(Some(self.opcode), "an operand is missing"))
    }

    fn operand(&self, body: &Body, i: usize) -> Result<Operand, String> {
        body.operand(&self.at(i)?[0])
    }

    /// `%p` or `!%p`: the operand and whether it is negated.
    fn negatable(&self, body: &Body, i: usize) -> Result<(Operand, bool), String> {
        match self.at(i)? {
            [not, token] if not.is("!") => Ok((body.operand(token)?, true)),
            tokens => Ok((body.operand(&tokens[0])?, false)),
        }
    }

    /// `%a` or `%a|%b`.
    fn destinations(&self, body: &Body) -> Result<[Destination; 2], String> {
        match self.at(0)? {
            [a, bar, b] if bar.is("|") => Ok([body.destination(a)?, body.destination(b)?]),
            tokens => Ok([body.destination(&tokens[0])?, None]),
        }
    }

    fn ty(&self) -> Result<Type, String> {
        self.types.last().copied().ok_or_else(|| self.unsupported())
    }

    fn space(&self) -> Space {
        let spaces =
            [("shared", Space::Shared), ("local", Space::Local), ("global", Space::Global), ("const", Space::Global)];
        spaces.iter().find(|(name, _)| self.has(name)).map_or(Space::Generic, |&(_, space)| space)
    }
}

/// The instruction of a statement that will stand at `at`.
pub(super) fn instruction(body: &mut Body, tokens: &[Token], at: usize) -> Result<Instruction, String> {
    let (guard, tokens) = match tokens {
        [at, not, p, rest @ ..] if at.is("@") && not.is("!") => (Some((body.register(p)?, true)), rest),
        [at, p, rest @ ..] if at.is("@") => (Some((body.register(p)?, false)), rest),
        _ => (None, tokens),
    };
    let (opcode, rest) = tokens.split_first().ok_or("an empty statement")?;
    let parts: Vec<&str> = opcode.text.split('.').collect();
    let statement = Statement { opcode, types: types(&parts), operands: operands(rest)?, parts };
    let kind = kind(body, &statement, at)?;
    let class = class(&kind, &statement);
    Ok(Instruction { kind, guard, class, text: opcode.text.clone(), line: opcode.line, source: None })
}

fn class(kind: &Kind, statement: &Statement<'_>) -> Class {
    match kind {
        Kind::Load { .. } | Kind::Store { .. } | Kind::Atomic { .. } => Class::Memory,
        Kind::Compute { .. } | Kind::Carry { .. } | Kind::Compare { .. } | Kind::Pack { .. } | Kind::Unpack { .. } => {
            let special = ["rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", "div"];
            match statement.types.last() {
                _ if statement.has("approx") || special.contains(&statement.parts[0]) => Class::Special,
                Some(Type::F32) if statement.parts[0] != "mov" => Class::Single,
                Some(Type::F64) if statement.parts[0] != "mov" => Class::Double,
                _ => Class::Integer,
            }
        }
        _ => Class::Control,
    }
}

fn kind(body: &mut Body, s: &Statement<'_>, at: usize) -> Result<Kind, String> {
    match s.parts[0] {
        "ld" | "ldu" | "st" => memory(body, s),
        "atom" | "red" => atomic(body, s),
        "bra" => {
            body.branch_to(at, &s.at(0)?[0]);
            Ok(Kind::Branch { to: at })
        }
        "call" => call(body, s, at),
        "ret" | "exit" => Ok(Kind::Return),
        "bar" | "barrier" if s.has("warp") => Ok(Kind::WarpBarrier { mask: s.operand(body, 0)? }),
        "bar" | "barrier" if s.has("sync") && s.operands.len() == 1 && s.at(0)?[0].is("0") => Ok(Kind::Barrier),
        "shfl" if s.has("sync") => shuffle(body, s),
        "vote" if s.has("sync") => vote(body, s),
        "membar" | "fence" => Ok(Kind::Fence),
        "trap" => Ok(Kind::Trap),
        "setp" => compare(body, s),
        "mov" if s.at(0)?[0].is("{") || s.at(1)?[0].is("{") => pack(body, s),
        "cvta" => window(body, s),
        _ => arithmetic(body, s),
    }
}

fn memory(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let store = s.parts[0] == "st";
    let (address, data) = if store { (s.at(0)?, s.at(1)?) } else { (s.at(1)?, s.at(0)?) };
    let (space, address, offset) = body.address(address)?;
    let (space, ty) = (space.unwrap_or(s.space()), s.ty()?);
    let data = data.iter().filter(|t| !["{", "}", ","].contains(&t.text.as_str()));
    Ok(if store {
        let from = data.map(|t| body.operand(t)).collect::<Result<_, _>>()?;
        Kind::Store { space, ty, from, address, offset }
    } else {
        let to = data.map(|t| body.destination(t)).collect::<Result<_, _>>()?;
        Kind::Load { space, ty, to, address, offset }
    })
}

fn atomic(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let first = usize::from(s.parts[0] == "atom");
    let to = if first == 1 { body.destination(&s.at(0)?[0])? } else { None };
    let (_, address, offset) = body.address(s.at(first)?)?;
    let names = ["add", "min", "max", "exch", "cas", "and", "or", "xor", "inc"];
    let ty = s.ty()?;
    let f = names.into_iter().find(|name| s.has(name)).and_then(|name| alu::atomic(name, ty));
    let second = if s.operands.len() > first + 2 { s.operand(body, first + 2)? } else { Operand::Immediate(0) };
    let from = [s.operand(body, first + 1)?, second];
    Ok(Kind::Atomic { space: s.space(), ty, f: f.ok_or_else(|| s.unsupported())?, to, address, offset, from })
}

/// `call (result), name, (arguments)`, where both lists may be missing.
fn call(body: &mut Body, s: &Statement<'_>, at: usize) -> Result<Kind, String> {
    let listed = |tokens: &[Token]| tokens[0].is("(");
    let offsets = |tokens: &[Token]| -> Result<Vec<usize>, String> {
        let names = tokens.iter().filter(|t| !["(", ")", ","].contains(&t.text.as_str()));
        names
            .map(|t| match body.symbol(t) {
                Some(Symbol::Parameter(offset)) => Ok(offset),
                _ => Err(error(Some(t), "not a parameter")),
            })
            .collect()
    };
    let results = usize::from(listed(s.at(0)?));
    let name = s.at(results)?[0].text.clone();
    let call = Call {
        at,
        name,
        results: if results == 1 { offsets(s.at(0)?)? } else { Vec::new() },
        arguments: s.operands.get(results + 1).map_or(Ok(Vec::new()), |tokens| offsets(tokens))?,
    };
    body.calls.push(call);
    Ok(Kind::Call { to: at, passed: Vec::new(), returned: Vec::new() })
}

fn shuffle(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let modes = [
        ("idx", ShuffleMode::Index),
        ("up", ShuffleMode::Up),
        ("down", ShuffleMode::Down),
        ("bfly", ShuffleMode::Butterfly),
    ];
    let mode = modes.into_iter().find(|(name, _)| s.has(name)).ok_or_else(|| s.unsupported())?.1;
    let [value, lane, clamp, mask] = [1, 2, 3, 4].map(|i| s.operand(body, i));
    Ok(Kind::Shuffle { mode, to: s.destinations(body)?, value: value?, lane: lane?, clamp: clamp?, mask: mask? })
}

fn vote(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let modes =
        [("all", VoteMode::All), ("any", VoteMode::Any), ("uni", VoteMode::Uniform), ("ballot", VoteMode::Ballot)];
    let mode = modes.into_iter().find(|(name, _)| s.has(name)).ok_or_else(|| s.unsupported())?.1;
    let (value, negated) = s.negatable(body, 1)?;
    Ok(Kind::Vote { mode, to: s.destinations(body)?[0], value, negated, mask: s.operand(body, 2)? })
}

/// `setp.lt.and.f32 %p|%q, %a, %b, !%c`
fn compare(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let f = s.parts.get(1).and_then(|name| alu::predicate(name, s.types.last().copied()?));
    let f = f.filter(|_| !s.has("ftz")).ok_or_else(|| s.unsupported())?;
    let combine = [("and", Combine::And), ("or", Combine::Or), ("xor", Combine::Xor)];
    let combine = combine.into_iter().find(|(name, _)| s.has(name));
    let with = match combine {
        Some((_, combine)) => {
            let (operand, negated) = s.negatable(body, 3)?;
            Some((combine, operand, negated))
        }
        None => None,
    };
    Ok(Kind::Compare { f, to: s.destinations(body)?, from: [s.operand(body, 1)?, s.operand(body, 2)?], with })
}

/// `mov.b64 %rd, {%r1, %r2}` and the other way.
fn pack(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let names = |i: usize| -> Result<Vec<&Token>, String> {
        Ok(s.at(i)?.iter().filter(|t| !["{", "}", ","].contains(&t.text.as_str())).collect())
    };
    let (to, from) = (names(0)?, names(1)?);
    let bits = 8 * s.ty()?.size() / to.len().max(from.len());
    Ok(if from.len() > 1 {
        let from = from.into_iter().map(|t| body.operand(t)).collect::<Result<_, _>>()?;
        Kind::Pack { bits, to: body.destination(to[0])?, from }
    } else {
        let to = to.into_iter().map(|t| body.destination(t)).collect::<Result<_, _>>()?;
        Kind::Unpack { bits, to, from: body.operand(from[0])? }
    })
}

/// `cvta` between an address in a space and a generic one: the spaces are windows of the generic addresses.
fn window(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let base = match s.space() {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        _ => 0,
    };
    let base = if s.has("to") { base.wrapping_neg() } else { base };
    let add = alu::function(&["add", "u64"], &[Type::U64]).ok_or_else(|| s.unsupported())?;
    let none = Operand::Immediate(0);
    let from = [s.operand(body, 1)?, Operand::Immediate(base), none, none];
    Ok(Kind::Compute { f: add, to: s.destinations(body)?[0], from })
}

fn arithmetic(body: &Body, s: &Statement<'_>) -> Result<Kind, String> {
    let to = s.destinations(body).map_err(|_| s.unsupported())?[0];
    let mut from = [Operand::Immediate(0); 4];
    if s.operands.len() > 5 {
        return Err(s.unsupported());
    }
    for (i, from) in from.iter_mut().enumerate().take(s.operands.len() - 1) {
        *from = s.operand(body, i + 1)?;
    }
    let (sets, reads) = (s.has("cc"), ["addc", "subc", "madc"].contains(&s.parts[0]));
    if sets || reads {
        let f = alu::carrying(&s.parts).filter(|_| s.types.iter().all(|t| t.size() == 4));
        let from = [from[0], from[1], from[2]];
        return Ok(Kind::Carry { f: f.ok_or_else(|| s.unsupported())?, reads, sets, to, from });
    }
    let f = alu::function(&s.parts, &s.types).ok_or_else(|| s.unsupported())?;
    Ok(Kind::Compute { f, to, from })
}
