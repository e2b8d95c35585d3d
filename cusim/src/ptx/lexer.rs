//! Tokens.

/// A word (a directive, an opcode with its suffixes, a name, a number) or a punctuation mark, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: u32,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._$%".contains(c)
}

/// The tokens of a PTX text; comments are left out, a string is one token with its quotes.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(source.lines()) {
        let text = text.split("//").next().unwrap_or_default();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = token_length(rest, first);
            tokens.push(Token { text: rest[..len].to_string(), line });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

fn token_length(rest: &str, first: char) -> usize {
    let negative = first == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first == '"' {
        return rest[1..].find('"').map_or(rest.len(), |end| end + 2);
    }
    if in_word(first) || negative {
        return rest[1..].find(|c| !in_word(c)).map_or(rest.len(), |end| end + 1);
    }
    first.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_marks_and_lines() {
        let source = "@!%p1 bra $L__1; // away\n  ld.global.v2.f32 {%f1, _}, [%rd1+-8];";
        let texts: Vec<String> = tokens(source).into_iter().map(|t| t.text).collect();
        let expected = [
            "@",
            "!",
            "%p1",
            "bra",
            "$L__1",
            ";",
            "ld.global.v2.f32",
            "{",
            "%f1",
            ",",
            "_",
            "}",
            ",",
            "[",
            "%rd1",
            "+",
            "-8",
            "]",
            ";",
        ];
        assert_eq!(texts, expected);
        assert_eq!(tokens(source).last().unwrap().line, 2);
    }
}
