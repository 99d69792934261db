//! What a client is told when an agent refuses a log. Must never read more than a client would.

use barque_api::kind::GroupResource;
use barque_api::status::{Reason, Status};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The most bytes of the agent's own words.
const MOST_BYTES: usize = 50_000;

/// Reads why an agent refuses.
pub(super) async fn of_log(response: Response<Incoming>, pod: &str) -> Status {
    let code = response.status();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < MOST_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
    }
    bytes.truncate(MOST_BYTES);
    status(code, &String::from_utf8_lossy(&bytes), pod)
}

fn status(code: StatusCode, text: &str, pod: &str) -> Status {
    let resource = GroupResource::new("", "pods/log");
    let generic = |reason: Reason, message: String| {
        Status::new(reason, format!("{message} ( {resource} {pod})")).about(&resource, pod)
    };
    match code.as_u16() {
        500 => Status::internal(text),
        400 => Status::bad_request(text),
        401 => generic(
            Reason::Unauthorized,
            "the server has asked for the client to provide credentials".to_owned(),
        ),
        403 => Status::new(Reason::Forbidden, text).about(&resource, pod),
        404 => generic(Reason::NotFound, "the server could not find the requested resource".to_owned()),
        503 => generic(
            Reason::ServiceUnavailable,
            "the server is currently unable to handle the request".to_owned(),
        ),
        code if code > 500 => generic(
            Reason::InternalError,
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
        code => generic(
            Reason::InternalError,
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_agents_are_told_in_kubernetes_words() {
        let table = [
            (400, "container not running", 400, "container not running"),
            (500, "no file", 500, "Internal error occurred: no file"),
            (404, "404", 404, "the server could not find the requested resource ( pods/log p)"),
            (401, "", 401, "the server has asked for the client to provide credentials ( pods/log p)"),
            (403, "Forbidden (user=x)", 403, "Forbidden (user=x)"),
        ];
        for (code, text, wanted, told) in table {
            let status = status(StatusCode::from_u16(code).unwrap(), text, "p");
            assert_eq!((status.reason.code(), status.message.as_str()), (wanted, told));
        }
    }
}
