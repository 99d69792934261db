//! What each workload asks of Barque, asked again of etcd and of Barque, is answered alike; and a replay finds what is not.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::time::Duration;

use jepsen_like_tests::call::Reply;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::nemesis::Nemesis;
use jepsen_like_tests::replay::{Answer, Live, LiveError, Plan, Replayed, Step, Store, Told, compare, plan};
use jepsen_like_tests::run::{Plan as Traffic, run};
use jepsen_like_tests::workload::Workload;

/// For how long clients are at work.
const DURATION: Duration = Duration::from_secs(1);

/// A store whose answer to one step is altered.
struct Altered {
    live: Live,
    /// Steps until the one that is altered; `None` alters nothing.
    left: Option<usize>,
}

impl Store for Altered {
    type Error = LiveError;

    async fn take(&mut self, step: &Step) -> Result<Told, LiveError> {
        let mut told = self.live.take(step).await?;
        let due = self.left == Some(0);
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if due && let Some(Answer::Reply(reply)) = &mut told.answer {
            alter(reply);
        }
        Ok(told)
    }
}

/// One bit of what a client would rely on.
fn alter(reply: &mut Reply) {
    match reply {
        Reply::Range(range) => range.more = !range.more,
        Reply::Txn(txn) => txn.succeeded = !txn.succeeded,
        other => other.header_mut().as_mut().unwrap().revision += 1,
    }
}

/// What a second of this traffic asks of the store under test.
async fn recorded(workload: Workload) -> Plan {
    let traffic = Traffic {
        workload,
        nemesis: Nemesis::None,
        duration: DURATION,
        seed: rand::random(),
        clients: 6,
        pace: Duration::from_millis(10),
        secure: false,
        flavor: Flavor::under_test(),
        unsafe_no_fsync: false,
        out: None,
    };
    let run = run(&traffic, |_| ()).await.unwrap();
    let wrong = run.findings.iter().find(|finding| !finding.verdict.passed());
    assert!(wrong.is_none(), "{workload}, seed {}: {wrong:?}", traffic.seed);
    plan(&run.history).unwrap()
}

async fn replayed(plan: &Plan, altered: Option<usize>) -> Replayed {
    let options = Options::default().fast_elections();
    let (etcd, subject) = tokio::join!(
        Cluster::start(Flavor::Etcd, 1, options.clone()),
        Cluster::start(Flavor::under_test(), 1, options)
    );
    let (etcd, subject) = (etcd.unwrap(), subject.unwrap());
    let mut first = Live::begin("etcd", etcd.client(0)).await.unwrap();
    let live = Live::begin("the store under test", subject.client(0)).await.unwrap();
    let mut second = Altered { live, left: altered };
    compare(plan, &mut first, &mut second, |_, _| ()).await.unwrap()
}

async fn is_answered_alike(workload: Workload) {
    let plan = recorded(workload).await;
    let replayed = replayed(&plan, None).await;
    println!("{workload}: {replayed:?}, left out: {} requests", plan.requests_left_out);
    if let Some(difference) = &replayed.difference {
        panic!("{workload}: first is etcd, second the store under test\n{difference}");
    }
    assert!(replayed.calls >= 10 && replayed.watches >= 3 && replayed.events > 0, "{replayed:?}");
    // The order was the one of the record, so that everything came out as it did there.
    assert_eq!(replayed.revision, plan.newest, "the newest revision of the replay and of the record");
    assert_eq!((plan.requests_left_out, plan.watches_left_out), (0, 0));
}

macro_rules! workloads {
    ($($name:ident: $workload:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            is_answered_alike(Workload::$workload).await;
        }
    )*};
}

workloads! {
    registers: Register,
    lists: ListAppend,
    sets: Set,
    counters: Counter,
    watches: Watch,
    leases: Lease,
    locks: Lock,
    kubernetes: Kubernetes,
    transactions: Transactions,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_answer_is_found() {
    let plan = recorded(Workload::Register).await;
    let is_call = |index: &usize| matches!(plan.steps[*index], Step::Call(..));
    let altered = (plan.steps.len() / 2..plan.steps.len()).find(is_call).unwrap();
    let replayed = replayed(&plan, Some(altered)).await;
    let difference = replayed.difference.unwrap();
    assert_eq!((difference.number, difference.watch), (altered + 1, None), "{difference}");
    assert!(difference.to_string().contains(&format!("step {} of the replay", altered + 1)), "{difference}");
}
