//! Asks the members of the store, each by itself. Must never wait for a majority.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use barque_proto::admin::ClockRequest;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::{Member, MemberListRequest, StatusRequest};
use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, PeerConnector};
use futures::future::join_all;

use super::super::judge::MemberSeen;
use super::super::judge::clock::{ClockSeen, Reading};
use super::super::judge::store::Answer;
use crate::membership::dial;

/// Who does not answer within this time is silent.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of so many readings of a clock the one that took the shortest counts.
const READINGS: usize = 5;

fn connector(tls: &TlsFiles) -> Result<PeerConnector, String> {
    let tls = ClientTls::load(tls).map_err(|error| error.to_string())?;
    Ok(PeerConnector::new(Some(Arc::new(tls)), PATIENCE))
}

async fn in_time<T>(asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let silent = |_| format!("silent for {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, asking).await.map_err(silent)?
}

fn refusal(status: &tonic::Status) -> String {
    status.message().to_owned()
}

/// The members as the one of this machine knows them, with what each says of itself.
pub(crate) async fn members(own: IpAddr, port: u16, tls: &TlsFiles) -> Result<Vec<MemberSeen>, String> {
    let connector = connector(tls)?;
    let listed = in_time(async {
        let channel = dial(&format!("https://{}", SocketAddr::new(own, port)), &connector).await?;
        let request = MemberListRequest { linearizable: false };
        let listed = ClusterClient::new(channel).member_list(request).await;
        Ok(listed.map_err(|status| refusal(&status))?.into_inner().members)
    })
    .await?;
    let asking = listed.into_iter().map(|member| {
        let connector = &connector;
        async move {
            let answer = answer(&member, connector).await;
            MemberSeen {
                url: member.client_ur_ls.into_iter().next().unwrap_or_default(),
                name: member.name,
                id: member.id,
                votes: !member.is_learner,
                answer,
            }
        }
    });
    Ok(join_all(asking).await)
}

async fn answer(member: &Member, connector: &PeerConnector) -> Result<Answer, String> {
    let url = member.client_ur_ls.first().ok_or_else(|| "it has not started yet".to_owned())?;
    let told = in_time(async {
        let channel = dial(url, connector).await?;
        let told = MaintenanceClient::new(channel).status(StatusRequest {}).await;
        Ok(told.map_err(|status| refusal(&status))?.into_inner())
    })
    .await?;
    if told.header.as_ref().is_none_or(|header| header.member_id != member.id) {
        return Err("another member answers there".to_owned());
    }
    Ok(Answer {
        leader: told.leader,
        size_bytes: u64::try_from(told.db_size).unwrap_or_default(),
        quota_bytes: u64::try_from(told.db_size_quota).unwrap_or_default(),
        version: told.version,
        errors: told.errors,
    })
}

/// The clocks of the other masters.
pub(crate) async fn clocks(
    members: &Result<Vec<MemberSeen>, String>,
    own: &str,
    tls: &TlsFiles,
) -> Result<Vec<ClockSeen>, String> {
    let members = members.as_ref().map_err(Clone::clone)?;
    let connector = connector(tls)?;
    let asking = members.iter().filter(|member| member.name != own).map(|member| {
        let connector = &connector;
        async move {
            let reading = match &member.answer {
                Ok(_) => in_time(read(&member.url, connector)).await,
                Err(why) => Err(why.clone()),
            };
            ClockSeen { name: member.called(), reading }
        }
    });
    Ok(join_all(asking).await)
}

async fn read(url: &str, connector: &PeerConnector) -> Result<Reading, String> {
    let mut client = AdminClient::new(dial(url, connector).await?);
    let mut best: Option<Reading> = None;
    for _ in 0..READINGS {
        let asked_ms = now_ms();
        let told = client.clock(ClockRequest {}).await.map_err(|status| match status.code() {
            tonic::Code::Unimplemented => "its release does not tell its clock".to_owned(),
            _ => refusal(&status),
        })?;
        let reading = Reading { theirs_ms: told.into_inner().time_ms, asked_ms, answered_ms: now_ms() };
        let took = |reading: &Reading| reading.answered_ms - reading.asked_ms;
        if best.as_ref().is_none_or(|best| took(&reading) < took(best)) {
            best = Some(reading);
        }
    }
    best.ok_or_else(|| "it was not asked".to_owned())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
