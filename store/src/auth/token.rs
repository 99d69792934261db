//! Tokens: what a user gets for its password and shows from then on, to any member.
//!
//! Signed, so that no member has to remember them. A token names its user by the revision of its credentials:
//! a new password, or another user of the same name, ends it. The signing key lives as long as Auth is enabled.
//!
//! ```text
//!  1  format version, 1
//!  8  revision of the credentials       all numbers big-endian
//!  8  revision of users and roles when it was made
//!  8  when that was, in milliseconds since 1970, by the clock of the member that made it
//!  8  a random number
//! 32  HMAC-SHA-256 of everything before
//! ```
//! in base64 for URLs, without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::command::auth::TokenKey;
use crate::ids::AuthRevision;

const VERSION: u8 = 1;
const CONTENT_LEN: usize = 33;
const TOKEN_LEN: usize = CONTENT_LEN + 32;
/// Characters of an encoded token.
const TEXT_LEN: usize = (TOKEN_LEN * 4).div_ceil(3);

/// What a token says. Whether that is true, [`ShownToken::is_signed_with`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of the user.
    pub credentials: AuthRevision,
    /// Of users and roles; a member that does not know it yet has to catch up first.
    pub revision: AuthRevision,
    /// Milliseconds since 1970.
    pub issued_at_ms: u64,
    /// Random: tells tokens of the same moment apart.
    pub nonce: u64,
}

/// A token as a client showed it. Not printed: who has it is the user.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShownToken([u8; TOKEN_LEN]);

impl Token {
    /// The token as a client gets it.
    #[must_use]
    pub fn sign(&self, key: &TokenKey) -> String {
        let content = self.content();
        let mut token = [0; TOKEN_LEN];
        token[..CONTENT_LEN].copy_from_slice(&content);
        token[CONTENT_LEN..].copy_from_slice(&signed(key, &content).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    fn content(&self) -> [u8; CONTENT_LEN] {
        let mut content = [VERSION; CONTENT_LEN];
        let numbers = [self.credentials.0, self.revision.0, self.issued_at_ms, self.nonce];
        for (at, number) in content[1..].chunks_exact_mut(8).zip(numbers) {
            at.copy_from_slice(&number.to_be_bytes());
        }
        content
    }
}

impl ShownToken {
    /// From what a client sent; `None` when that has not the form of a token.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        // The decoder asks for room for whole groups of three.
        let mut token = [0; TOKEN_LEN.next_multiple_of(3)];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut token).ok()?;
        let token = *token[..len].first_chunk()?;
        (len == TOKEN_LEN && token[0] == VERSION).then_some(Self(token))
    }

    /// What it says.
    #[must_use]
    pub fn says(&self) -> Token {
        let mut numbers = self.0[1..CONTENT_LEN]
            .chunks_exact(8)
            .map(|number| u64::from_be_bytes(number.try_into().expect("eight bytes")));
        let mut number = || numbers.next().unwrap_or_default();
        Token {
            credentials: AuthRevision(number()),
            revision: AuthRevision(number()),
            issued_at_ms: number(),
            nonce: number(),
        }
    }

    /// Whether it was made with this key. Takes the same time for every signature.
    #[must_use]
    pub fn is_signed_with(&self, key: &TokenKey) -> bool {
        let (content, signature) = self.0.split_at(CONTENT_LEN);
        signed(key, content).verify_slice(signature).is_ok()
    }
}

fn signed(key: &TokenKey, content: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("keys of any length will do");
    mac.update(content);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TokenKey = TokenKey([5; 32]);
    const TOKEN: Token = Token {
        credentials: AuthRevision(3),
        revision: AuthRevision(9),
        issued_at_ms: 1_700_000_000_000,
        nonce: u64::MAX,
    };

    #[test]
    fn a_token_comes_back_and_is_ascii() {
        let text = TOKEN.sign(&KEY);
        assert!(text.len() == TEXT_LEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
        let shown = ShownToken::parse(text.as_bytes()).unwrap();
        assert_eq!(shown.says(), TOKEN);
        assert!(shown.is_signed_with(&KEY));
        assert!(!shown.is_signed_with(&TokenKey([6; 32])));
    }

    #[test]
    fn a_changed_token_is_none() {
        let text = TOKEN.sign(&KEY);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let good = ShownToken::parse(&changed).is_some_and(|shown| shown.is_signed_with(&KEY));
            assert!(!good, "character {at}");
        }
        for text in ["", "abcdefghijklmnop.12", &text[1..], &format!("{text}A"), &format!("Bearer {text}")] {
            assert!(ShownToken::parse(text.as_bytes()).is_none());
        }
    }
}
