//! Tokens by which new nodes join: secrets `bootstrap-token-ID` in `kube-system` (Kubernetes' bootstrap token authenticator).
//! Must never compare secrets in a time that tells how much of them was right.

use barque_api::kind::GroupResource;
use barque_api::status::Status;
use barque_api::time::Time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::authorization::User;
use crate::registry::collections::Collections;
use crate::storage::Storage;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Whose token this is; nothing for one that is none, or is not good any more.
///
/// # Errors
/// When secrets cannot be read.
pub async fn user<S: Storage>(
    token: &str,
    collections: &Collections<S>,
    now: Time,
) -> Result<Option<User>, Status> {
    let Some((id, secret)) = parts(token) else { return Ok(None) };
    let name = format!("bootstrap-token-{id}");
    let found = collections.object(&GroupResource::new("", "secrets"), NAMESPACE, &name).await?;
    Ok(found.and_then(|found| judge(&found, id, secret, now)))
}

/// `abcdef.0123456789abcdef`
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn judge(object: &Value, id: &str, secret: &str, now: Time) -> Option<User> {
    let data = |key: &str| {
        let encoded = object.pointer(&format!("/data/{key}")).and_then(Value::as_str).unwrap_or_default();
        String::from_utf8(STANDARD.decode(encoded).unwrap_or_default()).unwrap_or_default()
    };
    if object["type"] != TYPE
        || object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
    {
        return None;
    }
    if data("token-id") != id || !same(data("token-secret").as_bytes(), secret.as_bytes()) {
        return None;
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && Time::parse(&expiration).ok()?.unix() <= now.unix() {
        return None;
    }
    if data("usage-bootstrap-authentication") != "true" {
        return None;
    }
    let more = data("auth-extra-groups");
    let mut groups = vec![GROUP.to_owned()];
    for group in more.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let fits = rest
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":-".contains(&byte));
        if rest.is_empty() || !fits {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Whether both are the same, in a time that depends on their lengths alone.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_good_while_its_secret_says_so() {
        let now = Time::parse("2026-01-01T00:00:00Z").unwrap();
        let secret = |changes: &[(&str, &str)]| {
            let mut data = json!({});
            let fields = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
                ("expiration", "2026-02-01T00:00:00Z"),
            ];
            for (key, value) in fields.iter().chain(changes) {
                data[*key] = STANDARD.encode(value).into();
            }
            json!({"type": TYPE, "data": data})
        };
        let user = |object: &Value| judge(object, "abcdef", "0123456789abcdef", now);
        let good = user(&secret(&[("auth-extra-groups", "system:bootstrappers:workers")])).unwrap();
        assert_eq!(good.name, "system:bootstrap:abcdef");
        assert_eq!(good.groups, [GROUP, "system:bootstrappers:workers"]);
        let bad = [
            ("token-secret", "0123456789abcdeX"),
            ("token-id", "other1"),
            ("expiration", "2025-12-31T23:59:59Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
        ];
        for change in bad {
            assert_eq!(user(&secret(&[change])), None, "{change:?}");
        }
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abcdef.short", "ABCDEF.0123456789abcdef", "abcdef0123456789abcdef", "a.b.c"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
