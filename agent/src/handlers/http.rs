//! One page of a container, asked for as the kubelet does. Must never verify a certificate: those of containers are their own,
//! and nothing is told to them.

use core::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use barque_unverified_tls::Unverified;
use http::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{authority, beside, host, port, tcp};

/// Followed so often, as Go's client.
const REDIRECTS: usize = 10;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    secure: bool,
    host: String,
    port: u16,
    path: String,
    headers: HeaderMap,
}

impl Request {
    /// The page that a probe or a hook names.
    ///
    /// # Errors
    /// When there is no such port, or a header cannot be sent.
    pub fn new(action: &HTTPGetAction, container: &Container, address: IpAddr) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for header in action.http_headers.iter().flatten() {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&header.value)) else {
                return Err(format!("invalid header {:?}", header.name));
            };
            headers.append(name, value);
        }
        // An empty one is not sent at all, as with the kubelet.
        for (name, value) in [(USER_AGENT, "kube-probe/1.37"), (ACCEPT, "*/*")] {
            match headers.get(&name) {
                Some(own) if own.is_empty() => {
                    headers.remove(&name);
                }
                Some(_) => {}
                None => {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
        }
        let path = action.path.as_deref().unwrap_or_default();
        Ok(Self {
            secure: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: host(action.host.as_deref(), address),
            port: port(&action.port, container)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers,
        })
    }

    fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// Where a redirection leads; nothing when it leaves the host, which is not followed.
    fn redirected(&self, location: &str) -> Option<Self> {
        let uri: Uri = location.parse().ok()?;
        let mut to = self.clone();
        to.path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        if let Some(host) = uri.host() {
            if host.trim_matches(['[', ']']) != self.host {
                return None;
            }
            to.secure = uri.scheme_str() == Some("https");
            to.port = uri.port_u16().unwrap_or(if to.secure { 443 } else { 80 });
        } else if !location.starts_with('/') {
            let directory = self.path.split('?').next().unwrap_or_default();
            let directory = directory.rsplit_once('/').map_or("", |(directory, _)| directory);
            to.path = format!("{directory}/{location}");
        }
        Some(to)
    }
}

/// Asks, and follows where it is sent on the same host.
///
/// # Errors
/// When there is no answer in time, or one that is not good.
pub(super) async fn get(request: &Request, patience: Duration) -> Result<(), String> {
    let mut request = request.clone();
    let first = request.url();
    let ask = async {
        for _ in 0..REDIRECTS {
            let (status, location) = once(&request).await?;
            let next = location.filter(|_| status.is_redirection());
            match next.and_then(|location| request.redirected(&location)) {
                Some(next) => request = next,
                None if (200..400).contains(&status.as_u16()) => return Ok(()),
                None => return Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
            }
        }
        Err(format!("Get {first:?}: stopped after {REDIRECTS} redirects"))
    };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    timeout(patience, ask).await.unwrap_or_else(|_| Err(format!("Get {first:?}: {late}")))
}

/// The status, and where it sends to.
async fn once(request: &Request) -> Result<(StatusCode, Option<String>), String> {
    let url = request.url();
    let told = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");
    // The whole of it has a time-out.
    let stream = tcp::dial(&request.host, request.port, Duration::MAX).await.map_err(|error| told(&error))?;
    if request.secure {
        let name = ServerName::try_from(request.host.clone()).map_err(|error| told(&error))?;
        let stream = TlsConnector::from(trusting()).connect(name, stream).await;
        exchange(request, stream.map_err(|error| told(&error))?).await.map_err(|error| told(&error))
    } else {
        exchange(request, stream).await.map_err(|error| told(&error))
    }
}

async fn exchange(
    request: &Request,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(StatusCode, Option<String>), hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut asked = hyper::Request::new(Empty::<Bytes>::new());
    // It was checked to begin with a slash; what else is wrong with it, the other side says.
    *asked.uri_mut() = request.path.parse().unwrap_or_default();
    *asked.headers_mut() = request.headers.clone();
    if !asked.headers().contains_key(HOST) {
        let text = authority(&request.host, request.port);
        if let Ok(value) = HeaderValue::from_str(&text) {
            asked.headers_mut().insert(HOST, value);
        }
    }
    let answer = beside(sender.send_request(asked), connection).await?;
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    Ok((answer.status(), location.map(str::to_owned)))
}

/// TLS that takes any certificate, as the kubelet does for probes.
fn trusting() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let any = Arc::new(Unverified::new(&provider));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions of TLS")
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        Arc::new(config)
    });
    config.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn request(action: Value) -> Request {
        let action: HTTPGetAction = serde_json::from_value(action).unwrap();
        Request::new(&action, &Container::default(), IpAddr::from([127, 0, 0, 1])).unwrap()
    }

    #[test]
    fn where_a_redirection_leads() {
        let from = request(json!({"port": 8080, "path": "/a/b?c"}));
        let to = |location: &str| from.redirected(location).map(|to| to.url());
        assert_eq!(to("/x?y=1").unwrap(), "http://127.0.0.1:8080/x?y=1");
        assert_eq!(to("https://127.0.0.1:9/z").unwrap(), "https://127.0.0.1:9/z");
        assert_eq!(to("http://127.0.0.1/z").unwrap(), "http://127.0.0.1:80/z");
        assert_eq!(to("http://example.com/z"), None, "another host is not asked");
    }

    #[test]
    fn headers_are_those_of_the_probe_and_the_kubelets_own() {
        let plain = request(json!({"port": 1}));
        assert_eq!(plain.headers[USER_AGENT], "kube-probe/1.37");
        let own = json!([{"name": "User-Agent", "value": ""}, {"name": "Host", "value": "web"}]);
        let own = request(json!({"port": 1, "httpHeaders": own}));
        assert_eq!((own.headers.get(USER_AGENT), own.headers[HOST].to_str().unwrap()), (None, "web"));
    }

    /// Serves one page after another, as told; what was asked.
    async fn serve(pages: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut asked = Vec::new();
            for page in pages {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                asked.push(String::from_utf8_lossy(&head[..read]).lines().next().unwrap().to_owned());
                stream.write_all(page.as_bytes()).await.unwrap();
            }
            asked
        });
        (port, served)
    }

    #[tokio::test]
    async fn answers_are_good_or_told() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (port, asked) = serve(vec![
            "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 301 Moved\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
        ])
        .await;
        let page = request(json!({"port": port, "path": "a"}));
        assert_eq!(get(&page, PATIENCE).await, Ok(()));
        assert_eq!(get(&page, PATIENCE).await, Err("HTTP probe failed with statuscode: 503".into()));
        assert_eq!(get(&page, PATIENCE).await, Ok(()), "what leads elsewhere is an answer");
        let asked = asked.await.unwrap();
        assert_eq!(asked, ["GET /a HTTP/1.1", "GET /b HTTP/1.1", "GET /a HTTP/1.1", "GET /a HTTP/1.1"]);
        let refused = get(&page, PATIENCE).await.unwrap_err();
        let expected = format!(
            "Get \"http://127.0.0.1:{port}/a\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        );
        assert_eq!(refused, expected);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let late = get(&request(json!({"port": port})), Duration::from_millis(50)).await.unwrap_err();
        assert!(late.contains("Client.Timeout exceeded while awaiting headers"), "{late}");
    }
}
