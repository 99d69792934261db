//! Who is asked a second time, because somebody changed the object after them. Pure. Must never ask for a third round.

use std::collections::BTreeSet;

use serde_json::Value;

/// Both rounds of one request: all plugins that change objects are asked in turn, and once more if webhooks or policies changed
/// something.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    second: bool,
    changed: bool,
    /// Of policies.
    pub(super) policies: Invoked,
    /// Of webhooks.
    pub(super) webhooks: Invoked,
}

impl Rounds {
    /// Whether all are to be asked again; then the second round begins.
    pub fn again(&mut self) -> bool {
        self.changed && !std::mem::replace(&mut self.second, true)
    }

    /// Whether this is the second round.
    #[must_use]
    pub const fn is_second(&self) -> bool {
        self.second
    }

    /// Somebody changed the object.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }
}

/// Who was asked, and who is to be asked again.
#[derive(Clone, Debug, Default)]
pub(super) struct Invoked {
    /// Those who want to be asked again if something changes.
    before: BTreeSet<String>,
    again: BTreeSet<String>,
    /// The object as they left it.
    left: Option<Value>,
}

impl Invoked {
    /// A round begins with this object: if it is not as it was left, others changed it.
    pub(super) fn begin(&mut self, object: &Value) {
        if self.left.as_ref().is_some_and(|left| left != object) {
            self.changed();
        }
    }

    /// The round is over.
    pub(super) fn end(&mut self, object: &Value) {
        self.left = Some(object.clone());
    }

    /// The object changed: whoever was asked before is to be asked again.
    pub(super) fn changed(&mut self) {
        self.again.append(&mut self.before);
    }

    /// Somebody was asked who wants to know of later changes.
    pub(super) fn asked(&mut self, key: &str) {
        self.before.insert(key.to_owned());
    }

    /// Whether somebody is to be asked again.
    pub(super) fn is_to_be_asked(&self, key: &str) -> bool {
        self.again.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_before_a_change_are_asked_again() {
        let mut invoked = Invoked::default();
        invoked.begin(&json!(1));
        invoked.asked("a");
        invoked.changed();
        invoked.asked("b");
        invoked.end(&json!(2));
        let again = |invoked: &Invoked| ["a", "b"].map(|key| invoked.is_to_be_asked(key));
        assert_eq!(again(&invoked), [true, false]);
        invoked.begin(&json!(2));
        assert_eq!(again(&invoked), [true, false]);
        invoked.begin(&json!(3));
        assert_eq!(again(&invoked), [true, true]);
    }

    #[test]
    fn there_are_two_rounds_at_most() {
        let mut rounds = Rounds::default();
        assert!(!rounds.again());
        rounds.change();
        assert!(rounds.again() && rounds.is_second());
        rounds.change();
        assert!(!rounds.again());
    }
}
