//! `barque.admin.Admin`: who uses space, what goes on, what time it was, snapshots. With Auth enabled, what tells of
//! keys, clients and files is for `root` alone; times are for everybody who is known.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use barque_proto::admin as pb;
use barque_proto::etcdserverpb::ResponseHeader;
use barque_proto::server::admin::admin_server;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit, admit_to_data, header};
use super::backend::{Backend, KeptVersions as _, ReadView as _, ScheduledSnapshots};
use super::permit::{admin, anybody, permit_here};
use super::snapshot;
use super::space::SpaceTally;
use super::streams::until_ended;
use crate::activity::{ClientId, Recorded, Traffic, Viewer, WatchedRange};
use crate::command::CommandError;
use crate::error::StoreError;
use crate::grouping::Grouping;
use crate::ids::Revision;
use crate::timeline::Timeline;
use crate::watch::{RangeState, WatchHub};

/// What is told of each kind unless asked otherwise.
const DEFAULT_TOP: usize = 20;
const MAX_TOP: usize = 1000;
/// Versions looked at before it is seen whether the client still waits; some ten milliseconds of one thread.
const PORTION_VERSIONS: usize = 20_000;
/// A compaction that takes away what is being read makes one start over; after so many it is told.
const SPACE_ATTEMPTS: usize = 3;
/// So many threads of a member at most count space for administrators; further calls wait.
const SPACE_THREADS: usize = 1;
/// Time between answers about activity.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(1);
/// Revisions in one question.
const MAX_REVISIONS: usize = 10_000;
/// Clocks of clients may be ahead of the member's by so much before a time counts as one in the future.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The service of one member.
pub(super) struct Admin<B> {
    backend: B,
    hub: Arc<WatchHub>,
    space: Arc<Semaphore>,
}

impl<B: Backend> Admin<B> {
    pub(super) fn new(backend: B, hub: Arc<WatchHub>) -> Self {
        Self { backend, hub, space: Arc::new(Semaphore::new(SPACE_THREADS)) }
    }
}

#[tonic::async_trait]
impl<B: Backend> admin_server::Admin for Admin<B> {
    type ActivityStream = BoxStream<'static, Result<pb::ActivityResponse, Status>>;
    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn space(&self, request: Request<pb::SpaceRequest>) -> Result<Response<pb::SpaceResponse>, Status> {
        let on_learner = if request.get_ref().serializable { OnLearner::Serve } else { OnLearner::Refuse };
        let admitted = admit_to_data(&self.backend, &request, on_learner)?;
        permit_here(&self.backend, &admitted.credentials, admin).await?;
        let request = request.into_inner();
        let (grouping, top) = grouping(request.grouping.as_ref())?;
        if !request.serializable {
            self.backend.read_barrier().await?;
        }
        let _turn = self.space.acquire().await.map_err(|_| StoreError::Stopped)?;
        let counted = async {
            let mut attempt = 1;
            loop {
                match space(&self.backend, &request.prefix, &grouping, top).await {
                    Err(StoreError::Command(CommandError::Compacted)) if attempt < SPACE_ATTEMPTS => {
                        attempt += 1;
                    }
                    answer => return answer,
                }
            }
        };
        tokio::select! {
            answer = counted => Ok(Response::new(answer?)),
            () = self.backend.shutdown().cancelled() => Err(StoreError::Stopped.into()),
        }
    }

    async fn activity(
        &self,
        request: Request<pb::ActivityRequest>,
    ) -> Result<Response<Self::ActivityStream>, Status> {
        let admitted = admit(&self.backend, &request, OnLearner::Serve)?;
        permit_here(&self.backend, &admitted.credentials, admin).await?;
        let (grouping, top) = grouping(request.get_ref().grouping.as_ref())?;
        let viewer = self
            .backend
            .activity()
            .look(grouping, top)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let mut ticks = tokio::time::interval_at(Instant::now() + ACTIVITY_INTERVAL, ACTIVITY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = Looking {
            backend: self.backend.clone(),
            hub: Arc::clone(&self.hub),
            viewer,
            ticks,
            top,
            since: Instant::now(),
        };
        let answers = stream::unfold(looking, |mut looking| async move {
            let answer = looking.next().await;
            Some((Ok(answer), looking))
        });
        Ok(Response::new(until_ended(&self.backend, &admitted, answers)))
    }

    async fn revision_at(
        &self,
        request: Request<pb::RevisionAtRequest>,
    ) -> Result<Response<pb::RevisionAtResponse>, Status> {
        let admitted = admit_to_data(&self.backend, &request, OnLearner::Refuse)?;
        permit_here(&self.backend, &admitted.credentials, anybody).await?;
        self.backend.read_barrier().await?;
        let current = self.backend.view().revision();
        let found = revision_at(&self.backend.timeline(), request.get_ref().time_ms, now_ms(), current)?;
        Ok(Response::new(pb::RevisionAtResponse { header: Some(header(&self.backend, current)), ..found }))
    }

    async fn time_of(
        &self,
        request: Request<pb::TimeOfRequest>,
    ) -> Result<Response<pb::TimeOfResponse>, Status> {
        let admitted = admit_to_data(&self.backend, &request, OnLearner::Refuse)?;
        permit_here(&self.backend, &admitted.credentials, anybody).await?;
        let revisions = request.into_inner().revisions;
        if revisions.len() > MAX_REVISIONS {
            let many = format!("revisions: at most {MAX_REVISIONS} in one question, not {}", revisions.len());
            return Err(Status::invalid_argument(many));
        }
        self.backend.read_barrier().await?;
        let timeline = self.backend.timeline();
        let times = revisions.into_iter().map(|revision| {
            let made = timeline.made_at(Revision(revision));
            pb::RevisionTime {
                revision,
                after_ms: made.after_ms.unwrap_or(0),
                until_ms: made.until_ms.unwrap_or(0),
            }
        });
        let header = header(&self.backend, self.backend.view().revision());
        Ok(Response::new(pb::TimeOfResponse { header: Some(header), times: times.collect() }))
    }

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let admitted = admit_to_data(&self.backend, &request, OnLearner::Serve)?;
        permit_here(&self.backend, &admitted.credentials, admin).await?;
        let since = match request.get_ref().since {
            0 => None,
            since if since > 0 => Some(Revision(since)),
            _ => return Err(Status::invalid_argument("since: a revision, or 0 for a whole snapshot")),
        };
        let snapshot = self.backend.snapshot(since).await?;
        let header = header(&self.backend, snapshot.revision);
        Ok(Response::new(until_ended(&self.backend, &admitted, snapshot::as_it_is(snapshot, header))))
    }

    async fn list_snapshots(
        &self,
        request: Request<pb::ListSnapshotsRequest>,
    ) -> Result<Response<pb::ListSnapshotsResponse>, Status> {
        let admitted = admit(&self.backend, &request, OnLearner::Serve)?;
        permit_here(&self.backend, &admitted.credentials, admin).await?;
        let header = header(&self.backend, self.backend.view().revision());
        Ok(Response::new(listed(self.backend.scheduled_snapshots(), header)))
    }

    async fn clock(&self, request: Request<pb::ClockRequest>) -> Result<Response<pb::ClockResponse>, Status> {
        let admitted = admit(&self.backend, &request, OnLearner::Serve)?;
        permit_here(&self.backend, &admitted.credentials, anybody).await?;
        let header = header(&self.backend, self.backend.view().revision());
        Ok(Response::new(pb::ClockResponse { header: Some(header), time_ms: now_ms() }))
    }
}

/// How to group, and how many to tell.
fn grouping(asked: Option<&pb::Grouping>) -> Result<(Grouping, usize), Status> {
    let asked = asked.cloned().unwrap_or_default();
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let top = if asked.top == 0 { DEFAULT_TOP } else { number(asked.top) };
    if top > MAX_TOP {
        return Err(Status::invalid_argument(format!("top: at most {MAX_TOP}, not {top}")));
    }
    Ok((Grouping::new(&asked.separator, number(asked.depth)), top))
}

/// Counts one picture of the keyspace, in portions: dropped when the client goes away, it ends with the portion
/// that runs.
async fn space<B: Backend>(
    backend: &B,
    prefix: &[u8],
    grouping: &Grouping,
    top: usize,
) -> Result<pb::SpaceResponse, StoreError> {
    let view = backend.view();
    let (revision, compact_revision) = (view.revision(), view.compact_revision());
    let mut versions = view.kept_versions(prefix);
    drop(view);
    let mut tally = SpaceTally::new(prefix.len(), grouping.clone(), top);
    loop {
        let portion = tokio::task::spawn_blocking(move || {
            let more = versions.advance(PORTION_VERSIONS, &mut |version| tally.add(&version))?;
            Ok::<_, CommandError>((versions, tally, more))
        });
        let more;
        (versions, tally, more) = portion.await.map_err(|_| StoreError::Stopped)??;
        if !more {
            break;
        }
    }
    Ok(pb::SpaceResponse {
        header: Some(header(backend, revision)),
        compact_revision: compact_revision.0,
        ..tally.finish()
    })
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn revision_at(
    timeline: &Timeline,
    time_ms: i64,
    now_ms: i64,
    current: Revision,
) -> Result<pb::RevisionAtResponse, Status> {
    if time_ms <= 0 {
        return Err(Status::invalid_argument("time_ms: milliseconds since 1970, more than 0"));
    }
    if time_ms > now_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(Status::invalid_argument("time_ms: that time is in the future"));
    }
    let answer = |revision: Revision, since_ms, until_ms| pb::RevisionAtResponse {
        header: None,
        revision: revision.0,
        since_ms,
        until_ms,
    };
    Ok(match timeline.at(time_ms) {
        Some(moment) if moment.next.is_none() && time_ms >= now_ms => answer(current, moment.mark.time_ms, 0),
        Some(moment) => {
            answer(moment.mark.revision, moment.mark.time_ms, moment.next.map_or(0, |next| next.time_ms))
        }
        None => answer(Revision(0), timeline.first().map_or(0, |first| first.time_ms), 0),
    })
}

fn listed(told: ScheduledSnapshots, header: ResponseHeader) -> pb::ListSnapshotsResponse {
    let (last_error_ms, last_error) = told.last_error.unwrap_or_default();
    let snapshots = told.snapshots.into_iter().map(|snapshot| pb::ScheduledSnapshot {
        name: snapshot.name,
        size_bytes: snapshot.size_bytes,
        revision: snapshot.revision.0,
        // A member takes whole ones.
        since: 0,
        taken_ms: snapshot.taken_ms,
        verified: snapshot.verified,
    });
    pb::ListSnapshotsResponse {
        header: Some(header),
        schedule: told.schedule,
        retention: told.retention,
        directory: told.directory,
        next_ms: told.next_ms.unwrap_or(0),
        last_error,
        last_error_ms,
        snapshots: snapshots.collect(),
    }
}

/// One who looks at a member's activity.
struct Looking<B> {
    backend: B,
    hub: Arc<WatchHub>,
    viewer: Viewer,
    ticks: tokio::time::Interval,
    top: usize,
    since: Instant,
}

impl<B: Backend> Looking<B> {
    async fn next(&mut self) -> pb::ActivityResponse {
        self.ticks.tick().await;
        let recorded = self.viewer.take();
        let interval = self.since.elapsed();
        self.since = Instant::now();
        let busiest: Vec<WatchedRange> = recorded.watches.iter().map(|range| range.item.clone()).collect();
        let states = self.hub.survey(&busiest, self.top);
        let watches_total = u64::try_from(self.hub.stats().watchers()).unwrap_or(0);
        pb::ActivityResponse {
            header: Some(header(&self.backend, self.backend.view().revision())),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            watches_total,
            ..activity(recorded, states)
        }
    }
}

fn traffic(traffic: Traffic) -> Option<pb::Traffic> {
    let Traffic { reads, read_bytes, writes, written_bytes } = traffic;
    Some(pb::Traffic { reads, read_bytes, writes, written_bytes })
}

fn address(client: &ClientId) -> String {
    client.address.map(|address| address.to_string()).unwrap_or_default()
}

/// What was recorded, with the state of the ranges; those with events come first.
fn activity(recorded: Recorded, states: Vec<RangeState>) -> pb::ActivityResponse {
    let watches = states.into_iter().map(|state| {
        let counted = recorded.watches.iter().find(|counted| counted.item == state.range);
        pb::WatchActivity {
            watches: state.watches,
            events: counted.map_or(0, |counted| counted.count),
            revisions_behind: state.revisions_behind,
            slowest_client: state.slowest.as_ref().map(address).unwrap_or_default(),
            key: state.range.key,
            range_end: state.range.range_end,
        }
    });
    let watches = watches.collect();
    let prefixes = recorded.prefixes.into_iter().map(|followed| pb::PrefixActivity {
        prefix: followed.item,
        traffic: traffic(followed.tally),
        uncounted: followed.overcount,
    });
    let clients = recorded.clients.into_iter().map(|followed| pb::ClientActivity {
        address: address(&followed.item),
        user: followed.item.user.as_deref().unwrap_or_default().to_owned(),
        traffic: traffic(followed.tally),
        uncounted: followed.overcount,
    });
    pb::ActivityResponse {
        total: traffic(recorded.total),
        prefixes: prefixes.collect(),
        clients: clients.collect(),
        watches,
        ..pb::ActivityResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::timeline::Mark;

    #[test]
    fn times_are_found_or_told_to_be_out_of_reach() {
        let mut timeline = Timeline::default();
        for (revision, time_ms) in [(5, 1000), (9, 2000)] {
            timeline.mark(Mark { revision: Revision(revision), time_ms });
        }
        let at = |time_ms| {
            let found = revision_at(&timeline, time_ms, 10_000, Revision(12));
            found.map(|found| (found.revision, found.since_ms, found.until_ms))
        };
        assert_eq!(at(1500).unwrap(), (5, 1000, 2000));
        assert_eq!(at(2000).unwrap(), (9, 2000, 0));
        assert_eq!(at(9_999).unwrap(), (9, 2000, 0), "what came after the last mark is younger than that");
        assert_eq!(at(10_000).unwrap(), (12, 2000, 0), "now");
        assert_eq!(at(999).unwrap(), (0, 1000, 0), "before the marks begin");
        assert_eq!(at(0).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(at(99_999).unwrap_err().message(), "time_ms: that time is in the future");
        let empty = revision_at(&Timeline::default(), 5, 10, Revision(3)).unwrap();
        assert_eq!((empty.revision, empty.since_ms), (0, 0));
    }

    #[test]
    fn numbers_that_are_left_out_have_defaults() {
        assert_eq!(grouping(None).unwrap(), (Grouping::new(b"/", 1), DEFAULT_TOP));
        let asked = pb::Grouping { separator: Bytes::from("."), depth: 3, top: 7 };
        assert_eq!(grouping(Some(&asked)).unwrap(), (Grouping::new(b".", 3), 7));
        let much = pb::Grouping { top: 1001, ..pb::Grouping::default() };
        assert!(grouping(Some(&much)).unwrap_err().message().starts_with("top: at most 1000"));
    }
}
