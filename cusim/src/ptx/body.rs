//! The body of a function or kernel: declarations, labels, and statements with their operands.

use std::collections::HashMap;

use super::instruction::{Destination, Instruction, Kind, Operand, Register, Special};
use super::lexer::Token;
use super::parser::{align, balanced, error, number, same_line, until, variable};
use super::statement::instruction;
use super::{Space, Type};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    Register(Register),
    /// A variable's address in its own space.
    Address(u64),
    /// An argument of a kernel.
    Argument(usize),
    /// A parameter or result of a function, in local memory.
    Parameter(usize),
}

/// A call whose function is not known yet: the instruction, and where arguments and results lie.
pub(super) struct Call {
    pub at: usize,
    pub name: String,
    pub arguments: Vec<usize>,
    pub results: Vec<usize>,
}

/// A body as it is read.
pub(super) struct Body {
    scopes: Vec<HashMap<String, Symbol>>,
    labels: HashMap<String, usize>,
    /// Branches and the labels they go to.
    branches: Vec<(usize, Token)>,
    dynamic: Vec<String>,
    source: Option<(u32, u32)>,
    pub calls: Vec<Call>,
    pub registers: usize,
    pub shared: usize,
    pub local: usize,
}

impl Body {
    /// An empty body that sees the module's variables and whose registers and local memory begin there.
    pub fn new(symbols: &HashMap<String, Symbol>, registers: usize, local: usize) -> Self {
        Self {
            scopes: vec![symbols.clone()],
            labels: HashMap::new(),
            branches: Vec::new(),
            dynamic: Vec::new(),
            source: None,
            calls: Vec::new(),
            registers,
            shared: 0,
            local,
        }
    }

    /// Puts a bracketed list of parameters or results into local memory.
    pub fn parameters(&mut self, list: &[Token]) -> Result<Vec<(usize, usize)>, String> {
        declarations(list).map(|tokens| self.parameter(tokens)).collect()
    }

    fn parameter(&mut self, tokens: &[Token]) -> Result<(usize, usize), String> {
        let variable = variable(tokens)?;
        let offset = align(self.local, variable.align);
        self.local = offset + variable.size;
        self.define(variable.name, Symbol::Parameter(offset));
        Ok((offset, variable.size))
    }

    /// The arguments of a kernel: each at its natural alignment.
    pub fn arguments(&mut self, list: &[Token]) -> Result<Vec<(usize, usize)>, String> {
        let mut end = 0;
        let mut argument = |tokens: &[Token]| {
            let variable = variable(tokens)?;
            let offset = align(end, variable.align);
            end = offset + variable.size;
            self.define(variable.name, Symbol::Argument(offset));
            Ok((offset, variable.size))
        };
        declarations(list).map(&mut argument).collect()
    }

    /// A name for the dynamic shared memory, which lies behind the static one.
    pub fn declare_dynamic(&mut self, name: &str) {
        self.dynamic.push(name.to_string());
    }

    fn define(&mut self, name: String, symbol: Symbol) {
        self.scopes.last_mut().expect("a body has a scope").insert(name, symbol);
    }

    /// Reads the statements and appends their instructions to `code`.
    pub fn read(&mut self, tokens: &[Token], code: &mut Vec<Instruction>) -> Result<(), String> {
        self.declare_shared(tokens)?;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            at += match token.text.as_str() {
                "{" => {
                    self.scopes.push(HashMap::new());
                    1
                }
                "}" => {
                    self.scopes.pop();
                    1
                }
                ".loc" => {
                    let numbers = |i: usize| rest.get(i).and_then(|t| t.text.parse().ok());
                    self.source = numbers(1).zip(numbers(2));
                    same_line(rest)
                }
                _ if rest.get(1).is_some_and(|t| t.is(":")) => {
                    self.labels.insert(token.text.clone(), code.len());
                    2
                }
                _ => {
                    let len = until(rest, ";")?;
                    self.statement(&rest[..len - 1], code)?;
                    len
                }
            };
        }
        let line = tokens.last().map_or(0, |t| t.line);
        code.push(Instruction::plain(Kind::Return, "ret", line, self.source));
        self.branch(code)
    }

    /// Shared variables first: the dynamic memory, which instructions may name, begins behind all of them.
    fn declare_shared(&mut self, tokens: &[Token]) -> Result<(), String> {
        for (i, _) in tokens.iter().enumerate().filter(|(_, t)| t.is(".shared")) {
            let len = until(&tokens[i..], ";")?;
            let variable = variable(&tokens[i + 1..i + len - 1])?;
            let offset = align(self.shared, variable.align);
            self.shared = offset + variable.size;
            self.define(variable.name, Symbol::Address(offset as u64));
        }
        let dynamic = align(self.shared, 16) as u64;
        for name in std::mem::take(&mut self.dynamic) {
            self.define(name, Symbol::Address(dynamic));
        }
        Ok(())
    }

    fn statement(&mut self, tokens: &[Token], code: &mut Vec<Instruction>) -> Result<(), String> {
        match tokens[0].text.as_str() {
            ".reg" => self.declare_registers(&tokens[2..]),
            ".shared" | ".pragma" => Ok(()),
            ".local" => {
                let variable = variable(&tokens[1..])?;
                let offset = align(self.local, variable.align);
                self.local = offset + variable.size;
                self.define(variable.name, Symbol::Address(offset as u64));
                Ok(())
            }
            ".param" => self.parameter(&tokens[1..]).map(|_| ()),
            _ => {
                let instruction = instruction(self, tokens, code.len())?;
                code.push(Instruction { source: self.source, ..instruction });
                Ok(())
            }
        }
    }

    /// `%r<104>` declares `%r0` to `%r103`; `%temp, %other` declares two.
    fn declare_registers(&mut self, tokens: &[Token]) -> Result<(), String> {
        for names in tokens.split(|t| t.is(",")) {
            let count = match names {
                [_] => None,
                [_, open, count, _] if open.is("<") => count.text.parse::<usize>().ok(),
                _ => return Err(error(tokens.first(), "not a register")),
            };
            for i in 0..count.unwrap_or(1) {
                let suffix = if count.is_some() { i.to_string() } else { String::new() };
                self.define(format!("{}{suffix}", names[0].text), Symbol::Register(self.registers));
                self.registers += 1;
            }
        }
        Ok(())
    }

    /// Notes that the instruction to come branches to a label.
    pub fn branch_to(&mut self, at: usize, label: &Token) {
        self.branches.push((at, label.clone()));
    }

    /// Gives each branch its target.
    fn branch(&mut self, code: &mut [Instruction]) -> Result<(), String> {
        for (at, label) in std::mem::take(&mut self.branches) {
            let to = *self.labels.get(&label.text).ok_or_else(|| error(Some(&label), "unknown label"))?;
            code[at].kind = Kind::Branch { to };
        }
        Ok(())
    }

    /// What a name stands for, in the innermost scope that has it.
    pub fn symbol(&self, token: &Token) -> Option<Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(&token.text)).copied()
    }

    pub fn register(&self, token: &Token) -> Result<Register, String> {
        match self.symbol(token) {
            Some(Symbol::Register(register)) => Ok(register),
            _ => Err(error(Some(token), "not a register")),
        }
    }

    /// A register, or `_`.
    pub fn destination(&self, token: &Token) -> Result<Destination, String> {
        if token.is("_") { Ok(None) } else { self.register(token).map(Some) }
    }

    /// A register, a number, a special register, or the address of a variable.
    pub fn operand(&self, token: &Token) -> Result<Operand, String> {
        let value = match self.symbol(token) {
            Some(Symbol::Register(register)) => Some(Operand::Register(register)),
            Some(Symbol::Address(address)) => Some(Operand::Immediate(address)),
            Some(Symbol::Argument(_) | Symbol::Parameter(_)) => None,
            None => special(&token.text).map(Operand::Special).or(number(&token.text).map(Operand::Immediate)),
        };
        value.ok_or_else(|| error(Some(token), "unknown operand"))
    }

    /// `[base+offset]`: the space in which it lies (`None`: as the opcode says), the base and the offset.
    pub fn address(&self, tokens: &[Token]) -> Result<(Option<Space>, Operand, u64), String> {
        let (base, offset) = match tokens {
            [open, base, _] if open.is("[") => (base, 0),
            [open, base, plus, offset, _] if open.is("[") && plus.is("+") => {
                (base, number(&offset.text).ok_or_else(|| error(Some(offset), "not an offset"))?)
            }
            _ => return Err(error(tokens.first(), "not an address")),
        };
        match self.symbol(base) {
            Some(Symbol::Argument(at)) => Ok((Some(Space::Argument), Operand::Immediate(at as u64), offset)),
            Some(Symbol::Parameter(at)) => Ok((Some(Space::Local), Operand::Immediate(at as u64), offset)),
            _ => Ok((None, self.operand(base)?, offset)),
        }
    }
}

/// The declarations of a bracketed list.
fn declarations(list: &[Token]) -> impl Iterator<Item = &[Token]> {
    let inner = if list.len() > 2 { &list[1..list.len() - 1] } else { &[] };
    inner.split(|t| t.is(",")).filter(|tokens| !tokens.is_empty())
}

/// Cuts operands at the commas that no bracket encloses.
pub(super) fn operands(tokens: &[Token]) -> Result<Vec<&[Token]>, String> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        if tokens[at].is(",") {
            parts.push(&tokens[start..at]);
            (at, start) = (at + 1, at + 1);
        } else {
            at += balanced(&tokens[at..])?;
        }
    }
    if start < tokens.len() {
        parts.push(&tokens[start..]);
    }
    Ok(parts)
}

fn special(name: &str) -> Option<Special> {
    let (base, axis) = name.split_once('.').unwrap_or((name, ""));
    let axis = ["x", "y", "z"].iter().position(|&a| a == axis);
    Some(match base {
        "%tid" => Special::Thread(axis?),
        "%ntid" => Special::BlockSize(axis?),
        "%ctaid" => Special::Block(axis?),
        "%nctaid" => Special::GridSize(axis?),
        "%laneid" => Special::Lane,
        _ => return None,
    })
}

/// The types among the suffixes of an opcode, in their order.
pub(super) fn types(parts: &[&str]) -> Vec<Type> {
    parts[1..].iter().filter_map(|part| Type::named(part)).collect()
}
