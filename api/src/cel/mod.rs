//! Expressions in CEL, as rules of schemas and policies use them: compiled once, evaluated within a budget. Must never run
//! for longer than its budget allows, and never know where its variables come from.
//!
//! Parser and evaluator are our own, so that depth is bounded, each step is paid for, values are read where they lie, and
//! types follow from schemas. One unit of cost is about one step of the evaluator, or ten bytes or items that a function
//! looks at. A comparison or function that would look at more than is left is not begun.

mod arithmetic;
mod ast;
mod authorization;
mod check;
mod compare;
mod convert;
mod format;
mod functions;
mod lexer;
mod lists;
mod machine;
mod net;
mod objects;
mod parser;
mod program;
mod quantity;
mod rules;
mod strings;
#[cfg(test)]
mod tests;
mod time;
mod value;

pub use authorization::{Access, Account, Asker, Authority, Question, Resource, Verdict};
pub use machine::{Budget, EvalError};
pub use program::{Activation, CompileError, Environment, Program};
pub use rules::Rules;
pub use value::Val;

/// What one expression may cost.
pub const PER_EXPRESSION: u64 = 1_000_000;

/// What all rules of one object, or all expressions of one policy, may cost together.
pub const PER_OBJECT: u64 = 10_000_000;

/// The longest message that an expression may give, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 5 * 1024;
