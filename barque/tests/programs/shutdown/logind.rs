//! A bus of the test's own with systemd-logind and systemd on it, as far as an agent asks them: shutdowns are told when the test
//! says so. Must never say that somebody holds a shutdown up who does not.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedFd;
use zbus::{Connection, connection, fdo, interface};

const PATIENCE: Duration = Duration::from_secs(60);
const PATH: &str = "/org/freedesktop/login1";

/// Who holds a shutdown up: what was said, and an end that tells when it is let go.
pub(crate) struct Held {
    pub(crate) words: [String; 4],
    end: pipe::Receiver,
}

impl Held {
    /// Whether somebody still does.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.end.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits until nobody does any more.
    pub(crate) async fn released(mut self) {
        let read = timeout(PATIENCE, self.end.read(&mut [0])).await;
        assert_eq!(read.expect("it is let go").unwrap(), 0);
    }
}

struct State {
    delay: Duration,
    is_preparing: bool,
}

/// `org.freedesktop.login1.Manager`.
struct Manager {
    state: Arc<Mutex<State>>,
    held: mpsc::UnboundedSender<Held>,
}

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    async fn inhibit(&self, what: String, who: String, why: String, mode: String) -> fdo::Result<OwnedFd> {
        if self.state.lock().unwrap().is_preparing {
            return Err(fdo::Error::Failed("the operation is already running".to_owned()));
        }
        let (sender, end) = pipe::pipe().unwrap();
        self.held.send(Held { words: [what, who, why, mode], end }).unwrap();
        Ok(sender.into_blocking_fd().unwrap().into())
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn delay(&self) -> u64 {
        self.state.lock().unwrap().delay.as_micros().try_into().unwrap()
    }

    #[zbus(property, name = "PreparingForShutdown")]
    fn is_preparing(&self) -> bool {
        self.state.lock().unwrap().is_preparing
    }

    #[zbus(signal, name = "PrepareForShutdown")]
    async fn prepare(emitter: &SignalEmitter<'_>, begins: bool) -> zbus::Result<()>;
}

/// `org.freedesktop.systemd1.Manager`, which has logind read its files.
struct Systemd {
    state: Arc<Mutex<State>>,
    directory: PathBuf,
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    fn kill_unit(&self, unit: &str, who: &str, signal: i32) {
        assert_eq!((unit, who, signal), ("systemd-logind.service", "all", 1));
        let texts = std::fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        for text in texts {
            let line = text.lines().find_map(|line| line.strip_prefix("InhibitDelayMaxSec="));
            assert!(text.contains("[Login]\n"), "{text}");
            self.state.lock().unwrap().delay = Duration::from_secs(line.unwrap().parse().unwrap());
        }
    }
}

/// The bus and who is on it; ends with its owner.
pub(crate) struct Logind {
    bus: Child,
    /// Where an agent finds it.
    pub(crate) address: String,
    /// Where logind finds its configuration.
    pub(crate) directory: PathBuf,
    connection: Connection,
    state: Arc<Mutex<State>>,
    held: mpsc::UnboundedReceiver<Held>,
}

impl Drop for Logind {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

impl Logind {
    /// With files in this directory; a shutdown is held up for so long.
    pub(crate) async fn start(scratch: &Path, delay: Duration) -> Self {
        let config = scratch.join("bus.conf");
        let socket = scratch.join("bus");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context='default'><allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy>\
             </busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();

        let state = Arc::new(Mutex::new(State { delay, is_preparing: false }));
        let (sender, held) = mpsc::unbounded_channel();
        let directory = scratch.join("logind.conf.d");
        let manager = Manager { state: state.clone(), held: sender };
        let systemd = Systemd { state: state.clone(), directory: directory.clone() };
        let connection = connection::Builder::address(address.as_str())
            .unwrap()
            .serve_at(PATH, manager)
            .unwrap()
            .serve_at("/org/freedesktop/systemd1", systemd)
            .unwrap()
            .name("org.freedesktop.login1")
            .unwrap()
            .name("org.freedesktop.systemd1")
            .unwrap()
            .build()
            .await
            .unwrap();
        Self { bus, address, directory, connection, state, held }
    }

    /// The next who holds up a shutdown.
    pub(crate) async fn held(&mut self) -> Held {
        timeout(PATIENCE, self.held.recv()).await.expect("somebody holds a shutdown up").unwrap()
    }

    /// The machine begins to shut down, or does not after all.
    pub(crate) async fn prepare(&self, begins: bool) {
        self.state.lock().unwrap().is_preparing = begins;
        let emitter = SignalEmitter::new(&self.connection, PATH).unwrap();
        Manager::prepare(&emitter, begins).await.unwrap();
    }
}
