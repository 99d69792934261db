//! An administrator's command over a rotation: looks at what members say, and writes what follows. What follows is decided in `phase`;
//! each part can be done again, so whoever is interrupted begins again. Must never decide who may be left behind.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::material::{Material, MaterialError};
use super::objects::{self, ANNOTATION, EXTENSIONS, NodeTrust, ROTATION, Rotation, TRUST};
use super::phase::{Kind, Lack, Member, New, Phase, Step, lack, step};
use super::report::{Report, Seen, word};
use crate::authority::AuthorityError;
use crate::discovery::told;
use crate::kubeconfig;
use crate::leaf::Signer;
use crate::objects as cluster;
use crate::pki::Authorities;
use crate::sealed::{SealedError, open_material, seal, seal_material};
use crate::settings::{MASTERS, NAMESPACE};
use crate::token::Credential;

/// What pods trust API servers by, in each namespace.
const ROOT: &str = "kube-root-ca.crt";

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The API server.
    #[error("{what}: {}", told(error))]
    Asked {
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: Box<kube::Error>,
    },
    /// The secret is none.
    #[error("the secret {NAMESPACE}/{ROTATION} is of another release: run this by the release that wrote it")]
    Secret,
    /// It cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// New authorities cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// There is nothing to finish.
    #[error("--finish: no rotation of authorities has begun; this command without it begins one")]
    NotBegun,
    /// Nobody can have a kubeconfig of the new authority yet.
    #[error(
        "--finish: the new authority signs only since now; hand out new kubeconfigs (`barque kubeconfig`), restart pods that read their \
         authority only when they start, and then finish"
    )]
    Early,
    /// Nobody is called so.
    #[error("--without={0}: no master, node or namespace has this name")]
    Nobody(String),
    /// This master has others.
    #[error(transparent)]
    Material(#[from] MaterialError),
}

fn asked(what: &'static str) -> impl FnOnce(kube::Error) -> DriveError {
    move |error| DriveError::Asked { what, error: Box::new(error) }
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// What is wanted of the rotation.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Nothing but a look.
    pub only_look: bool,
    /// Another one, after one that has finished.
    pub again: bool,
    /// That it ends.
    pub finish: bool,
    /// Who is not waited for.
    pub without: Vec<String>,
}

/// A rotation as it is found.
pub struct Found {
    /// How far it is.
    pub phase: Phase,
    /// What members lack; nothing for those that are ready.
    pub members: Vec<(Member, Option<Lack>)>,
    /// What follows.
    pub step: Step,
    secret: Secret,
    material: Material,
}

impl Found {
    /// Who is behind, whether left behind or not.
    pub fn behind(&self) -> impl Iterator<Item = (&Member, Lack)> {
        self.members.iter().filter_map(|(member, lack)| Some((member, (*lack)?)))
    }
}

/// Speaks for an administrator.
pub struct Driver {
    client: Client,
    here: Authorities,
}

impl Driver {
    /// On the master that has these authorities.
    #[must_use]
    pub fn new(client: Client, here: Authorities) -> Self {
        Self { client, here }
    }

    fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Goes as far as is wished and possible, waiting for members until `patience` is over; what is found at the end, nothing when
    /// there is no rotation.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub async fn go(&self, wish: &Wish, patience: Duration) -> Result<Option<Found>, DriveError> {
        let deadline = Instant::now() + patience;
        let mut changes = pin!(self.changes().ready_chunks(256));
        let mut published = None;
        let mut began_at = None;
        loop {
            let Some(found) = self.look(wish).await? else {
                if wish.only_look {
                    return Ok(None);
                }
                if wish.finish {
                    return Err(DriveError::NotBegun);
                }
                self.begin(None).await?;
                continue;
            };
            let began_at = *began_at.get_or_insert(found.phase);
            if wish.only_look {
                return Ok(Some(found));
            }
            if wish.again && published.is_none() && found.phase == Phase::Finished {
                self.begin(Some(&found.secret)).await?;
                published = Some(Phase::Finished);
                continue;
            }
            // What is derived from the phase is written by each call: whoever was interrupted did not.
            if published != Some(found.phase) {
                self.publish(&found.material, found.phase).await?;
                published = Some(found.phase);
            }
            match found.step {
                Step::To(Phase::Finished) if began_at < Phase::Renew => return Err(DriveError::Early),
                Step::To(next) => self.enter(&found, next).await?,
                Step::Wait => {
                    if timeout_at(deadline, changes.next()).await.is_err() {
                        return Ok(Some(found));
                    }
                }
                Step::AskForFinish | Step::Done => return Ok(Some(found)),
            }
        }
    }

    /// Something may be another than it was.
    fn changes(&self) -> impl futures::Stream<Item = ()> + use<> {
        let one = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let roots: Api<ConfigMap> = Api::all(self.client.clone());
        let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.client.clone());
        stream::select_all([
            watcher(self.maps(NAMESPACE), one(objects::MASTERS)).default_backoff().map(drop).boxed(),
            watcher(nodes, watcher::Config::default()).default_backoff().map(drop).boxed(),
            watcher(roots, one(ROOT)).default_backoff().map(drop).boxed(),
        ])
    }

    /// Makes new authorities and tells masters of them.
    async fn begin(&self, before: Option<&Secret>) -> Result<(), DriveError> {
        let material = Material::create(&self.here, SystemTime::now())?;
        let sealed = seal_material(&material, &self.here.token_key);
        let data = Some(Rotation { phase: Phase::Trust, sealed }.data());
        let outcome = match before {
            Some(before) => {
                let secret = Secret { data, ..before.clone() };
                self.secrets().replace(ROTATION, &PostParams::default(), &secret).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(ROTATION.to_owned()), ..ObjectMeta::default() };
                let type_ = Some("barque/rotation".to_owned());
                self.secrets()
                    .create(&PostParams::default(), &Secret { metadata, data, type_, ..Secret::default() })
                    .await
            }
        };
        match outcome {
            Ok(_) => Ok(()),
            // Somebody else has begun one.
            Err(error) if is(&error, 409) => Ok(()),
            Err(error) => Err(asked("the rotation cannot be written")(error)),
        }
    }

    /// Begins a phase, unless somebody else did.
    async fn enter(&self, found: &Found, next: Phase) -> Result<(), DriveError> {
        let rotation = Rotation::of(&found.secret).ok_or(DriveError::Secret)?;
        let data = Some(Rotation { phase: next, ..rotation }.data());
        let secret = Secret { data, ..found.secret.clone() };
        match self.secrets().replace(ROTATION, &PostParams::default(), &secret).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 409) => Ok(()),
            Err(error) => Err(asked("the rotation cannot be written")(error)),
        }
    }

    /// What is there.
    async fn look(&self, wish: &Wish) -> Result<Option<Found>, DriveError> {
        const READING: &str = "what members say of themselves cannot be read";
        let Some(secret) =
            self.secrets().get_opt(ROTATION).await.map_err(asked("the rotation cannot be read"))?
        else {
            return Ok(None);
        };
        let Rotation { phase, sealed } = Rotation::of(&secret).ok_or(DriveError::Secret)?;
        let material = open_material(&sealed, &self.here.token_key)?;
        let known = self.maps(NAMESPACE).get(MASTERS).await.map_err(asked(READING))?;
        let said = self.maps(NAMESPACE).get_opt(objects::MASTERS).await.map_err(asked(READING))?;
        let said = said.and_then(|map| map.data).unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list_metadata(&ListParams::default()).await.map_err(asked(READING))?;
        let roots: Api<ConfigMap> = Api::all(self.client.clone());
        let of_name = ListParams::default().fields(&format!("metadata.name={ROOT}"));
        let roots = roots.list(&of_name).await.map_err(asked(READING))?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespaces = namespaces.list_metadata(&ListParams::default()).await.map_err(asked(READING))?;
        let goes = |name: &str| {
            namespaces.iter().any(|one| one.name_any() == name && one.metadata.deletion_timestamp.is_some())
        };

        let mut members: Vec<Member> = Vec::new();
        for name in known.data.unwrap_or_default().into_keys() {
            let report = said.get(&name).and_then(|text| Report::parse(text));
            members.push(Member { kind: Kind::Master, name, report });
        }
        members.extend(nodes.iter().map(of_node));
        members
            .extend(roots.iter().filter(|map| !goes(&map.namespace().unwrap_or_default())).map(of_namespace));
        if let Some(name) = wish.without.iter().find(|name| members.iter().all(|one| one.name != **name)) {
            return Err(DriveError::Nobody(name.clone()));
        }
        let new: New = [Signer::Cluster, Signer::Store, Signer::FrontProxy]
            .into_iter()
            .filter_map(|signer| Some((signer, material.pin(signer)?.hex())))
            .collect();
        let members: Vec<_> = members
            .into_iter()
            .map(|member| {
                let lack = lack(phase, &new, &member);
                (member, lack)
            })
            .collect();
        let waits =
            |(member, lack): &&(Member, Option<Lack>)| lack.is_some() && !wish.without.contains(&member.name);
        let behind = members.iter().filter(waits).count();
        Ok(Some(Found { phase, step: step(phase, behind, wish.finish), members, secret, material }))
    }

    /// Writes what follows from a phase for nodes, for who joins, and for servers behind API servers.
    async fn publish(&self, material: &Material, phase: Phase) -> Result<(), DriveError> {
        const NODES: &str = "what nodes trust cannot be written";
        const JOINING: &str = "what machines join by cannot be written";
        let trust = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TRUST},
            "data": NodeTrust::in_phase(material, phase).data(),
        });
        let apply = PatchParams::apply("barque").force();
        self.maps(NAMESPACE).patch(TRUST, &apply, &Patch::Apply(trust)).await.map_err(asked(NODES))?;

        let merge = PatchParams::default();
        let there =
            self.maps(NAMESPACE).get(EXTENSIONS).await.map_err(asked(NODES))?.data.unwrap_or_default();
        let data = json!({"data": objects::extensions(&there, material, phase)});
        self.maps(NAMESPACE).patch(EXTENSIONS, &merge, &Patch::Merge(data)).await.map_err(asked(NODES))?;

        let wanted = material.wanted(phase, &self.here)?.authorities;
        let of_type = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
        let tokens = self.secrets().list(&of_type).await.map_err(asked(JOINING))?;
        let sealed: Map<String, Value> = tokens
            .iter()
            .filter_map(for_masters)
            .map(|credential| (credential.id.clone(), json!(seal(&wanted, &credential))))
            .collect();
        let sealed = Patch::Merge(json!({"stringData": sealed}));
        self.secrets().patch(cluster::AUTHORITIES, &merge, &sealed).await.map_err(asked(JOINING))?;

        let public = self.maps("kube-public");
        let info = public.get(cluster::CLUSTER_INFO).await.map_err(asked(JOINING))?;
        let text = info.data.as_ref().and_then(|data| data.get("kubeconfig"));
        let known = text.and_then(|text| Kubeconfig::from_yaml(text).ok()).unwrap_or_default();
        let server = known.clusters.into_iter().find_map(|named| named.cluster?.server).unwrap_or_default();
        let text = kubeconfig::cluster_info(&server, &material.trusted(Signer::Cluster, phase));
        let data = Patch::Merge(json!({"data": {"kubeconfig": text}}));
        public.patch(cluster::CLUSTER_INFO, &merge, &data).await.map_err(asked(JOINING))?;
        Ok(())
    }
}

fn of_node(node: &PartialObjectMeta<Node>) -> Member {
    let report = node.annotations().get(ANNOTATION).and_then(|text| Report::parse(text));
    Member { kind: Kind::Node, name: node.name_any(), report }
}

fn of_namespace(map: &ConfigMap) -> Member {
    let bundle = map.data.as_ref().and_then(|data| data.get("ca.crt")).map_or("", String::as_str);
    let seen = Seen::of(bundle, std::iter::empty());
    let report = Some(Report(BTreeMap::from([(word(Signer::Cluster).to_owned(), seen)])));
    Member { kind: Kind::Namespace, name: map.namespace().unwrap_or_default(), report }
}

/// The token of a secret, if masters join by it.
fn for_masters(secret: &Secret) -> Option<Credential> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| std::str::from_utf8(&data.get(name)?.0).ok();
    (text("auth-extra-groups")? == cluster::MASTERS).then_some(())?;
    Credential::of(text("token-id")?, text("token-secret")?)
}
