//! The simulated API: objects with versions, a history, and trouble as a seed says. It refuses what the API would refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use super::Time;
use crate::act::Api;
use crate::kind::{Key, Kind, Object};
use crate::plan::{Action, Done, Failure, ObjectId, Propagation, Verdict};
use crate::question::{Answer, Question};

/// What goes wrong with writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// Of so many in a hundred: the API is busy or broken, or it is but the write was done.
    Percent(u32),
    /// Pods are refused: a quota is used up.
    Quota,
}

/// Objects and their history.
pub(crate) struct SimulatedApi {
    truth: Mutex<Truth>,
    time: Time,
    answers: Mutex<Option<Answering>>,
}

/// Answers questions, knowing all objects.
type Answering = Box<dyn Fn(&Question, &Objects) -> Answer + Send>;

type Objects = BTreeMap<(Kind, Key), Value>;

struct Truth {
    objects: Objects,
    /// What changed, in order; its place plus one is its version.
    history: Vec<(Kind, Value, bool)>,
    made: u64,
    rng: StdRng,
    trouble: Trouble,
}

fn refused(verdict: Verdict, message: &str) -> Failure {
    Failure { verdict, message: message.to_owned() }
}

fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Key::new(text("namespace"), text("name"))
}

impl Truth {
    fn tell(&mut self, kind: Kind, mut object: Value, gone: bool) -> Value {
        let version = self.history.len() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.history.push((kind, object.clone(), gone));
        if gone {
            self.objects.remove(&(kind, key_of(&object)));
        } else {
            self.objects.insert((kind, key_of(&object)), object.clone());
        }
        object
    }

    fn create(&mut self, kind: Kind, object: &Value, now: &str) -> Result<Done, Failure> {
        let mut object = object.clone();
        self.made += 1;
        let made = self.made;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let base = meta["generateName"].as_str().unwrap_or_default();
            meta["name"] = format!("{base}{made:05}").into();
        }
        meta["uid"] = format!("uid-{made}").into();
        meta["generation"] = 1.into();
        meta["creationTimestamp"] = now.into();
        if self.objects.contains_key(&(kind, key_of(&object))) {
            return Err(refused(Verdict::Outdated, "it is there already"));
        }
        object["status"] = if kind.kind == "Pod" { json!({"phase": "Pending"}) } else { json!({}) };
        Ok(done(&self.tell(kind, object, false)))
    }

    /// The object as it is, if it is still the one that was seen.
    fn same(&self, id: &ObjectId) -> Result<Value, Failure> {
        let found = self.objects.get(&(id.kind, id.key.clone()));
        let found = found.ok_or_else(|| refused(Verdict::Gone, "it is not there"))?;
        if found["metadata"]["uid"] != id.uid.as_str() {
            return Err(refused(Verdict::Outdated, "it is another one"));
        }
        Ok(found.clone())
    }

    fn update(&mut self, id: &ObjectId, subresource: Option<&str>, patch: &Value) -> Result<Done, Failure> {
        let before = self.same(id)?;
        if before["metadata"]["resourceVersion"] != id.version.as_str() {
            return Err(refused(Verdict::Outdated, "the object has been modified"));
        }
        let mut after = before.clone();
        barque_api::patch::merge::merge(&mut after, patch.clone());
        Ok(done(&self.changed(id.kind, before, after, subresource)))
    }

    fn changed(&mut self, kind: Kind, before: Value, mut after: Value, subresource: Option<&str>) -> Value {
        match subresource {
            Some("status") => {
                let status = after["status"].take();
                after = before.clone();
                after["status"] = status;
            }
            _ => {
                after["status"] = before["status"].clone();
                if after["spec"] != before["spec"] {
                    let generation = before["metadata"]["generation"].as_i64().unwrap_or_default();
                    after["metadata"]["generation"] = (generation + 1).into();
                }
            }
        }
        if after == before {
            return before;
        }
        let deleted = !after["metadata"]["deletionTimestamp"].is_null();
        let gone = deleted && !has_finalizers(&after) && after["metadata"]["deletionGracePeriodSeconds"] == 0;
        self.tell(kind, after, gone)
    }

    fn delete(&mut self, action: &Action, now: &str) -> Result<Done, Failure> {
        let Action::Delete { object: id, propagation, grace_seconds, unchanged } = action else {
            unreachable!("only deletions come here")
        };
        let mut object = self.same(id)?;
        if *unchanged && object["metadata"]["resourceVersion"] != id.version.as_str() {
            return Err(refused(Verdict::Outdated, "the object has been modified"));
        }
        let finished = ["Succeeded", "Failed"].iter().any(|phase| object["status"]["phase"] == *phase);
        let runs = id.kind.kind == "Pod" && !object["spec"]["nodeName"].is_null() && !finished;
        let grace = if runs { grace_seconds.unwrap_or(30) } else { 0 };
        if *propagation == Propagation::Foreground || *propagation == Propagation::Orphan {
            let name = if *propagation == Propagation::Orphan { "orphan" } else { "foregroundDeletion" };
            let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            finalizers.push(name.into());
            object["metadata"]["finalizers"] = finalizers.into();
        }
        if grace == 0 && !has_finalizers(&object) {
            return Ok(done(&self.tell(id.kind, object, true)));
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = now.into();
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            object = self.tell(id.kind, object, false);
        }
        Ok(done(&object))
    }

    fn perform(&mut self, action: &Action, now: &str) -> Result<Done, Failure> {
        match action {
            Action::Create { kind, object } => {
                if self.trouble == Trouble::Quota && kind.kind == "Pod" {
                    return Err(refused(Verdict::Refused, "exceeded quota"));
                }
                self.create(*kind, object, now)
            }
            Action::Update { object, subresource, patch } => self.update(object, *subresource, patch),
            Action::Delete { .. } => self.delete(action, now),
            // Who scales is not simulated whole: its decisions are pure.
            Action::Scale { .. } => Err(refused(Verdict::Refused, "nothing is scaled here")),
            Action::Confirm { object } => {
                let gone = |_| refused(Verdict::Gone, "it is another one");
                let found = self.same(object).map_err(gone)?;
                if !found["metadata"]["deletionTimestamp"].is_null() {
                    return Err(refused(Verdict::Gone, "it is being deleted"));
                }
                Ok(done(&found))
            }
            Action::Unchanged { object } => {
                let found = self.same(object).map_err(|_| refused(Verdict::Gone, "it is another one"))?;
                if found["metadata"]["resourceVersion"] != object.version.as_str() {
                    return Err(refused(Verdict::Outdated, "it has changed since it was seen"));
                }
                Ok(done(&found))
            }
            Action::Absent { kind, key } => {
                if self.objects.contains_key(&(*kind, key.clone())) {
                    return Err(refused(Verdict::Outdated, "it is there"));
                }
                Ok(Done { key: key.clone(), uid: String::new(), version: String::new() })
            }
        }
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}

fn done(object: &Value) -> Done {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Done { key: key_of(object), uid: text("uid"), version: text("resourceVersion") }
}

impl SimulatedApi {
    pub(super) fn new(seed: u64, time: Time) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let truth =
            Truth { objects: BTreeMap::new(), history: Vec::new(), made: 0, rng, trouble: Trouble::None };
        Self { truth: Mutex::new(truth), time, answers: Mutex::default() }
    }

    /// As objects tell it.
    pub(crate) fn time_of_day(&self) -> Timestamp {
        Timestamp::from_second(self.time.now().as_second()).unwrap()
    }

    fn now(&self) -> String {
        self.time_of_day().to_string()
    }

    /// From here on, this goes wrong.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.truth.lock().trouble = trouble;
    }

    /// From here on, questions for one object of a kind of this plural are answered from what there is; before, nothing is there.
    pub(super) fn answer_from_objects(&self, kind: Kind, plural: &'static str) {
        *self.answers.lock() = Some(Box::new(move |question, objects| {
            let parts: Vec<_> = question.path.split('/').collect();
            let found = match parts[..] {
                [.., "namespaces", namespace, of, name] if of == plural => {
                    objects.get(&(kind, Key::new(namespace, name))).cloned()
                }
                _ => None,
            };
            found.ok_or_else(|| refused(Verdict::Gone, "not found"))
        }));
    }

    /// How many changes there were.
    pub(crate) fn history_len(&self) -> usize {
        self.truth.lock().history.len()
    }

    /// The changes from this place on.
    pub(crate) fn changes_since(&self, from: usize) -> Vec<Value> {
        self.truth.lock().history[from..].iter().map(|(_, object, _)| object.clone()).collect()
    }

    /// The first change of a kind at this place or later.
    pub(super) fn next_change(&self, kind: &Kind, from: usize) -> Option<(usize, Value, bool)> {
        let truth = self.truth.lock();
        let mut later = truth.history.iter().enumerate().skip(from);
        let (at, (_, object, gone)) = later.find(|(_, (of, ..))| of == kind)?;
        Some((at, object.clone(), *gone))
    }

    /// All objects of a kind.
    pub(super) fn list(&self, kind: &Kind) -> Vec<Value> {
        let truth = self.truth.lock();
        truth.objects.iter().filter(|((of, _), _)| of == kind).map(|(_, object)| object.clone()).collect()
    }

    /// All objects of a type.
    pub(crate) fn all<K: Object>(&self) -> Vec<K> {
        let read = |object| serde_json::from_value(object).unwrap();
        self.list(&Kind::of::<K>()).into_iter().map(read).collect()
    }

    /// One object.
    pub(crate) fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<K> {
        let truth = self.truth.lock();
        let found = truth.objects.get(&(Kind::of::<K>(), Key::new(namespace, name)))?;
        Some(serde_json::from_value(found.clone()).unwrap())
    }

    pub(super) fn create_as_user<K: Object>(&self, object: Value) -> K {
        let mut truth = self.truth.lock();
        let made = truth.create(Kind::of::<K>(), &object, &self.now()).unwrap();
        let object = truth.objects[&(Kind::of::<K>(), made.key)].clone();
        serde_json::from_value(object).unwrap()
    }

    /// Changes an object, without trouble; what is not there stays so. The status is changed as well.
    pub(crate) fn edit<K: Object>(&self, key: &Key, change: impl FnOnce(&mut K)) {
        let mut truth = self.truth.lock();
        let kind = Kind::of::<K>();
        let Some(before) = truth.objects.get(&(kind, key.clone())).cloned() else { return };
        let mut object: K = serde_json::from_value(before.clone()).unwrap();
        change(&mut object);
        let after = serde_json::to_value(&object).unwrap();
        let changed = truth.changed(kind, before, without_nulls(after.clone()), None);
        truth.changed(kind, changed, without_nulls(after), Some("status"));
    }

    /// Deletes an object, without trouble.
    pub(crate) fn delete<K: Object>(&self, key: &Key, propagation: Propagation, grace_seconds: Option<u32>) {
        let mut truth = self.truth.lock();
        let Some(found) = truth.objects.get(&(Kind::of::<K>(), key.clone())) else { return };
        let object: K = serde_json::from_value(found.clone()).unwrap();
        let id = ObjectId::of(&object);
        let action = Action::Delete { object: id, propagation, grace_seconds, unchanged: false };
        truth.delete(&action, &self.now()).unwrap();
    }

    /// What is controlled by something that is not there any more goes; whether there was something.
    pub(super) fn collect_garbage(&self) -> bool {
        let now = self.now();
        let mut truth = self.truth.lock();
        let uids: std::collections::HashSet<_> =
            truth.objects.values().map(|object| object["metadata"]["uid"].clone()).collect();
        let lost = truth.objects.iter().find_map(|((kind, key), object)| {
            let owners = object["metadata"]["ownerReferences"].as_array()?;
            let lost = !owners.is_empty() && owners.iter().all(|owner| !uids.contains(&owner["uid"]));
            let fresh = object["metadata"]["deletionTimestamp"].is_null();
            let uid = object["metadata"]["uid"].as_str()?.to_owned();
            (lost && fresh).then(|| ObjectId { kind: *kind, key: key.clone(), uid, version: String::new() })
        });
        let Some(object) = lost else { return false };
        let action = Action::Delete {
            object,
            propagation: Propagation::Background,
            grace_seconds: None,
            unchanged: false,
        };
        truth.delete(&action, &now).unwrap();
        true
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

impl Api for SimulatedApi {
    async fn ask(&self, question: &Question) -> Answer {
        match &*self.answers.lock() {
            Some(answers) => answers(question, &self.truth.lock().objects),
            None => Err(refused(Verdict::Gone, "the server could not find the requested resource")),
        }
    }

    async fn perform(&self, action: &Action) -> Result<Done, Failure> {
        let now = self.now();
        let mut truth = self.truth.lock();
        let Trouble::Percent(percent) = truth.trouble else { return truth.perform(action, &now) };
        if !truth.rng.random_ratio(percent, 100) {
            return truth.perform(action, &now);
        }
        match truth.rng.random_range(0..3) {
            0 => Err(refused(Verdict::Later(Duration::from_secs(1)), "too many requests")),
            1 => Err(refused(Verdict::Unknown, "internal error")),
            _ => {
                // The answer is lost, whatever it was.
                let _ = truth.perform(action, &now);
                Err(refused(Verdict::Unknown, "the connection broke"))
            }
        }
    }
}
