//! A cluster for tests: one member of the store, and API servers over it, as programs of their own on loopback.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod kubectls;

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::certificates::Certificates;

/// How long a program may take to say that it serves.
const START: Duration = Duration::from_secs(60);

/// Times of the election by which a leader that was killed does not cost much time.
pub(crate) const ELECTION: [&str; 3] = [
    "--leader-elect-lease-duration=4s",
    "--leader-elect-renew-deadline=3s",
    "--leader-elect-retry-period=1s",
];

/// A program that ends with its owner.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

/// Starts a program and waits until a line of its log has this text; that line is the answer. `BARQUE_TEST_LOGS` names a
/// directory in which whole logs are kept, for who looks for an error.
pub(crate) fn start(words: &[String], ready: &str) -> (Program, String) {
    start_with(&[], words, ready)
}

/// The same with variables of its environment.
pub(crate) fn start_with(
    environment: &[(String, String)],
    words: &[String],
    ready: &str,
) -> (Program, String) {
    start_by(Command::new(env!("CARGO_BIN_EXE_barque")), environment, words, ready)
}

/// The same by a command that ends in starting the program.
pub(crate) fn start_by(
    mut command: Command,
    environment: &[(String, String)],
    words: &[String],
    ready: &str,
) -> (Program, String) {
    let child = command
        .args(words)
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let log = child.stderr.take().unwrap();
    let program = Program(child);
    let (send, lines) = mpsc::channel();
    // Ends when the program does: its log is read to the end, so that it never waits for a reader.
    let mut kept = std::env::var_os("BARQUE_TEST_LOGS").map(|directory| {
        let name = words.first().map(String::as_str).unwrap_or_default();
        let path = Path::new(&directory).join(format!("{name}-{}.log", program.pid()));
        std::fs::File::create(path).unwrap()
    });
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(kept) = &mut kept {
                let _ = writeln!(kept, "{line}");
            }
            let _ = send.send(line);
        }
    });
    let mut told = String::new();
    loop {
        match lines.recv_timeout(START) {
            Ok(line) if line.contains(ready) => return (program, line),
            Ok(line) => {
                told.push_str(&line);
                told.push('\n');
            }
            Err(error) => panic!("{words:?} does not serve: {error}\n{told}"),
        }
    }
}

/// What a log line says behind `name=`.
pub(crate) fn said<'a>(line: &'a str, name: &str) -> &'a str {
    let from = line.find(&format!("{name}=")).unwrap_or_else(|| panic!("{line}")) + name.len() + 1;
    line[from..].split_whitespace().next().unwrap().trim_matches('"')
}

/// Starts a store of one member with this data; its URL.
pub(crate) fn start_store(data: &Path) -> (Program, String) {
    let words = [
        "store".to_owned(),
        format!("--data-dir={}", data.display()),
        // The system chooses the port; what is advertised nobody asks for.
        "--listen-client-urls=http://127.0.0.1:0".to_owned(),
        "--advertise-client-urls=http://localhost:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--initial-advertise-peer-urls=http://localhost:2380".to_owned(),
    ];
    let (member, line) = start(&words, "serving clients");
    let url = format!("http://{}", said(&line, "address"));
    (member, url)
}

/// One store and some servers.
pub(crate) struct Cluster {
    /// What belongs to it; goes with it.
    pub(crate) directory: tempfile::TempDir,
    /// Where its servers listen.
    pub(crate) servers: Vec<SocketAddr>,
    /// Where its store listens.
    pub(crate) store: String,
    member: Program,
    programs: Vec<Option<Program>>,
    /// Who signs whom.
    pub(crate) certificates: Certificates,
}

impl Cluster {
    /// With so many API servers.
    pub(crate) fn start(servers: usize) -> Self {
        Self::with(servers, |_| Vec::new())
    }

    /// With so many API servers that have more flags; these may name files in the directory.
    pub(crate) fn with(servers: usize, flags: impl Fn(&Path) -> Vec<String>) -> Self {
        Self::at("127.0.0.1", servers, flags)
    }

    /// The same with servers at this address.
    pub(crate) fn at(address: &str, servers: usize, flags: impl Fn(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (member, store) = start_store(&directory.path().join("store"));
        Self::over(directory, member, store, address, servers, flags)
    }

    /// The same over a store that was started before.
    pub(crate) fn over(
        directory: tempfile::TempDir,
        member: Program,
        store: String,
        address: &str,
        servers: usize,
        flags: impl Fn(&Path) -> Vec<String>,
    ) -> Self {
        let certificates = Certificates::of(directory.path(), address);
        let mut cluster =
            Self { directory, servers: Vec::new(), store, member, programs: Vec::new(), certificates };
        for server in 0..servers {
            let mut all = vec!["apiserver".to_owned(), "--secure-port=0".to_owned()];
            all.push(format!("--bind-address={address}"));
            all.push(format!("--etcd-servers={}", cluster.store));
            all.extend(cluster.certificates.server_flags());
            all.extend(flags(cluster.directory.path()));
            let (program, line) = start(&all, "serving address=");
            cluster.programs.push(Some(program));
            cluster.servers.push(said(&line, "address").parse().unwrap());
            cluster.write_kubeconfig(server);
        }
        cluster
    }

    /// Ends everything; its directory.
    pub(crate) fn into_directory(self) -> tempfile::TempDir {
        self.directory
    }

    /// The process of a server.
    pub(crate) fn pid(&self, server: usize) -> u32 {
        self.programs[server].as_ref().unwrap().pid()
    }

    /// The process of the store.
    pub(crate) fn store_pid(&self) -> u32 {
        self.member.pid()
    }

    /// Asks a server to stop, and waits until it has.
    pub(crate) fn stop(&mut self, server: usize) -> Option<i32> {
        self.programs[server].take().unwrap().stop()
    }

    /// Ends a server at once, as a broken machine would.
    pub(crate) fn end(&mut self, server: usize) {
        self.programs[server] = None;
    }

    /// A kubeconfig of the administrator for one of the servers.
    pub(crate) fn kubeconfig(&self, server: usize) -> PathBuf {
        self.directory.path().join(format!("kubeconfig-{server}"))
    }

    /// Once, before anybody reads it: while it is written again it is empty for who reads it then.
    fn write_kubeconfig(&self, server: usize) {
        let (certificate, key) = &self.certificates.admin;
        self.write_kubeconfig_of(&self.kubeconfig(server), server, certificate, key);
    }

    /// A kubeconfig of somebody else, for the first server.
    pub(crate) fn kubeconfig_of(&self, name: &str, certificate: &Path, key: &Path) -> PathBuf {
        let path = self.directory.path().join(format!("kubeconfig-of-{name}"));
        self.write_kubeconfig_of(&path, 0, certificate, key);
        path
    }

    fn write_kubeconfig_of(&self, path: &Path, server: usize, certificate: &Path, key: &Path) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{client-certificate: {}, client-key: {}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.servers[server],
            self.certificates.ca.display(),
            certificate.display(),
            key.display()
        );
        std::fs::write(path, text).unwrap();
    }

    /// Waits until servers say that they are ready.
    pub(crate) async fn wait_until_ready(&self, first: &kube::Client, second: &kube::Client) {
        for client in [first, second] {
            let deadline = std::time::Instant::now() + START;
            loop {
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                match client.request_text(request).await {
                    Ok(_) => break,
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
                }
            }
        }
    }

    /// Waits until every server says that it is ready.
    pub(crate) fn ready(&self, kubectl: &Path) {
        for server in 0..self.servers.len() {
            let deadline = std::time::Instant::now() + START;
            loop {
                let asked = Command::new(kubectl)
                    .arg("--kubeconfig")
                    .arg(self.kubeconfig(server))
                    .args(["get", "--raw", "/readyz"])
                    .output()
                    .unwrap();
                if asked.status.success() {
                    break;
                }
                let why = String::from_utf8_lossy(&asked.stderr).into_owned();
                assert!(std::time::Instant::now() < deadline, "server {server} is not ready: {why}");
            }
        }
    }
}
