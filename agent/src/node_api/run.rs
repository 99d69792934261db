//! Exec, attach and port-forward: the streams of a client and those of what runs, joined. Must never outlive either of them.

use barque_streams::outcome::Outcome;
use barque_streams::ports::Forward;
use barque_streams::process::{Sizes, Streams, TerminalSize};
use futures::future::OptionFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::containers::{BoxConnection, Process, RunError};

/// What something is for a client who waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With what it runs: its exit code is told.
    WithCode,
    /// With the streams: how a container ended stands in the status of its pod.
    WithStreams,
}

/// Joins a client with a process that is about to run. `doing` says what was tried, for people.
pub(crate) async fn join(
    streams: Streams,
    started: impl Future<Output = Result<Process, RunError>>,
    ends: Ends,
    doing: &str,
) {
    let Streams { stdin, stdout, stderr, sizes, end } = streams;
    let failed = |error: &RunError| Outcome::Failed(format!("error {doing}: {error}"));
    let process = match started.await {
        Ok(process) => process,
        Err(error) => {
            for output in [stdout, stderr].into_iter().flatten() {
                output.finish().await;
            }
            end.tell(&failed(&error)).await;
            return;
        }
    };
    let inputs = async {
        let fed = OptionFuture::from(stdin.zip(process.stdin).map(|(from, to)| from.pour_into(to)));
        let sized = OptionFuture::from(sizes.zip(process.resize).map(|(from, to)| resize(from, to)));
        tokio::join!(fed, sized);
        // What it says to the end is what counts.
        std::future::pending::<()>().await;
    };
    let outputs = async {
        let said = OptionFuture::from(stdout.zip(process.stdout).map(|(to, from)| to.fill_from(from)));
        let warned = OptionFuture::from(stderr.zip(process.stderr).map(|(to, from)| to.fill_from(from)));
        tokio::join!(said, warned, process.exit).2
    };
    let outcome = tokio::select! {
        () = inputs => return,
        exit = outputs => match exit {
            Ok(0) => Outcome::Success,
            Ok(_) if ends == Ends::WithStreams => Outcome::Success,
            Ok(code) => Outcome::Exit(code),
            Err(error) => failed(&error),
        },
    };
    end.tell(&outcome).await;
}

async fn resize(mut from: Sizes, to: mpsc::Sender<TerminalSize>) {
    while let Some(size) = from.next().await {
        if to.send(size).await.is_err() {
            return;
        }
    }
}

/// Joins a client with a port. The pod may send after the client has ended; once the pod has ended, clients wait for the end
/// of everything.
pub(crate) async fn forward(
    forward: Forward,
    connected: impl Future<Output = Result<BoxConnection, RunError>>,
    pod: &str,
) {
    let Forward { port, input, output, error, reset } = forward;
    let copying = async {
        match connected.await {
            Ok(connection) => {
                let (from, mut to) = tokio::io::split(connection);
                let outward = async {
                    input.pour_into(&mut to).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = output.fill_from(from) => {}
                    () = outward => {}
                }
            }
            Err(why) => {
                let sentence = format!("error forwarding port {port} to pod {pod}: {why}");
                // A client that is gone is told nothing.
                let _ = error.write(sentence.into()).await;
                output.finish().await;
            }
        }
        error.finish().await;
    };
    // A client that wants no more sends no end.
    reset.run_until_cancelled(copying).await;
}

/// Runs something to its end and collects what it says, at most so many bytes.
pub(crate) async fn collect(process: Process, most: usize) -> Result<(Vec<u8>, i32), RunError> {
    let (said, mut collected) = mpsc::channel::<Vec<u8>>(4);
    let relay = async |from: Option<super::containers::BoxRead>, said: mpsc::Sender<Vec<u8>>| {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 8 << 10];
        while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await {
            if said.send(buffer[..read].to_vec()).await.is_err() {
                return;
            }
        }
    };
    if let Some(mut stdin) = process.stdin {
        // It reads nothing.
        let _ = stdin.shutdown().await;
    }
    let collecting = async {
        let mut all = Vec::new();
        while let Some(bytes) = collected.recv().await {
            let room = most.saturating_sub(all.len()).min(bytes.len());
            all.extend_from_slice(&bytes[..room]);
        }
        all
    };
    let ((), (), all, exit) = tokio::join!(
        relay(process.stdout, said.clone()),
        relay(process.stderr, said),
        collecting,
        process.exit
    );
    Ok((all, exit?))
}
