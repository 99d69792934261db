//! Whether this server can serve: checks with names, told one by one or all together, in the words of kube-apiserver. Must
//! never tell strangers why one failed.

use http::{Response, StatusCode};

use super::answer::{self, Body};
use super::parameters::Parameters;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `etcd`, `ping`.
    pub name: &'static str,
    /// Why it failed, for the log.
    pub failure: Option<String>,
}

/// The answer to `/livez`, `/readyz`, `/healthz` and what is below them; nothing for a check that there is not.
#[must_use]
pub fn answer(path: &str, parameters: &Parameters, checks: &[Check]) -> Option<Response<Body>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next()?;
    if let Some(name) = parts.next().filter(|name| !name.is_empty()) {
        let check = checks.iter().find(|check| check.name == name)?;
        return Some(match &check.failure {
            None => answer::text(StatusCode::OK, "ok"),
            Some(_) => {
                let text = format!("internal server error: {name} failed: reason withheld");
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        });
    }
    let excluded: Vec<&str> = parameters.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        let line = match &check.failure {
            _ if excluded.contains(&check.name) => format!("[+]{} excluded: ok\n", check.name),
            None => format!("[+]{} ok\n", check.name),
            Some(why) => {
                tracing::warn!(check = check.name, endpoint, "not healthy: {why}");
                failed = true;
                format!("[-]{} failed: reason withheld\n", check.name)
            }
        };
        lines.push_str(&line);
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| checks.iter().all(|check| check.name != **name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(", ")
        ));
    }
    Some(if failed {
        answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    } else if parameters.has("verbose") {
        answer::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        answer::text(StatusCode::OK, "ok")
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn told(path: &str, query: &str, failure: Option<&str>) -> Option<(u16, String)> {
        let checks = [
            Check { name: "ping", failure: None },
            Check { name: "etcd", failure: failure.map(str::to_owned) },
        ];
        let response = answer(path, &Parameters::of(query), &checks)?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some((code, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn checks_are_told_as_kube_apiserver_does() {
        assert_eq!(told("/livez", "", None).await, Some((200, "ok".into())));
        let verbose = told("/readyz", "verbose", None).await.unwrap().1;
        assert_eq!(verbose, "[+]ping ok\n[+]etcd ok\nreadyz check passed\n");
        let failed = told("/healthz", "", Some("secret reason")).await.unwrap();
        assert_eq!(
            failed,
            (500, "[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n".into())
        );
        assert_eq!(told("/livez", "exclude=etcd", Some("x")).await.unwrap().0, 200);
        assert_eq!(told("/livez/ping", "", None).await, Some((200, "ok".into())));
        assert_eq!(told("/livez/etcd", "", Some("x")).await.unwrap().0, 500);
        assert_eq!(told("/livez/nothing", "", None).await, None);
        let unknown = told("/livez", "verbose&exclude=nothing", None).await.unwrap().1;
        assert!(unknown.contains("no matches for \"nothing\""), "{unknown}");
    }
}
