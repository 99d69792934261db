//! Short answers of nodes' agents, read whole. Must never be used for what has no end.

use barque_api::status::Status;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::plan::Target;
use super::proxy::of_agent;
use super::{Streaming, node};
use crate::relay::nothing;

/// No answer that is read whole is longer: that is some ten thousand containers.
const MOST_BYTES: usize = 16 << 20;

impl Streaming {
    /// What the agent of a node answers to GET of a path.
    ///
    /// # Errors
    /// When it cannot be reached, refuses, or says too much.
    pub async fn read(&self, node: &Value, path: &str) -> Result<String, Status> {
        let agent = node::agent(node, &self.0.preferred_address_types)?;
        let target = Target::agent(agent, path.to_owned(), String::new());
        let sent = self.0.sender.send(&target, Method::GET, HeaderMap::new(), nothing()).await;
        let response = sent.map_err(|error| of_agent(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| Status::internal(format!("error reading from backend: {error}")))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if code != StatusCode::OK {
            let said = text.trim();
            return Err(Status::internal(format!("the agent answers {path} with {code}: {said}")));
        }
        Ok(text)
    }
}
