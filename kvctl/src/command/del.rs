//! `kvctl del`.

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use clap::Args;

use super::Context;
use super::words::Raw;
use crate::error::Failure;
use crate::output::Answer;
use crate::output::go_quote::quote;
use crate::range;

/// Time to change one's mind about a range that is deleted without `--range`.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// Arguments of `del`, also as a line of a transaction.
#[derive(Clone, Debug, Args)]
pub(crate) struct DelArgs {
    /// The key, or the first key of a range
    key: Raw,
    /// The key at which the range ends, not included
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<Raw>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
    /// Print what is deleted
    #[arg(long)]
    prev_kv: bool,
    /// Delete the range from KEY to RANGE_END at once
    #[arg(long)]
    range: bool,
}

impl DelArgs {
    /// The request that the arguments stand for.
    pub(super) fn plan(&self) -> pb::DeleteRangeRequest {
        let (key, range_end) = if self.prefix {
            range::prefix(&self.key.0)
        } else if self.from_key {
            range::from_key(&self.key.0)
        } else {
            (self.key.0.clone(), self.range_end.clone().unwrap_or_default().0)
        };
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: self.prev_kv }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(end) = self.range_end.as_ref().filter(|_| !self.range) {
            let (key, end) = (quote(&self.key.0), quote(&end.0));
            eprintln!(
                "Warning: the keys from {key} up to {end} are deleted in 2 seconds: Ctrl-C stops it, --range does not wait."
            );
            tokio::time::sleep(SECOND_THOUGHTS).await;
        }
        context.output.print(&Answer::Delete(context.connection.delete_range(self.plan()).await?))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        del: DelArgs,
    }

    #[test]
    fn ranges_are_what_the_words_say() {
        let range = |words: &[&str]| {
            let request = Line::try_parse_from(words).unwrap().del.plan();
            (request.key.to_vec(), request.range_end.to_vec())
        };
        assert_eq!(range(&["a"]), (b"a".to_vec(), vec![]));
        assert_eq!(range(&["a", "c"]), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(range(&["a", "--prefix"]), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(range(&["", "--from-key"]), (b"\0".to_vec(), b"\0".to_vec()));
    }
}
