//! The certificates of a test cluster: one authority, and what it signs for servers, agents and
//! clients.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Certificates and keys in files.
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    server: (PathBuf, PathBuf),
    /// Of somebody in `system:masters`.
    pub(crate) admin: (PathBuf, PathBuf),
    /// Of the agent of a node on this machine.
    pub(crate) agent: (PathBuf, PathBuf),
    /// Of a server that asks agents.
    agent_client: (PathBuf, PathBuf),
    /// The key of service accounts' tokens.
    tokens: PathBuf,
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes them in a directory, for servers on this machine.
    #[allow(dead_code, reason = "each test uses a part")]
    pub(crate) fn write(directory: &Path) -> Self {
        Self::of(directory, "127.0.0.1")
    }

    /// The same for servers that have this address too.
    pub(crate) fn of(directory: &Path, address: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = directory.join("ca.crt");
        std::fs::write(&ca, authority.pem()).unwrap();
        let mut made = Self {
            ca,
            server: Default::default(),
            admin: Default::default(),
            agent: Default::default(),
            agent_client: Default::default(),
            tokens: PathBuf::new(),
            directory: directory.to_owned(),
            authority,
        };
        made.server = made.serving("server", address);
        made.agent = made.serving("agent", address);
        made.tokens = made.directory.join("service-accounts.key");
        std::fs::write(&made.tokens, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        made.admin = made.client("admin", &["system:masters"]);
        made.agent_client = made.client("apiserver-kubelet-client", &["kubeadm:cluster-admins"]);
        made
    }

    /// The certificate of a server on this machine, at this address too.
    pub(crate) fn serving(&self, name: &str, address: &str) -> (PathBuf, PathBuf) {
        let names = ["localhost", "127.0.0.1", address].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, params)
    }

    /// The certificate of a client with this name and these groups.
    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let files = (self.directory.join(format!("{name}.crt")), self.directory.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// The authority's key, in a file.
    #[allow(dead_code, reason = "each test uses a part")]
    pub(crate) fn authority_key(&self) -> PathBuf {
        let path = self.directory.join("ca.key");
        std::fs::write(&path, self.authority.key().serialize_pem()).unwrap();
        path
    }

    /// What a server is told.
    pub(crate) fn server_flags(&self) -> Vec<String> {
        vec![
            format!("--tls-cert-file={}", self.server.0.display()),
            format!("--tls-private-key-file={}", self.server.1.display()),
            format!("--client-ca-file={}", self.ca.display()),
            format!("--service-account-signing-key-file={}", self.tokens.display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--kubelet-certificate-authority={}", self.ca.display()),
            format!("--kubelet-client-certificate={}", self.agent_client.0.display()),
            format!("--kubelet-client-key={}", self.agent_client.1.display()),
        ]
    }
}
