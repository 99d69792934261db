//! Watches over WebSockets, as browsers follow them: a message for each event. Must never read ahead of the client, nor outlive
//! it.

use barque_api::status::Status;
use barque_streams::websocket::{self, Socket};
use futures::{SinkExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Response};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use super::answer::{Body, whole};
use super::negotiation::Encoding;
use super::watches::Frames;
use crate::authentication::WEBSOCKET_TOKEN;

/// The answer that begins it; `tasks` own what tells the events.
///
/// # Errors
/// 400 for a WebSocket without a key.
pub fn answer(
    frames: Frames,
    upgrade: OnUpgrade,
    headers: &HeaderMap,
    tasks: &TaskTracker,
) -> Result<Response<Body>, Status> {
    let accepted = websocket::accepted_as(headers, protocol(headers));
    let accepted = accepted.ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => tell(frames, websocket::socket(upgraded).await).await,
            Err(error) => tracing::debug!("a WebSocket did not begin: {error}"),
        }
    });
    Ok(accepted.map(|()| whole("")))
}

/// The first protocol that is offered and no token: a browser that shows one wants to hear another.
fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut names = offered.flat_map(|text| text.split(',')).map(str::trim);
    let name = names.find(|name| !name.is_empty() && !name.starts_with(WEBSOCKET_TOKEN))?;
    HeaderValue::from_str(name).ok()
}

/// Tells events until the watch, the client or the server ends it.
async fn tell(mut frames: Frames, mut socket: Socket) {
    let is_text = frames.encoding() != Encoding::Protobuf;
    loop {
        tokio::select! {
            frame = frames.next() => {
                let Some(frame) = frame else { break };
                let message = match std::str::from_utf8(&frame) {
                    Ok(text) if is_text => Message::text(text),
                    _ => Message::Binary(frame),
                };
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // What clients say is not for us, but for the end; pings are answered while this is read.
            said = socket.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    if let Err(error) = socket.close(None).await {
        tracing::debug!("a WebSocket did not end in order: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_shows_a_token_hears_the_other_protocol() {
        let told = |offered: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
            protocol(&headers).map(|name| name.to_str().unwrap().to_owned())
        };
        let token = "base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(told(&format!("{token}, watch.k8s.io")), Some("watch.k8s.io".into()));
        assert_eq!(told("a,b"), Some("a".into()));
        assert_eq!(told(token), None);
        assert_eq!(protocol(&HeaderMap::new()), None);
    }
}
