//! Releases as Helm makes them: a chart of many kinds with hooks, installed and waited for, changed, undone, tested and taken away.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::up::world::World;

const CHART: &str = "apiVersion: v2\nname: shop\nversion: 0.1.0\n";
const VALUES: &str = "replicas: 1\npage: first\n";
/// Files of the chart; a pod of a hook says with its exit code whether it is well.
const FILES: [(&str, &str); 8] = [
    (
        "crds/orders.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: orders.example.com}\n\
         spec: {group: example.com, scope: Namespaced, names: {kind: Order, plural: orders, singular: order}, versions: [{\n\
         name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}\n",
    ),
    (
        "templates/order.yaml",
        "apiVersion: example.com/v1\nkind: Order\nmetadata: {name: {{ .Release.Name }}}\nspec: {of: {{ .Values.page | quote }}}\n",
    ),
    (
        "templates/settings.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {index.html: {{ .Values.page | quote }}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}}\nstringData: {password: secret}\n",
    ),
    (
        "templates/rights.yaml",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: {{ .Release.Name }}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: {{ .Release.Name }}}\n\
         rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: {{ .Release.Name }}}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .Release.Name }}}\n\
         subjects: [{kind: ServiceAccount, name: {{ .Release.Name }}}]\n",
    ),
    (
        "templates/web.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: {{ .Release.Name }}}\n\
         spec: {replicas: {{ .Values.replicas }}, selector: {matchLabels: {app: shop}}, template: {metadata: {labels: {app: shop},\n\
         annotations: {page: {{ .Values.page | sha256sum }}}}, spec: {serviceAccountName: {{ .Release.Name }},\n\
         terminationGracePeriodSeconds: 0, volumes: [{name: page, configMap: {name: {{ .Release.Name }}}}], containers: [{name: web,\n\
         image: 'busybox:test', command: [httpd, -f, -p, '8080', -h, /page], volumeMounts: [{name: page, mountPath: /page}],\n\
         readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}}]}}}\n",
    ),
    (
        "templates/service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: {{ .Release.Name }}}\n\
         spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}\n---\n\
         apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: {{ .Release.Name }}}\n\
         spec: {minAvailable: 1, selector: {matchLabels: {app: shop}}}\n",
    ),
    (
        "templates/before.yaml",
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: {{ .Release.Name }}-before, annotations: {\n\
         helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-delete-policy: 'before-hook-creation,hook-succeeded'}}\n\
         spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:test', command: ['true']}]}}}\n",
    ),
    (
        "templates/test.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: {{ .Release.Name }}-test, annotations: {helm.sh/hook: test}}\n\
         spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:test', env: [{name: PAGE, value: {{ .Values.page | quote }}}],\n\
         command: [sh, -c, 'test \"$(wget -q -O - http://{{ .Release.Name }}/index.html)\" = \"$PAGE\"']}]}\n",
    ),
];

/// That of the machine.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join("helm")).find(|program| program.is_file())
}

struct Helm<'a> {
    program: PathBuf,
    world: &'a World,
    home: &'a Path,
}

impl Helm<'_> {
    fn run(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(words)
            .env_clear()
            .env("HOME", self.home)
            .env("KUBECONFIG", self.world.cluster().join("kubeconfig"))
            .output()
            .unwrap();
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(told(&output.stdout)) } else { Err(told(&output.stderr)) }
    }

    fn done(&self, words: &[&str]) -> String {
        self.run(words).unwrap_or_else(|told| panic!("helm {words:?}: {told}{}", self.world.look()))
    }
}

/// The whole life of one.
pub(super) fn are_made_changed_undone_and_taken_away(world: &World) {
    let Some(program) = program() else {
        eprintln!("skipped: there is no helm on the PATH");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let chart = directory.path().join("chart");
    for part in ["crds", "templates"] {
        std::fs::create_dir_all(chart.join(part)).unwrap();
    }
    std::fs::write(chart.join("Chart.yaml"), CHART).unwrap();
    std::fs::write(chart.join("values.yaml"), VALUES).unwrap();
    for (name, text) in FILES {
        std::fs::write(chart.join(name), text).unwrap();
    }
    let chart = chart.to_str().unwrap();
    let helm = Helm { program, world, home: directory.path() };
    let page = || {
        let words = ["get", "order", "web", "-n", "shop", "-o", "jsonpath={.spec.of}"];
        world.kubectl(&words).unwrap()
    };

    helm.done(&["install", "web", chart, "-n", "shop", "--create-namespace", "--wait", "--timeout=3m"]);
    assert_eq!(page(), "first");
    helm.done(&["test", "web", "-n", "shop"]);
    let more = ["--set=replicas=2,page=second", "--wait", "--timeout=3m"];
    helm.done(&[&["upgrade", "web", chart, "-n", "shop"][..], &more].concat());
    assert_eq!(page(), "second");
    let words = ["get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.status.updatedReplicas}"];
    assert_eq!(world.kubectl(&words).unwrap(), "2", "it came back when that was so");
    helm.done(&["test", "web", "-n", "shop"]);

    // What cannot be is told, and undone.
    let never = ["--set=replicas=-1", "--atomic", "--timeout=1m"];
    let refused = helm.run(&[&["upgrade", "web", chart, "-n", "shop"][..], &never].concat()).unwrap_err();
    assert!(refused.contains("spec.replicas"), "{refused}");
    helm.done(&["rollback", "web", "1", "-n", "shop", "--wait", "--timeout=3m"]);
    assert_eq!(page(), "first");
    let history = helm.done(&["history", "web", "-n", "shop"]);
    assert!(history.contains("Rollback to 1") && history.contains("superseded"), "{history}");
    let kept = world.kubectl(&[
        "get",
        "secret",
        "-n",
        "shop",
        "--field-selector=type=helm.sh/release.v1",
        "-o",
        "name",
    ]);
    assert!(kept.unwrap().lines().count() >= 4, "a secret for each of its states");

    helm.done(&["uninstall", "web", "-n", "shop", "--wait"]);
    let all = "all,configmap,secret,role,rolebinding,serviceaccount,pdb,orders";
    let left = world.kubectl(&["get", all, "-n", "shop", "-o", "name"]).unwrap();
    let left: Vec<&str> = left.lines().filter(|name| !name.ends_with("/web-test")).collect();
    assert_eq!(left, ["configmap/kube-root-ca.crt", "serviceaccount/default"]);
}
