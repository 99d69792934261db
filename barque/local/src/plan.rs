//! The layout of a cluster on one machine: who is where, with which address, and with which words each process is started. Must
//! never look at the machine.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use barque_api::ip::{Cidr, parse_cidr};
use serde::{Deserialize, Serialize};

/// As many masters as agree with each other in reasonable time.
const MOST_MASTERS: u8 = 9;
/// As many nodes as have addresses in a small network.
const MOST_NODES: u8 = 100;
/// Names of links have at most 15 characters, of which `-n100` are some.
const LONGEST_NAME: usize = 8;
/// The host's own address is the first one of the network; then masters, then nodes.
const GATEWAY: u32 = 1;
const FIRST_MASTER: u32 = 11;
const FIRST_NODE: u32 = 101;
/// Where API servers listen.
const API_PORT: u16 = 6443;
/// The process that clients speak to.
pub const FRONT: &str = "front";

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What namespaces, links and control groups are named by.
    pub name: String,
    /// How many masters.
    pub masters: u8,
    /// How many nodes.
    pub nodes: u8,
    /// The network of all of them, such as `10.77.0.0/24`; on loopback the /24 of `127.0.0.0/8`.
    pub subnet: Option<String>,
    /// Where clients reach the cluster.
    pub listen: SocketAddr,
    /// The snapshot that it begins with.
    pub restore: Option<PathBuf>,
    /// What belongs to the cluster.
    pub directory: PathBuf,
    /// What belongs to it until the machine is started again.
    pub run_directory: PathBuf,
    /// Whether there are rights for namespaces and containers.
    pub is_privileged: bool,
}

/// Why there is no such cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not so many masters.
    #[error("--masters={0}: a cluster on one machine has 1 to {MOST_MASTERS}")]
    Masters(u8),
    /// Not so many nodes.
    #[error("--nodes={0}: a cluster on one machine has at most {MOST_NODES}")]
    Nodes(u8),
    /// Not a name.
    #[error(
        "--name={0}: links are named by it, so that it has 1 to {LONGEST_NAME} lower case letters and digits, a letter first"
    )]
    Name(String),
    /// Not a network, or none that fits.
    #[error("--subnet={subnet}: {problem}")]
    Subnet {
        /// What was said.
        subnet: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Store, API server, controllers and scheduler.
    Master,
    /// An agent.
    Node,
    /// What clients speak to.
    Front,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// `m1`, `n1`, `front`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its address.
    pub address: IpAddr,
    /// Where it is, if not in the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What the program is started with.
    pub words: Vec<String>,
    /// What the program is started with when it has ended, to take away what it left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleanup: Vec<String>,
}

impl Member {
    /// The word by which another master joins through this one.
    pub(crate) fn url_to_join(&self) -> String {
        format!("--join=https://{}", SocketAddr::new(self.address, API_PORT))
    }
}

/// A namespace on the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The path of the network namespace.
    pub namespace: PathBuf,
    /// The link's name in the host.
    pub link: String,
}

/// What all members stand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Ground {
    /// Each in a network namespace, all on a bridge of the host.
    Bridge {
        /// The bridge's name.
        bridge: String,
        /// The host's address on it.
        gateway: IpAddr,
        /// The network, `10.77.0.0/24`.
        network: String,
        /// The table of the packet filter.
        table: String,
    },
    /// Each at its own address of the loopback network.
    Loopback,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What everything is named by.
    pub name: String,
    /// What belongs to it.
    pub directory: PathBuf,
    /// What belongs to it until the machine is started again.
    pub run_directory: PathBuf,
    /// What members stand on.
    pub ground: Ground,
    /// Where clients reach the cluster.
    pub listen: SocketAddr,
    /// Masters, then nodes, then the front.
    pub members: Vec<Member>,
}

impl Plan {
    /// The layout of what was asked for.
    ///
    /// # Errors
    /// When there is no such cluster.
    pub fn of(wanted: &Wanted) -> Result<Self, PlanError> {
        if !(1..=MOST_MASTERS).contains(&wanted.masters) {
            return Err(PlanError::Masters(wanted.masters));
        }
        if wanted.nodes > MOST_NODES {
            return Err(PlanError::Nodes(wanted.nodes));
        }
        let name = &wanted.name;
        let is_name = (1..=LONGEST_NAME).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit());
        if !is_name {
            return Err(PlanError::Name(name.clone()));
        }
        let usual = if wanted.is_privileged { "10.77.0.0/24" } else { "127.77.0.0/24" };
        let network = network(wanted.subnet.as_deref().unwrap_or(usual), wanted.is_privileged)?;
        let layout = Layout { wanted, network };
        let ground = if wanted.is_privileged {
            Ground::Bridge {
                bridge: name.clone(),
                gateway: layout.address(GATEWAY),
                network: network.to_string(),
                table: format!("{name}-up"),
            }
        } else {
            Ground::Loopback
        };
        let masters = (1..=wanted.masters).map(|number| layout.master(number));
        let nodes = (1..=wanted.nodes).map(|number| layout.node(number));
        Ok(Self {
            name: name.clone(),
            directory: wanted.directory.clone(),
            run_directory: wanted.run_directory.clone(),
            ground,
            listen: wanted.listen,
            members: masters.chain(nodes).chain([layout.front()]).collect(),
        })
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// A member is from now on started with other words.
    pub fn change(&mut self, member: Member) {
        if let Some(known) = self.members.iter_mut().find(|known| known.name == member.name) {
            *known = member;
        }
    }

    /// Those that are this.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
    }

    /// How many are this.
    #[must_use]
    pub fn count(&self, role: Role) -> usize {
        self.of_role(role).count()
    }

    /// The network of the bridge.
    #[must_use]
    pub fn network(&self) -> Option<Cidr> {
        match &self.ground {
            Ground::Bridge { network, .. } => parse_cidr(network),
            Ground::Loopback => None,
        }
    }

    /// What belongs to a member.
    #[must_use]
    pub fn directory_of(&self, member: &str) -> PathBuf {
        self.directory.join(member)
    }

    /// What a member says.
    #[must_use]
    pub fn log_of(&self, member: &str) -> PathBuf {
        self.directory_of(member).join("log")
    }

    /// What a member may do by its master, for the administrator.
    #[must_use]
    pub fn admin_kubeconfig(&self, member: &str) -> PathBuf {
        self.directory_of(member).join("admin.kubeconfig")
    }

    /// What people use.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The certificate of the authority, for the front.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        authority(&self.directory)
    }

    /// The directories that nodes give out as volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        volumes(&self.directory)
    }

    /// The resolvers of nodes.
    #[must_use]
    pub fn resolvers(&self) -> PathBuf {
        resolvers(&self.directory)
    }
}

fn authority(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

fn volumes(directory: &Path) -> PathBuf {
    directory.join("volumes")
}

fn resolvers(directory: &Path) -> PathBuf {
    directory.join("resolv.conf")
}

fn network(subnet: &str, is_privileged: bool) -> Result<Cidr, PlanError> {
    let wrong = |problem: &str| PlanError::Subnet { subnet: subnet.to_owned(), problem: problem.to_owned() };
    let cidr = parse_cidr(subnet).ok_or_else(|| wrong("is no network; one looks like 10.77.0.0/24"))?;
    let IpAddr::V4(address) = cidr.address else {
        return Err(wrong("members have addresses of IPv4; name a network like 10.77.0.0/24"));
    };
    if cidr.prefix > 24 {
        return Err(wrong("has too few addresses; name a /24 or a larger network"));
    }
    if is_privileged && address.is_loopback() {
        return Err(wrong("is this machine itself; name a private network that nobody uses here"));
    }
    if !is_privileged && !address.is_loopback() {
        return Err(wrong("without root, members are on loopback; name a /24 of 127.0.0.0/8"));
    }
    Ok(cidr.network())
}

/// A network of this machine that has addresses of the cluster's as well.
#[must_use]
pub fn overlapping(network: Cidr, used: &[Cidr]) -> Option<Cidr> {
    used.iter().copied().find(|other| network.contains(other.address) || other.contains(network.address))
}

struct Layout<'a> {
    wanted: &'a Wanted,
    network: Cidr,
}

impl Layout<'_> {
    fn address(&self, number: u32) -> IpAddr {
        match self.network.address {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + number).into(),
            // Refused before.
            other @ IpAddr::V6(_) => other,
        }
    }

    fn master_address(&self, number: u8) -> IpAddr {
        self.address(FIRST_MASTER + u32::from(number) - 1)
    }

    fn place(&self, member: &str) -> Option<Place> {
        let name = format!("{}-{member}", self.wanted.name);
        self.wanted
            .is_privileged
            .then(|| Place { namespace: Path::new("/run/netns").join(&name), link: name })
    }

    fn below(&self, member: &str, part: &str) -> String {
        self.wanted.directory.join(member).join(part).display().to_string()
    }

    fn join(&self, token: &str) -> [String; 2] {
        let first = SocketAddr::new(self.master_address(1), API_PORT);
        [format!("--join=https://{first}"), format!("--token-file={}", self.below("m1", token))]
    }

    fn master(&self, number: u8) -> Member {
        let name = format!("m{number}");
        let address = self.master_address(number);
        let mut words = vec![
            "server".to_owned(),
            format!("--name={name}"),
            format!("--data-dir={}", self.wanted.directory.join(&name).display()),
            format!("--advertise-address={address}"),
        ];
        if !self.wanted.is_privileged {
            // Others have the same ports at other addresses.
            words.push(format!("--bind-address={address}"));
        }
        words.push("--node-failover=fast".to_owned());
        // Nodes of one machine have volumes of their own cluster.
        let volumes = volumes(&self.wanted.directory);
        words.push(format!("--default-local-storage-path={}", volumes.display()));
        if number > 1 {
            words.extend(self.join("token"));
        } else if let Some(snapshot) = &self.wanted.restore {
            words.push(format!("--restore={}", snapshot.display()));
        }
        let place = self.place(&name);
        Member { name, role: Role::Master, address, place, words, cleanup: Vec::new() }
    }

    fn node(&self, number: u8) -> Member {
        let name = format!("n{number}");
        let address = self.address(FIRST_NODE + u32::from(number) - 1);
        let run = self.wanted.run_directory.join(&name).display().to_string();
        let directories = [
            format!("--root-dir={}", self.below(&name, "root")),
            format!("--run-dir={run}"),
            format!("--pod-logs-dir={}", self.below(&name, "pods")),
            format!("--resolv-conf={}", resolvers(&self.wanted.directory).display()),
        ];
        let mut words = vec!["agent".to_owned()];
        words.extend(self.join("node-token"));
        words.push(format!("--hostname-override={name}"));
        words.push(format!("--node-ip={address}"));
        words.extend(directories.clone());
        let mut cleanup = Vec::new();
        if self.wanted.is_privileged {
            let group = format!("--cgroup-root={}/{name}", self.wanted.name);
            words.extend(["--runtime=embedded".to_owned(), group.clone()]);
            // All nodes are on the machine's one disk, which is not theirs to keep free: a full one is the machine's trouble.
            words.push("--eviction-hard=memory.available<100Mi".to_owned());
            cleanup = ["agent", "cleanup"].map(str::to_owned).to_vec();
            cleanup.extend(directories);
            cleanup.push(group);
        } else {
            words.extend([
                "--runtime=hollow".to_owned(),
                format!("--address={address}"),
                "--healthz-port=0".to_owned(),
            ]);
        }
        let place = self.place(&name);
        Member { name, role: Role::Node, address, place, words, cleanup }
    }

    fn front(&self) -> Member {
        let mut words = vec![FRONT.to_owned(), format!("--listen={}", self.wanted.listen)];
        words.extend((1..=self.wanted.masters).map(|number| {
            format!("--server=https://{}", SocketAddr::new(self.master_address(number), API_PORT))
        }));
        words.push(format!("--certificate-authority={}", authority(&self.wanted.directory).display()));
        Member {
            name: FRONT.to_owned(),
            role: Role::Front,
            address: self.wanted.listen.ip(),
            place: None,
            words,
            cleanup: Vec::new(),
        }
    }
}

/// Whom members ask for names outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolvers {
    /// Resolvers of the machine that only the machine itself reaches, when it has no others.
    pub unreachable: Vec<IpAddr>,
    /// Who is asked instead.
    pub first: IpAddr,
    /// The file for nodes.
    pub text: String,
}

/// The resolvers of files like `/etc/resolv.conf`, the one that programs read first. None if all are on loopback.
#[must_use]
pub fn resolvers_of(files: &[String]) -> Option<Resolvers> {
    let of_line = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["nameserver", address, ..] => Some(address.parse::<IpAddr>().ok()),
        _ => None,
    };
    let of_file = |text: &str| text.lines().filter_map(of_line).flatten().collect::<Vec<_>>();
    files.iter().enumerate().find_map(|(number, text)| {
        let first = of_file(text).into_iter().find(|address| !address.is_loopback())?;
        let is_of_use = |line: &&str| match of_line(line) {
            Some(address) => address.is_some_and(|address| !address.is_loopback()),
            None => true,
        };
        let lines: Vec<&str> = text.lines().filter(is_of_use).collect();
        let unreachable = if number == 0 { Vec::new() } else { of_file(&files[0]) };
        Some(Resolvers { unreachable, first, text: lines.join("\n") + "\n" })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn wanted(is_privileged: bool) -> Wanted {
        Wanted {
            name: "barque".to_owned(),
            masters: 3,
            nodes: 2,
            subnet: None,
            listen: "127.0.0.1:6443".parse().unwrap(),
            restore: None,
            directory: "/d".into(),
            run_directory: "/r".into(),
            is_privileged,
        }
    }

    #[test]
    fn with_rights_each_member_is_in_a_namespace() {
        let plan = Plan::of(&wanted(true)).unwrap();
        let names: Vec<_> = plan.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["m1", "m2", "m3", "n1", "n2", "front"]);
        let second = plan.member("m2").unwrap();
        assert_eq!(
            second.words,
            [
                "server",
                "--name=m2",
                "--data-dir=/d/m2",
                "--advertise-address=10.77.0.12",
                "--node-failover=fast",
                "--default-local-storage-path=/d/volumes",
                "--join=https://10.77.0.11:6443",
                "--token-file=/d/m1/token"
            ]
        );
        let place = second.place.as_ref().unwrap();
        assert_eq!(
            (place.namespace.to_str().unwrap(), place.link.as_str()),
            ("/run/netns/barque-m2", "barque-m2")
        );
        let node = plan.member("n2").unwrap();
        assert_eq!(node.address.to_string(), "10.77.0.102");
        for word in [
            "--runtime=embedded",
            "--token-file=/d/m1/node-token",
            "--run-dir=/r/n2",
            "--cgroup-root=barque/n2",
        ] {
            assert!(node.words.iter().any(|each| each == word), "{word} in {:?}", node.words);
        }
        assert_eq!(node.cleanup[..2], ["agent", "cleanup"]);
        assert!(node.cleanup.contains(&"--root-dir=/d/n2/root".to_owned()));
        let front = plan.member("front").unwrap();
        assert!(
            front.place.is_none() && front.words.contains(&"--server=https://10.77.0.13:6443".to_owned())
        );
        assert_eq!(plan.network().unwrap().to_string(), "10.77.0.0/24");
    }

    #[test]
    fn without_rights_all_are_on_loopback() {
        let plan = Plan::of(&wanted(false)).unwrap();
        assert_eq!(plan.ground, Ground::Loopback);
        let first = plan.member("m1").unwrap();
        assert!(first.place.is_none() && first.words.contains(&"--bind-address=127.77.0.11".to_owned()));
        assert!(!first.words.iter().any(|word| word.starts_with("--join")));
        let node = plan.member("n1").unwrap();
        assert!(node.words.contains(&"--runtime=hollow".to_owned()) && node.cleanup.is_empty());
        assert!(node.words.contains(&"--address=127.77.0.101".to_owned()));
    }

    #[test]
    fn links_have_names_that_the_kernel_takes() {
        let largest = Wanted {
            name: "x".repeat(LONGEST_NAME),
            masters: MOST_MASTERS,
            nodes: MOST_NODES,
            ..wanted(true)
        };
        let plan = Plan::of(&largest).unwrap();
        let links = plan.members.iter().filter_map(|member| member.place.as_ref());
        assert!(links.map(|place| place.link.len()).max().unwrap() <= 15);
        let mut addresses: Vec<_> = plan
            .members
            .iter()
            .filter(|member| member.role != Role::Front)
            .map(|member| member.address)
            .collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), usize::from(MOST_MASTERS) + usize::from(MOST_NODES));
        assert!(addresses.iter().all(|address| plan.network().unwrap().contains(*address)));
    }

    #[test]
    fn mistakes_are_told_with_their_flag() {
        let told = |wanted: Wanted| Plan::of(&wanted).unwrap_err().to_string();
        assert!(told(Wanted { masters: 0, ..wanted(true) }).contains("--masters=0"));
        assert!(told(Wanted { masters: 10, ..wanted(true) }).contains("1 to 9"));
        assert!(told(Wanted { nodes: 101, ..wanted(true) }).contains("--nodes=101"));
        for name in ["", "Barque", "1a", "a-b", "nine-long", "nineteens"] {
            assert!(told(Wanted { name: name.to_owned(), ..wanted(true) }).contains("--name="), "{name}");
        }
        let of = |subnet: &str, is_privileged| {
            told(Wanted { subnet: Some(subnet.to_owned()), ..wanted(is_privileged) })
        };
        assert!(of("10.77.0.0", true).contains("is no network"));
        assert!(of("10.77.0.0/25", true).contains("too few"));
        assert!(of("fd00::/64", true).contains("IPv4"));
        assert!(of("127.1.0.0/24", true).contains("machine itself"));
        assert!(of("10.1.0.0/24", false).contains("without root"));
    }

    #[test]
    fn networks_overlap_when_one_has_an_address_of_the_other() {
        let cidr = |text: &str| parse_cidr(text).unwrap();
        let used = [cidr("192.168.1.0/24"), cidr("10.88.0.0/16")];
        assert_eq!(overlapping(cidr("10.88.3.0/24"), &used), Some(used[1]));
        assert_eq!(overlapping(cidr("10.0.0.0/8"), &used), Some(used[1]));
        assert_eq!(overlapping(cidr("10.77.0.0/24"), &used), None);
    }

    #[test]
    fn members_ask_resolvers_that_they_can_reach() {
        let stub = "nameserver 127.0.0.53\noptions edns0\n".to_owned();
        let real = "nameserver 192.0.2.1\nsearch example.org\n".to_owned();
        let first = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(
            resolvers_of(&[real.clone(), stub.clone()]).unwrap(),
            Resolvers { unreachable: Vec::new(), first, text: real.clone() }
        );
        let unreachable = vec![IpAddr::from([127, 0, 0, 53])];
        assert_eq!(
            resolvers_of(&[stub.clone(), real.clone()]).unwrap(),
            Resolvers { unreachable, first, text: real }
        );
        assert_eq!(resolvers_of(&[stub]), None);
        let mixed = "nameserver 127.0.0.1\n nameserver 192.0.2.1\nnameserver nobody\n".to_owned();
        let found = resolvers_of(&[mixed]).unwrap();
        assert_eq!((found.unreachable, found.text.as_str()), (Vec::new(), " nameserver 192.0.2.1\n"));
    }
}
