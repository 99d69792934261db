//! The CNI plugins that are configured now, and whether they can be used. Must never hide which file is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_api::quantity::Quantity;
use barque_network::cni::{Bandwidth, Cni};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use crate::config::ContainerConfig;
use crate::error_story::story;

/// As much at once as there is.
const NO_BURST_LIMIT: u64 = i32::MAX as u64;

/// Who is asked for networks.
pub(crate) struct Plugins {
    pub(super) configuration_dir: PathBuf,
    pub(super) plugin_dirs: Vec<PathBuf>,
    pub(super) cache_dir: PathBuf,
    /// The first configuration, or why there is none that can be used.
    pub(super) current: RwLock<State>,
}

/// What was found last.
#[derive(Clone, Default)]
pub(super) enum State {
    /// No configuration.
    #[default]
    None,
    /// One that can be used.
    Usable(Arc<Cni>),
    /// One that cannot; a sentence that names the file.
    Broken(String),
}

impl Plugins {
    /// Reads the configuration anew and asks the plugins; says whether there is one, be it broken.
    pub(super) async fn reload(&self) -> bool {
        let found = Cni::find(&self.configuration_dir, &self.plugin_dirs, self.cache_dir.clone());
        let state = match found {
            Ok(None) => State::None,
            Ok(Some(cni)) => match cni.status().await {
                Ok(()) => State::Usable(Arc::new(cni)),
                Err(error) => State::Broken(format!("{}: {}", cni.path().display(), story(&error))),
            },
            Err(error) => State::Broken(story(&error)),
        };
        let is_there = !matches!(state, State::None);
        self.tell(&state);
        *self.current.write() = state;
        is_there
    }

    /// Says what is new.
    fn tell(&self, new: &State) {
        let old = self.current.read().clone();
        match (old, new) {
            (State::Usable(old), State::Usable(new)) if old.path() == new.path() => {}
            (_, State::Usable(cni)) => tracing::info!(
                file = %cni.path().display(), plugins = cni.plugins().join(", "), "CNI plugins give pods their networks"
            ),
            (State::Broken(old), State::Broken(new)) if old == *new => {}
            (_, State::Broken(why)) => tracing::warn!(why, "CNI plugins cannot give pods their networks"),
            (_, State::None) => {}
        }
    }

    /// Why they cannot give networks.
    pub(super) fn problem(&self) -> Option<String> {
        self.usable().err()
    }

    /// Those that can.
    pub(super) fn usable(&self) -> Result<Arc<Cni>, String> {
        match &*self.current.read() {
            State::Usable(cni) => Ok(cni.clone()),
            State::Broken(why) => Err(why.clone()),
            State::None => Err(format!(
                "the CNI configuration in {} is gone; put one there, or restart the agent for the built-in network",
                self.configuration_dir.display()
            )),
        }
    }

    /// Where something may change what there is.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.configuration_dir).chain(&self.plugin_dirs).map(PathBuf::as_path)
    }
}

/// What an agent with this configuration would do, for who checks a machine.
pub(crate) async fn look(config: &ContainerConfig) -> Result<String, String> {
    let directory = &config.cni_conf_dir;
    // Nothing is remembered of what is only looked at.
    let nowhere = std::env::temp_dir();
    match Cni::find(directory, &config.cni_bin_dirs, nowhere) {
        Ok(None) => Ok(format!("no configuration in {}: the built-in network is used", directory.display())),
        Ok(Some(cni)) => match cni.status().await {
            Ok(()) => Ok(format!(
                "{}: {} instead of the built-in network",
                cni.path().display(),
                cni.plugins().join(", ")
            )),
            Err(error) => Err(format!("{}: {}", cni.path().display(), story(&error))),
        },
        Err(error) => Err(story(&error)),
    }
}

/// What a pod's annotations `kubernetes.io/ingress-bandwidth` and `egress-bandwidth` say, in bits a second; what is no quantity says
/// nothing.
pub(super) fn bandwidth(pod: &Pod) -> Option<Bandwidth> {
    let of = |direction: &str| {
        let all = pod.metadata.annotations.as_ref()?;
        let text = all.get(&format!("kubernetes.io/{direction}-bandwidth"))?;
        u64::try_from(Quantity::parse(text).ok()?.value()).ok().filter(|rate| *rate > 0)
    };
    let (ingress, egress) = (of("ingress"), of("egress"));
    let burst = |rate: Option<u64>| if rate.is_some() { NO_BURST_LIMIT } else { 0 };
    (ingress.is_some() || egress.is_some()).then(|| Bandwidth {
        ingress_rate: ingress.unwrap_or_default(),
        ingress_burst: burst(ingress),
        egress_rate: egress.unwrap_or_default(),
        egress_burst: burst(egress),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugins(directory: &Path) -> Plugins {
        Plugins {
            configuration_dir: directory.join("conf"),
            plugin_dirs: vec![directory.join("bin")],
            cache_dir: directory.join("cache"),
            current: RwLock::default(),
        }
    }

    #[tokio::test]
    async fn the_file_that_is_wrong_is_named_until_it_is_right() {
        let directory = tempfile::tempdir().unwrap();
        let plugins = plugins(directory.path());
        assert!(!plugins.reload().await, "nothing is configured");
        for name in ["conf", "bin"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let file = directory.path().join("conf/10-a.conflist");
        std::fs::write(&file, "{").unwrap();
        assert!(plugins.reload().await, "what is broken is there");
        let file_name = file.display().to_string();
        assert!(plugins.problem().unwrap().contains(&format!("{file_name} is not a JSON object")));
        std::fs::write(&file, r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"absent"}]}"#).unwrap();
        plugins.reload().await;
        let problem = plugins.problem().unwrap();
        assert!(problem.starts_with(&format!("{file_name}: there is no CNI plugin absent in ")), "{problem}");
        std::fs::write(directory.path().join("bin/absent"), "").unwrap();
        plugins.reload().await;
        assert_eq!(plugins.problem(), None);
        std::fs::remove_file(&file).unwrap();
        plugins.reload().await;
        assert!(plugins.problem().unwrap().contains("is gone; put one there"));
    }

    #[test]
    fn bandwidths_are_bits_a_second() {
        let pod = |annotations: serde_json::Value| {
            bandwidth(&serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap())
        };
        assert_eq!(pod(json!({})), None);
        assert_eq!(pod(json!({"kubernetes.io/ingress-bandwidth": "fast"})), None);
        let both =
            pod(json!({"kubernetes.io/ingress-bandwidth": "1M", "kubernetes.io/egress-bandwidth": "2Ki"}));
        assert_eq!(both.map(|it| (it.ingress_rate, it.egress_rate)), Some((1_000_000, 2048)));
        let one = pod(json!({"kubernetes.io/egress-bandwidth": "5"})).unwrap();
        assert_eq!((one.ingress_rate, one.ingress_burst, one.egress_burst), (0, 0, NO_BURST_LIMIT));
    }
}
