//! The night when masters die, as `make up` runs it. It takes longest, and begins first by its name. Must never know what happens in it.

use std::path::Path;
use std::process::Command;

use crate::containers::ground;
use crate::up::world::World;

#[test]
fn masters_die_and_nothing_acknowledged_is_lost() {
    if !ground::enter("all_night::masters_die_and_nothing_acknowledged_is_lost") {
        return;
    }
    let world = World::new('n');
    let night = Path::new(env!("CARGO_BIN_EXE_barque")).with_file_name("examples/night");
    let output = Command::new(&night)
        .arg("--dir")
        .arg(world.cluster())
        .args(["--name", &world.name])
        .output()
        .unwrap_or_else(|error| {
            panic!("{}, which `cargo build --example night` makes: {error}", night.display())
        });
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for fault in ["kill", "pause", "partition", "replace"] {
        for master in ["m1", "m2", "m3"] {
            assert!(told.contains(&format!("{fault} {master}, which")), "{told}");
        }
    }
    assert_eq!(told.matches("lost: 0\n").count(), 2, "{told}");
    assert!(told.contains("replaced or restarted without a cause: 0\n"), "{told}");
    world.nothing_is_left();
}
