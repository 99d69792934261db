//! Names of signals, as images and pods write them. Pure.

use rustix::process::Signal;

const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The number of a signal written as `SIGTERM`, `term`, `15` or `SIGRTMIN+3`; nothing if there is none.
pub fn number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let base = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let number = if let Ok(number) = name.parse::<i32>() {
        number
    } else if let Some(offset) = name.strip_prefix("RTMIN+") {
        34 + offset.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset))?
    } else if let Some(offset) = name.strip_prefix("RTMAX-") {
        64 - offset.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset))?
    } else {
        base(name)?
    };
    (1..=64).contains(&number).then_some(number)
}

/// A number as something to send.
pub(crate) fn to_send(number: i32) -> Option<Signal> {
    if !(1..=64).contains(&number) {
        return None;
    }
    #[allow(unsafe_code, reason = "rustix names no real-time signals")]
    // SAFETY: the number is that of a signal (checked above, and so not 0), and it is only sent to other processes; the
    // condition about signals that the C library keeps for itself is about handling them.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    Some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_all_their_names() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("0", None),
            ("65", None),
            ("SIGNO", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(number(name), expected, "{name:?}");
        }
    }
}
