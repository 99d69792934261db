//! A Chromium without a window, driven over its DevTools protocol. It ends with its owner. Must never fetch anything by itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The names under which it is installed.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];

/// Waits in the page until `test` answers something, looking whenever the page has changed.
const UNTIL: &str = "window.until ??= (test) => new Promise((resolve) => {
    const look = () => {
        const found = test();
        if (!found) return;
        observer.disconnect();
        removeEventListener('focusin', look);
        resolve(found);
    };
    const observer = new MutationObserver(look);
    const all = { attributes: true, characterData: true, childList: true, subtree: true };
    observer.observe(document, all);
    addEventListener('focusin', look);
    look();
});";

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = PROGRAMS.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    all.into_iter().find(|program| program.is_file())
}

/// Whether there is one; told where everybody sees it when there is not.
pub(super) fn is_here() -> bool {
    let here = program().is_some();
    if !here {
        // Past the test's own captured output.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the status page needs a browser, {} or another Chromium",
            PROGRAMS[0]
        );
    }
    here
}

/// All its processes, and its files.
struct Processes {
    first: Child,
    _profile: tempfile::TempDir,
}

impl Drop for Processes {
    fn drop(&mut self) {
        let group = i32::try_from(self.first.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.first.wait();
    }
}

/// A page of a browser of its own.
pub(super) struct Page {
    socket: WebSocketStream<TcpStream>,
    session: String,
    number: u64,
    /// What the browser told without being asked.
    told: Vec<Value>,
    _processes: Processes,
}

impl Page {
    /// An empty one, in a browser that believes certificates with this public key (SHA-256, base64).
    pub(super) async fn open(believed: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program().unwrap());
        command
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--ignore-certificate-errors-spki-list={believed}"))
            .args(["--headless", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-proxy-server", "about:blank"])
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        let mut first = command.spawn().unwrap();
        let log = BufReader::new(first.stderr.take().unwrap());
        let processes = Processes { first, _profile: profile };
        let (send, address) = tokio::sync::oneshot::channel();
        // Ends when the browser does: its log is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || {
            let mut send = Some(send);
            for line in log.lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("DevTools listening on ")
                    && let Some(send) = send.take()
                {
                    let _ = send.send(url.trim().to_owned());
                }
            }
        });
        let address = tokio::time::timeout(PATIENCE, address).await.expect("the browser starts").unwrap();
        let host = address.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
        let stream = TcpStream::connect(host).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(address, stream).await.unwrap();
        let mut page =
            Self { socket, session: String::new(), number: 0, told: Vec::new(), _processes: processes };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": UNTIL})).await;
        page
    }

    /// Asks the browser for something; its answer.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Value {
        let answered = tokio::time::timeout(PATIENCE, self.call_at_leisure(method, params)).await;
        answered.unwrap_or_else(|_| panic!("{method} is not answered"))
    }

    async fn call_at_leisure(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut request = json!({"id": self.number, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = self.session.as_str().into();
        }
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let message = self.socket.next().await.expect("the browser goes on").unwrap();
            let Message::Text(text) = message else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == self.number {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.told.push(message);
        }
    }

    /// Goes to another page.
    pub(super) async fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.ask("document.readyState === 'complete' || new Promise((loaded) => addEventListener('load', () => loaded(true)))")
            .await;
    }

    /// What an expression answers; promises are waited for.
    pub(super) async fn ask(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let asked = tokio::time::timeout(PATIENCE, self.call_at_leisure("Runtime.evaluate", params)).await;
        let Ok(mut answer) = asked else {
            self.number += 1;
            let seen = json!({"expression": "document.body.innerText", "returnByValue": true});
            let seen = self.call("Runtime.evaluate", seen).await;
            panic!(
                "{expression}\nhas not come about:\n{}",
                seen["result"]["value"].as_str().unwrap_or_default()
            );
        };
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression answers something; what it answered.
    pub(super) async fn until(&mut self, expression: &str) -> Value {
        self.ask(&format!("until(() => ({expression}))")).await
    }

    /// Presses a key as somebody at a keyboard does. Letters have their own names.
    pub(super) async fn press(&mut self, key: &str) {
        let mut down = json!({"type": "keyDown", "key": key});
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            _ => 0,
        };
        if code == 0 {
            down["text"] = key.into();
        } else {
            down["windowsVirtualKeyCode"] = code.into();
            down["code"] = key.into();
            if key == "Enter" {
                down["text"] = "\r".into();
            }
        }
        self.call("Input.dispatchKeyEvent", down.clone()).await;
        down["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", down).await;
    }

    /// Types a text where the focus is.
    pub(super) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Which colours somebody prefers.
    pub(super) async fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// How large the window is.
    pub(super) async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// A picture for whoever looks for an error: `BARQUE_TEST_PICTURES` names a directory for them.
    pub(super) async fn picture(&mut self, name: &str) {
        use base64::Engine as _;
        let Some(directory) = std::env::var_os("BARQUE_TEST_PICTURES") else { return };
        let picture = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(PathBuf::from(directory).join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// What went wrong in the page: faults of its script, what its policy forbade. Requests that fail are told too, and are none.
    pub(super) fn faults(&self) -> Vec<String> {
        let wrong = |told: &&Value| match told["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => {
                ["error", "warning", "assert"].contains(&told["params"]["type"].as_str().unwrap())
            }
            "Log.entryAdded" => {
                let entry = &told["params"]["entry"];
                entry["source"] != "network"
                    && !entry["text"].as_str().unwrap_or_default().contains("WebSocket")
            }
            _ => false,
        };
        self.told.iter().filter(wrong).map(|told| told["params"].to_string()).collect()
    }
}
