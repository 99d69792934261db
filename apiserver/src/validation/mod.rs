//! What is wrong with objects of built-in kinds, beyond what their schemas tell. Pure; must never look at other objects.

#[allow(dead_code, reason = "shared with the kinds that stand beside these")]
mod findings;
#[allow(dead_code, reason = "shared with the kinds that stand beside these")]
mod part;
#[allow(dead_code, reason = "shared with the kinds that stand beside these")]
mod same;
pub mod surroundings;

use serde_json::Value;

/// What is validated.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Empty for core.
    pub group: &'a str,
    /// Such as `Service`.
    pub kind: &'a str,
    /// Empty for the object itself; `status`, `approval`, `finalize` and so on.
    pub subresource: &'a str,
    /// The object as it is to be.
    pub new: &'a Value,
    /// The object as it is; none when it is created.
    pub old: Option<&'a Value>,
}
