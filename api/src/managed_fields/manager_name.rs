//! Names of owners: what a client may call itself, and what it is called when it does not say.

use crate::field::{FieldError, FieldPath};

/// How many bytes a name may have.
pub const NAME_BYTES_MAX: usize = 128;

/// The name that a request is accounted for: the one it gives (query parameter `fieldManager`), or what its `User-Agent` says
/// before the first slash.
#[must_use]
pub fn of_request(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let program = user_agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for letter in program.chars().filter(|letter| is_printable(*letter)) {
        if name.len() + letter.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    name
}

/// What is wrong with a name that a client gives itself.
#[must_use]
pub fn check(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > NAME_BYTES_MAX {
        errors.push(FieldError::too_long(path, NAME_BYTES_MAX));
    }
    for (position, letter) in name.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let code = u32::from(letter);
        let why = format!("invalid character U+{code:04X} (at position {position})");
        errors.push(FieldError::invalid(path, name, why));
    }
    errors
}

/// Letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(letter: char) -> bool {
    // After a letter, marks stand as they are; of what can be printed quotes and the backslash alone are escaped.
    let text = format!("a{letter}");
    matches!(letter, '"' | '\'' | '\\') || text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_after_their_program() {
        let table = [
            ("me", "kubectl/v1.37.0", "me"),
            ("", "kubectl/v1.37.0 (linux/amd64)", "kubectl"),
            ("", "Go-http-client/2.0", "Go-http-client"),
            ("", "", ""),
            ("", "a\u{7}b\u{200b}c d\té", "abc dé"),
            ("", "e\u{301}\"/1", "e\u{301}\""),
        ];
        for (given, agent, name) in table {
            assert_eq!(of_request(given, agent), name, "{agent:?}");
        }
        assert_eq!(of_request("", &"é".repeat(100)), "é".repeat(64));
        assert_eq!(of_request("", &format!("a{}", "é".repeat(100))).len(), 127);
    }

    #[test]
    fn names_are_short_and_printable() {
        let path = FieldPath::of("fieldManager");
        assert!(check("kubectl client-side é", &path).is_empty());
        let told =
            |name: &str| -> Vec<String> { check(name, &path).iter().map(ToString::to_string).collect() };
        assert_eq!(told(&"a".repeat(129)), ["fieldManager: Too long: may not be more than 128 bytes"]);
        assert_eq!(
            told("é\n"),
            ["fieldManager: Invalid value: \"é\\n\": invalid character U+000A (at position 2)"]
        );
    }
}
