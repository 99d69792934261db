//! Bytes inside of the messages of a WebSocket, as SPDY comes through proxies that know no other upgrade. Must never look at
//! them, nor keep more than one buffer for each direction.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::activity::Activity;
use crate::websocket::goodbye;

const BUFFER: usize = 32 << 10;

/// Gives the bytes of a tunnel to somebody and back, until one side ends or nothing moves for `silence`.
pub async fn carry<C, A>(client: WebSocketStream<C>, agent: A, silence: Duration)
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite,
{
    let activity = Activity::now();
    let (mut to_client, mut from_client) = client.split();
    let (mut from_agent, mut to_agent) = tokio::io::split(agent);
    let outward = async {
        while let Some(Ok(message)) = from_client.next().await {
            activity.moves();
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return,
                _ => continue,
            };
            if to_agent.write_all(&bytes).await.is_err() || to_agent.flush().await.is_err() {
                return;
            }
        }
    };
    let inward = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            match from_agent.read(&mut buffer).await {
                Ok(read @ 1..) => {
                    activity.moves();
                    let message = Message::Binary(Bytes::copy_from_slice(&buffer[..read]));
                    if to_client.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(0) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
        () = activity.silent_for(silence) => {}
    }
    // It may be gone.
    let _ = to_agent.shutdown().await;
    goodbye(to_client, from_client).await;
}
