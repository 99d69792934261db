//! Admission by policies of users, whose expressions are evaluated here: those that change objects, and those that judge them.
//! Must never go on when a policy could not be judged that has to hold.

mod mutation;
mod parameters;
mod policy;
#[cfg(test)]
mod tests;
mod validation;

use std::sync::Arc;

use barque_api::cel::{Budget, PER_OBJECT};
use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::{Asked, Place, forbidden, is_exempt, namespace_of};
use super::expressions::Inputs;
use super::known::Known;
use super::lookup::{found, gather, in_version, settle, view_of};
use super::reinvocation::Rounds;
use super::rights::Rights;
use super::{Attributes, Authorize, Told};
use crate::metrics::AdmissionMetrics;
use crate::registry::collections::Collections;
use crate::storage::Storage;
use parameters::Wanted;
use policy::{Binding, Mutating, Policy, Validating};

static NULL: Value = Value::Null;

/// All policies and bindings as they are now. Cloning copies pointers.
#[derive(Clone)]
pub struct Policies<S: Storage> {
    collections: Collections<S>,
    authorize: Authorize,
    metrics: Arc<AdmissionMetrics>,
    validating: Known<Validating>,
    validating_bindings: Known<Binding>,
    mutating: Known<Mutating>,
    mutating_bindings: Known<Binding>,
}

/// A policy that is in force for a request.
struct InForce<P> {
    policy: Arc<P>,
    binding: Arc<Binding>,
    place: Place,
    /// One for each parameter; nothing for a policy without any.
    params: Vec<Option<Value>>,
}

/// A policy that could not be asked, and has to be.
struct Misconfigured<P> {
    policy: Arc<P>,
    binding: Option<Arc<Binding>>,
    why: String,
}

type Selected<P> = Vec<Result<InForce<P>, Misconfigured<P>>>;

/// What both kinds have.
impl AsRef<Policy> for Validating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

impl AsRef<Policy> for Mutating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

impl<S: Storage> Policies<S> {
    /// Follows policies and bindings with `tasks` until `stop`; expressions know rights as `authorize` does.
    #[must_use]
    pub fn start(
        collections: &Collections<S>,
        authorize: &Authorize,
        metrics: &Arc<AdmissionMetrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let resource = |name: &str| GroupResource::new("admissionregistration.k8s.io", name);
        let bindings = |name: &str| Known::start(collections, &resource(name), policy::binding, tasks, stop);
        Self {
            collections: collections.clone(),
            authorize: Arc::clone(authorize),
            metrics: Arc::clone(metrics),
            validating: Known::start(
                collections,
                &resource("validatingadmissionpolicies"),
                policy::validating,
                tasks,
                stop,
            ),
            validating_bindings: bindings("validatingadmissionpolicybindings"),
            mutating: Known::start(
                collections,
                &resource("mutatingadmissionpolicies"),
                policy::mutating,
                tasks,
                stop,
            ),
            mutating_bindings: bindings("mutatingadmissionpolicybindings"),
        }
    }

    /// Lets policies change the object, by their names. When `rounds` say so afterwards, all plugins are asked again.
    ///
    /// # Errors
    /// When one of them could not be asked, or not be followed, and has to.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        rounds: &mut Rounds,
    ) -> Result<(), Status> {
        let Some((asked, selected)) =
            self.select(attributes, object, &self.mutating, &self.mutating_bindings).await?
        else {
            return Ok(());
        };
        rounds.policies.begin(object);
        let mut refusals = Vec::new();
        let ignores = |one: &Mutating| one.policy.ignores_failures;
        for one in selected {
            match one {
                Ok(force) => {
                    for params in &force.params {
                        let errors = self.change(&asked, &force, params.as_ref(), object, rounds).await?;
                        let binding = Some(force.binding.name.as_str());
                        let told = errors.into_iter().filter(|_| !ignores(&force.policy));
                        refusals.extend(told.map(|why| (refused(&force.policy.policy, binding, &why), true)));
                    }
                }
                Err(wrong) if ignores(&wrong.policy) => {}
                Err(wrong) => {
                    let binding = wrong.binding.as_ref().map(|binding| binding.name.as_str());
                    refusals.push((refused(&wrong.policy.policy, binding, &wrong.why), false));
                }
            }
        }
        rounds.policies.end(object);
        let Some((message, invalid)) = refusals.first() else { return Ok(()) };
        let mut status = forbidden(attributes, object, "");
        status.message.clone_from(message);
        if *invalid {
            // Only the reason is another one; the code stays.
            status = status.given(403, "Invalid");
        }
        Err(refusals.into_iter().fold(status, |status, (message, _)| status.because("", message, "")))
    }

    /// Lets policies refuse the object; it is null for deletions.
    ///
    /// # Errors
    /// When one of them does, or could not be judged and has to hold.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let Some((asked, selected)) =
            self.select(attributes, object, &self.validating, &self.validating_bindings).await?
        else {
            return Ok(());
        };
        let mut audited = Vec::new();
        let mut refusal = None;
        for one in selected {
            let force = match one {
                Ok(force) => force,
                Err(wrong) if wrong.policy.policy.ignores_failures => continue,
                Err(wrong) => {
                    let binding = wrong.binding.as_ref().map(|binding| binding.name.as_str());
                    let name = &wrong.policy.policy.name;
                    refusal.get_or_insert_with(|| {
                        validation::refusal(attributes, object, name, binding, &wrong.why, None)
                    });
                    continue;
                }
            };
            for params in &force.params {
                let found = self.judge(&asked, &force, params.as_ref(), object, told, &mut audited).await?;
                refusal = refusal.or(found);
            }
        }
        told.annotations.extend(validation::audit_annotation(audited));
        refusal.map_or(Ok(()), Err)
    }

    /// The policies that are in force for a request, each with its parameters; nothing when there are no bindings at all.
    async fn select<'a, P: AsRef<Policy> + Send + Sync + 'static>(
        &self,
        attributes: &'a Attributes<'a>,
        object: &Value,
        policies: &Known<P>,
        bindings: &Known<Binding>,
    ) -> Result<Option<(Asked<'a>, Selected<P>)>, Status> {
        if is_exempt(attributes) {
            return Ok(None);
        }
        let (Some(policies), Some(bindings)) = (policies.now().await, bindings.now().await) else {
            return Err(forbidden(attributes, object, "not yet ready to handle request"));
        };
        if bindings.is_empty() || policies.is_empty() {
            return Ok(None);
        }
        let asked = gather(&self.collections, attributes).await;
        let mut selected = Vec::new();
        for (name, policy) in policies.iter() {
            let own: Vec<_> = bindings.values().filter(|binding| binding.policy == *name).collect();
            if own.is_empty() {
                continue;
            }
            let general: &Policy = (**policy).as_ref();
            let wrong = |binding: Option<&Arc<Binding>>, why: &str| {
                let what = if binding.is_some() { "binding" } else { "policy" };
                let why = format!("failed to configure {what}: {why}");
                Err(Misconfigured { policy: Arc::clone(policy), binding: binding.cloned(), why })
            };
            let place = match general.criteria.place(&asked, object) {
                Ok(Some(place)) => place,
                Ok(None) => continue,
                Err(status) => {
                    selected.push(wrong(None, &status.message));
                    continue;
                }
            };
            if let Err(why) = self.check_param_kind(general) {
                selected.push(wrong(None, &why));
                continue;
            }
            for binding in own {
                let fits = binding.criteria.as_ref().map(|criteria| criteria.place(&asked, object));
                match fits {
                    None | Some(Ok(Some(_))) => {}
                    Some(Ok(None)) => continue,
                    Some(Err(status)) => {
                        selected.push(wrong(Some(binding), &status.message));
                        continue;
                    }
                }
                selected.push(match self.params(general, binding, attributes, object).await {
                    Ok(params) => Ok(InForce {
                        policy: Arc::clone(policy),
                        binding: Arc::clone(binding),
                        place: place.clone(),
                        params,
                    }),
                    Err(why) => wrong(Some(binding), &why),
                });
            }
        }
        Ok(Some((asked, selected)))
    }

    fn check_param_kind(&self, policy: &Policy) -> Result<(), String> {
        match &policy.param_kind {
            None => Ok(()),
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(kind)) if self.collections.catalog().of_kind(kind).is_some() => Ok(()),
            Some(Ok(kind)) => {
                let version = kind.group_version();
                Err(format!(
                    "failed to find resource referenced by paramKind: '{version}, Kind={}'",
                    kind.kind
                ))
            }
        }
    }

    /// The parameters of a binding. A policy that wants some and a binding that has none make one that is nothing.
    async fn params(
        &self,
        policy: &Policy,
        binding: &Binding,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Vec<Option<Value>>, String> {
        let (Some(Ok(kind)), Some(reference)) = (&policy.param_kind, &binding.params) else {
            return Ok(vec![None]);
        };
        let endpoint = self.collections.catalog().of_kind(kind).cloned();
        let Some(endpoint) = endpoint else {
            return Err(format!("paramKind kind `{}` not known", kind.kind));
        };
        let namespaced = endpoint.served.resource.namespaced;
        let resource = endpoint.served.stored.group_resource();
        let objects = match reference.wanted(namespaced, namespace_of(attributes, object))? {
            Wanted::One { namespace, name } => {
                let found = found(&self.collections, &resource, &namespace, &name).await;
                found.map_err(|status| status.message)?.into_iter().collect()
            }
            Wanted::Chosen { namespace, selector } => {
                let all = self.collections.objects(&resource, &namespace).await;
                let mut all = all.map_err(|status| status.message)?;
                all.retain(|one| selector.matches(&Metadata::of(one).labels()));
                all
            }
        };
        let objects = endpoint.served.all_of_stored(objects).await.map_err(|status| status.message)?;
        Ok(reference.enough(objects)?.into_iter().map(Some).collect())
    }

    /// Lets one policy change the object. What it could not do is told in words.
    async fn change(
        &self,
        asked: &Asked<'_>,
        force: &InForce<Mutating>,
        params: Option<&Value>,
        object: &mut Value,
        rounds: &mut Rounds,
    ) -> Result<Vec<String>, Status> {
        let (own, place) = (asked.place(), &force.place);
        let rights = Rights { attributes: asked.attributes, authorize: &self.authorize };
        let mutating = &*force.policy;
        let mut errors = Vec::new();
        let key = key(force, params);
        let namespace = asked.namespace_object()?;
        let old = in_version(asked, asked.attributes.old.unwrap_or(&NULL), &own, place).await?;
        let before = in_version(asked, object, &own, place).await?.into_owned();
        let mut current = before.clone();
        let catalog = self.collections.catalog();
        let served = catalog.named(&place.resource).map(|endpoint| Arc::clone(&endpoint.served));
        let view = view_of(served.as_deref(), place);
        for (index, mutation) in mutating.mutations.iter().enumerate() {
            let request = asked.request(place, &current);
            let inputs = Inputs {
                object: &current,
                old: Some(&old),
                request: &request,
                namespace: &namespace,
                params,
                rights: Some(&rights),
            };
            let mut budget = Budget::new(PER_OBJECT);
            let activation = mutating.policy.activation(&inputs, &mut budget);
            if index == 0 {
                match mutating.policy.conditions.hold(&activation, mutating.policy.ignores_failures) {
                    Ok(true) => {}
                    Ok(false) => return Ok(errors),
                    Err(why) => return Ok(vec![why]),
                }
                if rounds.is_second() && !rounds.policies.is_to_be_asked(&key) {
                    return Ok(errors);
                }
            }
            if current.is_null() {
                break;
            }
            match mutation.changed(&activation, &mut budget, &current, view) {
                Ok(None) => {}
                Ok(Some(mut next)) => {
                    if let Some(served) = &served {
                        settle(served, place, &mut next)?;
                    }
                    current = next;
                }
                Err(why) => errors.push(why),
            }
        }
        if current != before {
            *object = in_version(asked, &current, place, &own).await?.into_owned();
            rounds.policies.changed();
            rounds.change();
        }
        if mutating.again {
            rounds.policies.asked(&key);
        }
        Ok(errors)
    }
}

/// Tells a policy with a binding and a parameter apart from all others.
fn key(force: &InForce<Mutating>, params: Option<&Value>) -> String {
    let metadata = params.map(Metadata::of);
    let (namespace, name) = metadata.map_or(("", ""), |metadata| (metadata.namespace(), metadata.name()));
    format!("{}/{}/{namespace}/{name}", force.policy.policy.name, force.binding.name)
}

/// A policy that changes objects refuses the request.
fn refused(policy: &Policy, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{binding}' denied request: {why}", policy.name),
        None => format!("policy {:?} denied request: {why}", policy.name),
    }
}

impl<S: Storage> Policies<S> {
    /// Lets one policy judge the object, and does with what it says as the binding wants it. Answers the refusal, if there is one.
    async fn judge(
        &self,
        asked: &Asked<'_>,
        force: &InForce<Validating>,
        params: Option<&Value>,
        object: &Value,
        told: &mut Told,
        audited: &mut Vec<Value>,
    ) -> Result<Option<Status>, Status> {
        let (own, place) = (asked.place(), &force.place);
        let (policy, binding) = (&*force.policy, &*force.binding);
        let seen = in_version(asked, object, &own, place).await?;
        let old = in_version(asked, asked.attributes.old.unwrap_or(&NULL), &own, place).await?;
        let namespace = asked.namespace_object()?;
        let request = asked.request(place, object);
        let rights = Rights { attributes: asked.attributes, authorize: &self.authorize };
        let inputs = Inputs {
            object: &seen,
            old: Some(&old),
            request: &request,
            namespace: &namespace,
            params,
            rights: Some(&rights),
        };
        let judgement = validation::judge(policy, &inputs);
        let name = &policy.policy.name;
        let count = |error, action| self.metrics.policy(name, &binding.name, error, action);
        judgement.ignored.iter().for_each(|error| count(error, "allow"));
        let mut refusal = None;
        let refuse = |message: &str, reason| {
            validation::refusal(asked.attributes, object, name, Some(&binding.name), message, reason)
        };
        for denial in &judgement.denials {
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => {
                        count(denial.error_type, "deny");
                        refusal.get_or_insert_with(|| refuse(&denial.message, denial.reason));
                    }
                    "Warn" => {
                        count(denial.error_type, "warn");
                        told.warn(validation::warning(name, &binding.name, &denial.message));
                    }
                    "Audit" => {
                        count(denial.error_type, "audit");
                        audited.push(validation::audited(binding, denial));
                    }
                    _ => {}
                }
            }
        }
        for (key, value) in judgement.annotations {
            annotate(&mut told.annotations, format!("{name}/{key}"), value);
        }
        judgement.failures.iter().for_each(|_| count(validation::INVALID, "deny"));
        if let Some(why) = judgement.failures.first() {
            refusal.get_or_insert_with(|| refuse(why, None));
        }
        Ok(refusal)
    }
}

/// Different values of one key stand beside each other.
fn annotate(annotations: &mut Vec<(String, String)>, key: String, value: String) {
    match annotations.iter_mut().find(|(one, _)| *one == key) {
        None => annotations.push((key, value)),
        Some((_, values)) if values.split(", ").any(|one| one == value) => {}
        Some((_, values)) => {
            values.push_str(", ");
            values.push_str(&value);
        }
    }
}
