//! What administrators do on a master, over its API and its files. Prints; must never decide.

use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use barque_client::servers::{Servers, Source, connect};
use barque_cluster::authority::{Authority, Subject};
use barque_cluster::files::Readers;
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
use serde::Serialize;

use crate::cluster_args::{CertsCommand, KubeconfigArgs, Life, PlaceArgs, StatusArgs, TokenCommand};
use crate::component_args::Output;
use crate::rotate_ca_command;
use crate::server_parts::Places;
use crate::uninstall_command::LEFT;

/// A day, in seconds.
const DAY: u64 = 86_400;

/// A master's directory, with what is in it.
pub(crate) struct Master {
    pub(crate) places: Places,
    pub(crate) pki: Pki,
    pub(crate) authorities: Authorities,
    pub(crate) settings: ClusterSettings,
}

impl Master {
    pub(crate) fn open(place: &PlaceArgs) -> anyhow::Result<Self> {
        let places = Places::in_directory(place.data_dir.clone());
        let pki = places.pki();
        let none = || {
            format!(
                "--data-dir={}: there is no master in it (it can be read by its owner alone)",
                place.data_dir.display()
            )
        };
        let text = read(&places.settings())?.with_context(none)?;
        let authorities = pki.authorities()?.with_context(none)?;
        let settings =
            serde_json::from_str(&text).with_context(|| places.settings().display().to_string())?;
        Ok(Self { places, pki, authorities, settings })
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let source = Source::Kubeconfig(self.places.kubeconfig(leaf::ADMIN));
        connect(Servers { source, urls: Vec::new() }).await.context("the API server")
    }

    pub(crate) fn store_tls(&self) -> TlsFiles {
        store_tls(&self.pki)
    }

    /// What its certificate in the store says of it.
    pub(crate) fn own(&self) -> anyhow::Result<Facts> {
        self.pki
            .facts(leaf::STORE)?
            .with_context(|| format!("{} is missing", self.pki.certificate(leaf::STORE).display()))
    }

    /// The address by which others reach it.
    pub(crate) fn address(&self) -> anyhow::Result<std::net::IpAddr> {
        Ok(address_of(&self.own()?))
    }

    /// How the cluster is.
    pub(crate) async fn look(&self) -> anyhow::Result<status::Status> {
        let path = self.places.kubeconfig(leaf::ADMIN);
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let single = |url: &Uri| {
            let mut config = config.clone();
            config.cluster_url = url.clone();
            Client::try_from(config).ok()
        };
        let tls = self.store_tls();
        let client = self.client().await?;
        Ok(status::status(&client, &self.settings, single, Some(&tls), SystemTime::now()).await?)
    }
}

/// The text of a file that belongs to a master.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    files::read(path).map_err(|error| {
        let hint = match error.error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; run this as the owner of --data-dir, which is usually root"
            }
            _ => "",
        };
        anyhow::anyhow!("{error}{hint}")
    })
}

/// How members of the store are asked.
pub(crate) fn store_tls(pki: &Pki) -> TlsFiles {
    TlsFiles {
        cert_file: Some(pki.certificate(leaf::STORE_CLIENT)),
        key_file: Some(pki.key(leaf::STORE_CLIENT)),
        trusted_ca_file: Some(pki.authority(Signer::Store)),
        client_cert_auth: false,
    }
}

/// The address by which others reach a master, as its certificate in the store says it.
pub(crate) fn address_of(own: &Facts) -> std::net::IpAddr {
    let outward = own.addresses.iter().find(|address| !address.is_loopback());
    let usual =
        [std::net::IpAddr::from([127, 0, 0, 1]), std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let any = outward.or_else(|| own.addresses.iter().find(|address| !usual.contains(address)));
    *any.unwrap_or(&usual[0])
}

/// Prints lines; a reader that goes away is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Whether the cluster is whole.
pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<bool> {
    let found = Master::open(&args.place)?.look().await?;
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

/// Lists certificates or makes them anew, and those that sign them; whether all is as it was asked for.
pub(crate) async fn certs(command: CertsCommand) -> anyhow::Result<bool> {
    match command {
        CertsCommand::RotateCa(args) => return rotate_ca_command::run(args).await,
        CertsCommand::List { place, output } => list_certs(&Master::open(&place)?.pki, output)?,
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
        }
    }
    Ok(true)
}

/// A certificate of this master, as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedCertificate {
    certificate: String,
    name: String,
    days_left: u64,
    #[serde(skip)]
    renewed_in_days: u64,
}

/// Authorities and certificates that are there.
pub(crate) fn certificates(pki: &Pki) -> anyhow::Result<Vec<ListedCertificate>> {
    let authorities = [Signer::Cluster, Signer::Store, Signer::FrontProxy].map(|it| pki.authority_name(it));
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for name in authorities.into_iter().chain(leaf::ALL.iter().map(|(name, ..)| *name)) {
        let Some(facts) = pki.facts(name)? else { continue };
        let days = |at: SystemTime| at.duration_since(now).map_or(0, |left| left.as_secs() / DAY);
        let (days_left, renewed_in_days) = (days(facts.until), days(leaf::renewal(&facts)));
        rows.push(ListedCertificate {
            certificate: name.to_owned(),
            name: facts.common_name,
            days_left,
            renewed_in_days,
        });
    }
    Ok(rows)
}

fn list_certs(pki: &Pki, output: Output) -> anyhow::Result<()> {
    let rows = certificates(pki)?;
    match output {
        Output::Table => {
            let mut text = format!("{:28}{:34}{:>8}  RENEWED\n", "CERTIFICATE", "NAME", "LEFT");
            for row in &rows {
                let ListedCertificate { certificate, name, days_left, renewed_in_days } = row;
                let when = if certificate.ends_with("ca") {
                    "rotate-ca".to_owned()
                } else {
                    format!("in {renewed_in_days} d")
                };
                text += &format!("{certificate:28}{name:34}{:>8}  {when}\n", format!("{days_left} d"));
            }
            print(&text);
            Ok(())
        }
        Output::Json => print_json(&rows),
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
    // `barque uninstall` finds out by it when nobody can be asked any more.
    files::write(&place.data_dir.join(LEFT), b"", Readers::Owner)?;
    print(&format!("{name} is no master any more; stop it and remove {}\n", place.data_dir.display()));
    Ok(())
}
