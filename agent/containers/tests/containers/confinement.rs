//! What containers may and may not.

use barque_containers::spec::{Device, Seccomp, User};

use crate::fixture::Fixture;

pub(crate) async fn users_and_directories_are_as_asked() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "id -u; id -g; id -G; pwd; echo $NAME; echo $HOME");
    spec.process.user = User { uid: 1000, gid: 2000, additional_gids: vec![3000, 3001] };
    spec.process.cwd = "/made/for/it".into();
    spec.process.env.extend(["NAME=value with blanks".to_owned(), "HOME=/root".to_owned()]);
    let (exit, said) = fixture.said(&sandbox, spec).await;
    assert_eq!(exit.code, 0);
    assert_eq!(said, "1000\n2000\n2000 3000 3001\n/made/for/it\nvalue with blanks\n/root\n");

    // Also within a volume.
    let volume = fixture.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut spec = fixture.script("two", "pwd");
    spec.process.cwd = "/volume/made/for/it".into();
    spec.mounts.push(barque_containers::spec::Mount {
        destination: "/volume".into(),
        source: volume.to_str().unwrap().to_owned(),
        kind: "bind".into(),
        options: vec!["rbind".into()],
    });
    let (_, said) = fixture.said(&sandbox, spec).await;
    assert_eq!(said, "/volume/made/for/it\n");
    assert!(volume.join("made/for/it").is_dir());
}

pub(crate) async fn rights_are_as_asked() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/oom_score_adj";
    let field = |said: &str, name: &str| {
        let line =
            said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {said}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // With a filter, so that the capability that installs it would be seen.
    let mut spec = fixture.script("one", status);
    spec.seccomp = Seccomp::RuntimeDefault;
    spec.process.capabilities = vec!["CAP_CHOWN".to_owned(), "CAP_NET_ADMIN".to_owned()];
    spec.process.oom_score_adj = 500;
    let (_, said) = fixture.said(&sandbox, spec).await;
    let expected = format!("{:016x}", (1 << 0) | (1 << 12));
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(&said, name), expected, "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(field(&said, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&said, "NoNewPrivs"), "0");
    assert_eq!(field(&said, "Seccomp"), "2");
    assert!(said.ends_with("500\n"), "{said}");

    let mut spec = fixture.script("two", status);
    spec.process.user.uid = 1000;
    spec.process.no_new_privileges = true;
    // As guaranteed pods have it, as far as this machine's root may give it.
    spec.process.oom_score_adj = -997;
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let (_, said) = fixture.said(&sandbox, spec).await;
    assert!(said.ends_with("\n-997\n") || said.ends_with(&format!("\n{own}")), "{own}: {said}");
    assert_eq!(field(&said, "CapEff"), "0000000000000000");
    assert_eq!(field(&said, "NoNewPrivs"), "1");
    assert_eq!(field(&said, "Seccomp"), "0");
}

pub(crate) async fn files_are_protected() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let script = "echo x > /written && echo root is writable; echo x > /tmp/file && echo tmp is writable; \
        cat /proc/timer_list | wc -c; ls /proc/scsi 2>/dev/null | wc -l; echo 1 > /proc/sys/kernel/panic && echo sys is writable; \
        echo x > /sys/kernel/uevent_helper && echo sysfs is writable; ls /dev; mknod /tmp/x b 8 0 && cat /tmp/x && echo disk";
    let mut spec = fixture.script("one", script);
    spec.read_only_root = true;
    spec.masked_paths = ["/proc/timer_list", "/proc/scsi", "/proc/there-is-none"].map(Into::into).to_vec();
    spec.read_only_paths = ["/proc/sys"].map(Into::into).to_vec();
    spec.mounts.push(barque_containers::spec::Mount {
        destination: "/tmp".into(),
        source: "tmpfs".into(),
        kind: "tmpfs".into(),
        options: vec!["nosuid".into()],
    });
    let (_, said) = fixture.said(&sandbox, spec).await;
    for forbidden in ["root is writable", "sys is writable", "sysfs is writable", "disk"] {
        assert!(!said.lines().any(|line| line == forbidden), "{said}");
    }
    assert!(said.contains("tmp is writable\n0\n0\n"), "{said}");
    for device in
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "stdin"]
    {
        assert!(said.lines().any(|line| line == device), "{device} in {said}");
    }
    assert!(!said.contains("vda") && !said.contains("kmsg"), "{said}");
}

pub(crate) async fn system_calls_are_filtered() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let script = "mount -t tmpfs x /tmp || echo refused; unshare -U true || echo refused; echo fine";
    let mut spec = fixture.script("default", script);
    spec.seccomp = Seccomp::RuntimeDefault;
    // It has the right; the filter, made for those without, is in a file.
    let (exit, said) = fixture.said(&sandbox, spec).await;
    assert_eq!(exit.code, 0, "{said}");
    assert_eq!(said.matches("refused\n").count(), 2, "{said}");

    let profile = fixture.path().join("profile.json");
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
    std::fs::write(&profile, json).unwrap();
    let mut spec = fixture.script("file", "mkdir /x; echo $?; sleep 600");
    spec.seccomp = Seccomp::File(profile);
    let id = fixture.run(&sandbox, spec).await;
    fixture.heard("file", "1").await;
    let output = fixture.containers.exec_sync(&id, vec!["mkdir".into(), "/y".into()], None).await.unwrap();
    assert_eq!(output.code, 1, "what is executed is filtered as well");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not implemented"), "{output:?}");

    let mut spec = fixture.script("missing", "true");
    spec.seccomp = Seccomp::File("/there/is/none.json".into());
    let error = fixture.containers.create(&sandbox, spec).await.unwrap_err().to_string();
    assert!(error.contains("/there/is/none.json"), "{error}");
}

pub(crate) async fn the_privileged_see_devices() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "test -c /dev/kmsg && echo kmsg; touch /sys/fs/cgroup && grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; head -c 1 /dev/loop-control; echo open");
    spec.privileged = true;
    let (_, said) = fixture.said(&sandbox, spec).await;
    assert!(said.starts_with("kmsg\nrw\n"), "{said}");

    let mut spec = fixture.script("two", "head -c 4 /dev/mine | wc -c; test -c /dev/kmsg || echo none");
    spec.devices.push(Device {
        host_path: "/dev/zero".into(),
        container_path: "/dev/mine".into(),
        permissions: "r".into(),
    });
    let (_, said) = fixture.said(&sandbox, spec).await;
    assert_eq!(said, "4\nnone\n");
}
