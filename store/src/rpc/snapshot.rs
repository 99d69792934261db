//! The messages that carry a snapshot. `Maintenance.Snapshot`: the file, zeros up to the next multiple of 512, then the
//! SHA-256 of all of that. `Admin.Snapshot`: the file alone.

use barque_proto::SNAPSHOT_ALIGNMENT_BYTES;
use barque_proto::admin as pb;
use barque_proto::etcdserverpb::{ResponseHeader, SnapshotResponse};
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
    padding_bytes: u64,
    hash: Sha256,
    /// For the first message: the moment of the whole file.
    header: Option<ResponseHeader>,
}

impl<S> Sending<S> {
    fn message(&mut self, blob: Bytes) -> SnapshotResponse {
        self.hash.update(&blob);
        let remaining_bytes = self.left_bytes + self.padding_bytes;
        SnapshotResponse {
            header: self.header.take(),
            remaining_bytes,
            blob,
            version: STORAGE_VERSION.to_owned(),
        }
    }
}

/// The messages for one snapshot as etcd's clients take it. Ends with an error when the content is not as long as
/// announced.
pub(super) fn padded<S>(
    snapshot: Snapshot<S>,
    header: ResponseHeader,
) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
{
    let sending = Sending {
        chunks: Box::pin(snapshot.chunks),
        left_bytes: snapshot.size_bytes,
        padding_bytes: snapshot.size_bytes.next_multiple_of(SNAPSHOT_ALIGNMENT_BYTES) - snapshot.size_bytes,
        hash: Sha256::new(),
        header: Some(header),
    };
    stream::try_unfold(Some(sending), |sending| async move {
        let Some(mut sending) = sending else { return Ok(None) };
        match sending.chunks.next().await.transpose()? {
            Some(chunk) => {
                sending.left_bytes = left_after(sending.left_bytes, &chunk)?;
                Ok(Some((sending.message(chunk), Some(sending))))
            }
            None if sending.left_bytes > 0 => Err(wrong_size().into()),
            None if sending.padding_bytes > 0 => {
                let zeros = vec![0; std::mem::take(&mut sending.padding_bytes) as usize];
                Ok(Some((sending.message(zeros.into()), Some(sending))))
            }
            None => {
                let digest = Bytes::copy_from_slice(&sending.hash.finalize_reset());
                Ok(Some((sending.message(digest), None)))
            }
        }
    })
}

/// The messages for one snapshot as it is. Ends with an error when the content is not as long as announced.
pub(super) fn as_it_is<S>(
    snapshot: Snapshot<S>,
    header: ResponseHeader,
) -> impl Stream<Item = Result<pb::SnapshotResponse, Status>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
{
    let total_bytes = snapshot.size_bytes;
    stream::try_unfold((Box::pin(snapshot.chunks), total_bytes), move |(mut chunks, left_bytes)| async move {
        match chunks.next().await.transpose()? {
            Some(blob) => {
                let remaining_bytes = left_after(left_bytes, &blob)?;
                let header = Some(header);
                let message = pb::SnapshotResponse { header, total_bytes, remaining_bytes, blob };
                Ok(Some((message, (chunks, remaining_bytes))))
            }
            None if left_bytes > 0 => Err(wrong_size().into()),
            None => Ok(None),
        }
    })
}

fn left_after(left_bytes: u64, chunk: &Bytes) -> Result<u64, StoreError> {
    left_bytes.checked_sub(chunk.len() as u64).ok_or_else(wrong_size)
}

fn wrong_size() -> StoreError {
    StoreError::Internal("the snapshot is not as long as was announced".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;

    const HEADER: ResponseHeader = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };

    fn snapshot(
        size_bytes: u64,
        chunks: &[&'static str],
    ) -> Snapshot<impl Stream<Item = Result<Bytes, StoreError>> + use<>> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        Snapshot { size_bytes, revision: Revision(3), chunks: stream::iter(chunks) }
    }

    fn send(size_bytes: u64, chunks: &[&'static str]) -> Vec<Result<SnapshotResponse, Status>> {
        futures::executor::block_on(padded(snapshot(size_bytes, chunks), HEADER).collect())
    }

    #[test]
    fn content_and_padding_and_then_their_checksum() {
        let sent: Vec<_> = send(6, &["ab", "cdef"]).into_iter().map(|message| message.unwrap()).collect();
        let headers: Vec<_> = sent.iter().map(|message| message.header).collect();
        assert_eq!(headers, [Some(HEADER), None, None, None]);
        let remaining: Vec<_> = sent.iter().map(|message| message.remaining_bytes).collect();
        assert_eq!(remaining, [510, 506, 0, 0]);
        let blobs: Vec<_> = sent.into_iter().map(|message| message.blob).collect();
        let content = blobs[..3].concat();
        assert_eq!(content, [&b"abcdef"[..], &[0; 506]].concat());
        assert_eq!(blobs[3], &Sha256::digest(content)[..]);
    }

    #[test]
    fn what_needs_no_padding_gets_none() {
        let half = "x".repeat(256).leak();
        let sent = send(512, &[half, half]);
        let remaining: Vec<_> =
            sent.iter().map(|message| message.as_ref().unwrap().remaining_bytes).collect();
        assert_eq!(remaining, [256, 0, 0]);
    }

    #[test]
    fn an_administrator_gets_the_file_alone() {
        let sent: Vec<_> =
            futures::executor::block_on(as_it_is(snapshot(6, &["ab", "cdef"]), HEADER).collect());
        let message = |remaining_bytes, blob: &'static str| pb::SnapshotResponse {
            header: Some(HEADER),
            total_bytes: 6,
            remaining_bytes,
            blob: blob.into(),
        };
        let sent: Vec<_> = sent.into_iter().map(|message| message.unwrap()).collect();
        assert_eq!(sent, [message(4, "ab"), message(0, "cdef")]);
    }

    #[test]
    fn a_wrong_length_is_an_error_and_never_a_checksum() {
        for size_bytes in [7, 5] {
            let sent = send(size_bytes, &["ab", "cdef"]);
            assert_eq!(sent.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Internal);
            let sent: Vec<_> = futures::executor::block_on(
                as_it_is(snapshot(size_bytes, &["ab", "cdef"]), HEADER).collect(),
            );
            assert_eq!(sent.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Internal);
        }
    }
}
