//! A master does what the phase of a rotation says: its files have the authorities of the phase, its leaves are of who signs, and it
//! says so when it is done. Whoever uses the files reads them again by itself. Must never end because one attempt failed.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::material::MaterialError;
use super::objects::{MASTERS, ROTATION, Rotation};
use super::report::{Report, Seen, word};
use crate::discovery::told;
use crate::files;
use crate::leaf::{self, Leaf, Signer};
use crate::pki::{Authorities, Pki, PkiError};
use crate::sealed::{SealedError, open_material};
use crate::settings::NAMESPACE;

/// How long until it is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Why a master does not have what it should.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Sealed(#[from] SealedError),
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error("the secret {NAMESPACE}/{ROTATION} is of another release")]
    Secret,
    #[error("the authorities of this master are missing")]
    Missing,
    #[error("what is made of authorities cannot be written: {0}")]
    Made(String),
    #[error("it cannot be said which authorities this master trusts: {}", told(.0))]
    Told(Box<kube::Error>),
}

/// What is made of the authorities besides leaves: kubeconfigs and tokens in files. Why not, when it fails.
pub type Make = Arc<dyn Fn(&Authorities) -> Result<(), String> + Send + Sync>;

/// A master, as far as it has to do with authorities.
pub struct Master {
    /// Its name.
    pub name: String,
    /// Its files.
    pub pki: Pki,
    /// What it shows.
    pub leaves: Vec<Leaf>,
    /// What else it makes of them.
    pub make: Make,
}

impl Master {
    /// Follows the rotation of its cluster until `stop`.
    pub async fn follow(self, client: Client, stop: CancellationToken) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        let mut secrets = pin!(watch_object(secrets, ROTATION).default_backoff());
        let mut last: Option<Option<Secret>> = None;
        let mut retry: Option<Duration> = None;
        loop {
            let later = async {
                match retry {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                event = secrets.next() => match event {
                    Some(Ok(secret)) => last = Some(secret),
                    // It begins again by itself, after a while.
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the watch of the rotation of authorities");
                        continue;
                    }
                    None => return,
                },
                () = later => {}
            }
            let Some(secret) = &last else { continue };
            let done = stop.run_until_cancelled(self.pass(&client, secret.as_ref())).await;
            retry = match done {
                None => return,
                Some(Ok(())) => None,
                Some(Err(error)) => {
                    tracing::warn!("this master is behind in the rotation of authorities: {error}");
                    Some(AGAIN)
                }
            };
        }
    }

    async fn pass(&self, client: &Client, secret: Option<&Secret>) -> Result<(), FollowError> {
        if let Some(secret) = secret {
            self.put(&Rotation::of(secret).ok_or(FollowError::Secret)?)?;
        }
        let report = json!({"data": {&self.name: self.report()?.text()}});
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let patched = maps.patch(MASTERS, &PatchParams::default(), &Patch::Merge(report)).await;
        patched.map(drop).map_err(|error| FollowError::Told(Box::new(error)))
    }

    /// Brings the files to what the phase says; each pass does what is left.
    fn put(&self, rotation: &Rotation) -> Result<(), FollowError> {
        let here = self.pki.authorities()?.ok_or(FollowError::Missing)?;
        let material = open_material(&rotation.sealed, &here.token_key)?;
        let wanted = material.wanted(rotation.phase, &here)?;
        if here != wanted.authorities || self.pki.crosses()? != wanted.cross {
            self.pki.keep(&wanted.authorities, &wanted.cross)?;
            tracing::info!(phase = rotation.phase.word(), "authorities are exchanged");
        }
        for (certificate, why) in self.pki.issue(&wanted.authorities, &self.leaves, SystemTime::now())? {
            tracing::info!(certificate, ?why, "made anew");
        }
        (self.make)(&wanted.authorities).map_err(FollowError::Made)
    }

    /// What the files say.
    fn report(&self) -> Result<Report, FollowError> {
        let here = self.pki.authorities()?.ok_or(FollowError::Missing)?;
        let mut report = BTreeMap::new();
        for signer in [Signer::Cluster, Signer::Store, Signer::FrontProxy] {
            let mut shown = Vec::new();
            for (name, ..) in leaf::ALL.into_iter().filter(|(_, by, ..)| *by == signer) {
                shown.extend(files::read(&self.pki.certificate(name)).map_err(PkiError::from)?);
            }
            let seen = Seen::of(&here.of(signer).certificate, shown.iter().map(String::as_str));
            report.insert(word(signer).to_owned(), seen);
        }
        Ok(Report(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::leaves;
    use crate::pki::Certificates;
    use crate::rotation::material::Material;
    use crate::rotation::phase::{Kind, Lack, Member, New, Phase, lack};
    use crate::sealed::seal_material;

    fn master(pki: &Pki) -> Master {
        let leaves = leaves(&leaf::Master {
            name: "m".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            service_address: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".to_owned(),
            other_names: Vec::new(),
        });
        Master { name: "m".to_owned(), pki: pki.clone(), leaves, make: Arc::new(|_| Ok(())) }
    }

    #[test]
    fn a_master_goes_through_the_phases_also_when_it_is_interrupted_or_comes_late() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::at(directory.path().join("pki"));
        let before = Authorities::create(SystemTime::now()).unwrap();
        let material = Material::create(&before, SystemTime::now()).unwrap();
        let new: New = [Signer::Cluster, Signer::Store, Signer::FrontProxy]
            .map(|signer| (signer, material.pin(signer).unwrap().hex()))
            .into();
        let sealed = seal_material(&material, &before.token_key);
        let master = master(&pki);
        let phases = [Phase::Trust, Phase::Sign, Phase::Renew, Phase::Finished];
        let lacks = |phase| {
            let report = master.report().unwrap();
            lack(phase, &new, &Member { kind: Kind::Master, name: String::new(), report: Some(report) })
        };
        // From the start through so many phases: those before were missed.
        for missed in 0..phases.len() {
            std::fs::remove_dir_all(pki.directory()).ok();
            pki.keep(&before, &Certificates::default()).unwrap();
            pki.issue(&before, &master.leaves, SystemTime::now()).unwrap();
            assert_eq!(lacks(Phase::Trust), Some(Lack::Trust));
            for phase in &phases[missed..] {
                let rotation = Rotation { phase: *phase, sealed: sealed.clone() };
                // The power goes when the key is another one and its certificate not the first yet.
                if *phase == Phase::Sign {
                    let wanted = material.wanted(*phase, &pki.authorities().unwrap().unwrap()).unwrap();
                    let trust = material.trusted(Signer::Cluster, Phase::Trust);
                    std::fs::write(pki.authority(Signer::Cluster), trust).unwrap();
                    std::fs::write(pki.authority_key(Signer::Cluster), &wanted.authorities.cluster.key)
                        .unwrap();
                    assert_eq!(pki.authorities().unwrap().unwrap().cluster, wanted.authorities.cluster);
                }
                master.put(&rotation).unwrap();
                assert_eq!(lacks(*phase), None, "{phase:?} after {missed}");
                let files = || std::fs::read(pki.certificate(leaf::API_SERVER)).unwrap();
                let before = files();
                master.put(&rotation).unwrap();
                assert_eq!(files(), before, "a second pass finds nothing to do");
            }
        }
        let last = pki.authorities().unwrap().unwrap();
        assert_eq!(last.cluster.certificate, material.trusted(Signer::Cluster, Phase::Finished));
        assert_eq!(pki.crosses().unwrap(), Certificates::default());
    }
}
