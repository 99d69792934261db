"""What people do with the Python client: every part prints a line when it went as it should; the first that did not ends it."""

import sys
import threading
import time

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python"


def expect(what, seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{what}: {seen!r} instead of {wanted!r}")


def refused(status, reason, call, *args, **words):
    """Calls, and expects an ApiException with this code; answers the status object's text."""
    try:
        answer = call(*args, **words)
    except ApiException as error:
        expect("code", error.status, status)
        body = client.ApiClient().deserialize(Response(error.body), "V1Status")
        expect("code in the status", body.code, status)
        expect("reason", body.reason, reason)
        expect("status", body.status, "Failure")
        return body
    raise AssertionError(f"it is not refused: {answer}")


class Response:
    """What the client's deserialize wants."""

    def __init__(self, data):
        self.data = data


def wait_until_ready(api):
    """Servers refuse some requests until they have filled their caches; readyz says when that is over."""
    end = time.monotonic() + 60
    while True:
        try:
            api.call_api("/readyz", "GET", response_type="str", auth_settings=["BearerToken"])
            return
        except ApiException:
            if time.monotonic() > end:
                raise


def config_map(name, labels=None, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def pod_template(labels=None, name=None):
    container = client.V1Container(
        name="c",
        image="registry.example/pause:3",
        ports=[client.V1ContainerPort(container_port=80)],
        resources=client.V1ResourceRequirements(requests={"cpu": "100m", "memory": "64Mi"}),
    )
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    return metadata, client.V1PodSpec(containers=[container])


def version_and_discovery(core):
    version = client.VersionApi().get_code()
    expect("major", version.major, "1")
    names = {resource.name: resource for resource in core.get_api_resources().resources}
    expect("pods", (names["pods"].kind, names["pods"].namespaced), ("Pod", True))
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    expect("groups", {"apps", "batch", "rbac.authorization.k8s.io"} - groups, set())
    namespace = core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    expect("phase", namespace.status.phase, "Active")
    # Pods need one. Where controllers run they make it; who is first does not matter.
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="default"))
    try:
        core.create_namespaced_service_account(NAMESPACE, account)
    except ApiException as error:
        expect("code", error.status, 409)


def config_maps(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("one", {"app": "x"}, key="1"))
    expect("data", made.data, {"key": "1"})
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made
    got = core.read_namespaced_config_map("one", NAMESPACE)
    expect("version", got.metadata.resource_version, made.metadata.resource_version)
    # A dictionary is a strategic merge patch, a list a JSON patch.
    patched = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"other": "2", "key": None}})
    expect("patched", patched.data, {"other": "2"})
    operations = [{"op": "replace", "path": "/data/other", "value": "3"}]
    patched = core.patch_namespaced_config_map("one", NAMESPACE, operations)
    expect("patched", patched.data, {"other": "3"})
    patched.data["more"] = "4"
    replaced = core.replace_namespaced_config_map("one", NAMESPACE, patched)
    expect("replaced", replaced.data, {"other": "3", "more": "4"})
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=x")
    expect("listed", [item.metadata.name for item in listed.items], ["one"])
    expect("kind", listed.kind, "ConfigMapList")
    listed = core.list_config_map_for_all_namespaces(field_selector="metadata.name=one")
    expect("listed", [item.metadata.namespace for item in listed.items], [NAMESPACE])
    gone = core.delete_namespaced_config_map("one", NAMESPACE)
    expect("deleted", gone.status, "Success")
    for name in ["two", "three"]:
        core.create_namespaced_config_map(NAMESPACE, config_map(name, {"app": "many"}))
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="app=many")
    expect("left", core.list_namespaced_config_map(NAMESPACE, label_selector="app=many").items, [])


def pods(core):
    metadata, spec = pod_template({"app": "web"}, "web")
    made = core.create_namespaced_pod(NAMESPACE, client.V1Pod(metadata=metadata, spec=spec))
    expect("phase", made.status.phase, "Pending")
    expect("policy", made.spec.restart_policy, "Always")
    expect("class", made.status.qos_class, "Burstable")
    expect("protocol", made.spec.containers[0].ports[0].protocol, "TCP")
    expect("requests", made.spec.containers[0].resources.requests, {"cpu": "100m", "memory": "64Mi"})
    patched = core.patch_namespaced_pod("web", NAMESPACE, {"metadata": {"annotations": {"seen": "yes"}}})
    expect("annotations", patched.metadata.annotations, {"seen": "yes"})
    condition = {"type": "Ready", "status": "False", "reason": "Waits"}
    told = core.patch_namespaced_pod_status("web", NAMESPACE, {"status": {"conditions": [condition]}})
    expect("condition", [one.reason for one in told.status.conditions], ["Waits"])
    listed = core.list_namespaced_pod(NAMESPACE, field_selector="status.phase=Pending")
    expect("listed", [pod.metadata.name for pod in listed.items], ["web"])
    core.delete_namespaced_pod("web", NAMESPACE, grace_period_seconds=0)
    refused(404, "NotFound", core.read_namespaced_pod, "web", NAMESPACE)


def deployments(apps):
    labels = {"app": "web"}
    metadata, spec = pod_template(labels)
    deployment = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(
            replicas=2,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(metadata=metadata, spec=spec),
        ),
    )
    made = apps.create_namespaced_deployment(NAMESPACE, deployment)
    expect("strategy", made.spec.strategy.type, "RollingUpdate")
    expect("surge", made.spec.strategy.rolling_update.max_surge, "25%")
    expect("generation", made.metadata.generation, 1)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "registry.example/pause:4"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, image)
    container = patched.spec.template.spec.containers[0]
    expect("merged by name", (container.image, len(container.ports)), ("registry.example/pause:4", 1))
    expect("generation", patched.metadata.generation, 2)
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 5}})
    expect("scale", scale.spec.replicas, 5)
    expect("replicas", apps.read_namespaced_deployment("web", NAMESPACE).spec.replicas, 5)
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Background")
    expect("left", apps.list_namespaced_deployment(NAMESPACE).items, [])


def errors(core, apps):
    status = refused(404, "NotFound", core.read_namespaced_config_map, "none", NAMESPACE)
    expect("message", status.message, 'configmaps "none" not found')
    expect("details", (status.details.name, status.details.kind), ("none", "configmaps"))
    made = core.create_namespaced_config_map(NAMESPACE, config_map("errors", key="1"))
    again = refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("errors"))
    expect("message", again.message, 'configmaps "errors" already exists')
    core.patch_namespaced_config_map("errors", NAMESPACE, {"data": {"key": "2"}})
    made.data["key"] = "3"
    old = refused(409, "Conflict", core.replace_namespaced_config_map, "errors", NAMESPACE, made)
    assert "the object has been modified; please apply your changes to the latest version" in old.message, old
    invalid = refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, config_map("No_Name"))
    expect("field", invalid.details.causes[0].field, "metadata.name")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, label_selector="a in b")
    nowhere = refused(404, "NotFound", core.create_namespaced_config_map, "nowhere", config_map("one"))
    expect("message", nowhere.message, 'namespaces "nowhere" not found')
    refused(400, "BadRequest", core.create_namespaced_config_map, "default", {
        "metadata": {"name": "one", "namespace": "elsewhere"},
    })
    expect("bodyless", refused(404, "NotFound", apps.delete_namespaced_deployment, "x", NAMESPACE).code, 404)


def pages(core):
    names = [f"page-{number:02}" for number in range(25)]
    for name in names:
        core.create_namespaced_config_map(NAMESPACE, config_map(name, {"app": "pages"}))
    seen, sizes, token, version = [], [], None, None
    while True:
        words = {"_continue": token} if token else {}
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="app=pages", limit=10, **words)
        seen += [item.metadata.name for item in page.items]
        sizes.append(len(page.items))
        version = version or page.metadata.resource_version
        expect("the version of all pages", page.metadata.resource_version, version)
        token = page.metadata._continue
        if not token:
            break
        # What is created between pages is not on them.
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-9{len(sizes)}", {"app": "pages"}))
    expect("names", seen, names)
    expect("sizes", sizes, [10, 10, 5])
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, limit=1, _continue="nonsense")


def watching(core):
    listed = core.list_namespaced_config_map(NAMESPACE)

    def change():
        core.create_namespaced_config_map(NAMESPACE, config_map("watched", key="1"))
        core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"key": "2"}})
        core.delete_namespaced_config_map("watched", NAMESPACE)

    changer = threading.Thread(target=change)
    changer.start()
    seen = []
    stream = watch.Watch()
    words = {"resource_version": listed.metadata.resource_version, "timeout_seconds": 30}
    for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, **words):
        expect("name", event["object"].metadata.name, "watched")
        seen.append((event["type"], event["object"].data["key"]))
        if len(seen) == 3:
            stream.stop()
    changer.join()
    expect("events", seen, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")])
    # The past is told again to who asks from there; then the stream ends by itself.
    begun = time.monotonic()
    stream = watch.Watch()
    words["timeout_seconds"] = 1
    again = [event["type"] for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, **words)]
    expect("again", again, ["ADDED", "MODIFIED", "DELETED"])
    assert 0.9 < time.monotonic() - begun < 15, "the timeout is the server's to keep"
    # Without a version: first what is there, then changes.
    first = next(iter(watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=30)))
    expect("first", first["type"], "ADDED")


def dry_run_and_owners(core):
    core.create_namespaced_config_map(NAMESPACE, config_map("dry"), dry_run="All")
    refused(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)
    made = core.create_namespaced_config_map(NAMESPACE, config_map("owned", key="1"), field_manager="script")
    owners = [(owner.manager, owner.operation) for owner in made.metadata.managed_fields]
    expect("owners", owners, [("script", "Update")])


def encoded_names(rights):
    """The client percent-encodes every name: what is a colon to people is `%3A` on its way."""
    node = rights.read_cluster_role("system:node")
    expect("name", node.metadata.name, "system:node")
    rules = [client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get"])]
    role = client.V1ClusterRole(metadata=client.V1ObjectMeta(name="a:b"), rules=rules)
    rights.create_cluster_role(role)
    patched = rights.patch_cluster_role("a:b", {"metadata": {"labels": {"x": "y"}}})
    expect("patched", (patched.metadata.name, patched.metadata.labels), ("a:b", {"x": "y"}))
    patched.rules[0].verbs = ["get", "list"]
    replaced = rights.replace_cluster_role("a:b", patched)
    expect("replaced", replaced.rules[0].verbs, ["get", "list"])
    listed = rights.list_cluster_role(field_selector="metadata.name=a:b")
    expect("listed", [item.metadata.name for item in listed.items], ["a:b"])
    expect("deleted", rights.delete_cluster_role("a:b").details.name, "a:b")
    status = refused(404, "NotFound", rights.read_cluster_role, "a:b")
    expect("message", status.message, 'clusterroles.rbac.authorization.k8s.io "a:b" not found')
    # What looks encoded is a name of its own, which is encoded too.
    refused(404, "NotFound", rights.read_cluster_role, "system%3Anode")


def custom_objects(extensions, custom):
    schema = {"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"masts": {"type": "integer", "maximum": 5}},
    }}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.python.test"},
        "spec": {
            "group": "python.test",
            "scope": "Namespaced",
            "names": {"plural": "ships", "singular": "ship", "kind": "Ship"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    extensions.create_custom_resource_definition(definition)
    established = False
    stream = watch.Watch()
    call = extensions.list_custom_resource_definition
    for event in stream.stream(call, field_selector="metadata.name=ships.python.test", timeout_seconds=10):
        conditions = event["object"].status and event["object"].status.conditions or []
        if any(one.type == "Established" and one.status == "True" for one in conditions):
            established = True
            stream.stop()
    expect("established", established, True)
    where = ("python.test", "v1", NAMESPACE, "ships")
    ship = {
        "apiVersion": "python.test/v1",
        "kind": "Ship",
        "metadata": {"name": "barque"},
        "spec": {"masts": 3},
    }
    made = custom.create_namespaced_custom_object(*where, ship)
    expect("masts", made["spec"], {"masts": 3})
    custom.patch_namespaced_custom_object(*where, "barque", {"spec": {"masts": 4}})
    expect("masts", custom.get_namespaced_custom_object(*where, "barque")["spec"]["masts"], 4)
    many = {"spec": {"masts": 6}}
    refused(422, "Invalid", custom.patch_namespaced_custom_object, *where, "barque", many)
    names = [one["metadata"]["name"] for one in custom.list_namespaced_custom_object(*where)["items"]]
    expect("names", names, ["barque"])
    custom.delete_namespaced_custom_object(*where, "barque")
    expect("left", custom.list_namespaced_custom_object(*where)["items"], [])


def main():
    config.load_kube_config(sys.argv[1])
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    wait_until_ready(client.ApiClient())
    extensions, custom = client.ApiextensionsV1Api(), client.CustomObjectsApi()
    for name, part in [
        ("version and discovery", lambda: version_and_discovery(core)),
        ("config maps", lambda: config_maps(core)),
        ("pods", lambda: pods(core)),
        ("deployments", lambda: deployments(apps)),
        ("errors", lambda: errors(core, apps)),
        ("pages", lambda: pages(core)),
        ("watch", lambda: watching(core)),
        ("dry run and owners of fields", lambda: dry_run_and_owners(core)),
        ("names that are encoded", lambda: encoded_names(client.RbacAuthorizationV1Api())),
        ("custom objects", lambda: custom_objects(extensions, custom)),
    ]:
        part()
        print(f"ok: {name}", flush=True)


main()
