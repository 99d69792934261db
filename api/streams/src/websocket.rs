//! WebSockets of clients: which protocol is spoken, the answer that begins one, the messages of what runs in containers, the
//! end. Must never know who asks.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::upgrade::Purpose;

/// The most bytes of a message; Go's clients send 32 KiB at once.
const MOST_BYTES: usize = 1 << 20;
/// A client must have said goodbye within this time.
const GOODBYE: Duration = Duration::from_secs(10);

/// A WebSocket of a client.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What is spoken over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `SPDY/3.1+portforward.k8s.io`: the bytes of SPDY.
    Tunnel,
    /// `v5.channel.k8s.io`: channels, which the client may close.
    V5,
    /// `v4.channel.k8s.io`: channels.
    V4,
    /// `v4.base64.channel.k8s.io`: channels in text.
    Base64V4,
}

impl Protocol {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tunnel => "SPDY/3.1+portforward.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::Base64V4 => "v4.base64.channel.k8s.io",
        }
    }

    /// Those that are taken at the server's end, whatever their order.
    #[must_use]
    pub const fn known_to_servers(purpose: Purpose) -> &'static [Self] {
        match purpose {
            Purpose::Process => &[Self::V5, Self::V4, Self::Base64V4],
            Purpose::Ports => &[Self::Tunnel, Self::V4, Self::Base64V4],
        }
    }

    /// The first one of the client's that can be turned into SPDY.
    #[must_use]
    pub fn chosen(offered: &[&str], ports: bool) -> Option<Self> {
        let known: &[Self] = if ports { &[Self::Tunnel] } else { &[Self::V5, Self::V4, Self::Base64V4] };
        offered.iter().find_map(|name| known.iter().find(|one| one.name() == *name)).copied()
    }
}

/// The head of the answer that begins a WebSocket, with the protocol that was chosen if there is one; nothing for a request
/// without a key.
#[must_use]
pub fn accepted(request: &HeaderMap, protocol: Option<Protocol>) -> Option<Response<()>> {
    accepted_as(request, protocol.map(|protocol| HeaderValue::from_static(protocol.name())))
}

/// The same with a protocol that has no other meaning than that the client wants one: browsers end a WebSocket for which they
/// offered some and got none.
#[must_use]
pub fn accepted_as(request: &HeaderMap, protocol: Option<HeaderValue>) -> Option<Response<()>> {
    let key = request.get(SEC_WEBSOCKET_KEY)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Some(response)
}

/// The server's end of a WebSocket.
pub async fn socket(upgraded: Upgraded) -> Socket {
    over(TokioIo::new(upgraded)).await
}

/// The server's end of a WebSocket over any connection that speaks it from now on.
pub async fn over<IO: AsyncRead + AsyncWrite + Unpin>(connection: IO) -> WebSocketStream<IO> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// Says goodbye and waits for the same: a connection that is closed over unread bytes takes with it what the other side has
/// not read yet. Whoever is gone cannot be told.
pub async fn goodbye<IO: AsyncRead + AsyncWrite + Unpin>(
    mut to: SplitSink<WebSocketStream<IO>, Message>,
    mut from: SplitStream<WebSocketStream<IO>>,
) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let both = async {
        if to.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = from.next().await {}
        }
        let _ = to.close().await;
    };
    let _ = tokio::time::timeout(GOODBYE, both).await;
}

/// Where bytes of a process belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// 0, from the client.
    Stdin,
    /// 1
    Stdout,
    /// 2
    Stderr,
    /// 3: how it ended, as a Status.
    Error,
    /// 4, from the client: the size of the terminal, as JSON.
    Resize,
    /// 255, from the client: the channel with the number that follows gets no more.
    Close,
}

impl Channel {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Error => 3,
            Self::Resize => 4,
            Self::Close => 255,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Error,
            4 => Self::Resize,
            255 => Self::Close,
            _ => return None,
        })
    }
}

/// A message with bytes of a channel.
#[must_use]
pub fn message(protocol: Protocol, channel: Channel, bytes: &[u8]) -> Message {
    numbered(protocol, channel.number(), bytes)
}

/// The bytes of a message and their channel; nothing for one that is neither known nor meant for channels.
#[must_use]
pub fn read(protocol: Protocol, message: Message) -> Option<(Channel, Bytes)> {
    let (number, bytes) = read_numbered(protocol, message)?;
    Some((Channel::of(number)?, bytes))
}

/// A message with bytes of the channel of this number.
#[must_use]
pub fn numbered(protocol: Protocol, number: u8, bytes: &[u8]) -> Message {
    if protocol == Protocol::Base64V4 {
        return Message::text(format!("{number}{}", STANDARD.encode(bytes)));
    }
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(number);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// The bytes of a message and the number of their channel; nothing for one that is not meant for channels.
#[must_use]
pub fn read_numbered(protocol: Protocol, message: Message) -> Option<(u8, Bytes)> {
    match (protocol, message) {
        (Protocol::Base64V4, Message::Text(text)) => {
            let (number, bytes) = text.split_at_checked(1)?;
            let bytes = STANDARD.decode(bytes).ok()?;
            Some((number.parse().ok()?, bytes.into()))
        }
        (Protocol::V4 | Protocol::V5, Message::Binary(mut bytes)) => {
            if bytes.is_empty() {
                return None;
            }
            let number = bytes.split_to(1)[0];
            Some((number, bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_known_protocol_is_spoken() {
        let chosen = |offered: &[&str], ports| Protocol::chosen(offered, ports).map(Protocol::name);
        assert_eq!(chosen(&["v6.channel.k8s.io", "v5.channel.k8s.io"], false), Some("v5.channel.k8s.io"));
        assert_eq!(chosen(&["v4.base64.channel.k8s.io"], false), Some("v4.base64.channel.k8s.io"));
        assert_eq!(chosen(&["SPDY/3.1+portforward.k8s.io"], true), Some("SPDY/3.1+portforward.k8s.io"));
        assert_eq!(chosen(&["SPDY/3.1+portforward.k8s.io"], false), None);
        assert_eq!(chosen(&[], false), None);
    }

    #[test]
    fn messages_begin_with_their_channel() {
        let binary = message(Protocol::V5, Channel::Stdout, b"hi");
        assert_eq!(binary, Message::binary(b"\x01hi".to_vec()));
        let text = message(Protocol::Base64V4, Channel::Error, b"hi");
        assert_eq!(text, Message::text("3aGk="));
        assert_eq!(read(Protocol::V5, Message::binary(vec![255, 0])), Some((Channel::Close, vec![0].into())));
        assert_eq!(read(Protocol::Base64V4, Message::text("0aGk=")), Some((Channel::Stdin, "hi".into())));
        assert_eq!(read(Protocol::V4, Message::binary(vec![])), None);
        assert_eq!(read(Protocol::V4, Message::binary(vec![9, 9])), None);
        assert_eq!(read(Protocol::V4, Message::text("0")), None);
    }

    #[test]
    fn a_websocket_is_accepted_with_its_key() {
        let mut request = HeaderMap::new();
        assert!(accepted(&request, Some(Protocol::V5)).is_none());
        request.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let response = accepted(&request, Some(Protocol::V5)).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
