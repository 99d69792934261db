//! Clusters with TLS and with users: root by its certificate, clients at work by password, guests whose rights come and go.
//!
//! Users are made before the first client works. Must never give a client more than its traffic needs.

use std::ops::Range;
use std::time::Duration;

use barque_proto::authpb::{Permission, permission};
use barque_proto::etcdserverpb as pb;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::client::Client;
use crate::cluster::TlsFiles;
use crate::door::{self, Credentials, Door};
use crate::history::{ClientId, Span};

/// Client numbers of guests.
pub const GUESTS: Range<u32> = 800..803;
/// Numbers from here on are of the harness itself.
const OWN: u32 = 900;

/// What guests may use, while they may.
pub const GUEST_KEYS: &str = "guest/";
/// What guests never may use.
pub const SECRET_KEYS: &str = "secret/";
/// The user that guests are.
pub const GUEST: &str = "guest";
/// What gives them their rights.
pub const GUEST_ROLE: &str = "guests";

const WORKER: &str = "worker";
const WORKER_ROLE: &str = "workers";
/// Short, so that tokens run out again and again.
pub const TOKEN_TTL: Duration = Duration::from_secs(4);

/// How the clients of a run come in.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    root: Door,
    worker: Door,
    guest: Door,
}

impl Doors {
    /// The door of the harness itself.
    #[must_use]
    pub fn root(&self) -> &Door {
        &self.root
    }

    /// The door of a client.
    #[must_use]
    pub fn of(&self, client: ClientId) -> &Door {
        match client.0 {
            OWN.. => &self.root,
            id if GUESTS.contains(&id) => &self.guest,
            _ => &self.worker,
        }
    }
}

/// Certificates of a cluster, and the doors into it. The files are gone with it.
#[derive(Debug)]
pub struct Secure {
    /// What members are started with.
    pub files: TlsFiles,
    /// How clients come in.
    pub doors: Doors,
    _dir: TempDir,
}

fn credentials(name: &str) -> Credentials {
    Credentials { name: name.to_owned(), password: format!("the password of {name}") }
}

impl Secure {
    /// An authority, and certificates for members with these addresses and for clients.
    ///
    /// # Errors
    /// When the files cannot be written or read.
    pub fn build(addresses: &[String]) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("certificates-").tempdir()?;
        let authority = Authority::new(dir.path(), "authority");
        let member = authority.sign_for("member", addresses);
        // Who brings a token counts by it, and not by the name in the certificate.
        let [root, other] = ["root", "nobody"].map(|name| authority.sign(name));
        let files = TlsFiles {
            authority: authority.certificate.clone(),
            certificate: member.certificate,
            key: member.key,
        };
        let tls = door::tls(&authority.certificate, &other)?;
        let by_password = |name| Door { tls: Some(tls.clone()), user: Some(credentials(name)) };
        let doors = Doors {
            root: Door { tls: Some(door::tls(&authority.certificate, &root)?), user: None },
            worker: by_password(WORKER),
            guest: by_password(GUEST),
        };
        Ok(Self { files, doors, _dir: dir })
    }
}

/// Makes users and roles, and asks for rights from then on.
///
/// # Errors
/// When the cluster refuses or does not answer.
pub async fn guard(client: &Client, prefixes: &[&str]) -> Result<(), tonic::Status> {
    let mut auth = client.auth.clone();
    let user = |name: &str| {
        let Credentials { name, password } = credentials(name);
        pb::AuthUserAddRequest { name, password, ..Default::default() }
    };
    for name in ["root", WORKER, GUEST] {
        auth.user_add(user(name)).await?;
    }
    let everything = (Span::everything(), permission::Type::Read);
    let prefixes = prefixes.iter().map(|prefix| (Span::prefix(*prefix), permission::Type::Readwrite));
    let guests = [(Span::prefix(GUEST_KEYS), permission::Type::Readwrite)];
    for (user, role, rights) in [
        (WORKER, WORKER_ROLE, [everything].into_iter().chain(prefixes).collect()),
        (GUEST, GUEST_ROLE, Vec::from(guests)),
        ("root", "root", Vec::new()),
    ] {
        auth.role_add(pb::AuthRoleAddRequest { name: role.to_owned() }).await?;
        for (Span { key, end }, perm_type) in rights {
            let perm = Permission { perm_type: perm_type.into(), key: key.into(), range_end: end.into() };
            let grant = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) };
            auth.role_grant_permission(grant).await?;
        }
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() })
            .await?;
    }
    auth.auth_enable(pb::AuthEnableRequest {}).await?;
    Ok(())
}

/// Gives those at work their password anew, which ends all their tokens.
///
/// # Errors
/// When the cluster refuses or does not answer.
pub async fn password_again(client: &Client) -> Result<(), tonic::Status> {
    let Credentials { name, password } = credentials(WORKER);
    let change = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    client.auth.clone().user_change_password(change).await.map(drop)
}
