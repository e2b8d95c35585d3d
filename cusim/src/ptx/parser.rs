//! The structure of a module: variables, functions, kernels.

use std::collections::HashMap;

use super::body::{Body, Call, Symbol};
use super::lexer::{Token, tokens};
use super::{Kernel, Kind, Module, Type};

/// A part of a module that has a body: a function or a kernel, cut out of the text.
struct Item<'t> {
    kernel: bool,
    header: &'t [Token],
    body: &'t [Token],
}

/// Where a function begins, and where its parameters and results lie in local memory: (offset, size).
pub(super) struct Function {
    pub entry: usize,
    pub parameters: Vec<(usize, usize)>,
    pub results: Vec<(usize, usize)>,
}

/// A variable: what `.align 4 .b8 name[16]` says.
pub(super) struct Variable {
    pub name: String,
    pub ty: Type,
    pub align: usize,
    pub size: usize,
}

/// Rounds up to a multiple.
pub(super) fn align(offset: usize, to: usize) -> usize {
    offset.div_ceil(to) * to
}

pub(super) fn error(token: Option<&Token>, why: &str) -> String {
    match token {
        Some(token) => format!("PTX line {}: {why} at `{}`", token.line, token.text),
        None => format!("end of the PTX: {why}"),
    }
}

/// Reads a module whose variables will lie at `data_address` in device memory.
pub fn parse(source: &str, data_address: u64) -> Result<Module, String> {
    let tokens = tokens(source);
    let mut parser = Parser {
        module: Module { code: Vec::new(), kernels: HashMap::new(), data: Vec::new(), files: HashMap::new() },
        data_address,
        symbols: HashMap::new(),
        dynamic: Vec::new(),
        functions: HashMap::new(),
        calls: Vec::new(),
        registers: 0,
        local: 0,
    };
    let items = parser.items(&tokens)?;
    for item in items.iter().filter(|item| !item.kernel) {
        parser.function(item)?;
    }
    for item in items.iter().filter(|item| item.kernel) {
        parser.kernel(item)?;
    }
    parser.link()?;
    Ok(parser.module)
}

struct Parser {
    module: Module,
    data_address: u64,
    symbols: HashMap<String, Symbol>,
    /// Names of the dynamic shared memory.
    dynamic: Vec<String>,
    functions: HashMap<String, Function>,
    calls: Vec<Call>,
    /// Registers and local memory of the functions, which every kernel has too: nothing here calls itself.
    registers: usize,
    local: usize,
}

impl Parser {
    /// Reads everything outside of bodies, and cuts out what has one.
    fn items<'t>(&mut self, tokens: &'t [Token]) -> Result<Vec<Item<'t>>, String> {
        let (mut items, mut at) = (Vec::new(), 0);
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            at += match token.text.as_str() {
                ".version" | ".target" | ".address_size" => same_line(rest),
                ".file" => self.file(rest),
                ".section" => until(rest, "}")?,
                ".visible" | ".weak" | ".extern" | ".common" => 1,
                ".shared" => {
                    let len = until(rest, ";")?;
                    self.dynamic.push(variable(&rest[1..len - 1])?.name);
                    len
                }
                ".global" | ".const" => {
                    let len = until(rest, ";")?;
                    self.global(&rest[1..len - 1])?;
                    len
                }
                ".func" | ".entry" => {
                    let header = rest.iter().take_while(|t| !t.is("{") && !t.is(";")).count();
                    let declared = rest.get(header).is_some_and(|t| t.is(";"));
                    let body = if declared { 1 } else { balanced(&rest[header..])? };
                    if !declared {
                        let body = &rest[header + 1..header + body - 1];
                        items.push(Item { kernel: token.is(".entry"), header: &rest[1..header], body });
                    }
                    header + body
                }
                _ => return Err(error(Some(token), "unknown directive")),
            };
        }
        Ok(items)
    }

    /// `.file 1 "coupling.cu"`
    fn file(&mut self, rest: &[Token]) -> usize {
        if let [_, index, name, ..] = rest
            && let Ok(index) = index.text.parse()
        {
            self.module.files.insert(index, name.text.trim_matches('"').to_string());
        }
        same_line(rest)
    }

    /// A variable in device memory, with its initial values if it has some.
    fn global(&mut self, tokens: &[Token]) -> Result<(), String> {
        let equals = tokens.iter().position(|t| t.is("=")).unwrap_or(tokens.len());
        let variable = variable(&tokens[..equals])?;
        let data = &mut self.module.data;
        let offset = align(data.len(), variable.align);
        data.resize(offset + variable.size, 0);
        let values = tokens[equals..].iter().filter(|t| !["=", "{", "}", ","].contains(&t.text.as_str()));
        for (i, token) in values.enumerate() {
            let value = number(&token.text).ok_or_else(|| error(Some(token), "not a number"))?;
            let size = variable.ty.size();
            let bytes = &mut data[offset + i * size..][..size];
            bytes.copy_from_slice(&value.to_le_bytes()[..size]);
        }
        self.symbols.insert(variable.name, Symbol::Address(self.data_address + offset as u64));
        Ok(())
    }

    /// `(.param .b64 result) name (.param .b64 first, ..)`
    fn function(&mut self, item: &Item<'_>) -> Result<(), String> {
        let first = item.header.first().is_some_and(|t| t.is("("));
        let (results, rest) = item.header.split_at(if first { balanced(item.header)? } else { 0 });
        let (name, parameters) = rest.split_first().ok_or_else(|| error(results.first(), "a function without name"))?;
        let mut body = Body::new(&self.symbols, self.registers, self.local);
        let results = body.parameters(results)?;
        let parameters = body.parameters(parameters)?;
        let entry = self.module.code.len();
        body.read(item.body, &mut self.module.code)?;
        if body.shared > 0 {
            return Err(error(Some(name), "shared memory of a function is not supported"));
        }
        (self.registers, self.local) = (body.registers, body.local);
        self.calls.append(&mut body.calls);
        self.functions.insert(name.text.clone(), Function { entry, parameters, results });
        Ok(())
    }

    /// `name(.param .u64 first, ..) .maxntid 256, 1, 1`
    fn kernel(&mut self, item: &Item<'_>) -> Result<(), String> {
        let name = item.header.first().ok_or("a kernel without name")?.text.clone();
        let mut body = Body::new(&self.symbols, self.registers, self.local);
        let list = if item.header.get(1).is_some_and(|t| t.is("(")) { balanced(&item.header[1..])? } else { 0 };
        let arguments = body.arguments(&item.header[1..1 + list])?;
        self.dynamic.iter().for_each(|name| body.declare_dynamic(name));
        let entry = self.module.code.len();
        body.read(item.body, &mut self.module.code)?;
        self.calls.append(&mut body.calls);
        let kernel = Kernel {
            entry,
            arguments,
            registers: body.registers,
            shared: body.shared,
            local: body.local,
            max_threads: max_threads(&item.header[1 + list..]),
            name: name.clone(),
        };
        self.module.kernels.insert(name, kernel);
        Ok(())
    }

    /// Gives each call its function.
    fn link(&mut self) -> Result<(), String> {
        for call in &self.calls {
            let Some(function) = self.functions.get(&call.name) else {
                return Err(format!("{}: the function `{}` is not there", self.module.place(call.at), call.name));
            };
            let pairs = |from: &[usize], to: &[(usize, usize)]| {
                from.iter().zip(to).map(|(&a, &(b, size))| (a, b, size)).collect::<Vec<_>>()
            };
            let passed = pairs(&call.arguments, &function.parameters);
            let returned = pairs(&call.results, &function.results).into_iter().map(|(a, b, size)| (b, a, size));
            let returned = returned.collect();
            self.module.code[call.at].kind = Kind::Call { to: function.entry, passed, returned };
        }
        Ok(())
    }
}

/// The product of the numbers after `.maxntid`, 1024 without it.
fn max_threads(directives: &[Token]) -> usize {
    match directives.iter().position(|t| t.is(".maxntid") || t.is(".reqntid")) {
        Some(at) => {
            directives[at + 1..].iter().filter(|t| !t.is(",")).map_while(|t| t.text.parse::<usize>().ok()).product()
        }
        None => 1024,
    }
}

/// Number of tokens on the line of the first.
pub(super) fn same_line(tokens: &[Token]) -> usize {
    tokens.iter().take_while(|t| t.line == tokens[0].line).count()
}

/// Number of tokens up to and with the first `end`.
pub(super) fn until(tokens: &[Token], end: &str) -> Result<usize, String> {
    let at = tokens.iter().position(|t| t.is(end));
    at.map(|at| at + 1).ok_or_else(|| error(tokens.first(), &format!("no `{end}` after it")))
}

/// Number of tokens of a bracketed group, the brackets included.
pub(super) fn balanced(tokens: &[Token]) -> Result<usize, String> {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Ok(i + 1);
        }
    }
    Err(error(tokens.first(), "no closing bracket"))
}

/// `.align 4 .b8 name[16]`, `.u64 name`, `.param .u64 .ptr .global .align 16 name`.
pub(super) fn variable(tokens: &[Token]) -> Result<Variable, String> {
    let (mut ty, mut stated, mut name, mut at) = (None, 1, None, 0);
    while let Some(token) = tokens.get(at) {
        if token.is(".align") {
            let value = tokens.get(at + 1).and_then(|t| t.text.parse().ok());
            stated = value.ok_or_else(|| error(Some(token), "no alignment"))?;
            at += 1;
        } else if let Some(word) = token.text.strip_prefix('.') {
            ty = ty.or(Type::named(word));
        } else {
            name = Some(token);
            break;
        }
        at += 1;
    }
    let (Some(ty), Some(name)) = (ty, name) else { return Err(error(tokens.first(), "not a declaration")) };
    let count = match tokens.get(at + 1..) {
        Some([open, close, ..]) if open.is("[") && close.is("]") => 0,
        Some([open, count, ..]) if open.is("[") => {
            count.text.parse().map_err(|_| error(Some(count), "not a number of elements"))?
        }
        _ => 1,
    };
    Ok(Variable { name: name.text.clone(), ty, align: stated.max(ty.size()), size: count * ty.size() })
}

/// A literal: decimal, hexadecimal, or the bits of a floating-point number.
pub(super) fn number(text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0d")) {
        return u64::from_str_radix(bits, 16).ok();
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.trim_end_matches('U');
    let value = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}
