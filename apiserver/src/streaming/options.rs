//! What the queries of `log`, `exec`, `attach` and `portforward` ask for, and the queries that agents are asked with. Pure;
//! must never know pods.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;
use barque_api::time::Time;
use form_urlencoded::Serializer;
use serde_json::{Value, json};

use super::plan::{percent_decoded, percent_encoded};
use crate::http::parameters::Parameters;
use crate::http::request_info::ResourceRequest;

/// `PodLogOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container; empty for the only one.
    pub container: String,
    /// What the agent is asked with.
    pub query: String,
    /// The agent's certificate is not verified.
    pub insecure: bool,
}

/// Reads the options of a request for the log of the pod `name`.
///
/// # Errors
/// 400 for what is no number, 422 for what contradicts itself or is out of range.
pub fn log(parameters: &Parameters, name: &str) -> Result<LogOptions, Status> {
    let tail = parameters.number("tailLines")?;
    let bytes = parameters.number("limitBytes")?;
    let seconds = parameters.number("sinceSeconds")?;
    let time = Some(parameters.text("sinceTime")).filter(|text| !text.is_empty());
    if let Some(text) = time
        && let Err(error) = Time::parse(text)
    {
        return Err(Status::bad_request(format!("sinceTime={text:?}: {error}")));
    }
    let positive = "must be greater than 0";
    let mut errors = Vec::new();
    if let Some(lines) = tail.filter(|lines| *lines < 0) {
        let path = FieldPath::of("tailLines");
        errors.push(FieldError::invalid(&path, lines, "must be greater than or equal to 0"));
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes < 1) {
        errors.push(FieldError::invalid(&FieldPath::of("limitBytes"), bytes, positive));
    }
    match (seconds, time) {
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(
            &FieldPath::of(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        (Some(seconds), None) if seconds < 1 => {
            errors.push(FieldError::invalid(&FieldPath::of("sinceSeconds"), seconds, positive));
        }
        _ => {}
    }
    // PodLogsQuerySplitStreams is an alpha feature, which is off.
    if parameters.has("stream") {
        errors.push(FieldError::forbidden(&FieldPath::of("stream"), "may not be specified"));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupVersionKind::new("", "v1", "PodLogOptions"), name, &errors));
    }
    let mut query = Serializer::new(String::new());
    for flag in ["follow", "previous", "timestamps"] {
        if parameters.flag(flag) {
            query.append_pair(flag, "true");
        }
    }
    for (key, number) in [("sinceSeconds", seconds), ("tailLines", tail), ("limitBytes", bytes)] {
        if let Some(number) = number {
            query.append_pair(key, &number.to_string());
        }
    }
    if let Some(time) = time {
        query.append_pair("sinceTime", time);
    }
    Ok(LogOptions {
        container: parameters.text("container").to_owned(),
        query: query.finish(),
        insecure: parameters.flag("insecureSkipTLSVerifyBackend"),
    })
}

/// The flags of a process that are streams.
const STREAMS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// Which streams a process gets; of `PodExecOptions` and `PodAttachOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The process reads what the client sends.
    pub stdin: bool,
    /// The client reads what the process writes.
    pub stdout: bool,
    /// The same for its errors. Never with a terminal: that has one output only.
    pub stderr: bool,
    /// The process has a terminal, which has a size.
    pub tty: bool,
}

/// Reads which streams a request wants.
#[must_use]
pub fn streams(parameters: &Parameters) -> Streams {
    let tty = parameters.flag("tty");
    Streams {
        stdin: parameters.flag("stdin"),
        stdout: parameters.flag("stdout"),
        stderr: parameters.flag("stderr") && !tty,
        tty,
    }
}

/// The options of a connection as an object, as admission is asked about them; nothing for a log, which is only read.
///
/// # Errors
/// 400 for ports that are none.
pub fn of_connection(
    info: &ResourceRequest,
    parameters: &Parameters,
) -> Result<Option<(GroupVersionKind, Value)>, Status> {
    let kind = match (&*info.resource.resource, &*info.subresource) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("pods", "proxy") => "PodProxyOptions",
        ("nodes", "proxy") => "NodeProxyOptions",
        ("services", "proxy") => "ServiceProxyOptions",
        _ => return Ok(None),
    };
    let mut options = json!({"apiVersion": "v1", "kind": kind});
    match &*info.subresource {
        "proxy" if info.rest.is_empty() => {}
        "proxy" => options["path"] = String::from_utf8_lossy(&percent_decoded(&info.rest)).into(),
        "portforward" => {
            let ports = ports(parameters)?;
            if !ports.is_empty() {
                options["ports"] = ports.into();
            }
        }
        subresource => {
            for flag in STREAMS.into_iter().filter(|flag| parameters.flag(flag)) {
                options[flag] = true.into();
            }
            let container = parameters.text("container");
            if !container.is_empty() {
                options["container"] = container.into();
            }
            if subresource == "exec" {
                options["command"] = parameters.all("command").collect::<Vec<_>>().into();
            }
        }
    }
    Ok(Some((GroupVersionKind::new("", "v1", kind), options)))
}

/// The same options as they stand behind the question mark.
#[must_use]
pub fn as_parameters(options: &Value) -> Parameters {
    let mut query = Serializer::new(String::new());
    for flag in STREAMS.into_iter().filter(|flag| options[*flag] == true) {
        query.append_pair(flag, "true");
    }
    if let Some(container) = options["container"].as_str() {
        query.append_pair("container", container);
    }
    for word in options["command"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        query.append_pair("command", word);
    }
    for port in options["ports"].as_array().into_iter().flatten() {
        query.append_pair("ports", &port.to_string());
    }
    Parameters::of(&query.finish())
}

/// The path that options of a proxy name, as it stands in a request.
#[must_use]
pub fn as_rest(options: &Value) -> String {
    let path = options["path"].as_str().unwrap_or_default();
    let steps: Vec<_> = path.split('/').map(|step| percent_encoded(step.as_bytes())).collect();
    steps.join("/")
}

/// What an agent is asked with to run a command or to attach to a container.
#[must_use]
pub fn process_query(parameters: &Parameters, with_command: bool) -> String {
    let mut query = Serializer::new(String::new());
    if with_command {
        for word in parameters.all("command") {
            query.append_pair("command", word);
        }
    }
    for (option, key) in [("stderr", "error"), ("stdin", "input"), ("stdout", "output"), ("tty", "tty")] {
        if parameters.flag(option) {
            query.append_pair(key, "1");
        }
    }
    query.finish()
}

/// What an agent is asked with to forward ports.
///
/// # Errors
/// 400 for what is no number.
pub fn ports_query(parameters: &Parameters) -> Result<String, Status> {
    let ports: Vec<String> = ports(parameters)?.iter().map(ToString::to_string).collect();
    if ports.is_empty() {
        return Ok(String::new());
    }
    Ok(Serializer::new(String::new()).append_pair("port", &ports.join(",")).finish())
}

fn ports(parameters: &Parameters) -> Result<Vec<i32>, Status> {
    let ports = parameters.all("ports").flat_map(|ports| ports.split(','));
    let wrong =
        |port: &str| Status::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"));
    ports.map(|port| port.parse().map_err(|_| wrong(port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::{Query, RequestInfo, request_info};

    #[test]
    fn options_of_connections_are_objects_and_back() {
        let table = [
            (
                "pods/p/exec",
                "command=sh&command=-c&stdin=true&tty=0&container=c",
                json!({"kind": "PodExecOptions", "stdin": true, "container": "c", "command": ["sh", "-c"]}),
            ),
            ("pods/p/attach", "stdout=1", json!({"kind": "PodAttachOptions", "stdout": true})),
            (
                "pods/p/portforward",
                "ports=80,81",
                json!({"kind": "PodPortForwardOptions", "ports": [80, 81]}),
            ),
            ("services/s/proxy/a/b%20c", "x=y", json!({"kind": "ServiceProxyOptions", "path": "a/b c"})),
        ];
        for (path, query, mut expected) in table {
            expected["apiVersion"] = json!("v1");
            let path = format!("/api/v1/namespaces/a/{path}");
            let RequestInfo::Resource(info) = request_info("GET", &path, Query::default()) else { panic!() };
            let (kind, options) = of_connection(&info, &Parameters::of(query)).unwrap().unwrap();
            assert_eq!((&json!(&*kind.kind), &options), (&expected["kind"], &expected), "{path}");
            if info.subresource == "proxy" {
                assert_eq!(as_rest(&options), info.rest);
            } else {
                let again = of_connection(&info, &as_parameters(&options)).unwrap().unwrap();
                assert_eq!(again.1, options, "{path}");
            }
        }
    }

    #[test]
    fn an_agent_is_asked_for_the_log_that_the_client_wants() {
        let options = log(
            &Parameters::of(
                "container=a&follow=true&previous=false&timestamps=1&tailLines=0&limitBytes=9\
                 &sinceTime=2026-01-02T03:04:05Z&insecureSkipTLSVerifyBackend=true&pretty=true",
            ),
            "p",
        )
        .unwrap();
        assert_eq!((options.container.as_str(), options.insecure), ("a", true));
        assert_eq!(
            options.query,
            "follow=true&timestamps=true&tailLines=0&limitBytes=9&sinceTime=2026-01-02T03%3A04%3A05Z"
        );
    }

    #[test]
    fn log_options_are_held_to_their_ranges() {
        let table = [
            ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z",
                422,
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            ("stream=Stdout", 422, "stream: Forbidden: may not be specified"),
            ("tailLines=x", 400, "invalid syntax"),
            ("sinceTime=x", 400, "sinceTime=\"x\""),
        ];
        for (query, code, told) in table {
            let error = log(&Parameters::of(query), "p").unwrap_err();
            assert_eq!(error.reason.code(), code, "{query}");
            assert!(error.message.contains(told), "{query}: {}", error.message);
            assert!(code == 400 || error.message.starts_with("PodLogOptions \"p\" is invalid: "));
        }
    }

    #[test]
    fn agents_have_their_own_names_for_streams() {
        let parameters =
            Parameters::of("command=sh&command=-c&command=a+b&stdin=true&stdout=1&stderr=true&tty=0");
        assert_eq!(
            process_query(&parameters, true),
            "command=sh&command=-c&command=a+b&error=1&input=1&output=1"
        );
        assert_eq!(process_query(&parameters, false), "error=1&input=1&output=1");
        assert_eq!(ports_query(&Parameters::of("ports=80&ports=443")).as_deref(), Ok("port=80%2C443"));
        assert_eq!(ports_query(&Parameters::of("")).as_deref(), Ok(""));
        assert_eq!(ports_query(&Parameters::of("ports=http")).unwrap_err().reason.code(), 400);
    }

    #[test]
    fn a_terminal_has_one_output() {
        let wanted = streams(&Parameters::of("stdin=true&stdout=true&stderr=true&tty=true"));
        assert_eq!(wanted, Streams { stdin: true, stdout: true, stderr: false, tty: true });
    }
}
