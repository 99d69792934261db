//! The messages of `Maintenance.Snapshot`: the content with what remains, then its SHA-256.

use barque_proto::etcdserverpb::SnapshotResponse;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::STORAGE_VERSION;
use super::backend::Snapshot;
use crate::error::StoreError;

struct Sending<S> {
    chunks: S,
    left_bytes: u64,
    hash: Sha256,
}

/// The messages for one snapshot. Ends with an error when the content is not as long as announced.
pub(super) fn messages<S>(
    snapshot: Snapshot<S>,
) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
{
    let sending =
        Sending { chunks: Box::pin(snapshot.chunks), left_bytes: snapshot.size_bytes, hash: Sha256::new() };
    stream::try_unfold(Some(sending), |sending| async move {
        let Some(mut sending) = sending else { return Ok(None) };
        let message = |remaining_bytes, blob| SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: STORAGE_VERSION.to_owned(),
        };
        match sending.chunks.next().await.transpose()? {
            Some(chunk) => {
                sending.left_bytes =
                    sending.left_bytes.checked_sub(chunk.len() as u64).ok_or_else(wrong_size)?;
                sending.hash.update(&chunk);
                Ok(Some((message(sending.left_bytes, chunk), Some(sending))))
            }
            None if sending.left_bytes == 0 => {
                let digest = Bytes::copy_from_slice(&sending.hash.finalize());
                Ok(Some((message(0, digest), None)))
            }
            None => Err(wrong_size().into()),
        }
    })
}

fn wrong_size() -> StoreError {
    StoreError::Internal("the snapshot is not as long as was announced".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(size_bytes: u64, chunks: Vec<&'static str>) -> Vec<Result<SnapshotResponse, Status>> {
        let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(chunk.into())));
        futures::executor::block_on(messages(Snapshot { size_bytes, chunks }).collect())
    }

    #[test]
    fn content_and_then_its_checksum() {
        let sent: Vec<_> = send(6, vec!["ab", "cdef"])
            .into_iter()
            .map(|message| message.unwrap())
            .map(|message| (message.remaining_bytes, message.blob))
            .collect();
        let digest = Bytes::copy_from_slice(&Sha256::digest(b"abcdef"));
        assert_eq!(sent, [(4, Bytes::from("ab")), (0, Bytes::from("cdef")), (0, digest)]);
    }

    #[test]
    fn a_wrong_length_is_an_error_and_never_a_checksum() {
        for (size_bytes, chunks) in [(7, vec!["ab", "cdef"]), (5, vec!["ab", "cdef"])] {
            let sent = send(size_bytes, chunks);
            assert_eq!(sent.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Internal);
        }
    }
}
