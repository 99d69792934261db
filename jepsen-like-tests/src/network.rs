//! A network of the run's own: each member is a host with an address, and any host can be made deaf to any other.
//!
//! The run enters namespaces of its own first, for the network and for mounts, so that whatever it builds ends with it,
//! however it ends. Must never change the network of the machine: it builds nothing before it is inside.

mod conditions;
mod packet;
mod router;

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

pub use conditions::{Conditions, Delay, Passage, Rule};
pub use router::Packets;
use router::Router;

/// The run's own address, in the network of all.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The last part of the first host's address.
const FIRST_HOST: u8 = 11;
/// Hosts that there are addresses for.
const HOSTS: usize = 200;

/// The network could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program is missing or may not do what it shall.
    #[error(
        "`{command}` failed: {why}; network faults need root, and `apt-get install iproute2 nftables util-linux`"
    )]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        why: String,
    },
    /// The run is not in namespaces of its own.
    #[error("the run is not in a network namespace of its own, without which nothing is built; run as root")]
    NotInside,
    /// A device could not be made.
    #[error(
        "no device `{device}` for a host: {why}; packets are routed through /dev/net/tun, which needs root"
    )]
    Device {
        /// Its name.
        device: String,
        /// What the kernel said.
        why: io::Error,
    },
    /// There are no more addresses.
    #[error("there are already {HOSTS} hosts")]
    Full,
}

/// The network namespace from which the run came, for the run in its own.
const OUTSIDE: &str = "JEPSEN_LIKE_TESTS_OUTSIDE";

fn namespace() -> io::Result<String> {
    Ok(std::fs::read_link("/proc/self/ns/net")?.to_string_lossy().into_owned())
}

/// Whether [`enter`] has brought this process into a network namespace of its own.
#[must_use]
pub fn is_inside() -> bool {
    matches!((std::env::var(OUTSIDE), namespace()), (Ok(outside), Ok(own)) if outside != own)
}

/// Becomes the same program with the same arguments, in namespaces of its own. Comes back only with an error.
#[must_use]
pub fn enter() -> NetworkError {
    let failed =
        |why: io::Error| NetworkError::Command { command: "unshare".to_owned(), why: why.to_string() };
    if std::env::var_os(OUTSIDE).is_some() {
        // It was tried, and this is still outside.
        return NetworkError::NotInside;
    }
    match (std::env::current_exe(), namespace()) {
        (Ok(program), Ok(outside)) => failed(
            Command::new("unshare")
                .args(["--net", "--mount", "--propagation", "private", "--"])
                .arg(program)
                .args(std::env::args_os().skip(1))
                .env(OUTSIDE, outside)
                .exec(),
        ),
        (Err(why), _) | (_, Err(why)) => failed(why),
    }
}

/// Hosts on a bridge or around a router; this process has an address there too.
#[derive(Debug)]
pub struct Network {
    hosts: Mutex<Vec<String>>,
    /// Carries every packet; without one, a bridge does.
    router: Option<Router>,
}

impl Network {
    /// A network without hosts, whose packets a bridge in the kernel carries.
    ///
    /// # Errors
    /// When this is not inside, or not allowed.
    pub fn build() -> Result<Self, NetworkError> {
        prepare()?;
        ip("link add fabric type bridge")?;
        connect_this_process()?;
        Ok(Self { hosts: Mutex::new(Vec::new()), router: None })
    }

    /// A network without hosts, whose packets this process carries, under [`Self::set_rules`]. The seed decides all chances.
    /// Needs a runtime.
    ///
    /// # Errors
    /// When this is not inside, or not allowed.
    pub fn build_routed(seed: u64) -> Result<Self, NetworkError> {
        prepare()?;
        let router = Router::new(seed);
        attach(&router, "fabric", OWN_ADDRESS)?;
        connect_this_process()?;
        Ok(Self { hosts: Mutex::new(Vec::new()), router: Some(router) })
    }

    /// Adds a host, and tells its address.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn add_host(&self, name: &str) -> Result<String, NetworkError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS {
            return Err(NetworkError::Full);
        }
        let address = address(hosts.len());
        ip(&format!("netns add {name}"))?;
        match &self.router {
            None => {
                ip(&format!("link add to-{name} type veth peer name eth0 netns {name}"))?;
                ip(&format!("link set to-{name} master fabric up"))?;
            }
            Some(router) => {
                let device = format!("to-{name}");
                attach(router, &device, address)?;
                ip(&format!("link set {device} netns {name} name eth0"))?;
            }
        }
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        nft(name, "add table inet cut; add chain inet cut hear { type filter hook input priority 0; }")?;
        hosts.push(name.to_owned());
        Ok(address.to_string())
    }

    /// The addresses of all hosts that there may be.
    #[must_use]
    pub fn addresses() -> Vec<String> {
        (0..HOSTS).map(|number| address(number).to_string()).collect()
    }

    /// The address of a host.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().position(|host| host == name).map(address)
    }

    /// From now on these rules hold for packets, and no others; the first that is about a packet counts. They do nothing
    /// without a router.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        if let Some(router) = &self.router {
            router.set_rules(rules);
        }
    }

    /// What the router did to packets; `None` without one.
    #[must_use]
    pub fn packets(&self) -> Option<Packets> {
        self.router.as_ref().map(Router::packets)
    }

    /// What stands before a program that shall run on a host.
    #[must_use]
    pub fn on_host(name: &str) -> [&str; 4] {
        ["ip", "netns", "exec", name]
    }

    /// Makes host `to` deaf to what host `from` sends.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub fn cut(&self, from: &str, to: &str) -> Result<(), NetworkError> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        match hosts.iter().position(|host| host == from) {
            Some(number) => nft(to, &format!("add rule inet cut hear ip saddr {} drop", address(number))),
            None => Ok(()),
        }
    }

    /// Everybody hears everybody again.
    ///
    /// # Errors
    /// When a rule cannot be removed.
    pub fn heal(&self) -> Result<(), NetworkError> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().try_for_each(|host| nft(host, "flush chain inet cut hear"))
    }
}

/// Namespaces get a place for their names, which are mounts and seen by nobody else.
fn prepare() -> Result<(), NetworkError> {
    if !is_inside() {
        return Err(NetworkError::NotInside);
    }
    run("mkdir", ["-p", "/run/netns"])?;
    run("mount", ["-t", "tmpfs", "namespaces", "/run/netns"])?;
    ip("link set lo up")
}

fn connect_this_process() -> Result<(), NetworkError> {
    ip(&format!("addr add {OWN_ADDRESS}/24 dev fabric"))?;
    ip("link set fabric up")
}

fn attach(router: &Router, device: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
    let failed = |why| NetworkError::Device { device: device.to_owned(), why };
    router.add_host(device, address).map_err(failed)
}

fn address(number: usize) -> Ipv4Addr {
    let last = u8::try_from(usize::from(FIRST_HOST) + number).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 77, 0, last)
}

fn ip(words: &str) -> Result<(), NetworkError> {
    run("ip", words.split(' '))
}

fn nft(host: &str, rules: &str) -> Result<(), NetworkError> {
    let [ip, words @ ..] = Network::on_host(host);
    run(ip, words.into_iter().chain(["nft", rules]))
}

fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<(), NetworkError> {
    let mut command = Command::new(program);
    command.args(arguments);
    let failed = |why: String| NetworkError::Command { command: format!("{command:?}"), why };
    // Some milliseconds each, and only while hosts are made and faults begin or end.
    let output = Command::new(command.get_program()).args(command.get_args()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(why) => Err(failed(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests run in the machine's own namespace.
    #[test]
    fn nothing_is_built_outside() {
        if !is_inside() {
            assert!(matches!(Network::build(), Err(NetworkError::NotInside)));
        }
    }
}
