//! Who this client is: a user with a password, exchanged for a token, or a token from elsewhere.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::Failure;

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl User {
    /// `--user name:password`, or `--user name --password ...`; `ask` is called if there is no password.
    ///
    /// # Errors
    /// Whatever `ask` returns.
    pub(crate) fn from_flags(
        user: &str,
        password: Option<&str>,
        ask: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        let (name, password) = match (password, user.split_once(':')) {
            (Some(password), _) => (user, password.to_owned()),
            (None, Some((name, password))) => (name, password.to_owned()),
            (None, None) => (user, ask()?),
        };
        Ok(Self { name: name.to_owned(), password })
    }
}

/// Goes with every request.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// # Errors
    /// If it holds characters that no token has.
    pub(super) fn new(text: &str) -> Result<Self, Failure> {
        let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| {
            Failure::Arguments("the token holds characters that no token has: check --auth-jwt-token".into())
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_the_user_or_beside_it_or_asked_for() {
        let from = |user, password| {
            let user = User::from_flags(user, password, || Ok("asked".to_owned())).unwrap();
            (user.name, user.password)
        };
        let pair = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        assert_eq!(from("root:a:b", None), pair("root", "a:b"));
        assert_eq!(from("root", Some("x")), pair("root", "x"));
        assert_eq!(from("ro:ot", Some("x")), pair("ro:ot", "x"));
        assert_eq!(from("root", None), pair("root", "asked"));
        assert_eq!(from("root:", None), pair("root", ""));
    }

    #[test]
    fn a_password_is_never_printed() {
        let user = User { name: "root".into(), password: "hush".into() };
        assert!(!format!("{user:?}").contains("hush"));
    }
}
