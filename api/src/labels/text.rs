//! Selectors as text: `a=1,b in (2,3),!c`. Told apart from the text alone; keywords are names where a name must stand.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::{Operator, Requirement, Selector, check_key};
use crate::field::{FieldError, FieldPath};

/// A text that is no selector, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorTextError {
    /// A requirement is wrong.
    #[error("unable to parse requirement: {0}")]
    Requirement(Box<SelectorTextError>),
    /// Something stands where something else is expected.
    #[error("found '{found}'{comma} expected: {expected}", comma = if *.comma { "," } else { "" })]
    Found {
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: &'static str,
        /// Whether the sentence has a comma.
        comma: bool,
    },
    /// A key or a value is wrong.
    #[error("{}", told(.0))]
    Fields(Vec<FieldError>),
}

fn told(errors: &[FieldError]) -> String {
    let mut sentences: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let sentence = error.to_string();
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    match sentences.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    Open,
    Name,
    Operator(Operator),
}

/// A token and its text.
type Scanned = (Token, String);

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

fn found(found: &str, expected: &'static str) -> SelectorTextError {
    SelectorTextError::Found { found: found.to_owned(), expected, comma: true }
}

/// A selector of this text.
impl FromStr for Selector {
    type Err = SelectorTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, &FieldPath::root())
    }
}

impl Selector {
    /// A selector of the text that stands at `path`.
    ///
    /// # Errors
    /// What is wrong, in the words of Kubernetes.
    pub fn parse(text: &str, path: &FieldPath) -> Result<Self, SelectorTextError> {
        let mut parser = Parser { tokens: scan(text), at: 0, path };
        parser.selector().map(Self::of)
    }
}

struct Parser<'a> {
    /// The last one is the end.
    tokens: Vec<Scanned>,
    at: usize,
    path: &'a FieldPath,
}

impl Parser<'_> {
    /// The next token; behind the end is the end.
    fn peek(&self) -> (&Token, &str) {
        let (token, text) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        (token, text)
    }

    /// The next token where names stand: `in` and `notin` are names there.
    fn peek_name(&self) -> (&Token, &str) {
        match self.peek() {
            (Token::Operator(Operator::In | Operator::NotIn), text) => (&Token::Name, text),
            other => other,
        }
    }

    fn next_name(&mut self) -> Scanned {
        let (token, text) = self.peek_name();
        let scanned = (token.clone(), text.to_owned());
        self.at += 1;
        scanned
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorTextError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek_name() {
                (Token::Name | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|why| SelectorTextError::Requirement(Box::new(why)))?;
                    requirements.push(requirement);
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(found(text, "!, identifier, or 'end of string'")),
            }
            match self.next_name() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    if let (token, text) = self.peek_name()
                        && !matches!(token, Token::Name | Token::Not)
                    {
                        return Err(found(text, "identifier after ','"));
                    }
                }
                (_, text) => return Err(found(&text, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorTextError> {
        let (mut token, mut key) = self.next_name();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next_name();
        }
        if token != Token::Name {
            return Err(found(&key, "identifier"));
        }
        if let Some(error) = check_key(&key, self.path) {
            return Err(SelectorTextError::Fields(vec![error]));
        }
        let ends = matches!(self.peek_name().0, Token::End | Token::Comma);
        let (operator, values) = match (negated, ends) {
            (true, _) => (Operator::DoesNotExist, BTreeSet::new()),
            (false, true) => (Operator::Exists, BTreeSet::new()),
            (false, false) => {
                let operator = self.operator()?;
                let set = matches!(operator, Operator::In | Operator::NotIn);
                (operator, if set { self.values()? } else { self.value()? })
            }
        };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Requirement::new(&key, operator, &values, self.path).map_err(SelectorTextError::Fields)
    }

    fn operator(&mut self) -> Result<Operator, SelectorTextError> {
        let (token, text) = self.peek();
        let Token::Operator(operator) = token else { return Err(found(text, BINARY)) };
        let operator = *operator;
        self.at += 1;
        Ok(operator)
    }

    /// `(a,b)`
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorTextError> {
        let (open, text) = self.next_name();
        if open != Token::Open {
            return Err(SelectorTextError::Found { found: text, expected: "'('", comma: false });
        }
        match self.peek_name() {
            (Token::Name | Token::Comma, first) => {
                let first = first.to_owned();
                let values = self.list()?;
                match self.next_name() {
                    (Token::Close, _) => Ok(values),
                    _ => Err(found(&first, "')'")),
                }
            }
            (Token::Close, _) => {
                self.at += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            (_, text) => Err(found(text, "',', ')' or identifier")),
        }
    }

    fn list(&mut self) -> Result<BTreeSet<String>, SelectorTextError> {
        let mut values = BTreeSet::new();
        loop {
            match self.next_name() {
                (Token::Name, value) => {
                    values.insert(value);
                    match self.peek_name() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(found(text, "',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    // A comma without a value beside it stands beside the empty value.
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek_name().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(found(&text, "',', or identifier")),
            }
        }
    }

    fn value(&mut self) -> Result<BTreeSet<String>, SelectorTextError> {
        if matches!(self.peek_name().0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next_name() {
            (Token::Name, value) => Ok(BTreeSet::from([value])),
            (_, text) => Err(found(&text, "identifier")),
        }
    }
}

fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::Operator(Operator::DoubleEquals),
        "=" => Token::Operator(Operator::Equals),
        ">" => Token::Operator(Operator::GreaterThan),
        "<" => Token::Operator(Operator::LessThan),
        "!=" => Token::Operator(Operator::NotEquals),
        "(" => Token::Open,
        "in" => Token::Operator(Operator::In),
        "notin" => Token::Operator(Operator::NotIn),
        _ => return None,
    })
}

/// The tokens of a text. A zero byte ends it, as in Kubernetes.
fn scan(text: &str) -> Vec<Scanned> {
    let text = text.split('\0').next().unwrap_or_default();
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.bytes().next() else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        let length = if is_symbol(first) {
            // `in` does not begin with a symbol, so a pair is `==` or `!=`.
            let pair = rest.get(..2).is_some_and(|pair| symbol(pair).is_some());
            if pair { 2 } else { 1 }
        } else {
            rest.bytes().take_while(|byte| !is_symbol(*byte) && !is_space(*byte)).count()
        };
        let (one, after) = rest.split_at(length);
        tokens.push((symbol(one).unwrap_or(Token::Name), one.to_owned()));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_are_read_and_written() {
        let table = [
            ("", ""),
            ("  ", ""),
            ("a=b", "a=b"),
            ("b = 1 , a==2", "a==2,b=1"),
            ("a!=b", "a!=b"),
            ("a=", "a="),
            ("a=,b", "a=,b"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
            ("x in (b,a)", "x in (a,b)"),
            ("x in (,)", "x in ()"),
            ("in in (in)", "in in (in)"),
            ("notin=in", "notin=in"),
            ("!a", "!a"),
            ("! a", "!a"),
            ("a>1,b<2", "a>1,b<2"),
            ("example.com/a", "example.com/a"),
        ];
        for (text, written) in table {
            let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.to_string(), written, "{text}");
        }
    }

    #[test]
    fn sentences_are_those_of_kubernetes() {
        let table = [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a in (b,=)", "unable to parse requirement: found '=', expected: ',', or identifier"),
            ("a==)", "unable to parse requirement: found ')', expected: identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a/b/c=d",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            ),
            (
                "a=-",
                "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Selector>().unwrap_err().to_string(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(text in "([a-c]{1,2}|in|notin|[!=<>(),]|[ 0-9-]){0,12}") {
            if let Ok(selector) = text.parse::<Selector>() {
                let written = selector.to_string();
                let again: Selector = written.parse().unwrap();
                prop_assert_eq!(again.to_string(), written);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Selector>();
        }
    }
}
