//! What stands between the browser and the servers: it passes bytes on, can be cut, and can lead to another server. Must never read
//! what it passes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A port that leads to a server. What it passes ends with it.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    to: Arc<watch::Sender<(Option<SocketAddr>, CancellationToken)>>,
    _stop: DropGuard,
}

impl Relay {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let to = Arc::new(watch::Sender::new((Some(server), stop.child_token())));
        let (leads, tasks) = (to.subscribe(), TaskTracker::new());
        let ends = stop.clone();
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = ends.run_until_cancelled(listener.accept()).await {
                let (server, cut) = leads.borrow().clone();
                let Some(server) = server else { continue };
                tasks.spawn(cut.run_until_cancelled_owned(pass(client, server)));
            }
            tasks.close();
            tasks.wait().await;
        });
        Self { address, to, _stop: stop.drop_guard() }
    }

    /// Ends every connection, and takes none until it leads somewhere again.
    pub(super) fn cut(&self) {
        let (_, passing) = self.to.send_replace((None, CancellationToken::new()));
        passing.cancel();
    }

    /// New connections lead there.
    pub(super) fn lead_to(&self, server: SocketAddr) {
        self.to.send_replace((Some(server), CancellationToken::new()));
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Either end may break whenever it likes.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
