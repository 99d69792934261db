//! What a member trusts, and by whom what it shows is signed. Values: must never read a file.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::certificate_bundle::certificates;
use serde::{Deserialize, Serialize};

use crate::authority::Pin;
use crate::leaf::{self, Signer};

/// What stands where a leaf's authority is not among those that are trusted.
const UNKNOWN: &str = "unknown";

/// Of one authority; authorities are told by their pins in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Whom the member trusts.
    pub trusts: BTreeSet<String>,
    /// Who signed what it shows.
    pub shows: BTreeSet<String>,
}

/// Of all authorities that a member has to do with, by the authority's word (see [`word`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report(pub BTreeMap<String, Seen>);

/// An authority in a word.
#[must_use]
pub const fn word(signer: Signer) -> &'static str {
    match signer {
        Signer::Cluster => "cluster",
        Signer::Store => "store",
        Signer::FrontProxy => "front-proxy",
    }
}

impl Seen {
    /// Of a bundle that is trusted and certificates that are shown, PEM.
    #[must_use]
    pub fn of<'a>(bundle: &str, shown: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<(Vec<u8>, String)> = certificates(bundle)
            .iter()
            .filter_map(|one| Some((leaf::facts(one).ok()?.subject, Pin::all(one).first()?.hex())))
            .collect();
        let signer = |pem: &str| {
            let issuer = leaf::facts(pem).ok()?.issuer;
            known.iter().find(|(subject, _)| *subject == issuer).map(|(_, pin)| pin.clone())
        };
        Self {
            trusts: known.iter().map(|(_, pin)| pin.clone()).collect(),
            shows: shown.map(|pem| signer(pem).unwrap_or_else(|| UNKNOWN.to_owned())).collect(),
        }
    }
}

impl Report {
    /// As it is written down.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("texts can be written as JSON")
    }

    /// From what was written down; nothing when that is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use barque_api::certificate_bundle::joined;

    use super::*;
    use crate::authority::{Authority, Subject};

    #[test]
    fn a_leaf_is_of_the_authority_whose_name_it_has() {
        let now = SystemTime::now();
        let all = ["old", "new", "stranger"].map(|name| Authority::create(name, now).unwrap());
        let subject = Subject { common_name: "n".to_owned(), asks: true, ..Subject::default() };
        let shown = all.each_ref().map(|authority| authority.issue(&subject, now).unwrap().certificate);
        let bundle = joined(&[&all[0].pair().certificate, &all[1].pair().certificate]);
        let pins = all.each_ref().map(|authority| authority.pin().hex());
        let seen = Seen::of(&bundle, shown[..2].iter().map(String::as_str));
        assert_eq!(seen.trusts, BTreeSet::from([pins[0].clone(), pins[1].clone()]));
        assert_eq!(seen.shows, seen.trusts);
        assert_eq!(
            Seen::of(&bundle, [shown[2].as_str()].into_iter()).shows,
            BTreeSet::from([UNKNOWN.to_owned()])
        );
        let report = Report(BTreeMap::from([(word(Signer::Store).to_owned(), seen)]));
        assert_eq!(Report::parse(&report.text()), Some(report));
        assert_eq!(Report::parse("{\"cluster\": 1}"), None);
    }
}
