//! `barque doctor`: what is wrong with this master and its cluster, and with this machine as a node. Prints; must never change
//! anything.

use anyhow::Context as _;
use barque_cluster::doctor::{self, Finding, Patient};
use barque_cluster::leaf;
use barque_cluster::settings::ClusterSettings;
use clap::Parser;
use http::Uri;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::agent_args::CheckArgs;
use crate::cluster_args::{DoctorArgs, PlaceArgs};
use crate::cluster_command::{address_of, print, print_json, read, store_tls};
use crate::component_args::Output;
use crate::server_args::machine_name;
use crate::server_parts::Places;

/// Whether nothing has failed.
pub(crate) async fn doctor(args: DoctorArgs) -> anyhow::Result<bool> {
    let findings = examine(&args.place).await?;
    match args.output {
        Output::Table => print(&doctor::table(&findings)),
        Output::Json => print_json(&findings)?,
    }
    Ok(!doctor::has_failed(&findings))
}

/// Everything that is found. A master whose certificates are gone is looked at as well.
pub(crate) async fn examine(place: &PlaceArgs) -> anyhow::Result<Vec<Finding>> {
    let places = Places::in_directory(place.data_dir.clone());
    let (pki, path) = (places.pki(), places.settings());
    let text = read(&path)?.with_context(|| {
        format!(
            "--data-dir={}: there is no master in it (doctor is run on masters)",
            place.data_dir.display()
        )
    })?;
    let settings: ClusterSettings =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let own = pki.facts(leaf::STORE).ok().flatten();
    let name = own.as_ref().map_or_else(machine_name, |facts| facts.common_name.clone());
    let address = own.map_or(std::net::IpAddr::from([127, 0, 0, 1]), |facts| address_of(&facts));
    let config = administrator(&places).await.ok();
    let api = |url: &Uri| {
        let mut config = config.clone()?;
        config.cluster_url = url.clone();
        Client::try_from(config).ok()
    };
    let (store_dir, tls) = (places.store(), store_tls(&pki));
    let patient =
        Patient { name: &name, address, store_dir: &store_dir, pki: &pki, settings: &settings, tls: &tls };
    let mut findings = doctor::examine(&patient, api).await;
    findings.extend(kernel().await);
    Ok(findings)
}

/// How the administrator speaks to API servers.
async fn administrator(places: &Places) -> anyhow::Result<kube::Config> {
    let kubeconfig = Kubeconfig::read_from(places.kubeconfig(leaf::ADMIN))?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// What a node needs, read as if nothing was said, so from the agent's environment or as it is usual.
#[derive(Debug, Parser)]
struct Usual {
    #[command(flatten)]
    check: CheckArgs,
}

/// What the kernel can do of what a node needs, where there is one.
async fn kernel() -> Vec<Finding> {
    const CHECK: &str = "kernel";
    let usual = Usual::try_parse_from(["barque agent check"]).map_err(|error| error.to_string());
    let config = usual.and_then(|usual| usual.check.into_config().map_err(|error| error.to_string()));
    let config = match config {
        Ok(config) => config,
        Err(why) => return vec![Finding::skipped(CHECK, why)],
    };
    if !config.root_dir.exists() {
        let story = "no node on this machine; `barque agent check` tells whether one could be";
        return vec![Finding::skipped(CHECK, story)];
    }
    if !rustix::process::geteuid().is_root() {
        return vec![Finding::skipped(CHECK, "what a node needs can be tried by root alone")];
    }
    let found = match barque_agent::check::check(&config).await {
        Ok(found) => found,
        Err(error) => return vec![Finding::skipped(CHECK, format!("the trial did not work: {error}"))],
    };
    let missing: Vec<Finding> = found
        .iter()
        .filter(|it| !it.ok)
        .map(|it| {
            let advice = "a node on this machine needs it; `barque agent check` tells of all that it needs";
            Finding::failed(CHECK, format!("{} {}: {}", it.part, it.name, it.story), advice)
        })
        .collect();
    if !missing.is_empty() {
        return missing;
    }
    vec![Finding::ok(CHECK, format!("all {} things that a node needs are there", found.len()))]
}
