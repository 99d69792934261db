//! A registry of the world: Debian's `docker-registry` at the test's address, which goes down and comes back. One with a password
//! serves what was pushed to the one without. Must never be reached from outside of the ground.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::ground::ADDRESS;
use super::images::{Image, MANIFEST, digest};

/// Who may pull where somebody is asked.
pub(crate) const USER: &str = "shipwright";
/// By which password.
pub(crate) const PASSWORD: &str = "timber";
/// The password's hash, as `htpasswd -B` writes it.
const HASH: &str = "$2b$04$NY7SFJmQ5T/bHe0MGVNzyu23Tab9umxKQ9xKiKlcKOdjyIKLApFkK";

/// It ends with its owner.
pub(crate) struct Registry {
    port: u16,
    configuration: PathBuf,
    process: Option<Child>,
}

impl Registry {
    /// Of what is below this directory; with a password, or open to all.
    pub(crate) fn start(directory: &Path, port: u16, asks: bool) -> Self {
        let mut text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{ADDRESS}:{port}'}}\n",
            directory.join("blobs").display()
        );
        if asks {
            let users = directory.join("htpasswd");
            std::fs::write(&users, format!("{USER}:{HASH}\n")).unwrap();
            text += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        }
        let configuration = directory.join(format!("registry-{port}.yml"));
        std::fs::write(&configuration, text).unwrap();
        let mut registry = Self { port, configuration, process: None };
        registry.go_on();
        registry
    }

    /// Serves again what it served before.
    pub(crate) fn go_on(&mut self) {
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&self.configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry (Debian's package of that name)");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let listens = log.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listens, "docker-registry did not begin");
        // Read to its end, which is the process', so that the registry never waits for a reader.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        self.process = Some(process);
    }

    /// Nobody listens any more.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Host and port, as names of images begin.
    pub(crate) fn authority(&self) -> String {
        format!("{ADDRESS}:{}", self.port)
    }

    /// Stores an image; its digest.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        for blob in [&image.layer, &image.config] {
            let (status, location) =
                self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            assert_eq!(status, 202);
            let location = location.expect("where to upload");
            let path = location
                .split_once("://")
                .map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest=sha256:{}", digest(blob));
            assert_eq!(self.request("PUT", &path, "application/octet-stream", blob).0, 201);
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        assert_eq!(self.request("PUT", &path, MANIFEST, &image.manifest).0, 201);
        format!("sha256:{}", digest(&image.manifest))
    }

    /// One request on a connection of its own: the status and `Location`.
    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, Option<String>) {
        let mut connection = TcpStream::connect((ADDRESS, self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\n\r\n",
            self.authority(),
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(body).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        (status, location.map(|location| location.trim().to_owned()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
