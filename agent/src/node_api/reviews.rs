//! Asks the API servers whose a token is and who may. Must never keep an answer.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::authorization::Access;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What tells it from others who had the name before.
    pub uid: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// What else is known of it.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Nobody could be asked.
#[derive(Debug, thiserror::Error)]
#[error("the API servers cannot be asked: {0}")]
pub struct ReviewError(pub String);

/// Those who know users and rights.
pub trait Reviews: Send + Sync + 'static {
    /// Whose a token is; nothing when it is nobody's.
    fn token(&self, token: String) -> BoxFuture<'_, Result<Option<User>, ReviewError>>;

    /// Whether a user may do something with a node of this name.
    fn access<'a>(
        &'a self,
        user: &'a User,
        node: &'a str,
        access: Access,
    ) -> BoxFuture<'a, Result<bool, ReviewError>>;
}

/// `TokenReview` and `SubjectAccessReview` of the API servers.
pub struct KubeReviews(Client);

impl KubeReviews {
    /// Asks with this client, whose rights must reach that far (`system:auth-delegator`, which nodes have).
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Reviews for KubeReviews {
    fn token(&self, token: String) -> BoxFuture<'_, Result<Option<User>, ReviewError>> {
        Box::pin(async move {
            let review =
                TokenReview { spec: TokenReviewSpec { token, audiences: None }, ..TokenReview::default() };
            let answer =
                Api::<TokenReview>::all(self.0.clone()).create(&PostParams::default(), &review).await;
            let status = answer.map_err(|error| ReviewError(error.to_string()))?.status.unwrap_or_default();
            Ok(status.user.filter(|_| status.authenticated == Some(true)).map(user))
        })
    }

    fn access<'a>(
        &'a self,
        user: &'a User,
        node: &'a str,
        access: Access,
    ) -> BoxFuture<'a, Result<bool, ReviewError>> {
        Box::pin(async move {
            let review =
                SubjectAccessReview { spec: asked(user, node, access), ..SubjectAccessReview::default() };
            let api = Api::<SubjectAccessReview>::all(self.0.clone());
            let answer = api.create(&PostParams::default(), &review).await;
            let status = answer.map_err(|error| ReviewError(error.to_string()))?.status;
            Ok(status.is_some_and(|SubjectAccessReviewStatus { allowed, denied, .. }| {
                allowed && denied != Some(true)
            }))
        })
    }
}

fn user(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }
}

fn asked(user: &User, node: &str, access: Access) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        resource_attributes: Some(ResourceAttributes {
            verb: Some(access.verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(access.subresource.to_owned()),
            name: Some(node.to_owned()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}
