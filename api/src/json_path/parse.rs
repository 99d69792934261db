//! Text into the steps of a path. Must never accept what it would have to guess the meaning of.

use serde_json::Value;

use super::{Filter, JsonPathError, Operand, Operator, Step};

/// Reads a whole path.
pub(super) fn path(text: &str) -> Result<Vec<Step>, JsonPathError> {
    let mut reader = Reader { rest: text.trim() };
    let steps = reader.steps()?;
    if reader.rest.is_empty() { Ok(steps) } else { Err(wrong("unexpected", reader.rest)) }
}

fn wrong(what: &str, at: &str) -> JsonPathError {
    JsonPathError(if at.is_empty() { format!("{what} at the end") } else { format!("{what} at {at:?}") })
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn takes(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), JsonPathError> {
        if self.takes(text) { Ok(()) } else { Err(wrong(&format!("expected {text:?}"), self.rest)) }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Steps as long as there are some.
    fn steps(&mut self) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        if !self.takes("$") && !self.takes("@") {
            // kubectl lets the first dot away.
            let name = self.name();
            if !name.is_empty() {
                steps.push(field(name));
            }
        }
        loop {
            if self.takes("..") {
                steps.push(Step::Descend);
                let name = self.name();
                if !name.is_empty() {
                    steps.push(field(name));
                }
            } else if self.takes(".") {
                let name = self.name();
                if !name.is_empty() {
                    steps.push(field(name));
                }
            } else if self.takes("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name up to what ends it; a backslash keeps the character behind it.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => name.extend(chars.next().map(|(_, kept)| kept)),
                '.' | '[' | ']' | '(' | ')' | '=' | '!' | '<' | '>' | ' ' | '"' | '\'' | ',' => {
                    end = at;
                    break;
                }
                other => name.push(other),
            }
        }
        self.rest = &self.rest[end..];
        name
    }

    /// What is between brackets; the first of them was read.
    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        if self.takes("?(") {
            let filter = self.filter()?;
            self.skip_spaces();
            self.expect(")")?;
            self.expect("]")?;
            return Ok(Step::Filter(filter));
        }
        if self.takes("*]") {
            return Ok(Step::All);
        }
        if self.rest.starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            while self.takes(",") {
                self.skip_spaces();
                names.push(self.quoted()?);
            }
            self.expect("]")?;
            return Ok(match names.len() {
                1 => Step::Field(names.remove(0)),
                _ => Step::Fields(names),
            });
        }
        let end = self.rest.find(']').ok_or_else(|| wrong("unterminated array", self.rest))?;
        let inside = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        numbers(inside)
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let quote = self.rest.chars().next().filter(|quote| ['\'', '"'].contains(quote));
        let quote = quote.ok_or_else(|| wrong("expected a quote", self.rest))?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => text.extend(chars.next().map(|(_, kept)| kept)),
                _ if next == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                other => text.push(other),
            }
        }
        Err(wrong("unterminated quoted string", self.rest))
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        let left = self.operand()?;
        self.skip_spaces();
        // The longer ones first: the shorter ones begin them.
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Differs),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        match operators.into_iter().find(|(text, _)| self.takes(text)) {
            Some((_, operator)) => Ok(Filter::Compare(left, operator, self.operand()?)),
            None => match left {
                Operand::Path(path) => Ok(Filter::Exists(path)),
                Operand::Literal(_) => Err(wrong("unrecognized filter", self.rest)),
            },
        }
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        self.skip_spaces();
        if self.rest.starts_with(['@', '$', '.']) {
            return self.steps().map(Operand::Path);
        }
        if self.rest.starts_with(['\'', '"']) {
            return Ok(Operand::Literal(self.quoted()?.into()));
        }
        let end = self.rest.find([')', ' ', '=', '!', '<', '>']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        // Numbers, true and false are written as in JSON.
        let value: Value = serde_json::from_str(word).map_err(|_| wrong("unrecognized value", self.rest))?;
        self.rest = rest;
        Ok(Operand::Literal(value))
    }
}

fn field(name: String) -> Step {
    if name == "*" { Step::All } else { Step::Field(name) }
}

/// `0`, `-1`, `0,2`, `1:3`, `:3`, `0:4:2`.
fn numbers(text: &str) -> Result<Step, JsonPathError> {
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong("invalid array index", text));
    if text.contains(':') {
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 3 {
            return Err(wrong("invalid array index", text));
        }
        let part = |at: usize| -> Result<Option<i64>, JsonPathError> {
            parts.get(at).filter(|part| !part.trim().is_empty()).map(|part| number(part)).transpose()
        };
        return Ok(Step::Slice(part(0)?, part(1)?, part(2)?.unwrap_or(1)));
    }
    let mut all: Vec<i64> = text.split(',').map(number).collect::<Result<_, _>>()?;
    Ok(if all.len() == 1 { Step::Index(all.remove(0)) } else { Step::Indices(all) })
}
