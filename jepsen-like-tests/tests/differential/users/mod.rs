//! Random changes of users and roles, and requests in the names of several users, answered like etcd does; tokens that
//! have ended are shown too, some are made up, and some requests have none.
//!
//! Known differences between Debian's etcd 3.4.23 and newer etcd, whose behaviour Barque has. Each is kept out of the
//! comparison where it is named, and nothing else is:
//!
//! 1. A token that is shown while Auth is disabled: 3.4 refuses it ("invalid auth token"), newer etcd does not look at
//!    it. Tokens are kept to oneself then.
//! 2. A permission on a range that a role has already, beside another one with the same first key: etcd may keep both,
//!    Barque changes the first. All ranges begin with keys of their own.
//! 3. Permissions on empty ranges, of no type, or none at all: 3.4 grants the first two and dies of the last, newer etcd
//!    refuses them. The generator makes none.
//! 4. `AuthStatus`: 3.4 does not have it.
//! 5. Empty passwords, and logins of users without one: 3.4 hashes the empty text, newer etcd has it match nothing; and
//!    it has another text for the second. The generator makes none.
//! 6. Previous versions, leases and transactions inside of a transaction: 3.4 does not ask whether their keys may be
//!    read or written. The generator makes none; that Barque asks is tested with `auth::check`.
//! 7. What the role `root` may: 3.4 answers what was granted to it, newer etcd that it may everything.
//! 8. Leases granted or revoked, transactions of nothing, and the user without a name, asked for by nobody: etcd, also
//!    newer etcd, asks for no right; Barque wants to know who asks. They come with a token. Leases told, and compaction: 3.4 asks for no rights. The generator
//!    makes none; that Barque asks for them is tested with `rpc::auth_tests`.
//! 9. Ranges without keys, the end not behind the beginning: whether etcd lets them through depends on where the
//!    permissions of a user touch each other. There is nothing to be seen in them; the generator makes none.

mod requests;

use std::collections::{BTreeMap, VecDeque};

use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};

use super::number_from;
use requests::{Ask, Asks, Refused, Told, USERS, ask, enabling, login};

/// Requests of the failing sequence that are shown.
const SHOWN: usize = 30;

const INVALID_TOKEN: &str = "etcdserver: invalid auth token";

/// Refusals that every sequence of this length meets.
const EXPECTED: [&str; 12] = [
    "etcdserver: authentication is not enabled",
    INVALID_TOKEN,
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: invalid auth management",
    "etcdserver: permission denied",
    "etcdserver: permission is not granted to the role",
    "etcdserver: role is not granted to the user",
    "etcdserver: role name already exists",
    "etcdserver: role name not found",
    "etcdserver: user name already exists",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
];

/// A login: the user, the token from etcd, the token from the subject.
#[derive(Clone, Debug)]
struct Login {
    user: String,
    tokens: [String; 2],
    /// Until etcd has refused it.
    good: bool,
}

/// What is known of both stores from what they answered.
#[derive(Default)]
struct Walk {
    enabled: bool,
    /// Of the users that have one.
    passwords: BTreeMap<String, String>,
    logins: Vec<Login>,
    refused: BTreeMap<String, usize>,
    /// How often keys were read or written by a user that is not `root`.
    done_by_others: usize,
}

impl Walk {
    /// Whose token comes with a request, if any.
    fn login_for(&self, what: &Ask, asks: &mut Asks) -> Option<Login> {
        if !self.enabled || (!what.needs_login() && asks.chance(5)) {
            return None;
        }
        let made_up = "made-up.1".to_owned();
        let made_up = Login { user: String::new(), tokens: [made_up.clone(), made_up], good: false };
        if asks.chance(2) {
            return Some(made_up);
        }
        if !self.logins.is_empty() && asks.chance(6) {
            let any = asks.pick(&(0..self.logins.len()).collect::<Vec<_>>());
            return Some(self.logins[any].clone());
        }
        let by_root = !what.is_about_keys() && asks.chance(80);
        let user = if by_root { "root" } else { asks.pick(&USERS) };
        let newest = self.logins.iter().rev().find(|login| login.user == user);
        newest.cloned().or(what.needs_login().then_some(made_up))
    }

    /// What leads away from states in which little can be compared: Auth disabled, users without a good token.
    fn wanted(&self, asks: &mut Asks) -> Option<Ask> {
        if !self.enabled && asks.chance(15) {
            let [add, grant, enable] = enabling();
            return Some(match asks.pick(&[0, 1, 2]) {
                0 => add,
                1 => grant,
                _ => enable,
            });
        }
        let is_in = |user: &str| {
            self.logins.iter().rev().find(|login| login.user == user).is_some_and(|login| login.good)
        };
        let out: Vec<_> = self.passwords.iter().filter(|(user, _)| !is_in(user)).collect();
        if !self.enabled || out.is_empty() || !asks.chance(30) {
            return None;
        }
        let (user, password) = asks.pick(&out);
        Some(login(user, password))
    }

    fn learn(&mut self, what: &Ask, by: Option<&Login>, answer: &Result<String, Refused>) {
        if let Err((_, text)) = answer {
            *self.refused.entry(text.clone()).or_default() += 1;
            if text == INVALID_TOKEN
                && let Some(by) = by
            {
                self.logins
                    .iter_mut()
                    .filter(|login| login.tokens == by.tokens)
                    .for_each(|it| it.good = false);
            }
            return;
        }
        match what {
            Ask::Enable(_) => self.enabled = true,
            Ask::Disable(_) => self.enabled = false,
            Ask::UserAdd(add) if !add.options.as_ref().is_some_and(|options| options.no_password) => {
                self.passwords.insert(add.name.clone(), add.password.clone());
            }
            Ask::UserDelete(delete) => drop(self.passwords.remove(&delete.name)),
            Ask::ChangePassword(change) => {
                if let Some(password) = self.passwords.get_mut(&change.name) {
                    password.clone_from(&change.password);
                }
            }
            what if what.is_about_keys() && by.is_some_and(|by| by.user != "root") => {
                self.done_by_others += 1;
            }
            _ => {}
        }
    }
}

async fn auth_revision(cluster: &Cluster, index: usize) -> String {
    let page = http_get(cluster.client_port(index), "/metrics").await.unwrap().body;
    let line = page.lines().find_map(|line| line.strip_prefix("etcd_debugging_auth_revision "));
    line.expect("the revision of users and roles is a metric").to_owned()
}

/// Sends one sequence to both and compares after each request. What was compared is told.
async fn compare(seed: u64, count: u64, reference: &Client, subject: &Client, serializable: bool) -> Walk {
    let seed = number_from("DIFFERENTIAL_SEED").unwrap_or(seed);
    let count = number_from("DIFFERENTIAL_REQUESTS").unwrap_or(count);
    println!("DIFFERENTIAL_SEED={seed} DIFFERENTIAL_REQUESTS={count}");
    let mut asks = Asks::new(seed, serializable);
    let mut walk = Walk::default();
    let mut sent = VecDeque::new();
    for number in 1..=count {
        let what = walk.wanted(&mut asks).unwrap_or_else(|| asks.next());
        let by = walk.login_for(&what, &mut asks);
        let [of_reference, of_subject] =
            [0, 1].map(|store| by.as_ref().map(|login| login.tokens[store].as_str()));
        sent.push_back(format!("{number:>5} {:?}: {what:?}", by.as_ref().map(|login| &login.user)));
        if sent.len() > SHOWN {
            sent.pop_front();
        }
        let (expected, told) =
            tokio::join!(ask(reference, &what, of_reference), ask(subject, &what, of_subject));
        if expected.answer != told.answer {
            sent.iter().for_each(|line| println!("{line}"));
            let (expected, told) = (expected.answer, told.answer);
            panic!(
                "seed {seed}: request {number} is answered differently\netcd:    {expected:?}\nsubject: {told:?}"
            );
        }
        walk.learn(&what, by.as_ref(), &expected.answer);
        if let (Ask::LogIn(request), Told { token: Some(one), .. }, Told { token: Some(two), .. }) =
            (&what, expected, told)
        {
            walk.logins.push(Login { user: request.name.clone(), tokens: [one, two], good: true });
        }
    }
    println!(
        "{} logins; others than root did {} things to keys; refused:",
        walk.logins.len(),
        walk.done_by_others
    );
    walk.refused.iter().for_each(|(text, count)| println!("{count:>5} {text}"));
    walk
}

impl Walk {
    /// For the seeds that are always the same: by chance another may leave something out.
    fn compared_enough(&self) {
        let missing: Vec<_> = EXPECTED.iter().filter(|text| !self.refused.contains_key(**text)).collect();
        let others = self.done_by_others;
        assert!(missing.is_empty() && others > 20, "the sequence compares little: no {missing:?}");
    }
}

/// A fresh single member of etcd, which hashes passwords fast, and a client of it.
async fn reference() -> (Cluster, Client) {
    let options = Options::default().fast_elections().flag("--bcrypt-cost", 4);
    let cluster = Cluster::start(Flavor::Etcd, 1, options).await.unwrap();
    let client = cluster.client(0);
    (cluster, client)
}

async fn compare_with_one_member(seed: u64) -> Walk {
    let (etcd, reference) = reference().await;
    let options = Options::default().fast_elections();
    let cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let walk = compare(seed, 2000, &reference, &cluster.client(0), true).await;
    assert_eq!(auth_revision(&cluster, 0).await, auth_revision(&etcd, 0).await, "right is etcd");
    walk
}

#[tokio::test]
async fn one_member_holds_users_to_their_rights_like_etcd_1() {
    compare_with_one_member(1).await.compared_enough();
}

#[tokio::test]
async fn one_member_holds_users_to_their_rights_like_etcd_2() {
    compare_with_one_member(2).await.compared_enough();
}

#[tokio::test]
async fn one_member_holds_users_to_their_rights_like_etcd_with_a_new_seed() {
    compare_with_one_member(rand::random_range(100..u64::from(u32::MAX))).await;
}

/// Local reads are left out: a follower may answer them from a past state.
#[tokio::test]
async fn a_follower_holds_users_to_their_rights_like_etcd() {
    let (_etcd, reference) = reference().await;
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let follower = cluster.followers().await.unwrap()[0];
    compare(3, 1500, &reference, &cluster.client(follower), false).await.compared_enough();
}
