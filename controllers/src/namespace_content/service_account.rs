//! The service account `default` of every namespace, which pods have when they name none. Must never change one that is there.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::{active, watch_namespaces};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};

const NAME: &str = "default";
/// Of all accounts, those with this name are watched.
const SELECTED: &str = "metadata.name=default";

/// The controller of service accounts named `default`.
pub(crate) struct ServiceAccounts;

/// A namespace.
pub(crate) struct View {
    namespace: String,
    there: bool,
}

impl Controller for ServiceAccounts {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watch_namespaces(watches);
        watches.mapped_of::<ServiceAccount>(SELECTED, |change, _| {
            let gone = change.old.iter().filter(|account| change.new.is_none() && account.key().name == NAME);
            gone.map(|account| Key::new("", &account.key().namespace)).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        active(key, caches)?;
        let account = caches.of::<ServiceAccount>().get(&Key::new(&key.name, NAME));
        Some(View { namespace: key.name.clone(), there: account.is_some() })
    }

    fn plan(&self, view: &View, _: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if !view.there {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    namespace: Some(view.namespace.clone()),
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            plan.then(Action::create(&account).because("every namespace has one"));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Propagation;
    use crate::simulation::{Trouble, World};

    fn namespace(name: &str) -> Value {
        json!({"metadata": {"name": name}})
    }

    fn activate(world: &mut World, name: &str, phase: &str) {
        world.edit::<Namespace>("", name, |namespace| {
            namespace.status.get_or_insert_default().phase = Some(phase.to_owned());
        });
    }

    #[test]
    fn nothing_is_made_where_it_is_or_may_not_be() {
        let plan =
            |there| ServiceAccounts.plan(&View { namespace: "ns".into(), there }, Timestamp::UNIX_EPOCH);
        assert!(plan(true).is_empty());
        let Action::Create { object, .. } = &plan(false).steps[0].actions[0].action else { panic!() };
        assert_eq!(object["metadata"], json!({"namespace": "ns", "name": "default"}));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_active_namespace_has_one_in_the_end(seed in any::<u64>(), steps in 0usize..120) {
            let mut world = World::new(seed);
            world.run(|| ServiceAccounts);
            world.api.trouble(Trouble::Percent(30));
            for number in 0..4 {
                world.create::<Namespace>(namespace(&format!("n{number}")));
                if number != 3 {
                    activate(&mut world, &format!("n{number}"), "Active");
                }
            }
            for step in 0..steps {
                if step % 20 == 7 {
                    world.api.delete::<ServiceAccount>(&Key::new("n0", NAME), Propagation::Background, None);
                }
                if step == 50 {
                    world.restart();
                }
                world.step();
            }
            activate(&mut world, "n2", "Terminating");
            world.settle();
            for number in 0..3 {
                let account = world.api.get::<ServiceAccount>(&format!("n{number}"), NAME);
                prop_assert!(account.is_some() || number == 2, "n{number}");
            }
            prop_assert!(world.api.get::<ServiceAccount>("n3", NAME).is_none());
        }
    }
}
