//! Files of masters' directories: put, changed and removed while masters die, as a part of the test of masters.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Client;
use kube::api::Api;
use kube::runtime::wait::await_condition;

use super::{Masters, PATIENCE, becomes};

/// Config maps of the namespace `shop`, which the file brings as well, in the wrong order.
fn shop(maps: &[(&str, &str)]) -> String {
    let map = |(name, value): &(&str, &str)| {
        format!(
            "- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: shop}}, data: {{k: {value}}}}}\n"
        )
    };
    let maps: String = maps.iter().map(map).collect();
    format!(
        "apiVersion: v1\nkind: List\nitems:\n{maps}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"
    )
}

fn write(masters: &Masters, master: u8, name: &str, text: &str) {
    std::fs::write(masters.place(master).join("manifests").join(name), text).unwrap();
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "shop")
}

async fn says(client: &Client, name: &str, value: &str) {
    let is = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("k")).is_some_and(|it| it == value);
    becomes(maps(client), name, &format!("it says {value}"), is).await;
}

async fn goes<K>(api: Api<K>, name: &str)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let waiting = await_condition(api, name, |object: Option<&K>| object.is_none());
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} stays")).unwrap();
}

/// All masters run.
pub(super) async fn come(masters: &Masters, client: &Client) {
    write(masters, 1, "shop.yaml", &shop(&[("a", "one"), ("b", "one")]));
    write(masters, 1, "later.yaml.skip", "");
    write(masters, 1, "later.yaml", &shop(&[("skipped", "one")]));
    says(client, "a", "one").await;
    says(client, "b", "one").await;
    assert!(maps(client).get_opt("skipped").await.unwrap().is_none());
}

/// The first one, which most probably leads, has just been killed, and its disk is gone.
pub(super) async fn come_without_the_first(masters: &Masters, client: &Client) {
    write(
        masters,
        2,
        "more.json",
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more", "namespace": "shop"}, "data": {"k": "one"}}"#,
    );
    says(client, "more", "one").await;
}

/// The first one is back, and its directory is empty.
pub(super) async fn change_elsewhere(masters: &Masters, client: &Client) {
    says(client, "a", "one").await;
    write(masters, 3, "shop.yaml", &shop(&[("a", "two")]));
    says(client, "a", "two").await;
    goes(maps(client), "b").await;
    // What cannot be applied takes nothing away, and is told where the file is.
    write(masters, 3, "shop.yaml", "apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let is_told = |secret: &Secret| {
        let status = secret.metadata.annotations.as_ref().and_then(|all| all.get("barque.dev/status"));
        status.is_some_and(|status| status.contains("no kind Nonsense is served in version v1"))
    };
    becomes(secrets, "barque-manifest-shop.yaml", "the mistake is told", is_told).await;
    says(client, "a", "two").await;
    says(client, "more", "one").await;
}

/// The second one is down.
pub(super) fn remove_while_it_is_down(masters: &Masters) {
    std::fs::remove_file(masters.place(2).join("manifests/more.json")).unwrap();
}

/// And up again.
pub(super) async fn gone(masters: &Masters, client: &Client) {
    goes(maps(client), "more").await;
    says(client, "a", "two").await;
    std::fs::remove_file(masters.place(3).join("manifests/shop.yaml")).unwrap();
    goes(Api::<Secret>::namespaced(client.clone(), "kube-system"), "barque-manifest-shop.yaml").await;
    let shop = Api::<Namespace>::all(client.clone()).get_opt("shop").await.unwrap();
    assert!(shop.is_none_or(|shop| shop.metadata.deletion_timestamp.is_some()), "it has to go");
}
