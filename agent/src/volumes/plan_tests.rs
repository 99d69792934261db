//! Tables of what is done for each kind of volume.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::claims::Backing;
use super::layout::Layout;
use super::mount_table::MountTable;
use super::payload::Payload;
use super::plan::{GroupWish, Seen, Step, Wanted, memory_bound, plan, plan_shm, size_limits};
use crate::containers::NodeFacts;
use crate::containers::mounts::MountedVolume;

fn run(wanted: Wanted, mounted: &str, wish: GroupWish) -> (Vec<String>, MountedVolume) {
    // What is mounted was ready, as it is after every success.
    let (mut steps, volume) = run_seen(wanted, mounted, wish, mounted != "/");
    steps.retain(|step| !step.starts_with("ready"));
    (steps, volume)
}

fn run_seen(wanted: Wanted, mounted: &str, wish: GroupWish, was_ready: bool) -> (Vec<String>, MountedVolume) {
    let layout = Layout::new("/r".into()).pod("u").unwrap();
    let table = MountTable::parse(&format!("1 1 0:1 / {mounted} rw - tmpfs tmpfs rw\n"));
    let seen = Seen { table: &table, was_ready };
    let plan = plan(&layout, "v", wanted, seen, wish, Some(1000));
    let told = |step: Step| match step {
        Step::MakeDirectory { path, mode } => format!("mkdir {} {mode:o}", path.display()),
        Step::MountMemory { path, kind, options, mode } => {
            format!("{kind} {} {options} {mode:o}", path.display())
        }
        Step::CheckHostPath { path, kind } => format!("check {} {kind}", path.display()),
        Step::Bind { from, to, read_only } => {
            format!("bind {} {} {read_only}", from.display(), to.display())
        }
        Step::Overlay { layers, to } => format!("overlay {layers:?} {}", to.display()),
        Step::Write { dir, payload, group } => {
            format!("write {} {} {group:?}", dir.display(), payload.len())
        }
        Step::Give { path, group, always } => {
            format!("give {} {} {} {always}", path.display(), group.gid, group.read_only)
        }
        Step::MarkReady(path) => format!("ready {}", path.display()),
    };
    (plan.steps.into_iter().map(told).collect(), plan.mounted)
}

fn empty(value: Value) -> Wanted {
    Wanted::Empty(serde_json::from_value(value).unwrap())
}

const NONE: GroupWish = GroupWish { gid: None, on_mismatch: false };
const SET: GroupWish = GroupWish { gid: Some(7), on_mismatch: false };
const EMPTY: &str = "/r/pods/u/volumes/kubernetes.io~empty-dir/v";

#[test]
fn empty_directories_are_on_disk_or_in_bounded_memory() {
    let at = |text: &str| text.replace('@', EMPTY);
    let table = [
        (json!({}), "/", NONE, vec!["mkdir @ 777"]),
        (json!({"mode": 0o700}), "/", NONE, vec!["mkdir @ 700"]),
        (json!({}), "/", SET, vec!["mkdir @ 777", "give @ 7 false true"]),
        (json!({"medium": "Memory"}), "/", NONE, vec!["mkdir @ 750", "tmpfs @ size=1000 777"]),
        (
            json!({"medium": "Memory", "sizeLimit": "500"}),
            "/",
            NONE,
            vec!["mkdir @ 750", "tmpfs @ size=500 777"],
        ),
        (
            json!({"medium": "Memory", "sizeLimit": "1Gi"}),
            "/",
            NONE,
            vec!["mkdir @ 750", "tmpfs @ size=1000 777"],
        ),
        (json!({"medium": "Memory"}), EMPTY, NONE, vec![]),
        (json!({"medium": "HugePages-2Mi"}), "/", NONE, vec!["mkdir @ 750", "hugetlbfs @ pagesize=2M 777"]),
    ];
    for (source, mounted, wish, expected) in table {
        let told = source.to_string();
        let (steps, volume) = run(empty(source), mounted, wish);
        assert_eq!(steps, expected.into_iter().map(at).collect::<Vec<_>>(), "{told}");
        assert_eq!((volume.path.to_str(), volume.read_only), (Some(EMPTY), false));
    }
}

#[test]
fn what_was_given_once_is_its_containers_own() {
    let ready = "ready /r/pods/u/plugins/v/ready".to_owned();
    let make = format!("mkdir {EMPTY} 777");
    let give = format!("give {EMPTY} 7 false true");
    assert_eq!(run_seen(empty(json!({})), "/", SET, false).0, [make.clone(), give.clone(), ready.clone()]);
    assert_eq!(run_seen(empty(json!({})), "/", SET, true).0, [make]);
    let memory = || empty(json!({"medium": "Memory"}));
    assert_eq!(run_seen(memory(), EMPTY, SET, false).0, [give.clone(), ready.clone()], "it was interrupted");
    assert_eq!(run_seen(memory(), EMPTY, SET, true).0, Vec::<String>::new());
    let after_a_reboot = run_seen(memory(), "/", SET, true).0;
    assert_eq!(after_a_reboot[2..], [give, ready]);
}

#[test]
fn secrets_are_in_memory_and_config_maps_are_not() {
    let files = |kind, in_memory| Wanted::Files { kind, in_memory, payload: Payload::new() };
    let secret = "/r/pods/u/volumes/kubernetes.io~secret/v";
    let (steps, volume) = run(files("secret", true), "/", NONE);
    let write = format!("write {secret} 0 None");
    let expected = [format!("mkdir {secret} 750"), format!("tmpfs {secret} size=1000 777"), write.clone()];
    assert_eq!(steps, expected);
    assert!(volume.read_only);
    assert_eq!(run(files("secret", true), secret, NONE).0, [write]);
    let map = "/r/pods/u/volumes/kubernetes.io~configmap/v";
    let group = "Some(Group { gid: 7, read_only: true })";
    let expected = [format!("mkdir {map} 777"), format!("write {map} 0 {group}")];
    assert_eq!(run(files("configmap", false), "/", SET).0, expected);
}

#[test]
fn claims_are_bound_once_and_given_to_the_group_then() {
    let claim =
        |backing, read_only| Wanted::Claim { backing, volume: "pv".into(), read_only, is_made_here: false };
    let to = "/r/pods/u/volumes/kubernetes.io~local-volume/pv";
    let bind = |read_only| {
        vec!["check /d Directory".to_owned(), format!("mkdir {to} 750"), format!("bind /d {to} {read_only}")]
    };
    let local = || Backing::Directory("/d".into());
    assert_eq!(run(claim(local(), false), "/", NONE).0, bind(false));
    let (steps, volume) = run(claim(local(), true), "/", SET);
    assert_eq!((steps, volume.read_only), (bind(true), true));
    let given = |always| [bind(false), vec![format!("give {to} 7 false {always}")]].concat();
    assert_eq!(run(claim(local(), false), "/", SET).0, given(true));
    let on_mismatch = GroupWish { gid: Some(7), on_mismatch: true };
    assert_eq!(run(claim(local(), false), "/", on_mismatch).0, given(false));
    assert_eq!(run(claim(local(), false), to, SET).0, Vec::<String>::new());
    let own = Wanted::Claim { backing: local(), volume: "pv".into(), read_only: false, is_made_here: true };
    assert_eq!(run(own, "/", NONE).0, [vec!["mkdir /d 777".to_owned()], bind(false)].concat());
    let device = run(claim(Backing::Device("/dev/x".into()), false), "/", SET);
    assert_eq!(device.0, ["check /dev/x BlockDevice"]);
    assert!(device.1.is_device);
    let host = Backing::HostPath { path: "/h".into(), kind: String::new() };
    let host = run(claim(host, true), "/", SET);
    assert_eq!((host.0, host.1.read_only), (vec!["check /h ".to_owned()], true));
}

#[test]
fn images_are_bound_or_stacked() {
    let to = "/r/pods/u/volumes/kubernetes.io~image/v";
    let one = run(Wanted::Image(vec!["/1".into()]), "/", NONE);
    assert_eq!(one.0, [format!("mkdir {to} 750"), format!("bind /1 {to} true")]);
    let two = run(Wanted::Image(vec!["/1".into(), "/2".into()]), "/", NONE);
    assert_eq!(two.0, [format!("mkdir {to} 750"), format!("overlay [\"/1\", \"/2\"] {to}")]);
    assert!(two.1.read_only && run(Wanted::Image(vec!["/1".into()]), to, NONE).0.is_empty());
}

#[test]
fn memory_is_bounded_by_the_pod_or_the_node() {
    let pod = |limits: Value| -> Pod {
        serde_json::from_value(
            json!({"spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]}}),
        )
        .unwrap()
    };
    let node: NodeFacts = NodeFacts {
        allocatable: [("memory".to_owned(), serde_json::from_value(json!("2Ki")).unwrap())].into(),
        ..NodeFacts::default()
    };
    assert_eq!(memory_bound(&pod(json!({"memory": "1Ki"})), &node), Some(1024));
    assert_eq!(memory_bound(&pod(json!({})), &node), Some(2048));
    assert_eq!(memory_bound(&pod(json!({})), &NodeFacts::default()), None);
    let layout = Layout::new("/r".into()).pod("u").unwrap();
    let steps = plan_shm(&pod(json!({})), &layout, &MountTable::default());
    assert!(
        matches!(&steps[1], Step::MountMemory { mode: 0o1777, options, .. } if options == "size=67108864")
    );
    let limited: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
        {"name": "a", "emptyDir": {"sizeLimit": "1Ki"}}, {"name": "b", "emptyDir": {}}]}}))
    .unwrap();
    assert_eq!(size_limits(&limited), [("a".to_owned(), 1024)].into());
}
