//! Whether somebody listens. Must never send a byte.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority;

/// Connects.
///
/// # Errors
/// As Go says it.
pub(super) async fn dial(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let authority = authority(host, port);
    match timeout(patience, TcpStream::connect(&authority)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {authority}: connect: {}", in_words(&error))),
        Err(_) => Err(format!("dial tcp {authority}: i/o timeout")),
    }
}

/// What the system said, without its number.
pub(super) fn in_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
