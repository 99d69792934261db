//! Probes of a container, the hooks of its life, and what both do.

use barque_api::field::FieldPath;
use barque_api::names;
use serde_json::Value;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// The hooks and probes of a container that has a life of its own. `grace` is how long its pod has to end.
pub(super) fn check_life(container: &Part<'_>, grace: Option<i64>, findings: &mut Findings) {
    if let Some(lifecycle) = container.given("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.given(hook) {
                check_handler(&hook, &HOOK_HANDLERS, grace, findings);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.given(name) else { continue };
        check_probe(&probe, grace, findings);
        if name == "readinessProbe" {
            if probe.has("terminationGracePeriodSeconds") {
                let value = probe.get("terminationGracePeriodSeconds").clone();
                let at = probe.at("terminationGracePeriodSeconds");
                findings.invalid(&at, value, "must not be set for readinessProbes");
            }
        } else if probe.count("successThreshold") != 1 {
            findings.invalid(&probe.at("successThreshold"), probe.count("successThreshold"), "must be 1");
        }
    }
}

fn check_probe(probe: &Part<'_>, grace: Option<i64>, findings: &mut Findings) {
    check_handler(probe, &PROBE_HANDLERS, grace, findings);
    let numbers =
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    findings.nonnegative(probe, &numbers);
    if let Some(seconds) = probe.number("terminationGracePeriodSeconds").filter(|seconds| *seconds <= 0) {
        findings.invalid(&probe.at("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

fn check_handler(part: &Part<'_>, kinds: &[&str], grace: Option<i64>, findings: &mut Findings) {
    let mut found = 0;
    for kind in kinds {
        let Some(handler) = part.given(kind) else { continue };
        found += 1;
        if found > 1 {
            findings.forbidden(&handler.path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if handler.list("command").is_empty() => findings.required(&handler.at("command"), ""),
            "httpGet" => check_http(&handler, findings),
            "tcpSocket" | "grpc" => check_port(handler.get("port"), &handler.at("port"), findings),
            "sleep" => {
                let seconds = handler.count("seconds");
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    let detail =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    findings.invalid(&handler.path, seconds, detail);
                }
            }
            _ => {}
        }
    }
    if found == 0 {
        findings.required(&part.path, "must specify a handler type");
    }
}

fn check_http(request: &Part<'_>, findings: &mut Findings) {
    findings.needs(request, "path");
    check_port(request.get("port"), &request.at("port"), findings);
    let scheme = request.text("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        findings.not_supported(&request.at("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in request.items("httpHeaders") {
        let name = header.text("name");
        findings.each(&request.at("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port by number or name.
fn check_port(port: &Value, path: &FieldPath, findings: &mut Findings) {
    if let Some(name) = port.as_str() {
        findings.each(path, name, names::port_name(name));
    } else {
        let number = port.as_i64().unwrap_or_default();
        let wrong = names::port_number(number);
        wrong.into_iter().for_each(|sentence| findings.invalid(path, number, sentence));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::tests::told;

    fn checked(container: &Value) -> Vec<String> {
        told(|findings| check_life(&Part::new(container, FieldPath::of("c")), Some(30), findings))
    }

    #[test]
    fn probes_and_what_is_wrong_with_them() {
        let probe = |handler: Value| {
            let mut probe = json!({"successThreshold": 1});
            probe.as_object_mut().unwrap().extend(handler.as_object().unwrap().clone());
            json!({"livenessProbe": probe})
        };
        let table: &[(Value, &[&str])] = &[
            (probe(json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}})), &[]),
            (probe(json!({"grpc": {"port": 80}})), &[]),
            (probe(json!({})), &["c.livenessProbe: Required value: must specify a handler type"]),
            (
                probe(json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 80}})),
                &["c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
            ),
            (
                probe(json!({"exec": {}, "periodSeconds": -1})),
                &[
                    "c.livenessProbe.exec.command: Required value",
                    "c.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                probe(
                    json!({"httpGet": {"path": "/", "port": 0, "scheme": "http", "httpHeaders": [{"name": "a b"}]}}),
                ),
                &[
                    "c.livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "c.livenessProbe.httpGet.scheme: Unsupported value: \"http\": supported values: \"HTTP\", \"HTTPS\"",
                    "c.livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of \
                     alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is \
                     '[-A-Za-z0-9]+')",
                ],
            ),
            (
                json!({"livenessProbe": {"tcpSocket": {"port": "x"}, "successThreshold": 2}}),
                &["c.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                json!({"readinessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2, "terminationGracePeriodSeconds": 3}}),
                &[
                    "c.readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes",
                ],
            ),
            (json!({"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}), &[]),
            (
                json!({"lifecycle": {"preStop": {"sleep": {"seconds": 50}}, "postStart": {}}}),
                &[
                    "c.lifecycle.postStart: Required value: must specify a handler type",
                    "c.lifecycle.preStop.sleep: Invalid value: 50: must be non-negative and less than \
                     terminationGracePeriodSeconds (30)",
                ],
            ),
        ];
        for (container, expected) in table {
            assert_eq!(checked(container), *expected, "{container}");
        }
    }
}
