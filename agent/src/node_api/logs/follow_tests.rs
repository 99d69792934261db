//! Logs that are followed while they are written, rotated and ended.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;

use super::follow::{Reading, open};

fn append(path: &Path, line: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "2026-01-02T03:04:05Z stdout F {line}").unwrap();
}

#[tokio::test]
async fn a_log_is_followed_across_rotations_until_its_container_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    append(&path, "old");
    append(&path, "one");
    let (end, ended) = oneshot::channel::<()>();
    let reading = Reading { tail: Some(1), follow: true, ..Reading::default() };
    let log = open(path.clone(), reading, ended.map(|_| ()).boxed()).await.unwrap();
    let mut log = std::pin::pin!(log);
    assert_eq!(log.next().await.unwrap().unwrap(), "one\n");
    // Nothing is there now; it comes while somebody waits.
    let (next, ()) = tokio::join!(log.next(), async { append(&path, "two") });
    assert_eq!(next.unwrap().unwrap(), "two\n");
    std::fs::rename(&path, directory.path().join("0.log.20260102-030405")).unwrap();
    let (next, ()) = tokio::join!(log.next(), async { append(&path, "three") });
    assert_eq!(next.unwrap().unwrap(), "three\n");
    append(&path, "last");
    end.send(()).unwrap();
    let rest: Vec<_> = log.try_collect().await.unwrap();
    assert_eq!(rest.concat(), b"last\n");
}

#[tokio::test]
async fn a_log_that_is_not_followed_ends_where_it_ends_now() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    append(&path, "one");
    let log = open(path, Reading::default(), futures::future::pending().boxed()).await.unwrap();
    let all: Vec<_> = log.try_collect().await.unwrap();
    assert_eq!(all.concat(), b"one\n");
}
