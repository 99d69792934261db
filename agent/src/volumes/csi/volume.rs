//! What is asked of a driver for a volume of a pod, from the objects that describe both. A decision; must never ask anybody.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use barque_csi::Capabilities;
use barque_csi::wire::volume_capability::access_mode::Mode;
use barque_csi::wire::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use barque_csi::wire::{NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability};
use k8s_openapi::api::core::v1::{CSIVolumeSource, PersistentVolume, Pod, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest as _, Sha256};

use crate::containers::{name, namespace};
use crate::pods::spec;

/// A secret that a driver is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A volume of a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsiVolume {
    /// The driver's name.
    pub driver: String,
    /// What the driver calls it.
    pub handle: String,
    /// The persistent volume, or the volume of the pod.
    pub name: String,
    /// It belongs to one pod, in which it is described.
    pub is_ephemeral: bool,
    /// A device, used as one.
    pub is_block: bool,
    /// Nobody may write.
    pub read_only: bool,
    /// As `ext4`; empty is the driver's own.
    pub fs_type: String,
    /// For the driver.
    pub attributes: BTreeMap<String, String>,
    /// How it is mounted.
    pub mount_options: Vec<String>,
    /// As `ReadWriteOnce`.
    pub access_modes: Vec<String>,
    /// For making it ready on the node.
    pub stage_secret: Option<SecretName>,
    /// For giving it to a pod.
    pub publish_secret: Option<SecretName>,
}

/// Who gives the files of a volume to the pod's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// Nobody.
    Nobody,
    /// The agent.
    Agent,
    /// The driver.
    Driver,
}

/// What drivers say of themselves in their objects, with Kubernetes' defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// Volumes are attached to the node first, by whoever does that for the driver.
    pub attaches: bool,
    /// It wants to know the pod.
    pub wants_pod: bool,
    /// Audiences of tokens that it wants, with how long they last in seconds.
    pub tokens: Vec<(String, Option<i64>)>,
    /// It wants to be asked again and again, since what it gives changes.
    pub republishes: bool,
    group_policy: String,
    takes_ephemeral: bool,
    takes_persistent: bool,
}

impl Manners {
    /// Of a driver's object; one that has none is not said to be different.
    #[must_use]
    pub fn of(driver: Option<&CSIDriver>) -> Self {
        let spec = driver.map(|driver| &driver.spec);
        let flag =
            |read: fn(&k8s_openapi::api::storage::v1::CSIDriverSpec) -> Option<bool>| spec.and_then(read);
        let modes = spec.and_then(|spec| spec.volume_lifecycle_modes.as_deref()).unwrap_or_default();
        let takes = |mode: &str| modes.iter().any(|it| it == mode);
        let tokens = spec.and_then(|spec| spec.token_requests.as_deref()).unwrap_or_default();
        Self {
            attaches: flag(|spec| spec.attach_required).unwrap_or(true),
            wants_pod: flag(|spec| spec.pod_info_on_mount).unwrap_or(false),
            tokens: tokens.iter().map(|it| (it.audience.clone(), it.expiration_seconds)).collect(),
            republishes: flag(|spec| spec.requires_republish).unwrap_or(false),
            group_policy: spec.and_then(|spec| spec.fs_group_policy.clone()).unwrap_or_default(),
            takes_ephemeral: takes("Ephemeral"),
            takes_persistent: modes.is_empty() || takes("Persistent"),
        }
    }

    /// # Errors
    /// When the driver does not have such volumes, in the kubelet's words.
    pub fn judge(&self, volume: &CsiVolume) -> Result<(), String> {
        let (mode, takes) = match volume.is_ephemeral {
            true => ("Ephemeral", self.takes_ephemeral),
            false => ("Persistent", self.takes_persistent),
        };
        if takes {
            return Ok(());
        }
        Err(format!("volume mode {mode:?} not supported by driver {}", volume.driver))
    }

    /// Who gives the files to a group (`fsGroupPolicy`).
    #[must_use]
    pub fn giver(&self, volume: &CsiVolume, can: Capabilities) -> Giver {
        if volume.is_block || volume.read_only {
            return Giver::Nobody;
        }
        if can.gives_to_groups {
            return Giver::Driver;
        }
        let once = ["ReadWriteOnce", "ReadWriteOncePod"];
        let is_once = volume.access_modes.iter().all(|mode| once.contains(&mode.as_str()));
        let gives = match self.group_policy.as_str() {
            "None" => false,
            "File" => true,
            _ => !volume.fs_type.is_empty() && !volume.access_modes.is_empty() && is_once,
        };
        if gives { Giver::Agent } else { Giver::Nobody }
    }
}

fn hash(of: &str) -> String {
    let mut text = String::from("csi-");
    for byte in Sha256::digest(of.as_bytes()) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The name of the object that tells whether a volume is attached to a node.
#[must_use]
pub fn attachment_name(volume: &CsiVolume, node: &str) -> String {
    hash(&format!("{}{}{node}", volume.handle, volume.driver))
}

fn secret_name(reference: Option<&SecretReference>) -> Option<SecretName> {
    let reference = reference?;
    let (namespace, name) = (reference.namespace.clone()?, reference.name.clone()?);
    Some(SecretName { namespace, name })
}

/// The volume of a driver that a persistent volume is; nothing for one of another kind.
#[must_use]
pub fn of_persistent(volume: &PersistentVolume, claim_reads_only: bool) -> Option<CsiVolume> {
    let spec = volume.spec.as_ref()?;
    let source = spec.csi.as_ref()?;
    Some(CsiVolume {
        driver: source.driver.clone(),
        handle: source.volume_handle.clone(),
        name: volume.metadata.name.clone().unwrap_or_default(),
        is_ephemeral: false,
        is_block: spec.volume_mode.as_deref() == Some("Block"),
        read_only: claim_reads_only || source.read_only == Some(true),
        fs_type: source.fs_type.clone().unwrap_or_default(),
        attributes: source.volume_attributes.clone().unwrap_or_default(),
        mount_options: spec.mount_options.clone().unwrap_or_default(),
        access_modes: spec.access_modes.clone().unwrap_or_default(),
        stage_secret: secret_name(source.node_stage_secret_ref.as_ref()),
        publish_secret: secret_name(source.node_publish_secret_ref.as_ref()),
    })
}

/// The volume that is described in the pod itself.
#[must_use]
pub fn of_pod(pod: &Pod, volume: &str, source: &CSIVolumeSource) -> CsiVolume {
    let secret = source.node_publish_secret_ref.as_ref();
    CsiVolume {
        driver: source.driver.clone(),
        handle: hash(&format!("{}{volume}", spec::uid(pod))),
        name: volume.to_owned(),
        is_ephemeral: true,
        read_only: source.read_only == Some(true),
        fs_type: source.fs_type.clone().unwrap_or_default(),
        attributes: source.volume_attributes.clone().unwrap_or_default(),
        publish_secret: secret
            .map(|it| SecretName { namespace: namespace(pod).to_owned(), name: it.name.clone() }),
        ..CsiVolume::default()
    }
}

/// What a request needs that others have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// What whoever attached the volume told.
    pub publish_context: HashMap<String, String>,
    /// What is in the secret.
    pub secrets: HashMap<String, String>,
    /// The pod's group, where the driver gives files to it.
    pub group: Option<u32>,
    /// The tokens that the driver wants, as JSON.
    pub tokens: Option<String>,
}

fn capability(volume: &CsiVolume, can: Capabilities, group: Option<u32>) -> VolumeCapability {
    let has = |mode: &str| volume.access_modes.iter().any(|it| it == mode);
    let mode = match can.knows_single_writers {
        _ if has("ReadWriteMany") => Mode::MultiNodeMultiWriter,
        _ if has("ReadOnlyMany") && has("ReadWriteOnce") => Mode::MultiNodeMultiWriter,
        _ if has("ReadOnlyMany") => Mode::MultiNodeReaderOnly,
        true if has("ReadWriteOncePod") => Mode::SingleNodeSingleWriter,
        true if has("ReadWriteOnce") => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    };
    let access_type = if volume.is_block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: volume.fs_type.clone(),
            mount_flags: volume.mount_options.clone(),
            volume_mount_group: group.map(|gid| gid.to_string()).unwrap_or_default(),
        })
    };
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), access_type: Some(access_type) }
}

/// What makes a volume ready on the node.
#[must_use]
pub fn stage_request(
    volume: &CsiVolume,
    can: Capabilities,
    staging: &str,
    given: Given,
) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: volume.handle.clone(),
        publish_context: given.publish_context,
        staging_target_path: staging.to_owned(),
        volume_capability: Some(capability(volume, can, given.group)),
        secrets: given.secrets,
        volume_context: volume.attributes.clone().into_iter().collect(),
    }
}

/// What gives a volume to a pod. `staging` is empty for a driver that makes nothing ready before.
#[must_use]
pub fn publish_request(
    pod: &Pod,
    volume: &CsiVolume,
    (manners, can): (&Manners, Capabilities),
    (staging, target): (&str, &str),
    given: Given,
) -> NodePublishVolumeRequest {
    let mut context: HashMap<String, String> = volume.attributes.clone().into_iter().collect();
    if manners.wants_pod {
        let account = spec::spec(pod).and_then(|spec| spec.service_account_name.clone());
        for (key, value) in [
            ("pod.name", name(pod).to_owned()),
            ("pod.namespace", namespace(pod).to_owned()),
            ("pod.uid", spec::uid(pod).to_owned()),
            ("serviceAccount.name", account.unwrap_or_default()),
            ("ephemeral", volume.is_ephemeral.to_string()),
        ] {
            context.insert(format!("csi.storage.k8s.io/{key}"), value);
        }
    }
    if let Some(tokens) = given.tokens {
        context.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens);
    }
    NodePublishVolumeRequest {
        volume_id: volume.handle.clone(),
        publish_context: given.publish_context,
        staging_target_path: staging.to_owned(),
        target_path: target.to_owned(),
        volume_capability: Some(capability(volume, can, given.group)),
        readonly: volume.read_only,
        secrets: given.secrets,
        volume_context: context,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod() -> Pod {
        object(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "sa"}}))
    }

    fn driver(spec: Value) -> Manners {
        Manners::of(Some(&object(json!({"metadata": {"name": "d"}, "spec": spec}))))
    }

    #[test]
    fn a_persistent_volume_tells_what_its_driver_needs() {
        let volume: PersistentVolume = object(json!({"metadata": {"name": "pv"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "mountOptions": ["noatime"],
            "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4", "volumeAttributes": {"a": "b"},
                "nodeStageSecretRef": {"namespace": "s", "name": "key"}}}}));
        let found = of_persistent(&volume, true).unwrap();
        assert_eq!((found.driver.as_str(), found.handle.as_str(), found.read_only), ("d", "h", true));
        assert_eq!(found.stage_secret, Some(SecretName { namespace: "s".into(), name: "key".into() }));
        let given = Given { group: Some(7), ..Given::default() };
        let stage = stage_request(&found, Capabilities::default(), "/stage", given);
        assert_eq!((stage.volume_id.as_str(), stage.volume_context["a"].as_str()), ("h", "b"));
        let Some(AccessType::Mount(mount)) = stage.volume_capability.unwrap().access_type else { panic!() };
        let expected = MountVolume {
            fs_type: "ext4".into(),
            mount_flags: vec!["noatime".into()],
            volume_mount_group: "7".into(),
        };
        assert_eq!(mount, expected);
        let local: PersistentVolume = object(json!({"spec": {"local": {"path": "/d"}}}));
        assert_eq!(of_persistent(&local, false), None);
    }

    #[test]
    fn a_driver_learns_of_the_pod_when_it_wants_to() {
        let source = object(json!({"driver": "d", "volumeAttributes": {"a": "b"}}));
        let volume = of_pod(&pod(), "v", &source);
        assert!(volume.is_ephemeral && volume.handle.len() == 68, "{}", volume.handle);
        let asked = |manners: &Manners, tokens: Option<&str>| {
            let given = Given { tokens: tokens.map(str::to_owned), ..Given::default() };
            let can = Capabilities::default();
            publish_request(&pod(), &volume, (manners, can), ("", "/t"), given).volume_context
        };
        assert_eq!(asked(&driver(json!({})), None), [("a".to_owned(), "b".to_owned())].into());
        let told = asked(&driver(json!({"podInfoOnMount": true})), Some("{}"));
        let of = |key: &str| told[&format!("csi.storage.k8s.io/{key}")].as_str();
        assert_eq!((of("pod.name"), of("pod.namespace"), of("pod.uid")), ("p", "ns", "u"));
        assert_eq!(
            (of("serviceAccount.name"), of("ephemeral"), of("serviceAccount.tokens")),
            ("sa", "true", "{}")
        );
    }

    #[test]
    fn access_modes_are_the_narrowest_that_a_driver_knows() {
        let mode = |modes: &[&str], knows_single_writers| {
            let access_modes = modes.iter().map(|mode| (*mode).to_owned()).collect();
            let volume = CsiVolume { access_modes, ..CsiVolume::default() };
            let can = Capabilities { knows_single_writers, ..Capabilities::default() };
            capability(&volume, can, None).access_mode.unwrap().mode()
        };
        let table = [
            (&["ReadWriteOnce"][..], false, Mode::SingleNodeWriter),
            (&["ReadWriteOnce"], true, Mode::SingleNodeMultiWriter),
            (&["ReadWriteOncePod"], true, Mode::SingleNodeSingleWriter),
            (&["ReadOnlyMany"], true, Mode::MultiNodeReaderOnly),
            (&["ReadOnlyMany", "ReadWriteOnce"], true, Mode::MultiNodeMultiWriter),
            (&["ReadWriteMany"], false, Mode::MultiNodeMultiWriter),
            (&[], true, Mode::SingleNodeWriter),
        ];
        for (modes, knows, wanted) in table {
            assert_eq!(mode(modes, knows), wanted, "{modes:?}");
        }
    }

    #[test]
    fn files_are_given_to_the_group_as_the_policy_says() {
        let once = CsiVolume {
            fs_type: "ext4".into(),
            access_modes: vec!["ReadWriteOnce".into()],
            ..CsiVolume::default()
        };
        let many = CsiVolume { access_modes: vec!["ReadWriteMany".into()], ..once.clone() };
        let plain = CsiVolume { fs_type: String::new(), ..once.clone() };
        let read = CsiVolume { read_only: true, ..once.clone() };
        let can = Capabilities { gives_to_groups: true, ..Capabilities::default() };
        let table = [
            (json!({}), &once, Giver::Agent),
            (json!({}), &many, Giver::Nobody),
            (json!({}), &plain, Giver::Nobody),
            (json!({"fsGroupPolicy": "File"}), &many, Giver::Agent),
            (json!({"fsGroupPolicy": "File"}), &read, Giver::Nobody),
            (json!({"fsGroupPolicy": "None"}), &once, Giver::Nobody),
        ];
        for (spec, volume, wanted) in table {
            let told = spec.to_string();
            assert_eq!(driver(spec).giver(volume, Capabilities::default()), wanted, "{told} {volume:?}");
        }
        assert_eq!(driver(json!({})).giver(&many, can), Giver::Driver);
    }

    #[test]
    fn a_driver_has_volumes_of_the_kinds_that_it_says() {
        let inline = CsiVolume { driver: "d".into(), is_ephemeral: true, ..CsiVolume::default() };
        let persistent = CsiVolume { driver: "d".into(), ..CsiVolume::default() };
        assert_eq!(Manners::of(None).judge(&persistent), Ok(()));
        let why = "volume mode \"Ephemeral\" not supported by driver d";
        assert_eq!(Manners::of(None).judge(&inline), Err(why.to_owned()));
        let only_inline = driver(json!({"volumeLifecycleModes": ["Ephemeral"]}));
        assert_eq!(only_inline.judge(&inline), Ok(()));
        assert!(only_inline.judge(&persistent).is_err());
        assert!(Manners::of(None).attaches && !driver(json!({"attachRequired": false})).attaches);
    }
}
