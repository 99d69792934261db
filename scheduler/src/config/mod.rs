//! `KubeSchedulerConfiguration`, version `kubescheduler.config.k8s.io/v1`: read from YAML or JSON, checked, with the place of
//! everything that is wrong. Must never start anything.

mod arguments;
mod plugins;
mod reader;

#[cfg(test)]
mod tests;

use std::time::Duration;

use barque_api::field::{FieldError, FieldPath};
use serde_json::{Map, Value};

use self::reader::Reader;
use crate::profile::Profile;
use crate::queue;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
const DEFAULT_NAME: &str = "default-scheduler";

/// A configuration that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// It is no YAML.
    #[error("the configuration is no YAML: {0}")]
    Text(String),
    /// Fields are wrong; at least one.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldError>),
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// At least one, each with a name of its own.
    pub profiles: Vec<Profile>,
    /// `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
    pub queue: queue::Settings,
    /// `bindTimeoutSeconds` of `VolumeBinding`, of each profile: how long volumes may take to be bound.
    pub bind_timeouts: Vec<Duration>,
    /// What concerns the process and not its decisions (`leaderElection`, `clientConnection`, `enableProfiling`,
    /// `enableContentionProfiling`, `delayCacheUntilActive`), as it stands there.
    pub process: Map<String, Value>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::of_defaults(DEFAULT_NAME)],
            queue: queue::Settings::default(),
            bind_timeouts: vec![arguments::BIND_TIMEOUT],
            process: Map::new(),
        }
    }
}

/// Fields that concern the process.
const OF_THE_PROCESS: [&str; 5] = [
    "leaderElection",
    "clientConnection",
    "enableProfiling",
    "enableContentionProfiling",
    "delayCacheUntilActive",
];

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value: Value =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Text(error.to_string()))?;
        let mut errors = Vec::new();
        let configuration = read(&value, &mut errors);
        if errors.is_empty() { Ok(configuration) } else { Err(ConfigError::Fields(errors)) }
    }
}

fn read(value: &Value, errors: &mut Vec<FieldError>) -> Configuration {
    let mut reader = Reader::of(value, FieldPath::root(), errors);
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match reader.text(field) {
            Some(text) if text == expected => {}
            Some(text) => {
                let path = reader.path(field);
                reader.tell(FieldError::not_supported(&path, text, &[expected]));
            }
            None => {
                let path = reader.path(field);
                reader.tell(FieldError::required(&path, ""));
            }
        }
    }
    // Work is not done in parallel here, and all nodes are looked at; what is right elsewhere stays right.
    if let Some(parallelism) = reader.integer("parallelism")
        && parallelism <= 0
    {
        let path = reader.path("parallelism");
        reader.tell(FieldError::invalid(&path, parallelism, "should be an integer value greater than zero"));
    }
    percentage(&mut reader);
    let queue = backoff(&mut reader);
    if reader.list("extenders").is_some_and(|extenders| !extenders.is_empty()) {
        let path = reader.path("extenders");
        reader.tell(FieldError::forbidden(&path, "extenders are not supported"));
    }
    let mut process = Map::new();
    for field in OF_THE_PROCESS {
        if let Some(value) = reader.take(field) {
            process.insert(field.to_owned(), value.clone());
        }
    }
    let (mut profiles, mut bind_timeouts): (Vec<Profile>, Vec<Duration>) = (Vec::new(), Vec::new());
    match reader.list("profiles") {
        None => {
            profiles.push(Profile::of_defaults(DEFAULT_NAME));
            bind_timeouts.push(arguments::BIND_TIMEOUT);
        }
        Some([]) => {
            let path = reader.path("profiles");
            reader.tell(FieldError::required(&path, ""));
        }
        Some(list) => {
            let only = list.len() == 1;
            for (at, value) in list.iter().enumerate() {
                let path = reader.path("profiles").index(at);
                let (profile, timeout) = read_profile(value, &path, only, reader.errors());
                if profiles.iter().any(|other| other.scheduler_name == profile.scheduler_name) {
                    let name = &*profile.scheduler_name;
                    reader.tell(FieldError::duplicate(&path.child("schedulerName"), name));
                }
                profiles.push(profile);
                bind_timeouts.push(timeout);
            }
        }
    }
    reader.end();
    Configuration { profiles, queue, bind_timeouts, process }
}

fn percentage(reader: &mut Reader<'_, '_>) {
    if let Some(percentage) = reader.integer("percentageOfNodesToScore")
        && !(0..=100).contains(&percentage)
    {
        let path = reader.path("percentageOfNodesToScore");
        reader.tell(FieldError::invalid(&path, percentage, "not in valid range [0-100]"));
    }
}

fn backoff(reader: &mut Reader<'_, '_>) -> queue::Settings {
    let mut settings = queue::Settings::default();
    let (first, most) = ("podInitialBackoffSeconds", "podMaxBackoffSeconds");
    if let Some(seconds) = reader.integer(first) {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => settings.initial_backoff = Duration::from_secs(seconds),
            _ => {
                let path = reader.path(first);
                reader.tell(FieldError::invalid(&path, seconds, "must be greater than 0"));
            }
        }
    }
    let seconds = reader.integer(most).unwrap_or(settings.max_backoff.as_secs() as i64);
    let max = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if max < settings.initial_backoff {
        let path = reader.path(most);
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        reader.tell(FieldError::invalid(&path, seconds, detail));
    } else {
        settings.max_backoff = max;
    }
    settings
}

/// A profile and its `bindTimeoutSeconds`. A single one need not have a name.
fn read_profile(
    value: &Value,
    path: &FieldPath,
    only: bool,
    errors: &mut Vec<FieldError>,
) -> (Profile, Duration) {
    let mut reader = Reader::of(value, path.clone(), errors);
    let name = match reader.text("schedulerName") {
        Some(name) if !name.is_empty() => name,
        _ if only => DEFAULT_NAME,
        _ => {
            let path = reader.path("schedulerName");
            reader.tell(FieldError::required(&path, ""));
            ""
        }
    };
    let mut profile = Profile::of_defaults(name);
    percentage(&mut reader);
    if let Some(value) = reader.take("plugins") {
        let path = reader.path("plugins");
        plugins::read(value, &path, &mut profile, reader.errors());
    }
    let mut timeout = arguments::BIND_TIMEOUT;
    if let Some(list) = reader.list("pluginConfig") {
        let path = reader.path("pluginConfig");
        arguments::read(list, &path, &mut profile, &mut timeout, reader.errors());
    }
    reader.end();
    (profile, timeout)
}
