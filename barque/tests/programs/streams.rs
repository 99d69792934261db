//! Streams of real kubectl when something goes wrong: servers that end, agents and servers that are strangers. What goes right
//! is in `kubectl/streams.session`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use crate::agent::Agent;
use crate::certificates::Certificates;
use crate::cluster::Cluster;
use crate::cluster::kubectls::{Kubectl, kubectls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// A kubectl that speaks to one of the servers.
fn kubectl(kubectl: &Kubectl, cluster: &Cluster, server: usize) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(&kubectl.program)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", cluster.directory.path())
        .env("KUBECONFIG", cluster.kubeconfig(server));
    command
}

fn done(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A node with this agent, and a pod of the same name that runs there.
fn node(cli: &Kubectl, cluster: &Cluster, name: &str, agent: &Agent) {
    let port = agent.address.port();
    let node = format!(
        r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{name}"}}, "status": {{
            "addresses": [{{"type": "InternalIP", "address": "127.0.0.1"}}],
            "daemonEndpoints": {{"kubeletEndpoint": {{"Port": {port}}}}}}}}}"#
    );
    let pod = format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "streams"}},
            "spec": {{"nodeName": "{name}", "containers": [{{"name": "c", "image": "i"}}]}}}}"#
    );
    let status = format!("/api/v1/nodes/{name}/status");
    for (words, input) in [
        (vec!["create", "-f", "-"], &node),
        (vec!["replace", "--raw", &status, "-f", "-"], &node),
        (vec!["create", "-f", "-"], &pod),
    ] {
        let output = done(kubectl(cli, cluster, 0).args(&words), input);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    std::fs::create_dir_all(cluster.directory.path().join("node").join(name).join("c")).unwrap();
}

fn start(cli: &Kubectl) -> Cluster {
    let cluster = Cluster::start(2);
    cluster.ready(&cli.program);
    for words in [vec!["create", "namespace", "streams"], vec!["-n", "streams", "create", "sa", "default"]] {
        let output = done(kubectl(cli, &cluster, 0).args(&words), "");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    cluster
}

/// A command in a pod that gives back each line that it reads, and holds a pipe open while it runs.
struct Echo {
    client: Child,
    said: BufReader<ChildStdout>,
    pipe: std::path::PathBuf,
}

impl Echo {
    fn start(cli: &Kubectl, cluster: &Cluster, server: usize, pod: &str) -> Self {
        let pipe = cluster.directory.path().join(format!("alive-{pod}-{server}"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // To read and write: opening it waits for nobody.
        let script = format!("exec 9<> '{}'; echo runs; exec cat", pipe.display());
        let mut client = kubectl(cli, cluster, server)
            .args(["-n", "streams", "exec", "-i", pod, "--", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(client.stdout.take().unwrap());
        let mut echo = Self { client, said, pipe };
        assert_eq!(echo.line(), "runs\n");
        echo
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }

    fn says(&mut self, words: &str) -> String {
        self.client.stdin.as_mut().unwrap().write_all(words.as_bytes()).unwrap();
        self.line()
    }
}

#[test]
fn a_server_that_ends_takes_its_own_streams_with_it_and_no_others() {
    for cli in kubectls() {
        let mut cluster = start(&cli);
        let directory = cluster.directory.path().to_owned();
        let agents =
            [false, true].map(|websockets| Agent::start(&directory, &cluster.certificates, websockets));
        for (name, agent) in ["old", "new"].iter().zip(&agents) {
            node(&cli, &cluster, name, agent);
        }
        let mut first = ["old", "new"].map(|pod| Echo::start(&cli, &cluster, 0, pod));
        let mut second = ["old", "new"].map(|pod| Echo::start(&cli, &cluster, 1, pod));
        for echo in first.iter_mut().chain(&mut second) {
            assert_eq!(echo.says("before\n"), "before\n");
        }
        // The process holds its pipe open for writing until it ends.
        let alive = first.each_ref().map(|echo| std::fs::File::open(&echo.pipe).unwrap());
        cluster.end(0);
        for (echo, mut alive) in first.iter_mut().zip(alive) {
            // With SPDY kubectl takes a broken connection for an end that was meant.
            assert_eq!(echo.line(), "");
            echo.client.wait().unwrap();
            assert_eq!(alive.read(&mut [0]).unwrap(), 0, "what ran for the client has ended");
        }
        for echo in &mut second {
            assert_eq!(echo.says("after\n"), "after\n");
            drop(echo.client.stdin.take());
            assert!(echo.client.wait().unwrap().success());
        }
    }
}

#[test]
fn an_agent_whose_certificate_somebody_else_signed_is_told_nothing() {
    for cli in kubectls() {
        let cluster = start(&cli);
        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = Agent::start(cluster.directory.path(), &Certificates::write(elsewhere.path()), true);
        node(&cli, &cluster, "strange", &stranger);
        let log = cluster.directory.path().join("node/strange/c/log");
        std::fs::write(&log, "2026-01-01T00:00:00Z secret\n").unwrap();
        let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        for words in [
            vec!["-n", "streams", "logs", "strange"],
            vec!["-n", "streams", "exec", "strange", "--", "echo", "secret"],
            vec!["get", "--raw", "/api/v1/nodes/strange/proxy/secret"],
        ] {
            let output = done(kubectl(&cli, &cluster, 1).args(&words), "");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{words:?}: {told}");
            assert!(told.contains(unknown), "{words:?}: {told}");
            assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
        }
        // Without a look at its certificate it is the stranger who does not know this server.
        let words = ["-n", "streams", "logs", "strange", "--insecure-skip-tls-verify-backend"];
        let output = done(kubectl(&cli, &cluster, 1).args(words), "");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !told.contains("x509"), "{told}");
    }
}

#[test]
fn an_agent_speaks_to_nobody_who_shows_no_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(directory.path());
    let agent = Agent::start(directory.path(), &certificates, true);
    let answer = ask(&agent, &certificates.ca);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// Asks an agent for a log without a certificate.
fn ask(agent: &Agent, ca: &Path) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = std::net::TcpStream::connect(agent.address).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let request = "GET /containerLogs/streams/p/c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // The end may come without TLS's goodbye.
    let _ = stream.read_to_string(&mut answer);
    answer
}
