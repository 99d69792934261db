//! Volumes of drivers: asked for before a pod's containers start, given back when it has ended; whatever happens in between, what was
//! asked for is known from its record. Must never give back a volume that another pod of the node has.

mod record;
#[cfg(test)]
mod tests;
pub mod volume;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_csi::{Capabilities, Registered};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use self::record::{Places, Record};
use self::volume::{
    CsiVolume, Given, Giver, Manners, SecretName, attachment_name, publish_request, stage_request,
};
use super::layout::PodLayout;
use super::mount_table::MountTable;
use super::plan::{GroupWish, Wanted};
use super::set::NodeDrivers;
use super::tokens::Tokens;

/// How a driver names a volume.
type Handle = (String, String);

/// See the module's description.
pub(super) struct Csi {
    drivers: NodeDrivers,
    client: Client,
    places: Places,
    /// Held while a volume is made ready on the node, or taken away from it.
    busy: Mutex<HashMap<Handle, Arc<tokio::sync::Mutex<()>>>>,
}

/// A volume that a pod has of a driver.
pub(super) struct HeldVolume {
    /// What it is for the pod.
    pub(super) wanted: Wanted,
    /// The driver wants to be asked again after a while.
    pub(super) again: bool,
}

impl Csi {
    /// Of the drivers of a node, below the agent's directory.
    pub(super) fn new(drivers: NodeDrivers, client: Client, root: PathBuf) -> Self {
        Self { drivers, client, places: Places { root }, busy: Mutex::default() }
    }

    fn driver(&self, name: &str) -> Result<Arc<Registered>, String> {
        let found = self.drivers.drivers.named(name);
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    async fn alone(&self, handle: Handle) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock();
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(busy.entry(handle).or_default())
        };
        lock.lock_owned().await
    }

    /// Sees to it that a pod has a volume; safe to repeat.
    ///
    /// # Errors
    /// Why it has not, in the kubelet's or in the driver's words.
    pub(super) async fn give(
        &self,
        pod: &Pod,
        layout: &PodLayout,
        volume: &CsiVolume,
        tokens: &Tokens,
    ) -> Result<HeldVolume, String> {
        let registered = self.driver(&volume.driver)?;
        let api: Api<CSIDriver> = Api::all(self.client.clone());
        let object = api
            .get_opt(&volume.driver)
            .await
            .map_err(|error| format!("CSIDriver {}: {error}", volume.driver))?;
        let manners = Manners::of(object.as_ref());
        manners.judge(volume)?;
        let can = registered.driver.capabilities().await.map_err(|error| error.to_string())?;
        let giver = manners.giver(volume, can);
        let target = Places::target(layout, volume);
        let is_there = MountTable::read().map_err(|error| error.to_string())?.has(&target);
        if !is_there || manners.republishes {
            self.ask(pod, layout, volume, (&manners, can, giver), &registered, tokens).await?;
        }
        let wanted = Wanted::Published {
            path: target,
            read_only: volume.read_only,
            is_device: volume.is_block,
            to_group: giver == Giver::Agent,
        };
        Ok(HeldVolume { wanted, again: manners.republishes })
    }

    async fn ask(
        &self,
        pod: &Pod,
        layout: &PodLayout,
        volume: &CsiVolume,
        (manners, can, giver): (&Manners, Capabilities, Giver),
        registered: &Registered,
        tokens: &Tokens,
    ) -> Result<(), String> {
        let context = match manners.attaches && !volume.is_ephemeral {
            true => self.attached(volume).await?,
            false => HashMap::new(),
        };
        let group = GroupWish::of(pod).gid.filter(|_| giver == Giver::Driver);
        let given = Given { publish_context: context, group, ..Given::default() };
        let to_stage = Given { secrets: self.secrets(volume.stage_secret.as_ref()).await?, ..given.clone() };
        let secrets = self.secrets(volume.publish_secret.as_ref()).await?;
        let to_publish = Given { secrets, tokens: asked_tokens(pod, manners, tokens).await?, ..given };

        let target = Places::target(layout, volume);
        let staging = (can.stages && !volume.is_ephemeral).then(|| self.places.staging(volume));
        let record = Record {
            driver_name: volume.driver.clone(),
            volume_handle: volume.handle.clone(),
            name: volume.name.clone(),
            target: target.clone(),
            staging: staging.clone(),
        };
        let _alone = self.alone((volume.driver.clone(), volume.handle.clone())).await;
        // 1. What is asked for can be given back.
        record.write().map_err(|error| format!("the volume cannot be noted: {error}"))?;

        // 2. Once for the node.
        if let Some(staging) = &staging {
            let made = tokio::fs::create_dir_all(staging).await;
            made.map_err(|error| format!("{} cannot be made: {error}", staging.display()))?;
            let request = stage_request(volume, can, &text(staging), to_stage);
            registered.driver.stage(request).await.map_err(|error| error.to_string())?;
        }

        // 3. For the pod.
        let staging = staging.as_deref().map(text).unwrap_or_default();
        let request = publish_request(pod, volume, (manners, can), (&staging, &text(&target)), to_publish);
        registered.driver.publish(request).await.map_err(|error| error.to_string())
    }

    /// What whoever attached the volume to this node told.
    async fn attached(&self, volume: &CsiVolume) -> Result<HashMap<String, String>, String> {
        let name = attachment_name(volume, &self.drivers.node);
        let api: Api<VolumeAttachment> = Api::all(self.client.clone());
        let found = api.get_opt(&name).await.map_err(|error| format!("volume attachment {name}: {error}"))?;
        let status = found.and_then(|attachment| attachment.status);
        match status {
            Some(status) if status.attached => {
                Ok(status.attachment_metadata.unwrap_or_default().into_iter().collect())
            }
            Some(status) => Err(status
                .attach_error
                .and_then(|error| error.message)
                .unwrap_or_else(|| format!("volume {} is not attached to this node yet", volume.handle))),
            None => Err(format!("volume {} is not attached to this node yet", volume.handle)),
        }
    }

    async fn secrets(&self, name: Option<&SecretName>) -> Result<HashMap<String, String>, String> {
        let Some(SecretName { namespace, name }) = name else { return Ok(HashMap::new()) };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get(name).await;
        let secret = secret.map_err(|error| {
            format!("failed to find the secret {name} in the namespace {namespace}: {error}")
        })?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// Gives back everything that a pod has of drivers; safe to repeat.
    ///
    /// # Errors
    /// When a driver is not there, or refuses.
    pub(super) async fn take_back(&self, pod: &PodLayout, pods: &Path) -> Result<(), String> {
        for record in Record::of_pod(pod.root()).map_err(|error| error.to_string())? {
            let registered = self.driver(&record.driver_name)?;
            let _alone = self.alone((record.driver_name.clone(), record.volume_handle.clone())).await;
            let done = registered.driver.unpublish(&record.volume_handle, &record.target).await;
            done.map_err(|error| error.to_string())?;
            if let Some(staging) = &record.staging
                && !record.is_shared(pods).map_err(|error| error.to_string())?
            {
                let done = registered.driver.unstage(&record.volume_handle, staging).await;
                done.map_err(|error| error.to_string())?;
                remove_empty(staging).await;
            }
            record.remove().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The directory that a driver was given, and the one above it, which is the volume's. What still holds something stays.
async fn remove_empty(staging: &Path) {
    for directory in staging.ancestors().take(2) {
        if tokio::fs::remove_dir(directory).await.is_err() {
            return;
        }
    }
}

/// The tokens that a driver wants, as it is told of them.
async fn asked_tokens(pod: &Pod, manners: &Manners, tokens: &Tokens) -> Result<Option<String>, String> {
    if manners.tokens.is_empty() {
        return Ok(None);
    }
    let mut told = Map::new();
    for (audience, seconds) in &manners.tokens {
        let (token, expires) = tokens.of_audience(pod, audience, *seconds).await?;
        told.insert(audience.clone(), json!({"token": token, "expirationTimestamp": expires.to_string()}));
    }
    Ok(Some(Value::from(told).to_string()))
}

/// The mounts of drivers that are the node's, with no agent there.
pub(super) fn of_node(root: &Path) -> PathBuf {
    Places { root: root.to_owned() }.of_node()
}
