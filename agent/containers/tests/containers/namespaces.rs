//! What containers share, and with whom.

use barque_containers::Error;
use barque_containers::spec::{PidShare, Share};

use crate::fixture::{Fixture, processes};

pub(crate) async fn containers_of_a_sandbox_share_what_they_should() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("web").await;
    let script = "hostname; for n in net ipc uts; do readlink /proc/self/ns/$n; done; ip -o link show lo | grep -c LOWER_UP";
    let (_, first) = fixture.say(&sandbox, "one", &format!("{script}; echo x > /dev/shm/x; echo $$")).await;
    let (_, second) = fixture.say(&sandbox, "two", &format!("{script}; cat /dev/shm/x; echo $$")).await;
    let (first, second): (Vec<_>, Vec<_>) = (first.lines().collect(), second.lines().collect());
    assert_eq!(first[0], "web");
    assert_eq!(first[..5], second[..5]);
    assert_eq!(first[4], "1", "loopback is up");
    assert_eq!(second[5], "x", "memory is shared");
    assert_eq!((first[5], second[6]), ("1", "1"), "processes are not");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(first[1], own.to_str().unwrap());
    let path = fixture.containers.sandbox(&sandbox).unwrap().network_namespace.unwrap();
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(&path).unwrap().ino();
    assert_eq!(first[1], format!("net:[{inode}]"), "the file is the namespace");
}

pub(crate) async fn processes_can_be_shared() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.sandbox_spec("a");
    spec.pid = PidShare::Pod;
    let sandbox = spec.id.clone();
    fixture.containers.create_sandbox(spec).await.unwrap();
    let one = fixture.run(&sandbox, fixture.script("one", "sleep 601")).await;
    // An orphan of an orphan: the first process of the namespace gets it, and reaps it.
    let (_, said) = fixture
        .say(
            &sandbox,
            "two",
            "ps | grep -c 'sleep 60[1]'; sh -c '(sleep 0.1; exit 3) & exit 0'; sleep 0.5; \
             ps -o stat | grep -c Z; ls /proc/1/root | wc -l; echo $$ > /tmp/x; test $(cat /tmp/x) != 1 && echo not first",
        )
        .await;
    assert_eq!(said, "1\n0\n0\nnot first\n");
    assert!(fixture.containers.sandbox(&sandbox).unwrap().ready);
    // Without its first process, a namespace is over.
    let pause =
        processes(&format!("pause\0{}", fixture.path().join("run").canonicalize().unwrap().display()));
    let pause = if pause.is_empty() { processes(&format!("{sandbox}/empty")) } else { pause };
    assert_eq!(pause.len(), 1);
    let mut changes = fixture.containers.changes(&sandbox).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pause[0]).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(fixture.exit(&sandbox, &one).await.code, 137);
    while fixture.containers.sandbox(&sandbox).unwrap().ready {
        changes.changed().await.unwrap();
    }
}

pub(crate) async fn a_host_sandbox_has_the_machines_namespaces() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.sandbox_spec("a");
    (spec.network, spec.ipc, spec.pid) = (Share::Host, Share::Host, PidShare::Host);
    let sandbox = spec.id.clone();
    let state = fixture.containers.create_sandbox(spec).await.unwrap();
    assert_eq!(state.network_namespace, None);
    let script = "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; sleep 603 & exec sleep 602";
    let id = fixture.run(&sandbox, fixture.script("one", script)).await;
    for name in ["net", "ipc", "uts", "pid"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        fixture.heard("one", own.to_str().unwrap()).await;
    }
    fixture.containers.stop(&id, std::time::Duration::ZERO).await.unwrap();
    let exit = fixture.exit(&sandbox, &id).await;
    assert_eq!(exit.code, 137);
    fixture.containers.remove(&id).await.unwrap();
}

pub(crate) async fn parameters_are_set_inside() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.sandbox_spec("a");
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned());
    spec.sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    let sandbox = spec.id.clone();
    fixture.containers.create_sandbox(spec).await.unwrap();
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let (_, said) = fixture.say(&sandbox, "one", script).await;
    assert_eq!(said, "7\n1\n");
    for (name, value) in [("vm.swappiness", "1"), ("net.there.is.none", "1")] {
        let mut spec = fixture.sandbox_spec("b");
        spec.sysctls.insert(name.to_owned(), value.to_owned());
        let error = fixture.containers.create_sandbox(spec).await.unwrap_err();
        assert!(matches!(error, Error::Namespace(_)), "{error}");
    }
    assert_eq!(fixture.containers.sandboxes().unwrap().len(), 1);
}
