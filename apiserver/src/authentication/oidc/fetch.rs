//! Documents of an issuer, read over HTTPS. Must never follow a server elsewhere, believe another certificate than one of its
//! authorities, or read without an end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use rustls::RootCertStore;
use serde_json::Value;

use crate::webhook_client::{Connection, Failure, connect};

/// All of a document is there within this time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// And has at most so many bytes.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// How the server calls itself.
const AGENT: &str = "kube-apiserver-oidc";

/// A JSON document.
///
/// # Errors
/// Why it cannot be had, in a sentence with the address.
pub(super) async fn document(url: &str, roots: Arc<RootCertStore>) -> Result<Value, String> {
    let read = tokio::time::timeout(TIMEOUT, read(url, roots)).await;
    read.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
        .map_err(|why| format!("Get {url:?}: {why}"))
}

async fn read(url: &str, roots: Arc<RootCertStore>) -> Result<Value, String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no URL: {error}"))?;
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("it must be https://host[/path]".to_owned());
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    let stream = connect(host, authority.port_u16().unwrap_or(443), host, roots).await?;
    let mut connection = Connection::open(stream).await?;
    let answered = connection.exchange(request, DOCUMENT_BYTES_MAX).await;
    let (code, body) = answered.map_err(|failure| match failure {
        Failure::Io(why) | Failure::Unsent(_, why) => why,
        Failure::TooLarge => format!("the answer has more than {DOCUMENT_BYTES_MAX} bytes"),
    })?;
    if code != http::StatusCode::OK {
        return Err(format!("the server responded with the status code {}", code.as_u16()));
    }
    serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
}
