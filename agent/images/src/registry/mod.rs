//! A client of registries (OCI distribution specification): authenticates, follows redirects, says what went wrong. Reads no more than
//! it was told to; must never write a file, and never hand a password to anybody but its registry and the one who makes tokens for it.

mod challenge;
mod transport;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;

use self::challenge::{Challenge, Token};
use self::transport::Transport;
use crate::credentials::Credential;
use crate::error::{Error, Result};
use crate::registries::Endpoint;

const AGENT: &str = concat!("barque/", env!("CARGO_PKG_VERSION"));
const CLIENT_ID: &str = "barque";
const MOST_REDIRECTS: usize = 10;
const LARGEST_ERROR: usize = 64 << 10;
const LARGEST_TOKEN: usize = 1 << 20;
/// A token is renewed before it ends.
const SPARE: Duration = Duration::from_secs(5);
/// Bytes of a body within this time, or it is broken.
const STALLED: Duration = Duration::from_secs(60);

/// What is asked for.
pub(crate) struct Query<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) credential: Option<&'a Credential>,
    /// How it is named in errors.
    pub(crate) what: &'a str,
    /// As `manifests/latest` or `blobs/sha256:...`.
    pub(crate) path: &'a str,
    pub(crate) accept: Option<&'static str>,
    /// The first byte that is wanted.
    pub(crate) from: u64,
}

/// All registries.
pub(crate) struct Registry {
    transport: Transport,
    tokens: Mutex<HashMap<TokenKey, (HeaderValue, Instant)>>,
}

/// A token is for a repository of an endpoint, got with a credential.
#[derive(PartialEq, Eq, Hash)]
struct TokenKey {
    url: String,
    repository: String,
    credential: String,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { transport: Transport::new(), tokens: Mutex::default() }
    }

    /// Asks; what is answered is good, its body not read.
    pub(crate) async fn get(&self, query: &Query<'_>) -> Result<Response<Incoming>> {
        let Endpoint { base, repository, .. } = query.endpoint;
        let mut url = format!("{}/{repository}/{}", base.url(), query.path);
        if let Some(registry) = &query.endpoint.mirrors {
            url.push_str("?ns=");
            url.extend(form_urlencoded::byte_serialize(registry.as_bytes()));
        }
        let key = || TokenKey {
            url: base.url(),
            repository: repository.clone(),
            credential: match query.credential {
                Some(Credential::Basic { username, password }) => format!("basic {username}:{password}"),
                Some(Credential::Identity(token)) => format!("identity {token}"),
                Some(Credential::Bearer(token)) => format!("bearer {token}"),
                None => String::new(),
            },
        };
        let known = self.tokens.lock().get(&key()).filter(|(_, until)| *until > Instant::now()).cloned();
        let mut authorization = known.map(|(value, _)| value);
        let mut authenticated = false;
        loop {
            let answer = self.follow(query, &url, authorization.as_ref()).await?;
            if answer.status() != StatusCode::UNAUTHORIZED || authenticated {
                return self.checked(query, &url, answer).await;
            }
            let headers = answer.headers().get_all(WWW_AUTHENTICATE);
            let Some(challenge) = Challenge::choose(headers.iter().filter_map(|header| header.to_str().ok()))
            else {
                return self.checked(query, &url, answer).await;
            };
            let (value, lifetime) = self.authenticate(query, challenge).await?;
            let until = Instant::now() + lifetime.saturating_sub(SPARE);
            let mut tokens = self.tokens.lock();
            tokens.retain(|_, (_, until)| *until > Instant::now());
            tokens.insert(key(), (value.clone(), until));
            authorization = Some(value);
            authenticated = true;
        }
    }

    /// Asks, and reads the whole answer, which must not be larger than `limit`. Also tells the type that the server gives it.
    pub(crate) async fn get_bytes(&self, query: &Query<'_>, limit: u64) -> Result<(Bytes, String)> {
        let answer = self.get(query).await?;
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let body = read(answer.into_body(), most).await.map_err(|error| match error {
            BodyError::TooLarge => Error::TooLarge { what: query.what.to_owned(), limit },
            BodyError::Broken(source) => {
                Error::Unreachable { method: "GET", url: query.endpoint.base.url(), source }
            }
        })?;
        Ok((body, media_type))
    }

    async fn follow(
        &self,
        query: &Query<'_>,
        url: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>> {
        let protocol = |why: &str| Error::Protocol { url: url.to_owned(), why: why.to_owned() };
        let first: Uri = url.parse().map_err(|_| protocol("nothing: its URL is malformed"))?;
        let mut uri = first.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request =
                Request::builder().method(Method::GET).uri(uri.clone()).header(USER_AGENT, AGENT);
            if let Some(accept) = query.accept {
                request = request.header(ACCEPT, accept);
            }
            if query.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", query.from));
            }
            // Whoever is redirected to has no business with the credentials.
            let same = uri.authority() == first.authority() && uri.scheme() == first.scheme();
            if let Some(authorization) = authorization.filter(|_| same) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(Full::default()).map_err(|_| protocol("what makes no request"))?;
            let answer = self.transport.send(&query.endpoint.host.tls, request).await?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| protocol("a redirect that leads nowhere"))?;
            uri = join(&uri, location).ok_or_else(|| protocol("a redirect that leads nowhere"))?;
            if query.endpoint.base.https && uri.scheme_str() != Some("https") {
                return Err(protocol("a redirect that leads from https to http"));
            }
        }
        Err(protocol("too many redirects"))
    }

    /// An answer that is one, or what it means.
    async fn checked(
        &self,
        query: &Query<'_>,
        url: &str,
        answer: Response<Incoming>,
    ) -> Result<Response<Incoming>> {
        let status = answer.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(answer);
        }
        let body = read(answer.into_body(), LARGEST_ERROR).await.unwrap_or_default();
        let said = server_message(&body);
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound(query.what.to_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized {
                what: query.what.to_owned(),
                reason: said.map_or_else(|| status.to_string(), |said| format!("server message: {said}")),
            },
            _ => Error::Status {
                url: url.to_owned(),
                status,
                detail: said.map(|said| format!(": {said}")).unwrap_or_default(),
            },
        })
    }

    /// The header that the challenge asks for, and how long it is good.
    async fn authenticate(&self, query: &Query<'_>, challenge: Challenge) -> Result<(HeaderValue, Duration)> {
        let denied =
            |reason: &str| Error::Unauthorized { what: query.what.to_owned(), reason: reason.to_owned() };
        let header = |text: String| {
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| denied("the credentials are no text for a header"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let day = Duration::from_secs(24 * 3600);
        let (realm, service, scope) = match (challenge, query.credential) {
            (_, Some(Credential::Bearer(token))) => return Ok((header(format!("Bearer {token}"))?, day)),
            (Challenge::Basic, Some(Credential::Basic { username, password })) => {
                return Ok((header(basic(username, password))?, day));
            }
            (Challenge::Basic, _) => return Err(denied("authorization failed: no basic auth credentials")),
            (Challenge::Bearer { realm, service, scope }, _) => (realm, service, scope),
        };
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", query.endpoint.repository));
        let uri: Uri = realm.parse().ok().filter(|uri: &Uri| uri.authority().is_some()).ok_or_else(|| {
            Error::Protocol {
                url: query.endpoint.base.url(),
                why: format!("a realm that is no URL: {realm:?}"),
            }
        })?;
        if query.endpoint.base.https && uri.scheme_str() != Some("https") {
            let why = format!("a realm without TLS, which gets no credentials: {realm:?}");
            return Err(Error::Protocol { url: query.endpoint.base.url(), why });
        }
        // A form cannot be handed from one thread to another: it is gone before anything is waited for.
        let request = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            if let Some(service) = &service {
                form.append_pair("service", service);
            }
            form.append_pair("scope", &scope);
            let request = Request::builder().header(USER_AGENT, AGENT);
            match query.credential {
                Some(Credential::Identity(token)) => {
                    form.append_pair("grant_type", "refresh_token");
                    form.append_pair("client_id", CLIENT_ID);
                    form.append_pair("refresh_token", token);
                    let body = Full::from(form.finish());
                    let form = "application/x-www-form-urlencoded";
                    request.method(Method::POST).uri(uri).header(CONTENT_TYPE, form).body(body)
                }
                other => {
                    let separator = if realm.contains('?') { '&' } else { '?' };
                    let mut request =
                        request.method(Method::GET).uri(format!("{realm}{separator}{}", form.finish()));
                    if let Some(Credential::Basic { username, password }) = other {
                        request = request.header(AUTHORIZATION, header(basic(username, password))?);
                    }
                    request.body(Full::default())
                }
            }
        };
        let request = request.map_err(|_| denied("the realm makes no request"))?;
        let answer = self.transport.send(&query.endpoint.host.tls, request).await?;
        let status = answer.status();
        let body = read(answer.into_body(), LARGEST_TOKEN).await.unwrap_or_default();
        if status != StatusCode::OK {
            let said = server_message(&body).map(|said| format!(": {said}")).unwrap_or_default();
            if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                let whose = if query.credential.is_some() { "oauth" } else { "anonymous" };
                return Err(denied(&format!(
                    "failed to authorize: failed to fetch {whose} token: unexpected status from request to {realm}: \
                     {status}{said}"
                )));
            }
            return Err(Error::Status { url: realm, status, detail: said });
        }
        let token = Token::parse(&body)
            .ok_or_else(|| Error::Protocol { url: realm, why: "something that is no token".into() })?;
        Ok((header(format!("Bearer {}", token.token))?, token.lifetime))
    }
}

/// The next piece of a body, or that it is broken. Nothing at its end.
pub(crate) async fn next_chunk(body: &mut Incoming) -> std::io::Result<Option<Bytes>> {
    loop {
        let Ok(frame) = tokio::time::timeout(STALLED, body.frame()).await else {
            let why = format!("nothing came for {} s", STALLED.as_secs());
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, error)),
            // Trailers say nothing.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

enum BodyError {
    TooLarge,
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let collected = tokio::time::timeout(STALLED, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::Broken("the answer does not come to an end".into())),
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// Where a redirect leads, seen from where it was.
fn join(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    if location.contains("://") {
        return location.parse().ok().filter(|uri: &Uri| uri.authority().is_some());
    }
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    if let Some(elsewhere) = location.strip_prefix("//") {
        return format!("{scheme}://{elsewhere}").parse().ok();
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let folder = from.path().rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
    format!("{scheme}://{authority}{folder}/{location}").parse().ok()
}

/// What the server says in the form of the distribution specification; only what can be shown.
fn server_message(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        errors: Vec<Line>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let lines = answer.errors.into_iter().map(|line| match (line.code.as_str(), line.message.as_str()) {
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{}: {message}", code.to_lowercase()),
    });
    let text: Vec<String> = lines.chain(answer.details).filter(|line| !line.is_empty()).collect();
    let text: String =
        text.join("; ").chars().filter(|character| !character.is_control()).take(512).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_browsers_would_go() {
        let from: Uri = "https://a.io:1/v2/x/blobs/y?z=1".parse().unwrap();
        for (location, to) in [
            ("https://b.io/q?r#s", Some("https://b.io/q?r")),
            ("//b.io/q", Some("https://b.io/q")),
            ("/q?r", Some("https://a.io:1/q?r")),
            ("q", Some("https://a.io:1/v2/x/blobs/q")),
            ("https://", None),
        ] {
            assert_eq!(join(&from, location).map(|uri| uri.to_string()).as_deref(), to);
        }
    }

    #[test]
    fn what_a_server_says_is_shown_in_one_line() {
        let message = |text: &str| server_message(text.as_bytes());
        assert_eq!(
            message(r#"{"errors":[{"code":"DENIED","message":"no\nway"},{"code":"X"}]}"#).as_deref(),
            Some("denied: noway; X")
        );
        assert_eq!(
            message(r#"{"details":"incorrect username or password"}"#).as_deref(),
            Some("incorrect username or password")
        );
        assert_eq!(message("<html>"), None);
        assert_eq!(message("{}"), None);
    }
}
