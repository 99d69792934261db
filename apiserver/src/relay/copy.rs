//! Copies bytes between two connections until one of them ends. Must never keep more than one buffer for each direction.

use std::io;
use std::time::Duration;

use barque_streams::activity::Activity;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const BUFFER: usize = 32 << 10;

/// Copies both ways. Ends when one side ends, breaks, or nothing moves for `silence`; then both are closed.
pub async fn both_ways<A, B>(a: A, b: B, silence: Duration)
where
    A: AsyncRead + AsyncWrite + Send,
    B: AsyncRead + AsyncWrite + Send,
{
    let activity = Activity::now();
    let (mut from_a, mut to_a) = tokio::io::split(a);
    let (mut from_b, mut to_b) = tokio::io::split(b);
    let ended = tokio::select! {
        ended = one_way(&mut from_a, &mut to_b, &activity) => ended,
        ended = one_way(&mut from_b, &mut to_a, &activity) => ended,
        () = activity.silent_for(silence) => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = ended {
        tracing::debug!("a stream broke off: {error}");
    }
    // Whoever is gone cannot be told.
    let _ = tokio::join!(to_a.shutdown(), to_b.shutdown());
}

async fn one_way<R, W>(from: &mut R, to: &mut W, activity: &Activity) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        activity.moves();
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        activity.moves();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_until_one_side_ends() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut server, b) = tokio::io::duplex(64);
        let copying = tokio::spawn(both_ways(a, b, Duration::from_secs(3600)));
        client.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&four, rest.as_slice()), (b"ping", b"pong".as_slice()));
        copying.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut server, b) = tokio::io::duplex(64);
        let began = Instant::now();
        let copying = tokio::spawn(both_ways(a, b, Duration::from_secs(10)));
        tokio::time::sleep(Duration::from_secs(6)).await;
        client.write_all(b"x").await.unwrap();
        let mut one = [0; 1];
        server.read_exact(&mut one).await.unwrap();
        copying.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 16);
        assert_eq!(client.read(&mut one).await.unwrap(), 0);
    }
}
