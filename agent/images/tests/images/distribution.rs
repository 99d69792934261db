//! A real registry: Debian's `docker-registry` on a port of its own, with a directory that goes with it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::built::{Blob, Built, OCI_INDEX, OCI_MANIFEST};

pub(crate) struct Distribution {
    process: Child,
    /// Reads what the registry says, so that it never waits for anybody to.
    reader: Option<JoinHandle<()>>,
    port: u16,
    _directory: tempfile::TempDir,
}

/// What the registry asks for.
#[derive(Default)]
pub(crate) struct Guard<'a> {
    /// A name and a password.
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// Files with the certificate and its key.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
}

impl Distribution {
    pub(crate) fn start() -> Self {
        Self::guarded(&Guard::default())
    }

    pub(crate) fn guarded(guard: &Guard<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = directory.path().join("storage");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http:\n  addr: 127.0.0.1:0\n",
            storage.display()
        );
        if let Some((certificate, key)) = guard.tls {
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", certificate.display(), key.display());
        }
        if let Some((name, password)) = guard.login {
            let users = directory.path().join("htpasswd");
            std::fs::write(&users, format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        }
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry (Debian's package of that name)");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        // Ends with the process, if that fails.
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, after) = line.split_once("listening on 127.0.0.1:")?;
            after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        });
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let port = port.expect("the port of docker-registry");
        Self { process, reader: Some(reader), port, _directory: directory }
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stores an image under a name with a tag.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Built) {
        self.push_untagged(repository, image);
        self.push_manifest(repository, tag, &image.manifest, OCI_MANIFEST);
    }

    pub(crate) fn push_untagged(&self, repository: &str, image: &Built) {
        for blob in image.blobs() {
            let (status, location) =
                self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            assert_eq!(status, 202);
            let location = location.expect("where to upload");
            let path = location
                .split_once("://")
                .map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={}", blob.digest);
            assert_eq!(self.request("PUT", &path, "application/octet-stream", &blob.bytes).0, 201);
        }
        let digest = image.manifest.digest.to_string();
        self.push_manifest(repository, &digest, &image.manifest, OCI_MANIFEST);
    }

    pub(crate) fn push_index(&self, repository: &str, tag: &str, index: &Blob) {
        self.push_manifest(repository, tag, index, OCI_INDEX);
    }

    fn push_manifest(&self, repository: &str, name: &str, manifest: &Blob, media_type: &str) {
        let path = format!("/v2/{repository}/manifests/{name}");
        assert_eq!(self.request("PUT", &path, media_type, &manifest.bytes).0, 201);
    }

    /// One request on a connection of its own: the status and `Location`.
    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, Option<String>) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
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

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
