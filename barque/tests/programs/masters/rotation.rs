//! The authorities of a cluster are exchanged while it runs: with a master that is away, a client that writes all the time, and a node.

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::CancellationToken;

use super::*;

/// A kubeconfig that is said to speak to another server.
async fn config(kubeconfig: Kubeconfig, url: &str) -> Config {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.cluster_url = url.parse().unwrap();
    config
}

/// So often: members have something else to do.
const PACE: Duration = Duration::from_millis(100);

/// Writes until it is told to stop, each time over a new connection; none of it may fail. How often.
async fn write_on(path: PathBuf, url: String, name: &'static str, stop: CancellationToken) -> usize {
    let mut count = 0;
    let mut pace = tokio::time::interval(PACE);
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        let client = Client::try_from(config(Kubeconfig::read_from(&path).unwrap(), &url).await).unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let written = maps.create(&PostParams::default(), &map(&format!("{name}-{count}"))).await;
        written.unwrap_or_else(|error| panic!("{name}-{count}: {error:?}"));
        count += 1;
    }
    count
}

/// `barque certs rotate-ca`: how it ended, and what it found.
fn rotate(place: &Path, words: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(["certs", "rotate-ca", "-o=json"])
        .args(words)
        .arg(format!("--data-dir={}", place.display()))
        .env_clear()
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output.status.code(), found)
}

/// Who lacks what.
fn behind(found: &serde_json::Value) -> Vec<(String, String)> {
    let members = found["members"].as_array().unwrap().iter();
    let lacking = members.filter_map(|one| Some((one["name"].as_str()?, one.get("lacks")?.as_str()?)));
    lacking.map(|(name, lacks)| (name.to_owned(), lacks.to_owned())).collect()
}

fn agent(masters: &Masters, node: u8, by: u8) -> Vec<String> {
    vec![
        "agent".to_owned(),
        format!("--join={}", masters.url(by)),
        format!("--token-file={}", masters.place(by).join("node-token").display()),
        format!("--hostname-override=n{node}"),
        format!("--node-ip=127.78.{}.1{node}", masters.network),
        "--runtime=hollow".to_owned(),
        "--healthz-port=0".to_owned(),
        format!("--root-dir={}", masters.directory.path().join(format!("n{node}")).display()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_exchanged_while_a_client_writes_and_a_master_is_away() {
    let mut masters = Masters::new(5);
    masters.start(1, &masters.words(1, &masters.place(1)));
    let (_node, _) = start(&agent(&masters, 1, 1), "keeping nodes");
    for master in [2, 3] {
        masters.start(master, &masters.joining(master, 1, &masters.token(1)));
    }
    let place = masters.place(1);
    let read = |file: &str| std::fs::read_to_string(place.join(file)).unwrap();
    let (old_authority, old_token) = (read("pki/ca.crt"), masters.directory.path().join("old-token"));
    let old = masters.directory.path().join("old.kubeconfig");
    std::fs::copy(place.join("admin.kubeconfig"), &old).unwrap();
    std::fs::copy(masters.token(1), &old_token).unwrap();
    let ready = |node: &Node| node.annotations().contains_key("barque.dev/authorities");
    becomes(Api::all(masters.client(2).await), "n1", "it says whom it trusts", ready).await;
    assert_eq!(
        rotate(&place, &["--status"]),
        (Some(0), json!({"phase": null, "ready": true, "members": []}))
    );

    let refused_rotation = |word: &str| {
        let words = ["certs", "rotate-ca", "--finish", word].map(str::to_owned);
        refused(&[&words[..], &[format!("--data-dir={}", place.display())]].concat())
    };
    let told = refused_rotation("--timeout=1m");
    assert!(told.contains("--finish: no rotation of authorities has begun"), "{told}");

    let says = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data.contains_key("m3"));
    let said: Api<ConfigMap> = Api::namespaced(masters.client(1).await, "kube-system");
    becomes(said, "barque-trust-masters", "the third says whom it trusts", says).await;

    // One that is away is waited for, and nobody goes on without it unless that is said.
    masters.kill(3);
    write(&masters.client(1).await, "two-of-three").await;
    let first_stop = CancellationToken::new();
    let first = tokio::spawn(write_on(old.clone(), masters.url(1), "before", first_stop.clone()));
    let (code, found) = rotate(&place, &["--timeout=0s"]);
    assert_eq!((code, &found["phase"]), (Some(1), &json!("trust")));
    assert!(behind(&found).contains(&("m3".to_owned(), "trust".to_owned())), "{found}");
    let told = refused_rotation("--without=m9");
    assert!(told.contains("--without=m9: no master, node or namespace has this name"), "{told}");

    // It catches up when it is back. Who trusts the old authority alone goes on, also when all show leaves of the new one.
    masters.start(3, &masters.joining(3, 1, Path::new("/nowhere")).replaced("--token-file", &old_token));
    let told = refused_rotation("--timeout=1m");
    assert!(told.contains("--finish: the new authority signs only since now"), "{told}");
    let (code, found) = rotate(&place, &[]);
    assert_eq!((code, &found["phase"], behind(&found)), (Some(0), &json!("renew"), Vec::new()), "{found}");
    let count = masters.client(1).await;
    let count: Api<ConfigMap> = Api::default_namespaced(count);
    let written = count.list_metadata(&ListParams::default()).await.unwrap().items.len();
    let more = move |map: &ConfigMap| map.name_any() == format!("before-{}", written + 5);
    becomes(count, &format!("before-{}", written + 5), "writing goes on", more).await;

    // Who has a new kubeconfig goes on when the old authority is gone.
    let new = masters.directory.path().join("new.kubeconfig");
    std::fs::write(&new, super::told(&["kubeconfig"], &masters.place(2))).unwrap();
    first_stop.cancel();
    assert!(first.await.unwrap() > 0);
    let second_stop = CancellationToken::new();
    let second = tokio::spawn(write_on(new.clone(), masters.url(2), "after", second_stop.clone()));
    let (code, found) = rotate(&masters.place(2), &["--finish"]);
    assert_eq!((code, &found["phase"], behind(&found)), (Some(0), &json!("finished"), Vec::new()), "{found}");
    assert_eq!(rotate(&place, &[]).1["phase"], "finished", "it is not begun again by looking");

    let authority = read("pki/ca.crt");
    assert_eq!(authority.matches("BEGIN CERTIFICATE").count(), 1);
    assert_ne!(authority, old_authority);
    let client = masters.client(3).await;
    let roots: Api<ConfigMap> = Api::default_namespaced(client.clone());
    assert_eq!(roots.get("kube-root-ca.crt").await.unwrap().data.unwrap()["ca.crt"], authority);
    let system: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let told_others = system.get("extension-apiserver-authentication").await.unwrap().data.unwrap();
    assert_eq!(told_others["client-ca-file"], authority);

    // The old authority's leaf is nobody's any more, and who trusts it alone trusts nobody.
    let (mut forged, trusted) = (Kubeconfig::read_from(&old).unwrap(), Kubeconfig::read_from(&new).unwrap());
    let old_client = Client::try_from(config(forged.clone(), &masters.url(1)).await).unwrap();
    let error = format!("{:?}", old_client.apiserver_version().await.unwrap_err());
    assert!(error.contains("UnknownIssuer"), "{error}");
    forged.clusters = trusted.clusters;
    for master in [1, 2, 3] {
        let client = Client::try_from(config(forged.clone(), &masters.url(master)).await).unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let error = maps.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 401), "{error:?}");
    }

    // The node goes on, and machines join by what tokens say now, and not by what they said.
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
    becomes(pods, "p", "the node runs pods", runs).await;
    let refusal = refused(&masters.joining(4, 1, &old_token));
    assert!(refusal.contains("shows the authority of another cluster"), "{refusal}");
    second_stop.cancel();
    assert!(second.await.unwrap() > 0);
    masters.start(4, &masters.joining(4, 2, &masters.token(1)));
    let (_late, _) = start(&agent(&masters, 2, 1), "keeping nodes");
    write(&masters.client(1).await, "afterwards").await;
    assert!(names(&masters.client(4).await).await.iter().any(|name| name == "afterwards"));
}
