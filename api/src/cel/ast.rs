//! Expressions as the parser makes them and the evaluator reads them. Must never be deeper than the stack can bear.

/// An expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins in the source, in bytes.
    pub(super) at: usize,
    /// How many expressions stand in each other.
    pub(super) depth: u32,
    pub(super) expr: Expr,
}

impl Node {
    /// With the depth that follows from what stands in it.
    pub(super) fn new(at: usize, expr: Expr) -> Self {
        let depth = 1 + depth_below(&expr);
        Self { at, depth, expr }
    }
}

fn depth_below(expr: &Expr) -> u32 {
    match expr {
        Expr::Select { of, .. } | Expr::Not(of) | Expr::Negate(of) | Expr::NotFalse(of) => of.depth,
        Expr::Index { of, at, .. } => of.depth.max(at.depth),
        Expr::And(left, right) | Expr::Or(left, right) | Expr::Binary(_, left, right) => {
            left.depth.max(right.depth)
        }
        Expr::If(condition, then, otherwise) => condition.depth.max(then.depth).max(otherwise.depth),
        Expr::Call { target, args, .. } => {
            args.iter().chain(target.as_deref()).map(|one| one.depth).max().unwrap_or(0)
        }
        Expr::List(items) => items.iter().map(|(one, _)| one.depth).max().unwrap_or(0),
        Expr::Object { fields, .. } => fields.iter().map(|(_, value, _)| value.depth).max().unwrap_or(0),
        Expr::Map(entries) => {
            entries.iter().map(|(key, value, _)| key.depth.max(value.depth)).max().unwrap_or(0)
        }
        Expr::Fold(fold) => {
            let parts = [&fold.range, &fold.start, &fold.goes_on, &fold.step, &fold.end];
            parts.into_iter().map(|one| one.depth).max().unwrap_or(0)
        }
        _ => 0,
    }
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Name(Box<str>),
    Select {
        of: Box<Node>,
        field: Box<str>,
        test: bool,
        optional: bool,
    },
    Index {
        of: Box<Node>,
        at: Box<Node>,
        optional: bool,
    },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// An error or anything else that is not false goes on.
    NotFalse(Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call {
        name: Box<str>,
        target: Option<Box<Node>>,
        args: Vec<Node>,
    },
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// An object of a named type: `Object.spec{replicas: 1}`. Fields may be optional.
    Object {
        name: Box<str>,
        fields: Vec<(Box<str>, Node, bool)>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

/// A walk over a list or the keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Node,
    pub(super) item: Box<str>,
    pub(super) second: Option<Box<str>>,
    pub(super) result: Box<str>,
    pub(super) start: Node,
    pub(super) goes_on: Node,
    pub(super) step: Node,
    pub(super) end: Node,
}
