//! Asks a member's `/health`, by a plain HTTP/1.0 request, whose answer is never cut into chunks.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer over HTTP.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// `GET path` from whoever listens on `port` of this machine.
pub async fn http_get(port: u16, path: &str) -> io::Result<HttpAnswer> {
    get("127.0.0.1", port, path).await
}

async fn get(host: &str, port: u16, path: &str) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP status in `{head}`")))?;
    Ok(HttpAnswer { status, body: body.to_owned() })
}

/// `Ok` when the member has a leader and answers a linearizable read.
pub(super) async fn healthy(host: &str, port: u16) -> Result<(), String> {
    let answer = get(host, port, "/health").await.map_err(|why| why.to_string())?;
    let body = answer.body.replace(' ', "");
    if answer.status == 200 && body.contains("\"health\":\"true\"") { Ok(()) } else { Err(answer.body) }
}
