//! Real containers: pods on nodes that are network namespaces of this machine, with the agents as programs, a real API server
//! and a real store. Needs root; without it, says so and does nothing.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod certificates;
mod cluster;
#[path = "containers/ground.rs"]
mod ground;
#[path = "containers/images.rs"]
mod images;
#[path = "containers/leftovers.rs"]
mod leftovers;
#[path = "containers/lifecycle.rs"]
mod lifecycle;
#[path = "containers/pods.rs"]
mod pods;
#[path = "containers/services.rs"]
mod services;
#[path = "containers/streams.rs"]
mod streams;
#[path = "containers/top.rs"]
mod top;
#[path = "containers/world.rs"]
mod world;

use world::World;

#[test]
fn pods_run_on_nodes_and_reach_each_other() {
    if !ground::enter("pods_run_on_nodes_and_reach_each_other") {
        return;
    }
    let mut world = World::start(&["n1", "n2"]);
    leftovers::the_machine_is_found_fit(&world);
    pods::a_pod_runs_says_something_and_ends(&world);
    pods::what_runs_is_what_was_asked_for(&world);
    pods::an_agent_that_comes_back_restarts_nothing(&mut world);
    lifecycle::who_is_broken_is_restarted_and_says_why(&world);
    lifecycle::what_cannot_run_is_told(&world);
    lifecycle::what_objects_become_appears_in_volumes(&world);
    streams::every_kubectl_reaches_into_containers(&world);
    top::top_tells_what_nodes_and_pods_use(&world);
    services::a_service_is_reached_from_everywhere_and_spreads_over_its_pods(&world);
    services::load_balancers_are_the_nodes_and_clients_keep_their_pod(&world);
    services::readiness_decides_who_is_asked(&world);
    services::policies_block_and_allow(&world);
    services::a_rolling_update_under_load_loses_no_request(&world);
    leftovers::nothing_is_left_after_a_kill_and_a_cleanup(&mut world);
}
