//! Registries that break, lie and loop: pulls go on where they can, and fail with the reason where not, leaving nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_images::{Credential, Error, ErrorKind, Event, Image, PullOptions};
use serde_json::json;

use crate::built::{Built, OCI_MANIFEST, file_layer, noise};
use crate::hostile::{Hostile, Request, blob, head, respond, serve};
use crate::recorder::Recorder;
use crate::{Room, is_root, reference, with_registries};

const SIZE: usize = 500_000;

fn image() -> Built {
    Built::new(&[file_layer("file", &noise(3, SIZE))], &json!({}))
}

async fn pull(room: &Room, server: &Hostile, recorder: Arc<Recorder>) -> Result<Image, Error> {
    let name = reference(&format!("{}/team/app:v1", server.authority()));
    room.store.pull(&name, &[], &PullOptions::default(), recorder).await
}

/// A pull that fails, and must leave nothing behind.
async fn failure(
    answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (Error, Hostile) {
    let server = Hostile::start(answer);
    let room = Room::new();
    let error = pull(&room, &server, Recorder::new()).await.expect_err("a pull from a broken registry");
    for folder in ["work", "blobs", "layers"] {
        assert!(room.files(folder).is_empty(), "{folder}: {:?}", room.files(folder));
    }
    assert!(room.store.list().unwrap().is_empty());
    (error, server)
}

#[tokio::test]
async fn a_layer_that_breaks_in_the_middle_goes_on_where_it_broke() {
    if !is_root() {
        return;
    }
    let made = image();
    let served = made.clone();
    let breaks = AtomicUsize::new(0);
    let server = Hostile::start(move |request, client| match blob(request, &served) {
        Some(blob) if blob.digest == served.layers[0].digest && breaks.fetch_add(1, Ordering::SeqCst) < 3 => {
            let from = request.from();
            let rest = &blob.bytes[from..];
            let range = format!("bytes {from}-{}/{}", blob.bytes.len() - 1, blob.bytes.len());
            let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
            head(client, status, &[("Content-Range", &range)], rest.len())?;
            client.write_all(&rest[..100_000])
        }
        _ => serve(request, client, &served),
    });
    let (room, recorder) = (Room::new(), Recorder::new());
    let pulled = pull(&room, &server, recorder.clone()).await.unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].join("file")).unwrap(), noise(3, SIZE));
    assert_eq!(recorder.count(|event| matches!(event, Event::Retrying { .. })), 3);
    let starts: Vec<usize> =
        server.requests(made.layers[0].digest.as_str()).iter().map(Request::from).collect();
    assert_eq!(starts, [0, 100_000, 200_000, 300_000]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning_again() {
    if !is_root() {
        return;
    }
    let made = image();
    let broken = AtomicUsize::new(0);
    let server = Hostile::start(move |request, client| match blob(request, &made) {
        Some(blob) if blob.digest == made.layers[0].digest => {
            head(client, "200 OK", &[], blob.bytes.len())?;
            let all = broken.fetch_add(1, Ordering::SeqCst) > 0;
            client.write_all(if all { &blob.bytes } else { &blob.bytes[..1000] })
        }
        _ => serve(request, client, &made),
    });
    let room = Room::new();
    let pulled = pull(&room, &server, Recorder::new()).await.unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].join("file")).unwrap(), noise(3, SIZE));
}

#[tokio::test]
async fn a_layer_that_always_breaks_is_given_up() {
    let made = image();
    let layer = made.layers[0].digest.clone();
    let (error, server) = failure(move |request, client| match blob(request, &made) {
        Some(blob) if blob.digest == made.layers[0].digest => head(client, "200 OK", &[], blob.bytes.len()),
        _ => serve(request, client, &made),
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.message());
    assert!(error.message().contains(&format!("failed to copy layer {layer}")), "{}", error.message());
    // Each attempt also tries TLS and is refused before it is a request.
    assert_eq!(server.requests(layer.as_str()).len(), 6);
}

#[tokio::test]
async fn content_that_is_not_what_it_is_named_by_is_refused() {
    for change in [0_usize, 1, 2] {
        let made = image();
        let what = match change {
            0 => made.layers[0].digest.clone(),
            _ => made.config.digest.clone(),
        };
        let wrong = what.clone();
        let (error, _server) = failure(move |request, client| match blob(request, &made) {
            Some(blob) if blob.digest == wrong && change < 2 => {
                let mut bytes = blob.bytes.clone();
                bytes[20] ^= 1;
                respond(client, "200 OK", &[], &bytes)
            }
            // Longer than it says in the manifest, with a head that is honest about it.
            Some(blob) if blob.digest == wrong => {
                respond(client, "200 OK", &[], &[&blob.bytes[..], b"more"].concat())
            }
            _ => serve(request, client, &made),
        })
        .await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.message());
        assert!(error.message().contains(what.as_str()), "{}", error.message());
    }
}

#[tokio::test]
async fn a_layer_that_does_not_end_is_cut_at_its_size() {
    let made = image();
    let (error, _server) = failure(move |request, client| match blob(request, &made) {
        Some(blob) if blob.digest == made.layers[0].digest => {
            client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            // Until the client does not listen any more.
            loop {
                client.write_all(&blob.bytes)?;
            }
        }
        _ => serve(request, client, &made),
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.message());
    assert!(error.message().contains("unexpected size"), "{}", error.message());
}

#[tokio::test]
async fn layers_whose_content_is_another_than_the_configuration_says_are_refused() {
    if !is_root() {
        return;
    }
    let good = image();
    let config = String::from_utf8(good.config.bytes.clone()).unwrap();
    let lie = config.replace(good.diff_ids[0].as_str(), barque_images::Digest::of(b"else").as_str());
    let lie = crate::built::Blob::new(lie.into_bytes());
    let manifest = String::from_utf8(good.manifest.bytes.clone()).unwrap();
    let manifest = manifest.replace(good.config.digest.as_str(), lie.digest.as_str());
    let made = Built { config: lie, manifest: crate::built::Blob::new(manifest.into_bytes()), ..good };
    let (error, _server) = failure(move |request, client| serve(request, client, &made)).await;
    assert!(error.message().contains("the content of a layer: unexpected digest"), "{}", error.message());
}

#[tokio::test]
async fn manifests_are_bounded_and_must_be_manifests() {
    let endless = |_: &Request, client: &mut TcpStream| {
        client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        loop {
            client.write_all(&[b' '; 64 << 10])?;
        }
    };
    let (error, _server) = failure(endless).await;
    assert!(error.message().contains("larger than 4194304 bytes"), "{}", error.message());
    for (body, part) in [("<html>", "expected value"), ("{\"schemaVersion\":1}", "schema version is 1")] {
        let (error, _server) =
            failure(move |_, client| respond(client, "200 OK", &[], body.as_bytes())).await;
        assert!(error.message().contains(part), "{}", error.message());
    }
}

#[tokio::test]
async fn a_server_that_stumbles_is_asked_again_and_one_that_does_not_recover_is_told() {
    if !is_root() {
        return;
    }
    let made = image();
    let stumbles = AtomicUsize::new(0);
    let server = Hostile::start(move |request, client| {
        // Every other answer is an error.
        if stumbles.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return respond(client, "503 Service Unavailable", &[], b"");
        }
        serve(request, client, &made)
    });
    let room = Room::new();
    pull(&room, &server, Recorder::new()).await.unwrap();

    let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let (error, server) = failure(move |_, client| respond(client, "429 Too Many Requests", &[], body)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("429") && error.message().contains("slow down"), "{}", error.message());
    assert_eq!(server.requests("manifests").len(), 3);
}

#[tokio::test]
async fn challenges_and_redirects_without_end_come_to_an_end() {
    let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
    let server = Hostile::start(move |_, client| respond(client, "401 Unauthorized", &challenge, b""));
    let room = Room::new();
    let login = Credential::Basic { username: "me".into(), password: "secret".into() };
    let name = reference(&format!("{}/app", server.authority()));
    let error = room.store.pull(&name, &[login], &PullOptions::default(), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(server.requests("manifests").len(), 2);
    assert!(!error.message().contains("secret"));

    let (error, server) = failure(|request, client| {
        respond(client, "307 Temporary Redirect", &[("Location", &request.path)], b"")
    })
    .await;
    assert!(error.message().contains("too many redirects"), "{}", error.message());
    assert_eq!(server.requests("manifests").len(), 11);
}

#[tokio::test]
async fn tokens_are_got_once_with_the_credentials_and_redirects_get_none() {
    if !is_root() {
        return;
    }
    let made = image();
    // Where blobs are, as the storage behind a registry.
    let stored = made.clone();
    let storage = Hostile::start(move |request, client| serve(request, client, &stored));
    let to = storage.authority();
    let server = Hostile::start(move |request, client| {
        let me = request.header("Host").unwrap_or_default().to_owned();
        if request.path.starts_with("/token") {
            let good = request.header("Authorization") == Some("Basic bWU6c2VjcmV0");
            let body: &[u8] = if good { br#"{"token":"t0","expires_in":300}"# } else { b"{}" };
            return respond(client, if good { "200 OK" } else { "401 Unauthorized" }, &[], body);
        }
        if request.header("Authorization") != Some("Bearer t0") {
            let challenge = format!(
                "Bearer realm=\"http://{me}/token\",service=\"s\",scope=\"repository:team/app:pull\""
            );
            return respond(client, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
        }
        match blob(request, &made) {
            Some(blob) => {
                let location = format!("http://{to}/{}", blob.digest);
                respond(client, "307 Temporary Redirect", &[("Location", &location)], b"")
            }
            None => serve(request, client, &made),
        }
    });
    let room = Room::new();
    let name = reference(&format!("{}/team/app:v1", server.authority()));
    let login = |password: &str| Credential::Basic { username: "me".into(), password: password.into() };
    let wrong =
        room.store.pull(&name, &[login("other")], &PullOptions::default(), Arc::new(())).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Unauthorized, "{}", wrong.message());
    room.store.pull(&name, &[login("secret")], &PullOptions::default(), Arc::new(())).await.unwrap();
    let tokens = server.requests("/token");
    assert_eq!(tokens.len(), 2);
    assert!(
        tokens[1].path.contains("scope=repository%3Ateam%2Fapp%3Apull")
            && tokens[1].path.contains("service=s")
    );
    let redirected = storage.requests("sha256");
    assert_eq!(redirected.len(), 2);
    assert!(redirected.iter().all(|request| request.header("Authorization").is_none()));

    // An identity token is changed for one of the registry.
    let server = Hostile::start(|request, client| {
        let me = request.header("Host").unwrap_or_default().to_owned();
        match request.path.as_str() {
            "/token" => respond(client, "200 OK", &[], br#"{"access_token":"t1"}"#),
            _ if request.header("Authorization") == Some("Bearer t1") => {
                respond(client, "404 Not Found", &[], b"")
            }
            _ => {
                let challenge = format!("Bearer realm=\"http://{me}/token\"");
                respond(client, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
            }
        }
    });
    let name = reference(&format!("{}/team/app:v1", server.authority()));
    let identity = Credential::Identity("i d".into());
    let error = room.store.pull(&name, &[identity], &PullOptions::default(), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.message());
    let asked = &server.requests("/token")[0];
    assert_eq!(asked.method, "POST");
    assert!(
        asked.body.contains("refresh_token=i+d") && asked.body.contains("grant_type=refresh_token"),
        "{}",
        asked.body
    );
}

#[tokio::test]
async fn mirrors_are_told_for_whom_and_blobs_come_from_whoever_has_them() {
    if !is_root() {
        return;
    }
    let made = image();
    let served = made.clone();
    // Has the manifest, and its layers no more.
    let mirror = Hostile::start(move |request, client| match blob(request, &served) {
        Some(blob) if blob.digest == served.layers[0].digest => respond(client, "404 Not Found", &[], b""),
        _ => serve(request, client, &served),
    });
    let served = made.clone();
    let other = Hostile::start(move |request, client| serve(request, client, &served));
    let room = Room::with(with_registries(&format!(
        "mirrors: {{quay.io: {{endpoint: [\"http://{}\", \"http://{}\"]}}}}",
        mirror.authority(),
        other.authority()
    )));
    let pulled = room.pull("quay.io/team/app:v1").await;
    assert_eq!(pulled.unwrap().id, made.config.digest);
    assert!(mirror.requests("manifests")[0].path.ends_with("?ns=quay.io"));
    assert_eq!(other.requests("manifests").len(), 0);
    assert_eq!(other.requests("blobs").len(), 1);
    let asked = &mirror.requests("manifests")[0];
    assert!(asked.header("Accept").is_some_and(|accept| accept.contains(OCI_MANIFEST)));
}
