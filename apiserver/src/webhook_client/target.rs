//! Whom a `clientConfig` means: a URL or a service, its certificates, and how it is called in messages. Pure. Must never look
//! anything up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Host { host: String, port: u16 },
    Service { namespace: String, name: String, port: u16 },
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    /// The name in its certificate.
    pub(super) server_name: String,
    /// `Host` of requests.
    pub(super) authority: String,
    pub(super) path: String,
    /// For messages.
    pub(super) url: String,
    /// `caBundle` as it came; may be empty.
    pub(super) bundle: String,
}

impl Target {
    pub(super) fn of(config: &Value) -> Result<Self, String> {
        let bundle = config.get("caBundle").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(service) = config.get("service").filter(|service| !service.is_null()) {
            return Self::of_service(service, bundle);
        }
        let url = config.get("url").and_then(Value::as_str).unwrap_or_default();
        let uri: Uri = url.parse().map_err(|error| format!("url {url:?} cannot be used: {error}"))?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("url {url:?} cannot be used: it must be https://host[/path]"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self {
            address: Address::Host { host: host.clone(), port: uri.port_u16().unwrap_or(443) },
            server_name: host,
            path: uri.path().to_owned(),
            url: format!("https://{authority}{}", uri.path()),
            authority,
            bundle,
        })
    }

    fn of_service(service: &Value, bundle: String) -> Result<Self, String> {
        let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
        let port = u16::try_from(port).map_err(|_| format!("port {port} cannot be used"))?;
        let server_name = format!("{name}.{namespace}.svc");
        let authority = format!("{server_name}:{port}");
        let path = format!("/{}", text("path").trim_start_matches('/'));
        Ok(Self {
            address: Address::Service { namespace: namespace.to_owned(), name: name.to_owned(), port },
            server_name,
            url: format!("https://{authority}{path}"),
            authority,
            path,
            bundle,
        })
    }
}

/// Whom to believe, as a `caBundle` says; nothing for an empty one.
pub(super) fn roots(bundle: &str) -> Result<Option<RootCertStore>, String> {
    let pem =
        STANDARD.decode(bundle).map_err(|error| format!("unable to load root certificates: {error}"))?;
    if pem.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| format!("unable to load root certificates: {error:?}"))?;
        roots.add(certificate).map_err(|error| format!("unable to load root certificates: {error}"))?;
    }
    if roots.is_empty() {
        let why = "data does not contain any valid RSA or ECDSA certificates";
        return Err(format!("unable to load root certificates: {why}"));
    }
    Ok(Some(roots))
}

/// Where a service is reached.
pub(super) fn address_of(service: &Value, port: u16) -> Result<String, String> {
    let text = |pointer: &str| service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    if text("/spec/type") == "ExternalName" {
        return Ok(text("/spec/externalName").to_owned());
    }
    let address = text("/spec/clusterIP");
    if address.is_empty() || address == "None" {
        return Err(format!("service {name:?} has no cluster IP by which it can be reached"));
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let known = ports.into_iter().flatten().any(|one| one["port"].as_u64() == Some(u64::from(port)));
    if known {
        Ok(address.to_owned())
    } else {
        Err(format!("no service port {port} found for service {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_and_services_are_told_apart() {
        let target = Target::of(&json!({"url": "https://[::1]:8443/a/b"})).unwrap();
        assert_eq!(target.address, Address::Host { host: "::1".into(), port: 8443 });
        assert_eq!((target.server_name.as_str(), target.path.as_str()), ("::1", "/a/b"));
        let target = Target::of(&json!({"url": "https://hook.example.com"})).unwrap();
        assert_eq!(target.address, Address::Host { host: "hook.example.com".into(), port: 443 });
        let target = Target::of(&json!({"service": {"namespace": "a", "name": "b", "path": "c"}})).unwrap();
        assert_eq!(target.url, "https://b.a.svc:443/c");
        assert!(Target::of(&json!({"url": "http://hook.example.com"})).is_err());
        assert!(Target::of(&json!({})).is_err());
    }

    #[test]
    fn services_are_reached_by_their_cluster_ip_and_a_port_that_they_have() {
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443}]}});
        assert_eq!(address_of(&service, 443), Ok("10.0.0.1".to_owned()));
        assert_eq!(address_of(&service, 80).unwrap_err(), "no service port 80 found for service \"s\"");
        assert!(address_of(&json!({"spec": {"clusterIP": "None"}}), 443).is_err());
        let external = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        assert_eq!(address_of(&external, 443), Ok("example.com".to_owned()));
    }

    #[test]
    fn bundles_hold_certificates() {
        assert!(roots("").unwrap().is_none());
        assert!(roots(&STANDARD.encode(" \n")).unwrap().is_none());
        assert!(roots("!").is_err());
        assert_eq!(
            roots(&STANDARD.encode("no certificate")).unwrap_err(),
            "unable to load root certificates: data does not contain any valid RSA or ECDSA certificates"
        );
    }
}
