//! Audit logs of masters: who asked for which Lease, and what controllers and schedulers wrote. Must never guess: a line that is cut
//! off at its end says nothing.

use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::entry::{Act, Entry};
use super::workload::leases::{CONTROLLERS, SCHEDULER};

/// What the log of a process tells.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read(process: &str, log: &Path) -> std::io::Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(log) {
        // It was killed before it had one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(events.filter_map(|event: Value| told(process, &event)).collect())
}

fn micros(value: &Value) -> Option<i64> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_microsecond())
}

/// What one event tells; nothing if it changed nothing.
fn told(process: &str, event: &Value) -> Option<Entry> {
    let reference = &event["objectRef"];
    let resource = reference["resource"].as_str()?;
    let code = event["responseStatus"]["code"].as_u64()?;
    let is_done = (200..300).contains(&code);
    let version = || {
        event["responseObject"]["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|version| version.parse().ok())
    };
    let completed_us = micros(&event["stageTimestamp"])?;
    let process = process.to_owned();
    if resource == "leases" {
        let lease = reference["name"].as_str().filter(|name| [CONTROLLERS, SCHEDULER].contains(name))?;
        return Some(Entry::LeaseWritten {
            process,
            lease: lease.to_owned(),
            holder: event["requestObject"]["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            version: version().filter(|_| is_done),
            completed_us,
        });
    }
    if !is_done {
        return None;
    }
    let lease = match event["user"]["username"].as_str()? {
        "system:kube-controller-manager" => CONTROLLERS,
        "system:kube-scheduler" => SCHEDULER,
        _ => return None,
    };
    let part = |field: &str| reference[field].as_str().unwrap_or_default();
    let mut what = format!("{} {resource} {}/{}", event["verb"].as_str()?, part("namespace"), part("name"));
    if !part("subresource").is_empty() {
        what = format!("{what} {}", part("subresource"));
    }
    Some(Entry::Act(Act {
        process,
        lease: lease.to_owned(),
        what,
        received_us: micros(&event["requestReceivedTimestamp"])?,
        completed_us,
        version: version(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(user: &str, resource: &str, code: u16, version: &str) -> Value {
        json!({
            "verb": "update", "user": {"username": user},
            "objectRef": {"resource": resource, "namespace": "n", "name": "kube-scheduler", "subresource": "status"},
            "requestReceivedTimestamp": "1970-01-01T00:00:01.000000Z",
            "stageTimestamp": "1970-01-01T00:00:02.000000Z",
            "responseStatus": {"code": code},
            "requestObject": {"spec": {"holderIdentity": "me"}},
            "responseObject": {"metadata": {"resourceVersion": version}},
        })
    }

    #[test]
    fn only_what_was_done_is_an_act() {
        let told = |event: &Value| told("m1-1", event);
        let act = Act {
            process: "m1-1".to_owned(),
            lease: SCHEDULER.to_owned(),
            what: "update pods n/kube-scheduler status".to_owned(),
            received_us: 1_000_000,
            completed_us: 2_000_000,
            version: Some(7),
        };
        assert_eq!(told(&event("system:kube-scheduler", "pods", 200, "7")), Some(Entry::Act(act)));
        assert_eq!(told(&event("system:kube-scheduler", "pods", 409, "7")), None);
        assert_eq!(told(&event("eva", "pods", 200, "7")), None);
        for (code, version) in [(200, Some(7)), (409, None)] {
            let written = Entry::LeaseWritten {
                process: "m1-1".to_owned(),
                lease: SCHEDULER.to_owned(),
                holder: "me".to_owned(),
                version,
                completed_us: 2_000_000,
            };
            assert_eq!(told(&event("system:kube-scheduler", "leases", code, "7")), Some(written));
        }
    }
}
