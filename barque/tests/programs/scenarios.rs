//! Scenarios: kubectl asks for things, and they come to be, while the controller manager and the scheduler that lead are killed
//! in the middle. Real API servers, a real store, hollow nodes. After each, the cluster is looked over.
//!
//! `SCENARIO=part_of_a_name` runs only those.

mod autoscaling;
mod ending;
mod history;
mod jobs;
mod nodes;
mod rolling;
mod world;

use std::time::Duration;

use history::History;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use world::World;

/// Runs the scenarios that are asked for, each with its name and its namespace.
macro_rules! run {
    ($world:expr, $history:expr, $($module:ident::$name:ident in $namespace:literal,)*) => {$(
        if asked_for(stringify!($name)) {
            let began = std::time::Instant::now();
            $module::$name($world, $history).await;
            over($world, $history, $namespace).await;
            eprintln!("{}: {} s", stringify!($name), began.elapsed().as_secs());
        }
    )*};
}

fn asked_for(name: &str) -> bool {
    name.contains(&std::env::var("SCENARIO").unwrap_or_default())
}

/// How long what seems to be wrong may take to become right: another leader has to come first.
const SETTLE: Duration = Duration::from_secs(20);

/// Nothing may be wrong with the cluster.
async fn look_over(world: &World) {
    let report = barque_lint::confirm(&world.client, SETTLE).await.unwrap();
    assert!(report.findings.is_empty(), "{}", report.table());
}

/// What must hold when a scenario is over; then its namespace goes.
async fn over(world: &World, history: &History, namespace: &str) {
    look_over(world).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    if namespaces.get_opt(namespace).await.unwrap().is_some() {
        history.is_sound(namespace).await;
        world.kubectl(&format!("kubectl delete namespace {namespace} --wait=false"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_comes_to_be_whoever_is_killed() {
    let mut world = World::start().await;
    let world = &mut world;
    let history = History::start(world.client.clone());
    let history = &history;
    let clock = asked_for("cron_jobs_came_by_the_clock");
    if clock {
        jobs::cron_jobs_begin(world).await;
    }
    run! { world, history,
        rolling::a_deployment_rolls_goes_back_and_scales in "rolling",
        rolling::a_stateful_set_rolls_in_order in "ordered",
        nodes::a_drained_node_is_left_within_budgets in "drained",
        nodes::pods_of_a_dead_node_run_elsewhere_until_it_comes_back in "lost",
        nodes::important_pods_are_made_room_for in "crowded",
        jobs::jobs_count_their_pods_and_fail_as_they_should in "jobs",
        ending::a_namespace_says_what_holds_it in "stuck",
        ending::a_quota_holds_pods_back_until_it_is_raised in "bounded",
        ending::dependents_go_after_before_or_without_their_owner in "owners",
        autoscaling::a_deployment_grows_and_shrinks_with_its_load in "busy",
        jobs::cron_jobs_came_by_the_clock in "clock",
    }
    // All of it goes again.
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    for namespace in namespaces.list(&ListParams::default()).await.unwrap() {
        let name = namespace.name_any();
        if namespace.metadata.deletion_timestamp.is_some() {
            world.kubectl(&format!("kubectl wait --for=delete namespace/{name} --timeout=120s"));
        }
    }
    assert_eq!(world.kubectl("kubectl get pods -A -o name").trim(), "");
    look_over(world).await;
}
