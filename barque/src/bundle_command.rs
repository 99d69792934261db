//! `barque support-bundle`: what somebody needs who helps from afar, in one file. Prints; must never put a secret in it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use barque_cluster::bundle::{Bundle, Secrets, TextSource};
use barque_cluster::leaf::{self, Signer};
use barque_cluster::{doctor, files, kubeconfig};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::cluster_args::BundleArgs;
use crate::cluster_command::{Master, certificates, print};
use crate::doctor_command;
use crate::server_parts::Places;

/// Whose logs are wanted.
const UNITS: [&str; 2] = ["barque-server", "barque-agent"];

/// Collects, writes and lists.
pub(crate) async fn support_bundle(args: BundleArgs) -> anyhow::Result<()> {
    let master = Master::open(&args.place)?;
    let name = master.own()?.common_name;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default());
    let at = at.unwrap_or_default().strftime("%Y%m%dT%H%M%SZ");
    let folder = format!("barque-support-{name}-{at}");
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if path.exists() {
        anyhow::bail!("--output={}: the file is there already; name another one", path.display());
    }

    let mut bundle = Bundle::new(secrets(&master.places)?);
    bundle.json(
        "barque.json",
        Ok(json!({"version": env!("CARGO_PKG_VERSION"), "master": name, "made": at.to_string()})),
    );
    bundle.json("cluster.json", Ok(&master.settings));
    bundle.json("certificates.json", certificates(&master.pki).map_err(|error| error.to_string()));
    let findings = doctor_command::examine(&args.place).await.map_err(|error| format!("{error:#}"));
    bundle.text("doctor.txt", findings.as_deref().map(doctor::table).map_err(Clone::clone), KEEP);
    bundle.json("doctor.json", findings);
    let status = master.look().await.map_err(|error| format!("{error:#}"));
    bundle.text("status.txt", status.as_ref().map(|it| it.table()).map_err(Clone::clone), KEEP);
    bundle.json("status.json", status);
    let api = master.client().await.map_err(|error| format!("{error:#}"));
    bundle.objects(&api).await;
    bundle.texts(served(&master, &api).await?).await;
    bundle.machine(&UNITS).await;

    let pieces: Vec<(String, usize)> = bundle.pieces().map(|(name, size)| (name.to_owned(), size)).collect();
    let errors = bundle.errors().to_vec();
    let written = bundle.write(&path, &folder, seconds)?;
    print(&story(&path, written.size, &pieces, &errors));
    Ok(())
}

const KEEP: barque_cluster::bundle::Keep = barque_cluster::bundle::Keep::First;

/// What this machine keeps secret.
fn secrets(places: &Places) -> anyhow::Result<Secrets> {
    let pki = places.pki();
    let keys = leaf::ALL.iter().map(|(name, ..)| pki.key(name));
    let authorities = [Signer::Cluster, Signer::Store, Signer::FrontProxy].map(|it| pki.authority_key(it));
    let tokens = [places.master_token(), places.node_token(), pki.token_key()];
    let mut secrets = Secrets::default();
    for path in keys.chain(authorities).chain(tokens) {
        if let Some(text) = files::read(&path)? {
            secrets.learn(&text);
        }
    }
    Ok(secrets)
}

/// Metrics and health of the parts.
async fn served(master: &Master, api: &Result<Client, String>) -> anyhow::Result<Vec<TextSource>> {
    let address = master.address()?;
    let store = store(master, address).await.map_err(|error| format!("{error:#}"));
    // Where a master serves what is for its machine alone.
    let private = if address.is_loopback() { address } else { IpAddr::from([127, 0, 0, 1]) };
    let source =
        |name, client: &Result<Client, String>, path| TextSource { name, client: client.clone(), path };
    let mut all = vec![
        source("api/metrics.txt", api, "/metrics"),
        source("api/readyz.txt", api, "/readyz?verbose"),
        source("store/metrics.txt", &store, "/metrics"),
        source("store/health.txt", &store, "/health"),
    ];
    for (name, port) in [("controllers/metrics.txt", 10257), ("scheduler/metrics.txt", 10259)] {
        all.push(source(name, &plain("https", SocketAddr::new(private, port)), "/metrics"));
    }
    let agent = SocketAddr::from(([127, 0, 0, 1], 10248));
    all.push(source("agent/metrics.txt", &plain("http", agent), "/metrics"));
    Ok(all)
}

/// The member of this machine, as a client with this master's certificate.
async fn store(master: &Master, address: IpAddr) -> anyhow::Result<Client> {
    let url = format!("https://{}", SocketAddr::new(address, master.settings.store_client_port));
    let pki = &master.pki;
    let (certificate, key) = (pki.certificate(leaf::STORE_CLIENT), pki.key(leaf::STORE_CLIENT));
    let text = kubeconfig::with_files(&url, &pki.authority(Signer::Store), &certificate, &key);
    let config = Kubeconfig::from_yaml(&text)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A part that tells its numbers to whoever reaches it; its certificate is of its own making.
fn plain(scheme: &str, at: SocketAddr) -> Result<Client, String> {
    let url = format!("{scheme}://{at}").parse().map_err(|error| format!("{at}: {error}"))?;
    let mut config = kube::Config::new(url);
    config.accept_invalid_certs = true;
    Client::try_from(config).map_err(|error| error.to_string())
}

/// What is in the file, and what could not be had.
fn story(path: &Path, size: u64, pieces: &[(String, usize)], errors: &[String]) -> String {
    let wide = pieces.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5) + 2;
    let mut text = format!("{:wide$}{:>10}\n", "PIECE", "SIZE");
    for (name, size) in pieces {
        text += &format!("{name:wide$}{:>10}\n", format!("{:.1} KiB", *size as f64 / 1024.0));
    }
    if !errors.is_empty() {
        text += "\nNOT IN IT, OR NOT WHOLE\n";
        text += &errors.iter().map(|error| format!("{error}\n")).collect::<String>();
    }
    text += &format!(
        "\n{} ({} KiB) has no secrets, keys or tokens in it; it has names, addresses, images, events and logs: look at it before \
         it leaves your hands\n",
        path.display(),
        size.div_ceil(1024)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_is_there_and_what_is_not() {
        let pieces = [("doctor.json".to_owned(), 2048)];
        let text = story(Path::new("b.tar.gz"), 1025, &pieces, &["logs: no journal".to_owned()]);
        assert!(text.starts_with(
            "PIECE              SIZE\ndoctor.json     2.0 KiB\n\nNOT IN IT, OR NOT WHOLE\nlogs: no journal\n"
        ));
        assert!(text.contains("b.tar.gz (2 KiB)"), "{text}");
    }
}
