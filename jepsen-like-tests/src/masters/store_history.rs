//! What the store of the masters keeps of objects of clients, revision by revision: informers that have to list again are not told of
//! everything, and the store is. Looks once, when all is over; must never write.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::event::EventType;
use serde_json::Value;

use super::client::{PREFIX, object};
use super::entry::Told;
use crate::certificates::CertificateFiles;
use crate::client::Client;
use crate::door::{self, Door};
use crate::history::Span;

/// Where API servers keep ConfigMaps.
const MAPS: &str = "/registry/configmaps/default/";
/// Where stores listen for clients.
const PORT: u16 = 2379;
/// How long the next part may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// All changes up to a revision, as a master's store tells them; `pki` is that master's directory of certificates.
///
/// # Errors
/// When the store does not tell, or does not keep all of it any more.
pub(crate) async fn read(address: &str, pki: &Path, last: i64) -> anyhow::Result<Vec<Told>> {
    let own =
        CertificateFiles { certificate: pki.join("store/client.crt"), key: pki.join("store/client.key") };
    let tls = Some(door::tls(&pki.join("store/ca.crt"), &own)?);
    let client = Client::through(&format!("https://{address}:{PORT}"), &Door { tls, user: None });
    let Span { key, end } = Span::prefix(format!("{MAPS}{PREFIX}"));
    let first = pb::WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision: 1,
        prev_kv: true,
        ..Default::default()
    };
    let mut stream = client.watch(first).await?;
    let mut all = Vec::new();
    loop {
        let answer = stream.next(PATIENCE).await.context("the history of objects in the store")?;
        anyhow::ensure!(
            !answer.canceled,
            "the store does not tell the history of objects: {}",
            answer.cancel_reason
        );
        for event in answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision > last {
                return Ok(all);
            }
            all.push(
                told(&event, revision).context("an object in the store is not as API servers write it")?,
            );
            if revision == last {
                return Ok(all);
            }
        }
    }
}

fn told(event: &barque_proto::mvccpb::Event, revision: i64) -> Option<Told> {
    let of = |kv: &barque_proto::mvccpb::KeyValue| {
        let mut value: Value = serde_json::from_slice(&kv.value).ok()?;
        // A version is where something is kept, not what is kept.
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        object(&value)
    };
    let now = event.kv.as_ref()?;
    Some(match (event.r#type(), &event.prev_kv) {
        (EventType::Delete, before) => Told::Deleted { object: of(before.as_ref()?)? },
        (EventType::Put, None) => Told::Added { object: of(now)? },
        (EventType::Put, Some(_)) => Told::Modified { object: of(now)? },
    })
}
