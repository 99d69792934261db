//! How rotated logs are named and which of them are too many, whoever rotates them. Text only.

use crate::shim::timestamp;

/// As the kubelet names them: the file's name and the time, here to the nanosecond so that two in a second differ. The time is in
/// nanoseconds since 1970.
#[must_use]
pub fn rotated_name(name: &str, now_ns: i64) -> String {
    let time: String = timestamp(now_ns).chars().filter(char::is_ascii_digit).collect();
    let (date, rest) = time.split_at(8);
    let (second, fraction) = rest.split_at(6);
    format!("{name}.{date}-{second}-{fraction}")
}

/// The rotated files that are too many among these names, the oldest ones. `files` counts the one that is written.
#[must_use]
pub fn superfluous(name: &str, names: Vec<String>, files: u32) -> Vec<String> {
    let dated = |other: &String| {
        other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| {
            rest.len() >= 15 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        })
    };
    let mut rotated: Vec<String> = names.into_iter().filter(dated).collect();
    rotated.sort_unstable();
    let keep = files.saturating_sub(1) as usize;
    rotated.truncate(rotated.len().saturating_sub(keep));
    rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_too_many() {
        let names = ["0.log", "0.log.20260101-000000", "0.log.20260102-000000-5", "1.log", "0.log.txt"];
        let names = || names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(superfluous("0.log", names(), 2), ["0.log.20260101-000000"]);
        assert_eq!(superfluous("0.log", names(), 1).len(), 2);
        assert!(superfluous("0.log", names(), 5).is_empty());
        assert_eq!(rotated_name("0.log", 0), "0.log.19700101-000000-000000000");
    }
}
