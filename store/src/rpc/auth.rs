//! `etcdserverpb.Auth`: users, roles, and what they get for their passwords.
//!
//! Passwords are hashed before anything is proposed and compared outside the log, on threads that may block.

use std::sync::Arc;

use barque_proto::authpb;
use barque_proto::etcdserverpb as pb;
use barque_proto::server::etcd::auth_server;
use tonic::{Request, Response, Status};

use super::admit::{Admitted, OnLearner, admit, header};
use super::backend::{Backend, ReadView};
use super::permit::{admin, check_on, permit, propose};
use crate::auth::{Check, ROOT, Rights};
use crate::command::auth::{Access, AuthCommand, AuthError, Password, PasswordHash, Permission, TokenKey};
use crate::command::{Command, KeyRange};
use crate::error::StoreError;

/// The auth service of one member.
pub(super) struct Auth<B>(pub(super) B);

/// How often a password is compared again because users changed meanwhile.
const LOGIN_ATTEMPTS: usize = 3;

impl<B: Backend> Auth<B> {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(header(&self.0, self.0.view().revision()))
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<Admitted, StoreError> {
        admit(&self.0, request, OnLearner::Refuse)
    }

    /// Executes a change and answers the header of its answer.
    async fn change(
        &self,
        admitted: &Admitted,
        change: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, StoreError> {
        let applied = propose(&self.0, &admitted.credentials, Command::Auth(change)).await?;
        Ok(Some(header(&self.0, applied.revision)))
    }

    /// Users and roles as of now, if the caller may see what it asks for.
    async fn read(
        &self,
        admitted: &Admitted,
        check: impl FnOnce(Check<'_>) -> Result<(), AuthError>,
    ) -> Result<Arc<dyn Rights>, StoreError> {
        self.0.read_barrier().await?;
        let rights = self.0.rights();
        if rights.auth().is_enabled() {
            check_on(self.0.logins(), &rights, &admitted.credentials, check)?;
        }
        Ok(rights)
    }

    /// Only who may use the hash has it made.
    async fn hash(&self, admitted: &Admitted, password: String) -> Result<PasswordHash, StoreError> {
        permit(&self.0, &admitted.credentials, admin).await?;
        self.0.logins().passwords.hash(password).await
    }

    /// The token of a user whose password is right, right until after the comparison.
    async fn log_in(&self, name: &str, password: &str) -> Result<String, StoreError> {
        self.0.read_barrier().await?;
        for _ in 0..LOGIN_ATTEMPTS {
            let rights = self.0.rights();
            if !rights.auth().is_enabled() {
                return Err(AuthError::NotEnabled.into());
            }
            let user = rights.auth().user(name);
            let credentials = user.map(|user| user.credentials);
            let hash = user.and_then(|user| match &user.password {
                Password::Hash(hash) => Some(hash.clone()),
                Password::None | Password::Unset => None,
            });
            let logins = self.0.logins();
            if !logins.passwords.verify(password.to_owned(), hash).await? {
                tracing::info!(user = name, "a login failed");
                return Err(AuthError::Failed.into());
            }
            self.0.read_barrier().await?;
            let rights = self.0.rights();
            let now = rights.auth().user(name).map(|user| user.credentials);
            if let Some(credentials) = credentials.filter(|_| now == credentials) {
                return Ok(logins.sessions.issue(rights.auth(), credentials)?);
            }
        }
        Err(AuthError::OldRevision.into())
    }
}

#[tonic::async_trait]
impl<B: Backend> auth_server::Auth for Auth<B> {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let admitted = self.admit(&request)?;
        let change = AuthCommand::Enable { token_key: TokenKey(rand::random()) };
        Ok(Response::new(pb::AuthEnableResponse { header: self.change(&admitted, change).await? }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let admitted = self.admit(&request)?;
        let header = self.change(&admitted, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    /// Everybody may ask, but nobody with a token that is worth nothing (etcd: the same).
    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let admitted = self.admit(&request)?;
        self.0.read_barrier().await?;
        let rights = self.0.rights();
        let auth = rights.auth();
        if auth.is_enabled() {
            self.0.logins().caller(auth, &admitted.credentials)?;
        }
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.header(),
            enabled: auth.is_enabled(),
            auth_revision: auth.revision().0,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        self.admit(&request)?;
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.log_in(&name, &password).await?;
        Ok(Response::new(pb::AuthenticateResponse { header: self.header(), token }))
    }

    /// `hashed_password` is ignored (etcd: the same): which hashes are good is the store's to say.
    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthUserAddRequest { name, password, options, .. } = request.into_inner();
        let password = if options.is_some_and(|options| options.no_password) || name.is_empty() {
            Password::None
        } else {
            Password::Hash(self.hash(&admitted, password).await?)
        };
        let header = self.change(&admitted, AuthCommand::UserAdd { name, password }).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let admitted = self.admit(&request)?;
        let name = request.into_inner().name;
        let rights = self.read(&admitted, |check| check.see_user(&name)).await?;
        let user = rights.auth().user(&name).ok_or(AuthError::UserNotFound)?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.header(), roles: user.roles.clone() }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let admitted = self.admit(&request)?;
        let rights = self.read(&admitted, admin).await?;
        let users = rights.auth().users().map(str::to_owned).collect();
        Ok(Response::new(pb::AuthUserListResponse { header: self.header(), users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let admitted = self.admit(&request)?;
        let name = request.into_inner().name;
        let header = self.change(&admitted, AuthCommand::UserDelete { name }).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    /// An empty password is one that no login has (etcd: the same).
    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthUserChangePasswordRequest { name, password, .. } = request.into_inner();
        let hash = if password.is_empty() { None } else { Some(self.hash(&admitted, password).await?) };
        let header = self.change(&admitted, AuthCommand::UserChangePassword { name, hash }).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthUserGrantRoleRequest { user, role } = request.into_inner();
        let header = self.change(&admitted, AuthCommand::UserGrantRole { user, role }).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthUserRevokeRoleRequest { name, role } = request.into_inner();
        let header = self.change(&admitted, AuthCommand::UserRevokeRole { user: name, role }).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let admitted = self.admit(&request)?;
        let name = request.into_inner().name;
        let header = self.change(&admitted, AuthCommand::RoleAdd { name }).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let admitted = self.admit(&request)?;
        let role = request.into_inner().role;
        let rights = self.read(&admitted, |check| check.see_role(&role)).await?;
        let granted = rights.auth().permissions(&role).ok_or(AuthError::RoleNotFound)?;
        let perm = if role == ROOT {
            vec![permission(&everything())]
        } else {
            granted.iter().map(permission).collect()
        };
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.header(), perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let admitted = self.admit(&request)?;
        let rights = self.read(&admitted, admin).await?;
        let roles = rights.auth().roles().map(str::to_owned).collect();
        Ok(Response::new(pb::AuthRoleListResponse { header: self.header(), roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let admitted = self.admit(&request)?;
        let name = request.into_inner().role;
        let header = self.change(&admitted, AuthCommand::RoleDelete { name }).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.into_inner();
        permit(&self.0, &admitted.credentials, admin).await?;
        let perm = perm.ok_or(AuthError::PermissionNotGiven)?;
        let access = match authpb::permission::Type::try_from(perm.perm_type) {
            Ok(authpb::permission::Type::Read) => Access::Read,
            Ok(authpb::permission::Type::Write) => Access::Write,
            Ok(authpb::permission::Type::Readwrite) => Access::ReadWrite,
            Err(_) => return Err(AuthError::InvalidManagement.into()),
        };
        let range = KeyRange { key: perm.key, range_end: perm.range_end };
        let change =
            AuthCommand::RoleGrantPermission { role: name, permission: Permission { access, range } };
        let header = self.change(&admitted, change).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let admitted = self.admit(&request)?;
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.into_inner();
        let range = KeyRange { key, range_end };
        let header = self.change(&admitted, AuthCommand::RoleRevokePermission { role, range }).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }
}

/// What the role `root` may, whatever was granted to it.
fn everything() -> Permission {
    let range = KeyRange { key: Default::default(), range_end: bytes::Bytes::from_static(&[0]) };
    Permission { access: Access::ReadWrite, range }
}

fn permission(permission: &Permission) -> authpb::Permission {
    let access = match permission.access {
        Access::Read => authpb::permission::Type::Read,
        Access::Write => authpb::permission::Type::Write,
        Access::ReadWrite => authpb::permission::Type::Readwrite,
    };
    authpb::Permission {
        perm_type: access.into(),
        key: permission.range.key.clone(),
        range_end: permission.range.range_end.clone(),
    }
}
