//! What a broken store takes a request for.

use super::{Fault, RequestFault};
use crate::history::{Compare, Relation, Request, Selection, Span};

/// The request as a store with the fault understands it; `None` where the fault is of another kind.
pub(super) fn misread(request: &Request, fault: Fault) -> Option<Request> {
    let Fault::Request(fault) = fault else { return None };
    Some(read(request, fault))
}

fn read(request: &Request, fault: RequestFault) -> Request {
    let all = |requests: &[Request]| requests.iter().map(|request| read(request, fault)).collect();
    match request.clone() {
        Request::Txn { compares, then, otherwise } => Request::Txn {
            compares: compares.into_iter().map(|compare| condition(compare, fault)).collect(),
            then: all(&then),
            otherwise: all(&otherwise),
        },
        Request::Range { span, limit, revision, serializable, selection } => {
            let selection = match fault {
                RequestFault::OrderIgnored => Selection { sort: None, ..selection },
                RequestFault::BoundsIgnored => {
                    let Selection { sort, keys_only, count_only, .. } = selection;
                    Selection { sort, keys_only, count_only, ..Selection::default() }
                }
                _ => selection,
            };
            Request::Range { span, limit, revision, serializable, selection }
        }
        Request::Put { key, value, .. } if fault == RequestFault::LeaseForgotten => Request::put(key, value),
        other => other,
    }
}

fn condition(compare: Compare, fault: RequestFault) -> Compare {
    match fault {
        RequestFault::RelationIgnored => Compare { relation: Relation::Equal, ..compare },
        RequestFault::FirstKeyOnly => Compare { span: Span::one(compare.span.key), ..compare },
        _ => compare,
    }
}
