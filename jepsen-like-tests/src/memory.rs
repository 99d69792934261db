//! Bits that flip in the memory of a running process, as failing hardware does it: nothing notices by itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Memory looked at in one piece.
const PIECE_BYTES: u64 = 1 << 20;

/// Flips one bit in the first byte of each place where `needle` lies in the writable memory of process `id`, which
/// must be a child of this one. Answers in how many places.
pub fn flip(id: u32, needle: &[u8]) -> io::Result<usize> {
    let memory = File::options().read(true).write(true).open(format!("/proc/{id}/mem"))?;
    let mut flipped = 0;
    for (start, end) in writable(&std::fs::read_to_string(format!("/proc/{id}/maps"))?) {
        let mut at = start;
        while at < end {
            // Pieces overlap, so that a needle which lies across their border is found too.
            let len = (end - at).min(PIECE_BYTES + needle.len() as u64 - 1);
            let mut piece = vec![0; len as usize];
            if memory.read_exact_at(&mut piece, at).is_ok() {
                for place in memchr::memmem::find_iter(&piece, needle) {
                    memory.write_all_at(&[needle[0] ^ 1], at + place as u64)?;
                    flipped += 1;
                }
            }
            at += PIECE_BYTES;
        }
    }
    Ok(flipped)
}

/// The writable private regions in the text of `/proc/PID/maps`.
fn writable(maps: &str) -> impl Iterator<Item = (u64, u64)> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let private = words.next()?.starts_with("rw-p");
        let address = |text| u64::from_str_radix(text, 16).ok();
        private.then_some((address(start)?, address(end)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_writable_regions_are_touched() {
        let maps =
            "7f00-7f10 rw-p 00000000 00:00 0 [heap]\n8000-9000 r--p 0 00:00 0\na000-b000 rw-s 0 00:00 0 /x\n";
        assert_eq!(writable(maps).collect::<Vec<_>>(), [(0x7f00, 0x7f10)]);
    }
}
