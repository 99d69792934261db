//! What requests are counted as, while somebody looks at the activity of the member.
//!
//! A call that is not looked at pays for one relaxed load.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::request_op::Request as Op;
use barque_proto::served;
use bytes::Bytes;
use tonic::Request;

use super::backend::Backend;
use super::permit::{Credentials, user_of};
use crate::activity::{ClientId, Traffic};
use crate::command::{OpOutcome, RangeOutcome, TxnOutcome};
use crate::record::Record;

/// Who made a request.
pub(super) fn client_of<B: Backend, T>(
    backend: &B,
    request: &Request<T>,
    credentials: &Credentials,
) -> ClientId {
    ClientId { address: request.remote_addr(), user: user_of(backend, credentials) }
}

/// A request that will be counted: who made it, and what it asked.
pub(super) struct Counting<T> {
    client: ClientId,
    asked: T,
}

impl<T: Clone> Counting<T> {
    /// `None` while nobody looks.
    #[inline]
    pub(super) fn begin<B: Backend>(
        backend: &B,
        request: &Request<T>,
        credentials: &Credentials,
    ) -> Option<Self> {
        if !backend.activity().is_looked_at() {
            return None;
        }
        let client = client_of(backend, request, credentials);
        Some(Self { client, asked: request.get_ref().clone() })
    }

    /// Counts the request by what it asked and was answered.
    pub(super) fn end<B: Backend, A>(&self, backend: &B, answer: &A)
    where
        T: Operations<A>,
    {
        let mut operations = Vec::new();
        self.asked.operations(answer, &mut operations);
        backend.activity().record(&self.client, &operations);
    }
}

/// What a request did with which keys, seen from its answer.
pub(super) trait Operations<A> {
    /// Adds it to `to`.
    fn operations(&self, answer: &A, to: &mut Vec<(Bytes, Traffic)>);
}

fn bytes_of(records: &[Record]) -> usize {
    records.iter().map(|record| record.encoded().len()).sum()
}

impl Operations<RangeOutcome> for pb::RangeRequest {
    fn operations(&self, answer: &RangeOutcome, to: &mut Vec<(Bytes, Traffic)>) {
        to.push((self.key.clone(), Traffic::read(bytes_of(&answer.records))));
    }
}

/// A chunk of a streamed range, by its encoded records. Only the first one is a request.
pub(super) struct Chunk<'a> {
    pub(super) first: bool,
    pub(super) records: &'a [served::Encoded],
}

impl Operations<Chunk<'_>> for pb::RangeRequest {
    fn operations(&self, answer: &Chunk<'_>, to: &mut Vec<(Bytes, Traffic)>) {
        let bytes = answer.records.iter().map(|record| record.0.slice.len()).sum();
        let traffic = Traffic { reads: u64::from(answer.first), ..Traffic::read(bytes) };
        to.push((self.key.clone(), traffic));
    }
}

impl<A> Operations<A> for pb::PutRequest {
    fn operations(&self, _: &A, to: &mut Vec<(Bytes, Traffic)>) {
        to.push((self.key.clone(), Traffic::write(self.key.len() + self.value.len())));
    }
}

impl<A> Operations<A> for pb::DeleteRangeRequest {
    fn operations(&self, _: &A, to: &mut Vec<(Bytes, Traffic)>) {
        to.push((self.key.clone(), Traffic::write(self.key.len())));
    }
}

impl Operations<TxnOutcome> for pb::TxnRequest {
    fn operations(&self, answer: &TxnOutcome, to: &mut Vec<(Bytes, Traffic)>) {
        let before = to.len();
        let taken = if answer.succeeded { &self.success } else { &self.failure };
        for (op, answer) in taken.iter().zip(&answer.responses) {
            match (&op.request, answer) {
                (Some(Op::RequestRange(range)), OpOutcome::Range(outcome)) => range.operations(outcome, to),
                (Some(Op::RequestPut(put)), outcome) => put.operations(outcome, to),
                (Some(Op::RequestDeleteRange(delete)), outcome) => delete.operations(outcome, to),
                (Some(Op::RequestTxn(txn)), OpOutcome::Txn(outcome)) => txn.operations(outcome, to),
                _ => {}
            }
        }
        // One that only compared has read what it compared.
        if to.len() == before
            && let Some(compare) = self.compare.first()
        {
            to.push((compare.key.clone(), Traffic::read(0)));
        }
    }
}
