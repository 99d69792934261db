//! What is asked for: method, path and query of a request, as the kubelet knows them. Pure; must never know pods.

use barque_streams::process::Wanted;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::containers::ExecRequest;
use super::logs::follow::Reading;
use super::logs::line::{Stream, nanos};
use super::logs::print::Printing;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Only the pod with this one, if it is said.
    pub(crate) uid: Option<String>,
    /// Empty for what concerns the whole pod.
    pub(crate) container: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Pods,
    Summary,
    Metrics,
    ResourceMetrics,
    ContainerMetrics,
    ProbeMetrics,
    Log {
        place: Place,
        previous: bool,
        reading: Reading,
    },
    Exec {
        place: Place,
        request: ExecRequest,
    },
    Attach {
        place: Place,
        wanted: Wanted,
    },
    Run {
        place: Place,
        command: Vec<String>,
    },
    /// The ports are those of WebSockets; others name them for each connection.
    Ports {
        place: Place,
        ports: Vec<u16>,
    },
}

/// Nothing that is served, with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unserved {
    pub(crate) status: StatusCode,
    pub(crate) sentence: String,
}

pub(crate) fn unserved(status: StatusCode, sentence: impl Into<String>) -> Unserved {
    Unserved { status, sentence: sentence.into() }
}

/// Reads a request; `now` is the time in nanoseconds since 1970.
pub(crate) fn route(method: &Method, path: &str, query: &str, now: i64) -> Result<Route, Unserved> {
    let query = Query::read(query);
    let mut segments = Vec::new();
    for segment in path.trim_matches('/').split('/') {
        let decoded = percent_decode_str(segment).decode_utf8();
        let Ok(decoded) = decoded else {
            return Err(unserved(StatusCode::BAD_REQUEST, "the path is no UTF-8"));
        };
        segments.push(decoded.into_owned());
    }
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reads = method == Method::GET || method == Method::HEAD;
    let (route, fits) = match words[..] {
        ["healthz"] => (Route::Health, reads),
        ["pods"] => (Route::Pods, reads),
        ["stats", "summary"] => (Route::Summary, reads),
        ["metrics"] => (Route::Metrics, reads),
        ["metrics", "resource"] => (Route::ResourceMetrics, reads),
        ["metrics", "cadvisor"] => (Route::ContainerMetrics, reads),
        ["metrics", "probes"] => (Route::ProbeMetrics, reads),
        ["containerLogs", ..] => {
            let place = container(&words[1..], false)?;
            let previous = query.flag("previous");
            (Route::Log { place, previous, reading: reading(&query, now)? }, reads)
        }
        ["exec", ..] => {
            let place = container(&words[1..], true)?;
            let command: Vec<String> = query.all("command").map(str::to_owned).collect();
            if command.is_empty() {
                return Err(unserved(StatusCode::BAD_REQUEST, "you must specify a command"));
            }
            let request = ExecRequest { command, wanted: wanted(&query)? };
            (Route::Exec { place, request }, [Method::GET, Method::POST].contains(method))
        }
        ["attach", ..] => {
            let place = container(&words[1..], true)?;
            (Route::Attach { place, wanted: wanted(&query)? }, [Method::GET, Method::POST].contains(method))
        }
        ["run", ..] => {
            let place = container(&words[1..], true)?;
            let command: Vec<String> = query.text("cmd").split(' ').map(str::to_owned).collect();
            if command[0].is_empty() {
                return Err(unserved(StatusCode::BAD_REQUEST, "cmd names no command"));
            }
            (Route::Run { place, command }, method == Method::POST)
        }
        ["portForward", ..] => {
            let (namespace, pod, uid) = match words[1..] {
                [namespace, pod] => (namespace, pod, None),
                [namespace, pod, uid] => (namespace, pod, Some(uid.to_owned())),
                _ => return Err(not_found()),
            };
            let place = Place { namespace: namespace.into(), pod: pod.into(), uid, container: String::new() };
            let ports = ports(&query)?;
            (Route::Ports { place, ports }, [Method::GET, Method::POST].contains(method))
        }
        _ => return Err(not_found()),
    };
    if fits { Ok(route) } else { Err(unserved(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")) }
}

fn not_found() -> Unserved {
    unserved(StatusCode::NOT_FOUND, "404 page not found")
}

fn container(words: &[&str], uid: bool) -> Result<Place, Unserved> {
    let (namespace, pod, uid, container) = match *words {
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, of, container] if uid => (namespace, pod, Some(of.to_owned()), container),
        _ => return Err(not_found()),
    };
    for (word, what) in [(namespace, "namespace"), (pod, "pod"), (container, "container")] {
        if word.is_empty() {
            return Err(unserved(StatusCode::BAD_REQUEST, format!("the {what} is missing in the path")));
        }
    }
    Ok(Place { namespace: namespace.into(), pod: pod.into(), uid, container: container.into() })
}

fn wanted(query: &Query) -> Result<Wanted, Unserved> {
    let tty = query.flag("tty");
    // A terminal has one output.
    let stderr = query.flag("error") && !tty;
    let wanted = Wanted { stdin: query.flag("input"), stdout: query.flag("output"), stderr, tty };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(unserved(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(wanted)
}

fn ports(query: &Query) -> Result<Vec<u16>, Unserved> {
    let mut ports = Vec::new();
    for text in query.all("port").flat_map(|text| text.split(',')).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(port @ 1..) => ports.push(port),
            _ => return Err(unserved(StatusCode::BAD_REQUEST, format!("{text:?} is not a valid port"))),
        }
    }
    if ports.len() > barque_streams::ports::MOST_PORTS {
        return Err(unserved(StatusCode::BAD_REQUEST, "too many ports for one connection"));
    }
    Ok(ports)
}

fn reading(query: &Query, now: i64) -> Result<Reading, Unserved> {
    let invalid = |sentence: String| unserved(StatusCode::UNPROCESSABLE_ENTITY, sentence);
    let number = |name: &str, least: i64| match query.text(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(number) if number >= least => Ok(Some(number)),
            Ok(number) => Err(invalid(format!("{name}: {number} must be at least {least}"))),
            Err(_) => Err(unserved(StatusCode::BAD_REQUEST, format!("{name}: {text:?} is no number"))),
        },
    };
    let (tail, limit) = (number("tailLines", 0)?, number("limitBytes", 1)?);
    let since = match (number("sinceSeconds", 1)?, query.text("sinceTime")) {
        (None, "") => None,
        (Some(seconds), "") => Some(now.saturating_sub(seconds.saturating_mul(1_000_000_000))),
        (None, time) => {
            let moment = nanos(time);
            Some(moment.ok_or_else(|| invalid(format!("sinceTime: {time:?} is not a moment in RFC 3339")))?)
        }
        _ => return Err(invalid("only one of sinceSeconds and sinceTime may be given".to_owned())),
    };
    let stream = match query.text("stream") {
        "" | "All" => None,
        "Stdout" => Some(Stream::Stdout),
        "Stderr" => Some(Stream::Stderr),
        other => return Err(invalid(format!("stream: {other:?} is none of All, Stdout, Stderr"))),
    };
    if tail.is_some() && stream.is_some() {
        return Err(invalid("tailLines and one stream cannot be asked for together".to_owned()));
    }
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Reading {
        tail: tail.map(positive),
        printing: Printing {
            timestamps: query.flag("timestamps"),
            since,
            stream,
            limit: limit.map(positive),
        },
        follow: query.flag("follow"),
    })
}

/// Names and values of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    fn text<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name).next().unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.all(name).next().is_some_and(|value| matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000;

    fn get(path: &str, query: &str) -> Result<Route, Unserved> {
        route(&Method::GET, path, query, NOW)
    }

    fn place(uid: Option<&str>) -> Place {
        Place { namespace: "a".into(), pod: "p".into(), uid: uid.map(str::to_owned), container: "c".into() }
    }

    #[test]
    fn paths_are_the_kubelets() {
        assert_eq!(get("/pods/", ""), Ok(Route::Pods));
        assert_eq!(get("/metrics/resource", ""), Ok(Route::ResourceMetrics));
        let request = ExecRequest {
            command: vec!["sh".into(), "-c".into(), "a b".into()],
            wanted: Wanted { stdin: true, stdout: true, stderr: false, tty: true },
        };
        let query = "command=sh&command=-c&command=a+b&input=1&output=1&error=1&tty=1";
        assert_eq!(
            get("/exec/a/p/u/c", query),
            Ok(Route::Exec { place: place(Some("u")), request: request.clone() })
        );
        assert_eq!(get("/exec/a/p/c", query), Ok(Route::Exec { place: place(None), request }));
        assert_eq!(
            route(&Method::POST, "/run/a/p/c", "cmd=ls+-l", NOW),
            Ok(Route::Run { place: place(None), command: vec!["ls".into(), "-l".into()] })
        );
        let Ok(Route::Ports { ports, .. }) = get("/portForward/a/p", "port=80,81&port=82") else { panic!() };
        assert_eq!(ports, [80, 81, 82]);
    }

    #[test]
    fn what_is_not_served_is_told_with_its_code() {
        let table = [
            ("/", "", 404),
            ("/logs/x", "", 404),
            ("/exec/a/p", "command=x&output=1", 404),
            ("/exec/a/p/c", "output=1", 400),
            ("/exec/a/p/c", "command=x", 400),
            ("/attach/a//c", "output=1", 400),
            ("/run/a/p/c", "cmd=x", 405),
            ("/portForward/a/p", "port=0", 400),
            ("/containerLogs/a/p/c", "tailLines=-1", 422),
            ("/containerLogs/a/p/c", "tailLines=x", 400),
            ("/containerLogs/a/p/c", "limitBytes=0", 422),
            ("/containerLogs/a/p/c", "sinceTime=x", 422),
            ("/containerLogs/a/p/c", "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", 422),
            ("/containerLogs/a/p/c", "stream=Stdout&tailLines=1", 422),
            ("/containerLogs/a/p/%ff", "", 400),
        ];
        for (path, query, wanted) in table {
            let answer = get(path, query);
            assert_eq!(answer.unwrap_err().status.as_u16(), wanted, "{path}?{query}");
        }
        assert_eq!(route(&Method::POST, "/pods", "", NOW).unwrap_err().status.as_u16(), 405);
    }

    #[test]
    fn logs_are_read_as_they_are_asked_for() {
        let query = "follow=true&previous=true&timestamps=true&tailLines=5&limitBytes=7&sinceSeconds=10";
        let printing =
            Printing { timestamps: true, since: Some(NOW - 10_000_000_000), stream: None, limit: Some(7) };
        let reading = Reading { tail: Some(5), printing, follow: true };
        assert_eq!(
            get("/containerLogs/a/p/c", query),
            Ok(Route::Log { place: place(None), previous: true, reading })
        );
    }
}
