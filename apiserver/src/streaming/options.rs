//! What the queries of `log`, `exec`, `attach` and `portforward` ask for, and the queries that agents are asked with. Pure;
//! must never know pods.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;
use barque_api::time::Time;
use form_urlencoded::Serializer;

use crate::http::parameters::Parameters;

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
    let mut ports = Vec::new();
    for port in parameters.all("ports").flat_map(|ports| ports.split(',')) {
        let port: i32 = port.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"))
        })?;
        ports.push(port.to_string());
    }
    if ports.is_empty() {
        return Ok(String::new());
    }
    Ok(Serializer::new(String::new()).append_pair("port", &ports.join(",")).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

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
