//! Masters that are one process each: a cluster begins, others join it, they are killed, replaced and turned away. On loopback
//! addresses, with a hollow node.

mod manifests;
mod rotation;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::{Program, start, start_with};
use barque_client::servers::{Servers, Source, connect};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::json;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Masters below a directory, at addresses of one network of the loopback.
struct Masters {
    directory: tempfile::TempDir,
    network: u8,
    running: BTreeMap<u8, Program>,
}

impl Masters {
    fn new(network: u8) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), network, running: BTreeMap::new() }
    }

    fn place(&self, master: u8) -> PathBuf {
        self.directory.path().join(format!("m{master}"))
    }

    fn url(&self, master: u8) -> String {
        format!("https://127.78.{}.{master}:6443", self.network)
    }

    fn words(&self, master: u8, place: &Path) -> Vec<String> {
        vec![
            "server".to_owned(),
            format!("--name=m{master}"),
            format!("--data-dir={}", place.display()),
            format!("--advertise-address=127.78.{}.{master}", self.network),
            "--node-failover=fast".to_owned(),
        ]
    }

    fn joining(&self, master: u8, by: u8, token: &Path) -> Vec<String> {
        let mut words = self.words(master, &self.place(master));
        words.push(format!("--join={}", self.url(by)));
        words.push(format!("--token-file={}", token.display()));
        words
    }

    fn token(&self, master: u8) -> PathBuf {
        self.place(master).join("token")
    }

    fn start(&mut self, master: u8, words: &[String]) {
        let (program, _) = start(words, "the master is ready");
        self.running.insert(master, program);
    }

    /// Ends one at once, as a machine that loses power.
    fn kill(&mut self, master: u8) {
        drop(self.running.remove(&master).unwrap());
    }

    async fn client(&self, master: u8) -> Client {
        let source = Source::Kubeconfig(self.place(master).join("admin.kubeconfig"));
        connect(Servers { source, urls: Vec::new() }).await.unwrap()
    }
}

/// Runs words that must be refused; the sentence.
fn refused(words: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_barque")).args(words).env_clear().output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    told.lines().last().unwrap_or_default().to_owned()
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

async fn names(client: &Client) -> Vec<String> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

/// Writes until it is taken; what fails may have been taken as well.
async fn write(client: &Client, name: &str) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match maps.create(&PostParams::default(), &map(name)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => return,
            Err(error) => assert!(Instant::now() < deadline, "{name}: {error}"),
        }
    }
}

async fn becomes<K>(api: Api<K>, name: &str, what: &str, is: impl Fn(&K) -> bool)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let waiting = await_condition(api, name, |object: Option<&K>| object.is_some_and(&is));
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name}: {what}")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_join_die_and_are_replaced_and_nothing_is_lost() {
    let mut masters = Masters::new(1);
    // A machine joins as soon as there is an API, which is before the cluster has what it is joined by.
    let (first, _) = start(&masters.words(1, &masters.place(1)), "serving address=");
    masters.running.insert(1, first);
    let agent = [
        "agent".to_owned(),
        format!("--join={}", masters.url(1)),
        format!("--token-file={}", masters.place(1).join("node-token").display()),
        "--hostname-override=n1".to_owned(),
        "--node-ip=127.78.1.11".to_owned(),
        "--runtime=hollow".to_owned(),
        "--healthz-port=0".to_owned(),
        format!("--root-dir={}", masters.directory.path().join("n1").display()),
    ];
    // It knows one master, and learns of the others when they come.
    let (node, _) = start(&agent, "keeping nodes");
    for master in [2, 3] {
        masters.start(master, &masters.joining(master, 1, &masters.token(1)));
    }
    let (first, third) = (masters.client(1).await, masters.client(3).await);
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.clone().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    becomes(Api::all(third.clone()), "n1", "it is ready", ready).await;
    let pod = |name: &str| {
        let spec = serde_json::json!({"containers": [{"name": "c", "image": "i"}]});
        serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    };
    let pods: Api<Pod> = Api::default_namespaced(third.clone());
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
    becomes(pods.clone(), "p", "scheduler, controllers and agent may what they must", runs).await;
    manifests::come(&masters, &third).await;

    // The founder goes, with its disk.
    write(&first, "before").await;
    masters.kill(1);
    let kept_token = masters.directory.path().join("kept-token");
    std::fs::copy(masters.token(1), &kept_token).unwrap();
    std::fs::remove_dir_all(masters.place(1)).unwrap();
    for count in 0..20 {
        write(&third, &format!("without-{count}")).await;
    }
    pods.create(&PostParams::default(), &pod("without-first")).await.unwrap();
    becomes(pods.clone(), "without-first", "the node does not need the master that it joined by", runs).await;
    manifests::come_without_the_first(&masters, &third).await;
    masters.start(1, &masters.joining(1, 2, &kept_token));
    let again = masters.client(1).await;
    let all = names(&again).await;
    assert!(all.iter().any(|name| name == "before"));
    assert_eq!(all.iter().filter(|name| name.starts_with("without-")).count(), 20);
    manifests::change_elsewhere(&masters, &third).await;

    // Another one goes and comes back as it was; who joined does not join again.
    masters.kill(2);
    manifests::remove_while_it_is_down(&masters);
    write(&third, "meanwhile").await;
    masters.start(2, &masters.joining(2, 1, Path::new("/nowhere")).replaced("--token-file", &kept_token));
    assert!(names(&masters.client(2).await).await.iter().any(|name| name == "meanwhile"));
    manifests::gone(&masters, &third).await;

    // Without a majority nothing is written, which a look at the last one tells, and their return heals.
    masters.kill(1);
    masters.kill(2);
    let (code, found) = doctor(&masters.place(3));
    assert_eq!(code, Some(1));
    let quorum = found["quorum"]["found"].as_str().unwrap();
    assert!(quorum.starts_with("1 of 3 members answers, and 2 are needed to write"), "{quorum}");
    assert!(
        quorum.contains("m1 (Connection refused") && quorum.contains("m2 (Connection refused"),
        "{quorum}"
    );
    assert_eq!(found["certificates"]["result"], "ok");
    let maps: Api<ConfigMap> = Api::default_namespaced(third.clone());
    let alone = maps.create(&PostParams::default(), &map("alone")).await;
    assert!(alone.is_err(), "{alone:?}");
    let words = [masters.joining(1, 3, &kept_token), masters.joining(2, 3, &kept_token)];
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| start(&words[0], "the master is ready"));
        let two = scope.spawn(|| start(&words[1], "the master is ready"));
        (one.join().unwrap().0, two.join().unwrap().0)
    });
    masters.running.extend([(1, one), (2, two)]);
    write(&third, "together").await;
    assert!(pods.get("p").await.unwrap().status.unwrap().container_statuses.unwrap()[0].restart_count == 0);

    // The node leaves: by its own rights all but its object, and what would be lost only when that is said.
    let root_dir = format!("--root-dir={}", masters.directory.path().join("n1").display());
    let leave = ["agent", "leave", "--keep-state", &root_dir].map(str::to_owned);
    let refusal = refused(&leave);
    assert!(
        refusal.contains("default/p, default/without-first: nothing makes these pods again"),
        "{refusal}"
    );
    let left = said(&[&leave[..], &["--force".to_owned(), "--grace-period=0".to_owned()]].concat());
    assert!(left.contains("pod default/p has gone") && left.contains("kubectl delete node n1"), "{left}");
    assert!(pods.get_opt("p").await.unwrap().is_none());
    let nodes: Api<Node> = Api::all(third.clone());
    assert_eq!(nodes.get("n1").await.unwrap().spec.unwrap().unschedulable, Some(true));
    assert_eq!(node.stop(), Some(0));
    let administrator = format!("--kubeconfig={}", masters.place(3).join("admin.kubeconfig").display());
    let left = said(&[&leave[..], &[administrator]].concat());
    assert!(left.contains("n1 is no node any more"), "{left}");
    assert!(nodes.get_opt("n1").await.unwrap().is_none());
    for (_, master) in std::mem::take(&mut masters.running) {
        assert_eq!(master.stop(), Some(0));
    }
}

/// Runs words that must succeed; what they printed.
fn said(words: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_barque")).args(words).env_clear().output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same on a master.
fn told(words: &[&str], place: &Path) -> String {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.push(format!("--data-dir={}", place.display()));
    said(&words)
}

/// What `barque uninstall` says that must not be done; a node is looked for where none is.
fn not_uninstalled(masters: &Masters, master: u8) -> String {
    let nowhere = masters.directory.path().join("nowhere");
    let mut words = vec!["uninstall".to_owned(), "--yes".to_owned()];
    words.push(format!("--data-dir={}", masters.place(master).display()));
    words.extend(["root-dir", "run-dir"].map(|flag| format!("--{flag}={}", nowhere.display())));
    refused(&words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_look_hand_out_and_take_back() {
    let mut masters = Masters::new(3);
    // Who starts it, as systemd does, is told when it serves and when it ends.
    let socket = masters.directory.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    let environment = [("NOTIFY_SOCKET".to_owned(), socket.display().to_string())];
    let (first, _) = start_with(&environment, &masters.words(1, &masters.place(1)), "the master is ready");
    masters.running.insert(1, first);
    let state = || {
        let mut text = [0; 64];
        let size = notified.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..size]).into_owned()
    };
    assert_eq!(state(), "READY=1");
    let place = masters.place(1);
    // A token for masters lets one join until it is revoked.
    let token = masters.directory.path().join("made-token");
    std::fs::write(&token, told(&["token", "create", "--master", "--description=third"], &place)).unwrap();
    let mut joining = masters.joining(2, 1, &token);
    joining.push("--without=controllers,scheduler".to_owned());
    masters.start(2, &joining);
    let metrics = async |master: u8, part: &str| {
        let request = http::Request::get(format!("/metrics/{part}")).body(Vec::new()).unwrap();
        masters.client(master).await.request_text(request).await
    };
    for (part, runs) in [("store", true), ("controllers", false), ("scheduler", false)] {
        assert!(metrics(1, part).await.is_ok(), "{part} of m1");
        assert_eq!(metrics(2, part).await.is_ok(), runs, "{part} of m2");
    }
    let listed = told(&["token", "list"], &masters.place(2));
    assert!(listed.lines().any(|line| line.contains("master  in 2") && line.ends_with("third")), "{listed}");
    let whole = std::fs::read_to_string(&token).unwrap();
    told(&["token", "revoke", whole.trim()], &place);
    let refusal = refused(&masters.joining(3, 1, &token));
    assert!(refusal.contains("--token is not one for masters, or is not good any more"), "{refusal}");

    let status = told(&["status"], &place);
    assert!(status.contains("leader") && status.contains("follower"), "{status}");
    let status: serde_json::Value = serde_json::from_str(&told(&["status", "-o=json"], &place)).unwrap();
    assert_eq!(status["masters"]["m2"]["api"]["ready"], true);

    // Any master tells of the members of all.
    let request = http::Request::get("/ui/masters").body(Vec::new()).unwrap();
    let told_of = masters.client(2).await.request::<serde_json::Value>(request).await.unwrap();
    let members = told_of["members"].as_array().unwrap();
    let states: Vec<_> = members.iter().map(|member| &member["state"]).collect();
    let one_leads = [["leader", "follower"], ["follower", "leader"]].map(|both| json!(both));
    assert!(one_leads.contains(&json!(states)), "{told_of}");
    assert_eq!((&members[0]["name"], &members[1]["name"]), (&json!("m1"), &json!("m2")));

    diagnosed(&masters).await;

    // A user may what roles say, and is who the certificate says.
    let kubeconfig = masters.directory.path().join("jane");
    std::fs::write(&kubeconfig, told(&["kubeconfig", "--user=jane", "--group=devs"], &place)).unwrap();
    let source = Source::Kubeconfig(kubeconfig);
    let jane = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    let error = Api::<Pod>::default_namespaced(jane).list(&ListParams::default()).await.unwrap_err();
    assert!(error.to_string().contains("User \"jane\" cannot list resource \"pods\""), "{error}");

    // A certificate that is made anew is shown without a restart, and the master goes on.
    let before = std::fs::read(place.join("pki/apiserver.crt")).unwrap();
    told(&["certs", "renew"], &place);
    assert_ne!(std::fs::read(place.join("pki/apiserver.crt")).unwrap(), before);
    let certificates = told(&["certs", "list"], &place);
    assert!(
        certificates.contains("system:kube-scheduler") && certificates.contains("364 d"),
        "{certificates}"
    );
    write(&masters.client(1).await, "after").await;

    let refusal = not_uninstalled(&masters, 2);
    assert!(refusal.contains("one of the 2 of its cluster: `barque server leave`"), "{refusal}");

    // One that leaves is none any more, and the other one goes on alone.
    let told_of_it = told(&["server", "leave"], &masters.place(2));
    assert!(told_of_it.contains("m2 is no master any more"), "{told_of_it}");
    masters.kill(2);
    write(&masters.client(1).await, "alone").await;
    let status = told(&["status"], &place);
    assert!(!status.contains("m2"), "{status}");
    let output = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(["server", "leave"])
        .arg(format!("--data-dir={}", place.display()))
        .output();
    let refusal = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(refusal.contains("is the only master"), "{refusal}");
    let refusal = not_uninstalled(&masters, 1);
    assert!(refusal.contains("the only master of its cluster"), "{refusal}");
    assert_eq!(masters.running.remove(&1).unwrap().stop(), Some(0));
    assert_eq!(state(), "STOPPING=1");
    let refusal = not_uninstalled(&masters, 1);
    assert!(refusal.contains("nobody says whether this master is still part of a cluster"), "{refusal}");
}

#[test]
fn units_are_what_systemd_reads_and_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let root = format!("--root={}", directory.path().display());
    let install = |service: &str, flags: &[&str]| {
        let words = [&["service", "install", service, &root, "--"], flags].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refusal = refused(&install("server", &["--no-such-flag"]));
    assert!(refusal.contains("--no-such-flag") && refusal.contains("barque server --help"), "{refusal}");
    let joins = ["--join=https://10.0.0.1:6443", "--token", "planted-4f7a91"];
    said(&install("server", &joins));
    said(&install("agent", &["--node-labels=a=b c%d"]));
    let environment = directory.path().join("etc/barque/barque-server.env");
    assert_eq!(std::fs::read_to_string(&environment).unwrap(), "BARQUE_SERVER_TOKEN=planted-4f7a91\n");
    assert_eq!(std::fs::metadata(&environment).unwrap().permissions().mode() & 0o777, 0o600);
    for unit in ["barque-server.service", "barque-agent.service"] {
        let path = directory.path().join("etc/systemd/system").join(unit);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("planted"), "{text}");
        match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && !told.contains(unit), "{told}");
            }
            Err(error) => eprintln!("skipped: systemd-analyze is not on this machine: {error}"),
        }
    }
}

#[test]
fn shells_and_manuals_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completion".to_owned(), shell.to_owned()]);
        for word in ["doctor", "support-bundle", "node-failover"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    said(&["man".to_owned(), directory.path().display().to_string()]);
    for page in ["barque.1", "barque-server.1", "barque-agent-leave.1"] {
        assert!(directory.path().join(page).exists(), "{page}");
    }
}

/// What `barque doctor` finds, by what it looked at.
fn doctor(place: &Path) -> (Option<i32>, BTreeMap<String, serde_json::Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(["doctor", "-o=json"])
        .arg(format!("--data-dir={}", place.display()))
        .env_clear()
        .output()
        .unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = all.into_iter().map(|it| (it["check"].as_str().unwrap().to_owned(), it)).collect();
    (output.status.code(), findings)
}

/// A bundle's files by their names, without its folder.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().components().skip(1).collect::<PathBuf>().display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        files.insert(name, text);
    }
    files
}

/// Two masters that run are found to be well, and what is told of them elsewhere holds no secret.
async fn diagnosed(masters: &Masters) {
    let place = masters.place(1);
    let (_, found) = doctor(&place);
    let result = |check: &str| found[check]["result"].as_str().unwrap().to_owned();
    for check in ["store alarms", "store size", "clocks", "certificates"] {
        assert_eq!(result(check), "ok", "{}", found[check]);
    }
    // A server on a machine that has much else to do may not be ready at this moment.
    let servers = found["API servers"]["found"].as_str().unwrap();
    assert!(servers.contains("of 2 ready"), "{servers}");
    assert!(
        found.contains_key("versions") && found.contains_key("nodes") && found.contains_key("disk space")
    );
    assert_eq!(result("quorum"), "warning");
    assert!(found["quorum"]["found"].as_str().unwrap().starts_with("2 of 2 members answer"), "{found:?}");
    assert!(found["path MTU"]["found"].as_str().unwrap().contains("m2 (127.78.3.2)"), "{found:?}");
    assert!(["ok", "warning", "failed"].contains(&result("disk sync").as_str()), "it was measured");

    const PLANTED: &str = "planted-4f7a91";
    let client = masters.client(1).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = serde_json::json!({"metadata": {"name": "planted"}, "data": {"k": PLANTED}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secret = serde_json::json!({"metadata": {"name": "planted"}, "stringData": {"k": PLANTED}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = serde_json::json!({
        "metadata": {"name": "planted", "annotations": {"last-applied": PLANTED}},
        "spec": {"containers": [{
            "name": "c", "image": "i", "args": [PLANTED], "env": [{"name": "A", "value": PLANTED}]
        }]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();

    let path = masters.directory.path().join("bundle.tar.gz");
    let output = format!("--output={}", path.display());
    let listed = told(&["support-bundle", &output], &place);
    assert!(listed.contains("objects/pods.json") && listed.contains("network/"), "{listed}");
    let files = unpacked(&path);
    let pods = &files["objects/pods.json"];
    assert!(pods.contains("\"planted\"") && pods.contains("\"image\": \"i\""), "{pods}");
    assert!(files["store/metrics.txt"].contains("etcd_server_has_leader 1"), "{}", files["errors.txt"]);
    assert!(files["api/metrics.txt"].contains("apiserver_request_total"), "{}", files["errors.txt"]);
    assert!(files["doctor.json"].contains("\"quorum\"") && files["status.json"].contains("\"leader\""));
    let read = |file: &str| std::fs::read_to_string(place.join(file)).unwrap();
    let mut secrets = vec![PLANTED.to_owned(), "PRIVATE KEY".to_owned(), "LS0tLS1CRUdJTi".to_owned()];
    for token in ["token", "node-token"] {
        secrets.push(read(token).trim().rsplit('.').next().unwrap().to_owned());
    }
    for key in ["pki/ca.key", "pki/store/ca.key", "pki/sa.key", "pki/admin.key"] {
        secrets.extend(read(key).lines().filter(|line| line.len() > 40).map(str::to_owned));
    }
    assert!(secrets.len() > 8, "keys have lines");
    for (name, text) in &files {
        let leaked = secrets.iter().find(|secret| text.contains(secret.as_str()));
        assert_eq!(leaked, None, "{name}");
    }
    let again = refused(&["support-bundle".to_owned(), output, format!("--data-dir={}", place.display())]);
    assert!(again.contains("the file is there already"), "{again}");
}

/// Words with another value of a flag.
trait Replaced {
    fn replaced(self, flag: &str, value: &Path) -> Self;
}

impl Replaced for Vec<String> {
    fn replaced(mut self, flag: &str, value: &Path) -> Self {
        self.retain(|word| !word.starts_with(flag));
        self.push(format!("{flag}={}", value.display()));
        self
    }
}

#[test]
fn who_may_not_join_is_told_why() {
    let mut masters = Masters::new(2);
    masters.start(1, &masters.words(1, &masters.place(1)));
    let node_token = masters.place(1).join("node-token");

    let told = refused(&masters.joining(2, 1, &node_token));
    assert!(told.contains("--token is not one for masters"), "{told}");

    let other = masters.directory.path().join("other-token");
    let text = std::fs::read_to_string(masters.token(1)).unwrap();
    let pin = text.split('.').next().unwrap();
    std::fs::write(&other, text.replace(pin, &format!("barque1{}", "0".repeat(64)))).unwrap();
    let told = refused(&masters.joining(2, 1, &other));
    assert!(told.contains("shows the authority of another cluster"), "{told}");

    let words = masters.joining(1, 1, &masters.token(1)).replaced("--data-dir", &masters.place(9));
    let told = refused(&words);
    assert!(told.contains("answers already"), "{told}");

    let elsewhere = format!("--data-dir={}", masters.place(7).display());
    let told = refused(&["doctor".to_owned(), elsewhere]);
    assert!(told.contains("there is no master in it"), "{told}");

    let told = refused(&masters.joining(2, 9, &masters.token(1)));
    assert!(told.contains("--join=") && told.contains("Connection refused"), "{told}");

    let mut words = masters.words(3, &masters.place(3));
    words.push("--store-arg=quota-backend-byte=1".to_owned());
    let told = refused(&words);
    assert!(told.contains("--store-arg: unexpected argument '--quota-backend-byte'"), "{told}");

    // A part that cannot start ends the others, and says why.
    let taken = std::net::TcpListener::bind("127.78.2.8:6443").unwrap();
    let told = refused(&masters.words(8, &masters.place(8)));
    assert!(told.contains("cannot listen on 127.78.2.8:6443"), "{told}");
    drop(taken);

    // A master whose store is gone does not begin another cluster under the same name.
    masters.kill(1);
    std::fs::remove_dir_all(masters.place(1).join("store")).unwrap();
    let told = refused(&masters.words(1, &masters.place(1)));
    assert!(told.contains("the store's data is gone"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_store_is_lost_comes_back_from_a_snapshot() {
    let mut masters = Masters::new(4);
    let place = masters.place(1);
    masters.start(1, &masters.words(1, &place));
    let client = masters.client(1).await;
    write(&client, "saved").await;
    let snapshot = masters.directory.path().join("snapshot");
    let saved = Command::new(Path::new(env!("CARGO_BIN_EXE_barque")).with_file_name("kvctl"))
        .args([
            "--endpoints=https://127.78.4.1:2379",
            "--cacert=ca.crt",
            "--cert=client.crt",
            "--key=client.key",
        ])
        .args(["snapshot", "save"])
        .arg(&snapshot)
        .current_dir(place.join("pki/store"))
        .output()
        .unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    write(&client, "later").await;
    let mut restoring = masters.words(1, &place);
    restoring.push(format!("--restore={}", snapshot.display()));
    masters.kill(1);
    let told = refused(&restoring);
    assert!(told.contains("which is not overwritten"), "{told}");

    std::fs::remove_dir_all(place.join("store")).unwrap();
    let mut wrong = restoring.clone();
    wrong.push("--restore=/nowhere".to_owned());
    let told = refused(&wrong);
    assert!(told.contains("/nowhere"), "{told}");
    masters.start(1, &restoring);
    // As before with what it was believed by.
    let all = names(&client).await;
    assert!(all.iter().any(|name| name == "saved") && !all.iter().any(|name| name == "later"), "{all:?}");
    masters.start(2, &masters.joining(2, 1, &masters.token(1)));
    write(&client, "afterwards").await;
    masters.kill(2);
    masters.kill(1);
    // It has begun with it, and goes on from there.
    let (one, two) = (restoring, masters.joining(2, 1, &masters.token(1)));
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| start(&one, "the master is ready"));
        let two = scope.spawn(|| start(&two, "the master is ready"));
        (one.join().unwrap().0, two.join().unwrap().0)
    });
    masters.running.extend([(1, one), (2, two)]);
    assert!(names(&client).await.iter().any(|name| name == "afterwards"));

    // What was saved of a cluster with other networks is not taken for one with these.
    let mut other = masters.words(3, &masters.place(3));
    other.extend([format!("--restore={}", snapshot.display()), "--cluster-cidr=10.200.0.0/16".to_owned()]);
    let told = refused(&other);
    assert!(told.contains("begin with --cluster-cidr=10.244.0.0/16"), "{told}");
}
