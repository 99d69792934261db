//! What a volume of a pod shall be, asked for where it is known: objects that the pod names, claims, tokens, images. Observes; must
//! never touch a file.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, ProjectedVolumeSource, Secret, Volume,
};
use kube::{Api, Client};

use super::claims::{self, Bound, Claim};
use super::csi;
use super::csi::volume::CsiVolume;
use super::payload::{self, Choice, Parts};
use super::plan::{GroupWish, Wanted};
use super::tokens::Tokens;
use crate::containers::identity::common_user;
use crate::containers::{NodeFacts, namespace};
use crate::references::References;

/// Where the layers of images come from.
pub trait ImageLayers: Send + Sync {
    /// The directories of an image's layers, the lowest first; it is pulled first where the policy wants it.
    fn layers<'a>(
        &'a self,
        pod: &'a Pod,
        reference: &'a str,
        policy: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<PathBuf>, String>> + Send + 'a>>;
}

/// What a volume is.
pub(super) enum Found {
    /// It is made by the agent.
    Here(Wanted),
    /// A driver is asked for it.
    Driver(Box<CsiVolume>),
}

/// Where what volumes are made of is known.
pub(super) struct Sources {
    pub(super) client: Client,
    pub(super) references: References,
    pub(super) tokens: Tokens,
    pub(super) images: Arc<dyn ImageLayers>,
}

impl Sources {
    async fn secret(&self, pod: &Pod, name: &str) -> Result<Option<Arc<Secret>>, String> {
        self.references.secret(namespace(pod), name).await.map_err(|error| error.to_string())
    }

    async fn config_map(&self, pod: &Pod, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        self.references.config_map(namespace(pod), name).await.map_err(|error| error.to_string())
    }

    /// What a volume of the pod shall be, or which driver's it is.
    pub(super) async fn found(&self, pod: &Pod, volume: &Volume, node: &NodeFacts) -> Result<Found, String> {
        if let Some(source) = &volume.csi {
            return Ok(Found::Driver(Box::new(csi::volume::of_pod(pod, &volume.name, source))));
        }
        match claims::claim(pod, volume) {
            Some(claim) => self.claimed(pod, &claim, node).await,
            None => self.wanted(pod, volume, node).await.map(Found::Here),
        }
    }

    async fn wanted(&self, pod: &Pod, volume: &Volume, node: &NodeFacts) -> Result<Wanted, String> {
        if let Some(source) = &volume.empty_dir {
            return Ok(Wanted::Empty(source.clone()));
        }
        if let Some(source) = &volume.host_path {
            let kind = source.type_.clone().unwrap_or_default();
            return Ok(Wanted::HostPath { path: PathBuf::from(&source.path), kind });
        }
        if let Some(source) = &volume.config_map {
            let found = self.config_map(pod, &source.name).await?;
            let choice = Choice {
                items: source.items.as_ref(),
                optional: source.optional == Some(true),
                mode: source.default_mode,
                user: source.default_user,
            };
            let payload = payload::config_map(&source.name, found.as_deref(), choice)?;
            return Ok(Wanted::Files { kind: "configmap", in_memory: false, payload });
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let found = self.secret(pod, name).await?;
            let choice = Choice {
                items: source.items.as_ref(),
                optional: source.optional == Some(true),
                mode: source.default_mode,
                user: source.default_user,
            };
            let payload = payload::secret(name, found.as_deref(), choice)?;
            return Ok(Wanted::Files { kind: "secret", in_memory: true, payload });
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::downward(pod, items, node, source.default_mode)?;
            return Ok(Wanted::Files { kind: "downward-api", in_memory: true, payload });
        }
        if let Some(source) = &volume.projected {
            let payload = self.projected(pod, source, node).await?;
            return Ok(Wanted::Files { kind: "projected", in_memory: true, payload });
        }
        if let Some(source) = &volume.image {
            let reference = source.reference.as_deref().unwrap_or_default();
            let layers = self.images.layers(pod, reference, source.pull_policy.as_deref()).await?;
            return Ok(Wanted::Image(layers));
        }
        Err("this node does not know volumes of this kind".to_owned())
    }

    async fn projected(
        &self,
        pod: &Pod,
        source: &ProjectedVolumeSource,
        node: &NodeFacts,
    ) -> Result<payload::Payload, String> {
        let (mut secrets, mut maps, mut tokens) = (HashMap::new(), HashMap::new(), HashMap::new());
        for part in source.sources.iter().flatten() {
            if let Some(it) = &part.secret {
                secrets.insert(it.name.clone(), self.secret(pod, &it.name).await?);
            }
            if let Some(it) = &part.config_map {
                maps.insert(it.name.clone(), self.config_map(pod, &it.name).await?);
            }
            if let Some(it) = &part.service_account_token {
                tokens.insert(it.path.clone(), self.tokens.get(pod, it).await?);
            }
        }
        let parts = Parts {
            secret: &|name| secrets.get(name).cloned().flatten(),
            config_map: &|name| maps.get(name).cloned().flatten(),
            token: &|projection| tokens.get(&projection.path).cloned(),
            user: common_user(pod),
            has_group: GroupWish::of(pod).is_set(),
        };
        payload::projected(pod, source, node, &parts)
    }

    async fn claimed(&self, pod: &Pod, claim: &Claim, node: &NodeFacts) -> Result<Found, String> {
        let place = format!("{}/{}", namespace(pod), claim.name);
        let wrong = |why: String| format!("error processing PVC {place}: {why}");
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace(pod));
        let object = api
            .get(&claim.name)
            .await
            .map_err(|error| wrong(format!("failed to fetch PVC from API server: {}", told(&error))))?;
        let name = claims::bound_volume(pod, claim, &object).map_err(wrong)?;
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = api
            .get(&name)
            .await
            .map_err(|error| wrong(format!("failed to fetch PV {name} from API server: {}", told(&error))))?;
        let is_made_here = claims::is_made_here(&volume);
        Ok(match claims::backing(&object, &volume, claim.read_only, node)? {
            Bound::Driver(volume) => Found::Driver(volume),
            Bound::Here(backing) => {
                Found::Here(Wanted::Claim { backing, volume: name, read_only: claim.read_only, is_made_here })
            }
        })
    }
}

/// The server's words where it has answered.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
