//! A node has a certificate by which its agent serves: for the user that the node is and for what it is called, signed by its cluster,
//! and another one before that ends, when the node's addresses are others, and when another authority signs. Whoever shows it reads it
//! again by itself. Must never replace one by what cannot be used.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use barque_api::certificate_bundle::certificates;
use barque_api::node_certificate::{MASTERS, Reserved, SERVER_NAMES, SIGNER, claims, own_name, user};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use tokio::time::Instant;

use crate::authority::{AuthorityError, Pin, Subject, self_signed};
use crate::discovery::told;
use crate::files::{self, FileError};
use crate::leaf::{self, Due, Facts};
use crate::node_join::{Asked, NodeFiles, NodeJoinError, ask, signed};
use crate::rotation::objects::NodeTrust;
use crate::settings::NAMESPACE;

/// How long others are kept waiting for a signature; it is looked for again later.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until it is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(5);
/// And when it is refused.
const MUCH_LATER: Duration = Duration::from_secs(600);
/// A clock that is set shows up no later than this.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Why a node has none, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// Its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// It is not given.
    #[error(transparent)]
    Join(#[from] NodeJoinError),
    /// Masters.
    #[error("it is not known what masters are called: {}", told(.0))]
    Names(Box<kube::Error>),
    /// A master that is of an older release.
    #[error(
        "it is not known yet what the API server of master {0} is called, which may be of an older release"
    )]
    Silent(String),
    /// Of another authority than the one that signs.
    #[error("it was signed by another authority than the one that should")]
    OtherSigner,
}

impl ServingError {
    /// How long until another attempt may go better.
    const fn passes_after(&self) -> Duration {
        match self {
            Self::Join(NodeJoinError::Refused { .. }) => MUCH_LATER,
            _ => AGAIN,
        }
    }
}

/// Sees to it that there is something to show before the cluster has given a certificate: one that signs itself.
///
/// # Errors
/// When it cannot be written.
pub fn begin(files: &NodeFiles, node: &str, now: SystemTime) -> Result<(), ServingError> {
    if files::read(&files.serving())?.is_none_or(|pair| leaf::facts(&pair).is_err()) {
        let pair = self_signed(&nameless(node), now)?;
        files.keep_serving(&pair.certificate, &pair.key)?;
    }
    Ok(())
}

/// What a node has whatever it is called.
fn nameless(node: &str) -> Subject {
    Subject {
        common_name: user(node),
        organizations: vec!["system:nodes".to_owned()],
        names: vec![own_name(node)],
        serves: true,
        ..Subject::default()
    }
}

/// What a node should have.
fn subject(node: &str, addresses: &BTreeSet<IpAddr>, reserved: &Reserved) -> Subject {
    let (names, addresses) = claims(node, addresses, reserved);
    Subject { names, addresses, ..nameless(node) }
}

/// Whether it needs another one, and why; `issuers` are the subjects of who may have signed it, DER. It is also made anew when it
/// says more than it should: addresses may be somebody else's then.
fn due(subject: &Subject, is: Option<&Facts>, issuers: &[Vec<u8>], now: SystemTime) -> Option<Due> {
    let more =
        |is: &&Facts| is.names.len() != subject.names.len() || is.addresses.len() != subject.addresses.len();
    is_unfit(subject, is, issuers, now).or_else(|| is.filter(more).map(|_| Due::OtherSubject))
}

/// The same where it may say more.
fn is_unfit(subject: &Subject, is: Option<&Facts>, issuers: &[Vec<u8>], now: SystemTime) -> Option<Due> {
    let issuer = issuers.iter().find(|issuer| is.is_some_and(|is| is.issuer == **issuer)).or(issuers.first());
    leaf::due(subject, is, issuer.map_or(&[], Vec::as_slice), now)
}

/// The subjects, DER, of who may have signed what nodes show: whom the cluster says, and, as masters begin to sign with another
/// authority before all nodes have to, who signs now, which is the first that is trusted. Nobody when whom the cluster says is not
/// trusted.
fn issuers(bundle: &str, trust: Option<&NodeTrust>) -> Vec<Vec<u8>> {
    let trusted = certificates(bundle);
    let is_said = |one: &&String| match trust {
        Some(trust) => Pin::all(one).first().map(Pin::hex).as_ref() == Some(&trust.signer),
        None => true,
    };
    let Some(said) = trusted.iter().find(is_said) else { return Vec::new() };
    let both = [Some(said), trusted.first()].into_iter().flatten();
    both.filter_map(|one| leaf::facts(one).ok()).map(|facts| facts.subject).collect()
}

/// What this node has asked for, and for which addresses it has looked.
#[derive(Default)]
pub(crate) struct Serving {
    wanted: Option<(BTreeSet<IpAddr>, Subject)>,
    asked: Option<(Subject, Asked)>,
    /// What was said of the last failure.
    told: String,
    /// When the same is tried again, though something is heard that has nothing to do with it.
    not_before: Option<(Ground, Instant)>,
}

/// What an attempt depends on: the node's addresses, and who signs.
type Ground = (BTreeSet<IpAddr>, Option<String>);

/// A node, as far as its certificate as a server is concerned.
pub(crate) struct Of<'a> {
    /// Its files.
    pub(crate) files: &'a NodeFiles,
    /// Its name.
    pub(crate) node: &'a str,
    /// Whom it asks.
    pub(crate) client: &'a Client,
    /// What the cluster says of who signs.
    pub(crate) trust: Option<&'a NodeTrust>,
    /// What its object says that it has.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
}

impl Serving {
    /// One look; when the next one is due.
    pub(crate) async fn look(&mut self, of: &Of<'_>) -> Duration {
        let ground = (of.addresses.clone(), of.trust.map(|trust| trust.signer.clone()));
        if let Some((before, at)) = &self.not_before
            && *before == ground
            && *at > Instant::now()
        {
            return at.saturating_duration_since(Instant::now());
        }
        self.not_before = None;
        let error = match self.pass(of).await {
            Ok(wait) => {
                self.told.clear();
                return wait;
            }
            Err(error) => error,
        };
        let told = error.to_string();
        if told != self.told {
            tracing::warn!(
                "the certificate by which this node serves is not the one that it should be: {told}"
            );
            self.told = told;
        }
        // What it may be called is looked for anew.
        self.wanted = None;
        let wait = error.passes_after();
        self.not_before = Some((ground, Instant::now() + wait));
        wait
    }

    async fn pass(&mut self, of: &Of<'_>) -> Result<Duration, ServingError> {
        let bundle = files::read(&of.files.authority())?.unwrap_or_default();
        // Who signs is trusted before it signs, or it is another cluster's.
        let issuers = issuers(&bundle, of.trust);
        if issuers.is_empty() {
            return Ok(LOOK_EVERY);
        }
        let subject = match &self.wanted {
            Some((looked_for, subject)) if looked_for == of.addresses => subject.clone(),
            _ => {
                let subject = subject(of.node, of.addresses, &reserved(of.client).await?);
                self.wanted = Some((of.addresses.clone(), subject.clone()));
                subject
            }
        };
        let now = SystemTime::now();
        let is = files::read(&of.files.serving())?.and_then(|pair| leaf::facts(&pair).ok());
        let Some(why) = due(&subject, is.as_ref(), &issuers, now) else {
            let renewal = is.map_or(now, |is| leaf::renewal(&is));
            let wait = renewal.duration_since(now).unwrap_or_default();
            return Ok(wait.clamp(Duration::from_secs(1), LOOK_EVERY));
        };
        tracing::info!(?why, "asks for another certificate by which the node serves");
        let refused = match self.get(of, &subject, &issuers).await {
            Err(error @ ServingError::Join(NodeJoinError::Refused { .. })) => error,
            outcome => return outcome.map(|()| Duration::from_secs(1)),
        };
        // An address that others have too is no reason to be nobody.
        let less = nameless(of.node);
        if is_unfit(&less, is.as_ref(), &issuers, now).is_some() {
            self.get(of, &less, &issuers).await?;
        }
        Err(refused)
    }

    /// Has one for this subject.
    async fn get(&mut self, of: &Of<'_>, subject: &Subject, issuers: &[Vec<u8>]) -> Result<(), ServingError> {
        let asked = match self.asked.take() {
            Some((before, asked)) if before == *subject => asked,
            _ => ask(of.client, subject, SIGNER, "server auth").await?,
        };
        let certificate = match signed(of.client, &asked, PATIENCE).await {
            Err(error @ NodeJoinError::NotSigned { .. }) => {
                self.asked = Some((subject.clone(), asked));
                return Err(error.into());
            }
            outcome => outcome?,
        };
        let made = leaf::facts(&certificate)?;
        if !issuers.contains(&made.issuer) {
            return Err(ServingError::OtherSigner);
        }
        let cross = of.trust.map_or("", |trust| trust.cross.as_str());
        of.files.keep_serving(&(certificate + cross), &asked.key)?;
        tracing::info!(names = ?made.names, addresses = ?made.addresses, "the node serves by a new certificate");
        Ok(())
    }
}

/// What API servers and services are called.
async fn reserved(client: &Client) -> Result<Reserved, ServingError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let failed = |error| ServingError::Names(Box::new(error));
    let masters = maps.get(MASTERS).await.map_err(failed)?.data.unwrap_or_default();
    let names = maps.get(SERVER_NAMES).await.map_err(failed)?.data.unwrap_or_default();
    Reserved::of(masters.keys().map(String::as_str), &names).map_err(ServingError::Silent)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use barque_api::certificate_bundle::joined;

    use super::*;
    use crate::authority::{Authority, LEAF_LIFE};

    fn reserved() -> Reserved {
        let entries = BTreeMap::from([("m1".to_owned(), "m1,10.0.0.1".to_owned())]);
        Reserved::of(["m1"], &entries).unwrap()
    }

    #[test]
    fn a_node_asks_again_when_it_is_called_otherwise_or_another_authority_signs_or_time_goes_by() {
        let now = SystemTime::now();
        let (old, new) = (Authority::create("old", now).unwrap(), Authority::create("new", now).unwrap());
        let name = |of: &Authority| leaf::facts(&of.pair().certificate).unwrap().subject;
        let addresses =
            |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let one = subject("n1", &addresses(&["10.0.0.21"]), &reserved());
        let two = subject("n1", &addresses(&["10.0.0.21", "10.0.0.22"]), &reserved());
        let is = leaf::facts(&old.issue(&one, now).unwrap().certificate).unwrap();
        let both = leaf::facts(&old.issue(&two, now).unwrap().certificate).unwrap();
        let table = [
            (&one, None, name(&old), now, Some(Due::Missing)),
            (&one, Some(&is), name(&old), now, None),
            (&two, Some(&is), name(&old), now, Some(Due::OtherSubject)),
            (&one, Some(&both), name(&old), now, Some(Due::OtherSubject)),
            (&one, Some(&is), name(&new), now, Some(Due::OtherSigner)),
            (&one, Some(&is), name(&old), now + LEAF_LIFE * 6 / 10, None),
            (&one, Some(&is), name(&old), now + LEAF_LIFE * 7 / 10, Some(Due::Old)),
        ];
        for (subject, is, issuer, at, expected) in table {
            assert_eq!(due(subject, is, &[issuer], at), expected);
        }
        assert_eq!(due(&one, Some(&is), &[name(&new), name(&old)], now), None);
        assert_eq!(
            is_unfit(&nameless("n1"), Some(&both), &[name(&old)], now),
            None,
            "who is refused keeps what it has"
        );
        let shared = subject("m1", &addresses(&["10.0.0.1"]), &reserved());
        assert_eq!((shared.names, shared.addresses), (vec![own_name("m1")], Vec::new()), "beside a master");
    }

    #[test]
    fn who_signs_is_trusted_first() {
        let now = SystemTime::now();
        let (old, new) = (Authority::create("old", now).unwrap(), Authority::create("new", now).unwrap());
        let [first, second] = [&old, &new].map(|one| one.pair().certificate.clone());
        let name = |of: &str| leaf::facts(of).unwrap().subject;
        let bundle = joined(&[&first, &second]);
        let trust = |of: &Authority| NodeTrust {
            bundle: bundle.clone(),
            signer: of.pin().hex(),
            cross: String::new(),
        };
        assert_eq!(issuers(&bundle, None), [name(&first), name(&first)]);
        assert_eq!(issuers(&bundle, Some(&trust(&old))), [name(&first), name(&first)]);
        assert_eq!(issuers(&bundle, Some(&trust(&new))), [name(&second), name(&first)]);
        assert!(issuers(&first, Some(&trust(&new))).is_empty());
    }

    #[test]
    fn something_is_shown_from_the_start_and_what_was_given_stays() {
        let directory = tempfile::tempdir().unwrap();
        let files = NodeFiles::at(directory.path().to_owned());
        let now = SystemTime::now();
        let read = || std::fs::read_to_string(files.serving()).unwrap();
        begin(&files, "n1", now).unwrap();
        let first = leaf::facts(&read()).unwrap();
        assert_eq!((first.common_name, first.issuer == first.subject), (user("n1"), true));
        let authority = Authority::create("a", now).unwrap();
        let given = authority.issue(&subject("n1", &BTreeSet::new(), &reserved()), now).unwrap();
        files.keep_serving(&given.certificate, &given.key).unwrap();
        begin(&files, "n1", now).unwrap();
        assert!(read().starts_with(&given.certificate));
        std::fs::write(files.serving(), "damaged").unwrap();
        begin(&files, "n1", now).unwrap();
        assert!(leaf::facts(&read()).is_ok());
    }
}
