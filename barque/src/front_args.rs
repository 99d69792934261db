//! The flags of `barque front`, each also as `BARQUE_FRONT_*` in the environment.
//!
//! Turns words into values; what they must be is the front's to say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use barque_local::front::Config;
use clap::Args;

use crate::component_args::time;
use crate::log::{self, LogFormat, LogLevel};

/// Passes connections on to an API server that is ready.
#[derive(Debug, Args)]
pub(crate) struct FrontArgs {
    /// Where clients connect, comma separated.
    #[arg(
        long,
        env = "BARQUE_FRONT_LISTEN",
        default_value = "127.0.0.1:6443",
        value_name = "ADDRESSES",
        value_delimiter = ','
    )]
    listen: Vec<SocketAddr>,
    /// URLs of API servers, comma separated, or one each time.
    #[arg(long, env = "BARQUE_FRONT_SERVER", value_name = "URLS", value_delimiter = ',')]
    server: Vec<String>,
    /// Authorities of the servers' certificates, PEM; by it servers are asked whether they are ready.
    #[arg(long, env = "BARQUE_FRONT_CERTIFICATE_AUTHORITY", value_name = "FILE")]
    certificate_authority: PathBuf,
    /// As many connections are passed at once; others wait until one ends.
    #[arg(long, env = "BARQUE_FRONT_MAX_CONNECTIONS", default_value_t = 10_000, value_name = "COUNT")]
    max_connections: usize,
    /// How long connections may go on when the front stops.
    #[arg(long, env = "BARQUE_FRONT_DRAIN", default_value = "5s", value_name = "TIME", value_parser = time)]
    drain: Duration,
    /// The least important messages that are logged.
    #[arg(long, env = "BARQUE_FRONT_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(long, env = "BARQUE_FRONT_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

impl FrontArgs {
    /// What the front is told; from here on, messages are written.
    pub(crate) fn into_config(self) -> Config {
        log::start(self.log_level, self.log_format);
        Config {
            listen: self.listen,
            servers: self.server,
            certificate_authority: self.certificate_authority,
            max_connections: self.max_connections,
            drain: self.drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        front: FrontArgs,
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        let mut flags = 0;
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let long = arg.get_long().unwrap().to_uppercase().replace('-', "_");
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), format!("BARQUE_FRONT_{long}"));
            flags += 1;
        }
        assert_eq!(flags, 7);
    }

    #[test]
    fn servers_are_one_each_time_or_a_list() {
        let words = [
            "front",
            "--server=https://a:1",
            "--server=https://b:2,https://c:3",
            "--certificate-authority=ca.crt",
        ];
        let front = Cli::try_parse_from(words).unwrap().front;
        assert_eq!((front.server.len(), front.listen[0].port()), (3, 6443));
        assert!(
            Cli::try_parse_from(&words[..3]).unwrap_err().to_string().contains("--certificate-authority")
        );
    }
}
