//! Certificates that stand one after the other in a text, as PEM. Must never look into one.

/// The certificates of a bundle, each as PEM with a line's end, in their order, without what stands between them.
#[must_use]
pub fn certificates(bundle: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current: Option<String> = None;
    for line in bundle.lines().map(str::trim) {
        if line == "-----BEGIN CERTIFICATE-----" {
            current = Some(String::new());
        }
        let Some(text) = &mut current else { continue };
        text.push_str(line);
        text.push('\n');
        if line == "-----END CERTIFICATE-----" {
            all.extend(current.take());
        }
    }
    all
}

/// Bundles in one, each certificate once, in the order in which they come.
#[must_use]
pub fn joined(bundles: &[&str]) -> String {
    let mut all: Vec<String> = Vec::new();
    for one in bundles.iter().flat_map(|bundle| certificates(bundle)) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn certificates_are_found_whatever_stands_between_them() {
        let key = "-----BEGIN PRIVATE KEY-----\nk\n-----END PRIVATE KEY-----\n";
        let bundle = format!("a word\r\n{}{key}\n  {}", pem("a").replace('\n', "\r\n"), pem("b"));
        assert_eq!(certificates(&bundle), [pem("a"), pem("b")]);
        for torn in ["", "text", "-----BEGIN CERTIFICATE-----\na\n", "-----END CERTIFICATE-----\n"] {
            assert!(certificates(torn).is_empty(), "{torn:?}");
        }
    }

    #[test]
    fn each_stands_once_in_the_order_in_which_it_came() {
        let both = pem("b") + &pem("a");
        assert_eq!(joined(&[&pem("a"), &both, &pem("b")]), pem("a") + &pem("b"));
    }
}
