//! Real containers: pods on nodes that are network namespaces of this machine, with the agents as programs, a real API server
//! and a real store. Needs root; without it, says so and does nothing.

mod addresses;
mod claims;
mod datagrams;
mod failover;
mod goes_down;
pub(crate) mod ground;
pub(crate) mod images;
mod killed_agents;
mod leftovers;
mod lifecycle;
mod plugins;
mod pods;
mod pulls;
mod refusals;
mod registry;
mod resizes;
mod services;
mod short;
mod static_pods;
mod streams;
mod top;
pub(crate) mod world;

use world::World;

#[test]
fn pods_run_on_nodes_and_reach_each_other() {
    if !ground::enter("containers::pods_run_on_nodes_and_reach_each_other") {
        return;
    }
    let mut world = World::start(&["n1", "n2"]);
    leftovers::the_machine_is_found_fit(&world);
    pods::a_pod_runs_says_something_and_ends(&world);
    pods::what_runs_is_what_was_asked_for(&world);
    pods::an_agent_that_comes_back_restarts_nothing(&mut world);
    lifecycle::who_is_broken_is_restarted_and_says_why(&world);
    static_pods::what_a_file_describes_runs_and_is_told(&mut world);
    lifecycle::what_cannot_run_is_told(&world);
    lifecycle::what_objects_become_appears_in_volumes(&world);
    resizes::a_pod_gets_other_resources_while_it_runs(&world);
    streams::every_kubectl_reaches_into_containers(&world);
    top::top_tells_what_nodes_and_pods_use(&world);
    services::a_service_is_reached_from_everywhere_and_spreads_over_its_pods(&world);
    services::load_balancers_are_the_nodes_and_clients_keep_their_pod(&world);
    services::readiness_decides_who_is_asked(&world);
    services::policies_block_and_allow(&world);
    services::a_rolling_update_under_load_loses_no_request(&world);
    datagrams::who_keeps_asking_from_one_port_finds_the_next_pod(&world);
    killed_agents::agents_killed_under_load_lose_no_request(&mut world);
    leftovers::nothing_is_left_after_a_kill_and_a_cleanup(&mut world);
}

/// With a cluster of its own: what it does to a node would disturb others.
#[test]
fn nodes_that_are_short_of_something_have_pods_leave() {
    if !ground::enter("containers::nodes_that_are_short_of_something_have_pods_leave") {
        return;
    }
    let mut world = World::start(&["n1"]);
    short::who_holds_more_than_it_may_is_evicted(&mut world);
    goes_down::containers_end_in_their_order_before_the_machine_does(&mut world);
    short::a_node_with_a_full_disk_says_so_and_takes_no_pods(&mut world);
}

/// Beside the other one, with a cluster of its own: of both families of addresses, with registries.
#[test]
fn nodes_pull_images_are_lost_and_come_back() {
    if !ground::enter("containers::nodes_pull_images_are_lost_and_come_back") {
        return;
    }
    let mut registries = pulls::Registries::start();
    let mut world = World::start_with(&["n1", "n2", "n3"], true, &[registries.flag()]);
    refusals::what_a_machine_lacks_is_told(&world);
    failover::pods_are_on_one_node(&world);
    failover::a_node_is_lost(&mut world);
    // Meanwhile the cluster finds out.
    addresses::pods_and_services_have_addresses_of_both_families(&world);
    addresses::ports_of_hosts_lead_to_their_pods(&world);
    claims::what_a_pod_wrote_another_one_reads_on_the_same_node(&world);
    plugins::plugins_give_pods_their_networks_where_somebody_configured_them(&mut world);
    failover::its_pods_come_up_elsewhere(&world);
    failover::it_comes_back_without_them(&mut world);
    pulls::a_small_disk(&mut world, &registries);
    pulls::what_registries_have_runs_and_what_they_refuse_is_told(&world, &mut registries);
}
