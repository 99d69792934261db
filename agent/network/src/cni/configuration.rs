//! Network configurations: which plugins, in which order, with which settings. Must never run anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::CniError;

/// A list of plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Configuration {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) disable_check: bool,
    pub(super) plugins: Vec<Plugin>,
}

/// A plugin and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plugin {
    pub(super) kind: String,
    pub(super) settings: Map<String, Value>,
}

/// The first file by name that can hold a configuration.
pub(super) fn first(directory: &Path) -> Result<Option<PathBuf>, CniError> {
    let failed =
        |source| CniError::File { what: "reading the directory", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let known = ["conf", "conflist", "json"];
        if path.extension().is_some_and(|extension| known.iter().any(|known| extension == *known)) {
            files.push(path);
        }
    }
    Ok(files.into_iter().min())
}

impl Configuration {
    pub(super) fn read(path: &Path) -> Result<Self, CniError> {
        let text = fs::read(path).map_err(|source| CniError::File {
            what: "reading",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| CniError::Configuration { path: path.to_owned(), problem })
    }

    /// A list, or one plugin alone. The error is a half sentence.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let whole: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| format!("is not a JSON object: {error}"))?;
        let text = |key: &str| whole.get(key).and_then(Value::as_str).map(str::to_owned);
        let version = text("cniVersion").unwrap_or_else(|| "0.2.0".to_owned());
        let name = text("name").filter(|name| !name.is_empty()).ok_or("has no name; give it one")?;
        let plugins = match whole.get("plugins") {
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => return Err("has plugins that are not a list".to_owned()),
            None => vec![Value::Object(whole.clone())],
        };
        let plugins: Vec<Plugin> = plugins.into_iter().map(Plugin::parse).collect::<Result<_, _>>()?;
        if plugins.is_empty() {
            return Err("has no plugins; name at least one".to_owned());
        }
        let disable_check = whole.get("disableCheck").is_some_and(|value| value == true || value == "true");
        let configuration = Self { version, name, disable_check, plugins };
        if !configuration.at_least(0, 3) || configuration.at_least(1, 2) {
            return Err(format!("has the cniVersion {}; use one of 0.3.0 to 1.1.0", configuration.version));
        }
        Ok(configuration)
    }

    /// Whether the configuration speaks this version or a later one.
    pub(super) fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    /// What a plugin reads of the configuration.
    pub(super) fn input(&self, plugin: &Plugin) -> Map<String, Value> {
        let mut input = plugin.settings.clone();
        input.insert("cniVersion".to_owned(), Value::from(self.version.as_str()));
        input.insert("name".to_owned(), Value::from(self.name.as_str()));
        input
    }
}

impl Plugin {
    fn parse(value: Value) -> Result<Self, String> {
        let Value::Object(settings) = value else {
            return Err("has a plugin that is not an object".to_owned());
        };
        let kind = settings.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty());
        let kind =
            kind.ok_or("has a plugin without a type; it is the name of the plugin's program")?.to_owned();
        if kind.contains('/') {
            return Err(format!("has a plugin of type {kind:?}; a type is a program's name, not a path"));
        }
        Ok(Self { kind, settings })
    }

    /// Whether the plugin wants to be told of something at run time.
    pub(super) fn can(&self, capability: &str) -> bool {
        self.settings.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_configuration_by_name_is_the_one() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(first(&directory.path().join("none")).unwrap(), None);
        assert_eq!(first(directory.path()).unwrap(), None);
        for name in ["00-readme.txt", "20-b.conf", "10-a.conflist", "05-c.conflist.bak"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(first(directory.path()).unwrap(), Some(directory.path().join("10-a.conflist")));
    }

    #[test]
    fn lists_and_single_plugins_are_read_and_what_is_wrong_is_told() {
        let list = br#"{"cniVersion":"1.0.0","name":"n","disableCheck":true,"plugins":[{"type":"a","capabilities":{"portMappings":true}},{"type":"b"}]}"#;
        let configuration = Configuration::parse(list).unwrap();
        assert!(configuration.disable_check && configuration.plugins[0].can("portMappings"));
        assert!(!configuration.plugins[0].can("bandwidth") && !configuration.plugins[1].can("portMappings"));
        assert!(configuration.at_least(1, 0) && !configuration.at_least(1, 1));
        let single =
            Configuration::parse(br#"{"cniVersion":"0.4.0","name":"n","type":"a","mtu":9}"#).unwrap();
        assert_eq!(single.input(&single.plugins[0])["mtu"], 9);
        for (text, problem) in [
            ("[]", "is not a JSON object"),
            (r#"{"cniVersion":"1.0.0","type":"a"}"#, "has no name"),
            (r#"{"cniVersion":"1.0.0","name":"n"}"#, "without a type"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "has no plugins"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../sh"}]}"#, "not a path"),
            (r#"{"name":"n","type":"a"}"#, "use one of 0.3.0 to 1.1.0"),
            (r#"{"cniVersion":"2.0.0","name":"n","type":"a"}"#, "use one of 0.3.0 to 1.1.0"),
        ] {
            let error = Configuration::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
