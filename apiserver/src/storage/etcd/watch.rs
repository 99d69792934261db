//! One watch as one stream of etcd. Must never skip what it cannot read: it fails, and whoever owns it goes on from where
//! it was.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};

use super::connection::Live;
use super::convert;
use super::verdict::{Verdict, verdict};
use crate::storage::{Revision, StorageError, StorageWatch, WatchItem, prefix_end};

/// Requests that wait to be sent: the creation, and a question for progress.
const REQUESTS: usize = 2;

/// A watch that stands.
pub struct EtcdWatch {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
    from: Revision,
}

impl EtcdWatch {
    pub(super) async fn open(live: &Live, prefix: &Bytes, from: Revision) -> Result<Self, StorageError> {
        let end = prefix_end(prefix);
        let create = pb::WatchCreateRequest {
            key: prefix.clone(),
            range_end: if end.is_empty() { Bytes::from_static(&[0]) } else { end },
            start_revision: from.to_wire(),
            prev_kv: true,
            progress_notify: true,
            ..pb::WatchCreateRequest::default()
        };
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The channel is new and has room.
        let _ = requests.send(create).await;
        let mut request = Request::new(ReceiverStream::new(receiver));
        // A member without a leader says so instead of letting the watch wait.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut client = WatchClient::new(live.channel()).max_decoding_message_size(usize::MAX);
        let answers = client.watch(request).await.map_err(|status| failed(&status, from))?.into_inner();
        let mut watch = Self { requests, answers, from };
        let created = watch.answer().await?;
        if created.canceled {
            return Err(ended(&created, from));
        }
        Ok(watch)
    }

    async fn answer(&mut self) -> Result<pb::WatchResponse, StorageError> {
        match self.answers.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(StorageError::unavailable("etcd ended the watch")),
            Err(status) => Err(failed(&status, self.from)),
        }
    }
}

fn failed(status: &tonic::Status, wanted: Revision) -> StorageError {
    match verdict(status, wanted) {
        Verdict::NotDone(why) | Verdict::Unknown(why) => StorageError::unavailable(why),
        Verdict::Final(error) => error,
    }
}

fn ended(answer: &pb::WatchResponse, wanted: Revision) -> StorageError {
    if answer.compact_revision > 0 {
        return StorageError::Compacted { wanted };
    }
    // A member that lost its leader; a permission that was taken away says the same elsewhere.
    StorageError::unavailable(format!("etcd cancelled the watch: {}", answer.cancel_reason))
}

impl StorageWatch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchItem, StorageError> {
        loop {
            let answer = self.answer().await?;
            if answer.canceled {
                return Err(ended(&answer, self.from));
            }
            if answer.created {
                continue;
            }
            if answer.events.is_empty() {
                return Ok(WatchItem::Progress(convert::revision(answer.header.as_ref())));
            }
            let told = answer.events.len();
            let changes: Vec<_> = answer.events.into_iter().filter_map(convert::change).collect();
            if changes.len() != told {
                return Err(StorageError::internal("etcd told of an event without a record"));
            }
            if let Some(last) = changes.last() {
                self.from = last.revision.next();
            }
            return Ok(WatchItem::Changes(changes));
        }
    }

    async fn request_progress(&mut self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        // One that still waits to be sent asks the same.
        let _ = self.requests.try_send(pb::WatchRequest { request_union: Some(request) });
    }
}
