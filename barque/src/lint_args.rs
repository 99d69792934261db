//! The flags of `barque lint`, each also as `BARQUE_LINT_*` in the environment.
//!
//! Turns words into values; what the rules are is the linter's to say.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use barque_client::servers::Servers;
use barque_lint::Rule;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::component_args::{Output, time};

/// Looks at every object of a cluster and says what cannot be right.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Whom to ask, and as who [default: what a pod finds].
    #[arg(long, env = "BARQUE_LINT_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// URLs of API servers, the preferred one first, comma separated [default: the one of --kubeconfig].
    #[arg(long, env = "BARQUE_LINT_MASTER", value_name = "URLS", value_delimiter = ',')]
    master: Vec<String>,
    /// A table, or the same as JSON.
    #[arg(short, long, env = "BARQUE_LINT_OUTPUT", default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
    /// How long to wait before looking again at what is wrong.
    #[arg(long, env = "BARQUE_LINT_SETTLE", default_value = "2s", value_name = "TIME", value_parser = time)]
    pub(crate) settle: Duration,
    /// Rules that do not matter here, comma separated; of each is told what holds when nothing is wrong.
    #[arg(
        long,
        env = "BARQUE_LINT_SKIP",
        value_name = "RULES",
        value_delimiter = ',',
        value_parser = rules()
    )]
    pub(crate) skip: Vec<Rule>,
}

/// The rules by their names.
fn rules() -> impl TypedValueParser<Value = Rule> {
    let of_pictures = || Rule::ALL.iter().copied().filter(|rule| !rule.is_of_histories());
    let names = of_pictures().map(|rule| PossibleValue::new(rule.name()).help(rule.holds()));
    PossibleValuesParser::new(names)
        .try_map(move |name| of_pictures().find(|rule| rule.name() == name).ok_or("there is no such rule"))
}

impl LintArgs {
    /// Whom to ask.
    pub(crate) fn servers(&self) -> Result<Servers, Box<dyn Error>> {
        Ok(Servers::of_flags(self.kubeconfig.clone(), &self.master)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        lint: LintArgs,
    }

    fn parse(words: &[&str]) -> Result<LintArgs, clap::Error> {
        Cli::try_parse_from([&["lint"], words].concat()).map(|cli| cli.lint)
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        let mut flags = 0;
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let expected = format!("BARQUE_LINT_{}", arg.get_long().unwrap().to_uppercase());
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
            flags += 1;
        }
        assert_eq!(flags, 5);
    }

    #[test]
    fn words_are_understood_or_named() {
        let args =
            parse(&["--master=https://a:1,https://b:2", "--settle=1m", "--skip=owner-gone,index-twice"])
                .unwrap();
        assert_eq!(args.servers().unwrap().urls.len(), 2);
        assert_eq!(args.settle, Duration::from_secs(60));
        assert_eq!(args.skip, [Rule::OwnerGone, Rule::IndexTwice]);
        assert!(parse(&["--master=nowhere"]).unwrap().servers().is_err());
        assert!(parse(&["--settle=soon"]).unwrap_err().to_string().contains("not a time"));
        for rule in ["owner", "pod-moved"] {
            let wrong = parse(&["--skip", rule]).unwrap_err().to_string();
            assert!(wrong.contains(rule) && wrong.contains("owner-elsewhere"), "{wrong}");
        }
    }

    #[test]
    fn help_says_what_rules_say() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("owner-gone") && help.contains("owners are there"), "{help}");
    }
}
