//! Any etcd v3 endpoints behind the narrow waist, over gRPC; etcd itself, or members of the store in other processes.
//!
//! One connection at a time serves everything; when its endpoint fails, the next one takes over. Must never send a write
//! twice where both could be done.

mod connection;
mod convert;
pub(super) mod members;
mod verdict;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_store::config::TlsFiles;
use bytes::Bytes;
use futures::future::{join, join_all};
use tonic::{Response, Status};

pub use connection::EtcdConfigError;
pub use watch::EtcdWatch;

use connection::{Endpoints, Live};
use verdict::{Verdict, verdict};

use super::members::StoreMember;
use super::{
    Expected, Got, LeaseId, Listed, Page, Revision, Storage, StorageError, Write, Written, found_mine,
    judge_second_try,
};

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `--etcd-servers`: `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// `--etcd-cafile` (`trusted_ca_file`), `--etcd-certfile` and `--etcd-keyfile`; followed when they change.
    pub tls: TlsFiles,
    /// An endpoint that takes longer to connect to is passed over.
    pub dial_timeout: Duration,
    /// A request that takes longer has failed.
    pub request_timeout: Duration,
}

impl EtcdConfig {
    /// For these endpoints, without certificates.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            tls: TlsFiles::default(),
            dial_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// An etcd cluster. Cloning copies a pointer; nothing is connected before the first request.
#[derive(Clone)]
pub struct EtcdStorage(Arc<Inner>);

struct Inner {
    endpoints: Endpoints,
    request_timeout: Duration,
}

impl EtcdStorage {
    /// Reads the certificates; connects later.
    ///
    /// # Errors
    /// When an endpoint is not a URL or a certificate cannot be used.
    pub fn new(config: &EtcdConfig) -> Result<Self, EtcdConfigError> {
        let endpoints = Endpoints::new(config)?;
        Ok(Self(Arc::new(Inner { endpoints, request_timeout: config.request_timeout })))
    }

    /// A request that changes nothing, at the first endpoint that answers it.
    async fn read<T, F, R>(&self, wanted: Revision, ask: F) -> Result<T, StorageError>
    where
        F: Fn(Live) -> R + Send,
        R: Future<Output = Result<Response<T>, Status>> + Send,
        T: Send,
    {
        let endpoints = &self.0.endpoints;
        let asking = async {
            let mut why = String::new();
            for _ in 0..=endpoints.len() {
                let live = endpoints.live().await?;
                match ask(live.clone()).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => match verdict(&status, wanted) {
                        Verdict::Final(error) => return Err(error),
                        Verdict::NotDone(text) | Verdict::Unknown(text) => {
                            why = format!("{}: {text}", live.name());
                            endpoints.leave(&live).await;
                        }
                    },
                }
            }
            Err(StorageError::unavailable(why))
        };
        let late = || StorageError::unavailable(format!("no answer within {:?}", self.0.request_timeout));
        // On the heap: the futures of gRPC calls are large.
        tokio::time::timeout(self.0.request_timeout, Box::pin(asking)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn txn(&self, live: &Live, write: &Write) -> Result<Written, TxnError> {
        let answer = kv(live).txn(convert::transaction(write)).await.map_err(TxnError::Status)?;
        convert::written(answer.into_inner()).map_err(TxnError::Answer)
    }

    async fn write_somewhere(&self, write: &Write) -> Result<Written, StorageError> {
        let endpoints = &self.0.endpoints;
        // Why an earlier try may have been done.
        let mut lost: Option<String> = None;
        let mut why = String::new();
        for _ in 0..=endpoints.len() {
            let live = match endpoints.live().await {
                Ok(live) => live,
                Err(error) => return Err(lost.map_or(error, StorageError::unknown)),
            };
            if let (Some(lost), Expected::Absent) = (&lost, write.expected) {
                // Not sent again: the first may have been done and its object deleted since.
                let found = self.get(&write.key).await.ok().and_then(|got| found_mine(write, got.entry));
                return found.map(Written::Done).ok_or_else(|| StorageError::unknown(lost.clone()));
            }
            match self.txn(&live, write).await {
                Ok(written) if lost.is_none() => return Ok(written),
                Ok(written) => return judge_second_try(write, written),
                Err(TxnError::Answer(error)) => return Err(error),
                Err(TxnError::Status(status)) => match verdict(&status, Revision(0)) {
                    Verdict::Final(error) => return Err(lost.map_or(error, StorageError::unknown)),
                    Verdict::NotDone(text) => why = format!("{}: {text}", live.name()),
                    Verdict::Unknown(text) => lost = Some(format!("{}: {text}", live.name())),
                },
            }
            endpoints.leave(&live).await;
        }
        Err(lost.map_or_else(|| StorageError::unavailable(why), StorageError::unknown))
    }
}

/// Why a transaction has no outcome.
enum TxnError {
    Status(Status),
    /// It was answered with something else.
    Answer(StorageError),
}

fn kv(live: &Live) -> KvClient<tonic::transport::Channel> {
    KvClient::new(live.channel()).max_decoding_message_size(usize::MAX)
}

impl Storage for EtcdStorage {
    type Watch = EtcdWatch;

    async fn get(&self, key: &Bytes) -> Result<Got, StorageError> {
        let request = pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() };
        let ask = |live: Live| {
            let request = request.clone();
            async move { kv(&live).range(request).await }
        };
        let answer = self.read(Revision(0), ask).await?;
        let revision = convert::revision(answer.header.as_ref());
        Ok(Got { entry: answer.kvs.into_iter().next().map(convert::entry), revision })
    }

    async fn list(&self, page: &Page) -> Result<Listed, StorageError> {
        let request = convert::range(page);
        let ask = |live: Live| {
            let request = request.clone();
            async move { kv(&live).range(request).await }
        };
        let answer = self.read(page.revision.unwrap_or_default(), ask).await?;
        Ok(convert::listed(page, answer))
    }

    async fn write(&self, write: &Write) -> Result<Written, StorageError> {
        let writing = Box::pin(self.write_somewhere(write));
        tokio::time::timeout(self.0.request_timeout, writing).await.unwrap_or_else(|_| {
            Err(StorageError::unknown(format!("no answer within {:?}", self.0.request_timeout)))
        })
    }

    async fn current_revision(&self) -> Result<Revision, StorageError> {
        // A read of one key that is not there is as good as any.
        Ok(self.get(&Bytes::from_static(b"/")).await?.revision)
    }

    async fn tells_progress(&self) -> bool {
        let ask = |live: Live| async move {
            MaintenanceClient::new(live.channel()).status(pb::StatusRequest {}).await
        };
        match self.read(Revision(0), ask).await {
            Ok(status) => convert::has_sound_progress(&status.version),
            Err(_) => false,
        }
    }

    async fn watch(&self, prefix: &Bytes, from: Revision) -> Result<EtcdWatch, StorageError> {
        let endpoints = &self.0.endpoints;
        let opening = async {
            let mut why = String::new();
            for _ in 0..endpoints.len() {
                let live = endpoints.live().await?;
                match EtcdWatch::open(&live, prefix, from).await {
                    Ok(watch) => return Ok(watch),
                    Err(StorageError::Unavailable { why: text }) => {
                        why = format!("{}: {text}", live.name());
                        endpoints.leave(&live).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(StorageError::unavailable(why))
        };
        let late = || StorageError::unavailable("the watch was not opened in time");
        tokio::time::timeout(self.0.request_timeout, Box::pin(opening)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        let request = pb::CompactionRequest { revision: revision.to_wire(), physical: false };
        let ask = |live: Live| async move { kv(&live).compact(request).await };
        self.read(revision, ask).await.map(|_| ())
    }

    async fn grant_lease(&self, ttl_s: u64) -> Result<LeaseId, StorageError> {
        let request = pb::LeaseGrantRequest { ttl: i64::try_from(ttl_s).unwrap_or(i64::MAX), id: 0 };
        let ask = |live: Live| async move { LeaseClient::new(live.channel()).lease_grant(request).await };
        // One that was granted and nobody knows of ends by itself.
        let granted = self.read(Revision(0), ask).await?;
        if granted.error.is_empty() {
            Ok(LeaseId(granted.id))
        } else {
            Err(StorageError::internal(granted.error))
        }
    }

    async fn members(&self) -> Result<Vec<StoreMember>, StorageError> {
        let ask = |live: Live| async move {
            let request = pb::MemberListRequest { linearizable: false };
            ClusterClient::new(live.channel()).member_list(request).await
        };
        let late = || StorageError::unavailable("nobody says who the members are");
        let listing = async {
            let listing = self.read(Revision(0), ask);
            tokio::time::timeout(members::PATIENCE, listing).await.unwrap_or_else(|_| Err(late()))
        };
        let endpoints = &self.0.endpoints;
        let asking = endpoints.names().map(|name| async move {
            let url = name.to_string();
            members::ask(std::slice::from_ref(&url), endpoints.connector()).await
        });
        let (listed, known) = join(listing, join_all(asking)).await;
        let known = known.into_iter().filter_map(Result::ok).collect();
        Ok(members::all(listed?.members, known, endpoints.connector()).await)
    }
}
