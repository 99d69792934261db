//! Pods, and the pods in templates (`core/v1` PodSpec).

use serde_json::{Value, json};

use super::fill::{each, given, inside, made, put, within, word};

pub(super) fn fill_kind(group: &str, kind: &str, object: &mut Value) -> bool {
    match (group, kind) {
        ("", "Pod") => {
            if let Some(spec) = inside(object, "spec") {
                // Only pods themselves: templates keep what their writers wrote, so that they compare equal.
                for containers in ["initContainers", "containers"] {
                    each(spec, containers).for_each(requests_from_limits);
                }
                pod_level_requests_from_limits(spec);
                host_ports(spec);
                put(spec, "enableServiceLinks", true);
                fill_spec(spec);
            }
        }
        ("", "PodTemplate") => {
            if let Some(spec) = within(object, &["template", "spec"]) {
                fill_spec(spec);
            }
        }
        _ => return false,
    }
    true
}

/// The pod that a template in `spec` describes.
pub(super) fn fill_template(spec: &mut Value) {
    if let Some(spec) = within(spec, &["template", "spec"]) {
        fill_spec(spec);
    }
}

fn fill_spec(spec: &mut Value) {
    name_account_twice(spec);
    put(spec, "dnsPolicy", "ClusterFirst");
    put(spec, "restartPolicy", "Always");
    put(spec, "securityContext", json!({}));
    put(spec, "terminationGracePeriodSeconds", 30);
    put(spec, "schedulerName", "default-scheduler");
    each(spec, "volumes").for_each(fill_volume);
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, containers).for_each(fill_container);
    }
}

/// The account of a pod has an old name, which is kept the same; it counts only where the new one is not given.
fn name_account_twice(spec: &mut Value) {
    let names = ["serviceAccountName", "serviceAccount"];
    let given = |name: &str| spec.get(name).and_then(Value::as_str).filter(|name| !name.is_empty());
    let Some(account) = names.into_iter().find_map(given).map(str::to_owned) else { return };
    if let Some(fields) = spec.as_object_mut() {
        for name in names {
            fields.insert(name.to_owned(), account.clone().into());
        }
    }
}

/// What is limited and not requested is requested as much as it is limited.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = inside(container, "resources") else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = made(resources, "requests") {
        for (resource, limit) in limits {
            put(requests, &resource, limit);
        }
    }
}

/// The same for the pod as a whole, for what its containers do not already ask for.
fn pod_level_requests_from_limits(spec: &mut Value) {
    let Some(resources) = inside(spec, "resources") else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    let limited: Vec<_> = limits
        .into_iter()
        .filter(|(resource, _)| {
            ["cpu", "memory"].contains(&resource.as_str()) || resource.starts_with("hugepages-")
        })
        .collect();
    if limited.is_empty() {
        return;
    }
    let asked = |resource: &str| {
        let lists =
            ["containers", "initContainers"].into_iter().filter_map(|field| spec.get(field)?.as_array());
        lists
            .flatten()
            .any(|one| one.pointer("/resources/requests").is_some_and(|asked| asked.get(resource).is_some()))
    };
    let limited: Vec<_> = limited.into_iter().filter(|(resource, _)| !asked(resource)).collect();
    if let Some(requests) = within(spec, &["resources"]).and_then(|resources| made(resources, "requests")) {
        for (resource, limit) in limited {
            put(requests, &resource, limit);
        }
    }
}

/// On the network of the host a container's port is the host's.
fn host_ports(spec: &mut Value) {
    if spec.get("hostNetwork").and_then(Value::as_bool) != Some(true) {
        return;
    }
    for containers in ["initContainers", "containers"] {
        for container in each(spec, containers) {
            for port in each(container, "ports") {
                let number = port.get("containerPort").cloned().unwrap_or_default();
                if port.get("hostPort").is_none_or(|host| host.is_null() || *host == 0) && !number.is_null() {
                    port["hostPort"] = number;
                }
            }
        }
    }
}

fn fill_container(container: &mut Value) {
    let policy = pull_policy(word(container, "image"));
    put(container, "imagePullPolicy", policy);
    put(container, "terminationMessagePath", "/dev/termination-log");
    put(container, "terminationMessagePolicy", "File");
    put(container, "resources", json!({}));
    for port in each(container, "ports") {
        put(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(field) = within(variable, &["valueFrom", "fieldRef"]) {
            put(field, "apiVersion", "v1");
        }
        if let Some(file) = within(variable, &["valueFrom", "fileKeyRef"]) {
            put(file, "optional", false);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = inside(container, probe) {
            put(probe, "timeoutSeconds", 1);
            put(probe, "periodSeconds", 10);
            put(probe, "successThreshold", 1);
            put(probe, "failureThreshold", 3);
            fill_request(probe);
            if let Some(call) = inside(probe, "grpc") {
                put(call, "service", "");
            }
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = within(container, &["lifecycle", hook]) {
            fill_request(hook);
        }
    }
}

fn fill_request(handler: &mut Value) {
    if let Some(request) = inside(handler, "httpGet") {
        put(request, "path", "/");
        put(request, "scheme", "HTTP");
    }
}

/// An image without a tag, or with the tag `latest`, may change; others are pulled once.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn fill_volume(volume: &mut Value) {
    let kinds = volume.as_object().map_or(0, |fields| {
        fields.iter().filter(|(field, value)| *field != "name" && !value.is_null()).count()
    });
    if kinds == 0 {
        put(volume, "emptyDir", json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = inside(volume, kind) {
            put(source, "defaultMode", 0o644);
            fill_items(source);
        }
    }
    if let Some(projected) = inside(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = inside(source, "serviceAccountToken") {
                put(token, "expirationSeconds", 60 * 60);
            }
            if let Some(fields) = inside(source, "downwardAPI") {
                fill_items(fields);
            }
        }
    }
    if let Some(claim) = within(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        put(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = inside(volume, "image") {
        let policy = pull_policy(word(image, "reference"));
        put(image, "pullPolicy", policy);
    }
    super::storage::fill_source(volume);
}

fn fill_items(source: &mut Value) {
    for item in each(source, "items") {
        if given(item, "fieldRef")
            && let Some(field) = inside(item, "fieldRef")
        {
            put(field, "apiVersion", "v1");
        }
        if let Some(field) = inside(item, "resourceFieldRef") {
            put(field, "divisor", "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::tests::filled;

    #[test]
    fn a_pod_with_one_container_is_filled() {
        let pod = filled("", "Pod", json!({"spec": {"containers": [{"name": "a", "image": "web"}]}}));
        assert_eq!(
            pod["spec"],
            json!({
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {}, "enableServiceLinks": true,
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
                "containers": [{
                    "name": "a", "image": "web", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
            })
        );
    }

    #[test]
    fn the_old_name_of_the_account_is_kept_the_same() {
        let table = [
            (json!({"serviceAccountName": "new"}), "new"),
            (json!({"serviceAccountName": "new", "serviceAccount": "old"}), "new"),
            (json!({"serviceAccountName": "", "serviceAccount": "old"}), "old"),
            (json!({"serviceAccount": "old"}), "old"),
        ];
        for (spec, account) in table {
            let deployment = filled("apps", "Deployment", json!({"spec": {"template": {"spec": spec}}}));
            let template = &deployment["spec"]["template"]["spec"];
            assert_eq!([&template["serviceAccountName"], &template["serviceAccount"]], [account, account]);
        }
        let none = filled("", "Pod", json!({"spec": {"serviceAccountName": ""}}));
        assert_eq!(none["spec"].get("serviceAccount"), None);
    }

    #[test]
    fn what_is_given_stays() {
        let given = json!({
            "restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0, "schedulerName": "own",
            "securityContext": {"runAsUser": 0}, "enableServiceLinks": false,
        });
        let pod = filled("", "Pod", json!({"spec": given}));
        assert_eq!(pod["spec"], given);
    }

    #[test]
    fn images_without_a_lasting_tag_are_pulled_each_time() {
        let table = [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("web:1.2", "IfNotPresent"),
            ("host:5000/web", "Always"),
            ("host:5000/a/web:2", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
        ];
        for (image, policy) in table {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn pods_request_what_they_limit_and_templates_do_not() {
        let containers = json!([{"name": "a", "image": "web:1", "resources": {
            "limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"},
        }}]);
        let pod = filled("", "Pod", json!({"spec": {"containers": containers}}));
        let requests = &pod["spec"]["containers"][0]["resources"]["requests"];
        assert_eq!(*requests, json!({"cpu": "1", "memory": "1Gi"}));
        let template = json!({"template": {"spec": {"containers": containers}}});
        let deployment = filled("apps", "Deployment", json!({"spec": template}));
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(container["terminationMessagePolicy"], "File");
    }

    #[test]
    fn on_the_hosts_network_ports_are_the_hosts() {
        let containers =
            json!([{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 90}]}]);
        let pod = filled("", "Pod", json!({"spec": {"hostNetwork": true, "containers": containers}}));
        let ports = &pod["spec"]["containers"][0]["ports"];
        assert_eq!((&ports[0]["hostPort"], &ports[1]["hostPort"]), (&json!(80), &json!(90)));
        assert_eq!(ports[0]["protocol"], "TCP");
    }

    #[test]
    fn probes_and_volumes_are_filled() {
        let pod = filled(
            "",
            "Pod",
            json!({"spec": {
                "containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 80}}}],
                "volumes": [
                    {"name": "e"},
                    {"name": "s", "secret": {"secretName": "x"}},
                    {"name": "p", "projected": {"sources": [
                        {"serviceAccountToken": {"path": "t"}},
                        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    ]}},
                ],
            }}),
        );
        let probe = &pod["spec"]["containers"][0]["livenessProbe"];
        let request = json!({"port": 80, "path": "/", "scheme": "HTTP"});
        let expected = json!({
            "httpGet": request, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        });
        assert_eq!(*probe, expected);
        let volumes = &pod["spec"]["volumes"];
        assert_eq!(volumes[0], json!({"name": "e", "emptyDir": {}}));
        assert_eq!(volumes[1]["secret"]["defaultMode"], 420);
        assert_eq!(volumes[2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3600);
        assert_eq!(
            volumes[2]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"],
            "v1"
        );
    }
}
