//! What the parameters of a list or watch ask for: which state, from where, and whether they fit together. Pure; the
//! sentences are Kubernetes'.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;
use bytes::Bytes;

use super::continue_token::Continue;
use crate::storage::Revision;

/// The parameters of a list, as they came; what was not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `resourceVersion`
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub resource_version_match: String,
    /// `limit`; 0 for none.
    pub limit: usize,
    /// `continue`
    pub continue_token: String,
    /// Whether `sendInitialEvents` was given.
    pub send_initial_events: bool,
}

/// The parameters of a watch, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchQuery {
    /// `resourceVersion`
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub resource_version_match: String,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `continue`
    pub continue_token: String,
}

/// Which state a read is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// One that every write is in that was answered before.
    Newest,
    /// Whatever there is.
    Any,
    /// This one or a newer one.
    NotOlderThan(Revision),
    /// This one.
    Exactly(Revision),
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPlan {
    /// Which state.
    pub at: At,
    /// The first key that is wanted; empty for the first there is.
    pub start: Bytes,
    /// Whether it goes on with a list that was cut.
    pub continues: bool,
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With all objects, of a state like this; then, if asked for, the bookmark that says that these were all.
    Objects {
        /// Which state.
        at: At,
        /// Whether their end is marked.
        marked: bool,
    },
    /// With what comes behind this revision.
    Behind(Revision),
    /// With what comes behind the newest revision anywhere.
    BehindNewest,
    /// With what comes next.
    Next,
}

const NOT_OLDER_THAN: &str = "NotOlderThan";
const EXACT: &str = "Exact";

/// A resource version; 0 and nothing are none.
///
/// # Errors
/// What is no number, about the field `resourceVersion`.
pub fn resource_version(text: &str) -> Result<Option<Revision>, FieldError> {
    let wrong = |why| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: {why}");
        FieldError::invalid(&FieldPath::of("resourceVersion"), text, detail)
    };
    if text.is_empty() {
        return Ok(None);
    }
    // Signs are digits' neighbours for Rust alone.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    let number: u64 = text.parse().map_err(|_| wrong("value out of range"))?;
    Ok((number > 0).then_some(Revision(number)))
}

/// The error about options that do not fit together.
fn invalid_options(errors: &[FieldError]) -> Status {
    Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", "ListOptions"), "", errors)
}

fn forbidden(field: &str, why: impl Into<String>) -> FieldError {
    FieldError::forbidden(&FieldPath::of(field), why)
}

fn check_list(query: &ListQuery) -> Vec<FieldError> {
    const FIELD: &str = "resourceVersionMatch";
    let mut errors = Vec::new();
    let wanted = query.resource_version_match.as_str();
    if !wanted.is_empty() {
        if query.resource_version.is_empty() {
            errors.push(forbidden(
                FIELD,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !query.continue_token.is_empty() {
            errors.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if wanted != EXACT && wanted != NOT_OLDER_THAN {
            let known = [EXACT, NOT_OLDER_THAN, ""];
            errors.push(FieldError::not_supported(&FieldPath::of(FIELD), wanted, &known));
        }
        if wanted == EXACT && query.resource_version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(forbidden(FIELD, why));
        }
    }
    if query.send_initial_events {
        errors.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn check_watch(query: &WatchQuery) -> Vec<FieldError> {
    const FIELD: &str = "resourceVersionMatch";
    let mut errors = Vec::new();
    let wanted = query.resource_version_match.as_str();
    if query.send_initial_events.is_some() && wanted != NOT_OLDER_THAN {
        let why = format!("sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER_THAN}");
        errors.push(forbidden(FIELD, why));
    }
    if !wanted.is_empty() {
        if query.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(forbidden(FIELD, why));
        }
        if wanted != NOT_OLDER_THAN {
            errors.push(FieldError::not_supported(&FieldPath::of(FIELD), wanted, &[NOT_OLDER_THAN]));
        }
        if !query.continue_token.is_empty() {
            errors.push(forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    errors
}

/// What a list of the keys with this prefix asks for.
///
/// # Errors
/// 422 for options that do not fit together, 400 for those that cannot be understood.
pub fn plan_list(query: &ListQuery, prefix: &[u8]) -> Result<ListPlan, Status> {
    let errors = check_list(query);
    if !errors.is_empty() {
        return Err(invalid_options(&errors));
    }
    if !query.continue_token.is_empty() {
        let token = Continue::decode(&query.continue_token, prefix)?;
        if !matches!(query.resource_version.as_str(), "" | "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let at = token.revision.map_or(At::Newest, At::Exactly);
        return Ok(ListPlan { at, start: token.start, continues: true });
    }
    let version = resource_version(&query.resource_version)
        .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
    let at = match version {
        None if query.resource_version.is_empty() => At::Newest,
        None => At::Any,
        Some(version) if query.resource_version_match == EXACT => At::Exactly(version),
        // Before there was a match, a limit meant the same.
        Some(version) if query.resource_version_match.is_empty() && query.limit > 0 => At::Exactly(version),
        Some(version) => At::NotOlderThan(version),
    };
    Ok(ListPlan { at, start: Bytes::new(), continues: false })
}

/// What a watch asks for.
///
/// # Errors
/// 422 for options that do not fit together, or cannot be understood.
pub fn plan_watch(query: &WatchQuery) -> Result<Begin, Status> {
    let mut errors = check_watch(query);
    let version = match resource_version(&query.resource_version) {
        Ok(version) => version,
        Err(error) => {
            errors.push(error);
            None
        }
    };
    if !errors.is_empty() {
        return Err(invalid_options(&errors));
    }
    let is_unset = query.resource_version.is_empty();
    Ok(match (query.send_initial_events, version) {
        (Some(true), Some(version)) => {
            Begin::Objects { at: At::NotOlderThan(version), marked: query.bookmarks }
        }
        (Some(true), None) if is_unset => Begin::Objects { at: At::Newest, marked: query.bookmarks },
        (Some(true), None) => Begin::Objects { at: At::Any, marked: query.bookmarks },
        // Both have always begun with the objects, without saying where these end.
        (None, None) => Begin::Objects { at: At::Any, marked: false },
        (Some(false), None) if is_unset => Begin::BehindNewest,
        (Some(false), None) => Begin::Next,
        (_, Some(version)) => Begin::Behind(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(version: &str, matching: &str, limit: usize, token: &str) -> ListQuery {
        ListQuery {
            resource_version: version.to_owned(),
            resource_version_match: matching.to_owned(),
            limit,
            continue_token: token.to_owned(),
            send_initial_events: false,
        }
    }

    #[test]
    fn lists_see_the_state_that_the_table_of_kubernetes_says() {
        let (seven, token) = (Revision(7), Continue::behind(b"/p/a", Revision(7)));
        let table = [
            (list("", "", 0, ""), At::Newest),
            (list("", "", 5, ""), At::Newest),
            (list("0", "", 0, ""), At::Any),
            (list("0", "", 5, ""), At::Any),
            (list("7", "", 0, ""), At::NotOlderThan(seven)),
            (list("7", "", 5, ""), At::Exactly(seven)),
            (list("0", NOT_OLDER_THAN, 5, ""), At::Any),
            (list("7", NOT_OLDER_THAN, 5, ""), At::NotOlderThan(seven)),
            (list("7", EXACT, 0, ""), At::Exactly(seven)),
            (list("", "", 5, &token.encode(b"/p/")), At::Exactly(seven)),
            (list("0", "", 0, &token.encode(b"/p/")), At::Exactly(seven)),
            (list("", "", 5, &Continue { revision: None, ..token }.encode(b"/p/")), At::Newest),
        ];
        for (query, at) in table {
            let plan = plan_list(&query, b"/p/").unwrap();
            assert_eq!(plan.at, at, "{query:?}");
            assert_eq!(plan.continues, !query.continue_token.is_empty());
            assert_eq!(plan.start.is_empty(), !plan.continues);
        }
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        let token = Continue::behind(b"/p/a", Revision(7)).encode(b"/p/");
        let table = [
            (list("", EXACT, 0, ""), 422, "forbidden unless resourceVersion is provided"),
            (list("0", EXACT, 0, ""), 422, "is forbidden for resourceVersion \"0\""),
            (list("7", "Newest", 0, ""), 422, "Unsupported value: \"Newest\""),
            (list("7", EXACT, 0, &token), 422, "forbidden when continue is provided"),
            (list("7", "", 0, &token), 400, "specifying resource version is not allowed when using continue"),
            (list("x", "", 0, ""), 400, "invalid resource version: resourceVersion: Invalid value: \"x\""),
            (list("-1", "", 0, ""), 400, "invalid syntax"),
            (list("99999999999999999999", "", 0, ""), 400, "value out of range"),
            (list("", "", 0, "x"), 400, "invalid continue token"),
            (ListQuery { send_initial_events: true, ..list("", "", 0, "") }, 422, "forbidden for list"),
        ];
        for (query, code, text) in table {
            let status = plan_list(&query, b"/p/").unwrap_err();
            assert_eq!(status.reason.code(), code, "{status}");
            assert!(status.message.contains(text), "{status}");
        }
    }

    fn watch(version: &str, initial: Option<bool>, bookmarks: bool) -> WatchQuery {
        WatchQuery {
            resource_version: version.to_owned(),
            resource_version_match: initial.map_or("", |_| NOT_OLDER_THAN).to_owned(),
            send_initial_events: initial,
            bookmarks,
            continue_token: String::new(),
        }
    }

    #[test]
    fn watches_begin_where_kubernetes_begins_them() {
        let seven = Revision(7);
        let objects = |at, marked| Begin::Objects { at, marked };
        let table = [
            (watch("", None, true), objects(At::Any, false)),
            (watch("0", None, true), objects(At::Any, false)),
            (watch("7", None, true), Begin::Behind(seven)),
            (watch("", Some(true), true), objects(At::Newest, true)),
            (watch("0", Some(true), true), objects(At::Any, true)),
            (watch("7", Some(true), true), objects(At::NotOlderThan(seven), true)),
            (watch("7", Some(true), false), objects(At::NotOlderThan(seven), false)),
            (watch("", Some(false), true), Begin::BehindNewest),
            (watch("0", Some(false), true), Begin::Next),
            (watch("7", Some(false), true), Begin::Behind(seven)),
        ];
        for (query, begin) in table {
            assert_eq!(plan_watch(&query), Ok(begin), "{query:?}");
        }
    }

    #[test]
    fn watches_that_contradict_themselves_are_refused() {
        let with = |matching: &str, query: WatchQuery| WatchQuery {
            resource_version_match: matching.to_owned(),
            ..query
        };
        let table = [
            (
                with("", watch("", Some(true), true)),
                "sendInitialEvents requires setting resourceVersionMatch",
            ),
            (with(NOT_OLDER_THAN, watch("7", None, true)), "is forbidden for watch unless sendInitialEvents"),
            (with(EXACT, watch("7", Some(true), true)), "Unsupported value: \"Exact\""),
            (watch("x", None, true), "resourceVersion: Invalid value: \"x\""),
            (
                WatchQuery { continue_token: "x".to_owned(), ..watch("7", Some(true), true) },
                "forbidden when continue is provided",
            ),
        ];
        for (query, text) in table {
            let status = plan_watch(&query).unwrap_err();
            assert_eq!(status.reason.code(), 422);
            assert!(status.message.contains(text), "{status}");
        }
    }
}
