//! Kubeconfigs: whom to speak to, whom to believe, and as who. Pure texts; must never read a file.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::authority::Pair;

/// A user whose certificate and key are in files: read again when they change.
#[must_use]
pub fn with_files(server: &str, authority: &Path, certificate: &Path, key: &Path) -> String {
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    text(
        server,
        &format!("certificate-authority: {}", quoted(authority)),
        &format!("client-certificate: {}\n    client-key: {}", quoted(certificate), quoted(key)),
    )
}

/// A user whose certificate and key stand in the text: it can be carried elsewhere.
#[must_use]
pub fn embedded(server: &str, authority: &str, user: &Pair) -> String {
    text(
        server,
        &format!("certificate-authority-data: {}", STANDARD.encode(authority)),
        &format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&user.certificate),
            STANDARD.encode(&user.key)
        ),
    )
}

/// Nobody: only whom to speak to, and whom to believe. What `kube-public/cluster-info` holds.
#[must_use]
pub fn cluster_info(server: &str, authority: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: {server}\n    certificate-authority-data: {}\n",
        STANDARD.encode(authority)
    )
}

fn text(server: &str, authority: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: barque\n  cluster:\n    server: {server}\n    {authority}\nusers:\n- \
         name: barque\n  user:\n    {user}\ncontexts:\n- name: barque\n  context:\n    cluster: barque\n    user: barque\n\
         current-context: barque\n"
    )
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn kube_reads_them() {
        let pair = Pair { certificate: "c".to_owned(), key: "k".to_owned() };
        let embedded = Kubeconfig::from_yaml(&embedded("https://10.0.0.1:6443", "ca", &pair)).unwrap();
        assert_eq!(embedded.current_context.as_deref(), Some("barque"));
        let cluster = embedded.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Y2E="));

        let odd = Path::new("/a b/\"c\".crt");
        let files = Kubeconfig::from_yaml(&with_files("https://h", odd, odd, odd)).unwrap();
        let user = files.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate.as_deref(), odd.to_str());
        let nobody = Kubeconfig::from_yaml(&cluster_info("https://h:1", "ca")).unwrap();
        assert!(nobody.auth_infos.is_empty());
    }
}
