//! Command-line options of `kvctl bench`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::workload::LeaseOperation;

/// Measures an etcd v3 cluster under load.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvctl bench put --clients 100 --duration 10
  kvctl bench get --endpoints 10.0.0.1:2379,10.0.0.2:2379 --consistency s --clients 1000
  kvctl bench put --rate 5000 --clients 200 --json
  kvctl bench watch --watchers 1000 --streams 10 --clients 16")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) load: Load,
}

/// What is asked of the servers.
#[derive(Debug, Subcommand)]
pub(super) enum Load {
    /// Puts on random keys, or on each key in turn
    Put {
        #[command(flatten)]
        run: RunArgs,
        /// Write the keys in order, each once before any again
        #[arg(long)]
        sequential: bool,
    },
    /// Reads of single random keys
    Get {
        #[command(flatten)]
        run: RunArgs,
    },
    /// Lists of all keys of the prefix, page by page at one revision; a list is one operation
    List {
        #[command(flatten)]
        run: RunArgs,
        /// Keys in a page; 0 asks for all at once
        #[arg(long, default_value_t = 500)]
        page: u64,
    },
    /// Guarded updates as Kubernetes does them: if the key is unchanged put, else get
    Txn {
        #[command(flatten)]
        run: RunArgs,
    },
    /// Watches of the prefix while clients put; events are counted and timed from the put's start
    Watch {
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Leases: kept alive, or granted and revoked
    Lease {
        #[command(flatten)]
        run: RunArgs,
        /// What each client does
        #[arg(long, value_enum, default_value_t = LeaseOperation::KeepAlive)]
        operation: LeaseOperation,
        /// Time to live of the leases, in seconds
        #[arg(long, default_value_t = 300)]
        ttl: u64,
    },
    /// The mix of a Kubernetes API server: guarded updates, gets, lists by page, watches with previous values
    Mixed {
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        watch: WatchArgs,
        /// Keys in a page of a list
        #[arg(long, default_value_t = 500)]
        page: u64,
    },
}

/// The watching side.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Watches of the whole prefix; each gets every event
    #[arg(long, default_value_t = 10)]
    pub(super) watchers: usize,
    /// Streams that the watches share
    #[arg(long, default_value_t = 10)]
    pub(super) streams: usize,
}

/// How reads are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Consistency {
    /// Linearizable
    L,
    /// Serializable: the member's own state, perhaps old
    S,
}

/// Options of every load.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Members to ask, host:port separated by commas; clients go round them
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379", env = "KVCTL_ENDPOINTS")]
    pub(super) endpoints: Vec<String>,
    /// Ask the leader only; the endpoints are used to find it
    #[arg(long)]
    pub(super) target_leader: bool,
    /// Connections to each endpoint
    #[arg(long, default_value_t = 1)]
    pub(super) connections: usize,
    /// Logical clients, each with one operation at a time
    #[arg(long, short, default_value_t = 10)]
    pub(super) clients: usize,
    /// Stop after so many operations
    #[arg(long, conflicts_with_all = ["duration", "warm_up"])]
    pub(super) total: Option<u64>,
    /// Measure for so many seconds
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub(super) duration: Duration,
    /// Seconds of load before the measurement
    #[arg(long, value_parser = seconds, default_value = "0.5")]
    pub(super) warm_up: Duration,
    /// Offer so many operations per second, timed from their intended start; without it each client asks again
    /// as soon as it is answered
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// Seconds until an operation counts as failed
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub(super) timeout: Duration,
    /// Start of all keys
    #[arg(long, default_value = "bench/")]
    pub(super) prefix: String,
    /// Bytes of each key, prefix included
    #[arg(long, default_value_t = 24)]
    pub(super) key_size: usize,
    /// Bytes of each value
    #[arg(long, default_value_t = 256)]
    pub(super) value_size: usize,
    /// Number of keys; loads that read write them first, unless they are there
    #[arg(long, default_value_t = 10_000)]
    pub(super) key_space: u64,
    /// How reads are served: l (linearizable) or s (serializable)
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    pub(super) consistency: Consistency,
    /// Process ids of servers on this machine whose CPU time is reported too
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pids: Vec<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    number
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "give seconds, such as 10 or 0.5".to_owned())
}

impl Load {
    pub(super) fn run(&self) -> &RunArgs {
        match self {
            Load::Put { run, .. }
            | Load::Get { run }
            | Load::List { run, .. }
            | Load::Txn { run }
            | Load::Watch { run, .. }
            | Load::Lease { run, .. }
            | Load::Mixed { run, .. } => run,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Load::Put { .. } => "put",
            Load::Get { .. } => "get",
            Load::List { .. } => "list",
            Load::Txn { .. } => "txn",
            Load::Watch { .. } => "watch",
            Load::Lease { .. } => "lease",
            Load::Mixed { .. } => "mixed",
        }
    }
}
