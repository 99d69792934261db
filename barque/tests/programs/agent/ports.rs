//! Forwarded ports: pairs of streams of SPDY, each a connection to a port of a pod. Must never reach anything but scripts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use barque_streams::spdy::headers::value;
use barque_streams::spdy::session::{Accepted, Role, Session, Writer};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Command;

use super::process::{Sink, Source, feed, relay};

/// Serves the ports of a pod on a connection, until it ends.
pub(super) async fn forward<IO: AsyncRead + AsyncWrite>(connection: IO, directory: PathBuf, pod: String) {
    let (session, mut accepted, driving) = Session::start(connection, Role::Server);
    let serving = async {
        let mut errors: HashMap<String, Writer> = HashMap::new();
        let mut running = FuturesUnordered::new();
        loop {
            let stream = tokio::select! {
                Some(stream) = accepted.recv() => stream,
                Some(()) = running.next() => continue,
                else => return,
            };
            let request = value(&stream.headers, "requestid").unwrap().to_owned();
            if value(&stream.headers, "streamtype") == Some("error") {
                errors.insert(request, stream.writer);
            } else {
                // Clients open the one for errors first.
                let error = errors.remove(&request).unwrap();
                running.push(connect(stream, error, &directory, &pod));
            }
        }
    };
    tokio::select! {
        () = serving => {}
        _ = driving => {}
    }
    drop(session);
}

/// One connection.
async fn connect(stream: Accepted, error: Writer, directory: &Path, pod: &str) {
    let Accepted { headers, reader, writer } = stream;
    let port = value(&headers, "port").unwrap();
    let script = directory.join(format!("port-{port}"));
    // Whatever is sent from here on, the client may be gone.
    if !script.exists() {
        let why = format!("error forwarding port {port} to pod {pod}, uid : connection refused");
        let _ = error.write(why.into()).await;
        let _ = error.finish().await;
        let _ = writer.finish().await;
        return;
    }
    let mut child = Command::new("sh")
        .arg(script)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let fed = feed(Some(Source::Spdy(reader)), child.stdin.take());
    let said = relay(child.stdout.take(), Some(Sink::Spdy(writer)));
    let (mut fed, mut said) = (std::pin::pin!(fed), std::pin::pin!(said));
    tokio::select! {
        () = &mut said => {}
        () = &mut fed => said.await,
    }
    let _ = error.finish().await;
}
