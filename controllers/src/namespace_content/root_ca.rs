//! The ConfigMap `kube-root-ca.crt` of every namespace: the certificates that its pods trust API servers by. Must never change
//! another map.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::{active, watch_namespaces};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};
use crate::root_certificates::RootCa;

const NAME: &str = "kube-root-ca.crt";
/// Of all maps, those with this name are watched.
const SELECTED: &str = "metadata.name=kube-root-ca.crt";
const FIELD: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
                           internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
                           Kubernetes clusters.";

/// The controller of these maps.
pub(crate) struct RootCertificates {
    certificates: RootCa,
}

/// A namespace with its map.
pub(crate) struct View {
    namespace: String,
    map: Option<Arc<ConfigMap>>,
}

impl RootCertificates {
    /// It gives these certificates out.
    pub(crate) fn new(certificates: RootCa) -> Self {
        Self { certificates }
    }
}

impl Controller for RootCertificates {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watch_namespaces(watches);
        watches.mapped_of::<ConfigMap>(SELECTED, |change, _| {
            let map = change.latest().key();
            (map.name == NAME).then(|| Key::new("", &map.namespace)).into_iter().collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        active(key, caches)?;
        let map = caches.of::<ConfigMap>().get(&Key::new(&key.name, NAME));
        Some(View { namespace: key.name.clone(), map })
    }

    fn plan(&self, view: &View, _: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let data = BTreeMap::from([(FIELD.to_owned(), self.certificates.current())]);
        let Some(map) = &view.map else {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    namespace: Some(view.namespace.clone()),
                    name: Some(NAME.to_owned()),
                    annotations: Some([(ANNOTATION.to_owned(), DESCRIPTION.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            plan.then(Action::create(&map).because("every namespace has one"));
            return plan;
        };
        let described = map.annotation(ANNOTATION).is_some_and(|text| !text.is_empty());
        if map.data.as_ref() != Some(&data) || !described {
            let mut after = (**map).clone();
            after.data = Some(data);
            let annotations = after.metadata.annotations.get_or_insert_default();
            annotations.insert(ANNOTATION.to_owned(), DESCRIPTION.to_owned());
            if let Some(update) = Action::update(&**map, &after) {
                plan.then(update.because("the certificates are others"));
            }
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

    fn planned(map: Option<Value>) -> Option<Action> {
        let map = map.map(|map| Arc::new(serde_json::from_value(map).unwrap()));
        let view = View { namespace: "ns".into(), map };
        let plan = RootCertificates::new(RootCa::fixed("ca".into())).plan(&view, Timestamp::UNIX_EPOCH);
        plan.actions().next().map(|planned| planned.action.clone())
    }

    #[test]
    fn the_map_is_made_and_put_right() {
        let Some(Action::Create { object, .. }) = planned(None) else { panic!() };
        assert_eq!(object["metadata"]["annotations"], json!({ANNOTATION: DESCRIPTION}));
        assert_eq!(object["data"], json!({"ca.crt": "ca"}));
        let meta = |annotations: Value| json!({"namespace": "ns", "name": NAME, "annotations": annotations});
        let change = |map: Value| match planned(Some(map)) {
            Some(Action::Update { patch, .. }) => patch,
            None => Value::Null,
            other => panic!("{other:?}"),
        };
        let own = json!({ANNOTATION: "mine"});
        assert_eq!(change(json!({"metadata": meta(own.clone()), "data": {"ca.crt": "ca"}})), Value::Null);
        let expected = json!({"metadata": {"annotations": {ANNOTATION: DESCRIPTION}}, "data": {"x": null, "ca.crt": "ca"}});
        assert_eq!(change(json!({"metadata": meta(own), "data": {"ca.crt": "old", "x": "y"}})), expected);
        let expected = json!({"metadata": {"annotations": {ANNOTATION: DESCRIPTION}}});
        assert_eq!(change(json!({"metadata": meta(json!({})), "data": {"ca.crt": "ca"}})), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_active_namespace_has_the_certificates_in_the_end(seed in any::<u64>(), steps in 0usize..120) {
            let mut world = World::new(seed);
            world.run(|| RootCertificates::new(RootCa::fixed("ca".into())));
            world.api.trouble(Trouble::Percent(30));
            for name in ["a", "b"] {
                world.create::<Namespace>(json!({"metadata": {"name": name}}));
                world.edit::<Namespace>("", name, |namespace| {
                    namespace.status.get_or_insert_default().phase = Some("Active".into());
                });
            }
            for step in 0..steps {
                match step % 15 {
                    4 => world.api.delete::<ConfigMap>(&Key::new("a", NAME), Propagation::Background, None),
                    9 => world.edit::<ConfigMap>("b", NAME, |map| map.data = None),
                    _ => {}
                }
                world.step();
            }
            world.settle();
            for name in ["a", "b"] {
                let map = world.api.get::<ConfigMap>(name, NAME).unwrap();
                prop_assert_eq!(map.data, Some([("ca.crt".to_owned(), "ca".to_owned())].into()));
            }
        }
    }
}
