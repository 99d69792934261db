//! The page as it is sent: one document that needs nothing else, and headers that let nothing else in.

use http_body_util::BodyExt as _;

use super::*;

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("it does not fail").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

#[tokio::test]
async fn the_page_is_one_small_document_that_needs_nothing_else() {
    let page = text(page(&HeaderMap::new())).await;
    assert!(page.starts_with("<!doctype html>") && page.len() < 60_000, "{} bytes", page.len());
    assert_eq!((page.matches("<script").count(), page.matches("<style").count()), (1, 1));
    assert!(!page.contains("/*script*/") && !page.contains("/*style*/"));
    // But for the name of the icon's own language, no other place is named.
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!elsewhere.contains(foreign), "{foreign}");
    }
    for way_to_markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="]
    {
        assert!(!page.contains(way_to_markup), "{way_to_markup}");
    }
}

#[tokio::test]
async fn its_policy_names_exactly_what_stands_in_it() {
    let response = page(&HeaderMap::new());
    let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let page = text(response).await;
    for (open, close, source) in
        [("<script>", "</script>", "script-src"), ("<style>", "</style>", "style-src")]
    {
        let inner = page.split_once(open).unwrap().1.split_once(close).unwrap().0;
        let hash = STANDARD.encode(Sha256::digest(inner.as_bytes()));
        assert!(policy.contains(&format!("{source} 'sha256-{hash}';")), "{policy}");
    }
    for rule in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "trusted-types 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn a_browser_that_has_it_is_told_so() {
    let first = page(&HeaderMap::new());
    let mut asked = HeaderMap::new();
    asked.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
    let second = page(&asked);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
    assert_eq!(second.headers()[CONTENT_SECURITY_POLICY], first.headers()[CONTENT_SECURITY_POLICY]);
    assert_eq!(text(second).await, "");
}
