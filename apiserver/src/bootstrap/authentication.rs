//! The object `kube-system/extension-apiserver-authentication`: by which certificates and headers servers behind this one
//! find out who a request comes from. Several servers write it, so what is there is joined. Must never hold a key.

use barque_api::certificate_bundle::{self, certificates};
use barque_api::kind::GroupVersion;
use serde_json::{Map, Value, json};

use super::{Desired, Rule};

const CLIENT_CA: &str = "client-ca-file";
const REQUEST_HEADER_CA: &str = "requestheader-client-ca-file";
const BUNDLES: [&str; 2] = [CLIENT_CA, REQUEST_HEADER_CA];
const LISTS: [&str; 5] = [
    "requestheader-allowed-names",
    "requestheader-username-headers",
    "requestheader-uid-headers",
    "requestheader-group-headers",
    "requestheader-extra-headers-prefix",
];

/// What those that extend the API are told.
#[derive(Clone, Debug, Default)]
pub struct AuthenticationConfig {
    /// Certificates in PEM that sign those of clients (`--client-ca-file`); empty for none.
    pub client_ca: String,
    /// How a proxy in front says who asks.
    pub request_header: Option<RequestHeader>,
}

/// The flags `--requestheader-*`.
#[derive(Clone, Debug, Default)]
pub struct RequestHeader {
    /// Certificates in PEM that sign those of proxies.
    pub client_ca: String,
    /// Names of proxies; empty for any that is signed.
    pub allowed_names: Vec<String>,
    /// Headers with the name.
    pub username_headers: Vec<String>,
    /// Headers with the uid.
    pub uid_headers: Vec<String>,
    /// Headers with groups.
    pub group_headers: Vec<String>,
    /// How headers with what else is known begin.
    pub extra_prefixes: Vec<String>,
}

pub(super) fn config_map(config: &AuthenticationConfig) -> Desired {
    let mut data = Map::new();
    if !config.client_ca.is_empty() {
        data.insert(CLIENT_CA.to_owned(), config.client_ca.clone().into());
    }
    if let Some(header) = &config.request_header {
        let lists = [
            &header.allowed_names,
            &header.username_headers,
            &header.uid_headers,
            &header.group_headers,
            &header.extra_prefixes,
        ];
        data.insert(REQUEST_HEADER_CA.to_owned(), header.client_ca.clone().into());
        data.extend(LISTS.iter().zip(lists).map(|(key, list)| ((*key).to_owned(), text_of(list))));
    }
    let place = ("kube-system", "extension-apiserver-authentication");
    let one =
        Desired::new(&GroupVersion::new("", "v1"), "configmaps", "ConfigMap", place, Rule::Authentication);
    one.with("data", data.into())
}

fn text_of(list: &[String]) -> Value {
    json!(list).to_string().into()
}

/// The object with what this server adds: certificates and words that are there stay, each once.
pub(super) fn joined(expected: &Value, existing: &Value) -> Value {
    let mut object = existing.clone();
    let wanted = expected["data"].as_object();
    if !object["data"].is_object() && wanted.is_some_and(|data| !data.is_empty()) {
        object["data"] = json!({});
    }
    for (key, value) in wanted.into_iter().flatten() {
        let there = existing["data"].get(key).and_then(Value::as_str).unwrap_or_default();
        let wanted = value.as_str().unwrap_or_default();
        object["data"][key] = if BUNDLES.contains(&key.as_str()) {
            join_bundles(there, wanted).into()
        } else {
            join_lists(there, wanted)
        };
    }
    object
}

/// What is there stays as it is written when nothing is missing in it.
fn join_bundles(there: &str, wanted: &str) -> String {
    let known = certificates(there);
    let is_whole = !known.is_empty() && certificates(wanted).iter().all(|one| known.contains(one));
    if is_whole { there.to_owned() } else { certificate_bundle::joined(&[there, wanted]) }
}

fn join_lists(there: &str, wanted: &str) -> Value {
    let mut all: Vec<String> = serde_json::from_str(there).unwrap_or_default();
    let wanted: Vec<String> = serde_json::from_str(wanted).unwrap_or_default();
    for one in wanted {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    text_of(&all)
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, plan};
    use super::*;

    fn pem(text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    fn config(ca: &str, header: &str) -> AuthenticationConfig {
        let header = RequestHeader {
            client_ca: pem("proxy"),
            username_headers: vec![header.into()],
            ..RequestHeader::default()
        };
        AuthenticationConfig { client_ca: pem(ca), request_header: Some(header) }
    }

    #[test]
    fn lists_are_written_as_json() {
        let data = config_map(&config("one", "X-Remote-User")).object["data"].take();
        assert_eq!(data["client-ca-file"], *pem("one"));
        assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
        assert_eq!(data["requestheader-allowed-names"], "[]");
        let none = config_map(&AuthenticationConfig::default());
        assert_eq!(none.object["data"], json!({}));
    }

    #[test]
    fn what_other_servers_wrote_stays() {
        let mut existing = config_map(&config("one", "X-Remote-User")).object;
        existing["data"]["mine"] = "yes".into();
        existing["data"]["client-ca-file"] = format!("# comment\n{}", pem("one")).into();
        let same = config_map(&config("one", "X-Remote-User"));
        assert_eq!(plan(&same, Some(&existing)), Plan::Nothing);
        let Plan::Update(joined) = plan(&config_map(&config("two", "X-User")), Some(&existing)) else {
            panic!()
        };
        let data = &joined["data"];
        assert_eq!(data["client-ca-file"], format!("{}{}", pem("one"), pem("two")));
        assert_eq!(data["requestheader-client-ca-file"], *pem("proxy"));
        assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User","X-User"]"#);
        assert_eq!(data["mine"], "yes");
        let empty = json!({"metadata": {"name": "extension-apiserver-authentication"}});
        let Plan::Update(filled) = plan(&same, Some(&empty)) else { panic!() };
        assert_eq!(filled["data"], same.object["data"]);
    }
}
