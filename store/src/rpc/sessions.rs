//! Tokens in use: whose they are, and that using one keeps it alive.
//!
//! A token is good for a time after it was made, on every member. Each use on a member makes it good there for
//! that time again (etcd: the same), which that member remembers; after a restart only the token itself
//! counts. The memory is bounded: when it is full, tokens that are used last only for their own time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;

use crate::auth::AuthState;
use crate::auth::token::{ShownToken, Token};
use crate::command::auth::{AuthError, Caller, TokenKey};
use crate::ids::AuthRevision;

/// Tokens that are remembered.
const MAX_SESSIONS: usize = 1 << 16;

/// The tokens that clients of one member use.
pub(super) struct Sessions {
    ttl: Duration,
    started: Instant,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// All sessions are of tokens that were signed with it.
    key: Option<TokenKey>,
    /// When each token was used last, in milliseconds since the start. Its signature was right.
    used: HashMap<ShownToken, AtomicU64>,
}

impl Sessions {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, started: Instant::now(), table: RwLock::default() }
    }

    /// A token for a user whose password was right.
    pub(super) fn issue(&self, auth: &AuthState, credentials: AuthRevision) -> Result<String, AuthError> {
        let key = auth.token_key().ok_or(AuthError::NotEnabled)?;
        let token = Token {
            credentials,
            revision: auth.revision(),
            issued_at_ms: millis(since_1970()),
            nonce: rand::random(),
        };
        Ok(token.sign(key))
    }

    /// Whose token it is.
    pub(super) fn user_of<'a>(&self, auth: &'a AuthState, shown: &ShownToken) -> Result<&'a str, AuthError> {
        let key = auth.token_key().ok_or(AuthError::InvalidToken)?;
        if !self.is_in_use(key, shown) {
            if !shown.is_signed_with(key) || self.is_over(&shown.says()) {
                return Err(AuthError::InvalidToken);
            }
            self.remember(*key, *shown);
        }
        auth.user_of(shown.says().credentials).ok_or(AuthError::InvalidToken)
    }

    fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    fn is_over(&self, token: &Token) -> bool {
        millis(since_1970()) >= token.issued_at_ms.saturating_add(millis(self.ttl))
    }

    fn is_in_use(&self, key: &TokenKey, shown: &ShownToken) -> bool {
        let table = self.table.read();
        let Some(used) = table.used.get(shown).filter(|_| table.key.as_ref() == Some(key)) else {
            return false;
        };
        let now_ms = self.now_ms();
        let lives = now_ms < used.load(Ordering::Relaxed).saturating_add(millis(self.ttl));
        if lives {
            used.fetch_max(now_ms, Ordering::Relaxed);
        }
        lives
    }

    fn remember(&self, key: TokenKey, shown: ShownToken) {
        let now_ms = self.now_ms();
        let mut table = self.table.write();
        if table.key != Some(key) {
            *table = Table { key: Some(key), used: HashMap::new() };
        }
        if table.used.len() >= MAX_SESSIONS {
            let ttl_ms = millis(self.ttl);
            table.used.retain(|_, used| now_ms < used.load(Ordering::Relaxed).saturating_add(ttl_ms));
        }
        if table.used.len() < MAX_SESSIONS {
            table.used.insert(shown, AtomicU64::new(now_ms));
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who calls, as a token says.
pub(super) fn caller(user: &str, auth: &AuthState) -> Caller {
    Caller { user: user.to_owned(), revision: auth.revision() }
}
