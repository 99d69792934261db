//! What lets a machine join: who it is believed by, and whom it believes. `barque1<pin>.<id>.<secret>`: the pin is the SHA-256 of the
//! cluster's authority in hexadecimal, id and secret are those of a bootstrap token of Kubernetes. Must never print a secret
//! unless it was asked to.

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;

use crate::authority::Pin;

const PREFIX: &str = "barque1";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A bootstrap token: six letters that name it, and sixteen that only its owners know.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub id: String,
    secret: String,
}

/// A token with the authority of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of the cluster's authority.
    pub pin: Pin,
    /// By which the machine is believed.
    pub credential: Credential,
}

/// Not a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It looks otherwise.
    #[error(
        "--token is not a token of a Barque cluster, which begins with barque1 and has three parts with dots between; \
         `barque token create` on a master prints one"
    )]
    Form,
    /// A bootstrap token of Kubernetes.
    #[error(
        "--token says who this machine is, and not which cluster it may believe; `barque token create` on a master prints one \
         that says both (it begins with barque1)"
    )]
    NoPin,
}

impl Credential {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let mut rng = rand::rng();
        let mut text = |length: usize| -> String {
            (0..length).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
        };
        Self { id: text(6), secret: text(16) }
    }

    /// What only its owners know.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// As API servers are shown it.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// From its two parts; nothing when they are none.
    #[must_use]
    pub fn of(id: &str, secret: &str) -> Option<Self> {
        let plain =
            |text: &str, length| text.len() == length && text.bytes().all(|byte| LETTERS.contains(&byte));
        (plain(id, 6) && plain(secret, 16)).then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Token {
    /// As people hand it on, with its secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}.{}", self.pin.hex(), self.credential.bearer())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        match parts[..] {
            [pin, id, secret] => {
                let pin = pin.strip_prefix(PREFIX).and_then(hexadecimal).ok_or(TokenError::Form)?;
                let credential = Credential::of(id, secret).ok_or(TokenError::Form)?;
                Ok(Self { pin, credential })
            }
            [id, secret] if Credential::of(id, secret).is_some() => Err(TokenError::NoPin),
            _ => Err(TokenError::Form),
        }
    }
}

fn hexadecimal(text: &str) -> Option<Pin> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut pin = [0; 32];
    for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(Pin(pin))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_its_secret_is_not_printed() {
        let token = Token { pin: Pin([0xa7; 32]), credential: Credential::random() };
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert_eq!(format!("{}\n", token.reveal()).parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(token.credential.secret()));
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        assert_eq!("abcdef.0123456789abcdef".parse::<Token>(), Err(TokenError::NoPin));
        for text in ["", "barque1", "barque1zz.abcdef.0123456789abcdef", "a.b.c"] {
            assert_eq!(text.parse::<Token>(), Err(TokenError::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(text in "\\PC*") {
            let _ = text.parse::<Token>();
        }
    }
}
