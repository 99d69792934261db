//! `kvctl put`.

use std::io::Read;

use barque_proto::etcdserverpb as pb;
use clap::Args;

use super::Context;
use super::words::{LeaseId, Raw};
use crate::error::Failure;
use crate::output::Answer;

/// Arguments of `put`, also as a line of a transaction.
#[derive(Clone, Debug, Args)]
#[command(after_help = "A value that begins with `-` goes after `--`:  kvctl put key -- -1
Without a value it is read from standard input:  kvctl put key < file")]
pub(crate) struct PutArgs {
    /// The key
    key: Raw,
    /// The value
    #[arg(conflicts_with = "ignore_value")]
    value: Option<Raw>,
    /// Attach the key to this lease (hexadecimal)
    #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true)]
    lease: String,
    /// Print what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the key's value, change only its lease
    #[arg(long)]
    ignore_value: bool,
    /// Keep the key's lease
    #[arg(long)]
    ignore_lease: bool,
}

impl PutArgs {
    /// The request that the arguments stand for; `input` gives the value if there is none among them.
    ///
    /// # Errors
    /// If there is no value.
    pub(super) fn plan(
        &self,
        input: impl FnOnce() -> Result<Vec<u8>, Failure>,
    ) -> Result<pb::PutRequest, Failure> {
        let value = match &self.value {
            Some(value) => value.0.clone(),
            None if self.ignore_value => Vec::new(),
            None => {
                let value = input()?;
                if value.is_empty() {
                    let what = "put needs a value: as the second argument, or on standard input";
                    return Err(Failure::Arguments(what.into()));
                }
                value
            }
        };
        let lease =
            self.lease.parse::<LeaseId>().map_err(|why| Failure::Arguments(format!("--lease: {why}")))?;
        Ok(pb::PutRequest {
            key: self.key.0.clone().into(),
            value: value.into(),
            lease: lease.0,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = self.plan(|| {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value).map_err(Failure::io("standard input"))?;
            Ok(value)
        })?;
        context.output.print(&Answer::Put(context.connection.put(request).await?))
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
        put: PutArgs,
    }

    fn plan(words: &[&str], input: &str) -> Result<pb::PutRequest, Failure> {
        Line::try_parse_from(words).unwrap().put.plan(|| Ok(input.into()))
    }

    #[test]
    fn a_value_is_an_argument_or_the_input() {
        assert_eq!(plan(&["k", "v"], "input").unwrap().value, "v");
        assert_eq!(plan(&["k"], "input\n").unwrap().value, "input\n");
        assert_eq!(plan(&["k", ""], "input").unwrap().value, "");
        assert_eq!(plan(&["k", "--", "-v"], "").unwrap().value, "-v");
        assert_eq!(plan(&["k"], "").unwrap_err().exit_code(), 128);
        let kept = plan(&["k", "--ignore-value"], "input").unwrap();
        assert!(kept.ignore_value && kept.value.is_empty());
    }

    #[test]
    fn leases_are_hexadecimal() {
        assert_eq!(plan(&["k", "v", "--lease=1f"], "").unwrap().lease, 31);
        assert_eq!(plan(&["k", "v", "--lease=xyz"], "").unwrap_err().exit_code(), 128);
    }
}
