//! Machines on which an agent cannot work: each is told in a sentence, by the agent, which ends, and by the check beforehand.

use std::path::Path;
use std::process::{Command, Output};

use super::ground::{self, on_host};
use super::world::{World, address, address_v6};

const BARQUE: &str = env!("CARGO_BIN_EXE_barque");

/// Runs something on the host that has no agent yet.
fn on_bare_host(program: &str, words: &[String]) -> Output {
    on_host("n6", program.as_ref()).args(words).output().unwrap()
}

/// An agent that must end by itself, with these words.
fn ends(before: &[&str], words: &[String], told: &[&str]) {
    let mut all: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
    all.push(BARQUE.to_owned());
    all.extend(words.iter().cloned());
    let output = on_bare_host("env", &all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it goes on: {said}");
    for word in told {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// What the check finds missing, which it must.
fn finds(before: &[&str], flags: &[String], told: &[&str]) {
    let mut all: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
    all.extend([BARQUE, "agent", "check"].map(str::to_owned));
    all.extend(flags.iter().cloned());
    let output = on_bare_host("env", &all);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing: String = said.lines().filter(|line| line.contains("MISSING")).collect();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in told {
        assert!(missing.contains(word), "{word:?} is not missing: {said}");
    }
}

/// Flags of a words' list that the check has too.
fn where_it_is(words: &[String]) -> Vec<String> {
    let known = ["--root-dir=", "--run-dir=", "--port="];
    words.iter().filter(|word| known.iter().any(|flag| word.starts_with(flag))).cloned().collect()
}

fn full(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.display();
    ground::run(&format!(
        "mount -t tmpfs -o size=1m full {path}; dd if=/dev/zero of={path}/all bs=4k 2> /dev/null || true"
    ));
}

pub(crate) fn what_a_machine_lacks_is_told(world: &World) {
    ground::add_host("n6", &address("n6"), &address_v6("n6"));
    let words = world.agent_words("n6", &[]);

    // Whoever is not root, and root without its rights.
    ground::run(&format!("chmod 711 {}", world.cluster.directory.path().display()));
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    ends(&nobody, &words, &["--runtime=embedded and --runtime=cri need root"]);
    finds(&nobody, &[], &["containers need root"]);
    let bound = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    ends(&bound, &words, &["CAP_SYS_ADMIN"]);
    finds(&bound, &[], &["CAP_SYS_ADMIN"]);

    // A disk without room.
    let directory = world.directory("n6").join("full");
    full(&directory);
    let on_it = world.agent_words("n6", &[("root-dir", directory.join("root").display().to_string())]);
    ends(&[], &on_it, &["--root-dir", "No space left on device"]);
    finds(&[], &where_it_is(&on_it), &["--root-dir", "room"]);

    // Somebody else has the port.
    let listen = "socket(S,2,1,6); bind(S,pack('SnNx8',2,10250,0)) or die; listen(S,1); print STDOUT \"listens\\n\"; \
                  close STDOUT; sleep 1000";
    let mut other = on_host("n6", "perl".as_ref());
    let mut other = other
        .args(["-e", &format!("$| = 1; {listen}")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut other.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "listens\n");
    ends(&[], &words, &["0.0.0.0:10250 cannot be listened on; --address and --port say where", "in use"]);
    finds(&[], &where_it_is(&words), &["node API", "0.0.0.0:10250"]);
    other.kill().unwrap();
    other.wait().unwrap();

    // None of them left anything.
    let left = Command::new("nsenter")
        .args([
            "--net=/run/netns/n6",
            "sh",
            "-c",
            "ip -o link show | grep -o ' bq[^:@]*\\| barque[^:@]*'; nft list tables",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    ground::run(&format!("umount {}", directory.display()));
}
