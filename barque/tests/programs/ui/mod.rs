//! The status page in a browser: who may look, what is shown and why, what changes by itself, and the keyboard alone. Two servers
//! over one store, without controllers, so that objects stay as they were made.

mod chromium;
mod relay;

use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::chromium::Page;
use self::relay::Relay;
use super::cluster::Cluster;
use super::cluster::kubectls::kubectls;
use super::two_servers::clients;

/// Somebody who may look at pods and events, and at nothing else.
const PARTLY: &str = "the-token-of-somebody-who-may-see-a-part";
/// What somebody wants to be markup.
const HOSTILE: &str = "<img src=x onerror=\"window.hostile=1\"><b>bold</b>";

async fn send(client: &Client, method: &str, path: &str, object: Value) -> Value {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content);
    let request = request.body(object.to_string().into_bytes()).unwrap();
    client.request(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

async fn create(client: &Client, collection: &str, object: Value) -> Value {
    send(client, "POST", collection, object).await
}

/// An object with the status that a controller or a node would tell of it.
async fn with_status(client: &Client, collection: &str, mut object: Value) {
    let status = object["status"].take();
    let made = create(client, collection, object).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    send(client, "PATCH", &format!("{collection}/{name}/status"), json!({"status": status})).await;
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn pod(name: &str, node: &str, status: Value) -> Value {
    let mut spec =
        json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]});
    if !node.is_empty() {
        spec["nodeName"] = node.into();
    }
    json!({"metadata": {"name": name}, "spec": spec, "status": status})
}

fn container(state: Value, ready: bool, restarts: u32) -> Value {
    json!([{"name": "c", "image": "i", "imageID": "", "state": state, "ready": ready, "restartCount": restarts}])
}

fn event(name: &str, kind: &str, at: &str, message: &str) -> Value {
    json!({
        "metadata": {"name": name}, "type": kind, "reason": "Tested", "message": message,
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "crashing"},
        "firstTimestamp": at, "lastTimestamp": at, "count": 3,
    })
}

/// What there is to see.
async fn furnish(client: &Client) {
    create(client, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
        .await;
    let node = |name: &str, ready: &str, message: &str| {
        json!({
            "metadata": {"name": name, "labels": {"node-role.kubernetes.io/worker": ""}},
            "status": {
                "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": message}],
                "addresses": [{"type": "InternalIP", "address": "10.1.2.3"}],
                "nodeInfo": {
                    "kubeletVersion": "v1.37.0", "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "",
                    "osImage": "", "systemUUID": "",
                },
            },
        })
    };
    with_status(client, "/api/v1/nodes", node("n1", "True", "")).await;
    with_status(client, "/api/v1/nodes", node("n2", "Unknown", "Kubelet stopped posting node status.")).await;
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {
            "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 1,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"web-1\" has timed out progressing."}],
        },
    });
    with_status(client, "/apis/apps/v1/namespaces/default/deployments", deployment).await;
    let scheduled = |status: &str, message: &str| json!([{"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message}]);
    let no_node = scheduled("False", "0/2 nodes are available: 2 Insufficient cpu.");
    let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}});
    let run = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let image = json!({"waiting": {"reason": "ErrImagePull", "message": HOSTILE}});
    for pod in [
        pod("waits", "", json!({"phase": "Pending", "conditions": no_node})),
        pod("crashing", "n1", json!({"phase": "Running", "containerStatuses": container(crash, false, 7)})),
        pod("hostile", "n1", json!({"phase": "Pending", "containerStatuses": container(image, false, 0)})),
        pod("well", "n1", json!({"phase": "Running", "containerStatuses": container(run, true, 0)})),
    ] {
        with_status(client, PODS, pod).await;
    }
    create(client, EVENTS, event("old", "Warning", "2026-01-01T00:00:00Z", HOSTILE)).await;
    // As the sign-in form says.
    let accounts = "/api/v1/namespaces/kube-system/serviceaccounts";
    create(client, accounts, json!({"metadata": {"name": "looks"}})).await;
    let binding = json!({
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "barque:status-viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "looks", "namespace": "kube-system"}],
    });
    create(client, &format!("{RBAC}/clusterrolebindings"), binding).await;
    let rule = json!({"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["pods", "events"]});
    create(client, &format!("{RBAC}/clusterroles"), json!({"metadata": {"name": "part"}, "rules": [rule]}))
        .await;
    let binding = json!({
        "metadata": {"name": "part"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "part"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "partly"}],
    });
    create(client, &format!("{RBAC}/clusterrolebindings"), binding).await;
}

/// The row of a section that begins with a name, its cells with bars between.
fn row(section: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{section} tbody tr')].map((row) => [...row.children].map((cell) => \
         cell.textContent).join('|')).find((text) => text.startsWith({}))",
        json!(name)
    )
}

/// Waits until the row has this text in it.
async fn row_has(page: &mut Page, section: &str, name: &str, text: &str) {
    let row = row(section, name);
    page.until(&format!("({row})?.includes({}) && {row}", json!(text))).await;
}

/// Signs in with the keyboard alone.
async fn sign_in(page: &mut Page, token: &str) {
    page.until("document.activeElement.id === 'token'").await;
    page.write(token).await;
    page.press("Enter").await;
}

async fn is_live(page: &mut Page) {
    page.until("document.querySelector('#connection').textContent.trim() === 'Live'").await;
}

/// How well text can be told from what is behind it, the least of all (WCAG's contrast ratio).
const LEAST_CONTRAST: &str = "(() => {
    const light = (colour) => {
        const canvas = new OffscreenCanvas(1, 1).getContext('2d');
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const grounds = ['--card', '--ground'];
    const texts = ['--text', '--quiet', '--ok', '--wait', '--bad', '--done', '--accent'];
    const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const ratios = grounds.flatMap((ground) => texts.map((text) => {
        const both = [light(value(ground)), light(value(text))].sort((one, other) => other - one);
        return (both[0] + 0.05) / (both[1] + 0.05);
    }));
    return Math.min(...ratios);
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_page_tells_what_is_wrong_and_why() {
    if !chromium::is_here() {
        return;
    }
    let cluster = Cluster::with(2, |directory| {
        let tokens = directory.join("tokens");
        std::fs::write(&tokens, format!("{PARTLY},partly,2\n")).unwrap();
        vec![format!("--token-auth-file={}", tokens.display())]
    });
    let [client, _] = clients(&cluster).await;
    furnish(&client).await;
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token = "/api/v1/namespaces/kube-system/serviceaccounts/looks/token";
    let token = create(&client, token, asked).await["status"]["token"].as_str().unwrap().to_owned();
    let key = std::fs::read_to_string(cluster.directory.path().join("server.key")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key).unwrap().subject_public_key_info();
    let mut page = Page::open(&STANDARD.encode(Sha256::digest(key))).await;
    page.resize(1280, 900).await;
    let relay = Relay::to(cluster.servers[0]).await;

    // Nobody sees anything, and a wrong token is told to be one.
    page.go(&format!("https://{}/ui", relay.address)).await;
    sign_in(&mut page, "wrong").await;
    page.until("!document.querySelector('#wrong').hidden && document.querySelector('#wrong').textContent.includes('does not take')")
        .await;
    assert_eq!(page.ask("sessionStorage.length + document.querySelectorAll('tbody tr').length").await, 0);
    page.picture("sign-in").await;
    sign_in(&mut page, &token).await;
    is_live(&mut page).await;
    page.until("document.querySelector('#who').textContent === 'system:serviceaccount:kube-system:looks'")
        .await;

    // Every section is filled, with reasons.
    row_has(&mut page, "masters", "default", "|Leader|").await;
    row_has(&mut page, "nodes", "n1", "|Ready|3|").await;
    row_has(&mut page, "nodes", "n2", "|NotReady|0|Kubelet stopped posting node status.").await;
    row_has(&mut page, "workloads", "default/web", "|Deployment|Not progressing|1/3|3|").await;
    row_has(&mut page, "workloads", "default/web", "ReplicaSet \"web-1\" has timed out progressing.").await;
    row_has(
        &mut page,
        "pods",
        "default/waits",
        "|Pending|0/1|0|No node for it: 0/2 nodes are available: 2 Insufficient cpu.|",
    )
    .await;
    row_has(
        &mut page,
        "pods",
        "default/crashing",
        "|CrashLoopBackOff|0/1|7|c: CrashLoopBackOff: back-off 40s",
    )
    .await;
    row_has(&mut page, "pods", "default/well", "|Running|1/1|0||n1|").await;
    // Those in trouble come first.
    let order = "[...document.querySelectorAll('#pods tbody th')].map((cell) => cell.textContent.split('/')[1]).join()";
    assert_eq!(page.ask(order).await, "crashing,hostile,waits,well");

    // Text is text, whatever it looks like.
    row_has(&mut page, "pods", "default/hostile", &format!("c: ErrImagePull: {HOSTILE}")).await;
    page.until(&format!("document.querySelector('#events tbody').textContent.includes({})", json!(HOSTILE)))
        .await;
    assert_eq!(page.ask("document.querySelectorAll('main img, main b').length").await, 0);
    assert_eq!(page.ask("typeof window.hostile").await, "undefined");
    assert!(
        page.ask("try { document.body.innerHTML = 'x'; 'taken' } catch (error) { error.name }").await
            == "TypeError"
    );

    // What happens is seen as it happens.
    page.ask("void (window.notLoadedAgain = true)").await;
    create(&client, EVENTS, event("new", "Warning", "2026-01-02T00:00:00Z", "It has just happened")).await;
    let newest = "document.querySelector('#events tbody tr').textContent";
    page.until(&format!("{newest}.includes('It has just happened')")).await;
    let runs = container(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), true, 8);
    send(
        &client,
        "PATCH",
        &format!("{PODS}/crashing/status"),
        json!({"status": {"containerStatuses": runs}}),
    )
    .await;
    row_has(&mut page, "pods", "default/crashing", "|Running|1/1|8||").await;
    send(&client, "DELETE", &format!("{PODS}/well"), json!({"gracePeriodSeconds": 0})).await;
    page.until(&format!("!({})", row("pods", "default/well"))).await;

    keyboard(&mut page).await;
    appearance(&mut page).await;
    meanings(&mut page).await;

    // A connection that breaks is made again, to whatever server is there, and nothing is missed.
    page.ask("void (window.lost = until(() => document.querySelector('#connection').textContent.includes('again')))").await;
    relay.cut();
    page.ask("window.lost").await;
    create(&client, EVENTS, event("unseen", "Normal", "2026-01-03T00:00:00Z", "Nobody looked")).await;
    relay.lead_to(cluster.servers[1]);
    page.ask("void window.dispatchEvent(new Event('online'))").await;
    is_live(&mut page).await;
    page.until(&format!("{newest}.includes('Nobody looked')")).await;
    create(&client, EVENTS, event("later", "Normal", "2026-01-04T00:00:00Z", "Live again")).await;
    page.until(&format!("{newest}.includes('Live again')")).await;
    assert_eq!(page.ask("window.notLoadedAgain").await, true);

    // Somebody who may see a part sees that, and is told of the rest.
    page.ask("document.querySelector('#forget').click()").await;
    assert_eq!(page.ask("sessionStorage.length").await, 0);
    sign_in(&mut page, PARTLY).await;
    row_has(&mut page, "pods", "default/waits", "Insufficient cpu").await;
    let note = |section: &str| format!("document.querySelector('#{section} .note').textContent");
    for (section, resource) in [("nodes", "nodes"), ("workloads", "deployments"), ("workloads", "jobs")] {
        page.until(&format!(
            "{}.includes('User \"partly\" cannot list resource \"{resource}\"')",
            note(section)
        ))
        .await;
    }
    page.until(&format!("{}.includes('cannot get path \"/ui/masters\"')", note("masters"))).await;
    page.picture("partly").await;

    // Through a proxy that knows who looks, and over HTTP/1.1.
    let kubectl = &kubectls()[0].program;
    let mut proxy = Command::new(kubectl)
        .args(["proxy", "--port=0", "--kubeconfig"])
        .arg(cluster.kubeconfig(0))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(proxy.stdout.take().unwrap()), &mut line)
        .unwrap();
    page.go(&format!("http://{}/ui", line.trim().rsplit(' ').next().unwrap())).await;
    is_live(&mut page).await;
    page.until("document.querySelector('#who').textContent === 'admin'").await;
    row_has(&mut page, "nodes", "n1", "|Ready|").await;
    let faults = page.faults();
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    // The one is what this test itself tried, and shows that others would be seen.
    assert!(matches!(faults.as_slice(), [only] if only.contains("TrustedHTML")), "{faults:#?}");
}

/// Everything is reached without a mouse.
async fn keyboard(page: &mut Page) {
    let focused = "document.activeElement.id";
    for (key, heading) in [("1", "masters-title"), ("5", "events-title"), ("4", "pods-title")] {
        page.press(key).await;
        page.until(&format!("{focused} === '{heading}'")).await;
    }
    page.press("/").await;
    page.until(&format!("{focused} === 'filter'")).await;
    page.write("insufficient CPU").await;
    page.until("document.querySelectorAll('#pods tbody tr').length === 1").await;
    page.until("document.querySelector('#pods .count').textContent === '1 of 3 pods'").await;
    page.until("document.querySelector('#nodes .note').textContent.includes('filter takes none')").await;
    page.press("Escape").await;
    page.until("document.querySelectorAll('#pods tbody tr').length === 3").await;
    page.press("?").await;
    page.until("document.querySelector('#help').open").await;
    page.picture("help").await;
    page.press("Escape").await;
    page.until("!document.querySelector('#help').open").await;
    page.ask("document.activeElement.blur()").await;
    let mut reached = Vec::new();
    for _ in 0..16 {
        page.press("Tab").await;
        let seen = "(() => { const { id } = document.activeElement; const style = getComputedStyle(document.activeElement); \
                    return id + (style.outlineStyle === 'none' ? ' unseen' : ''); })()";
        reached.push(page.ask(seen).await.as_str().unwrap().to_owned());
    }
    for id in ["forget", "show-help", "to-masters", "to-events", "filter", "namespace"] {
        assert!(reached.iter().any(|one| one == id), "{id} is not among {reached:?}");
    }
}

/// Light and dark, wide and narrow.
async fn appearance(page: &mut Page) {
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        page.prefer(scheme).await;
        grounds.push(page.ask("getComputedStyle(document.body).backgroundColor").await);
        let contrast = page.ask(LEAST_CONTRAST).await.as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: {contrast}");
        page.resize(1280, 900).await;
        page.picture(scheme).await;
    }
    assert_ne!(grounds[0], grounds[1]);
    page.prefer("light").await;
    page.resize(375, 800).await;
    page.until("document.documentElement.scrollWidth <= 375").await;
    page.picture("narrow").await;
    page.resize(1280, 900).await;
}

/// What the page makes of objects, asked of the functions that it asks.
async fn meanings(page: &mut Page) {
    let meta = json!({"name": "p", "namespace": "default"});
    let spec = json!({"nodeName": "n1", "containers": [{"name": "c"}], "initContainers": [{"name": "i"}]});
    let pod = |status: Value| json!({"metadata": meta, "spec": spec, "status": status});
    let state =
        |state: Value, ready: bool| json!([{"name": "c", "state": state, "ready": ready, "restartCount": 0}]);
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let again = json!([{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": killed, "ready": false}]);
    let init = |state: Value| json!([{"name": "i", "state": state}]);
    let mut going =
        pod(json!({"phase": "Running", "containerStatuses": state(json!({"running": {}}), true)}));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    going["metadata"]["finalizers"] = json!(["example.com/keep"]);
    let mut gated = pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]}),
    );
    gated["spec"]["nodeName"].take();
    let mut unseen = pod(json!({"phase": "Pending"}));
    unseen["spec"]["nodeName"].take();
    let table = [
        (
            pod(json!({"phase": "Running", "containerStatuses": state(killed.clone(), false)})),
            "OOMKilled bad c: ended with exit code 137 (OOMKilled)",
        ),
        (
            pod(json!({"phase": "Running", "containerStatuses": again})),
            "CrashLoopBackOff bad c: CrashLoopBackOff; it ended last with exit code 137 (OOMKilled)",
        ),
        (pod(json!({"phase": "Succeeded", "containerStatuses": state(done, false)})), "Completed done "),
        (
            pod(json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."})),
            "Evicted bad The node was low on memory.",
        ),
        (
            pod(json!({"phase": "Pending", "initContainerStatuses": init(json!({"running": {}}))})),
            "Init:0/1 wait i: the others wait until it has finished",
        ),
        (
            pod(
                json!({"phase": "Pending", "initContainerStatuses": init(json!({"terminated": {"exitCode": 3, "reason": "Error"}}))}),
            ),
            "Init:Error bad i: ended with exit code 3 (Error)",
        ),
        (
            pod(
                json!({"phase": "Pending", "containerStatuses": state(json!({"waiting": {"reason": "ContainerCreating"}}), false)}),
            ),
            "ContainerCreating wait Its containers are being made on n1",
        ),
        (pod(json!({"phase": "Pending"})), "Pending wait n1 has not told of it yet"),
        (unseen, "Pending wait No scheduler has looked at it yet"),
        (
            gated,
            "SchedulingGated wait No node for it: Scheduling is blocked due to non-empty scheduling gates",
        ),
        (
            pod(json!({"phase": "Running", "containerStatuses": state(json!({"running": {}}), false)})),
            "Running wait c: runs, but is not ready",
        ),
        (going, "Terminating wait It was asked to end, and is kept by example.com/keep"),
    ];
    for (pod, meaning) in table {
        let asked = format!(
            "(({{ word, level, why }}) => `${{word}} ${{level}} ${{why.join('; ')}}`)(podState({pod}))"
        );
        assert_eq!(page.ask(&asked).await, meaning, "{pod}");
    }
    let ages = [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (3600, "60m"),
        (90_000, "25h"),
        (700_000, "8d"),
        (63_072_000, "2y"),
    ];
    for (seconds, text) in ages {
        assert_eq!(page.ask(&format!("ageText({seconds})")).await, text);
    }
    let jobs = [
        (json!({"spec": {"completions": 3}, "status": {"active": 1, "succeeded": 1}}), "Running ok 1/3 done"),
        (
            json!({"spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True", "message": "no"}]}}),
            "Failed bad 0/1 done",
        ),
        (json!({"spec": {"suspend": true}}), "Suspended done 0/1 done"),
    ];
    for (mut job, meaning) in jobs {
        job["metadata"] = json!({"name": "j"});
        let asked = format!(
            "(({{ word, level, ready }}) => `${{word}} ${{level}} ${{ready}}`)(workloadState('Job', {job}))"
        );
        assert_eq!(page.ask(&asked).await, meaning, "{job}");
    }
}
