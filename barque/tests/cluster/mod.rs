//! A cluster for tests: one member of the store, and API servers over it, as programs of their own on loopback.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::certificates::Certificates;

/// How long a program may take to say that it serves.
const START: Duration = Duration::from_secs(60);

/// A program that ends with its owner.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program and waits until a line of its log has this text; that line is the answer.
pub(crate) fn start(words: &[String], ready: &str) -> (Program, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let log = child.stderr.take().unwrap();
    let program = Program(child);
    let (send, lines) = mpsc::channel();
    // Ends when the program does: its log is read to the end, so that it never waits for a reader.
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
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

/// One store and some servers.
pub(crate) struct Cluster {
    /// What belongs to it; goes with it.
    pub(crate) directory: tempfile::TempDir,
    /// Where its servers listen.
    pub(crate) servers: Vec<SocketAddr>,
    member: Program,
    programs: Vec<Option<Program>>,
    /// Who signs whom.
    pub(crate) certificates: Certificates,
}

impl Cluster {
    /// With so many API servers.
    pub(crate) fn start(servers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(directory.path());
        // A port that was free a moment ago: the member must know the address by which clients reach it.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let store = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let data = directory.path().join("store").display().to_string();
        let (member, _) = start(
            &words(&[
                "store",
                &format!("--data-dir={data}"),
                &format!("--listen-client-urls={store}"),
                &format!("--advertise-client-urls={store}"),
                "--listen-peer-urls=http://127.0.0.1:0",
                "--initial-advertise-peer-urls=http://localhost:2380",
            ]),
            "serving clients",
        );
        let mut cluster = Self { directory, servers: Vec::new(), member, programs: Vec::new(), certificates };
        for _ in 0..servers {
            let mut flags = words(&["apiserver", "--bind-address=127.0.0.1", "--secure-port=0"]);
            flags.push(format!("--etcd-servers={store}"));
            flags.extend(cluster.certificates.server_flags());
            let (program, line) = start(&flags, "serving address=");
            cluster.programs.push(Some(program));
            cluster.servers.push(said(&line, "address").parse().unwrap());
        }
        cluster
    }

    /// The process of a server.
    pub(crate) fn pid(&self, server: usize) -> u32 {
        self.programs[server].as_ref().unwrap().0.id()
    }

    /// Ends a server at once, as a broken machine would.
    pub(crate) fn end(&mut self, server: usize) {
        self.programs[server] = None;
    }

    /// A kubeconfig of the administrator for one of the servers.
    pub(crate) fn kubeconfig(&self, server: usize) -> PathBuf {
        let path = self.directory.path().join(format!("kubeconfig-{server}"));
        let ca = self.certificates.ca.display();
        let (cert, key) = &self.certificates.admin;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: {ca}}}}}]\n\
             users: [{{name: admin, user: {{client-certificate: {}, client-key: {}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: admin}}}}]\n",
            self.servers[server],
            cert.display(),
            key.display()
        );
        std::fs::write(&path, text).unwrap();
        path
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
