//! What a request does, as a right to a node, and whether a user has it. Must never ask twice within the time of an answer.

use std::sync::Arc;
use std::time::Duration;

use barque_streams::upgrade::is_upgrade;
use http::{HeaderMap, Method};
use tokio::sync::Semaphore;

use super::expiring::Expiring;
use super::reviews::{ReviewError, Reviews, User};

/// How long it is known that somebody may.
const ALLOWED: Duration = Duration::from_secs(300);
/// How long it is known that somebody may not.
const DENIED: Duration = Duration::from_secs(30);
/// Answers that are known.
const ANSWERS: usize = 4096;
/// Questions to API servers at once.
const QUESTIONS: usize = 32;

/// A right to a node: a verb on a subresource of `nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// As `get`.
    pub verb: &'static str,
    /// As `proxy`.
    pub subresource: &'static str,
}

/// What a request needs: each of the rights of one name needs one of the others.
///
/// The rights are the kubelet's. What opens a stream of a process needs to be allowed to create as well, whatever its method: a
/// WebSocket begins with GET and does more than read.
pub(crate) fn needed(method: &Method, path: &str, headers: &HeaderMap) -> Vec<Vec<Access>> {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let subresources: &[&'static str] = match () {
        () if below("/stats") => &["stats"],
        () if below("/metrics") => &["metrics"],
        () if below("/logs") => &["log"],
        () if below("/pods") || below("/runningpods") => &["pods", "proxy"],
        () if below("/healthz") => &["healthz", "proxy"],
        () if below("/configz") => &["configz", "proxy"],
        () => &["proxy"],
    };
    let one_of = |verb| subresources.iter().map(|subresource| Access { verb, subresource }).collect();
    let mut all = vec![one_of(verb)];
    if verb == "get" && is_upgrade(headers) {
        all.push(one_of("create"));
    }
    all
}

/// See the module's description.
pub(crate) struct Authorization {
    node: String,
    /// Nothing when everybody may.
    reviews: Option<Arc<dyn Reviews>>,
    answers: Expiring<(User, Access), bool>,
    questions: Semaphore,
}

impl Authorization {
    pub(crate) fn new(node: String, reviews: Option<Arc<dyn Reviews>>) -> Self {
        Self { node, reviews, answers: Expiring::new(ANSWERS), questions: Semaphore::new(QUESTIONS) }
    }

    /// Whether a user may; the rights that are missing if not.
    pub(crate) async fn missing<'a>(
        &self,
        user: &User,
        needed: &'a [Vec<Access>],
    ) -> Result<Option<&'a [Access]>, ReviewError> {
        let Some(reviews) = &self.reviews else { return Ok(None) };
        'all: for one_of in needed {
            for access in one_of {
                if self.may(&**reviews, user, *access).await? {
                    continue 'all;
                }
            }
            return Ok(Some(one_of));
        }
        Ok(None)
    }

    async fn may(&self, reviews: &dyn Reviews, user: &User, access: Access) -> Result<bool, ReviewError> {
        let key = (user.clone(), access);
        if let Some(known) = self.answers.get(&key) {
            return Ok(known);
        }
        let _seat = self.questions.acquire().await.map_err(|error| ReviewError(error.to_string()))?;
        let allowed = reviews.access(user, &self.node, access).await?;
        self.answers.keep(key, allowed, if allowed { ALLOWED } else { DENIED });
        Ok(allowed)
    }
}

/// Who asked for which of some rights, for people.
pub(crate) fn asked(user: &User, rights: &[Access]) -> String {
    let verb = rights.first().map_or("get", |access| access.verb);
    let subresources: Vec<&str> = rights.iter().map(|access| access.subresource).collect();
    format!("user={}, verb={verb}, resource=nodes, subresource(s)=[{}]", user.name, subresources.join(" "))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONNECTION;

    use super::*;

    #[test]
    fn rights_follow_method_and_path() {
        let told = |method: Method, path: &str, headers: &HeaderMap| {
            let all = needed(&method, path, headers);
            let one = |access: &Access| format!("{} {}", access.verb, access.subresource);
            all.iter()
                .map(|of| of.iter().map(one).collect::<Vec<_>>().join(" | "))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let plain = HeaderMap::new();
        let table = [
            (Method::GET, "/pods", "get pods | get proxy"),
            (Method::GET, "/podsx", "get proxy"),
            (Method::GET, "/healthz", "get healthz | get proxy"),
            (Method::GET, "/stats/summary", "get stats"),
            (Method::GET, "/metrics/resource", "get metrics"),
            (Method::HEAD, "/logs/x", "get log"),
            (Method::POST, "/exec/a/b/c", "create proxy"),
            (Method::PUT, "/x", "update proxy"),
            (Method::DELETE, "/x", "delete proxy"),
        ];
        for (method, path, wanted) in table {
            assert_eq!(told(method, path, &plain), wanted, "{path}");
        }
        let mut upgrade = HeaderMap::new();
        upgrade.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        assert_eq!(told(Method::GET, "/exec/a/b/c", &upgrade), "get proxy, create proxy");
        assert_eq!(told(Method::POST, "/exec/a/b/c", &upgrade), "create proxy");
    }
}
