//! Which rule the names of a collection follow, and names made of a base and chance. Chance is handed in.

use super::{dns_1035_label, dns_label, dns_subdomain, path_segment_name, path_segment_prefix};

/// The most bytes of a base that a generated name keeps.
const MAX_GENERATED_BASE: usize = 58;
/// What the end of a generated name is made of: no vowels, so no words.
const GENERATED_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many letters are added to a base.
const GENERATED_LENGTH: usize = 5;

/// How the names of a collection's objects are made. Told as sentences: none, when the name is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain, as most are.
    Subdomain,
    /// A DNS label (RFC 1123), as namespaces are.
    Label,
    /// A DNS label that begins with a letter (RFC 1035), as services are.
    Label1035,
    /// Whatever fits into a path, as roles are.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a whole name.
    #[must_use]
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => dns_subdomain(name),
            Self::Label => dns_label(name),
            Self::Label1035 => dns_1035_label(name),
            Self::PathSegment => path_segment_name(name),
        }
    }

    /// What is wrong with the base of a generated name: it may end with a dash.
    #[must_use]
    pub fn check_base(self, base: &str) -> Vec<String> {
        if self == Self::PathSegment {
            return path_segment_prefix(base);
        }
        match base.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => {
                // Kubernetes looks at neither the dash nor the byte before it.
                let kept = (0..rest.len()).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
                self.check(&format!("{}a", &rest[..kept]))
            }
            _ => self.check(base),
        }
    }
}

/// The part of `generateName` that a generated name keeps.
#[must_use]
pub fn generated_base(base: &str) -> &str {
    let end = (0..=base.len().min(MAX_GENERATED_BASE)).rev().find(|at| base.is_char_boundary(*at));
    &base[..end.unwrap_or(0)]
}

/// A name from `generateName` and chance: every number gives some end of five letters.
#[must_use]
pub fn generated_name(base: &str, chance: u64) -> String {
    let mut name = generated_base(base).to_owned();
    let mut left = chance;
    for _ in 0..GENERATED_LENGTH {
        let letters = GENERATED_LETTERS.len() as u64;
        name.push(char::from(GENERATED_LETTERS[(left % letters) as usize]));
        left /= letters;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_may_end_with_a_dash() {
        for rule in [NameRule::Subdomain, NameRule::Label, NameRule::Label1035, NameRule::PathSegment] {
            assert_eq!(rule.check_base("web-"), [""; 0], "{rule:?}");
        }
        assert_eq!(NameRule::Label.check_base("A-").len(), 0, "as Kubernetes has it");
        assert_eq!(NameRule::Label.check_base("AB-").len(), 1);
        assert_eq!(NameRule::Label.check_base("-").len(), 1);
        assert_eq!(NameRule::Label.check("web-").len(), 1);
    }

    #[test]
    fn generated_names_are_labels_of_the_base() {
        let long = "a".repeat(80);
        for (base, chance) in [("web-", 0), ("web-", u64::MAX), (long.as_str(), 7)] {
            let name = generated_name(base, chance);
            assert!(name.starts_with(generated_base(base)));
            assert_eq!(dns_label(&name), [""; 0]);
        }
        assert_eq!(generated_base(&long).len(), MAX_GENERATED_BASE);
        assert_eq!(generated_base(&"\u{fc}".repeat(40)).len(), 58);
        assert_ne!(generated_name("a", 1), generated_name("a", 2));
    }
}
