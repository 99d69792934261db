//! Real containers on the real kernel: needs root and busybox. The program is its own shim, as the agent's is, which is why
//! it has a main function of its own. Whatever a test makes has a unique name and is removed with its fixture.

#![allow(clippy::unwrap_used, reason = "these are tests, with a main function of their own")]

mod adoption;
mod confinement;
mod fixture;
mod lifecycle;
mod logs;
mod namespaces;
mod resources;
mod streams;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;

/// A test.
type Test = (&'static str, fn() -> futures::future::LocalBoxFuture<'static, ()>);

/// Names tests of a module.
macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        vec![$($((concat!(stringify!($module), "::", stringify!($name)), || $module::$name().boxed_local() as _)),+),+]
    };
}

/// No test takes longer than this; one that does has failed.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "shim") {
        return barque_containers::shim::main(&words[2..]);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let tests: Vec<Test> = tests! {
        lifecycle: a_program_runs_and_its_exit_code_is_told, a_missing_program_is_told_when_it_is_made,
            a_signal_and_then_an_end, a_second_stop_shortens_the_first, a_created_container_can_be_stopped,
            a_bad_mount_is_told_and_leaves_nothing, many_containers_at_once, names_are_taken_once,
            what_is_gone_is_removed, many_layers_are_one_root, changes_are_told, a_shim_is_small;
        logs: lines_are_in_the_form_of_cri, the_last_word_is_read, full_logs_are_rotated, a_log_is_begun_anew;
        streams: what_is_executed_answers, time_limits_are_kept, a_terminal_has_a_size,
            input_goes_in_and_output_comes_out, who_attaches_is_heard_and_hears, who_does_not_read_is_cut_off;
        confinement: users_and_directories_are_as_asked, rights_are_as_asked, files_are_protected,
            system_calls_are_filtered, the_privileged_see_devices;
        namespaces: containers_of_a_sandbox_share_what_they_should, processes_can_be_shared,
            a_host_sandbox_has_the_machines_namespaces, parameters_are_set_inside;
        resources: bounds_are_in_the_control_groups, short_memory_is_told, use_is_counted;
        adoption: containers_outlive_the_agent, a_dead_shim_is_noticed, a_dead_shim_is_found_later,
            nothing_is_left_after_a_cleanup, two_agents_do_not_share_a_directory, what_was_half_made_is_removed;
    };
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut failed = Vec::new();
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let begun = std::time::Instant::now();
        let limited = async { tokio::time::timeout(LONGEST, test()).await };
        let result = runtime.block_on(AssertUnwindSafe(limited).catch_unwind());
        let verdict = match result {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED: it took too long",
            Err(_) => "FAILED",
        };
        println!("test {name} ... {verdict} ({} ms)", begun.elapsed().as_millis());
        if verdict != "ok" {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("failed: {failed:?}");
        ExitCode::FAILURE
    }
}
