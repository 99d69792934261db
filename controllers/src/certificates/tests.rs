//! Requests from their arrival to their certificate: tables for each decision, and certificates that OpenSSL accepts.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{FilePair, SigningConfig};
use crate::controller::Controller as _;
use crate::plan::{Action, Plan};

fn now() -> Timestamp {
    Timestamp::now()
}

/// What openssl says to these words; they are split at spaces.
fn openssl(dir: &TempDir, words: &str) -> String {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An authority of a key of this kind, and a request with these subject and names.
fn prepare(ca_key: &str, key: &str, subject: &str, names: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    openssl(
        &dir,
        &format!(
            "req -x509 -newkey {ca_key} -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 9000 \
         -addext keyUsage=critical,keyCertSign"
        ),
    );
    let names = if names.is_empty() { String::new() } else { format!(" -addext subjectAltName={names}") };
    openssl(&dir, &format!("req -new -newkey {key} -nodes -keyout k.key -out r.csr -subj {subject}{names}"));
    dir
}

fn authorities(dir: &TempDir, duration: Duration) -> Authorities {
    let path = |name: &str| Some(dir.path().join(name));
    let all = FilePair { certificate: path("ca.pem"), key: path("ca.key") };
    Authorities::read(&SigningConfig { all, duration, ..SigningConfig::default() }).unwrap()
}

fn csr(request: &[u8], signer: &str, usages: &[&str], change: Value) -> Arc<CertificateSigningRequest> {
    let mut csr = json!({
        "metadata": {"name": "r", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"signerName": signer, "usages": usages, "request": "", "username": "system:node:n1",
            "groups": ["system:nodes"]},
    });
    barque_api::patch::merge::merge(&mut csr, change);
    let mut csr: CertificateSigningRequest = serde_json::from_value(csr).unwrap();
    csr.spec.request = ByteString(request.to_vec());
    Arc::new(csr)
}

fn view(dir: &TempDir, csr: Arc<CertificateSigningRequest>, duration: Duration) -> sign::View {
    let authorities = authorities(dir, duration);
    let authority = authorities.of(&csr.spec.signer_name).unwrap();
    sign::View { csr, authority, longest: duration, serial: rand::random() }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const CLIENT: [&str; 2] = ["client auth", "digital signature"];

fn update(plan: &Plan) -> (Option<&'static str>, Value) {
    let actions: Vec<_> = plan.actions().collect();
    assert_eq!(actions.len(), 1, "{plan:?}");
    let Action::Update { patch, subresource, .. } = &actions[0].action else { panic!("{plan:?}") };
    (*subresource, patch["status"].clone())
}

/// Signs the request in the directory, into `c.pem`.
fn signed(dir: &TempDir, signer: &str, usages: &[&str], change: Value) {
    let request = fs::read(dir.path().join("r.csr")).unwrap();
    let plan = sign::plan(&view(dir, csr(&request, signer, usages, change), YEAR), now()).unwrap();
    let (_, status) = update(&plan);
    let certificate: ByteString = serde_json::from_value(status["certificate"].clone()).unwrap();
    fs::write(dir.path().join("c.pem"), certificate.0).unwrap();
}

#[test]
fn openssl_accepts_certificates_of_all_kinds_of_keys() {
    let kinds =
        ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"];
    for (number, ca) in kinds.iter().enumerate() {
        let key = kinds[(number + 1) % kinds.len()];
        let dir = prepare(
            ca,
            key,
            "/O=first/O=second/CN=alice",
            "DNS:a.example,IP:10.0.0.1,IP:::1,email:a@b.c,URI:urn:x",
        );
        signed(&dir, API_CLIENT, &["client auth", "key encipherment", "digital signature"], json!({}));
        openssl(&dir, "verify -x509_strict -purpose sslclient -CAfile ca.pem c.pem");
        let text = openssl(&dir, "x509 -in c.pem -noout -text");
        for part in [
            "Version: 3",
            "O = first, O = second, CN = alice",
            "TLS Web Client Authentication",
            "Digital Signature, Key Encipherment",
            "CA:FALSE",
            "DNS:a.example",
            "IP Address:10.0.0.1",
            "email:a@b.c",
            "URI:urn:x",
            "X509v3 Authority Key Identifier",
        ] {
            let same = text.contains(part) || text.contains(&part.replace(" = ", "="));
            assert!(same, "{part} is not in {text}");
        }
        // The certificate is for the key of who asked.
        let key = openssl(&dir, "pkey -in k.key -pubout");
        assert_eq!(openssl(&dir, "x509 -in c.pem -noout -pubkey"), key);
    }
}

#[test]
fn certificates_end_when_they_were_asked_to() {
    let dir = prepare("rsa:2048", "rsa:2048", "/CN=alice", "");
    for (seconds, check) in [(7200, "-checkend 7100"), (600, "-checkend 500")] {
        signed(&dir, API_CLIENT, &["client auth"], json!({"spec": {"expirationSeconds": seconds}}));
        openssl(&dir, &format!("x509 -in c.pem -noout {check}"));
        let later = format!("x509 -in c.pem -noout -checkend {}", seconds + 60);
        let output = Command::new("openssl").args(later.split(' ')).current_dir(&dir).output().unwrap();
        assert!(!output.status.success(), "it is good for longer than {seconds} s");
    }
}

#[test]
fn a_request_that_is_not_signed_by_its_key_gets_nothing() {
    let dir = prepare("rsa:2048", "rsa:2048", "/CN=alice", "");
    openssl(&dir, "req -in r.csr -outform DER -out r.der");
    let mut der = fs::read(dir.path().join("r.der")).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    fs::write(dir.path().join("r.der"), der).unwrap();
    openssl(&dir, "req -inform DER -in r.der -out r.csr");
    let request = fs::read(dir.path().join("r.csr")).unwrap();
    let view = view(&dir, csr(&request, API_CLIENT, &["client auth"], json!({})), YEAR);
    let why = sign::plan(&view, now()).unwrap_err();
    assert_eq!(why, "unable to verify certificate request signature");
}

#[test]
fn a_key_of_another_certificate_is_no_authority() {
    let dir = prepare("rsa:2048", "rsa:2048", "/CN=alice", "");
    let path = |name: &str| Some(dir.path().join(name));
    let all = FilePair { certificate: path("ca.pem"), key: path("k.key") };
    let config = SigningConfig { all, duration: YEAR, ..SigningConfig::default() };
    assert!(matches!(Authorities::read(&config), Err(AuthorityError::Pair { .. })));
    // One that was good stays when its files become bad.
    let good = authorities(&dir, YEAR);
    fs::write(dir.path().join("ca.pem"), "nothing").unwrap();
    assert!(good.of(API_CLIENT).is_some());
    assert!(matches!(
        Authorities::read(&SigningConfig {
            all: FilePair { certificate: Some(PathBuf::from("/nowhere")), key: path("k.key") },
            ..SigningConfig::default()
        }),
        Err(AuthorityError::File(..))
    ));
}

fn request() -> request::Request {
    request::Request {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        ..request::Request::default()
    }
}

#[test]
fn each_signer_has_its_rules() {
    let check = |signer: &str, request: &request::Request, usages: &[&str], expected: &str| {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let why = rules::check(signer, request, &usages).err().unwrap_or_default();
        assert_eq!(why, expected);
    };
    let full = ["client auth", "digital signature", "key encipherment"];
    let server = ["server auth", "digital signature", "key encipherment"];
    let with = |change: fn(&mut request::Request)| {
        let mut request = request();
        change(&mut request);
        request
    };
    check(KUBELET_CLIENT, &request(), &full, "");
    check(KUBELET_CLIENT, &request(), &CLIENT, "");
    let other = "usages did not match [client auth digital signature key encipherment]";
    check(KUBELET_CLIENT, &request(), &server, other);
    let dns = with(|it| it.dns.push("a".into()));
    check(KUBELET_CLIENT, &dns, &full, "DNS subjectAltNames are not allowed");
    let ip = with(|it| it.addresses.push(vec![1, 2, 3, 4]));
    check(KUBELET_CLIENT, &ip, &full, "IP subjectAltNames are not allowed");
    let masters = with(|it| it.organizations.push("system:masters".into()));
    check(KUBELET_CLIENT, &masters, &full, "subject organization is not system:nodes");
    let name = with(|it| it.common_name = "alice".into());
    check(KUBELET_CLIENT, &name, &full, "subject common name does not begin with system:node:");
    check(KUBELET_SERVING, &request(), &server, "DNS or IP subjectAltName is required");
    check(KUBELET_SERVING, &dns, &server, "");
    let email = with(|it| {
        it.dns.push("a".into());
        it.emails.push("a@b".into());
    });
    check(KUBELET_SERVING, &email, &server, "Email subjectAltNames are not allowed");
    check(
        KUBELET_SERVING,
        &ip,
        &full,
        "usages did not match [digital signature key encipherment server auth]",
    );
    check(API_CLIENT, &name, &full, "");
    check(API_CLIENT, &name, &server, "invalid usage for client certificate: server auth");
    check(
        API_CLIENT,
        &name,
        &["digital signature"],
        "missing required usage for client certificate: client auth",
    );
    check(LEGACY_UNKNOWN, &email, &["code signing"], "");
}

#[test]
fn what_breaks_the_rules_fails_for_good() {
    let dir = prepare("rsa:2048", "rsa:2048", "/O=system:nodes/CN=alice", "");
    let request = fs::read(dir.path().join("r.csr")).unwrap();
    let plan =
        sign::plan(&view(&dir, csr(&request, KUBELET_CLIENT, &CLIENT, json!({})), YEAR), now()).unwrap();
    let (subresource, status) = update(&plan);
    let condition = &status["conditions"][0];
    assert_eq!(subresource, Some("status"));
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("Failed"), &json!("SignerValidationFailure"))
    );
    assert_eq!(condition["message"], "subject common name does not begin with system:node:");
}

#[test]
fn nodes_and_bootstrappers_are_approved_when_the_api_says_that_they_may() {
    let dir = prepare("rsa:2048", "rsa:2048", "/O=system:nodes/CN=system:node:n1", "");
    let request = fs::read(dir.path().join("r.csr")).unwrap();
    let check = |user: &str, signer: &str, allowed: &str, expected: (&[&str], Option<&str>)| {
        let csr = csr(&request, signer, &CLIENT, json!({"spec": {"username": user}}));
        let mut view = approve::View { csr, answers: Default::default(), holders: Default::default() };
        let mut asked = Vec::new();
        while let Some(question) = Approval.questions(&view).pop() {
            let body = question.body.clone().unwrap();
            assert_eq!(body["spec"]["user"], user);
            let right = body["spec"]["resourceAttributes"]["subresource"].as_str().unwrap().to_owned();
            let answer = json!({"status": {"allowed": right == allowed}});
            asked.push(right);
            Approval.learn(&mut view, question, Ok(answer));
        }
        assert_eq!(asked, expected.0);
        let plan = Approval.plan(&view, now());
        let Some(message) = expected.1 else { return assert!(plan.is_empty()) };
        let (subresource, status) = update(&plan);
        let condition = &status["conditions"][0];
        assert_eq!((subresource, &condition["type"]), (Some("approval"), &json!("Approved")));
        assert_eq!((&condition["reason"], &condition["message"]), (&json!("AutoApproved"), &json!(message)));
    };
    let own = "Auto approving self kubelet client certificate after SubjectAccessReview.";
    let any = "Auto approving kubelet client certificate after SubjectAccessReview.";
    check("system:node:n1", KUBELET_CLIENT, "selfnodeclient", (&["selfnodeclient"], Some(own)));
    check("system:node:n1", KUBELET_CLIENT, "nodeclient", (&["selfnodeclient", "nodeclient"], Some(any)));
    check("system:bootstrap:abc", KUBELET_CLIENT, "nodeclient", (&["nodeclient"], Some(any)));
    check("system:bootstrap:abc", KUBELET_CLIENT, "selfnodeclient", (&["nodeclient"], None));
    check("system:node:n1", API_CLIENT, "nodeclient", (&[], None));
}

#[test]
fn a_node_is_approved_as_a_server_for_itself_alone() {
    let subject = "/O=system:nodes/CN=system:node:n1";
    let own = prepare("rsa:2048", "rsa:2048", subject, "DNS:n1,IP:10.0.0.21");
    let greedy = prepare("rsa:2048", "rsa:2048", subject, "DNS:n1,IP:10.0.0.1");
    let usages = ["server auth", "digital signature"];
    let names = json!({"data": {"m1": "m1,10.0.0.1"}});
    let check = |dir: &TempDir, user: &str, right: &str, names: Option<&Value>, holder: &str| {
        let request = fs::read(dir.path().join("r.csr")).unwrap();
        let csr = csr(&request, KUBELET_SERVING, &usages, json!({"spec": {"username": user}}));
        let holders = (!holder.is_empty()).then(|| ("10.0.0.21".parse().unwrap(), holder.to_owned()));
        let mut view =
            approve::View { csr, answers: Default::default(), holders: holders.into_iter().collect() };
        while let Some(question) = Approval.questions(&view).pop() {
            let answer = match (&question.body, question.path.as_str()) {
                (Some(body), _) => {
                    let asked = &body["spec"]["resourceAttributes"]["subresource"];
                    Ok(json!({"status": {"allowed": asked == right}}))
                }
                (None, "/api/v1/nodes/n1") => {
                    let addresses =
                        ["10.0.0.21", "10.0.0.1"].map(|it| json!({"type": "InternalIP", "address": it}));
                    Ok(json!({"status": {"addresses": addresses}}))
                }
                (None, path) if path.ends_with("/barque-masters") => Ok(json!({"data": {"m1": "u"}})),
                (None, path) => {
                    assert_eq!(path, "/api/v1/namespaces/kube-system/configmaps/barque-server-names");
                    let missing = crate::plan::Failure {
                        verdict: crate::plan::Verdict::Gone,
                        message: "not found".to_owned(),
                    };
                    names.cloned().ok_or(missing)
                }
            };
            Approval.learn(&mut view, question, answer);
        }
        let plan = Approval.plan(&view, now());
        if plan.is_empty() {
            return "nothing".to_owned();
        }
        let (subresource, status) = update(&plan);
        assert_eq!(subresource, Some("approval"));
        let text = |field: &str| status["conditions"][0][field].as_str().unwrap().to_owned();
        format!("{}: {}", text("type"), text("message"))
    };
    let (n1, right) = ("system:node:n1", "selfnodeserving");
    assert!(check(&own, n1, right, Some(&names), "").starts_with("Approved: "));
    assert_eq!(check(&own, "system:node:n2", right, Some(&names), ""), "nothing");
    assert_eq!(check(&own, n1, "selfnodeclient", Some(&names), ""), "nothing");
    assert_eq!(check(&own, n1, right, None, ""), "nothing");
    assert_eq!(check(&own, n1, right, Some(&json!({"data": {"m2": "m2"}})), ""), "nothing");
    let told = check(&greedy, n1, right, Some(&names), "");
    assert_eq!(told, "Denied: 10.0.0.1 is an address of API servers or services");
    let told = check(&own, n1, right, Some(&names), "n2");
    assert!(told.starts_with("Denied: node n2 has the address 10.0.0.21 too"), "{told}");
}

#[test]
fn requests_go_when_nobody_needs_them_any_more() {
    let check = |status: Value, expected: Option<(&str, &str)>| {
        let csr = csr(b"", API_CLIENT, &CLIENT, json!({"status": status}));
        let got = clean::deadline(&csr);
        assert_eq!(got, expected.map(|(at, why)| (at.parse().unwrap(), why)), "{status}");
    };
    let said =
        |what: &str| json!([{"type": what, "status": "True", "lastUpdateTime": "2026-01-01T06:00:00Z"}]);
    check(json!({}), Some(("2026-01-02T00:00:00Z", "nobody decided about it")));
    check(json!({"conditions": said("Denied")}), Some(("2026-01-01T07:00:00Z", "it was denied long ago")));
    check(json!({"conditions": said("Failed")}), Some(("2026-01-01T07:00:00Z", "it failed long ago")));
    check(json!({"conditions": said("Approved")}), Some(("2026-01-02T06:00:00Z", "nobody signed it")));
    let signed_status = json!({"conditions": said("Approved"), "certificate": "YQ=="});
    check(signed_status, Some(("2026-01-01T07:00:00Z", "it was signed long ago")));
    check(json!({"conditions": [{"type": "Other", "status": "True"}]}), None);
    let dir = prepare("rsa:2048", "rsa:2048", "/CN=alice", "");
    signed(&dir, API_CLIENT, &["client auth"], json!({}));
    let certificate = ByteString(fs::read(dir.path().join("c.pem")).unwrap());
    let csr = csr(
        b"",
        API_CLIENT,
        &CLIENT,
        json!({"status": {
            "conditions": [{"type": "Approved", "status": "True"}], "certificate": certificate,
        }}),
    );
    let (at, why) = clean::deadline(&csr).unwrap();
    assert_eq!(why, "its certificate is not good any more");
    assert!(Cleaning.plan(&csr, at).is_empty());
    let later = Cleaning.plan(&csr, at + Duration::from_secs(1));
    assert!(matches!(later.actions().next().unwrap().action, Action::Delete { .. }));
}
