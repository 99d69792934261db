//! Sizes for people, in powers of 1000, as etcdctl writes them.

/// `25 kB`, `1.2 MB`.
pub(crate) fn humanize(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = ((bytes as f64).ln() / 1000_f64.ln()).floor();
    let value = (bytes as f64 / 1000_f64.powf(exponent) * 10.0 + 0.5).floor() / 10.0;
    let name = NAMES[(exponent as usize).min(NAMES.len() - 1)];
    if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::humanize;

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (20_480, "20 kB"),
            (1_234_567, "1.2 MB"),
            (2_147_483_648, "2.1 GB"),
            (82_854_982, "83 MB"),
        ] {
            assert_eq!(humanize(bytes), text);
        }
    }
}
