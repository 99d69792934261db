//! Where passwords are hashed and compared: on threads that may block, on half of the cores at most, so that
//! many logins at once make logins wait and nothing else.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use crate::auth::password;
use crate::command::auth::PasswordHash;
use crate::error::StoreError;

/// Logins that wait for their turn; further ones are refused.
const MAX_WAITING: usize = 256;

/// The turns of those who hash.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let turns = (cores / 2).max(1);
        Self { turns: Arc::new(Semaphore::new(turns)), places: Arc::new(Semaphore::new(turns + MAX_WAITING)) }
    }

    pub(super) async fn hash(&self, password: String) -> Result<PasswordHash, StoreError> {
        let hashed = self.run(move || password::hash(password.as_bytes(), rand::random())).await?;
        hashed.map_err(|error| StoreError::Internal(error.to_string()))
    }

    /// See [`password::verify`].
    pub(super) async fn verify(
        &self,
        password: String,
        hash: Option<PasswordHash>,
    ) -> Result<bool, StoreError> {
        self.run(move || password::verify(password.as_bytes(), hash.as_ref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| StoreError::TooManyRequests)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        // Turn and place are kept by the work itself: who goes away meanwhile makes no room for another.
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        done.await.map_err(|_| StoreError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_so_many_wait() {
        let passwords = Passwords::new();
        let all = passwords.turns.available_permits() + MAX_WAITING;
        let waiting =
            Arc::clone(&passwords.places).try_acquire_many_owned(u32::try_from(all).unwrap()).unwrap();
        assert_eq!(passwords.verify(String::new(), None).await, Err(StoreError::TooManyRequests));
        drop(waiting);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert_eq!(passwords.verify("secret".to_owned(), Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("other".to_owned(), Some(hash)).await, Ok(false));
        assert_eq!(passwords.places.available_permits(), all);
    }
}
