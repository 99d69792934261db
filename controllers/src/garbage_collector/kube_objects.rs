//! The API of the garbage collector over kube's client: metadata only. Must never change what has another uid.

use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
    ValidationDirective,
};
use serde_json::{Value, json};

use super::attempt::Objects;
use super::fate::Live;
use super::identity::Identity;
use super::patches::OwnersChange;
use crate::act::{MANAGER, failure};
use crate::discovery::Followed;
use crate::plan::{Failure, Propagation, Verdict};

/// The API over a client, for all kinds that discovery tells of.
pub(super) struct KubeObjects {
    pub(super) client: Client,
    pub(super) discovered: Followed,
}

impl KubeObjects {
    fn collection(&self, object: &Identity) -> Result<Api<DynamicObject>, Failure> {
        let discovered = self.discovered.borrow();
        let known = discovered.as_ref().and_then(|all| all.of_kind(&object.api_version, &object.kind));
        let Some(collection) = known else {
            let message = format!("no kind {} is served in version {}", object.kind, object.api_version);
            return Err(Failure { verdict: Verdict::Unknown, message });
        };
        let resource = collection.api_resource();
        Ok(if object.namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &object.namespace, &resource)
        })
    }

    async fn patch(&self, object: &Identity, patch: Patch<Value>) -> Result<(), kube::Error> {
        let objects =
            self.collection(object).map_err(|failure| kube::Error::Service(failure.message.into()))?;
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Ignore),
            ..PatchParams::default()
        };
        objects.patch_metadata(&object.name, &params, &patch).await.map(|_| ())
    }
}

fn live(meta: &kube::core::ObjectMeta) -> Live {
    Live {
        uid: meta.uid.clone().unwrap_or_default(),
        version: meta.resource_version.clone().unwrap_or_default(),
        owners: meta.owner_references.clone().unwrap_or_default(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
    }
}

impl Objects for KubeObjects {
    fn namespaced(&self, api_version: &str, kind: &str) -> Option<bool> {
        let discovered = self.discovered.borrow();
        Some(discovered.as_ref()?.of_kind(api_version, kind)?.namespaced)
    }

    async fn get(&self, object: &Identity) -> Result<Option<Live>, Failure> {
        let objects = self.collection(object)?;
        let found = objects.get_metadata_opt(&object.name).await.map_err(|error| failure(&error))?;
        Ok(found.map(|found| live(&found.metadata)))
    }

    async fn delete(
        &self,
        object: &Identity,
        version: &str,
        propagation: Propagation,
    ) -> Result<(), Failure> {
        let params = DeleteParams {
            propagation_policy: match propagation {
                Propagation::Default => None,
                Propagation::Background => Some(PropagationPolicy::Background),
                Propagation::Foreground => Some(PropagationPolicy::Foreground),
                Propagation::Orphan => Some(PropagationPolicy::Orphan),
            },
            preconditions: Some(Preconditions {
                uid: Some(object.uid.clone()),
                resource_version: Some(version.to_owned()),
            }),
            ..DeleteParams::default()
        };
        let deleted = self.collection(object)?.delete(&object.name, &params).await;
        deleted.map(|_| ()).map_err(|error| failure(&error))
    }

    async fn change_owners(&self, object: &Identity, change: &OwnersChange) -> Result<(), Failure> {
        let owners = match change {
            OwnersChange::Remove(_) => Vec::new(),
            OwnersChange::Unblock => match self.get(object).await? {
                Some(live) => live.owners,
                None => return Ok(()),
            },
        };
        let strategic = Patch::Strategic(change.strategic(&object.uid, &owners));
        match self.patch(object, strategic).await {
            // Custom kinds know no strategic patch.
            Err(kube::Error::Api(status)) if status.code == 415 => {}
            other => return other.map_err(|error| failure(&error)),
        }
        let Some(live) = self.get(object).await?.filter(|live| live.uid == object.uid) else {
            return Ok(());
        };
        let merge = Patch::Merge(change.merge(&object.uid, &live.version, &live.owners));
        self.patch(object, merge).await.map_err(|error| failure(&error))
    }

    async fn set_finalizers(
        &self,
        object: &Identity,
        version: &str,
        finalizers: &[String],
    ) -> Result<(), Failure> {
        let patch = json!({"metadata": {
            "uid": object.uid, "resourceVersion": version, "finalizers": finalizers,
        }});
        self.patch(object, Patch::Merge(patch)).await.map_err(|error| failure(&error))
    }
}
