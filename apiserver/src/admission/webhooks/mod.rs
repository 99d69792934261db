//! Admission by webhooks of users: those that change objects are asked one after another, by the names of their configurations,
//! those that judge them all at once. Must never go on when a webhook could not be asked that has to agree.

mod hook;
mod review;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::kind::GroupResource;
use barque_api::patch::json;
use barque_api::status::Status;
use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::{Asked, Place, forbidden, is_exempt};
use super::expressions::Inputs;
use super::known::Known;
use super::lookup::{gather, in_version, settle};
use super::reinvocation::Rounds;
use super::{Attributes, Told};
use crate::registry::collections::Collections;
use crate::registry::uid::new_uid;
use crate::storage::Storage;
use crate::webhook_client::WebhookClient;
use hook::{Hook, hooks};
use review::Verdict;

/// Patches may make objects grow by so many bytes.
const COPIES_BYTES_MAX: usize = 3 << 20;

static NULL: Value = Value::Null;

/// All webhooks, as their configurations say now. Cloning copies pointers.
#[derive(Clone)]
pub struct Webhooks<S: Storage> {
    collections: Collections<S>,
    client: WebhookClient<S>,
    mutating: Known<Vec<Hook>>,
    validating: Known<Vec<Hook>>,
}

/// Why a webhook did not agree.
enum Disagreement {
    /// It could not be asked, in words.
    Failed(String),
    /// It or the server refuses the request.
    Refused(Status),
}

impl<S: Storage> Webhooks<S> {
    /// Follows the configurations with `tasks` until `stop`.
    #[must_use]
    pub fn start(collections: &Collections<S>, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let known = |resource: &str| {
            let resource = GroupResource::new("admissionregistration.k8s.io", resource);
            Known::start(collections, &resource, hooks, tasks, stop)
        };
        Self {
            collections: collections.clone(),
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
            let Some(place) = place_of(hook, &asked, object).await? else { continue };
            if rounds.is_second() && !rounds.webhooks.is_to_be_asked(&hook.key) {
                continue;
            }
            match self.change(hook, &asked, &place, object, told).await {
                Ok(changed) => {
                    if changed {
                        rounds.webhooks.changed();
                        rounds.change();
                    }
                }
                Err(disagreement) => {
                    let key = format!(
                        "failed-open.mutating.webhook.admission.k8s.io/round_{}_index_{index}",
                        u8::from(rounds.is_second())
                    );
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
            if let Some(place) = place_of(hook, &asked, object).await? {
                relevant.push((hook, place));
            }
        }
        let calls = relevant.iter().map(|(hook, place)| async {
            let object =
                in_version(&asked, object, &asked.place(), place).await.map_err(Disagreement::Refused)?;
            self.ask(hook, &asked, place, &object, false).await
        });
        let answers = join_all(calls).await;
        let mut refused = None;
        for (index, ((hook, _), answer)) in relevant.iter().zip(answers).enumerate() {
            let agreed = answer.and_then(|verdict| agree(hook, verdict, told).map(|_| ()));
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            let settled = agreed.or_else(|disagreement| settle_disagreement(hook, disagreement, key, told));
            if let Err(status) = settled {
                refused.get_or_insert(status);
            }
        }
        refused.map_or(Ok(()), Err)
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

    /// Asks one webhook, and does to the object what it says. Answers whether that changed something.
    async fn change(
        &self,
        hook: &Hook,
        asked: &Asked<'_>,
        place: &Place,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<bool, Disagreement> {
        let own = asked.place();
        let seen = in_version(asked, object, &own, place).await.map_err(Disagreement::Refused)?;
        let verdict = self.ask(hook, asked, place, &seen, true).await?;
        let patch = agree(hook, verdict, told)?;
        if patch.as_array().is_none_or(Vec::is_empty) {
            return Ok(false);
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
        Ok(changed)
    }

    fn patched(&self, object: Value, patch: &Value, own: &Place, place: &Place) -> Result<Value, Status> {
        let mut object = json::apply(object, patch, COPIES_BYTES_MAX).map_err(Status::internal)?;
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
                None => return Err(Disagreement::Failed("Webhook SideEffects is nil".to_owned())),
            }
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Disagreement::Failed(why.to_owned()));
        };
        let old = in_version(asked, attributes.old.unwrap_or(&NULL), &asked.place(), place).await;
        let old = old.map_err(Disagreement::Refused)?;
        let uid = new_uid();
        let request = asked.request(place, object);
        let body = review::question(version, &uid, request, object, &old);
        let answered = self.client.call(&hook.client, body, hook.timeout).await;
        let answered =
            answered.map_err(|error| Disagreement::Failed(format!("failed to call webhook: {error}")))?;
        review::answer(version, &uid, mutating, &answered).map_err(Disagreement::Failed)
    }
}

/// Whether a webhook is asked, and in which version.
async fn place_of(hook: &Hook, asked: &Asked<'_>, object: &Value) -> Result<Option<Place>, Status> {
    let Some(place) = hook.criteria.place(asked, object)? else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(place));
    }
    let own = asked.place();
    let seen = in_version(asked, object, &own, &place).await?;
    let old = in_version(asked, asked.attributes.old.unwrap_or(&NULL), &own, &place).await?;
    let request = asked.request(&place, object);
    let inputs = Inputs { object: &seen, old: Some(&old), request: &request, namespace: &NULL, params: None };
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
        Err(Disagreement::Refused(review::refusal(&hook.name, verdict.status.as_ref())))
    }
}

/// Refuses the request, unless the webhook need not agree.
fn settle_disagreement(
    hook: &Hook,
    disagreement: Disagreement,
    key: String,
    told: &mut Told,
) -> Result<(), Status> {
    match disagreement {
        Disagreement::Refused(status) => Err(status),
        Disagreement::Failed(why) => {
            let why = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.ignores_failures {
                tracing::warn!(configuration = hook.configuration, "{why}; the request goes on");
                told.annotations.push((key, hook.name.clone()));
                Ok(())
            } else {
                Err(Status::internal(why))
            }
        }
    }
}
