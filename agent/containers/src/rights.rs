//! The rights that making containers needs, and which of them this process lacks. Must never try to get any.

use rustix::thread::{CapabilitySet, capabilities};

/// Each with what it is needed for.
const NEEDED: [(CapabilitySet, &str, &str); 10] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "namespaces and mounts"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", "links and rules of services"),
    (CapabilitySet::CHOWN, "CAP_CHOWN", "owners of files"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "files of other users"),
    (CapabilitySet::FOWNER, "CAP_FOWNER", "modes of other users' files"),
    (CapabilitySet::KILL, "CAP_KILL", "ends of other users' processes"),
    (CapabilitySet::SETUID, "CAP_SETUID", "users of containers"),
    (CapabilitySet::SETGID, "CAP_SETGID", "groups of containers"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP", "rights of containers"),
    (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT", "roots of containers"),
];

/// Names of the rights that the calling thread lacks, each with what it is needed for.
///
/// # Errors
/// When the kernel does not tell.
pub fn missing_rights() -> Result<Vec<String>, std::io::Error> {
    Ok(missing(capabilities(None)?.effective))
}

fn missing(effective: CapabilitySet) -> Vec<String> {
    let lacks = NEEDED.iter().filter(|(right, ..)| !effective.contains(*right));
    lacks.map(|(_, name, what)| format!("{name} (for {what})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        assert_eq!(missing(CapabilitySet::all()), Vec::<String>::new());
        let some = CapabilitySet::all() - CapabilitySet::SYS_ADMIN - CapabilitySet::KILL;
        let told =
            ["CAP_SYS_ADMIN (for namespaces and mounts)", "CAP_KILL (for ends of other users' processes)"];
        assert_eq!(missing(some), told);
        assert_eq!(missing(CapabilitySet::empty()).len(), NEEDED.len());
    }
}
