//! A client that watches everything on one member, through the store's engine of watch streams.

use std::sync::Arc;

use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};
use barque_proto::mvccpb::{Event, event::EventType};
use barque_store::ids::Revision;
use barque_store::member::Member;
use barque_store::watch::{History, WatchConfig, WatchStream};
use bytes::Bytes;
use prost::Message as _;

use super::invariants::state_machine_safety::Change;
use super::invariants::watch_guarantees::Told;
use super::planted::Planted;

/// Watches from a revision on until the member ends; `tell` hears every answer.
pub async fn run(member: Member, from: i64, planted: Option<Planted>, tell: impl Fn(Told) + Send + 'static) {
    let header =
        Arc::new(|revision: Revision| ResponseHeader { revision: revision.0, ..ResponseHeader::default() });
    let history: Arc<dyn History> = Arc::clone(member.published()) as _;
    let mut start = from;
    loop {
        let config = WatchConfig::default();
        let hub = Arc::clone(member.hub());
        let mut stream = WatchStream::new(hub, Arc::clone(&history), Arc::clone(&header) as _, config);
        let everything = Bytes::from_static(&[0]);
        stream.request(WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: everything.clone(),
                range_end: everything,
                start_revision: start,
                ..WatchCreateRequest::default()
            })),
        });
        let mut answers = 0_u64;
        let mut is_first = true;
        loop {
            let Some(answer) = stream.next().await else { return };
            answers += 1;
            if answer.canceled {
                start = answer.compact_revision.max(start);
                tell(Told::Compacted(start));
                break;
            }
            if planted == Some(Planted::LostEvent) && answers % 50 == 49 {
                continue;
            }
            let mut changes: Vec<(i64, Change)> = answer.events.iter().filter_map(change).collect();
            let Some((last, _)) = changes.last() else { continue };
            let last = *last;
            if planted == Some(Planted::LostDelete) && is_first {
                let deletions = changes.iter().take_while(|(_, change)| change.value.is_none()).count();
                changes.drain(..deletions);
            }
            is_first = false;
            start = last + 1;
            if planted == Some(Planted::DuplicateEvent) && answers % 50 == 49 {
                tell(Told::Changes(changes.clone()));
            }
            tell(Told::Changes(changes));
            if planted == Some(Planted::BackInTime) && answers % 50 == 49 {
                start = (last - 2).max(2);
                break;
            }
            if planted == Some(Planted::LostDelete) && answers % 10 == 9 {
                break;
            }
        }
    }
}

fn change(encoded: &Bytes) -> Option<(i64, Change)> {
    let event = Event::decode(encoded.clone()).ok()?;
    let is_put = event.r#type == EventType::Put as i32;
    let kv = event.kv?;
    let change = Change {
        key: kv.key,
        value: is_put.then_some(kv.value),
        version: if is_put { kv.version } else { 0 },
        create_revision: if is_put { kv.create_revision } else { 0 },
    };
    Some((kv.mod_revision, change))
}
