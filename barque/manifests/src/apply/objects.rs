//! Single objects over the API: applied on the server's side, and deleted when they are ours. Must never delete what another
//! has brought, or another object of the same name than was looked at.

use std::sync::Arc;
use std::time::Duration;

use barque_client::discovery::{Collection, Discovered, discover};
use barque_client::error_story::told;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use tokio::time::timeout;

use crate::MANAGER;
use crate::manifest::{Manifest, Reference};
use crate::published::BROUGHT_BY;

/// How long a kind may take until it is established; with several API servers it takes some seconds, until all know it.
const ESTABLISHED: Duration = Duration::from_secs(20);

/// Objects of any kind.
pub(super) struct Objects {
    client: Client,
    /// What is served; asked for when it is needed.
    discovered: Option<Discovered>,
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self { client, discovered: None }
    }

    /// Applies an object.
    pub(super) async fn apply(&mut self, manifest: &Manifest) -> Result<(), String> {
        let reference = manifest.reference();
        let known = self.discovered().await?.of_kind(&reference.api_version, &reference.kind).cloned();
        let collection = known.ok_or_else(|| {
            format!("no kind {} is served in version {}", reference.kind, reference.api_version)
        })?;
        let params = PatchParams::apply(MANAGER).force();
        let objects = self.objects(&collection, &reference);
        let applied = objects.patch(&reference.name, &params, &Patch::Apply(&manifest.object)).await;
        if applied.map_err(|error| told(&error))?.metadata.deletion_timestamp.is_some() {
            return Err("it is being deleted, and is applied when it is gone".to_owned());
        }
        if collection.group_resource() == "customresourcedefinitions.apiextensions.k8s.io" {
            // What is served now is asked for when the next object needs it.
            self.discovered = None;
            let kinds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            let established = await_condition(kinds, &reference.name, is_crd_established());
            match timeout(ESTABLISHED, established).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(format!("it cannot be watched: {error}")),
                Err(_) => return Err("it is not established".to_owned()),
            }
        }
        Ok(())
    }

    /// Deletes an object, if it is there and this file has brought it.
    pub(super) async fn delete(&mut self, reference: &Reference, file: &str) -> Result<(), String> {
        let discovered = self.discovered().await?;
        let Some(collection) = served(discovered, reference) else {
            let stale = discovered.stale();
            return match stale.iter().any(|version| version.split('/').next() == Some(reference.group())) {
                true => Err(format!("the server of {} does not answer", reference.group())),
                // The objects have gone with their kind.
                false => Ok(()),
            };
        };
        let objects = self.objects(&collection, reference);
        let found = objects.get_metadata_opt(&reference.name).await.map_err(|error| told(&error))?;
        let Some(meta) = found.map(|found| found.metadata) else { return Ok(()) };
        let brought_by = meta.annotations.as_ref().and_then(|all| all.get(BROUGHT_BY));
        if brought_by.is_none_or(|it| it != file) {
            return Ok(());
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: meta.uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match objects.delete(&reference.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(told(&error)),
        }
    }

    async fn discovered(&mut self) -> Result<&Discovered, String> {
        let discovered = match self.discovered.take() {
            Some(discovered) => discovered,
            None => discover(&self.client).await.map_err(|error| error.to_string())?,
        };
        Ok(self.discovered.insert(discovered))
    }

    fn objects(&self, collection: &Collection, reference: &Reference) -> Api<DynamicObject> {
        let resource = collection.api_resource();
        if collection.namespaced {
            let (_, _, namespace, _) = reference.key();
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }
}

/// Where an object is found, in whatever version.
fn served(discovered: &Discovered, reference: &Reference) -> Option<Arc<Collection>> {
    let same = discovered.of_kind(&reference.api_version, &reference.kind).cloned();
    same.or_else(|| {
        let mut all = discovered.preferred().into_iter();
        all.find(|one| one.group == reference.group() && one.kind == reference.kind)
    })
}
