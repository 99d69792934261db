//! The processes of a cluster: started in their order, known, broken, started again, and gone with all that belonged to them.
//! Masters are programs of the test here that only say that they are ready; the front is the real one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_local::Progress;
use barque_local::down;
use barque_local::fault::{Fault, FaultError, fault};
use barque_local::plan::Role;
use barque_local::state::State;
use barque_local::up::{Outcome, Up, UpError, up};
use base64::Engine as _;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::containers::ground;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine's part of a test.
struct World {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(directory.path());
        let authority =
            base64::engine::general_purpose::STANDARD.encode(std::fs::read(certificates.ca).unwrap());
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, users: [], contexts: [{{name: c, context: {{cluster: c, user: u}}}}],\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1', certificate-authority-data: {authority}}}}}]}}\n"
        );
        std::fs::write(directory.path().join("admin.kubeconfig"), kubeconfig).unwrap();
        let program = directory.path().join("program");
        let text = format!(
            "#!/bin/sh\n\
             [ \"$1\" = server ] || exec {barque} \"$@\"\n\
             for word in \"$@\"; do case $word in --name=*) name=${{word#*=}};; --data-dir=*) data=${{word#*=}};; esac; done\n\
             cp {home}/admin.kubeconfig $data\n\
             echo $name >> {home}/order\n\
             [ -e {home}/broken-$name ] && {{ echo 'the disk is full' >&2; exit 3; }}\n\
             echo 'the master is ready' >&2\n\
             exec sleep 100000\n",
            barque = env!("CARGO_BIN_EXE_barque"),
            home = directory.path().display(),
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, program }
    }

    fn cluster(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    fn asked(&self) -> Up {
        Up {
            name: Some("procs".to_owned()),
            masters: None,
            nodes: Some(0),
            subnet: Some("10.71.0.0/24".to_owned()),
            listen: Some("127.0.0.1:16443".parse().unwrap()),
            is_on_loopback: false,
            directory: self.cluster(),
            restore: None,
            manifests: Vec::new(),
            timeout: PATIENCE,
            keep: false,
            program: self.program.clone(),
        }
    }

    async fn up(&self) -> Result<Outcome, UpError> {
        up(self.asked(), &Progress::new(), CancellationToken::new()).await
    }

    async fn down(&self, keep_data: bool) -> down::Outcome {
        down::down(&self.cluster(), &self.program, keep_data, &Progress::new()).await.unwrap()
    }

    async fn fault(&self, member: &str, what: Fault) -> Result<(), FaultError> {
        fault(&self.cluster(), &self.program, member, what, PATIENCE, CancellationToken::new()).await
    }

    fn state(&self) -> State {
        State::load(&self.cluster()).unwrap().unwrap()
    }

    /// Who was started, in this order.
    fn order(&self) -> Vec<String> {
        let path = self.directory.path().join("order");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

/// The words of all processes of this namespace of processes that are not the test's.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let words = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let words = words.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
    words.filter(|words| words.starts_with("sleep 100000") || words.contains(" front ")).collect()
}

fn machines() -> Vec<String> {
    let names = |path: &str| std::fs::read_dir(path).unwrap().flatten().map(|entry| entry.file_name());
    let all = names("/run/netns").chain(names("/sys/class/net"));
    all.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("procs")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_started_broken_mended_stopped_and_gone() {
    if !ground::enter("up::processes::they_are_started_broken_mended_stopped_and_gone") {
        return;
    }
    // The listing of links is that of the namespace which has mounted it.
    ground::run("ip link set lo up; mount -t sysfs sysfs /sys");
    let world = World::new();
    assert_eq!(world.down(false).await, down::Outcome::Nothing);
    let Outcome::Started { plan, .. } = world.up().await.unwrap() else { panic!("it did not run before") };
    assert_eq!(world.order(), ["m1", "m2", "m3"]);
    assert_eq!(world.state().running(), ["m1", "m2", "m3", "front"]);
    assert_eq!(plan.count(Role::Master), 3);
    let kubeconfig = std::fs::read_to_string(plan.kubeconfig()).unwrap();
    assert!(kubeconfig.contains("https://127.0.0.1:16443"), "{kubeconfig}");
    let secret = std::fs::metadata(plan.kubeconfig()).unwrap().permissions().mode();
    assert_eq!(secret & 0o777, 0o600);

    // A second time nothing happens.
    let Outcome::Running { missing, .. } = world.up().await.unwrap() else { panic!("it runs") };
    assert!(missing.is_empty() && world.order().is_empty());

    // Faults.
    let before = world.state().process("m2").unwrap();
    world.fault("m2", Fault::Kill).await.unwrap();
    assert_eq!(world.state().running(), ["m1", "m3", "front"]);
    let told = world.fault("m2", Fault::Pause).await.unwrap_err().to_string();
    assert!(told.contains("barque fault restart m2"), "{told}");
    let Outcome::Running { missing, .. } = world.up().await.unwrap() else { panic!("it runs") };
    assert_eq!(missing, ["m2"]);
    world.fault("m2", Fault::Restart).await.unwrap();
    let after = world.state().process("m2").unwrap();
    assert_ne!(after, before);
    // It is a child of the test, which is told of both.
    let told_of = |what| {
        let pid = rustix::process::Pid::from_raw(after.pid).unwrap();
        waitid(WaitId::Pid(pid), what).unwrap().unwrap()
    };
    world.fault("m2", Fault::Pause).await.unwrap();
    assert!(told_of(WaitIdOptions::STOPPED).stopped());
    world.fault("m2", Fault::Resume).await.unwrap();
    assert!(told_of(WaitIdOptions::CONTINUED).continued());
    world.fault("m3", Fault::Partition).await.unwrap();
    assert_eq!(std::fs::read_to_string("/sys/class/net/procs-m3/operstate").unwrap().trim(), "down");
    world.fault("m3", Fault::Heal).await.unwrap();
    let told = world.fault("m4", Fault::Kill).await.unwrap_err().to_string();
    assert!(told.contains("m1, m2, m3, front"), "{told}");
    assert!(matches!(world.fault("front", Fault::Partition).await, Err(FaultError::NoLink(_))));

    // Stopped, also one that is paused, and started again with its data.
    world.fault("m1", Fault::Pause).await.unwrap();
    assert_eq!(world.down(true).await, down::Outcome::Gone { left: Vec::new() });
    assert_eq!((processes(), machines()), (Vec::new(), Vec::new()));
    assert!(world.cluster().join("m1/log").exists());
    world.order();
    let other = Up { masters: Some(1), ..world.asked() };
    let told = up(other, &Progress::new(), CancellationToken::new()).await.unwrap_err().to_string();
    assert!(told.contains("--masters=3") && told.contains("--masters=1"), "{told}");
    assert!(matches!(world.up().await.unwrap(), Outcome::Started { .. }));
    let mut order = world.order();
    order.sort();
    assert_eq!(order, ["m1", "m2", "m3"]);

    assert_eq!(world.down(false).await, down::Outcome::Gone { left: Vec::new() });
    assert_eq!((processes(), machines(), world.cluster().exists()), (Vec::new(), Vec::new(), false));
    assert_eq!(world.down(false).await, down::Outcome::Nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_about_is_taken_away_again() {
    if !ground::enter("up::processes::what_does_not_come_about_is_taken_away_again") {
        return;
    }
    ground::run("mount -t sysfs sysfs /sys");
    let world = World::new();
    std::fs::write(world.directory.path().join("broken-m2"), "").unwrap();
    let told = world.up().await.unwrap_err().to_string();
    assert!(told.contains("m2 has ended") && told.contains("the disk is full"), "{told}");
    assert_eq!(world.order(), ["m1", "m2"]);
    assert_eq!((processes(), machines(), world.cluster().exists()), (Vec::new(), Vec::new(), false));

    // Unless it is to be looked at.
    let kept = Up { keep: true, ..world.asked() };
    assert!(up(kept, &Progress::new(), CancellationToken::new()).await.is_err());
    assert_eq!(world.state().running(), ["m1"]);
    assert_eq!(world.down(false).await, down::Outcome::Gone { left: Vec::new() });

    // Who does not want to wait does not, and a mistake changes nothing.
    std::fs::remove_file(world.directory.path().join("broken-m2")).unwrap();
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert!(matches!(up(world.asked(), &Progress::new(), stopped).await, Err(UpError::Stopped)));
    let mistakes: BTreeMap<&str, Up> = BTreeMap::from([
        ("--masters=0", Up { masters: Some(0), ..world.asked() }),
        ("--subnet", Up { subnet: Some("10.9.0.0/24".to_owned()), ..world.asked() }),
        ("-f /nowhere", Up { manifests: vec!["/nowhere".into()], ..world.asked() }),
    ]);
    for (flag, asked) in mistakes {
        let told = up(asked, &Progress::new(), CancellationToken::new()).await.unwrap_err().to_string();
        assert!(told.contains(flag), "{told}");
    }
    assert_eq!((processes(), machines(), world.cluster().exists()), (Vec::new(), Vec::new(), false));
    let told = world.fault("m1", Fault::Kill).await.unwrap_err().to_string();
    assert!(told.contains("barque up"), "{told}");
    assert!(!Path::new("/run/barque-up/procs").exists());
}
