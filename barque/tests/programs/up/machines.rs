//! Namespaces and links of a cluster: made, cut, healed, and removed without rest.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use barque_local::ground as machines;
use barque_local::ground::GroundError;
use barque_local::plan::{Plan, Resolvers, Wanted};

use crate::containers::ground;

/// How long a packet may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn plan(name: &str, subnet: &str) -> Plan {
    let wanted = Wanted {
        name: name.to_owned(),
        masters: 2,
        nodes: 1,
        subnet: Some(subnet.to_owned()),
        listen: "127.0.0.1:6443".parse().unwrap(),
        restore: None,
        directory: "/nowhere".into(),
        run_directory: "/nowhere/run".into(),
        is_privileged: true,
    };
    Plan::of(&wanted).unwrap()
}

fn told(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that the kernel has of what is made here.
fn everything() -> String {
    told(
        "ip -br link | sed 's/@.*//; s/ .*//'; ip route; ls /run/netns; nft list ruleset; cat /proc/self/mountinfo",
    )
}

fn namespace<'a>(plan: &'a Plan, member: &str) -> &'a Path {
    &plan.member(member).unwrap().place.as_ref().unwrap().namespace
}

/// A listener of a member, at its address.
async fn listen(plan: &Plan, member: &str) -> tokio::net::TcpListener {
    let address = SocketAddr::new(plan.member(member).unwrap().address, 7000);
    let listener = barque_network::inside(namespace(plan, member), move || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    tokio::net::TcpListener::from_std(listener.await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_made_cut_healed_and_removed_without_rest() {
    if !ground::enter("up::machines::they_are_made_cut_healed_and_removed_without_rest") {
        return;
    }
    ground::add_host("outside", "10.9.0.50", "fd09::50");
    let before = everything();
    let plan = plan("here", "10.70.0.0/24");
    machines::check(&plan).await.unwrap();
    // A resolver that only this machine reaches, and one out there.
    let resolvers = Resolvers {
        unreachable: vec!["127.0.0.53".parse().unwrap()],
        first: "10.9.0.50".parse().unwrap(),
        text: String::new(),
    };
    machines::make(&plan, Some(&resolvers)).await.unwrap();
    for path in ["m1", "m2", "n1"].map(|member| namespace(&plan, member)) {
        assert!(path.starts_with("/run/netns"), "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(told(&format!("ip netns exec {name} ip -br addr show eth0")).contains("10.70.0."));
    }
    assert!(told("nft list table ip here-up").contains("masquerade"));

    let second = listen(&plan, "m2").await;
    let to_second = second.local_addr().unwrap();
    let reach = || barque_network::connect_tcp(namespace(&plan, "m1"), to_second);
    let (_stream, client) = {
        reach().await.unwrap();
        second.accept().await.unwrap()
    };
    assert_eq!(client.ip(), plan.member("m1").unwrap().address, "between members nothing is translated");

    let place = plan.member("m2").unwrap().place.as_ref().unwrap();
    machines::set_connected(place, false).await.unwrap();
    assert!(reach().await.is_err(), "its link is down");
    machines::set_connected(place, true).await.unwrap();
    reach().await.unwrap();

    // Hosts out there do not know the network.
    let outside = barque_network::inside(Path::new("/run/netns/outside"), || {
        let listener = std::net::TcpListener::bind("10.9.0.50:7000")?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let outside = tokio::net::TcpListener::from_std(outside.await.unwrap()).unwrap();
    barque_network::connect_tcp(namespace(&plan, "n1"), outside.local_addr().unwrap()).await.unwrap();
    assert_eq!(outside.accept().await.unwrap().1.ip().to_string(), ground::ADDRESS);

    // Who is asked for names at the machine's own resolver is the one out there.
    let resolver = barque_network::inside(Path::new("/run/netns/outside"), || {
        let socket = std::net::UdpSocket::bind("10.9.0.50:53")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    });
    let resolver = resolver.await.unwrap();
    let asking = barque_network::inside(namespace(&plan, "n1"), || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect("127.0.0.53:53")?;
        socket.send(b"name?")?;
        Ok(socket)
    });
    let asking = asking.await.unwrap();
    let mut buffer = [0; 16];
    let (read, from) = resolver.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..read], from.ip().to_string().as_str()), (&b"name?"[..], ground::ADDRESS));
    resolver.send_to(b"name!", from).unwrap();
    let read = asking.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"name!");

    // What drops packets between members is found before anybody waits for them.
    assert_eq!(machines::remove(&plan).await, Vec::<String>::new());
    told(
        "nft 'add table bridge dropping; add chain bridge dropping forward { type filter hook forward priority 0; policy drop; }'",
    );
    let wrong = machines::make(&plan, None).await.unwrap_err().to_string();
    assert!(wrong.contains("m1") && wrong.contains("m2") && wrong.contains("ACCEPT"), "{wrong}");
    told("nft delete table bridge dropping");

    assert!(matches!(machines::check(&plan).await, Err(GroundError::Taken(name)) if name == "here"));
    let overlapping = self::plan("there", "10.70.0.0/16");
    let wrong = machines::check(&overlapping).await.unwrap_err().to_string();
    assert!(wrong.contains("10.70.0.0/24") && wrong.contains("--subnet"), "{wrong}");

    assert_eq!(machines::remove(&plan).await, Vec::<String>::new());
    assert_eq!(everything(), before);
    assert_eq!(machines::remove(&plan).await, Vec::<String>::new(), "what is gone can be removed again");
}
