//! A part of a list: objects in the order of their keys, as many as were asked for, and how it goes on. Pure.

use std::sync::Arc;

use barque_api::status::Status;

use super::continue_token::Continue;
use super::index::Index;
use super::object::{FieldIndex, Object};
use super::registry::Selection;
use super::watcher::unreadable;
use crate::storage::Revision;

/// A list, or a part of it.
#[derive(Clone, Debug)]
pub struct ObjectList {
    /// In the order of their keys.
    pub objects: Vec<Arc<Object>>,
    /// The list's resource version.
    pub revision: Revision,
    /// How to get the rest; empty when there is none.
    pub continue_token: String,
    /// How many objects the rest has, where that is known: selectors leave it open.
    pub remaining: Option<u64>,
}

/// Takes the objects that are wanted from `objects`, which begin where the list goes on; `count` of them there are in all.
///
/// # Errors
/// When one of them cannot be read.
pub(super) fn cut<'a>(
    objects: impl Iterator<Item = &'a Arc<Object>>,
    selection: &Selection,
    field: Option<FieldIndex>,
    limit: usize,
    count: u64,
    revision: Revision,
) -> Result<ObjectList, Status> {
    let mut all = objects.peekable();
    let mut found: Vec<Arc<Object>> = Vec::new();
    while limit == 0 || found.len() < limit {
        let Some(object) = all.next() else { break };
        if !selection.wants(object, field) {
            continue;
        }
        if let Some(why) = object.unreadable() {
            return Err(unreadable(object, why));
        }
        found.push(Arc::clone(object));
    }
    let (mut continue_token, mut remaining) = (String::new(), None);
    if let (Some(last), true) = (found.last(), all.peek().is_some()) {
        continue_token = Continue::behind(last.key(), revision).encode(&selection.prefix);
        remaining = (!selection.is_selective()).then(|| count.saturating_sub(found.len() as u64));
    }
    Ok(ObjectList { objects: found, revision, continue_token, remaining })
}

/// A part of a list of what the index holds.
///
/// # Errors
/// As [`cut`].
pub(super) fn from_index(
    index: &Index,
    selection: &Selection,
    field: Option<FieldIndex>,
    start: &[u8],
    limit: usize,
    revision: Revision,
) -> Result<ObjectList, Status> {
    let prefix = &selection.prefix;
    if selection.single {
        return cut(index.get(prefix).into_iter(), selection, field, limit, 1, revision);
    }
    if let Some(value) = &selection.value
        && let Some(objects) = index.scan_value(value, prefix, start)
    {
        return cut(objects, selection, field, limit, 0, revision);
    }
    let count = if limit == 0 { 0 } else { index.count(prefix, start) as u64 };
    cut(index.scan(prefix, start), selection, field, limit, count, revision)
}
