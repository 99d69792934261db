//! Requests that wait, in paused time.

use std::task::Poll;

use futures::poll;
use serde_json::json;

use super::super::level::{Level, Queuing, Response};
use super::super::schema::Schema;
use super::*;

const PATIENCE: Duration = Duration::from_secs(15);

fn limits(seats: u32) -> Limits {
    let limits = Limits::new(Settings { seats, patience: PATIENCE }, Arc::new(Metrics::new()));
    let level = |name: &str, response| {
        Arc::new(Level {
            name: name.into(),
            uid: "".into(),
            shares: 100,
            lendable_percent: 0,
            borrowing_percent: None,
            response,
        })
    };
    let queue = Response::Queue(Queuing { queues: 8, hand_size: 2, queue_length_limit: 2 });
    let schema = json!({"metadata": {"name": "a"}, "spec": {"priorityLevelConfiguration": {"name": "a"}}});
    let schema = Arc::new(Schema::of(&schema).unwrap());
    limits.configure(Configuration::new([schema], [level("a", queue), level("exempt", Response::Exempt)]));
    limits
}

fn of(level: &str, who: &str) -> Classified {
    Classified {
        schema: level.into(),
        schema_uid: "".into(),
        level: level.into(),
        level_uid: "".into(),
        distinguisher: who.into(),
    }
}

/// Takes all seats of the level.
async fn fill(limits: &Limits) -> Vec<Permit> {
    let nominal = limits.0.state.lock().scheduler.nominal("a");
    let mut permits = Vec::new();
    for _ in 0..nominal {
        permits.push(limits.admit(&of("a", "x"), 1).await.unwrap());
    }
    permits
}

fn text(limits: &Limits) -> String {
    String::from_utf8(limits.0.metrics.text()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_ends_begins_the_next() {
    let limits = limits(10);
    let mut permits = fill(&limits).await;
    let next = of("a", "y");
    let mut waits = Box::pin(limits.admit(&next, 1));
    assert!(poll!(&mut waits).is_pending());
    tokio::time::advance(Duration::from_secs(2)).await;
    permits.pop();
    let permit = waits.await.unwrap();
    assert_eq!(permit.waited(), Duration::from_secs(2));
    drop((permit, permits));
    assert_eq!(limits.0.state.lock().scheduler.used(), 0);
    let text = text(&limits);
    let pair = "flow_schema=\"a\",priority_level=\"a\"";
    for line in [
        format!("apiserver_flowcontrol_current_executing_requests{{{pair}}} 0"),
        format!("apiserver_flowcontrol_current_inqueue_requests{{{pair}}} 0"),
        "apiserver_flowcontrol_request_wait_duration_seconds_sum{execute=\"true\",flow_schema=\"a\",\
         priority_level=\"a\"} 2"
            .to_owned(),
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_sent_away() {
    let limits = limits(10);
    let _permits = fill(&limits).await;
    let began = Instant::now();
    let status = limits.admit(&of("a", "y"), 1).await.err().unwrap();
    assert_eq!(began.elapsed(), PATIENCE);
    assert_eq!(status.reason.code(), 429);
    assert_eq!(status.message, "too many requests, please try again later");
    assert_eq!(status.details.retry_after_seconds, 1);
    assert_eq!(limits.0.state.lock().scheduler.waiting(), 0);
    let line = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"a\",priority_level=\"a\",reason=\"time-out\"} 1";
    assert!(text(&limits).lines().any(|got| got == line));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let limits = limits(10);
    let mut permits = fill(&limits).await;
    let next = of("a", "y");
    let mut goes = Box::pin(limits.admit(&next, 1));
    assert!(poll!(&mut goes).is_pending());
    drop(goes);
    assert_eq!(limits.0.state.lock().scheduler.waiting(), 0);
    // And one that goes just as its seats have come.
    let mut goes = Box::pin(limits.admit(&next, 1));
    let mut stays = Box::pin(limits.admit(&next, 1));
    assert!(poll!(&mut goes).is_pending());
    assert!(poll!(&mut stays).is_pending());
    permits.pop();
    drop(goes);
    let Poll::Ready(Ok(permit)) = poll!(&mut stays) else { panic!("the seats were lost") };
    drop((permit, permits));
    let state = limits.0.state.lock();
    assert_eq!((state.scheduler.used(), state.scheduler.waiting(), state.waiting.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_sends_away_at_once_and_exempt_requests_never_wait() {
    let limits = limits(10);
    let _permits = fill(&limits).await;
    let (next, exempt) = (of("a", "y"), of("exempt", "y"));
    let mut waiting = Vec::new();
    let refused = loop {
        let mut waits = Box::pin(limits.admit(&next, 1));
        match poll!(&mut waits) {
            Poll::Pending => waiting.push(waits),
            Poll::Ready(answer) => break answer.err(),
        }
    };
    assert_eq!(refused, Some(too_many_requests()));
    assert_eq!(waiting.len(), 4);
    for _ in 0..50 {
        assert!(limits.admit(&exempt, 10).await.is_ok());
    }
}

#[tokio::test]
async fn many_at_once_are_never_more_than_there_are_seats() {
    use std::sync::atomic::{AtomicU32, Ordering};

    let limits = limits(10);
    let most = limits.0.state.lock().scheduler.total();
    let (now, peak) = (AtomicU32::new(0), AtomicU32::new(0));
    let all = (0..200_u32).map(|number| {
        let (limits, now, peak) = (&limits, &now, &peak);
        async move {
            let flow = of("a", &(number % 7).to_string());
            let Ok(permit) = limits.admit(&flow, number % 3).await else { return };
            let used = now.fetch_add(permit.seats(), Ordering::SeqCst) + permit.seats();
            peak.fetch_max(used, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(permit.seats(), Ordering::SeqCst);
        }
    });
    futures::future::join_all(all).await;
    let peak = peak.into_inner();
    assert!(peak > 1 && peak <= most, "{peak}");
    assert_eq!(limits.0.state.lock().scheduler.used(), 0);
}
