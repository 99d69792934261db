//! Taints of nodes and the tolerations of pods. Pure values; must never know which plugin asks.

use k8s_openapi::api::core::v1 as core;

/// What happens to pods that do not tolerate a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// They are not placed.
    NoSchedule,
    /// They are placed elsewhere if that can be.
    PreferNoSchedule,
    /// They are not placed, and evicted.
    NoExecute,
}

impl Effect {
    fn of(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }

    /// Whether a pod that does not tolerate it may not be placed.
    #[must_use]
    pub const fn forbids(self) -> bool {
        matches!(self, Self::NoSchedule | Self::NoExecute)
    }
}

/// One taint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Its name.
    pub key: Box<str>,
    /// Its value; may be empty.
    pub value: Box<str>,
    /// What it does.
    pub effect: Effect,
}

impl Taint {
    /// From a node; an effect that is not known is none.
    #[must_use]
    pub fn of(taint: &core::Taint) -> Option<Self> {
        let value = taint.value.as_deref().unwrap_or_default().into();
        Some(Self { key: taint.key.as_str().into(), value, effect: Effect::of(&taint.effect)? })
    }

    /// What nodes have that are cordoned.
    #[must_use]
    pub fn unschedulable() -> Self {
        Self { key: "node.kubernetes.io/unschedulable".into(), value: "".into(), effect: Effect::NoSchedule }
    }
}

/// One toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Of this key; of all keys when it is empty.
    key: Box<str>,
    /// Of any value when there is none.
    value: Option<Box<str>>,
    /// Of any effect when there is none.
    effect: Option<Effect>,
    /// An operator or effect that nobody knows tolerates nothing.
    nothing: bool,
}

impl Toleration {
    /// From a pod.
    #[must_use]
    pub fn of(toleration: &core::Toleration) -> Self {
        let text = |field: &Option<String>| Box::from(field.as_deref().unwrap_or_default());
        let (value, known) = match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => (Some(text(&toleration.value)), true),
            "Exists" => (None, true),
            _ => (None, false),
        };
        let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
        let unknown_effect = effect.is_some_and(|effect| Effect::of(effect).is_none());
        Self {
            key: text(&toleration.key),
            value,
            effect: effect.and_then(Effect::of),
            nothing: !known || unknown_effect,
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        !self.nothing
            && self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }

    /// Whether it is about taints that are only preferences.
    fn about_preferences(&self) -> bool {
        !self.nothing && self.effect.is_none_or(|effect| effect == Effect::PreferNoSchedule)
    }
}

/// Whether one of them tolerates the taint.
#[must_use]
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The first taint that forbids the placement, if there is one.
#[must_use]
pub fn first_untolerated<'a>(tolerations: &[Toleration], taints: &'a [Taint]) -> Option<&'a Taint> {
    taints.iter().find(|taint| taint.effect.forbids() && !tolerated(tolerations, taint))
}

/// How many taints would rather not have the pod.
#[must_use]
pub fn unwanted(tolerations: &[Toleration], taints: &[Taint]) -> i64 {
    let tolerated = |taint: &Taint| {
        tolerations.iter().any(|toleration| toleration.about_preferences() && toleration.tolerates(taint))
    };
    taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule && !tolerated(taint)).count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_taints_by_key_value_and_effect() {
        let taint = Taint { key: "a".into(), value: "1".into(), effect: Effect::NoSchedule };
        let table = [
            (Some("a"), "Equal", Some("1"), None, true),
            (Some("a"), "", Some("1"), Some("NoSchedule"), true),
            (Some("a"), "Equal", Some("2"), None, false),
            (Some("a"), "Exists", None, None, true),
            (None, "Exists", None, None, true),
            (Some("b"), "Exists", None, None, false),
            (Some("a"), "Exists", None, Some("NoExecute"), false),
            (Some("a"), "Maybe", Some("1"), None, false),
            (Some("a"), "Exists", None, Some("Sometimes"), false),
        ];
        for (key, operator, value, effect, expected) in table {
            let toleration = Toleration::of(&core::Toleration {
                key: key.map(str::to_owned),
                operator: Some(operator.to_owned()),
                value: value.map(str::to_owned),
                effect: effect.map(str::to_owned),
                ..Default::default()
            });
            assert_eq!(tolerated(&[toleration], &taint), expected, "{key:?} {operator} {value:?} {effect:?}");
        }
    }

    #[test]
    fn preferences_are_counted_and_do_not_forbid() {
        let taint = |key: &str, effect| Taint { key: key.into(), value: "".into(), effect };
        let taints = [
            taint("a", Effect::PreferNoSchedule),
            taint("b", Effect::PreferNoSchedule),
            taint("c", Effect::NoExecute),
        ];
        let toleration = |key: &str, effect: Option<&str>| {
            Toleration::of(&core::Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: effect.map(str::to_owned),
                ..Default::default()
            })
        };
        assert_eq!(unwanted(&[], &taints), 2);
        assert_eq!(unwanted(&[toleration("a", Some("PreferNoSchedule"))], &taints), 1);
        assert_eq!(unwanted(&[toleration("a", Some("NoSchedule"))], &taints), 2);
        assert_eq!(first_untolerated(&[], &taints), Some(&taints[2]));
        assert_eq!(first_untolerated(&[toleration("c", None)], &taints), None);
    }
}
