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
    most: usize,
    started: Instant,
    table: RwLock<Table>,
}

/// A moment: by the clock that other members have too, and by one that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Now {
    since_start_ms: u64,
    since_1970_ms: u64,
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
        Self { ttl, most: MAX_SESSIONS, started: Instant::now(), table: RwLock::default() }
    }

    /// A token for a user whose password was right.
    pub(super) fn issue(&self, auth: &AuthState, credentials: AuthRevision) -> Result<String, AuthError> {
        self.issue_at(self.now(), auth, credentials)
    }

    fn issue_at(&self, now: Now, auth: &AuthState, credentials: AuthRevision) -> Result<String, AuthError> {
        let key = auth.token_key().ok_or(AuthError::NotEnabled)?;
        let token = Token {
            credentials,
            revision: auth.revision(),
            issued_at_ms: now.since_1970_ms,
            nonce: rand::random(),
        };
        Ok(token.sign(key))
    }

    /// Whose token it is.
    pub(super) fn user_of<'a>(&self, auth: &'a AuthState, shown: &ShownToken) -> Result<&'a str, AuthError> {
        self.user_at(self.now(), auth, shown)
    }

    fn user_at<'a>(&self, now: Now, auth: &'a AuthState, shown: &ShownToken) -> Result<&'a str, AuthError> {
        let key = auth.token_key().ok_or(AuthError::InvalidToken)?;
        if !self.is_in_use(now, key, shown) {
            if !shown.is_signed_with(key) || self.is_over(now, &shown.says()) {
                return Err(AuthError::InvalidToken);
            }
            self.remember(now, *key, *shown);
        }
        auth.user_of(shown.says().credentials).ok_or(AuthError::InvalidToken)
    }

    fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { since_start_ms: millis(self.started.elapsed()), since_1970_ms: millis(since_1970) }
    }

    fn is_over(&self, now: Now, token: &Token) -> bool {
        now.since_1970_ms >= token.issued_at_ms.saturating_add(millis(self.ttl))
    }

    fn is_in_use(&self, now: Now, key: &TokenKey, shown: &ShownToken) -> bool {
        let table = self.table.read();
        let Some(used) = table.used.get(shown).filter(|_| table.key.as_ref() == Some(key)) else {
            return false;
        };
        let lives = now.since_start_ms < used.load(Ordering::Relaxed).saturating_add(millis(self.ttl));
        if lives {
            used.fetch_max(now.since_start_ms, Ordering::Relaxed);
        }
        lives
    }

    fn remember(&self, now: Now, key: TokenKey, shown: ShownToken) {
        let now_ms = now.since_start_ms;
        let mut table = self.table.write();
        if table.key != Some(key) {
            *table = Table { key: Some(key), used: HashMap::new() };
        }
        if table.used.len() >= self.most {
            let ttl_ms = millis(self.ttl);
            table.used.retain(|_, used| now_ms < used.load(Ordering::Relaxed).saturating_add(ttl_ms));
        }
        if table.used.len() < self.most {
            table.used.insert(shown, AtomicU64::new(now_ms));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who calls, as a token says.
pub(super) fn caller(user: &str, auth: &AuthState) -> Caller {
    Caller { user: user.to_owned(), revision: auth.revision() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::auth::{AuthCommand, Password};

    const TTL_MS: u64 = 300_000;
    const KEY: TokenKey = TokenKey([1; 32]);

    fn sessions() -> Sessions {
        Sessions::new(Duration::from_millis(TTL_MS))
    }

    fn users() -> AuthState {
        let mut auth = AuthState::default();
        let root = || "root".to_owned();
        for command in [
            AuthCommand::UserAdd { name: root(), password: Password::Unset },
            AuthCommand::UserGrantRole { user: root(), role: root() },
            AuthCommand::Enable { token_key: KEY },
        ] {
            auth.execute(&command).unwrap();
        }
        auth
    }

    /// So long after this member's start, which was at some time.
    fn at(ms: u64) -> Now {
        Now { since_start_ms: ms, since_1970_ms: 1_700_000_000_000 + ms }
    }

    fn issue(sessions: &Sessions, auth: &AuthState, ms: u64) -> ShownToken {
        let credentials = auth.user("root").unwrap().credentials;
        ShownToken::parse(sessions.issue_at(at(ms), auth, credentials).unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn a_token_lives_from_its_making_or_from_its_last_use_here() {
        let (here, there, auth) = (sessions(), sessions(), users());
        let token = issue(&here, &auth, 10);
        let good = |sessions: &Sessions, ms| sessions.user_at(at(ms), &auth, &token) == Ok("root");
        assert!(good(&here, 10) && good(&there, 10 + TTL_MS - 1));
        // Used once more within its time.
        assert!(good(&here, TTL_MS));
        assert!(good(&here, 2 * TTL_MS - 1));
        assert!(good(&here, 3 * TTL_MS - 2));
        assert!(!good(&here, 4 * TTL_MS));
        assert!(!good(&here, 4 * TTL_MS + 1), "a token that is over stays so");
        // Another member knows only when it was made, and its own last use.
        assert!(good(&there, 2 * TTL_MS) && !good(&there, 4 * TTL_MS));
        assert!(!good(&sessions(), 10 + TTL_MS));
    }

    #[test]
    fn only_this_key_and_these_credentials_count() {
        let (sessions, mut auth) = (sessions(), users());
        let token = issue(&sessions, &auth, 0);
        assert_eq!(sessions.user_at(at(1), &auth, &token), Ok("root"));
        // Enabled again, with another key.
        auth.execute(&AuthCommand::Disable).unwrap();
        assert_eq!(sessions.user_at(at(2), &auth, &token), Err(AuthError::InvalidToken));
        auth.execute(&AuthCommand::Enable { token_key: TokenKey([2; 32]) }).unwrap();
        assert_eq!(sessions.user_at(at(3), &auth, &token), Err(AuthError::InvalidToken));
        let token = issue(&sessions, &auth, 4);
        assert_eq!(sessions.user_at(at(5), &auth, &token), Ok("root"));
        auth.execute(&AuthCommand::UserChangePassword { name: "root".to_owned(), hash: None }).unwrap();
        assert_eq!(sessions.user_at(at(6), &auth, &token), Err(AuthError::InvalidToken));
    }

    #[test]
    fn the_memory_is_bounded() {
        let sessions = Sessions { most: 3, ..sessions() };
        let auth = users();
        let credentials = auth.user("root").unwrap().credentials;
        let token = |nonce, issued_at_ms| {
            let token = Token { credentials, revision: auth.revision(), issued_at_ms, nonce };
            ShownToken::parse(token.sign(&KEY).as_bytes()).unwrap()
        };
        for nonce in 0..3 {
            sessions.remember(at(0), KEY, token(nonce, at(0).since_1970_ms));
        }
        let last = token(u64::MAX, at(1).since_1970_ms);
        assert_eq!(sessions.user_at(at(1), &auth, &last), Ok("root"));
        assert_eq!(sessions.table.read().used.len(), 3);
        // Those that are over make room.
        let later = token(7, at(TTL_MS).since_1970_ms);
        assert_eq!(sessions.user_at(at(TTL_MS), &auth, &later), Ok("root"));
        assert_eq!(sessions.table.read().used.len(), 1);
    }
}
