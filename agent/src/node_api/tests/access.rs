//! Who is let in, and who is not; clients that mean no good.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ADMIN, Client, Node, authority, certified, code, head_of, rest};

async fn get(mut client: Client, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: n1\r\nconnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let head = head_of(&mut client).await;
    (code(&head), rest(client).await)
}

#[tokio::test]
async fn who_is_not_known_or_may_not_is_told_so() {
    let node = Node::start().await;
    let table = [
        ("", "/pods", 401, "Unauthorized"),
        ("unknown", "/pods", 401, "Unauthorized"),
        ("broken", "/pods", 401, "Unauthorized"),
        ("undecided-token", "/pods", 500, "Authorization error (user=undecided, verb=get, "),
        ("pods-reader-token", "/pods", 200, "PodList"),
        (
            "pods-reader-token",
            "/metrics",
            403,
            "Forbidden (user=pods-reader, verb=get, resource=nodes, subresource(s)=[metrics])",
        ),
        ("proxy-reader-token", "/pods", 200, "PodList"),
        ("nobody-token", "/pods", 403, "subresource(s)=[pods proxy])"),
        ("nobody-token", "/nothing/here", 403, "subresource(s)=[proxy])"),
        (ADMIN, "/nothing/here", 404, "404 page not found"),
    ];
    for (token, path, wanted, told) in table {
        let (code, answer) = node.ask_as(token, "GET", path).await;
        assert_eq!(code, wanted, "{token} {path}: {answer}");
        assert!(answer.contains(told), "{token} {path}: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn who_may_only_read_cannot_run_anything_through_a_websocket() {
    let node = Node::start().await;
    let headers = "authorization: Bearer proxy-reader-token\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: v5.channel.k8s.io\r\n";
    let (_, head) = node.begin("GET", "/exec/default/p/c?command=id&output=1", headers).await;
    assert_eq!(code(&head), 403, "{head}");
    node.stop().await;
}

#[tokio::test]
async fn answers_of_api_servers_are_remembered() {
    let node = Node::start().await;
    for _ in 0..3 {
        assert_eq!(node.get("/metrics").await.0, 200);
        assert_eq!(node.ask_as("unknown", "GET", "/metrics").await.0, 401);
    }
    let asked = node.known.asked.lock().clone();
    assert_eq!(asked, ["token admin-token", "admin get n1/metrics", "token unknown"]);
    node.stop().await;
}

#[tokio::test]
async fn a_certificate_of_the_right_authority_says_who_asks() {
    let node = Node::start().await;
    let shown = certified(&node.authority, "somebody", &["operators"]);
    assert_eq!(get(node.connect(Some(shown)).await, "/pods").await.0, 200);
    let shown = certified(&node.authority, "somebody", &["others"]);
    let (code, answer) = get(node.connect(Some(shown)).await, "/pods").await;
    assert_eq!(code, 403);
    assert!(answer.contains("user=somebody"), "{answer}");

    // With TLS 1.3 a client hears of a certificate that is not taken with the first answer.
    let mut client = node.connect(Some(certified(&authority(), "somebody", &["operators"]))).await;
    let _ = client.write_all(b"GET /pods HTTP/1.1\r\nhost: n1\r\n\r\n").await;
    assert!(client.read_to_end(&mut Vec::new()).await.is_err());
    node.stop().await;
}

#[tokio::test]
async fn anybody_may_when_it_is_said_so() {
    let node = Node::with(|config| {
        config.anonymous_auth = true;
        config.authorization_mode = "AlwaysAllow".to_owned();
    })
    .await;
    assert_eq!(node.ask_as("", "GET", "/pods").await.0, 200);
    assert!(node.known.asked.lock().is_empty());
    node.stop().await;

    let node = Node::with(|config| config.anonymous_auth = true).await;
    let (code, answer) = node.ask_as("", "GET", "/pods").await;
    assert_eq!(code, 403);
    assert!(answer.contains("user=system:anonymous"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_damaged_one_is_not() {
    let node = Node::start().await;
    let file = node.path().join("pki/kubelet.crt");
    let before = std::fs::read(&file).unwrap();
    std::fs::write(&file, "damaged").unwrap();
    let stream = TcpStream::connect(node.address).await.unwrap();
    drop(stream);
    std::fs::write(&file, &before).unwrap();
    assert_eq!(node.get("/pods").await.0, 200);

    let made = rcgen::generate_simple_self_signed(vec!["n1".to_owned()]).unwrap();
    std::fs::write(node.path().join("pki/kubelet.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&file, made.cert.pem()).unwrap();
    // The client trusts only what stands in the file now.
    assert_eq!(node.get("/pods").await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let node = Node::start().await;
    let mut client = node.connect(None).await;
    let request = format!("GET /pods HTTP/1.1\r\nhost: n1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    // It may be closed before all was sent.
    let _ = client.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(node.get("/pods").await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn half_open_connections_do_not_hold_up_others_or_the_end() {
    let node = Node::start().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(TcpStream::connect(node.address).await.unwrap());
    }
    let mut begun = node.connect(None).await;
    begun.write_all(b"GET /pods HT").await.unwrap();
    let mut plain = TcpStream::connect(node.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(node.get("/pods").await.0, 200);
    node.stop().await;
}
