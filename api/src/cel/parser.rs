//! The grammar of expressions, with the macros that walk over lists and maps. Must never follow a source deeper than
//! [`MAX_DEPTH`], nor build what is deeper.

use super::ast::{Binary, Expr, Fold, Node};
use super::lexer::{Token, Word, words};

/// How deep expressions may stand in each other. The evaluator takes some frames of the stack for each.
const MAX_DEPTH: u32 = 64;

/// Names in front of functions, `math.greatest`, that are no variables.
const SPACES: &[&str] = &["base64", "cel", "format", "ip", "jsonpatch", "math", "optional", "sets"];

/// Names that mean nothing, so that they may come to mean something.
pub(super) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What walks collect in.
const RESULT: &str = "@result";

type Failure = (usize, String);

/// Reads an expression.
///
/// # Errors
/// What is wrong, with its place.
pub(super) fn parse(source: &str) -> Result<Node, Failure> {
    let mut parser = Parser { words: words(source)?, next: 0, depth: 0 };
    let root = parser.expression()?;
    match parser.peek() {
        Word::End => Ok(root),
        _ => Err(parser.unexpected()),
    }
}

struct Parser {
    words: Vec<Token>,
    next: usize,
    depth: u32,
}

impl Parser {
    fn token(&self) -> &Token {
        // The last word is the end, which is never passed.
        &self.words[self.next.min(self.words.len() - 1)]
    }

    fn peek(&self) -> &Word {
        &self.token().word
    }

    fn at(&self) -> usize {
        self.token().at
    }

    fn take(&mut self) -> Word {
        let word = self.peek().clone();
        self.next += 1;
        word
    }

    fn is(&mut self, sign: &'static str) -> bool {
        let is = *self.peek() == Word::Sign(sign);
        self.next += usize::from(is);
        is
    }

    fn must(&mut self, sign: &'static str) -> Result<(), Failure> {
        if self.is(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Failure {
        let shown = match self.peek() {
            Word::End => "<EOF>".to_owned(),
            Word::Sign(sign) => (*sign).to_owned(),
            Word::Name(name) | Word::Quoted(name) => name.clone(),
            Word::Int(digits) => digits.clone(),
            Word::Uint(value) => format!("{value}u"),
            Word::Double(value) => value.to_string(),
            Word::Text(text) => format!("{text:?}"),
            Word::Bytes(_) => "bytes".to_owned(),
        };
        (self.at(), format!("Syntax error: unexpected '{shown}'"))
    }

    /// A node, unless that is too deep.
    fn node(&self, at: usize, expr: Expr) -> Result<Node, Failure> {
        let node = Node::new(at, expr);
        if node.depth > MAX_DEPTH { Err(too_deep(at)) } else { Ok(node) }
    }

    fn expression(&mut self) -> Result<Node, Failure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.at()));
        }
        let at = self.at();
        let condition = self.junction(false)?;
        let whole = if self.is("?") {
            let then = self.junction(false)?;
            self.must(":")?;
            let otherwise = self.expression()?;
            self.node(at, Expr::If(Box::new(condition), Box::new(then), Box::new(otherwise)))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(whole)
    }

    /// A chain of `||`, or one of `&&` in it. Chains may be long, so they become trees.
    fn junction(&mut self, and: bool) -> Result<Node, Failure> {
        let mut parts = vec![if and { self.relation()? } else { self.junction(true)? }];
        while self.is(if and { "&&" } else { "||" }) {
            parts.push(if and { self.relation()? } else { self.junction(true)? });
        }
        while parts.len() > 1 {
            let mut joined = Vec::with_capacity(parts.len().div_ceil(2));
            let mut parts_left = parts.into_iter();
            while let Some(left) = parts_left.next() {
                joined.push(match parts_left.next() {
                    None => left,
                    Some(right) => {
                        let (at, left, right) = (left.at, Box::new(left), Box::new(right));
                        self.node(at, if and { Expr::And(left, right) } else { Expr::Or(left, right) })?
                    }
                });
            }
            parts = joined;
        }
        parts.pop().ok_or_else(|| self.unexpected())
    }

    fn relation(&mut self) -> Result<Node, Failure> {
        const OPERATORS: &[(&str, Binary)] = &[
            ("==", Binary::Equal),
            ("!=", Binary::NotEqual),
            ("<=", Binary::LessEqual),
            (">=", Binary::GreaterEqual),
            ("<", Binary::Less),
            (">", Binary::Greater),
            ("in", Binary::In),
        ];
        self.chain(OPERATORS, |parser| parser.sum())
    }

    fn sum(&mut self) -> Result<Node, Failure> {
        self.chain(&[("+", Binary::Add), ("-", Binary::Subtract)], |parser| {
            let operators = &[("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Modulo)];
            parser.chain(operators, |parser| parser.unary())
        })
    }

    /// Operators of one strength, from left to right.
    fn chain(
        &mut self,
        operators: &'static [(&'static str, Binary)],
        side: fn(&mut Self) -> Result<Node, Failure>,
    ) -> Result<Node, Failure> {
        let mut left = side(self)?;
        loop {
            let here = self.peek().clone();
            let found = operators.iter().find(|(sign, _)| here == Word::Sign(sign));
            let Some((_, operator)) = found else { return Ok(left) };
            self.next += 1;
            let right = side(self)?;
            left = self.node(left.at, Expr::Binary(*operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn unary(&mut self) -> Result<Node, Failure> {
        let at = self.at();
        let (mut nots, mut negations) = (0u32, 0u32);
        while self.is("!") {
            nots += 1;
        }
        if nots == 0 {
            while self.is("-") {
                negations += 1;
            }
        }
        // The least number has no positive one to be the negation of.
        if negations % 2 == 1
            && let Word::Int(digits) = self.peek().clone()
        {
            self.next += 1;
            let value = format!("-{digits}").parse().map_err(|_| (at, "invalid int literal".to_owned()))?;
            return self.member(Node::new(at, Expr::Int(value)));
        }
        let primary = self.primary()?;
        let of = self.member(primary)?;
        // Two of them take each other back.
        if nots > 0 {
            let of = if nots.is_multiple_of(2) { self.node(at, Expr::Not(Box::new(of)))? } else { of };
            return self.node(at, Expr::Not(Box::new(of)));
        }
        if negations > 0 {
            let of =
                if negations.is_multiple_of(2) { self.node(at, Expr::Negate(Box::new(of)))? } else { of };
            return self.node(at, Expr::Negate(Box::new(of)));
        }
        Ok(of)
    }

    /// Fields, items and functions of a value.
    fn member(&mut self, mut of: Node) -> Result<Node, Failure> {
        loop {
            let at = self.at();
            if self.is(".") {
                let optional = self.is("?");
                let (field, quoted) = match self.take() {
                    Word::Name(name) => (name, false),
                    Word::Quoted(name) => (name, true),
                    Word::Sign("in") => ("in".to_owned(), false),
                    _ => {
                        self.next -= 1;
                        return Err(self.unexpected());
                    }
                };
                of = if !optional && !quoted && self.is("(") {
                    let args = self.list(")")?;
                    self.method(at, of, &field, args)?
                } else {
                    let of = Box::new(of);
                    self.node(at, Expr::Select { of, field: field.into(), test: false, optional })?
                };
            } else if *self.peek() == Word::Sign("{")
                && let Some(name) = dotted_name(&of)
            {
                self.next += 1;
                let fields = self.fields()?;
                of = self.node(of.at, Expr::Object { name: name.into(), fields })?;
            } else if self.is("[") {
                let optional = self.is("?");
                let index = self.expression()?;
                self.must("]")?;
                of = self.node(at, Expr::Index { of: Box::new(of), at: Box::new(index), optional })?;
            } else {
                return Ok(of);
            }
        }
    }

    /// Expressions between commas, up to a sign; a comma may stand before it.
    fn list(&mut self, end: &'static str) -> Result<Vec<Node>, Failure> {
        let mut list = Vec::new();
        while !self.is(end) {
            list.push(self.expression()?);
            if !self.is(",") {
                self.must(end)?;
                break;
            }
        }
        Ok(list)
    }

    fn primary(&mut self) -> Result<Node, Failure> {
        let at = self.at();
        let expr = match self.take() {
            Word::Sign("(") => {
                let inner = self.expression()?;
                self.must(")")?;
                return Ok(inner);
            }
            Word::Sign("[") => Expr::List(self.items()?),
            Word::Sign("{") => Expr::Map(self.entries()?),
            Word::Sign(".") => return self.primary_name(at),
            Word::Int(digits) => {
                Expr::Int(digits.parse().map_err(|_| (at, "invalid int literal".to_owned()))?)
            }
            Word::Uint(value) => Expr::Uint(value),
            Word::Double(value) => Expr::Double(value),
            Word::Text(text) => Expr::Text(text.into()),
            Word::Bytes(bytes) => Expr::Bytes(bytes.into()),
            Word::Name(_) => {
                self.next -= 1;
                return self.primary_name(at);
            }
            _ => {
                self.next -= 1;
                return Err(self.unexpected());
            }
        };
        self.node(at, expr)
    }

    fn primary_name(&mut self, at: usize) -> Result<Node, Failure> {
        let Word::Name(name) = self.take() else {
            self.next -= 1;
            return Err(self.unexpected());
        };
        match name.as_str() {
            "true" => return Ok(Node::new(at, Expr::Bool(true))),
            "false" => return Ok(Node::new(at, Expr::Bool(false))),
            "null" => return Ok(Node::new(at, Expr::Null)),
            reserved if RESERVED.contains(&reserved) => {
                return Err((at, format!("Syntax error: reserved identifier: {reserved}")));
            }
            _ => {}
        }
        if !self.is("(") {
            return Ok(Node::new(at, Expr::Name(name.into())));
        }
        let mut args = self.list(")")?;
        if name == "has" {
            return match (args.pop(), args.is_empty()) {
                (Some(Node { expr: Expr::Select { of, field, test: false, optional: false }, .. }), true) => {
                    self.node(at, Expr::Select { of, field, test: true, optional: false })
                }
                _ => Err((at, "invalid argument to has() macro".to_owned())),
            };
        }
        self.node(at, Expr::Call { name: name.into(), target: None, args })
    }

    fn items(&mut self) -> Result<Vec<(Node, bool)>, Failure> {
        let mut items = Vec::new();
        while !self.is("]") {
            let optional = self.is("?");
            items.push((self.expression()?, optional));
            if !self.is(",") {
                self.must("]")?;
                break;
            }
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<(Node, Node, bool)>, Failure> {
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.is("?");
            let key = self.expression()?;
            self.must(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.is(",") {
                self.must("}")?;
                break;
            }
        }
        Ok(entries)
    }

    fn fields(&mut self) -> Result<Vec<(Box<str>, Node, bool)>, Failure> {
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.is("?");
            let name = match self.take() {
                Word::Name(name) | Word::Quoted(name) => name,
                _ => {
                    self.next -= 1;
                    return Err(self.unexpected());
                }
            };
            self.must(":")?;
            fields.push((name.into(), self.expression()?, optional));
            if !self.is(",") {
                self.must("}")?;
                break;
            }
        }
        Ok(fields)
    }

    /// A function of a value, a function with a name before it, or a macro.
    fn method(&self, at: usize, of: Node, name: &str, args: Vec<Node>) -> Result<Node, Failure> {
        if let Expr::Name(space) = &of.expr
            && SPACES.contains(&&**space)
        {
            if (&**space, name) == ("cel", "bind") {
                return self.bind(at, args);
            }
            return self.node(at, Expr::Call { name: format!("{space}.{name}").into(), target: None, args });
        }
        match (name, args.len()) {
            ("all" | "exists" | "exists_one" | "existsOne" | "filter", 2 | 3)
            | ("map", 2 | 3)
            | ("transformList", 3 | 4) => self.walk(at, of, name, args),
            ("optMap" | "optFlatMap", 2) => self.opt_map(at, of, name, args),
            _ => {
                let target = Some(Box::new(of));
                self.node(at, Expr::Call { name: name.into(), target, args })
            }
        }
    }

    /// `cel.bind(name, value, body)`
    fn bind(&self, at: usize, args: Vec<Node>) -> Result<Node, Failure> {
        let [name, value, body] = <[Node; 3]>::try_from(args)
            .map_err(|_| (at, "found no matching overload for 'cel.bind'".to_owned()))?;
        let name = simple_name(&name)?;
        self.named(at, &name, value, body)
    }

    /// A value that has a name in a body: a walk over nothing whose result it is.
    fn named(&self, at: usize, name: &str, value: Node, body: Node) -> Result<Node, Failure> {
        let fold = Fold {
            range: Node::new(at, Expr::List(Vec::new())),
            item: "@unused".into(),
            second: None,
            result: name.into(),
            start: value,
            goes_on: Node::new(at, Expr::Bool(false)),
            step: Node::new(at, Expr::Name(name.into())),
            end: body,
        };
        self.node(at, Expr::Fold(Box::new(fold)))
    }

    /// `value.optMap(name, body)`
    fn opt_map(&self, at: usize, of: Node, name: &str, mut args: Vec<Node>) -> Result<Node, Failure> {
        const TARGET: &str = "@target";
        let new = |expr: Expr| Node::new(at, expr);
        let call = |name: &str, args: Vec<Node>| new(Expr::Call { name: name.into(), target: None, args });
        let of_target = |name: &str| {
            let target = Some(Box::new(new(Expr::Name(TARGET.into()))));
            new(Expr::Call { name: name.into(), target, args: Vec::new() })
        };
        let (body, variable) = match (args.pop(), args.pop()) {
            (Some(body), Some(variable)) => (body, simple_name(&variable)?),
            _ => return Err(self.unexpected()),
        };
        let mapped = self.named(at, &variable, of_target("value"), body)?;
        let some = if name == "optMap" { call("optional.of", vec![mapped]) } else { mapped };
        let none = call("optional.none", Vec::new());
        let chosen = Expr::If(Box::new(of_target("hasValue")), Box::new(some), Box::new(none));
        let chosen = self.node(at, chosen)?;
        self.named(at, TARGET, of, chosen)
    }

    /// A macro that walks: names, perhaps a condition, and what is done with each.
    fn walk(&self, at: usize, range: Node, name: &str, args: Vec<Node>) -> Result<Node, Failure> {
        let new = |expr: Expr| Box::new(Node::new(at, expr));
        let result = || new(Expr::Name(RESULT.into()));
        let mut args = args.into_iter();
        let mut arg = || args.next().ok_or_else(|| self.unexpected());
        let first = arg()?;
        let item = simple_name(&first)?;
        let rest: Vec<Node> = args.collect();
        // `map` takes a condition as its third argument, the others a second name.
        let two_names = match name {
            "map" | "filter" => false,
            "transformList" => true,
            _ => rest.len() == 2,
        };
        let mut rest = rest.into_iter();
        let second = match two_names {
            true => Some(simple_name(&rest.next().ok_or_else(|| self.unexpected())?)?),
            false => None,
        };
        let body = rest.next_back().ok_or_else(|| self.unexpected())?;
        let condition = rest.next();
        if rest.next().is_some() || (condition.is_some() && !matches!(name, "map" | "transformList")) {
            return Err((at, format!("found no matching overload for '{name}'")));
        }
        let appended = |one: Node| {
            let one = new(Expr::List(vec![(one, false)]));
            Box::new(Node::new(at, Expr::Binary(Binary::Add, result(), one)))
        };
        let yes = new(Expr::Bool(true));
        let (start, goes_on, step, end) = match name {
            "all" => {
                let step = Expr::And(result(), Box::new(body));
                (Expr::Bool(true), new(Expr::NotFalse(result())), new(step), result())
            }
            "exists" => {
                let goes_on = Expr::NotFalse(new(Expr::Not(result())));
                (Expr::Bool(false), new(goes_on), new(Expr::Or(result(), Box::new(body))), result())
            }
            "exists_one" | "existsOne" => {
                let one = || new(Expr::Int(1));
                let counted = new(Expr::Binary(Binary::Add, result(), one()));
                let step = new(Expr::If(Box::new(body), counted, result()));
                (Expr::Int(0), yes, step, new(Expr::Binary(Binary::Equal, result(), one())))
            }
            "filter" => {
                let kept = appended(Node::new(at, Expr::Name(item.clone())));
                let step = new(Expr::If(Box::new(body), kept, result()));
                (Expr::List(Vec::new()), yes, step, result())
            }
            _ => {
                let step = match condition {
                    Some(condition) => new(Expr::If(Box::new(condition), appended(body), result())),
                    None => appended(body),
                };
                (Expr::List(Vec::new()), yes, step, result())
            }
        };
        let fold = Fold {
            range,
            item,
            second,
            result: RESULT.into(),
            start: Node::new(at, start),
            goes_on: *goes_on,
            step: *step,
            end: *end,
        };
        self.node(at, Expr::Fold(Box::new(fold)))
    }
}

/// The name of a type, as names with dots between them say it.
fn dotted_name(node: &Node) -> Option<String> {
    match &node.expr {
        Expr::Name(name) => Some(name.to_string()),
        Expr::Select { of, field, test: false, optional: false } => {
            Some(format!("{}.{field}", dotted_name(of)?))
        }
        _ => None,
    }
}

fn too_deep(at: usize) -> Failure {
    (at, format!("expression recursion limit exceeded: {MAX_DEPTH}"))
}

fn simple_name(node: &Node) -> Result<Box<str>, Failure> {
    match &node.expr {
        Expr::Name(name) => Ok(name.clone()),
        _ => Err((node.at, "argument must be a simple name".to_owned())),
    }
}
