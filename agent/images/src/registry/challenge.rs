//! What a registry wants to know (RFC 9110, 11.6.1; distribution's token authentication). Pure.

use std::time::Duration;

use serde::Deserialize;

/// How to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token from somebody else.
    Bearer {
        /// Whom to ask.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// For which rights.
        scope: Option<String>,
    },
}

/// A token and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) lifetime: Duration,
}

/// Tokens of registries that say nothing (distribution's specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

impl Challenge {
    /// The one to follow of those that `WWW-Authenticate` lists: a token before a password.
    pub(crate) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> = headers.flat_map(parse).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or_else(|| all.first()).cloned()
    }
}

impl Token {
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(json).ok()?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        (!token.is_empty()).then_some(Self { token, lifetime })
    }
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            break;
        }
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, next) = read_value(value.trim_start());
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = next;
            }
            None => {
                if !word.is_empty() {
                    schemes.push((word.to_ascii_lowercase(), Vec::new()));
                }
                rest = after;
            }
        }
    }
    let known = schemes.into_iter().filter_map(|(scheme, parameters)| {
        let get = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
            }
            _ => None,
        }
    });
    known.collect()
}

/// A word or a quoted string, and what follows it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let choose = |headers: &[&str]| Challenge::choose(headers.iter().copied());
        assert_eq!(
            choose(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push""#
            ]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/a:pull,push")
            )
        );
        assert_eq!(choose(&[r#"Basic realm="Registry""#]), Some(Challenge::Basic));
        assert_eq!(choose(&["basic"]), Some(Challenge::Basic));
        assert_eq!(choose(&["Basic realm=x, Bearer realm=y"]), bearer("y", None, None));
        assert_eq!(
            choose(&["Negotiate", "Bearer  realm = \"a\\\"b\" , error=\"x\""]),
            bearer("a\"b", None, None)
        );
        for nothing in
            ["", "Bearer", "Bearer service=x", ",,, ", "=", "Digest realm=x", "\"", "Bearer realm=\"\""]
        {
            assert_eq!(choose(&[nothing]), None, "{nothing}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_to_its_end(text in "[ -~]{0,60}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn tokens_come_under_two_names() {
        let token = |text: &str| Token::parse(text.as_bytes());
        let good = |token: &str, seconds| {
            Some(Token { token: token.into(), lifetime: Duration::from_secs(seconds) })
        };
        assert_eq!(token(r#"{"token":"a","expires_in":300}"#), good("a", 300));
        assert_eq!(token(r#"{"access_token":"b"}"#), good("b", 60));
        assert_eq!(token(r#"{"token":""}"#), None);
        assert_eq!(token("<html>"), None);
    }
}
