//! What containers may use, and what they used.

use barque_containers::Hierarchies;
use barque_containers::spec::Resources;

use crate::fixture::{Fixture, control_groups};

/// What is in a file of a control group.
fn read(group: &str, controller: &str, file: &str) -> String {
    let found = control_groups(group);
    let directory = found
        .iter()
        .find(|path| path.ends_with(group) && path.components().any(|part| part.as_os_str() == controller))
        .or_else(|| found.iter().find(|path| path.ends_with(group)))
        .unwrap_or_else(|| panic!("{group} in {found:?}"));
    std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
}

pub(crate) async fn bounds_are_in_the_control_groups() {
    let fixture = Fixture::new().await;
    let mut spec = fixture.sandbox_spec("a");
    spec.resources =
        Resources { memory_bytes: Some(128 << 20), cpu_shares: Some(512), ..Resources::default() };
    let (sandbox, pod) = (spec.id.clone(), format!("{}/{}", fixture.prefix, spec.cgroup));
    fixture.containers.create_sandbox(spec).await.unwrap();
    let mut spec = fixture.script("one", "sleep 600");
    spec.resources = Resources {
        memory_bytes: Some(64 << 20),
        cpu_quota_us: Some(20_000),
        cpu_period_us: Some(100_000),
        pids: Some(50),
        ..Resources::default()
    };
    let id = fixture.run(&sandbox, spec).await;
    let container = format!("{pod}/{id}");
    if Hierarchies::find().unwrap().version() == 1 {
        assert_eq!(read(&pod, "memory", "memory.limit_in_bytes"), (128 << 20).to_string());
        assert_eq!(read(&pod, "cpu", "cpu.shares"), "512");
        assert_eq!(read(&container, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read(&container, "cpu", "cpu.cfs_quota_us"), "20000");
    } else {
        assert_eq!(read(&pod, "memory", "memory.max"), (128 << 20).to_string());
        assert_eq!(read(&container, "memory", "memory.max"), (64 << 20).to_string());
        assert_eq!(read(&container, "cpu", "cpu.max"), "20000 100000");
    }
    assert_eq!(read(&container, "pids", "pids.max"), "50");

    let less = Resources { memory_bytes: Some(32 << 20), pids: Some(20), ..Resources::default() };
    fixture.containers.update_resources(&id, less.clone()).await.unwrap();
    assert_eq!(read(&container, "pids", "pids.max"), "20");
    assert_eq!(fixture.state(&id).spec.resources, less);
}

pub(crate) async fn short_memory_is_told() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done");
    spec.resources.memory_bytes = Some(16 << 20);
    let (exit, _) = fixture.said(&sandbox, spec).await;
    assert!(exit.oom_killed, "{exit:?}");
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    let (exit, _) = fixture.say(&sandbox, "two", "true").await;
    assert!(!exit.oom_killed);
}

pub(crate) async fn use_is_counted() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; sleep 600";
    let id = fixture.run(&sandbox, fixture.script("one", script)).await;
    fixture.heard("one", "ready").await;
    let stats = fixture.containers.stats(&id).unwrap().unwrap();
    assert!(stats.cpu_ns > 1_000_000, "{stats:?}");
    assert!(stats.memory_usage > 0, "{stats:?}");
    assert!(stats.memory_working_set <= stats.memory_usage);
    assert!(stats.pids >= 1, "{stats:?}");
    let all = fixture.containers.sandbox_stats(&sandbox).unwrap().unwrap();
    assert!(all.cpu_ns >= stats.cpu_ns && all.memory_usage >= stats.memory_usage, "{all:?}");
    fixture.containers.stop(&id, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(fixture.containers.stats(&id).unwrap(), None);
}
