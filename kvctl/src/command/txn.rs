//! `kvctl txn`: compares, requests if all hold, requests if one does not; a list each, ended by an empty line.

use std::io::{self, BufRead};

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use barque_proto::etcdserverpb::request_op::Request;
use clap::{Args, Parser};

use super::words::{LeaseId, split};
use super::{Context, del, get, put};
use crate::error::Failure;
use crate::output::Answer;
use crate::output::go_quote::unquote;

/// Arguments of `txn`.
#[derive(Debug, Args)]
#[command(after_help = r#"Input, with an empty line after each part:
  mod("key1") > "0"                  compares: version, create, mod, value or lease of a key

  put key1 "overwrote-key1"          requests if all compares hold: get, put, del

  put key1 "created-key1"            requests if one does not hold
"#)]
pub(crate) struct TxnArgs {
    /// Say what is expected next
    #[arg(long, short)]
    interactive: bool,
}

/// One request of a transaction.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, infer_subcommands = true)]
enum Line {
    Get(get::GetArgs),
    Put(put::PutArgs),
    Del(del::DelArgs),
}

impl TxnArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let prompt = |text: &str| if self.interactive { crate::output::line(text) } else { Ok(()) };
        let request = read(&mut io::stdin().lock(), prompt)?;
        context.output.print(&Answer::Txn(context.connection.txn(request).await?))
    }
}

/// Reads a whole transaction; `prompt` is told before each part.
fn read(
    input: &mut impl BufRead,
    prompt: impl Fn(&str) -> Result<(), Failure>,
) -> Result<pb::TxnRequest, Failure> {
    prompt("compares:")?;
    let compare = part(input, "compares")?.iter().map(|line| compare(line)).collect::<Result<_, _>>()?;
    prompt("success requests (get, put, del):")?;
    let success =
        part(input, "success requests")?.iter().map(|line| request(line)).collect::<Result<_, _>>()?;
    prompt("failure requests (get, put, del):")?;
    let failure =
        part(input, "failure requests")?.iter().map(|line| request(line)).collect::<Result<_, _>>()?;
    Ok(pb::TxnRequest { compare, success, failure })
}

/// The lines up to an empty one.
fn part(input: &mut impl BufRead, name: &str) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).map_err(Failure::io("standard input"))?;
        if !line.ends_with('\n') {
            return Err(Failure::Input(format!(
                "the input ends within the {name}: an empty line must end each part"
            )));
        }
        match line.trim() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn request(line: &str) -> Result<pb::RequestOp, Failure> {
    let wrong = |why: &str| Failure::Input(format!("{line:?} is no get, put or del: {why}"));
    let parsed = Line::try_parse_from(split(line)?).map_err(|error| {
        let text = error.render().to_string();
        wrong(text.lines().next().unwrap_or_default().trim_start_matches("error: "))
    })?;
    let request = match parsed {
        Line::Get(get) => Request::RequestRange(get.plan()?),
        Line::Put(put) => Request::RequestPut(put.plan(|| Err(wrong("the value is missing")))?),
        Line::Del(del) => Request::RequestDeleteRange(del.plan()),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// `mod("key") > "0"`.
fn compare(line: &str) -> Result<pb::Compare, Failure> {
    let wrong = |why: &str| {
        Failure::Input(format!("{line:?} is no compare ({why}): write it like mod(\"key\") > \"0\""))
    };
    let (target, rest) = line.split_once('(').ok_or_else(|| wrong("there is no `(`"))?;
    let (key, rest) = unquote(rest.trim_start()).ok_or_else(|| wrong("the key is not in quotes"))?;
    let rest = rest.strip_prefix(')').ok_or_else(|| wrong("there is no `)` after the key"))?.trim_start();
    let (result, rest) =
        rest.split_once(char::is_whitespace).ok_or_else(|| wrong("there is nothing to compare with"))?;
    let result = match result {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(wrong("it must be =, !=, > or <")),
    };
    let (value, rest) = unquote(rest.trim_start()).ok_or_else(|| wrong("the value is not in quotes"))?;
    if !rest.trim().is_empty() {
        return Err(wrong("there is more after the value"));
    }
    let number = || {
        let text = str::from_utf8(&value).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| wrong("the value is not a decimal number"))
    };
    let (target, value) = match target.trim() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => {
            let id = str::from_utf8(&value).ok().and_then(|text| text.parse::<LeaseId>().ok());
            let id = id.ok_or_else(|| wrong("the lease is not a hexadecimal number"))?;
            (CompareTarget::Lease, TargetUnion::Lease(id.0))
        }
        _ => return Err(wrong("the target must be version, create, mod, value or lease")),
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Default::default(),
        target_union: Some(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_are_read() {
        let read = |line: &str| {
            let one = compare(line).unwrap();
            (one.target(), one.result(), one.key.to_vec(), one.target_union.unwrap())
        };
        use CompareResult::{Equal, Greater, Less, NotEqual};
        use CompareTarget::{Create, Lease, Mod, Value, Version};
        assert_eq!(read(r#"mod("k") > "0""#), (Mod, Greater, b"k".to_vec(), TargetUnion::ModRevision(0)));
        assert_eq!(read(r#"m("a b") = "7""#), (Mod, Equal, b"a b".to_vec(), TargetUnion::ModRevision(7)));
        assert_eq!(
            read(r#"create("k") < "9""#),
            (Create, Less, b"k".to_vec(), TargetUnion::CreateRevision(9))
        );
        assert_eq!(read(r#"ver("k") != "1""#), (Version, NotEqual, b"k".to_vec(), TargetUnion::Version(1)));
        assert_eq!(
            read(r#"val("k") = "a\nb""#),
            (Value, Equal, b"k".to_vec(), TargetUnion::Value("a\nb".into()))
        );
        assert_eq!(read(r#"lease("k") = "AF""#), (Lease, Equal, b"k".to_vec(), TargetUnion::Lease(175)));
    }

    #[test]
    fn what_is_no_compare_is_told_apart() {
        for line in [
            "mod",
            r#"mod("k" > "0""#,
            r#"mod(k) > "0""#,
            r#"mod("k") > 0"#,
            r#"mod("k")"#,
            r#"mod("k") >= "0""#,
            r#"mod("k") > "x""#,
            r#"mode("k") > "0""#,
            r#"mod("k") > "0" x"#,
            r#"lease("k") = "g""#,
            r#"lease("k") = "ffffffffffffffff""#,
        ] {
            let failure = compare(line).unwrap_err();
            assert_eq!(failure.exit_code(), 3, "{line}");
            assert!(failure.to_string().contains("no compare"), "{line}");
        }
    }

    #[test]
    fn a_transaction_has_three_parts() {
        let text = "version(\"k\") > \"0\"\n\nput k \"a b\"\nget k --prefix\n\ndel k c\n\n";
        let txn = read(&mut text.as_bytes(), |_| Ok(())).unwrap();
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 2, 1));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("a put was written") };
        assert_eq!(put.value, "a b");
    }

    #[test]
    fn input_that_ends_early_or_is_no_request_fails() {
        let code = |text: &str| read(&mut text.as_bytes(), |_| Ok(())).unwrap_err().exit_code();
        for text in ["", "\n", "\n\n", "\n\nput k v", "\nfetch k\n\n\n", "\nput k\n\n\n", "\nget\n\n\n"] {
            assert_eq!(code(text), 3, "{text:?}");
        }
    }
}
