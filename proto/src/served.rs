//! Answers that carry stored records, in the form in which a server sends them.
//!
//! On the wire they are equal to their namesakes in `etcdserverpb`: an embedded message and a `bytes`
//! field are encoded alike. Here every record is bytes that were encoded once, when it was written,
//! so that a list or a watch never encodes a record again. Never used for decoding foreign input.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, skip_field};
use triomphe::ThinArc;

use crate::etcdserverpb::ResponseHeader;

/// A record as it is stored: an encoded `mvccpb.KeyValue`, shared and never copied but into the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(pub ThinArc<(), u8>);

impl Default for Encoded {
    fn default() -> Self {
        Self(ThinArc::from_header_and_slice((), &[]))
    }
}

impl prost::Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0.slice);
    }

    fn encoded_len(&self) -> usize {
        self.0.slice.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // Servers only send these messages.
        skip_field(wire_type, tag, buf, ctx)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// `etcdserverpb.RangeResponse`; `kvs` are encoded `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<Encoded>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// `etcdserverpb.RangeStreamResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeStreamResponse {
    #[prost(message, optional, tag = "1")]
    pub range_response: Option<RangeResponse>,
}

/// `etcdserverpb.PutResponse`; `prev_kv` is an encoded `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(message, optional, tag = "2")]
    pub prev_kv: Option<Encoded>,
}

/// `etcdserverpb.DeleteRangeResponse`; `prev_kvs` are encoded `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteRangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    #[prost(message, repeated, tag = "3")]
    pub prev_kvs: Vec<Encoded>,
}

/// `etcdserverpb.TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseOp {
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// The variants of `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    Put(PutResponse),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeResponse),
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
}

/// `etcdserverpb.WatchResponse`; `events` are encoded `mvccpb.Event`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub events: Vec<Bytes>,
}
