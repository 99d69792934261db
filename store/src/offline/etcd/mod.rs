//! A snapshot of etcd becomes one of Barque: keys with their whole kept history, leases, users and roles.
//!
//! What belongs to etcd's cluster and not to its data stays behind: members, alarms, where its log stood. The source
//! is only read; the result appears whole, and never in the place of another file.

mod error;
mod keys;
mod source;
mod users;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use barque_proto::etcdserverpb as pb;
use barque_proto::leasepb;
use prost::Message as _;
use rustix::fs::{CWD, RenameFlags, renameat_with};

pub use error::ImportError;
use keys::{Census, Meta};
use source::Source;

use super::Progress;
use crate::command::auth::TokenKey;
use crate::ids::{ClusterId, LeaseId, MemberId};
use crate::snapshot::{Manifest, SnapshotWriter};
use crate::stored::{StateMeta, StoredAuth};

/// What to import.
#[derive(Clone, Debug)]
pub struct Request {
    /// What `etcdctl snapshot save` wrote, or the `member/snap/db` of a member that does not run.
    pub from: PathBuf,
    /// Where the result goes. Nothing may be there.
    pub to: PathBuf,
    /// `--skip-hash-check`: a `member/snap/db` has no digest.
    pub skip_hash_check: bool,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The current revision.
    pub revision: i64,
    /// The oldest revision that can be read; -1 when etcd never compacted.
    pub compact_revision: i64,
    /// Living keys.
    pub keys: u64,
    /// Versions of keys, deletions too.
    pub versions: u64,
    /// Versions that etcd had compacted and not yet swept away.
    pub versions_compacted: u64,
    /// Leases.
    pub leases: u64,
    /// Users.
    pub users: u64,
    /// Roles.
    pub roles: u64,
    /// Whether rights are asked for.
    pub auth_enabled: bool,
    /// Alarms that were raised in etcd, as etcd names them. They are left behind.
    pub alarms: Vec<String>,
    /// Whether the digest at the file's end was compared.
    pub digest_compared: bool,
    /// Size of the new file.
    pub size_bytes: u64,
}

/// Writes a snapshot of Barque with what one of etcd holds. Blocks.
///
/// # Errors
/// When the source is no snapshot of etcd or is damaged, something is in the way, or the disk fails. Then nothing has
/// the new name.
pub fn import(request: &Request, progress: Progress<'_>) -> Result<Imported, ImportError> {
    absent(&request.to)?;
    let source = Source::open(&request.from, !request.skip_hash_check, progress)?;
    let meta = meta(&source)?;
    let mut census = Census::new(meta.compact_revision());
    source.for_each_reported(b"key", "reading", progress, |key, value| census.count(key, value))?;
    let auth = users(&source)?;
    let alarms = alarms(&source)?;
    let state = StateMeta {
        revision: census.revision(),
        compact_revision: meta.compact_revision(),
        leases: leases(&source)?,
        auth: auth.into(),
        ..StateMeta::default()
    };
    let mut imported = Imported {
        revision: state.revision.0,
        compact_revision: state.compact_revision.0,
        keys: census.live_keys(),
        versions: 0,
        versions_compacted: 0,
        leases: state.leases.len() as u64,
        users: state.auth.users.len() as u64,
        roles: state.auth.roles.len() as u64,
        auth_enabled: state.auth.token_key.is_some(),
        alarms,
        digest_compared: source.digest_compared(),
        size_bytes: 0,
    };
    let part = part_of(&request.to);
    let written = write(&part, &source, &census, state, &mut imported, progress)
        .and_then(|()| publish(&part, &request.to));
    if written.is_err() {
        // Only wasted space when this fails too; the next attempt writes over it.
        let _ = fs::remove_file(&part);
    }
    written.map(|()| imported)
}

fn write(
    part: &Path,
    source: &Source,
    census: &Census,
    state: StateMeta,
    imported: &mut Imported,
    progress: Progress<'_>,
) -> Result<(), ImportError> {
    let failed = || ImportError::io(part, "write");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let manifest = Manifest {
        // A snapshot of etcd does not say of which cluster it is. A restore gives a new id and new members anyway.
        cluster: ClusterId(0),
        member: MemberId(0),
        written_at_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
        state,
        since: None,
    };
    let file = File::create(part).map_err(ImportError::io(part, "create the file"))?;
    let mut writer = SnapshotWriter::new(file, &manifest).map_err(failed())?;
    source.for_each_reported(b"key", "writing", progress, |key, value| {
        match census.kept(key, value)? {
            Some(version) => writer.push(&version).map_err(failed())?,
            None => imported.versions_compacted += 1,
        }
        Ok(())
    })?;
    let (file, written) = writer.finish().map_err(failed())?;
    file.sync_all().map_err(ImportError::io(part, "sync"))?;
    imported.versions = written.versions;
    imported.size_bytes = written.size_bytes;
    Ok(())
}

fn absent(path: &Path) -> Result<(), ImportError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(ImportError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ImportError::io(path, "look whether it is there")(error)),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Gives the complete file its name, for good, if nobody else took it meanwhile.
fn publish(part: &Path, path: &Path) -> Result<(), ImportError> {
    match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(ImportError::Exists { path: path.to_owned() }),
        // Not every file system can do both in one step.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            absent(path)?;
            fs::rename(part, path).map_err(ImportError::io(path, "give the file its name"))?;
        }
        Err(error) => return Err(ImportError::io(path, "give the file its name")(error.into())),
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(ImportError::io(dir, "sync the directory"))
}

fn meta(source: &Source) -> Result<Meta, ImportError> {
    let mut meta = Meta::default();
    source.for_each(b"meta", |key, value| meta.take(key, value))?;
    Ok(meta)
}

/// A lease with its full and its remaining time, the latter 0 when no member of etcd noted it.
fn leases(source: &Source) -> Result<Vec<(LeaseId, i64, i64)>, ImportError> {
    let mut leases = Vec::new();
    source.for_each(b"lease", |key, value| {
        let lease = leasepb::Lease::decode(value).map_err(|error| format!("a lease: {error}"))?;
        if *key != lease.id.to_be_bytes() || lease.id == 0 || lease.ttl <= 0 {
            return Err(format!("lease {:x} contradicts itself", lease.id).into());
        }
        leases.push((LeaseId(lease.id), lease.ttl, lease.remaining_ttl.clamp(0, lease.ttl)));
        Ok(())
    })?;
    leases.sort_unstable_by_key(|(id, ..)| *id);
    Ok(leases)
}

fn users(source: &Source) -> Result<StoredAuth, ImportError> {
    let mut found = users::Found::default();
    source.for_each(b"auth", |key, value| found.flag(key, value))?;
    source.for_each(b"authUsers", |key, value| found.user(key, value))?;
    source.for_each(b"authRoles", |key, value| found.role(key, value))?;
    // No token of etcd's is good here, so the key that signs them is a new one.
    Ok(found.finish(TokenKey(rand::random())))
}

fn alarms(source: &Source) -> Result<Vec<String>, ImportError> {
    let mut alarms = Vec::new();
    source.for_each(b"alarm", |key, _| {
        let alarm = pb::AlarmMember::decode(key).map_err(|error| format!("an alarm: {error}"))?;
        alarms.push(format!("{} of member {:x}", alarm.alarm().as_str_name(), alarm.member_id));
        Ok(())
    })?;
    Ok(alarms)
}

#[cfg(test)]
mod tests;
