//! The status page at `/ui`: masters and their store, nodes, workloads, pods and events, for people with a browser.
//!
//! The page is the same for everybody and holds nothing of the cluster, so everybody gets it. What it shows it asks of the API
//! itself, with the rights of whoever looks: lists and watches, and [`masters`] at `/ui/masters`. It is one document, made of the
//! pieces beside this file when the server is compiled, and its policy lets nothing else run, load or frame it. Must never hold
//! anything of the cluster, nor take text of the API for markup.

pub mod masters;

use std::sync::LazyLock;

use barque_api::openapi::v3;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::http::answer::{self, Body};

/// Where the page is.
pub const PAGES: [&str; 2] = ["/ui", "/ui/"];
/// Where it finds the members of the store.
pub const MASTERS: &str = "/ui/masters";

const STYLE: &str = include_str!("page.css");
/// In the order in which it runs: what objects mean, how they come, how they are shown, and what starts it all.
const SCRIPT: &str = concat!(
    include_str!("judge.js"),
    include_str!("feed.js"),
    include_str!("table.js"),
    include_str!("sections.js"),
    include_str!("page.js"),
);

/// The page with what belongs to it.
struct Page {
    text: String,
    policy: HeaderValue,
    tag: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let text = include_str!("page.html").replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let value = |text: &str| HeaderValue::from_str(text).expect("it is made of letters that headers hold");
    let tag = format!("\"{}\"", v3::hash(text.as_bytes()));
    Page { policy: value(&policy()), tag: value(&tag), text }
});

/// Only this very script and style run, only this server is spoken to, nobody puts the page into a frame, and text cannot become
/// markup.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// The page, or that the browser has it already.
#[must_use]
pub fn page(asked: &HeaderMap) -> Response<Body> {
    let page = &*PAGE;
    let known = asked.get(IF_NONE_MATCH).is_some_and(|known| *known == page.tag);
    let mut response = match known {
        true => answer::with(StatusCode::NOT_MODIFIED, "text/html; charset=utf-8", answer::whole("")),
        false => answer::with(StatusCode::OK, "text/html; charset=utf-8", answer::whole(page.text.as_str())),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, page.policy.clone());
    headers.insert(ETAG, page.tag.clone());
    let fixed = [
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
