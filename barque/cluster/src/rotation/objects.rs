//! What stands in the API of a rotation. Pure texts; must never read or write it.

use std::collections::BTreeMap;

use barque_api::certificate_bundle::{certificates, joined};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::material::Material;
use super::phase::Phase;
use crate::leaf::Signer;

/// The secret with the phase and what is exchanged, sealed for masters, in `kube-system`.
pub const ROTATION: &str = "barque-rotation";
/// The map with what nodes trust, and who signs their certificates, in `kube-system`.
pub const TRUST: &str = "barque-trust";
/// The map with what each master says of itself, in `kube-system`.
pub const MASTERS: &str = "barque-trust-masters";
/// The annotation by which a node says it.
pub const ANNOTATION: &str = "barque.dev/authorities";
/// By which servers behind API servers know whose certificates count, in `kube-system`; the API servers' own.
pub const EXTENSIONS: &str = "extension-apiserver-authentication";

const PHASE: &str = "phase";
const MATERIAL: &str = "material";
const BUNDLE: &str = "ca.crt";
const SIGNER: &str = "signer";
const CROSS: &str = "cross.crt";

/// What the secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How far it is.
    pub phase: Phase,
    /// What is exchanged, sealed.
    pub sealed: String,
}

impl Rotation {
    /// As the secret holds it; nothing when it holds something else.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
        Some(Self { phase: Phase::parse(&text(PHASE)?)?, sealed: text(MATERIAL)? })
    }

    /// What the secret holds then.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let all = [(PHASE, self.phase.word()), (MATERIAL, self.sealed.as_str())];
        all.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec()))).into()
    }
}

/// What nodes are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTrust {
    /// Whom they trust, PEM.
    pub bundle: String,
    /// Who signs their certificates: its pin in hexadecimal.
    pub signer: String,
    /// What follows those by which they serve, so that who trusts the old authority alone trusts them: PEM, mostly empty.
    pub cross: String,
}

impl NodeTrust {
    /// In a phase: nodes ask for new certificates when all masters sign with the new authority.
    #[must_use]
    pub fn in_phase(material: &Material, phase: Phase) -> Self {
        let signs = if phase < Phase::Renew { Phase::Trust } else { phase };
        let first = material.trusted(Signer::Cluster, signs);
        let signer = crate::authority::Pin::all(&first).first().map(crate::authority::Pin::hex);
        let cross = if phase == Phase::Renew { material.cross.of(Signer::Cluster) } else { "" };
        Self {
            bundle: material.trusted(Signer::Cluster, phase),
            signer: signer.unwrap_or_default(),
            cross: cross.to_owned(),
        }
    }

    /// As the map holds it; nothing when it holds something else.
    #[must_use]
    pub fn of(data: &BTreeMap<String, String>) -> Option<Self> {
        let bundle = data.get(BUNDLE).filter(|bundle| !certificates(bundle).is_empty())?.clone();
        let cross = data.get(CROSS).cloned().unwrap_or_default();
        Some(Self { bundle, signer: data.get(SIGNER)?.clone(), cross })
    }

    /// What the map holds then.
    #[must_use]
    pub fn data(&self) -> Value {
        json!({BUNDLE: self.bundle, SIGNER: self.signer, CROSS: self.cross})
    }
}

/// What changes in [`EXTENSIONS`], of which others may have written a part: certificates of theirs stay.
#[must_use]
pub fn extensions(there: &BTreeMap<String, String>, material: &Material, phase: Phase) -> Value {
    let keys = [("client-ca-file", Signer::Cluster), ("requestheader-client-ca-file", Signer::FrontProxy)];
    let changed = keys.map(|(key, signer)| {
        let gone = if phase == Phase::Finished { certificates(material.old.of(signer)) } else { Vec::new() };
        let there = certificates(there.get(key).map_or("", String::as_str));
        let kept: String = there.into_iter().filter(|one| !gone.contains(one)).collect();
        (key.to_owned(), json!(joined(&[&kept, &material.trusted(signer, phase)])))
    });
    Value::Object(changed.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::authority::{Authority, Pin};
    use crate::pki::Authorities;

    #[test]
    fn nodes_trust_first_and_ask_when_all_masters_sign() {
        let now = SystemTime::now();
        let before = Authorities::create(now).unwrap();
        let material = Material::create(&before, now).unwrap();
        let [old, new] = [Pin::all(&before.cluster.certificate)[0], material.pin(Signer::Cluster).unwrap()]
            .map(|pin| pin.hex());
        let table = [
            (Phase::Trust, vec![&old, &new], &old),
            (Phase::Sign, vec![&new, &old], &old),
            (Phase::Renew, vec![&new, &old], &new),
            (Phase::Finished, vec![&new], &new),
        ];
        for (phase, trusts, signer) in table {
            let told = NodeTrust::in_phase(&material, phase);
            let pins: Vec<String> = Pin::all(&told.bundle).iter().map(Pin::hex).collect();
            assert_eq!((pins.iter().collect::<Vec<_>>(), &told.signer), (trusts, signer), "{phase:?}");
            assert_eq!(told.cross.is_empty(), phase != Phase::Renew, "{phase:?}");
            let data = serde_json::from_value(told.data()).unwrap();
            assert_eq!(NodeTrust::of(&data), Some(told));
        }
        assert_eq!(NodeTrust::of(&BTreeMap::new()), None);
    }

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        let rotation = Rotation { phase: Phase::Renew, sealed: "AAAA".to_owned() };
        let secret = Secret { data: Some(rotation.data()), ..Secret::default() };
        assert_eq!(Rotation::of(&secret), Some(rotation));
        assert_eq!(Rotation::of(&Secret::default()), None);
    }

    #[test]
    fn certificates_of_others_stay_where_extensions_look() {
        let now = SystemTime::now();
        let before = Authorities::create(now).unwrap();
        let material = Material::create(&before, now).unwrap();
        let theirs = Authority::create("theirs", now).unwrap().pair().certificate.clone();
        let there = joined(&[&theirs, &before.cluster.certificate]);
        let mut data = BTreeMap::from([("client-ca-file".to_owned(), there)]);
        let count = |phase, data: &BTreeMap<String, String>| {
            let value = extensions(data, &material, phase);
            (
                value["client-ca-file"].as_str().unwrap().to_owned(),
                certificates(value["client-ca-file"].as_str().unwrap()).len(),
            )
        };
        let (text, trusted) = count(Phase::Trust, &data);
        assert_eq!(trusted, 3);
        data.insert("client-ca-file".to_owned(), text);
        let (text, trusted) = count(Phase::Finished, &data);
        assert_eq!(trusted, 2);
        assert!(text.contains(&theirs) && !text.contains(&before.cluster.certificate));
    }
}
