//! The image that tests run: busybox in an OCI archive, made without any tool. Must never come from elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Its name.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:test";

/// A script of bash: `ask HOST PORT` prints the page at `/`, or why there is none.
pub(crate) const ASK: &str = "#!/bin/bash\n\
    exec 3<>\"/dev/tcp/$1/$2\" || exit 1\n\
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3\n\
    while read -r line <&3 && [ \"${line%$'\\r'}\" ]; do :; done\n\
    cat <&3\n";

/// An image as registries keep it: one layer, its configuration and its manifest.
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
}

/// The media type of its manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Makes it; images with other text in their environment are others.
pub(crate) fn make(told: &str) -> Image {
    with_command(told, &["sh"])
}

fn with_command(told: &str, command: &[&str]) -> Image {
    let layer = layer();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin", format!("FROM_IMAGE={told}")], "Cmd": command, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    });
    let config = json_bytes(&config);
    let manifest = json_bytes(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    Image { layer, config, manifest }
}

/// Writes the archive.
pub(crate) fn write(directory: &Path) -> PathBuf {
    write_as(&directory.join("busybox.tar"), BUSYBOX, &["sh"])
}

/// Writes an archive with the same files, by another name, that runs something else.
pub(crate) fn write_as(path: &Path, name: &str, command: &[&str]) -> PathBuf {
    let mut archive = Tar::new(std::fs::File::create(path).unwrap());
    let image = with_command("yes", command);
    let mut of_manifest = descriptor(MANIFEST, &image.manifest);
    of_manifest["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [of_manifest]});
    for blob in [&image.layer, &image.config, &image.manifest] {
        archive.file(&format!("blobs/sha256/{}", digest(blob)), blob, 0o644);
    }
    archive.file("index.json", &json_bytes(&index), 0o644);
    archive.file("oci-layout", &json_bytes(&json!({"imageLayoutVersion": "1.0.0"})), 0o644);
    archive.end();
    path.to_owned()
}

fn json_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The digest of bytes with SHA-256, in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Busybox with all its names, and the users of a machine.
fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static brings it");
    let mut tar = Tar::new(Vec::new());
    for directory in ["bin/", "etc/", "tmp/", "root/", "srv/"] {
        tar.entry(directory, b'5', "", &[], if directory == "tmp/" { 0o1777 } else { 0o755 });
    }
    tar.file("bin/busybox", &busybox, 0o755);
    let names = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(names.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        tar.entry(&format!("bin/{name}"), b'1', "bin/busybox", &[], 0o755);
    }
    // The static busybox cannot look up names: who asks does it by the C library, as in most images.
    tar.file("bin/ask", ASK.as_bytes(), 0o755);
    // And it listens to no datagrams; perl, which every Debian has, does.
    let programs: BTreeSet<String> =
        ["/bin/bash", "/usr/bin/perl"].into_iter().flat_map(with_libraries).collect();
    for path in programs {
        let bytes = std::fs::read(&path).unwrap();
        let place = path.strip_prefix("/usr").unwrap_or(&path);
        tar.file(place.strip_prefix('/').unwrap(), &bytes, 0o755);
    }
    tar.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\n", 0o644);
    tar.file("etc/group", b"root:x:0:\nguest:x:1000:\nhelpers:x:2000:guest\n", 0o644);
    tar.end()
}

/// A program, and the libraries that it is linked to.
fn with_libraries(program: &str) -> Vec<String> {
    let output = std::process::Command::new("ldd").arg(program).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let libraries = told.split_whitespace().filter(|word| word.starts_with('/'));
    [program].into_iter().chain(libraries).map(str::to_owned).collect()
}

/// Writes an archive of tar.
struct Tar<W>(W);

impl<W: std::io::Write> Tar<W> {
    fn new(to: W) -> Self {
        Self(to)
    }

    fn file(&mut self, name: &str, bytes: &[u8], mode: u32) {
        self.entry(name, b'0', "", bytes, mode);
    }

    fn entry(&mut self, name: &str, kind: u8, link: &str, bytes: &[u8], mode: u32) {
        let mut head = [0_u8; 512];
        let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", bytes.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar");
        put(263, "00");
        head[156] = kind;
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&head).unwrap();
        self.0.write_all(bytes).unwrap();
        self.0.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
    }

    fn end(mut self) -> W {
        self.0.write_all(&[0; 1024]).unwrap();
        self.0
    }
}
