//! Histories as text: one JSON value a line, so that any tool can read them and a cut-off one keeps its beginning.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file is no history.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The file cannot be read.
    #[error("the history cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is something else.
    #[error(
        "line {line} of the history is damaged or of another version: {source}; give the file as the run wrote it"
    )]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Writes the entries, one a line.
///
/// # Errors
/// When `to` takes no more.
pub fn write_lines<E: Serialize>(entries: &[E], to: &mut impl Write) -> io::Result<()> {
    for entry in entries {
        serde_json::to_writer(&mut *to, entry)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads what [`write_lines`] wrote.
///
/// # Errors
/// When a line is no entry, or cannot be read.
pub fn read_lines<E: DeserializeOwned>(from: impl BufRead) -> Result<Vec<E>, LinesError> {
    let mut entries = Vec::new();
    for (number, line) in from.lines().enumerate() {
        let entry = serde_json::from_str(&line?);
        entries.push(entry.map_err(|source| LinesError::Line { line: number + 1, source })?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use proptest::prelude::*;

    use super::*;
    use crate::history::{
        Answer, ClientId, Compare, Entry, Event, FaultId, KeyValue, MemberState, OperationId, Outcome,
        Relation, Request, RevisionEvents, Selection, Sort, SortBy, Span, Target, WatchId, WatchRequest,
    };

    fn key_value() -> impl Strategy<Value = KeyValue> {
        (".*", ".*", any::<[i64; 4]>()).prop_map(
            |(key, value, [create_revision, mod_revision, version, lease])| KeyValue {
                key,
                value,
                create_revision,
                mod_revision,
                version,
                lease,
            },
        )
    }

    fn event() -> impl Strategy<Value = Event> {
        (key_value(), any::<bool>(), proptest::option::of(key_value()))
            .prop_map(|(kv, deleted, prev)| Event { kv, deleted, prev })
    }

    fn span() -> impl Strategy<Value = Span> {
        (".*", prop_oneof![Just(String::new()), Just("\0".to_owned()), ".+"])
            .prop_map(|(key, end)| Span { key, end })
    }

    fn compare() -> impl Strategy<Value = Compare> {
        let target = prop_oneof![
            ".*".prop_map(Target::Value),
            any::<i64>().prop_map(Target::ModRevision),
            any::<i64>().prop_map(Target::CreateRevision),
            any::<i64>().prop_map(Target::Version),
            any::<i64>().prop_map(Target::Lease),
        ];
        let relation = proptest::sample::select(vec![
            Relation::Equal,
            Relation::NotEqual,
            Relation::Greater,
            Relation::Less,
        ]);
        (span(), relation, target).prop_map(|(span, relation, target)| Compare { span, relation, target })
    }

    fn selection() -> impl Strategy<Value = Selection> {
        let by = proptest::sample::select(vec![
            SortBy::Key,
            SortBy::Version,
            SortBy::CreateRevision,
            SortBy::ModRevision,
            SortBy::Value,
        ]);
        let sort =
            proptest::option::of((by, any::<bool>()).prop_map(|(by, descending)| Sort { by, descending }));
        let some = (sort, any::<[i64; 4]>(), any::<[bool; 2]>()).prop_map(
            |(sort, [min_mod, max_mod, min_create, max_create], [keys_only, count_only])| Selection {
                sort,
                min_mod_revision: min_mod,
                max_mod_revision: max_mod,
                min_create_revision: min_create,
                max_create_revision: max_create,
                keys_only,
                count_only,
            },
        );
        prop_oneof![Just(Selection::default()), some]
    }

    fn request() -> impl Strategy<Value = Request> {
        let leaf = prop_oneof![
            (span(), any::<i64>(), any::<i64>(), any::<bool>(), selection()).prop_map(
                |(span, limit, revision, serializable, selection)| {
                    Request::Range { span, limit, revision, serializable, selection }
                }
            ),
            (".*", ".*", any::<i64>()).prop_map(|(key, value, lease)| Request::Put { key, value, lease }),
            span().prop_map(|span| Request::Delete { span }),
            any::<(i64, i64)>().prop_map(|(id, ttl_s)| Request::LeaseGrant { id, ttl_s }),
            any::<i64>().prop_map(|id| Request::LeaseKeepAlive { id }),
            any::<i64>().prop_map(|id| Request::LeaseRevoke { id }),
            any::<i64>().prop_map(|revision| Request::Compact { revision }),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            let some = || proptest::collection::vec(inner.clone(), 0..3);
            (proptest::collection::vec(compare(), 0..3), some(), some())
                .prop_map(|(compares, then, otherwise)| Request::Txn { compares, then, otherwise })
        })
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let leaf = prop_oneof![
            (proptest::collection::vec(key_value(), 0..3), any::<i64>(), any::<bool>())
                .prop_map(|(kvs, count, more)| Answer::Range { kvs, count, more }),
            Just(Answer::Put),
            any::<i64>().prop_map(|deleted| Answer::Delete { deleted }),
            any::<i64>().prop_map(|ttl_s| Answer::Lease { ttl_s }),
            Just(Answer::Done),
        ];
        let answer = leaf.prop_recursive(2, 8, 3, |inner| {
            (any::<bool>(), proptest::collection::vec(inner, 0..3))
                .prop_map(|(succeeded, answers)| Answer::Txn { succeeded, answers })
        });
        prop_oneof![
            (any::<i64>(), answer).prop_map(|(revision, answer)| Outcome::Ok { revision, answer }),
            ".*".prop_map(|error| Outcome::Failed { error }),
            ".*".prop_map(|error| Outcome::Unknown { error }),
        ]
    }

    fn watch_request() -> impl Strategy<Value = WatchRequest> {
        (span(), any::<i64>(), any::<[bool; 3]>(), proptest::option::of(any::<u64>().prop_map(WatchId)))
            .prop_map(|(span, start_revision, [prev_kv, no_put, no_delete], resumes)| WatchRequest {
                span,
                start_revision,
                prev_kv,
                no_put,
                no_delete,
                resumes,
            })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let events = || proptest::collection::vec(event(), 0..3);
        prop_oneof![
            (any::<(u64, u64, u32)>(), ".*", request()).prop_map(
                |((time_ns, id, client), member, request)| {
                    let (operation, client) = (OperationId(id), ClientId(client));
                    Entry::Invoked { time_ns, operation, client, member, request }
                }
            ),
            (any::<(u64, u64)>(), outcome()).prop_map(|((time_ns, id), outcome)| {
                Entry::Completed { time_ns, operation: OperationId(id), outcome }
            }),
            (any::<(u64, u64, u32)>(), ".*", watch_request()).prop_map(
                |((time_ns, id, client), member, request)| {
                    Entry::WatchOpened {
                        time_ns,
                        watch: WatchId(id),
                        client: ClientId(client),
                        member,
                        request,
                    }
                }
            ),
            (any::<(u64, u64, i64)>(), events()).prop_map(|((time_ns, id, revision), events)| {
                Entry::WatchAnswered { time_ns, watch: WatchId(id), revision, events }
            }),
            (any::<(u64, u64, Option<i64>, Option<i64>)>(), ".*").prop_map(
                |((time_ns, id, complete_to, compacted), why)| Entry::WatchClosed {
                    time_ns,
                    watch: WatchId(id),
                    complete_to,
                    compacted,
                    why
                }
            ),
            (any::<(u64, u64)>(), ".*", proptest::collection::vec(".*", 0..3)).prop_map(
                |((time_ns, id), kind, members)| Entry::FaultBegan {
                    time_ns,
                    fault: FaultId(id),
                    kind,
                    members
                }
            ),
            any::<(u64, u64)>().prop_map(|(time_ns, id)| Entry::FaultEnded { time_ns, fault: FaultId(id) }),
            (any::<i64>(), events())
                .prop_map(|(revision, events)| Entry::Revision(RevisionEvents { revision, events })),
            (".*", any::<(i64, u32, i64)>(), proptest::collection::vec(key_value(), 0..3)).prop_map(
                |(member, (revision, hash, compact_revision), kvs)| Entry::Member(MemberState {
                    member,
                    revision,
                    hash,
                    compact_revision,
                    kvs
                })
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(entry(), 0..8)) {
            let mut text = Vec::new();
            write_lines(&entries, &mut text).unwrap();
            prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), entries.len());
            prop_assert_eq!(read_lines::<Entry>(text.as_slice()).unwrap(), entries);
        }
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = "{\"type\":\"fault_ended\",\"time_ns\":1,\"fault\":2}\n{\"type\":\"fault_en";
        let error = read_lines::<Entry>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2 of the history"), "{error}");
    }
}
