//! The Watch service: a client's requests into a watch engine, the engine's answers to the client.

use std::sync::Arc;

use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};
use barque_proto::served::WatchResponse;
use barque_proto::server::etcd::watch_server;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::admit::{OnLearner, admit_to_data, header};
use super::backend::Backend;
use super::counting::client_of;
use super::permit::{Credentials, permit_here, watch_refusal};
use super::streams::until_ended;
use crate::command::KeyRange;
use crate::error::StoreError;
use crate::ids::Revision;
use crate::watch::{HeaderSource, History, WatchConfig, WatchHub, WatchStream};

/// `etcdserverpb.Watch`.
pub(super) struct Watch<B> {
    pub(super) backend: B,
    pub(super) hub: Arc<WatchHub>,
    pub(super) history: Arc<dyn History>,
    pub(super) config: WatchConfig,
}

struct Headers<B>(B);

impl<B: Backend> HeaderSource for Headers<B> {
    fn header(&self, revision: Revision) -> ResponseHeader {
        header(&self.0, revision)
    }
}

/// Answers that wait are given away so many in a row before the next request is looked for, which needs a lock of
/// the connection.
const ANSWERS_IN_A_ROW: usize = 64;

struct Session<B> {
    backend: B,
    credentials: Credentials,
    engine: WatchStream,
    requests: Streaming<WatchRequest>,
    in_a_row: usize,
}

impl<B: Backend> Session<B> {
    /// The next answer. Requests are taken while answers wait, and not taken while too many wait.
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        if self.in_a_row < ANSWERS_IN_A_ROW
            && let Some(answer) = self.engine.waiting_answer()
        {
            self.in_a_row += 1;
            return Some(Ok(answer));
        }
        self.in_a_row = 0;
        loop {
            let accepts = self.engine.accepts_requests();
            let request = tokio::select! {
                biased;
                request = self.requests.next(), if accepts => request,
                answer = self.engine.next() => return answer.map(Ok),
            };
            match request {
                Some(Ok(request)) => self.request(request).await,
                Some(Err(status)) => return Some(Err(status)),
                // etcd ends the stream when its client closes its side.
                None => return None,
            }
        }
    }

    /// What a client may watch is asked when a watch begins; one that has begun goes on (etcd: the same).
    async fn request(&mut self, request: WatchRequest) {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union
            && let Err(error) = self.may_create(create).await
        {
            return self.engine.deny(create, &watch_refusal(error));
        }
        self.engine.request(request);
    }

    async fn may_create(&self, create: &WatchCreateRequest) -> Result<(), StoreError> {
        // The smallest key stands for none.
        let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key.clone() };
        let range = KeyRange { key, range_end: create.range_end.clone() };
        permit_here(&self.backend, &self.credentials, |check| check.read(&range)).await
    }
}

#[tonic::async_trait]
impl<B: Backend> watch_server::Watch for Watch<B> {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admit_to_data(&self.backend, &request, OnLearner::Refuse)?;
        let headers: Arc<dyn HeaderSource> = Arc::new(Headers(self.backend.clone()));
        let mut engine =
            WatchStream::new(Arc::clone(&self.hub), Arc::clone(&self.history), headers, self.config);
        engine.set_client(client_of(&self.backend, &request, &admitted.credentials));
        // Boxed, because it is moved with each answer.
        let session = Box::new(Session {
            backend: self.backend.clone(),
            credentials: admitted.credentials.clone(),
            engine,
            requests: request.into_inner(),
            in_a_row: 0,
        });
        let answers = stream::unfold(session, |mut session| async move {
            let answer = session.next().await?;
            Some((answer, session))
        });
        Ok(Response::new(until_ended(&self.backend, &admitted, answers)))
    }
}
