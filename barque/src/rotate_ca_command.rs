//! `barque certs rotate-ca`: how far the exchange of authorities is, for people and programs. Prints; must never decide.

use std::fmt::Write as _;

use barque_cluster::rotation::drive::{Driver, Found, Wish};
use barque_cluster::rotation::phase::{Kind, Lack, Member, Phase, Step};
use serde::Serialize;

use crate::cluster_args::RotateCaArgs;
use crate::cluster_command::{Master, print, print_json};
use crate::component_args::Output;

/// As programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    /// Nothing when there is no rotation.
    phase: Option<Phase>,
    /// Whether all that were waited for are ready for what follows.
    ready: bool,
    members: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    kind: Kind,
    name: String,
    /// Nothing for one that is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<Lack>,
    /// Whether it is not waited for.
    without: bool,
}

/// Goes on as far as members are; whether nobody that is waited for is behind.
pub(crate) async fn run(args: RotateCaArgs) -> anyhow::Result<bool> {
    let master = Master::open(&args.place)?;
    let driver = Driver::new(master.client().await?, master.authorities);
    let wish = Wish { only_look: args.status, again: args.again, finish: args.finish, without: args.without };
    let found = driver.go(&wish, args.timeout).await?;
    match args.output {
        Output::Json => print_json(&told(found.as_ref(), &wish))?,
        Output::Table => print(&table(found.as_ref(), &wish)),
    }
    let Some(found) = found else { return Ok(true) };
    let behind = found.behind().filter(|(member, _)| !wish.without.contains(&member.name));
    let names: Vec<&str> = behind.map(|(member, _)| member.name.as_str()).collect();
    anyhow::ensure!(
        !wish.finish || names.is_empty() || found.phase == Phase::Finished,
        "--finish: {} not ready: wait until they are; --without={} goes on and leaves them behind, who must then join anew",
        if names.len() == 1 { "a member is" } else { "members are" },
        names.join(",")
    );
    Ok(names.is_empty())
}

fn told(found: Option<&Found>, wish: &Wish) -> Told {
    let Some(found) = found else { return Told { phase: None, ready: true, members: Vec::new() } };
    let rows = found.members.iter().map(|(member, lack)| Row {
        kind: member.kind,
        name: member.name.clone(),
        lacks: *lack,
        without: wish.without.contains(&member.name),
    });
    Told { phase: Some(found.phase), ready: found.step != Step::Wait, members: rows.collect() }
}

fn table(found: Option<&Found>, wish: &Wish) -> String {
    let Some(found) = found else {
        return "no rotation of authorities has begun; without --status this command begins one\n".to_owned();
    };
    let is_shown = |member: &Member, lack: Option<Lack>| member.kind != Kind::Namespace || lack.is_some();
    let shown = found.members.iter().filter(|(member, lack)| is_shown(member, *lack));
    let wide = shown.clone().map(|(member, _)| member.name.len()).max().unwrap_or(0).max(4) + 2;
    let mut text = format!("PHASE      {}\n\n{:11}{:wide$}STATE\n", found.phase.word(), "KIND", "NAME");
    for (member, lack) in shown {
        let kind = match member.kind {
            Kind::Master => "master",
            Kind::Node => "node",
            Kind::Namespace => "namespace",
        };
        let state = lack.map_or("ready", |lack| lack.told(member.kind));
        let left =
            if lack.is_some() && wish.without.contains(&member.name) { " (not waited for)" } else { "" };
        let _ = writeln!(text, "{kind:11}{:wide$}{state}{left}", member.name);
    }
    text.push('\n');
    text.push_str(next(found));
    for (member, _) in found.behind().filter(|(member, _)| wish.without.contains(&member.name)) {
        text.push_str(&left_behind(member, found.phase));
    }
    text
}

/// What there is to do, in a sentence.
fn next(found: &Found) -> &'static str {
    match found.step {
        Step::Wait | Step::To(_) => {
            "some are behind; they catch up by themselves, and this command goes on when it is run again\n"
        }
        Step::AskForFinish => {
            "everything that runs shows certificates of the new authority. Hand out new kubeconfigs (`barque kubeconfig`), restart pods \
             that read their authority only when they start, then --finish: the old authority is not trusted any more\n"
        }
        Step::Done => {
            "the new authority alone is trusted; tokens of before that are kept elsewhere let no machine join any more\n"
        }
    }
}

/// What somebody needs who is not waited for.
fn left_behind(member: &Member, phase: Phase) -> String {
    let name = &member.name;
    match (member.kind, phase) {
        (Kind::Namespace, _) => format!("{name}: its map kube-root-ca.crt must be put right by hand\n"),
        (_, Phase::Trust | Phase::Sign | Phase::Renew) => {
            format!("{name}: catches up if it comes back before --finish, and must join anew afterwards\n")
        }
        (Kind::Master, Phase::Finished) => format!(
            "{name}: must join anew: remove its data directory, and start it with --join and a token of `barque token create --master`\n"
        ),
        (Kind::Node, Phase::Finished) => format!(
            "{name}: must join anew: remove `cluster` in its root directory, and start it with --join and a token of `barque token \
             create`; one with a kubeconfig of its own needs another one\n"
        ),
    }
}
