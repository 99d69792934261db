//! Admission by webhooks of users: those that change objects are asked one after another, by the names of their configurations,
//! those that judge them all at once. Must never go on when a webhook could not be asked that has to agree.

mod hook;
mod review;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_api::kind::GroupResource;
use barque_api::patch;
use barque_api::status::Status;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::{Asked, Place, forbidden, is_exempt};
use super::expressions::Inputs;
use super::known::Known;
use super::lookup::{gather, in_version, settle};
use super::reinvocation::Rounds;
use super::rights::Rights;
use super::{Attributes, Authorize, Told};
use crate::metrics::{AdmissionMetrics, Called, Rejection, Step};
use crate::registry::collections::Collections;
use crate::registry::uid::new_uid;
use crate::storage::Storage;
use crate::webhook_client::{CallError, WebhookClient};
use hook::{Hook, hooks};
use review::Verdict;

/// Patches may make objects grow by so many bytes.
const COPIES_BYTES_MAX: usize = 3 << 20;

/// What a webhook that could not be asked counts as.
const UNAVAILABLE: u16 = 503;

static NULL: Value = Value::Null;

/// All webhooks, as their configurations say now. Cloning copies pointers.
#[derive(Clone)]
pub struct Webhooks<S: Storage> {
    collections: Collections<S>,
    authorize: Authorize,
    metrics: Arc<AdmissionMetrics>,
    client: WebhookClient<S>,
    mutating: Known<Vec<Hook>>,
    validating: Known<Vec<Hook>>,
}

/// Why a webhook did not agree.
enum Disagreement {
    /// It could not be asked, in words, with a number of HTTP.
    Failed(String, u16),
    /// It refuses the request.
    Denied(Status),
    /// The server does.
    Refused(Status),
}

/// What a webhook did to an object.
#[derive(Default)]
struct Change {
    /// Null where it had nothing to do.
    patch: Value,
    /// The object is another one now.
    changed: bool,
}

impl<S: Storage> Webhooks<S> {
    /// Follows the configurations with `tasks` until `stop`; conditions know rights as `authorize` does.
    #[must_use]
    pub fn start(
        collections: &Collections<S>,
        authorize: &Authorize,
        metrics: &Arc<AdmissionMetrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let known = |resource: &str| {
            let resource = GroupResource::new("admissionregistration.k8s.io", resource);
            Known::start(collections, &resource, hooks, tasks, stop)
        };
        Self {
            collections: collections.clone(),
            authorize: Arc::clone(authorize),
            metrics: Arc::clone(metrics),
            client: WebhookClient::new(collections.clone()),
            mutating: known("mutatingwebhookconfigurations"),
            validating: known("validatingwebhookconfigurations"),
        }
    }

    /// Lets webhooks change the object. When `rounds` say so afterwards, all plugins are asked again.
    ///
    /// # Errors
    /// When one of them refuses it, or could not be asked and has to agree.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        told: &mut Told,
        rounds: &mut Rounds,
    ) -> Result<(), Status> {
        let hooks = self.hooks(&self.mutating, attributes, object).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        let asked = gather(&self.collections, attributes).await;
        rounds.webhooks.begin(object);
        for (index, hook) in hooks.iter().flat_map(|hooks| hooks.iter()).enumerate() {
            let Some(place) = place_of(hook, &asked, object, &self.authorize).await? else { continue };
            if rounds.is_second() && !rounds.webhooks.is_to_be_asked(&hook.key) {
                continue;
            }
            let turn = format!("round_{}_index_{index}", u8::from(rounds.is_second()));
            let began = Instant::now();
            let answer = self.change(hook, &asked, &place, object, told).await;
            let call = called(hook, answer.as_ref().err());
            self.count(hook, Step::Admit, attributes, call, began.elapsed());
            let changed = answer.as_ref().is_ok_and(|change| change.changed);
            let about =
                json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
            told.annotate(format!("mutation.webhook.admission.k8s.io/{turn}"), about.to_string());
            match answer {
                Ok(Change { patch: Value::Null, .. }) => {}
                Ok(Change { patch, changed }) => {
                    let about = json!({"configuration": hook.configuration, "webhook": hook.name,
                        "patch": patch, "patchType": "JSONPatch"});
                    told.details.push((format!("patch.webhook.admission.k8s.io/{turn}"), about.to_string()));
                    if changed {
                        rounds.webhooks.changed();
                        rounds.change();
                    }
                }
                Err(disagreement) => {
                    let key = format!("failed-open.mutation.webhook.admission.k8s.io/{turn}");
                    settle_disagreement(hook, disagreement, key, told)?;
                }
            }
            if hook.again {
                rounds.webhooks.asked(&hook.key);
            }
        }
        rounds.webhooks.end(object);
        Ok(())
    }

    /// Lets webhooks refuse the object; it is null for deletions.
    ///
    /// # Errors
    /// When one of them does, or could not be asked and has to agree.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let hooks = self.hooks(&self.validating, attributes, object).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        let asked = gather(&self.collections, attributes).await;
        let mut relevant = Vec::new();
        for hook in hooks.iter().flat_map(|hooks| hooks.iter()) {
            if let Some(place) = place_of(hook, &asked, object, &self.authorize).await? {
                relevant.push((hook, place));
            }
        }
        let calls = relevant.iter().map(|(hook, place)| async {
            let began = Instant::now();
            let verdict = match in_version(&asked, object, &asked.place(), place).await {
                Ok(object) => self.ask(hook, &asked, place, &object, false).await,
                Err(status) => Err(Disagreement::Refused(status)),
            };
            (verdict, began.elapsed())
        });
        let answers = join_all(calls).await;
        let mut refused = None;
        for (index, ((hook, _), (answer, taken))) in relevant.iter().zip(answers).enumerate() {
            let agreed = answer.and_then(|verdict| agree(hook, verdict, told).map(|_| ()));
            self.count(hook, Step::Validate, attributes, called(hook, agreed.as_ref().err()), taken);
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            let settled = agreed.or_else(|disagreement| settle_disagreement(hook, disagreement, key, told));
            if let Err(status) = settled {
                refused.get_or_insert(status);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn count(&self, hook: &Hook, step: Step, attributes: &Attributes<'_>, called: Called, taken: Duration) {
        self.metrics.webhook(&hook.name, step, attributes.operation.name(), called, taken);
    }

    /// All webhooks in their order; none for what nobody is asked about.
    async fn hooks(
        &self,
        known: &Known<Vec<Hook>>,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Vec<Arc<Vec<Hook>>>, Status> {
        if is_exempt(attributes) {
            return Ok(Vec::new());
        }
        match known.now().await {
            Some(all) => Ok(all.values().map(Arc::clone).collect()),
            None => Err(forbidden(attributes, object, "not yet ready to handle request")),
        }
    }

    /// Asks one webhook, and does to the object what it says.
    async fn change(
        &self,
        hook: &Hook,
        asked: &Asked<'_>,
        place: &Place,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<Change, Disagreement> {
        let own = asked.place();
        let seen = in_version(asked, object, &own, place).await.map_err(Disagreement::Refused)?;
        let verdict = self.ask(hook, asked, place, &seen, true).await?;
        let patch = agree(hook, verdict, told)?;
        if patch.as_array().is_none_or(Vec::is_empty) {
            return Ok(Change::default());
        }
        if seen.is_null() {
            return Err(Disagreement::Refused(Status::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            ))));
        }
        let before = seen.into_owned();
        let patched = self.patched(before.clone(), &patch, &own, place).map_err(Disagreement::Refused)?;
        let changed = patched != before;
        if changed {
            let back = in_version(asked, &patched, place, &own).await.map_err(Disagreement::Refused)?;
            *object = back.into_owned();
        }
        Ok(Change { patch, changed })
    }

    fn patched(&self, object: Value, patch: &Value, own: &Place, place: &Place) -> Result<Value, Status> {
        let mut object = patch::json::apply(object, patch, COPIES_BYTES_MAX).map_err(Status::internal)?;
        let catalog = self.collections.catalog();
        let endpoint = catalog.named(&place.resource).or_else(|| catalog.named(&own.resource));
        if let Some(endpoint) = endpoint {
            settle(&endpoint.served, place, &mut object)?;
        }
        Ok(object)
    }

    /// Asks one webhook about an object in its version.
    async fn ask(
        &self,
        hook: &Hook,
        asked: &Asked<'_>,
        place: &Place,
        object: &Value,
        mutating: bool,
    ) -> Result<Verdict, Disagreement> {
        let attributes = asked.attributes;
        if attributes.dry_run {
            match hook.harmless {
                Some(true) => {}
                Some(false) => {
                    let why = format!("admission webhook {:?} does not support dry run", hook.name);
                    return Err(Disagreement::Refused(Status::bad_request(why)));
                }
                None => return Err(Disagreement::Failed("Webhook SideEffects is nil".to_owned(), 400)),
            }
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Disagreement::Failed(why.to_owned(), 400));
        };
        let old = in_version(asked, attributes.old.unwrap_or(&NULL), &asked.place(), place).await;
        let old = old.map_err(Disagreement::Refused)?;
        let uid = new_uid();
        let request = asked.request(place, object);
        let body = review::question(version, &uid, request, object, &old);
        let answered = self.client.call(&hook.client, body, hook.timeout).await;
        let answered = answered.map_err(|error| {
            let code = if let CallError::Failed { code, .. } = &error { *code } else { UNAVAILABLE };
            Disagreement::Failed(format!("failed to call webhook: {error}"), code)
        })?;
        let answer = review::answer(version, &uid, mutating, &answered);
        answer.map_err(|why| Disagreement::Failed(why, UNAVAILABLE))
    }
}

/// Whether a webhook is asked, and in which version.
async fn place_of(
    hook: &Hook,
    asked: &Asked<'_>,
    object: &Value,
    authorize: &Authorize,
) -> Result<Option<Place>, Status> {
    let Some(place) = hook.criteria.place(asked, object)? else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(place));
    }
    let own = asked.place();
    let seen = in_version(asked, object, &own, &place).await?;
    let old = in_version(asked, asked.attributes.old.unwrap_or(&NULL), &own, &place).await?;
    let request = asked.request(&place, object);
    let rights = Rights { attributes: asked.attributes, authorize };
    let inputs = Inputs {
        object: &seen,
        old: Some(&old),
        request: &request,
        namespace: &NULL,
        params: None,
        rights: Some(&rights),
    };
    match hook.conditions.hold(&inputs.activation(), hook.ignores_failures) {
        Ok(hold) => Ok(Some(place).filter(|_| hold)),
        Err(why) => {
            let attributes = asked.attributes;
            Err(Status::forbidden(&attributes.resource.group_resource(), attributes.name, why))
        }
    }
}

/// Passes on what a webhook said, and answers its patch.
fn agree(hook: &Hook, verdict: Verdict, told: &mut Told) -> Result<Value, Disagreement> {
    told.warnings.extend(verdict.warnings);
    let named = |(key, value): (String, String)| (format!("{}/{key}", hook.name), value);
    told.annotations.extend(verdict.annotations.into_iter().map(named));
    if verdict.allowed {
        Ok(verdict.patch)
    } else {
        Err(Disagreement::Denied(review::refusal(&hook.name, verdict.status.as_ref())))
    }
}

/// How a call is counted.
fn called(hook: &Hook, disagreement: Option<&Disagreement>) -> Called {
    let stops = !hook.ignores_failures;
    let (code, rejection) = match disagreement {
        None => (200, None),
        Some(Disagreement::Denied(status)) => (status.code(), Some(Rejection::Denied)),
        Some(Disagreement::Failed(_, code)) => (*code, stops.then_some(Rejection::NotCalled)),
        Some(Disagreement::Refused(_)) => (0, Some(Rejection::Internal)),
    };
    let ignored = matches!(disagreement, Some(Disagreement::Failed(..))) && !stops;
    Called { code, rejection, ignored }
}

/// Refuses the request, unless the webhook need not agree.
fn settle_disagreement(
    hook: &Hook,
    disagreement: Disagreement,
    key: String,
    told: &mut Told,
) -> Result<(), Status> {
    match disagreement {
        Disagreement::Denied(status) | Disagreement::Refused(status) => Err(status),
        Disagreement::Failed(why, _) => {
            let why = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.ignores_failures {
                tracing::warn!(configuration = hook.configuration, "{why}; the request goes on");
                told.annotate(key, hook.name.as_str());
                Ok(())
            } else {
                Err(Status::internal(why))
            }
        }
    }
}
