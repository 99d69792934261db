//! What ails a master and its cluster, found by measuring: for when something does not work, so it says what it can when nothing
//! answers. Must never change anything.
//!
//! | file | what it is for |
//! |---|---|
//! | `finding` | what was found, as people and programs read it |
//! | `judge` | decisions: from what was measured to a finding |
//! | `probe` | measures, and decides nothing |

mod finding;
mod judge;
mod probe;

use core::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use barque_store::config::TlsFiles;
use futures::future::join_all;
use http::Uri;
use kube::Client;

pub use self::finding::{Finding, Level, has_failed, table};
use self::judge::MasterSeen;
use crate::pki::Pki;
use crate::settings::ClusterSettings;

/// Whom and what to look at.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// The master's name.
    pub name: &'a str,
    /// The address by which others reach it.
    pub address: IpAddr,
    /// Where its store's data is.
    pub store_dir: &'a Path,
    /// Its certificates.
    pub pki: &'a Pki,
    /// What is the same on all masters.
    pub settings: &'a ClusterSettings,
    /// How members of the store are asked.
    pub tls: &'a TlsFiles,
}

/// Looks at everything; `api` speaks to the API server of a URL, as the administrator.
pub async fn examine(patient: &Patient<'_>, api: impl Fn(&Uri) -> Option<Client>) -> Vec<Finding> {
    let Patient { name, address, store_dir, pki, settings, tls } = *patient;
    let members = probe::store::members(address, settings.store_client_port, tls).await;
    let hosts = judge::hosts(&members, name, address);
    let masters = join_all(hosts.iter().map(|(name, address)| {
        let url = format!("https://{}", core::net::SocketAddr::new(*address, settings.api_port));
        let client = url.parse().ok().and_then(|url| api(&url));
        async move {
            let api = probe::api::server(client).await;
            MasterSeen { name: name.clone(), url, api }
        }
    }))
    .await;
    let client = masters.iter().find(|it| it.api.is_ok()).and_then(|it| api(&it.url.parse().ok()?));
    let nodes = probe::api::nodes(client).await;
    let clocks = probe::store::clocks(&members, name, tls).await;
    let paths = probe::path::paths(judge::destinations(&hosts, &nodes, name)).await;
    let store_dir = store_dir.to_owned();
    let disk = tokio::task::spawn_blocking(move || probe::disk::look(&store_dir)).await;

    let mut all = vec![judge::store::quorum(&members)];
    all.extend(judge::store::alarms(&members));
    all.push(judge::store::quota(&members));
    match disk {
        Ok(disk) => all.extend([judge::disk::syncs(&disk), judge::disk::room(&disk)]),
        Err(error) => all.push(Finding::skipped("disk", format!("it was not looked at: {error}"))),
    }
    all.push(judge::clock::clocks(&clocks));
    all.extend(judge::certificates::certificates(&probe::certificates(pki), SystemTime::now()));
    all.extend(judge::path::paths(&paths));
    all.push(judge::masters::api_servers(&masters));
    all.push(judge::masters::versions(&masters, &members));
    all.extend(judge::masters::nodes(&nodes));
    all
}
