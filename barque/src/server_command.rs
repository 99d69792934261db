//! `barque server`: a master's parts in one process, started in order and stopped in the other one. Owns all of them: when one
//! cannot go on, none does. Must never know what a part decides.
//!
//! 1. authorities: those that are there, those of the cluster that is joined, or new ones
//! 2. certificates and kubeconfigs of this master
//! 3. a place among the members of the store, if it has none
//! 4. store, API server over it in this process, what the cluster keeps of its masters
//! 5. controllers, scheduler and manifests, if they run here, over their own API server: when its store has no majority, others take
//!    their leases

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use barque_apiserver::metrics::PartMetrics;
use barque_apiserver::storage::member::MemberStorage;
use barque_client::servers::{Servers, Source, connect};
use barque_cluster::authority::{Authority, Pair};
use barque_cluster::files::{self, Readers};
use barque_cluster::leaf::{self, Signer};
use barque_cluster::membership::Members;
use barque_cluster::pki::{Authorities, Certificates};
use barque_cluster::restored::{self, RestoredError};
use barque_cluster::rotation::follow;
use barque_cluster::settings::ClusterSettings;
use barque_cluster::token::{Credential, Token};
use barque_cluster::{keep, kubeconfig, master_join, objects, renewal};
use barque_store::offline::restore::{Request, Target, restore as offline_restore};
use barque_store::storage::data_dir::has_identity;
use clap::Parser;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apiserver_args::ApiserverArgs;
use crate::controller_manager_args::ControllerManagerArgs;
use crate::notify;
use crate::part_choice::Parts;
use crate::scheduler_args::SchedulerArgs;
use crate::server_args::MasterPlan;
use crate::server_parts::{self as parts, Birth, Places};
use crate::store_args::StoreArgs;
use crate::uninstall_command::LEFT;

/// How long until it is tried again to write what the cluster keeps of its masters.
const AGAIN: Duration = Duration::from_secs(1);

/// Programs that knew a later state of the cluster that was saved must see that this is not its continuation: revisions leap by
/// more than it can have gone on (what etcd's operators are advised to do for Kubernetes).
const REVISIONS_APART: u64 = 1_000_000_000;

/// Words of a part, read as if it were started by itself; a flag that was given further counts more.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Words<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn read<A: clap::Args>(part: &str, words: Vec<String>) -> anyhow::Result<A> {
    let words = std::iter::once(format!("barque {part}")).chain(words);
    let read = Words::<A>::try_parse_from(words).map_err(|error| {
        // The first line says what is wrong; the rest is about a command that nobody typed.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        anyhow::anyhow!("--{part}-arg: {line}")
    })?;
    Ok(read.args)
}

/// What a master has in its directory before its parts start.
struct Prepared {
    authorities: Authorities,
    settings: ClusterSettings,
    birth: Birth,
    leaves: Vec<leaf::Leaf>,
}

/// Runs a master until `stop`.
pub(crate) async fn run(plan: MasterPlan, stop: CancellationToken) -> anyhow::Result<()> {
    let preparing = prepare(&plan);
    let Some(prepared) = stop.run_until_cancelled(preparing).await else { return Ok(()) };
    let prepared = prepared?;
    let Prepared { settings, birth, leaves, .. } = &prepared;

    let store = read::<StoreArgs>("store", parts::store(&plan, settings, birth))?.into_config()?;
    let mut apiserver =
        read::<ApiserverArgs>("apiserver", parts::apiserver(&plan, settings))?.into_config()?;
    let wrong = |error: Box<dyn std::error::Error>| anyhow::anyhow!("{error}");
    let controllers = match plan.parts.controllers {
        true => {
            let words = parts::controller_manager(&plan, settings);
            Some(read::<ControllerManagerArgs>("controller-manager", words)?.into_config().map_err(wrong)?)
        }
        false => None,
    };
    let scheduler = match plan.parts.scheduler {
        true => {
            let words = parts::scheduler(&plan);
            Some(read::<SchedulerArgs>("scheduler", words)?.into_config().map_err(wrong)?)
        }
        false => None,
    };
    let manifests = match plan.parts.manifests {
        true => Some(parts::manifests(&plan, manifests_key(&Places::of(&plan))?)),
        false => None,
    };

    let Some(member) = barque_store::server::start(store, &stop).await? else { return Ok(()) };
    // The store goes on until everything else has ended.
    let (store_stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let counted = Counted::default();
    apiserver.parts = counted.told(plan.parts, Arc::clone(member.metrics()));
    let certificate = parts::store_client(&plan);
    let storage = MemberStorage::new(member.member().clone()).with_client_certificate(&certificate)?;
    let serving = tokio::spawn({
        let (stop, ended) = (store_stop.clone(), ended.clone());
        async move {
            let outcome = member.serve_until(&stop).await;
            ended.cancel();
            outcome
        }
    });
    let above = above_the_store(
        &plan,
        &prepared,
        storage,
        Above { apiserver, controllers, scheduler, manifests, counted },
        &stop,
    );
    let renewing_stop = stop.child_token();
    let renewing = renewal::run(Places::of(&plan).pki(), leaves.clone(), renewing_stop.clone());
    let renewing = tokio::spawn(renewing);
    let outcome = tokio::select! {
        // Biased: what the store says of its end is what the others only suffer from.
        biased;
        () = ended.cancelled() => Ok(()),
        outcome = above => outcome,
    };
    renewing_stop.cancel();
    renewing.await.context("renewing certificates panicked")?;
    store_stop.cancel();
    serving.await.context("the store panicked")??;
    outcome
}

/// What the parts above the API server count: made before it starts, so that it can tell of them.
#[derive(Default)]
struct Counted {
    controllers: barque_controllers::metrics::Metrics,
    scheduler: barque_scheduler_driver::Metrics,
}

impl Counted {
    /// Those of the parts that run.
    fn told(&self, parts: Parts, store: Arc<barque_store::metrics::Metrics>) -> PartMetrics {
        let (controllers, scheduler) = (self.controllers.clone(), self.scheduler.clone());
        let mut told = PartMetrics::default().with("store", move || store.text());
        if parts.controllers {
            told = told.with("controllers", move || controllers.text());
        }
        if parts.scheduler {
            told = told.with("scheduler", move || scheduler.text());
        }
        told
    }
}

/// What the parts above the store are told, and count.
struct Above {
    apiserver: barque_apiserver::config::ValidConfig,
    /// Nothing when there are none.
    controllers: Option<barque_controllers::config::ValidConfig>,
    /// Nothing when there is none.
    scheduler: Option<barque_scheduler_driver::config::ValidConfig>,
    /// Nothing when there are none.
    manifests: Option<barque_manifests::Config>,
    counted: Counted,
}

/// API server, controllers, scheduler and manifests.
async fn above_the_store(
    plan: &MasterPlan,
    prepared: &Prepared,
    storage: MemberStorage,
    above: Above,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Above { apiserver, controllers, scheduler, manifests, counted } = above;
    let api = barque_apiserver::server::start_on(apiserver, storage).await?;
    let kept = async {
        api.wait_until_kept().await;
        loop {
            match keep_cluster(plan, prepared).await {
                Ok(()) => return Ok(()),
                Err(error) if error.downcast_ref().is_some_and(|it: &RestoredError| !it.may_pass()) => {
                    return Err(error);
                }
                // A store that elects or has no majority is no reason to end: it is tried again.
                Err(error) => {
                    tracing::warn!("what the cluster keeps of its masters is not written yet: {error:#}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    match stop.run_until_cancelled(kept).await {
        Some(Ok(())) => {}
        early => {
            api.stop().await;
            return early.unwrap_or(Ok(()));
        }
    }
    // One that cannot go on stops the others.
    let stop = stop.child_token();
    let mut works = JoinSet::new();
    works.spawn({
        let (rotating, plan, stop) = (rotating(plan, prepared), plan.clone(), stop.clone());
        async move {
            rotating.follow(client(&plan).await.context("authorities")?, stop).await;
            Ok(())
        }
    });
    if let Some(controllers) = controllers {
        let (metrics, stop) = (counted.controllers, stop.clone());
        works.spawn(async move {
            barque_controllers::run(controllers, metrics, stop).await.context("controllers")
        });
    }
    if let Some(scheduler) = scheduler {
        let (metrics, stop) = (counted.scheduler, stop.clone());
        works.spawn(async move {
            barque_scheduler_driver::run(scheduler, metrics, stop).await.context("scheduler")
        });
    }
    if let Some(manifests) = manifests {
        let stop = stop.clone();
        works.spawn(async move { barque_manifests::run(manifests, stop).await.context("manifests") });
    }
    tracing::info!(name = plan.name, address = %plan.advertise, "the master is ready");
    notify::ready();
    let mut outcome = Ok(());
    while let Some(ended) = works.join_next().await {
        stop.cancel();
        outcome = outcome.and(ended.context("a part of the master panicked").flatten());
    }
    api.stop().await;
    outcome
}

/// The administrator, as parts of this master speak to its API server.
async fn client(plan: &MasterPlan) -> anyhow::Result<kube::Client> {
    let source = Source::Kubeconfig(Places::of(plan).kubeconfig(leaf::ADMIN));
    Ok(connect(Servers { source, urls: Vec::new() }).await?)
}

/// This master, as authorities are exchanged.
fn rotating(plan: &MasterPlan, prepared: &Prepared) -> follow::Master {
    let (plan, settings) = (plan.clone(), prepared.settings.clone());
    let places = Places::of(&plan);
    follow::Master {
        name: plan.name.clone(),
        pki: places.pki(),
        leaves: prepared.leaves.clone(),
        make: Arc::new(move |authorities| {
            let made = || {
                write_kubeconfigs(&plan, &places, &settings, authorities)?;
                name_authority(&places, authorities)
            };
            made().map_err(|error: anyhow::Error| format!("{error:#}"))
        }),
    }
}

/// The tokens of this master name who signs.
fn name_authority(places: &Places, authorities: &Authorities) -> anyhow::Result<()> {
    let pin = Authority::load(authorities.cluster.clone())?.pin();
    for path in [places.master_token(), places.node_token()] {
        let Some(text) = files::read(&path)? else { continue };
        let token: Token = text.parse().with_context(|| path.display().to_string())?;
        if token.pin != pin {
            keep_text(&path, &Token { pin, credential: token.credential }.reveal())?;
        }
    }
    Ok(())
}

/// What the cluster keeps of its masters.
async fn keep_cluster(plan: &MasterPlan, prepared: &Prepared) -> anyhow::Result<()> {
    let places = Places::of(plan);
    let client = client(plan).await?;
    let server = format!("https://{}", SocketAddr::new(plan.advertise, prepared.settings.api_port));
    let names = leaf::server_names(&prepared.leaves, &prepared.settings.service_cidr);
    keep::keep(&client, &plan.name, &server, &names).await?;
    // One that had left and was taken in again is counted on again.
    let left = plan.data_dir.join(LEFT);
    if left.exists() {
        std::fs::remove_file(&left).with_context(|| left.display().to_string())?;
    }
    if places.birth().exists() {
        let (masters, nodes) = (credential(&places.master_token())?, credential(&places.node_token())?);
        if places.restored().exists() {
            restored::put_right(&client, &plan.name, &prepared.settings, &prepared.authorities).await?;
        } else {
            keep::create(&client, &[objects::storage_class(&plan.local_storage)]).await?;
        }
        let all = objects::at_birth(&prepared.settings, &prepared.authorities, &server, &masters, &nodes);
        keep::create(&client, &all).await?;
        std::fs::remove_file(places.birth()).with_context(|| places.birth().display().to_string())?;
        tracing::info!("the cluster has what it begins with");
    }
    Ok(())
}

fn credential(path: &Path) -> anyhow::Result<Credential> {
    let text = files::read(path)?.with_context(|| format!("{} is missing", path.display()))?;
    let token: Token = text.parse().with_context(|| path.display().to_string())?;
    Ok(token.credential)
}

async fn prepare(plan: &MasterPlan) -> anyhow::Result<Prepared> {
    let places = Places::of(plan);
    let pki = places.pki();
    let is_member = has_identity(&places.store());
    let known = match (pki.authorities()?, known_settings(&places)?) {
        (Some(authorities), Some(settings)) => Some((authorities, settings)),
        _ => None,
    };
    let mut masters = Vec::new();
    let (authorities, settings) = match (known, &plan.join) {
        (Some(_), None) if !is_member && plan.restore.is_empty() && !places.birth().exists() => {
            anyhow::bail!(
                "the store's data is gone from {}, and this master was part of a cluster: --join and --token-file make it a master of \
             that again; --restore begins anew with a snapshot; with {} removed as well, a new cluster begins",
                places.store().display(),
                plan.data_dir.display()
            )
        }
        (Some(known), None) => known,
        (Some(known), Some(_)) if is_member => known,
        (_, Some((url, token))) => {
            tracing::info!(%url, "joins a cluster");
            let joined = master_join::join(url, token).await?;
            // That of tokens is the same as long as the cluster is; the others may have been exchanged.
            if let Some(here) =
                pki.authorities()?.filter(|here| here.token_key != joined.authorities.token_key)
            {
                drop(here);
                anyhow::bail!("{} holds the authorities of another cluster", pki.directory().display());
            }
            pki.keep(&joined.authorities, &Certificates::default())?;
            keep_text(&places.master_token(), &token.reveal())?;
            masters = joined.masters;
            masters.push(url.clone());
            (joined.authorities, joined.settings)
        }
        (None, None) => found(plan, &places)?,
    };
    let text = serde_json::to_string_pretty(&settings).context("cluster.json")?;
    files::write(&places.settings(), text.as_bytes(), Readers::All)?;

    // Who was interrupted while authorities were exchanged has files that fit to each other again.
    pki.keep(&authorities, &pki.crosses()?)?;
    let identity = parts::identity(plan, &settings, settings.service_address()?);
    let leaves = leaf::leaves(&identity);
    for (certificate, why) in pki.issue(&authorities, &leaves, SystemTime::now())? {
        tracing::info!(certificate, ?why, "made");
    }
    write_kubeconfigs(plan, &places, &settings, &authorities)?;

    if !plan.restore.is_empty() {
        make_tokens(&authorities, &places)?;
        restore(plan, &places, is_member).await?;
    }
    let birth = if is_member || plan.join.is_none() {
        Birth::Alone
    } else {
        let hosts = masters.iter().filter_map(|url| url.host());
        let urls = hosts.map(|host| format!("https://{host}:{}", settings.store_client_port));
        let members = Members::connect(&urls.collect::<Vec<_>>(), &parts::store_client(plan)).await?;
        Birth::Among(members.join(&plan.name, &parts::peer_url(plan)).await?)
    };
    Ok(Prepared { authorities, settings, birth, leaves })
}

/// The store's data as the snapshot has it, for a cluster of this master alone. Done once: afterwards the data goes its own way.
async fn restore(plan: &MasterPlan, places: &Places, is_member: bool) -> anyhow::Result<()> {
    let files: Vec<String> = plan.restore.iter().map(|path| path.display().to_string()).collect();
    let files = files.join(",");
    if is_member {
        let from = files::read(&places.restored())?;
        anyhow::ensure!(
            from.as_deref().map(str::trim_end) == Some(files.as_str()),
            "--restore={files}: {} has the data of a cluster already, which is not overwritten; move it away first, and keep {} so that \
             nodes and kubeconfigs go on being believed",
            places.store().display(),
            places.pki().directory().display()
        );
        return Ok(());
    }
    // The markers first: whoever is interrupted begins again.
    files::write(&places.birth(), b"", Readers::Owner)?;
    keep_text(&places.restored(), &files)?;
    let request = Request {
        files: plan.restore.clone(),
        initial_cluster: format!("{}={}", plan.name, parts::peer_url(plan)),
        token: parts::STORE_TOKEN.to_owned(),
        target: Target::One {
            name: plan.name.clone(),
            peer_urls: vec![parts::peer_url(plan)],
            data_dir: places.store(),
        },
        to_revision: None,
        bump_revision: REVISIONS_APART,
        mark_compacted: true,
        skip_hash_check: false,
    };
    let restoring = tokio::task::spawn_blocking(move || offline_restore(&request, &mut |_| {}));
    let restored = restoring.await.context("restoring panicked")?.context("--restore")?;
    tracing::info!(files, keys = restored.keys, revision = %restored.revision, "the store begins with a snapshot");
    Ok(())
}

fn known_settings(places: &Places) -> anyhow::Result<Option<ClusterSettings>> {
    let path = places.settings();
    let Some(text) = files::read(&path)? else { return Ok(None) };
    Ok(Some(serde_json::from_str(&text).with_context(|| path.display().to_string())?))
}

/// A cluster of its own.
fn found(plan: &MasterPlan, places: &Places) -> anyhow::Result<(Authorities, ClusterSettings)> {
    let pki = places.pki();
    // The marker first: whoever is interrupted begins again, with what is there.
    files::write(&places.birth(), b"", Readers::Owner)?;
    let authorities = match pki.authorities()? {
        Some(authorities) => authorities,
        None => {
            let authorities = Authorities::create(SystemTime::now())?;
            pki.keep(&authorities, &Certificates::default())?;
            authorities
        }
    };
    make_tokens(&authorities, places)?;
    tracing::info!(directory = %plan.data_dir.display(), "begins a cluster");
    Ok((authorities, plan.settings.clone()))
}

/// The tokens that a cluster begins with.
fn make_tokens(authorities: &Authorities, places: &Places) -> anyhow::Result<()> {
    let pin = Authority::load(authorities.cluster.clone())?.pin();
    for path in [places.master_token(), places.node_token()] {
        if files::read(&path)?.is_none() {
            keep_text(&path, &Token { pin, credential: Credential::random() }.reveal())?;
        }
    }
    Ok(())
}

/// What tells this master's disk from any other one: drawn once.
fn manifests_key(places: &Places) -> anyhow::Result<String> {
    let path = places.manifests_key();
    if let Some(key) = files::read(&path)? {
        return Ok(key.trim_end().to_owned());
    }
    let key = format!("{:032x}", rand::random::<u128>());
    keep_text(&path, &key)?;
    Ok(key)
}

fn keep_text(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(files::write(path, format!("{text}\n").as_bytes(), Readers::Owner)?)
}

fn write_kubeconfigs(
    plan: &MasterPlan,
    places: &Places,
    settings: &ClusterSettings,
    authorities: &Authorities,
) -> anyhow::Result<()> {
    let pki = places.pki();
    let url = parts::local_url(plan, settings);
    for part in [leaf::CONTROLLER_MANAGER, leaf::SCHEDULER, leaf::MANIFESTS] {
        let authority = pki.authority(Signer::Cluster);
        let text = kubeconfig::with_files(&url, &authority, &pki.certificate(part), &pki.key(part));
        files::write(&places.kubeconfig(part), text.as_bytes(), Readers::Owner)?;
    }
    let read = |path: &Path| -> anyhow::Result<String> {
        files::read(path)?.with_context(|| format!("{} is missing", path.display()))
    };
    let admin = Pair { certificate: read(&pki.certificate(leaf::ADMIN))?, key: read(&pki.key(leaf::ADMIN))? };
    let text = kubeconfig::embedded(&url, &authorities.cluster.certificate, &admin);
    files::write(&places.kubeconfig(leaf::ADMIN), text.as_bytes(), Readers::Owner)?;
    Ok(())
}
