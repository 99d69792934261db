//! What an `APIService` says: which group and version, and whether this server or a service of the cluster serves it. Pure;
//! must never look anything up.

use barque_api::kind::GroupVersion;
use barque_api::metadata::Metadata;
use barque_api::resources::priority::{self, Priority};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The group of these objects, which nobody else can serve.
pub const GROUP: &str = "apiregistration.k8s.io";
/// The port of a service that names none.
const PORT: u16 = 443;

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Where the service is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port, as the service counts.
    pub port: u16,
}

impl ServicePort {
    /// The name that its certificate must have.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

/// How the certificate of a service is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One of these signed it: PEM (`caBundle`); empty for the authorities that the machine trusts.
    Authorities(Vec<u8>),
    /// Any (`insecureSkipTLSVerify`).
    Anybody,
}

/// Who serves a group and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This server.
    Here,
    /// A service.
    Service {
        /// Which one.
        at: ServicePort,
        /// How it proves that it is the one.
        trust: Trust,
    },
}

/// An `APIService`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its name: `VERSION.GROUP`.
    pub name: String,
    /// What is served.
    pub group_version: GroupVersion,
    /// How early clients look there.
    pub priority: Priority,
    /// By whom.
    pub place: Place,
    /// Whether the condition `Available` is true.
    pub available: bool,
}

impl Registration {
    /// Reads an object; nothing for one without a version.
    #[must_use]
    pub fn of(service: &Value) -> Option<Self> {
        let spec = service.get("spec")?;
        let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
        let number = |field: &str, otherwise: i32| {
            let given = spec.get(field).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
            given.unwrap_or(otherwise)
        };
        if text("version").is_empty() {
            return None;
        }
        let place = match spec.get("service").filter(|place| place.is_object()) {
            None => Place::Here,
            Some(place) => {
                let text = |field: &str| place.get(field).and_then(Value::as_str).unwrap_or_default();
                let port =
                    place.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
                let skips = spec.get("insecureSkipTLSVerify").and_then(Value::as_bool) == Some(true);
                Place::Service {
                    at: ServicePort {
                        namespace: text("namespace").to_owned(),
                        name: text("name").to_owned(),
                        port: port.unwrap_or(PORT),
                    },
                    trust: match skips {
                        true => Trust::Anybody,
                        false => Trust::Authorities(authorities(spec)),
                    },
                }
            }
        };
        Some(Self {
            name: Metadata::of(service).name().to_owned(),
            group_version: GroupVersion::new(text("group"), text("version")),
            priority: Priority {
                group: number("groupPriorityMinimum", priority::CUSTOM.group),
                version: number("versionPriority", priority::CUSTOM.version),
            },
            place,
            available: condition(service).is_some_and(|condition| condition["status"] == "True"),
        })
    }
}

fn authorities(spec: &Value) -> Vec<u8> {
    let encoded = spec.get("caBundle").and_then(Value::as_str).unwrap_or_default();
    // One that is no base64 cannot be written; if it were there, nothing would be trusted.
    STANDARD.decode(encoded).unwrap_or_else(|_| encoded.as_bytes().to_vec())
}

/// The condition `Available`.
#[must_use]
pub fn condition(service: &Value) -> Option<&Value> {
    let conditions = service.get("status")?.get("conditions")?.as_array()?;
    conditions.iter().find(|one| one["type"] == "Available")
}

/// The group and version that a path is about: `/apis/GROUP/VERSION` and everything below, `/api/VERSION`, and their
/// documents below `/openapi/v3`.
#[must_use]
pub fn of_path(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
    let mut parts = path.strip_prefix('/')?.split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next().filter(|group| !group.is_empty())?, parts.next()?),
        _ => return None,
    };
    (!version.is_empty() && group != GROUP).then_some((group, version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_serves_at_the_port_that_is_told() {
        let mut service = json!({
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                     "versionPriority": 90, "service": {"namespace": "kube-system", "name": "metrics-server"},
                     "insecureSkipTLSVerify": true},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        });
        let read = Registration::of(&service).unwrap();
        let at = ServicePort { namespace: "kube-system".into(), name: "metrics-server".into(), port: 443 };
        assert_eq!(at.host(), "metrics-server.kube-system.svc");
        assert_eq!(read.place, Place::Service { at: at.clone(), trust: Trust::Anybody });
        assert_eq!((read.priority, read.available), (Priority { group: 100, version: 90 }, true));
        service["spec"]["service"]["port"] = 8443.into();
        service["spec"]["insecureSkipTLSVerify"] = false.into();
        service["spec"]["caBundle"] = "QUJD".into();
        service["status"]["conditions"][0]["status"] = "False".into();
        let read = Registration::of(&service).unwrap();
        let trust = Trust::Authorities(b"ABC".to_vec());
        assert_eq!(read.place, Place::Service { at: ServicePort { port: 8443, ..at }, trust });
        assert!(!read.available);
        service["spec"]["service"] = Value::Null;
        assert_eq!(Registration::of(&service).unwrap().place, Place::Here);
    }

    #[test]
    fn a_path_names_its_group_and_version() {
        let table = [
            ("/apis/metrics.k8s.io/v1beta1", Some(("metrics.k8s.io", "v1beta1"))),
            ("/apis/metrics.k8s.io/v1beta1/nodes/a", Some(("metrics.k8s.io", "v1beta1"))),
            ("/openapi/v3/apis/metrics.k8s.io/v1beta1", Some(("metrics.k8s.io", "v1beta1"))),
            ("/api/v1/pods", Some(("", "v1"))),
            ("/apis/metrics.k8s.io", None),
            ("/apis/metrics.k8s.io/", None),
            ("/apis//v1", None),
            ("/apis/apiregistration.k8s.io/v1/apiservices", None),
            ("/openapi/v3", None),
            ("/livez", None),
        ];
        for (path, wanted) in table {
            assert_eq!(of_path(path), wanted, "{path}");
        }
    }
}
