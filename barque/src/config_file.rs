//! Flags that stand in a file: YAML with a flag's name, without dashes, and its value. What was said by hand or by the environment
//! counts more. Must never know what a flag means: names and values are judged as if they were typed.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Map, Value};

/// Why a file of flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    #[error("--config={}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("--config={}: {why}", path.display())]
    Text { path: PathBuf, why: String },
    #[error(
        "--config={}: {flag} must be a text, a number, true or false, or a list of these, as flags take them",
        path.display()
    )]
    Value { path: PathBuf, flag: String },
    #[error("--config={}: {flag} must stand in quotes: YAML takes it for a number with a fraction", path.display())]
    Fraction { path: PathBuf, flag: String },
    #[error("--config={}: config is only said outside of the file", path.display())]
    Again { path: PathBuf },
}

/// The words of a file, for the flags of `command` that nobody gave.
pub(crate) fn read(
    path: &Path,
    command: &clap::Command,
    given: &ArgMatches,
) -> Result<Vec<String>, ConfigFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigFileError::Read { path: path.to_owned(), error })?;
    words(&text, command, given).map_err(|wrong| match wrong {
        Wrong::Text(why) => ConfigFileError::Text { path: path.to_owned(), why },
        Wrong::Value(flag) => ConfigFileError::Value { path: path.to_owned(), flag },
        Wrong::Fraction(flag) => ConfigFileError::Fraction { path: path.to_owned(), flag },
        Wrong::Again => ConfigFileError::Again { path: path.to_owned() },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Text(String),
    Value(String),
    /// `1.10` would come out as `1.1`.
    Fraction(String),
    Again,
}

fn words(text: &str, command: &clap::Command, given: &ArgMatches) -> Result<Vec<String>, Wrong> {
    let read: Option<Map<String, Value>> = serde_saphyr::from_str(text)
        .map_err(|error| Wrong::Text(error.to_string().trim_start_matches("error: ").to_owned()))?;
    let mut words = Vec::new();
    for (flag, value) in read.unwrap_or_default() {
        if flag == "config" {
            return Err(Wrong::Again);
        }
        if was_given(&flag, command, given) {
            continue;
        }
        let values = match value {
            // One that is only there or not.
            Value::Bool(is_set)
                if called(&flag, command).is_some_and(|arg| !arg.get_action().takes_values()) =>
            {
                words.extend(is_set.then(|| format!("--{flag}")));
                continue;
            }
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) if number.is_f64() => return Err(Wrong::Fraction(flag)),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return Err(Wrong::Value(flag)),
            };
            words.push(format!("--{flag}={value}"));
        }
    }
    Ok(words)
}

/// Whether somebody said it; a flag that there is not was said by nobody.
fn was_given(flag: &str, command: &clap::Command, given: &ArgMatches) -> bool {
    let source = called(flag, command).and_then(|arg| given.value_source(arg.get_id().as_str()));
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn called<'a>(flag: &str, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag) || arg.get_all_aliases().unwrap_or_default().contains(&flag))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command};

    use super::*;
    use crate::agent_args::AgentArgs;
    use crate::server_args::ServerArgs;

    fn of(text: &str, typed: &[&str]) -> Result<Vec<String>, Wrong> {
        of_command(ServerArgs::augment_args(Command::new("server")), text, typed)
    }

    fn of_command(command: Command, text: &str, typed: &[&str]) -> Result<Vec<String>, Wrong> {
        let given = command.clone().try_get_matches_from([&["program"], typed].concat()).unwrap();
        words(text, &command, &given)
    }

    #[test]
    fn flags_are_taken_as_if_they_were_typed() {
        let text = "name: m1\nsecure-port: 7443\ntls-san: [a.example, b.example]\nstore-arg:\n- quota-backend-bytes=1\n";
        let before = ["--name=m1", "--secure-port=7443", "--store-arg=quota-backend-bytes=1"];
        let words = [&before[..], &["--tls-san=a.example", "--tls-san=b.example"]].concat();
        assert_eq!(of(text, &[]).unwrap(), words);
        assert!(of("", &[]).unwrap().is_empty() && of("# nothing\n", &[]).unwrap().is_empty());
        // Who reads the words says that there is none, and which one may be meant.
        assert_eq!(of("nam: m1", &[]).unwrap(), ["--nam=m1"]);
    }

    #[test]
    fn what_was_typed_counts_more_also_by_another_name() {
        assert_eq!(of("name: m1\nsecure-port: 1", &["--name=m2"]).unwrap(), ["--secure-port=1"]);
        assert!(of("service-cidr: a", &["--service-cluster-ip-range=b"]).unwrap().is_empty());
        assert!(of("tls-san: [a]", &["--tls-san=b"]).unwrap().is_empty());
    }

    #[test]
    fn an_agent_takes_flags_that_are_there_or_not_as_well() {
        let agent = || AgentArgs::augment_args(Command::new("agent"));
        let text = "node-labels: a=b\nseccomp-default: true\nanonymous-auth: false\n";
        let words = of_command(agent(), text, &[]).unwrap();
        assert_eq!(words, ["--anonymous-auth=false", "--node-labels=a=b", "--seccomp-default"]);
        let typed = [&["program".to_owned()], &words[..]].concat();
        assert!(agent().try_get_matches_from(typed).is_ok());
        assert!(of_command(agent(), "seccomp-default: false", &[]).unwrap().is_empty());
        assert!(of_command(agent(), text, &["--node-labels=c=d"]).unwrap().len() == 2);
    }

    #[test]
    fn what_is_no_flag_is_told() {
        assert_eq!(of("name: {a: b}", &[]), Err(Wrong::Value("name".to_owned())));
        assert_eq!(of("tls-san: [[a]]", &[]), Err(Wrong::Value("tls-san".to_owned())));
        assert_eq!(of("join:", &[]), Err(Wrong::Value("join".to_owned())));
        assert_eq!(of("name: 1.10", &[]), Err(Wrong::Fraction("name".to_owned())));
        assert_eq!(of("config: a", &[]), Err(Wrong::Again));
        assert!(matches!(of("- a", &[]), Err(Wrong::Text(_))));
    }
}
