//! What `barque up`, `barque down` and `barque fault` do with their words, and what they say. Must never decide what a cluster is.

use std::process::ExitCode;

use barque_local::{Progress, down, fault, up};

use crate::up_args::{DownArgs, FaultArgs, UpArgs, advice};
use crate::{FOUND, UNKNOWN, ended, process, sentence, usage};

/// Makes a cluster on this machine.
pub(crate) fn up(args: UpArgs) -> ExitCode {
    let asked = match args.into_up() {
        Ok(asked) => asked,
        Err(error) => return usage(&error),
    };
    ended(process::run(|stop| async move {
        let progress = Progress::new();
        let outcome = up::up(asked, &progress, stop).await;
        progress.end();
        match outcome? {
            up::Outcome::Started { plan, took } => {
                println!("the cluster is ready after {:.1}s\n", took.as_secs_f64());
                println!("{}", advice(&plan.directory, &plan.kubeconfig()));
            }
            up::Outcome::Running { plan, missing } => {
                println!("the cluster runs already; nothing was changed");
                for member in missing {
                    println!("{member} does not run; `barque fault restart {member}` starts it");
                }
                println!("\n{}", advice(&plan.directory, &plan.kubeconfig()));
            }
        }
        Ok(())
    }))
}

/// Takes a cluster of this machine away.
pub(crate) fn down(args: DownArgs) -> ExitCode {
    let words = args.directory.path().and_then(|directory| Ok((directory, std::env::current_exe()?)));
    let (directory, program) = match words {
        Ok(words) => words,
        Err(error) => return usage(&error),
    };
    let outcome = process::run(move |_| async move {
        let progress = Progress::new();
        let outcome = down::down(&directory, &program, args.keep_data, &progress).await;
        progress.end();
        Ok((outcome?, directory))
    });
    match outcome {
        Ok((down::Outcome::Nothing, directory)) => {
            println!("there is no cluster in {}", directory.display());
            ExitCode::SUCCESS
        }
        Ok((down::Outcome::Gone { left }, _)) => {
            for sentence in &left {
                eprintln!("left: {sentence}");
            }
            if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
        }
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Does harm to a member of a cluster of this machine, or undoes it.
pub(crate) fn fault(args: FaultArgs) -> ExitCode {
    let words = args.directory.path().and_then(|directory| Ok((directory, std::env::current_exe()?)));
    let (directory, program) = match words {
        Ok(words) => words,
        Err(error) => return usage(&error),
    };
    ended(process::run(move |stop| async move {
        let FaultArgs { fault, member, timeout, .. } = args;
        Ok(fault::fault(&directory, &program, &member, fault.into(), timeout, stop).await?)
    }))
}
