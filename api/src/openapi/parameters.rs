//! The parameters that requests take in their query and path. Must never name one that requests do not take.

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

const fn parameter(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

const PRETTY: Parameter = parameter("pretty", "string", "If 'true', the answer is written for people.");
const DRY_RUN: Parameter = parameter(
    "dryRun",
    "string",
    "With the value 'All', everything is done but keeping the result. Other values are refused.",
);
const FIELD_MANAGER: Parameter = parameter(
    "fieldManager",
    "string",
    "Who makes the change: a name of at most 128 printable characters, remembered with the fields that it sets. \
     Required when a configuration is applied.",
);
const FIELD_VALIDATION: Parameter = parameter(
    "fieldValidation",
    "string",
    "What becomes of fields that are not known or are there twice: with 'Ignore' they are dropped silently, with 'Warn' \
     (the default) they are dropped and a warning is sent for each, with 'Strict' the request fails and names them all.",
);
const FORCE: Parameter = parameter(
    "force",
    "boolean",
    "Take fields over from others who set them. Only when a configuration is applied.",
);
const TIMEOUT: Parameter = parameter(
    "timeoutSeconds",
    "integer",
    "How long the request may last, whether or not something happens.",
);
const LABELS: Parameter =
    parameter("labelSelector", "string", "Only objects whose labels fit. All by default.");
const FIELDS: Parameter =
    parameter("fieldSelector", "string", "Only objects whose fields fit. All by default.");
const LIMIT: Parameter = parameter(
    "limit",
    "integer",
    "At most so many objects; the answer's metadata.continue asks for the next ones.",
);
const CONTINUE: Parameter =
    parameter("continue", "string", "The metadata.continue of the answer that this one follows.");
const VERSION: Parameter = parameter(
    "resourceVersion",
    "string",
    "Which state the answer is of; what it means depends on resourceVersionMatch. Unset means the newest.",
);
const VERSION_MATCH: Parameter = parameter(
    "resourceVersionMatch",
    "string",
    "How resourceVersion is meant: 'Exact' or 'NotOlderThan'. Only together with resourceVersion.",
);
const WATCH: Parameter =
    parameter("watch", "boolean", "Send changes as they happen, not a list. Begins at resourceVersion.");
const BOOKMARKS: Parameter = parameter(
    "allowWatchBookmarks",
    "boolean",
    "Events of the type BOOKMARK may be sent, which only tell how far the watch is.",
);
const INITIAL: Parameter = parameter(
    "sendInitialEvents",
    "boolean",
    "Begin the watch with the objects that are there, then a bookmark that says that these are all.",
);
const GRACE: Parameter = parameter(
    "gracePeriodSeconds",
    "integer",
    "How long the object may take to end; 0 means at once. By default what the object says.",
);
const ORPHAN: Parameter = parameter(
    "orphanDependents",
    "boolean",
    "Deprecated: use propagationPolicy. Whether objects that belong to it stay.",
);
const PROPAGATION: Parameter = parameter(
    "propagationPolicy",
    "string",
    "What becomes of objects that belong to it: 'Orphan' leaves them, 'Background' deletes them afterwards, 'Foreground' \
     before it.",
);

/// What can be asked with an action.
pub(super) const fn of_action(action: &str) -> &'static [Parameter] {
    match action.as_bytes() {
        b"get" => &[PRETTY, VERSION],
        b"list" => &[
            PRETTY,
            BOOKMARKS,
            CONTINUE,
            FIELDS,
            LABELS,
            LIMIT,
            VERSION,
            VERSION_MATCH,
            INITIAL,
            TIMEOUT,
            WATCH,
        ],
        b"post" | b"put" => &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
        b"patch" => &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
        b"delete" => &[PRETTY, DRY_RUN, GRACE, ORPHAN, PROPAGATION],
        b"deletecollection" => &[
            PRETTY,
            CONTINUE,
            DRY_RUN,
            FIELDS,
            GRACE,
            LABELS,
            LIMIT,
            ORPHAN,
            PROPAGATION,
            VERSION,
            VERSION_MATCH,
            INITIAL,
            TIMEOUT,
        ],
        _ => &[],
    }
}
