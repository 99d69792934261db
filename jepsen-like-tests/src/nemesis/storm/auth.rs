//! Rights that change while clients work, and come back.

use std::io;
use std::time::Duration;

use rand::Rng;
use tokio::time::{sleep, timeout};

use super::{CALL_PATIENCE, Storm};
use crate::cluster::ClusterError;
use crate::history::Request;
use crate::secure::password_again;

/// What becomes of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRights {
    /// Guests lose their role, and get it again.
    Revoked,
    /// Auth is turned off, and on again, which ends all tokens.
    Off,
    /// A new password (the same word) ends the tokens of those at work.
    Password,
}

/// A change is asked for so often at most.
const ATTEMPTS: usize = 10;

impl Storm<'_> {
    pub(super) async fn new_rights(&mut self, rights: NewRights) -> Result<(), ClusterError> {
        let (kind, first, then) = match rights {
            NewRights::Revoked => ("rights of guests revoked", Request::AuthRevoke, Request::AuthGrant),
            NewRights::Off => ("auth off", Request::AuthDisable, Request::AuthEnable),
            NewRights::Password => return self.new_password().await,
        };
        let fault = self.shared.recorder.fault_began(kind, self.names(&self.members));
        // What was asked twice may be refused the second time; the record tells what is known of it.
        self.session.call(first).await;
        let time = Duration::from_millis(self.rng.random_range(200..1200));
        sleep(time).await;
        for _ in 0..ATTEMPTS {
            if self.session.call(then.clone()).await.is_some() {
                self.shared.recorder.fault_ended(fault);
                return Ok(());
            }
        }
        let source = io::Error::new(io::ErrorKind::TimedOut, format!("refused {ATTEMPTS} times"));
        Err(ClusterError::Io { what: then.name().to_owned(), source })
    }

    async fn new_password(&mut self) -> Result<(), ClusterError> {
        let fault = self.shared.recorder.fault_began("new password", self.names(&self.members));
        let member = self.members[self.rng.random_range(0..self.members.len())];
        // It does not matter whether it comes about.
        let _ = timeout(CALL_PATIENCE, password_again(&self.cluster.client(member))).await;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }
}
