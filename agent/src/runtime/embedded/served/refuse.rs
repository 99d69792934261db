//! What callers are told when something is not done. Pure.

use barque_containers::Error;
use tonic::Status;

use crate::error_story::story;

/// Of sandboxes and containers.
pub(super) fn of_containers(error: &Error) -> Status {
    let told = story(error);
    match error {
        Error::NotFound(_) => Status::not_found(told),
        Error::Exists(_) => Status::already_exists(told),
        Error::State(_) | Error::ShimGone(_) => Status::failed_precondition(told),
        Error::Refused(_) => Status::invalid_argument(told),
        Error::TimedOut(_) => Status::deadline_exceeded(told),
        _ => Status::internal(told),
    }
}

/// Of images.
pub(super) fn of_images(error: &barque_images::Error) -> Status {
    let told = error.message();
    match error {
        barque_images::Error::NotFound { .. } => Status::not_found(told),
        barque_images::Error::InUse { .. } => Status::failed_precondition(told),
        _ => Status::unknown(told),
    }
}

/// The only one of these ids that is this, or begins with it.
pub(super) fn one<'a>(
    ids: impl Iterator<Item = &'a str>,
    wanted: &str,
    what: &str,
) -> Result<String, Status> {
    let mut found = Vec::new();
    for id in ids {
        if id == wanted {
            return Ok(id.to_owned());
        }
        if id.starts_with(wanted) {
            found.push(id.to_owned());
        }
    }
    match found.len() {
        1 if !wanted.is_empty() => Ok(found.remove(0)),
        0 | 1 => Err(Status::not_found(format!("there is no {what} {wanted:?}"))),
        count => Err(Status::invalid_argument(format!(
            "{count} {what}s begin with {wanted:?}; give more of the id"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_beginning_is_enough_that_no_other_has() {
        let of = |wanted: &str| {
            one(["ab_1", "ab_10", "c"].into_iter(), wanted, "container").map_err(|status| status.code())
        };
        assert_eq!(of("ab_1"), Ok("ab_1".to_owned()), "it is one, whatever else begins like it");
        assert_eq!((of("ab_10"), of("c")), (Ok("ab_10".to_owned()), Ok("c".to_owned())));
        assert_eq!(
            (of("ab"), of("d"), of("")),
            (Err(Code::InvalidArgument), Err(Code::NotFound), Err(Code::InvalidArgument))
        );
    }
}
