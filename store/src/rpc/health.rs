//! `grpc.health.v1.Health`: the service "" serves until the member stops.

use barque_proto::health::health_check_response::ServingStatus;
use barque_proto::health::{HealthCheckRequest, HealthCheckResponse};
use barque_proto::server::health::health_server;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit};
use super::backend::Backend;
use super::streams::until_ended;

/// The health service of one member.
pub(super) struct Health<B>(pub(super) B);

#[tonic::async_trait]
impl<B: Backend> health_server::Health for Health<B> {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        admit(&self.0, &request, OnLearner::Refuse)?;
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        let status =
            if self.0.shutdown().is_cancelled() { ServingStatus::NotServing } else { ServingStatus::Serving };
        Ok(Response::new(answer(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        let now = if request.get_ref().service.is_empty() {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        // Nothing else ever changes: the stream stays open until the member stops.
        let answers = stream::iter([Ok(answer(now))]).chain(stream::pending());
        Ok(Response::new(until_ended(&self.0, &admitted, answers)))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
