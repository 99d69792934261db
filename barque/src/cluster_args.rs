//! The flags of what administrators do on a master: `barque status`, `doctor`, `support-bundle`, `token`, `kubeconfig`, `certs`, `server leave`.
//!
//! Turns words into values; what is done with them is `cluster_command`'s.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::component_args::{Output, time};

/// Which master this is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The directory of the master on this machine.
    #[arg(
        long,
        env = "BARQUE_SERVER_DATA_DIR",
        default_value = "/var/lib/barque/server",
        value_name = "DIR"
    )]
    pub(crate) data_dir: PathBuf,
}

/// How the cluster is.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Tables for people, or JSON for programs.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// What is wrong.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// A table for people, or JSON for programs.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// A file for who helps from afar.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The file [default: barque-support-NAME-TIME.tar.gz, here].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Tokens by which machines join.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and prints it: for nodes, or with --master for masters too.
    Create {
        #[command(flatten)]
        place: PlaceArgs,
        /// Who has it can become a master, which is all that the cluster is.
        #[arg(long)]
        master: bool,
        /// How long it is good; 0 is for ever.
        #[arg(long, default_value = "24h", value_name = "TIME", value_parser = life)]
        ttl: Life,
        /// What it is for, for whoever lists tokens.
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// Lists tokens, without their secrets.
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// A table for people, or JSON for programs.
        #[arg(short, long, default_value = "table", value_name = "FORMAT")]
        output: Output,
    },
    /// Lets no machine join with a token any more; those that joined stay.
    Revoke {
        #[command(flatten)]
        place: PlaceArgs,
        /// What `barque token list` shows, or the whole token.
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// How long a token is good; nothing is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) Option<Duration>);

fn life(text: &str) -> Result<Life, String> {
    match text {
        "0" | "0s" => Ok(Life(None)),
        text => time(text).map(|life| Life(Some(life))),
    }
}

/// A kubeconfig for somebody.
#[derive(Debug, Args)]
pub(crate) struct KubeconfigArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The user's name [default: the administrator].
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// A group of the user; may be given several times. Roles say what they may.
    #[arg(long = "group", value_name = "NAME", requires = "user")]
    pub(crate) groups: Vec<String>,
    /// The URL that it speaks to, such as that of a load balancer [default: this master, by the address that others reach it by].
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

/// Certificates of this master.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

/// What is done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Lists authorities and certificates with the time that is left. They are made anew by themselves when two thirds are over.
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// A table for people, or JSON for programs.
        #[arg(short, long, default_value = "table", value_name = "FORMAT")]
        output: Output,
    },
    /// Makes certificates anew now; whoever shows them reads them again without a restart.
    Renew {
        #[command(flatten)]
        place: PlaceArgs,
        /// Which ones, as `barque certs list` names them [default: all].
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Exchanges the cluster's authorities for new ones while it runs: begins, or goes on as far as members have come, and shows who
    /// is behind. Done again until all are ready, then with --finish.
    RotateCa(RotateCaArgs),
}

/// How far authorities are exchanged.
#[derive(Debug, Args)]
pub(crate) struct RotateCaArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The old authorities are not trusted any more: kubeconfigs, and pods that read their authority only when they start, must have
    /// the new one by now.
    #[arg(long)]
    pub(crate) finish: bool,
    /// Masters, nodes and namespaces that are not waited for, comma separated.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Begins another rotation after one that has finished.
    #[arg(long, conflicts_with = "finish")]
    pub(crate) again: bool,
    /// Only shows how far it is.
    #[arg(long, conflicts_with_all = ["finish", "again"])]
    pub(crate) status: bool,
    /// How long members are waited for.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Duration,
    /// A table for people, or JSON for programs.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// What else there is about a master.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Takes this master out of its cluster for good; the others go on. Stop it afterwards, and remove its directory.
    Leave(PlaceArgs),
}
