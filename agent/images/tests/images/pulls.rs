//! Pulls from a real registry.

use std::sync::Arc;

use barque_images::{Credential, ErrorKind, PullOptions};
use serde_json::json;

use crate::built::{Built, ELSEWHERE, Packed, architecture, archive, file_layer, index, noise};
use crate::distribution::{Distribution, Guard};
use crate::recorder::Recorder;
use crate::{Room, is_root, quick, reference, with_registries};

fn example() -> Built {
    let layers = [
        (archive(&[("bin/", b""), ("bin/tool", &noise(1, 100_000)), ("etc/", b"")]), Packed::Gzip),
        (archive(&[("etc/", b""), ("etc/passwd", b"app:x:1000:1000::/:/bin/sh\n")]), Packed::Zstd),
        (archive(&[("last", b"plain")]), Packed::Plain),
    ];
    let config = json!({
        "Entrypoint": ["/bin/tool"], "Cmd": ["run"], "Env": ["A=b"], "User": "app", "WorkingDir": "/etc",
        "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}, "StopSignal": "SIGQUIT",
    });
    Built::new(&layers, &config)
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest_and_found_by_all_its_names() {
    if !is_root() {
        return;
    }
    let registry = Distribution::start();
    let (here, elsewhere) = (example(), Built::for_architecture(&[], &json!({}), ELSEWHERE));
    registry.push_untagged("team/app", &here);
    registry.push_untagged("team/app", &elsewhere);
    let index = index(&[(&elsewhere, ELSEWHERE), (&here, architecture())]);
    registry.push_index("team/app", "v1", &index);

    let room = Room::new();
    let name = format!("{}/team/app:v1", registry.authority());
    let pulled = room.pull(&name).await.unwrap();
    assert_eq!(pulled.id, here.config.digest);
    assert_eq!(pulled.manifest, here.manifest.digest);
    assert_eq!(pulled.references, [name.as_str()]);
    let by_digest = format!("{}/team/app@{}", registry.authority(), index.digest);
    assert_eq!(pulled.repo_digests, [by_digest.as_str()]);
    assert_eq!(pulled.diff_ids, here.diff_ids);
    assert_eq!(pulled.config.entrypoint, ["/bin/tool"]);
    assert_eq!((pulled.config.user.as_str(), pulled.config.stop_signal.as_str()), ("app", "SIGQUIT"));
    assert_eq!(std::fs::read(pulled.layers[0].join("bin/tool")).unwrap(), noise(1, 100_000));
    assert_eq!(std::fs::read(pulled.layers[2].join("last")).unwrap(), b"plain");
    assert!(pulled.size_bytes > 100_000);

    for text in [&name, &by_digest, pulled.id.as_str(), &pulled.id.hex()[..12]] {
        assert_eq!(room.store.find(text).unwrap().unwrap().id, pulled.id, "{text}");
    }
    let again = room.pull(&by_digest).await.unwrap();
    assert_eq!((again.references, again.id), (pulled.references, pulled.id));
    assert_eq!(room.store.list().unwrap().len(), 1);
    assert!(room.files("work").is_empty());
}

#[tokio::test]
async fn many_pulls_at_once_fetch_each_layer_once() {
    if !is_root() {
        return;
    }
    let registry = Distribution::start();
    let shared = file_layer("shared", &noise(2, 2_000_000));
    let one = Built::new(&[shared.clone(), file_layer("one", b"1")], &json!({}));
    let two = Built::new(&[shared, file_layer("two", b"2")], &json!({}));
    registry.push("one", "latest", &one);
    registry.push("two", "latest", &two);
    let room = Room::new();
    let recorder = Recorder::new();
    let pulls = (0..8).map(|n| {
        let (store, recorder) = (room.store.clone(), recorder.clone());
        let name = format!("{}/{}", registry.authority(), if n % 2 == 0 { "one" } else { "two" });
        async move {
            store.pull(&reference(&name), &[], &PullOptions::default(), recorder).await.unwrap();
        }
    });
    futures::future::join_all(pulls).await;
    for layer in one.layers.iter().chain(&two.layers) {
        assert_eq!(recorder.unpacked(&layer.digest), 1);
    }
    assert_eq!(room.store.list().unwrap().len(), 2);
    let bytes = room.store.usage().unwrap().images_bytes;
    assert!(
        (4_000_000..6_000_000).contains(&bytes),
        "the shared layer counts once, plain and packed: {bytes}"
    );
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_and_the_old_image_stays_by_its_digest() {
    if !is_root() {
        return;
    }
    let registry = Distribution::start();
    let name = format!("{}/app:v1", registry.authority());
    let room = Room::new();
    let mut ids = Vec::new();
    for content in [b"old", b"new"] {
        registry.push("app", "v1", &Built::new(&[file_layer("file", content)], &json!({})));
        ids.push(room.pull(&name).await.unwrap().id);
    }
    assert_eq!(room.store.find(&name).unwrap().unwrap().id, ids[1]);
    let old = room.store.find(ids[0].as_str()).unwrap().unwrap();
    assert_eq!((old.references.len(), old.repo_digests.len()), (0, 1));
}

#[tokio::test]
async fn credentials_are_tried_in_turn() {
    if !is_root() {
        return;
    }
    let registry = Distribution::guarded(&Guard { login: Some(("me", "secret")), tls: None });
    let room = Room::new();
    let name = format!("{}/app", registry.authority());
    let pull = async |credentials: &[Credential]| {
        room.store
            .pull(&reference(&name), credentials, &PullOptions::default(), Arc::new(()))
            .await
            .unwrap_err()
    };
    let login = |password: &str| Credential::Basic { username: "me".into(), password: password.into() };
    for credentials in [vec![], vec![login("wrong")]] {
        let error = pull(&credentials).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{}", error.message());
        assert!(error.message().contains("pull access denied"), "{}", error.message());
    }
    // Let in, it finds nothing.
    let error = pull(&[login("wrong"), login("secret")]).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.message());
    let yaml =
        format!("configs: {{\"{}\": {{auth: {{username: me, password: secret}}}}}}", registry.authority());
    let configured = Room::with(with_registries(&yaml));
    let error = configured.pull(&name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.message());
}

#[tokio::test]
async fn mirrors_serve_first_and_the_registry_if_they_cannot() {
    if !is_root() {
        return;
    }
    let (mirror, origin) = (Distribution::start(), Distribution::start());
    let image = |content: &[u8]| Built::new(&[file_layer("file", content)], &json!({}));
    let (mirrored, original) = (image(b"mirror"), image(b"origin"));
    mirror.push("cache/team/both", "latest", &mirrored);
    origin.push("team/both", "latest", &original);
    origin.push("team/alone", "latest", &original);
    let room = Room::with(with_registries(&format!(
        "mirrors:\n  \"{}\":\n    endpoint: [\"http://127.0.0.1:1\", \"http://{}\"]\n    \
         rewrite: {{\"^team/(.*)\": \"cache/team/$1\"}}\n",
        origin.authority(),
        mirror.authority()
    )));
    let pull = async |repository: &str| {
        let name = format!("{}/{repository}", origin.authority());
        room.pull(&name).await
    };
    assert_eq!(pull("team/both").await.unwrap().id, mirrored.config.digest);
    assert_eq!(pull("team/alone").await.unwrap().id, original.config.digest);
    let error = pull("team/none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.message().contains("127.0.0.1:1/"),
        "every one that was asked is named: {}",
        error.message()
    );
}

#[tokio::test]
async fn registries_with_certificates_of_their_own_are_known_by_them() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let registry = Distribution::guarded(&Guard { login: None, tls: Some((&certificate, &key)) });
    let name = reference("registry.example.com/app");
    let pull = async |tls: &str| {
        let authority = registry.authority();
        let room = Room::with(with_registries(&format!(
            "mirrors: {{registry.example.com: {{endpoint: [\"https://{authority}\"]}}}}\n\
             configs: {{\"{authority}\": {{tls: {tls}}}, registry.example.com: {{}}}}\n"
        )));
        let error = room.store.pull(&name, &[], &PullOptions::default(), Arc::new(())).await.unwrap_err();
        error.message()
    };
    // Whoever is let in finds nothing there.
    let at = registry.authority();
    for good in [format!("{{ca_file: {}}}", certificate.display()), "{insecure_skip_verify: true}".into()] {
        let message = pull(&good).await;
        assert!(
            message.contains(&format!("https://{at}/v2: registry.example.com/app:latest: not found")),
            "{message}"
        );
    }
    let message = pull("{}").await;
    assert!(message.contains(&format!("https://{at}/v2: failed to do request")), "{message}");
}

#[tokio::test]
async fn who_and_what_is_not_there_is_told_as_containerd_tells_it() {
    let registry = Distribution::start();
    let room = Room::new();
    let name = format!("{}/none:v1", registry.authority());
    let error = room.pull(&name).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
        )
    );
    let elsewhere = Built::for_architecture(&[], &json!({}), ELSEWHERE);
    registry.push("app", "alone", &elsewhere);
    registry.push_index("app", "index", &index(&[(&elsewhere, ELSEWHERE)]));
    for tag in ["alone", "index"] {
        let name = reference(&format!("{}/app:{tag}", registry.authority()));
        let error = room.store.pull(&name, &[], &PullOptions::default(), Arc::new(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("no match for platform"), "{}", error.message());
    }
    let nobody = Room::with(quick());
    let error = nobody.pull("127.0.0.1:1/app").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("onnection refused"), "{}", error.message());
}
