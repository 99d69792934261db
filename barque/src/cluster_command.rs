//! What administrators do on a master, over its API and its files. Prints; must never decide.

use std::io::Write as _;
use std::time::SystemTime;

use anyhow::Context as _;
use barque_client::servers::{Servers, Source, connect};
use barque_cluster::authority::{Authority, Subject};
use barque_cluster::leaf::{self, Facts, Signer};
use barque_cluster::membership::Members;
use barque_cluster::objects::Purpose;
use barque_cluster::pki::{Authorities, Pki};
use barque_cluster::settings::ClusterSettings;
use barque_cluster::token::Token;
use barque_cluster::{files, keep, kubeconfig, status, tokens};
use barque_store::config::TlsFiles;
use http::Uri;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::cluster_args::{CertsCommand, KubeconfigArgs, Life, PlaceArgs, StatusArgs, TokenCommand};
use crate::component_args::Output;
use crate::server_parts::Places;

/// A day, in seconds.
const DAY: u64 = 86_400;

/// A master's directory, with what is in it.
struct Master {
    places: Places,
    pki: Pki,
    authorities: Authorities,
    settings: ClusterSettings,
}

impl Master {
    fn open(place: &PlaceArgs) -> anyhow::Result<Self> {
        let places = Places::in_directory(place.data_dir.clone());
        let pki = places.pki();
        let none = || {
            format!(
                "--data-dir={}: there is no master in it (it can be read by its owner alone)",
                place.data_dir.display()
            )
        };
        let authorities = pki.authorities()?.with_context(none)?;
        let text = files::read(&places.settings())?.with_context(none)?;
        let settings =
            serde_json::from_str(&text).with_context(|| places.settings().display().to_string())?;
        Ok(Self { places, pki, authorities, settings })
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let source = Source::Kubeconfig(self.places.kubeconfig(leaf::ADMIN));
        connect(Servers { source, urls: Vec::new() }).await.context("the API server")
    }

    fn store_tls(&self) -> TlsFiles {
        TlsFiles {
            cert_file: Some(self.pki.certificate(leaf::STORE_CLIENT)),
            key_file: Some(self.pki.key(leaf::STORE_CLIENT)),
            trusted_ca_file: Some(self.pki.authority(Signer::Store)),
            client_cert_auth: false,
        }
    }

    /// What its certificate in the store says of it.
    fn own(&self) -> anyhow::Result<Facts> {
        self.pki
            .facts(leaf::STORE)?
            .with_context(|| format!("{} is missing", self.pki.certificate(leaf::STORE).display()))
    }

    /// The address by which others reach it.
    fn address(&self) -> anyhow::Result<std::net::IpAddr> {
        let own = self.own()?;
        let outward = own.addresses.iter().find(|address| !address.is_loopback());
        let usual =
            [std::net::IpAddr::from([127, 0, 0, 1]), std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        let any = outward.or_else(|| own.addresses.iter().find(|address| !usual.contains(address)));
        Ok(*any.unwrap_or(&usual[0]))
    }
}

/// Prints lines; a reader that goes away is no error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Whether the cluster is whole.
pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<bool> {
    let master = Master::open(&args.place)?;
    let path = master.places.kubeconfig(leaf::ADMIN);
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let single = |url: &Uri| {
        let mut config = config.clone();
        config.cluster_url = url.clone();
        Client::try_from(config).ok()
    };
    let tls = master.store_tls();
    let client = master.client().await?;
    let found = status::status(&client, &master.settings, single, Some(&tls), SystemTime::now()).await?;
    match args.output {
        Output::Table => print(&found.table()),
        Output::Json => print_json(&found)?,
    }
    Ok(found.is_whole())
}

/// Makes, lists or revokes tokens.
pub(crate) async fn token(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { place, master: is_master, ttl: Life(life), description } => {
            let master = Master::open(&place)?;
            let purpose = if is_master { Purpose::Master } else { Purpose::Node };
            let made =
                tokens::create(&master.client().await?, &master.authorities, purpose, life, &description)
                    .await?;
            let pin = Authority::load(master.authorities.cluster)?.pin();
            print(&format!("{}\n", Token { pin, credential: made }.reveal()));
        }
        TokenCommand::List { place, output } => {
            let all = tokens::list(&Master::open(&place)?.client().await?).await?;
            match output {
                Output::Json => print_json(&all)?,
                Output::Table => {
                    let mut text = format!("{:8}{:8}{:11}DESCRIPTION\n", "ID", "FOR", "EXPIRES");
                    for token in &all {
                        let left = tokens::left(token, SystemTime::now());
                        text += &format!("{:8}{:8}{left:11}{}\n", token.id, token.purpose, token.description);
                    }
                    print(&text);
                }
            }
        }
        TokenCommand::Revoke { place, id } => {
            // Who pastes a whole token means the same.
            let id = id.parse::<Token>().map_or(id, |token| token.credential.id);
            tokens::revoke(&Master::open(&place)?.client().await?, &id).await?;
            print(&format!("token {id} is revoked\n"));
        }
    }
    Ok(())
}

/// Prints a kubeconfig.
pub(crate) fn kubeconfig(args: KubeconfigArgs) -> anyhow::Result<()> {
    let master = Master::open(&args.place)?;
    let subject = match args.user {
        Some(user) => {
            Subject { common_name: user, organizations: args.groups, asks: true, ..Subject::default() }
        }
        None => Subject {
            common_name: "barque:admin".to_owned(),
            organizations: vec!["system:masters".to_owned()],
            asks: true,
            ..Subject::default()
        },
    };
    let server = match args.server {
        Some(url) => url,
        None => format!("https://{}", std::net::SocketAddr::new(master.address()?, master.settings.api_port)),
    };
    let authority = Authority::load(master.authorities.cluster)?;
    let pair = authority.issue(&subject, SystemTime::now())?;
    print(&kubeconfig::embedded(&server, &authority.pair().certificate, &pair));
    Ok(())
}

/// Lists certificates or makes them anew.
pub(crate) fn certs(command: CertsCommand) -> anyhow::Result<()> {
    match command {
        CertsCommand::List { place, output } => list_certs(&Master::open(&place)?.pki, output),
        CertsCommand::Renew { place, names } => {
            let master = Master::open(&place)?;
            if let Some(other) = names.iter().find(|name| leaf::ALL.iter().all(|(known, ..)| known != name)) {
                anyhow::bail!("there is no certificate {other:?}; `barque certs list` shows all");
            }
            let wanted = leaf::ALL
                .into_iter()
                .filter(|(name, ..)| names.is_empty() || names.iter().any(|it| it == name));
            for (name, signer, serves, asks) in wanted {
                let Some(before) = master.pki.facts(name)? else { continue };
                let leaf = leaf::successor(name, signer, serves, asks, &before);
                master.pki.make(&master.authorities, &leaf, SystemTime::now())?;
                print(&format!("{name} is made anew\n"));
            }
            Ok(())
        }
    }
}

fn list_certs(pki: &Pki, output: Output) -> anyhow::Result<()> {
    let authorities = [Signer::Cluster, Signer::Store, Signer::FrontProxy].map(|signer| {
        let path = pki.authority(signer);
        let name = path.strip_prefix(pki.directory()).unwrap_or(&path).with_extension("");
        name.display().to_string()
    });
    let leaves = leaf::ALL.iter().map(|(name, ..)| (*name).to_owned());
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for name in authorities.into_iter().chain(leaves) {
        let Some(facts) = pki.facts(&name)? else { continue };
        let days = facts.until.duration_since(now).map_or(0, |left| left.as_secs() / DAY);
        let renewed = leaf::renewal(&facts).duration_since(now).map_or(0, |left| left.as_secs() / DAY);
        rows.push((name, facts.common_name, days, renewed));
    }
    match output {
        Output::Table => {
            let mut text = format!("{:28}{:34}{:>8}  RENEWED\n", "CERTIFICATE", "NAME", "LEFT");
            for (name, whose, days, renewed) in &rows {
                let when =
                    if name.ends_with("ca") { "by hand".to_owned() } else { format!("in {renewed} d") };
                text += &format!("{name:28}{whose:34}{:>8}  {when}\n", format!("{days} d"));
            }
            print(&text);
            Ok(())
        }
        Output::Json => print_json(
            &rows
                .iter()
                .map(|(name, whose, days, _)| json!({"certificate": name, "name": whose, "daysLeft": days}))
                .collect::<Vec<_>>(),
        ),
    }
}

/// Takes this master out of its cluster.
pub(crate) async fn leave(place: PlaceArgs) -> anyhow::Result<()> {
    let master = Master::open(&place)?;
    let name = master.own()?.common_name;
    let client = master.client().await?;
    let url = format!(
        "https://{}",
        std::net::SocketAddr::new(master.address()?, master.settings.store_client_port)
    );
    let members = Members::connect(&[url], &master.store_tls()).await?;
    // The list first: afterwards this master's API server answers nobody.
    keep::forget_master(&client, &name).await?;
    members.leave(&name).await?;
    print(&format!("{name} is no master any more; stop it and remove {}\n", place.data_dir.display()));
    Ok(())
}
