//! What every runtime of an agent has to do, asked of each of them: hollow, embedded, and cri over Debian's containerd. Needs root
//! for those with real containers. The program is its own shim, as the agent's is, which is why it has a main function of its own.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests, with a main function of their own")]

mod containerd;
mod contract;
mod ground;
#[allow(dead_code, reason = "a registry of images is another test's")]
#[path = "../../../barque/tests/programs/containers/images.rs"]
mod images;
mod inside;
mod served;
mod subjects;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use self::subjects::{Cri, Embedded, Hollow, Subject};

/// No test takes longer than this; one that does has failed.
const LONGEST: Duration = Duration::from_secs(120);

type Body<S> = for<'a> fn(&'a mut S) -> LocalBoxFuture<'a, ()>;
type Test<S> = (&'static str, Body<S>);

/// Names tests of a module.
macro_rules! tests {
    ($subject:ty, $module:ident: $($name:ident),+) => {
        vec![$((stringify!($name), (|subject| $module::$name(subject).boxed_local()) as Body<$subject>)),+]
    };
}

/// What all of them have to do.
macro_rules! contract {
    ($subject:ty) => {
        tests! { $subject, contract: a_sandbox_is_made_once_and_taken_away, an_image_is_there_or_cannot_be_had,
            how_a_container_ended_is_told, a_new_attempt_follows_and_the_one_before_is_told, who_listens_stops_by_itself,
            who_does_not_listen_is_killed, a_second_stop_shortens_the_first, what_is_known_outlives_the_sandbox,
            another_agent_takes_over, bounds_change_while_it_runs }
    };
}

/// What those with real containers have to do beside.
macro_rules! inside {
    ($subject:ty) => {
        tests! { $subject, inside: what_it_says_is_in_its_log, a_container_is_what_its_pod_says, commands_run_in_it,
            who_attaches_is_heard_and_hears, its_ports_are_reached, probes_and_hooks_are_answered, what_it_uses_is_counted,
            who_cannot_be_started_says_why, shared_memory_and_processes_are_the_pods }
    };
}

async fn run<S: Subject>(name: &str, tests: Vec<Test<S>>, filters: &[String], failed: &mut Vec<String>) {
    let wanted = |test: &str| {
        let full = format!("{name}::{test}");
        filters.is_empty() || filters.iter().any(|filter| full.contains(filter.as_str()))
    };
    let tests: Vec<_> = tests.into_iter().filter(|(test, _)| wanted(test)).collect();
    if tests.is_empty() {
        return;
    }
    let mut subject = S::begin().await;
    for (test, body) in tests {
        let begun = Instant::now();
        let limited = tokio::time::timeout(LONGEST, body(&mut subject));
        let verdict = match AssertUnwindSafe(limited).catch_unwind().await {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED: it took too long",
            Err(_) => "FAILED",
        };
        println!("test {name}::{test} ... {verdict} ({} ms)", begun.elapsed().as_millis());
        if verdict != "ok" {
            failed.push(format!("{name}::{test}"));
            println!("{}", subject.told());
        }
    }
    subject.end().await;
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "shim") {
        return barque_containers::shim::main(&words[2..]);
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !ground::is_inside() {
        return ground::enter();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failed = Vec::new();
    runtime.block_on(async {
        run::<Hollow>("hollow", contract!(Hollow), &filters, &mut failed).await;
        if is_root {
            ground::prepare();
            let both = |mut tests: Vec<Test<Embedded>>| {
                tests.extend(inside!(Embedded));
                tests.extend(
                    tests! { Embedded, served: tools_see_what_runs, tools_end_what_runs_and_make_nothing,
                    another_agent_reaches_into_it, a_socket_is_taken_over_and_nothing_else },
                );
                tests
            };
            run("embedded", both(contract!(Embedded)), &filters, &mut failed).await;
            let both = |mut tests: Vec<Test<Cri>>| {
                tests.extend(inside!(Cri));
                tests
            };
            run("cri", both(contract!(Cri)), &filters, &mut failed).await;
        } else {
            eprintln!("skipped: embedded and cri need root, for namespaces and containers");
        }
    });
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("failed: {failed:?}");
        ExitCode::FAILURE
    }
}
