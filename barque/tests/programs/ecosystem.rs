//! What people run beside a cluster, as it is: Prometheus with the example's configuration, an operator made with kube's runtime,
//! releases of Helm. All on one cluster of three masters and two nodes, of which a master dies while they work.

mod operator;
mod prometheus;
mod releases;

use crate::containers::ground;
use crate::up::world::World;

#[test]
fn prometheus_an_operator_and_helm_work_and_lose_a_master() {
    if !ground::enter("ecosystem::prometheus_an_operator_and_helm_work_and_lose_a_master") {
        return;
    }
    let world = World::new('e');
    for node in ["n1", "n2"] {
        world.load_image(node);
    }
    world.done("up", &["--name", &world.name]);
    let prometheus = prometheus::Prometheus::start(&world);
    let operator = operator::Operator::start(&world);
    operator.keeps_ferries(&world);
    releases::are_made_changed_undone_and_taken_away(&world);
    if let Some(prometheus) = &prometheus {
        prometheus.sees_everything();
    }

    world.done("fault", &["kill", "m1"]);
    operator.goes_on(&world);
    if let Some(prometheus) = &prometheus {
        prometheus.misses("m1");
    }
    operator.ends();
    world.done("down", &[]);
}
