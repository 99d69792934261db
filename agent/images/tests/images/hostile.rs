//! A registry that misbehaves as it is told to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::built::{Blob, Built, OCI_MANIFEST};

/// What a client wants.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte that is wanted.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("Range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

/// A server whose every answer is up to a function, which gets the connection too.
pub(crate) struct Hostile {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

type Answer = dyn Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

impl Hostile {
    pub(crate) fn start(
        answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let (seen, stop) = (requests.clone(), stopping.clone());
        let answer: Arc<Answer> = Arc::new(answer);
        let accepting = std::thread::spawn(move || {
            let mut open: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
            for connection in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (seen, answer) = (seen.clone(), answer.clone());
                let mut client = connection.try_clone().unwrap();
                let thread = std::thread::spawn(move || {
                    if let Some(request) = read(&mut client) {
                        seen.lock().unwrap().push(request.clone());
                        // A client that does not listen any more is its own business.
                        let _ = answer(&request, &mut client);
                    }
                    let _ = client.shutdown(Shutdown::Both);
                });
                open.push((connection, thread));
            }
            for (connection, thread) in open {
                let _ = connection.shutdown(Shutdown::Both);
                thread.join().expect("an answer panicked");
            }
        });
        Self { port, requests, stopping, accepting: Some(accepting) }
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Those whose path holds a text.
    pub(crate) fn requests(&self, part: &str) -> Vec<Request> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// One request; nothing for what is none, as the beginning of TLS.
fn read(client: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 || bytes.is_empty() && !byte[0].is_ascii_uppercase() {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut request = Request { method, path, headers, body: String::new() };
    let length = request.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    client.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

/// A whole answer.
pub(crate) fn respond(
    client: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<()> {
    head(client, status, headers, body.len())?;
    client.write_all(body)
}

/// The head of an answer alone, which promises `length` bytes.
pub(crate) fn head(
    client: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    client.write_all(format!("{text}\r\n").as_bytes())
}

/// Answers as a good registry would that has one image; with ranges.
pub(crate) fn serve(request: &Request, client: &mut TcpStream, image: &Built) -> std::io::Result<()> {
    if request.path.contains("/manifests/") {
        return respond(client, "200 OK", &[("Content-Type", OCI_MANIFEST)], &image.manifest.bytes);
    }
    match blob(request, image) {
        Some(blob) if request.from() > 0 => {
            let (from, length) = (request.from(), blob.bytes.len());
            let range = format!("bytes {from}-{}/{length}", length - 1);
            respond(client, "206 Partial Content", &[("Content-Range", &range)], &blob.bytes[from..])
        }
        Some(blob) => respond(client, "200 OK", &[], &blob.bytes),
        None => respond(client, "404 Not Found", &[], b""),
    }
}

/// The blob that is asked for.
pub(crate) fn blob<'a>(request: &Request, image: &'a Built) -> Option<&'a Blob> {
    image.blobs().find(|blob| request.path.contains(blob.digest.as_str()))
}
