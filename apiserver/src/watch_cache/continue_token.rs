//! The `continue` of a list that was cut: where it goes on, and at which revision. Clients hand it back as it is; its form
//! is Kubernetes', so that API servers of both kinds understand each other's. Pure.

use barque_api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::storage::Revision;

const VERSION: &str = "meta.k8s.io/v1";
/// In place of a revision: go on with the newest state.
const NEWEST: i64 = -1;

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continue {
    /// The first key that is wanted.
    pub start: Bytes,
    /// At this revision; `None` for the newest state, because the one at which the list began is gone.
    pub revision: Option<Revision>,
}

impl Continue {
    /// Behind this key.
    #[must_use]
    pub fn behind(key: &[u8], revision: Revision) -> Self {
        Self { start: [key, &[0]].concat().into(), revision: Some(revision) }
    }

    /// As text; the key is told without the prefix that it begins with.
    #[must_use]
    pub fn encode(&self, prefix: &[u8]) -> String {
        let start = String::from_utf8_lossy(self.start.strip_prefix(prefix).unwrap_or(&self.start));
        let rv = self.revision.map_or(NEWEST, Revision::to_wire);
        let token = Token { v: VERSION.to_owned(), rv, start: start.into_owned() };
        let json = serde_json::to_vec(&token).expect("texts and numbers are always JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    /// From text. Whatever it says, the keys begin with `prefix`.
    ///
    /// # Errors
    /// What is none is a bad request.
    pub fn decode(text: &str, prefix: &[u8]) -> Result<Self, Status> {
        let wrong = |why: String| {
            Status::bad_request(format!("invalid continue token: continue key is not valid{why}"))
        };
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|error| wrong(format!(": {error}")))?;
        let token: Token = serde_json::from_slice(&json).map_err(|error| wrong(format!(": {error}")))?;
        if token.v != VERSION {
            return Err(wrong(format!(": server does not recognize this encoded version {}", token.v)));
        }
        if token.rv == 0 {
            return Err(wrong(format!(": incorrect encoded start resourceVersion (version {VERSION})")));
        }
        if token.start.is_empty() {
            return Err(wrong(format!(": encoded start key empty (version {VERSION})")));
        }
        if !is_clean(&token.start) {
            return Err(wrong(format!(": {}", token.start)));
        }
        let start = token.start.strip_prefix('/').unwrap_or(&token.start);
        Ok(Self {
            start: [prefix, start.as_bytes()].concat().into(),
            revision: (token.rv > 0).then(|| Revision::of_wire(token.rv)),
        })
    }
}

/// Whether a path has no empty part, and none that leads elsewhere.
fn is_clean(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &[u8] = b"/registry/pods/";

    #[test]
    fn tokens_are_those_of_kubernetes() {
        let token = Continue::behind(b"/registry/pods/ns/a", Revision(17));
        let text = token.encode(PREFIX);
        assert_eq!(
            URL_SAFE_NO_PAD.decode(&text).unwrap(),
            br#"{"v":"meta.k8s.io/v1","rv":17,"start":"ns/a\u0000"}"#
        );
        assert_eq!(Continue::decode(&text, PREFIX), Ok(token.clone()));
        let newest = Continue { revision: None, ..token };
        assert_eq!(Continue::decode(&newest.encode(PREFIX), PREFIX), Ok(newest));
    }

    #[test]
    fn nothing_leads_out_of_the_collection() {
        let table = [
            "",
            "{}",
            r#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/a/../../secrets"}"#,
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//b"}"#,
        ];
        for json in table {
            let error = Continue::decode(&URL_SAFE_NO_PAD.encode(json), PREFIX).unwrap_err();
            assert_eq!(error.reason.code(), 400, "{json}");
            assert!(error.message.starts_with("invalid continue token: "), "{error}");
        }
        assert!(Continue::decode("!", PREFIX).is_err());
        let odd = URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/a"}"#);
        assert_eq!(Continue::decode(&odd, PREFIX).unwrap().start, "/registry/pods/a");
    }
}
