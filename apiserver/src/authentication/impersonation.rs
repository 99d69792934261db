//! Acting as somebody else: what the `Impersonate-*` headers ask for. Must never authorize; it says what has to be asked.

use barque_api::names;
use barque_api::status::Status;
use http::HeaderMap;

use crate::authentication::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::authorization::{Action, User};

const EXTRA: &str = "impersonate-extra-";
const REVIEWS: &str = "authentication.k8s.io";

/// Somebody to act as, and what the one who asked must be allowed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    /// The user the request goes on as.
    pub user: User,
    /// Every one of these must be allowed.
    pub actions: Vec<Action>,
}

/// What the headers ask for; `None` if nothing.
///
/// # Errors
/// 400, if groups, extras or a uid are asked for without a user.
pub fn requested(headers: &HeaderMap) -> Result<Option<Impersonation>, Status> {
    let name = text(headers, "impersonate-user");
    let uid = text(headers, "impersonate-uid");
    let mut user = User { name: name.clone(), uid: uid.clone(), ..User::default() };
    let mut actions = Vec::new();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let account = account.filter(|(namespace, name)| {
        names::dns_label(namespace).is_empty() && names::dns_subdomain(name).is_empty()
    });
    match account {
        Some((namespace, name)) => actions.push(impersonate("", "serviceaccounts", namespace, name)),
        None if !name.is_empty() => actions.push(impersonate("", "users", "", &name)),
        None => {}
    }
    for group in headers.get_all("impersonate-group") {
        let group = String::from_utf8_lossy(group.as_bytes()).into_owned();
        actions.push(impersonate("", "groups", "", &group));
        user.groups.push(group);
    }
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
        let (key, value) = (unescaped(key), String::from_utf8_lossy(value.as_bytes()).into_owned());
        actions.push(impersonate(REVIEWS, &format!("userextras/{key}"), "", &value));
        user.extra.entry(key).or_default().push(value);
    }
    if !uid.is_empty() {
        actions.push(impersonate(REVIEWS, "uids", "", &uid));
    }
    if actions.is_empty() {
        return Ok(None);
    }
    if name.is_empty() {
        return Err(Status::bad_request(
            "requested impersonation of groups, extras or a uid without impersonating a user",
        ));
    }
    if let (Some((namespace, _)), true) = (account, user.groups.is_empty()) {
        user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let has = |wanted: &str| user.groups.iter().any(|group| group == wanted);
    if name == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.into());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    Ok(Some(Impersonation { user, actions }))
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn impersonate(group: &str, resource: &str, namespace: &str, name: &str) -> Action {
    Action::Resource {
        verb: "impersonate".into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// The key with `%XX` read; as it is if it is not well escaped.
pub(super) fn unescaped(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return key.to_owned() };
        bytes.extend(u8::try_from(high * 16 + low));
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&'static str, &'static str)]) -> Result<Option<Impersonation>, Status> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        requested(&headers)
    }

    #[test]
    fn groups_follow_from_who_is_impersonated() {
        type Headers = [(&'static str, &'static str)];
        let table: &[(&Headers, &[&str])] = &[
            (&[("impersonate-user", "eva")], &[AUTHENTICATED]),
            (&[("impersonate-user", ANONYMOUS)], &[UNAUTHENTICATED]),
            (
                &[("impersonate-user", "system:serviceaccount:ns:sa")],
                &["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED],
            ),
            (&[("impersonate-user", "system:serviceaccount:No_Label:sa")], &[AUTHENTICATED]),
            (&[("impersonate-user", "eva"), ("impersonate-group", UNAUTHENTICATED)], &[UNAUTHENTICATED]),
        ];
        for (pairs, groups) in table {
            assert_eq!(ask(pairs).unwrap().unwrap().user.groups, *groups, "{pairs:?}");
        }
    }

    #[test]
    fn each_part_has_to_be_allowed() {
        let asked =
            ask(&[("impersonate-user", "eva"), ("impersonate-extra-a%2fb", "x"), ("impersonate-uid", "7")]);
        let expected = [
            impersonate("", "users", "", "eva"),
            impersonate(REVIEWS, "userextras/a/b", "", "x"),
            impersonate(REVIEWS, "uids", "", "7"),
        ];
        assert_eq!(asked.unwrap().unwrap().actions, expected);
    }

    #[test]
    fn nobody_is_impersonated_by_groups_alone() {
        assert!(ask(&[]).unwrap().is_none());
        assert!(ask(&[("impersonate-group", "a")]).is_err());
        assert!(ask(&[("impersonate-uid", "a")]).is_err());
        assert_eq!(
            (unescaped("a%2"), unescaped("a%zz"), unescaped("a%2Fb")),
            ("a%2".into(), "a%zz".into(), "a/b".into())
        );
    }
}
