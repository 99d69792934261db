//! The variable `authorizer` of expressions: what the user of a request may do, or a service account. Must never decide by
//! itself.

use std::fmt;

use barque_api::cel::{Account, Authority, Question, Resource, Verdict};
use barque_api::field_selector::FieldSelector;

use super::{Attributes, Authorize};
use crate::authorization::{Action, Decision, User};

/// Whoever is asked about the rights of a request's user.
#[derive(Clone, Copy)]
pub(crate) struct Rights<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    pub(super) authorize: &'a Authorize,
}

impl fmt::Debug for Rights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights").field("attributes", self.attributes).finish_non_exhaustive()
    }
}

impl Rights<'_> {
    /// What the request itself is about.
    pub(super) fn resource(&self) -> Resource {
        let attributes = self.attributes;
        Resource {
            group: attributes.resource.group.to_string(),
            resource: attributes.resource.resource.to_string(),
            subresource: attributes.subresource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.to_owned(),
            ..Resource::default()
        }
    }
}

impl Authority for Rights<'_> {
    fn decide(&self, account: Option<&Account>, question: &Question) -> Verdict {
        let account = account.map(user_of);
        let user = account.as_ref().unwrap_or(self.attributes.user);
        let (action, fields) = action_of(question);
        // Nobody who is asked here can fail, nor tells objects apart by their labels.
        let (allowed, reason) = match (self.authorize)(user, &action, &fields) {
            Decision::Allow(reason) => (true, reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => (false, reason),
        };
        Verdict { allowed, reason, error: None }
    }
}

fn user_of(Account { namespace, name }: &Account) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..User::default()
    }
}

/// A selector that cannot be read selects nothing in particular.
fn action_of(question: &Question) -> (Action, FieldSelector) {
    match question {
        Question::Path { path, verb } => {
            (Action::Path { verb: verb.clone(), path: path.clone() }, FieldSelector::default())
        }
        Question::Resource { what, verb } => {
            let action = Action::Resource {
                verb: verb.clone(),
                group: what.group.clone(),
                resource: match what.subresource.as_str() {
                    "" => what.resource.clone(),
                    below => format!("{}/{below}", what.resource),
                },
                namespace: what.namespace.clone(),
                name: what.name.clone(),
            };
            (action, what.field_selector.parse().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::test_request::Ask;
    use super::*;

    #[test]
    fn questions_are_about_the_user_or_a_service_account() {
        let authorize: Authorize = Arc::new(|user: &User, action: &Action, fields: &FieldSelector| {
            Decision::NoOpinion(format!("{} {:?} {action} {fields}", user.name, user.groups))
        });
        let ask = Ask::config_map();
        let attributes = ask.attributes();
        let rights = Rights { attributes: &attributes, authorize: &authorize };
        let question = |what: Resource| Question::Resource { what, verb: "list".to_owned() };
        let own = rights.decide(None, &question(rights.resource()));
        assert_eq!(
            own.reason,
            "u [\"g\"] list resource \"configmaps\" in API group \"\" in the namespace \"a\" "
        );
        let pods = Resource {
            resource: "pods".to_owned(),
            subresource: "log".to_owned(),
            field_selector: "spec.nodeName=n".to_owned(),
            ..Resource::default()
        };
        let account = Account { namespace: "x".to_owned(), name: "y".to_owned() };
        assert_eq!(
            rights.decide(Some(&account), &question(pods)).reason,
            "system:serviceaccount:x:y [\"system:serviceaccounts\", \"system:serviceaccounts:x\"] list resource \
             \"pods/log\" in API group \"\" at the cluster scope spec.nodeName=n"
        );
    }
}
