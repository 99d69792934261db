//! API servers beside this one: `APIService`. Must never call one.

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;

use super::{Change, Findings};

/// What is wrong with an `APIService`.
pub(super) fn check_api_service(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        check_status(change, findings);
        return;
    }
    let spec = change.new.child("spec");
    let (group, version) = (spec.text("group"), spec.text("version"));
    let required = format!("{version}.{group}");
    let name = Metadata::of(change.new.value).name();
    if name != required {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        findings.invalid(&FieldPath::of("metadata.name"), name, detail);
    }
    let local = !spec.has("service");
    if group.is_empty() && version != "v1" {
        findings.required(&spec.at("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        findings.dns_subdomain(&spec.at("group"), group);
    }
    findings.each(&spec.at("version"), version, barque_api::names::dns_1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.count(field);
        if priority <= 0 || priority > most {
            let detail = format!("must be positive and less than {most}");
            findings.invalid(&spec.at(field), priority, detail);
        }
    }
    if local {
        if !spec.text("caBundle").is_empty() {
            findings.invalid(
                &spec.at("caBundle"),
                format!("{} bytes", spec.text("caBundle").len() / 4 * 3),
                "local APIServices may not have a caBundle",
            );
        }
        if spec.flag("insecureSkipTLSVerify") {
            findings.invalid(
                &spec.at("insecureSkipTLSVerify"),
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    let service = spec.child("service");
    findings.needs(&service, "namespace");
    findings.needs(&service, "name");
    if let Some(port) = service.number("port")
        && !(1..=65535).contains(&port)
    {
        findings.invalid(
            &service.at("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
    if spec.flag("insecureSkipTLSVerify") && !spec.text("caBundle").is_empty() {
        let detail = "may not be true if caBundle is present";
        findings.invalid(&spec.at("insecureSkipTLSVerify"), true, detail);
    }
}

fn check_status(change: &Change<'_>, findings: &mut Findings) {
    for condition in change.new.child("status").items("conditions") {
        findings.word(&condition, "status", &["False", "True", "Unknown"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;

    #[test]
    fn an_api_service_is_named_as_its_version() {
        let service = |name: &str| {
            json!({"metadata": {"name": name}, "spec": {"group": "g.io", "version": "v1", "groupPriorityMinimum": 1,
                   "versionPriority": 1, "service": {"namespace": "a", "name": "b", "port": 443}}})
        };
        let told = |name: &str| told("apiregistration.k8s.io", "APIService", &service(name), None);
        assert!(told("v1.g.io").is_empty());
        assert_eq!(
            told("v1.g"),
            ["metadata.name: Invalid value: \"v1.g\": must be `spec.version+\".\"+spec.group`: \"v1.g.io\""]
        );
    }
}
