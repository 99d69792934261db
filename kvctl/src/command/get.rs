//! `kvctl get`.

use barque_proto::admin;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use clap::{Args, ValueEnum};

use super::words::Raw;
use super::{Consistency, Context};
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::{Answer, Format};
use crate::range;
use crate::time_point::{self, TimePoint};

/// Arguments of `get`, also as a line of a transaction.
#[derive(Clone, Debug, Args)]
pub(crate) struct GetArgs {
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
    /// As it was at this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// As it was at this time, as RFC 3339, unix seconds or "10m ago", if the server keeps times
    #[arg(long, value_name = "TIME", value_parser = time_point::parse, conflicts_with = "rev")]
    at: Option<TimePoint>,
    /// At most so many keys
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// Order of the results
    #[arg(long, value_enum, ignore_case = true)]
    order: Option<Order>,
    /// What the results are ordered by
    #[arg(long, value_enum, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// Only the keys, without values
    #[arg(long, conflicts_with = "count_only")]
    keys_only: bool,
    /// Only how many there are; with --write-out=fields
    #[arg(long)]
    count_only: bool,
    /// Only the values; with --write-out=simple
    #[arg(long)]
    print_value_only: bool,
    /// Keys created at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    min_create_rev: i64,
    /// Keys created at this revision or earlier
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    max_create_rev: i64,
    /// Keys changed at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    min_mod_rev: i64,
    /// Keys changed at this revision or earlier
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    max_mod_rev: i64,
    /// Linearizable (l) or serializable (s)
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    consistency: Consistency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

impl GetArgs {
    /// The request that the arguments stand for.
    ///
    /// # Errors
    /// If bounds exclude each other.
    pub(super) fn plan(&self) -> Result<pb::RangeRequest, Failure> {
        if self.at.is_some() {
            return Err(Failure::Arguments("--at is not for transactions: they read what is current".into()));
        }
        let bounds = [
            ("create", self.min_create_rev, self.max_create_rev),
            ("mod", self.min_mod_rev, self.max_mod_rev),
        ];
        for (what, min, max) in bounds {
            if max > 0 && min > max {
                let flags = format!("--min-{what}-rev={min} and --max-{what}-rev={max}");
                return Err(Failure::Unsupported(format!(
                    "{flags} leave nothing: the first must not be larger"
                )));
            }
        }
        let (key, range_end) = if self.prefix {
            range::prefix(&self.key.0)
        } else if self.from_key {
            range::from_key(&self.key.0)
        } else {
            (self.key.0.clone(), self.range_end.clone().unwrap_or_default().0)
        };
        let target = match self.sort_by {
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
            Some(SortBy::Key) | None => SortTarget::Key,
        };
        let order = match self.order {
            // The order that answers have without sorting.
            Some(Order::Ascend) if target == SortTarget::Key => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
            None => SortOrder::None,
        };
        Ok(pb::RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: self.limit,
            revision: self.rev.max(0),
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.consistency == Consistency::S,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev.max(0),
            max_mod_revision: self.max_mod_rev.max(0),
            min_create_revision: self.min_create_rev.max(0),
            max_create_revision: self.max_create_rev.max(0),
        })
    }

    pub(crate) async fn run(mut self, context: &Context) -> Result<(), Failure> {
        let format = context.output.format;
        if self.count_only && format != Format::Fields {
            return Err(Failure::Arguments(
                "--count-only needs --write-out=fields: no other format shows the count".into(),
            ));
        }
        if self.print_value_only && format != Format::Simple {
            return Err(Failure::Arguments("--print-value-only is for --write-out=simple".into()));
        }
        if let Some(at) = self.at.take() {
            self.rev = revision_at(&context.connection, at).await?;
        }
        let response = context.connection.range(self.plan()?).await?;
        context.output.print(&Answer::Get { response, value_only: self.print_value_only })
    }
}

/// The revision that was current at a time.
async fn revision_at(connection: &Connection, at: TimePoint) -> Result<i64, Failure> {
    match connection.revision_at(admin::RevisionAtRequest { time_ms: at.0 }).await {
        Ok(found) => known(&found, at),
        Err(Failure::Server(error)) if error.unimplemented => Err(Failure::Unsupported(
            "--at: this server does not keep the times of revisions; use --rev".into(),
        )),
        Err(failure) => Err(failure),
    }
}

fn known(found: &admin::RevisionAtResponse, at: TimePoint) -> Result<i64, Failure> {
    match (found.revision, found.since_ms) {
        (0, 0) => Err(Failure::Verdict("--at: the server has not kept the time of any revision yet".into())),
        (0, since_ms) => Err(Failure::Verdict(format!(
            "--at: history does not reach back to {at}: it begins at {}",
            TimePoint(since_ms)
        ))),
        (revision, _) => Ok(revision),
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
        get: GetArgs,
    }

    fn plan(words: &str) -> Result<pb::RangeRequest, Failure> {
        Line::try_parse_from(words.split(' ')).unwrap().get.plan()
    }

    #[test]
    fn ranges_are_what_the_words_say() {
        let range = |words| {
            let request = plan(words).unwrap();
            (request.key.to_vec(), request.range_end.to_vec())
        };
        assert_eq!(range("a"), (b"a".to_vec(), vec![]));
        assert_eq!(range("a c"), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(range("a --prefix"), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(range("a --from-key"), (b"a".to_vec(), b"\0".to_vec()));
        assert_eq!(range(" --prefix"), (b"\0".to_vec(), b"\0".to_vec()));
    }

    #[test]
    fn order_and_target_are_the_protocols() {
        let sort = |words| {
            let request = plan(words).unwrap();
            (request.sort_order(), request.sort_target())
        };
        assert_eq!(sort("a"), (SortOrder::None, SortTarget::Key));
        assert_eq!(sort("a --order=ascend"), (SortOrder::None, SortTarget::Key));
        assert_eq!(sort("a --order=DESCEND --sort-by=Modify"), (SortOrder::Descend, SortTarget::Mod));
        assert_eq!(sort("a --sort-by=value --order ASCEND"), (SortOrder::Ascend, SortTarget::Value));
    }

    #[test]
    fn a_time_is_a_revision_or_out_of_reach() {
        let found = |revision, since_ms| {
            let found = admin::RevisionAtResponse { revision, since_ms, ..Default::default() };
            known(&found, TimePoint(5_000)).map_err(|failure| failure.to_string())
        };
        assert_eq!(found(7, 4_000), Ok(7));
        let why = "--at: history does not reach back to 1970-01-01T00:00:05.000Z: it begins at \
                   1970-01-01T00:00:09.000Z";
        assert_eq!(found(0, 9_000), Err(why.to_owned()));
        assert!(found(0, 0).unwrap_err().contains("not kept the time of any revision"));
        assert_eq!(plan("a --at=1700000000").unwrap_err().exit_code(), 128);
        assert!(Line::try_parse_from(["a", "--at=now", "--rev=5"]).is_err());
    }

    #[test]
    fn bounds_that_exclude_each_other_are_refused() {
        assert_eq!(plan("a --min-mod-rev=5 --max-mod-rev=4").unwrap_err().exit_code(), 4);
        assert_eq!(plan("a --min-create-rev=5 --max-create-rev=4").unwrap_err().exit_code(), 4);
        assert_eq!(plan("a --min-mod-rev=5").unwrap().min_mod_revision, 5);
    }
}
