//! As whom a container runs: what the pod, the container and the image say, with the accounts of the image. A decision; the
//! account files are handed in.

use barque_containers::spec::User;
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext};

use super::ContainerError;
use crate::pods::spec;

/// The accounts that an image knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// From the texts of `/etc/passwd` and `/etc/group`; lines that cannot be read are nobody.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.trim().to_owned();
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Account { name, uid, gid })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.trim().to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default().split(',').map(|it| it.trim().to_owned());
            Some(Group { name, gid, members: members.filter(|it| !it.is_empty()).collect() })
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    fn account(&self, user: &str) -> Option<&Account> {
        let by_name = self.users.iter().find(|account| account.name == user);
        by_name.or_else(|| self.users.iter().find(|account| Some(account.uid) == number(user)))
    }

    fn gid(&self, group: &str) -> Option<u32> {
        let by_name = self.groups.iter().find(|it| it.name == group).map(|it| it.gid);
        by_name.or_else(|| number(group))
    }

    /// The groups that count the user among their members.
    fn memberships(&self, name: &str) -> impl Iterator<Item = u32> {
        self.groups.iter().filter(move |group| group.members.iter().any(|it| it == name)).map(|it| it.gid)
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number <= i32::MAX as u32)
}

/// The container's word if it has one, else the pod's.
fn effective<T>(own: Option<T>, pod: Option<T>) -> Option<T> {
    own.or(pod)
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    spec::spec(pod).and_then(|spec| spec.security_context.as_ref())
}

/// The user id that the pod wants for a container; nothing leaves it to the image.
#[must_use]
pub fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    effective(own, pod_context(pod).and_then(|context| context.run_as_user))
}

/// The group id that the pod wants for a container; nothing leaves it to the image.
#[must_use]
pub fn run_as_group(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_group);
    effective(own, pod_context(pod).and_then(|context| context.run_as_group))
}

/// The groups that all containers of a pod are in.
pub fn pod_groups(pod: &Pod) -> impl Iterator<Item = i64> {
    pod_context(pod).into_iter().flat_map(|context| {
        context.fs_group.iter().chain(context.supplemental_groups.iter().flatten()).copied()
    })
}

/// Whether they are in no group that only the image names.
#[must_use]
pub fn groups_are_strict(pod: &Pod) -> bool {
    pod_context(pod).and_then(|context| context.supplemental_groups_policy.as_deref()) == Some("Strict")
}

/// Whether a container that must not be root is not, as far as that can be told from numbers.
///
/// # Errors
/// In the kubelet's words.
pub fn verify_non_root(pod: &Pod, container: &Container, image_user: &str) -> Result<(), ContainerError> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    if effective(own, pod_context(pod).and_then(|context| context.run_as_non_root)) != Some(true) {
        return Ok(());
    }
    let who = format!("(pod: {:?}, container: {})", spec::title(pod), container.name);
    let refused = |why: String| Err(ContainerError::Config(format!("{why} {who}")));
    match run_as_user(pod, container) {
        Some(0) => return refused("container's runAsUser breaks non-root policy".to_owned()),
        Some(_) => return Ok(()),
        None => {}
    }
    let (user, _) = image_user.split_once(':').unwrap_or((image_user, ""));
    match user.parse::<i64>() {
        Ok(0) => refused("container has runAsNonRoot and image will run as root".to_owned()),
        Ok(id) if !(0..=i64::from(i32::MAX)).contains(&id) => refused(format!(
            "container has runAsNonRoot and image has an invalid user id ({id}). (Must be 1-({}))",
            i32::MAX
        )),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => {
            refused("container has runAsNonRoot and image will run as root".to_owned())
        }
        Err(_) => refused(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
        )),
    }
}

/// As whom a container runs.
///
/// # Errors
/// When it must not run as that, or when nobody knows a name.
pub fn identity(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    accounts: &Accounts,
) -> Result<User, ContainerError> {
    verify_non_root(pod, container, image_user)?;
    let (image_name, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let wanted = run_as_user(pod, container).map(|id| id.to_string());
    // The group that the image names belongs to the user that it names.
    let group_word = if wanted.is_some() { "" } else { image_group };
    let user = wanted.as_deref().unwrap_or(if image_name.is_empty() { "0" } else { image_name });
    let account = accounts.account(user);
    let uid = match account.map(|account| account.uid).or_else(|| number(user)) {
        Some(uid) => uid,
        None => {
            return Err(ContainerError::Create(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let gid = match run_as_group(pod, container) {
        Some(gid) => number(&gid.to_string())
            .ok_or_else(|| ContainerError::Config(format!("runAsGroup {gid} is no group")))?,
        None if !group_word.is_empty() => accounts.gid(group_word).ok_or_else(|| {
            ContainerError::Create(format!(
                "unable to find group {group_word}: no matching entries in group file"
            ))
        })?,
        None => account.map_or(0, |account| account.gid),
    };
    let strict = groups_are_strict(pod);
    let mut groups = vec![gid];
    groups.extend(pod_groups(pod).filter_map(|gid| number(&gid.to_string())));
    if let Some(account) = account.filter(|_| !strict) {
        groups.extend(accounts.memberships(&account.name));
    }
    let mut seen = Vec::new();
    groups.retain(|gid| {
        !seen.contains(gid) && {
            seen.push(*gid);
            true
        }
    });
    Ok(User { uid, gid, additional_gids: groups })
}

/// The user that owns tokens, when all containers of the pod run as the same.
#[must_use]
pub fn common_user(pod: &Pod) -> Option<u32> {
    let mut users = super::all(pod).into_iter().map(|container| run_as_user(pod, &container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102:nginx:/:/bin/false\nbad line\n1000:x:7:8::/:\n";
    const GROUP: &str = "root:x:0:\nnginx:x:102:\nstaff:x:50:nginx,other\nwheel:x:10:root\n";

    fn pod(pod: Value, container: Value) -> (Pod, Container) {
        let container = json!({"name": "c", "securityContext": container});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [container]}}))
        .unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        (pod, container)
    }

    fn run(of_pod: Value, of_container: Value, image: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let (pod, container) = pod(of_pod, of_container);
        let user = identity(&pod, &container, image, &Accounts::parse(PASSWD, GROUP));
        user.map(|user| (user.uid, user.gid, user.additional_gids)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_container_s_word_goes_before_the_pod_s_and_that_before_the_image_s() {
        let none = || json!({});
        let table = [
            (none(), none(), "", (0, 0, vec![0, 10])),
            (none(), none(), "nginx", (101, 102, vec![102, 50])),
            (none(), none(), "101", (101, 102, vec![102, 50])),
            (none(), none(), "nginx:staff", (101, 50, vec![50])),
            (none(), none(), "2000:staff", (2000, 50, vec![50])),
            (none(), none(), "2000:2001", (2000, 2001, vec![2001])),
            (none(), none(), "2000", (2000, 0, vec![0])),
            (none(), none(), "1000", (7, 8, vec![8])),
            (json!({"runAsUser": 5}), none(), "nginx:staff", (5, 0, vec![0])),
            (json!({"runAsUser": 5}), json!({"runAsUser": 101}), "", (101, 102, vec![102, 50])),
            (json!({"runAsUser": 5, "runAsGroup": 6}), none(), "", (5, 6, vec![6])),
            (json!({"runAsGroup": 6}), json!({"runAsGroup": 7}), "nginx", (101, 7, vec![7, 50])),
            (
                json!({"fsGroup": 9, "supplementalGroups": [11, 9, 12]}),
                none(),
                "nginx",
                (101, 102, vec![102, 9, 11, 12, 50]),
            ),
            (
                json!({"supplementalGroups": [11], "supplementalGroupsPolicy": "Strict"}),
                none(),
                "nginx",
                (101, 102, vec![102, 11]),
            ),
        ];
        for (of_pod, of_container, image, expected) in table {
            let told = format!("{of_pod} {of_container} {image}");
            assert_eq!(run(of_pod, of_container, image), Ok(expected), "{told}");
        }
    }

    #[test]
    fn names_that_nobody_knows_are_told() {
        let user = run(json!({}), json!({}), "ghost").unwrap_err();
        assert_eq!(user, "unable to find user ghost: no matching entries in passwd file");
        let group = run(json!({}), json!({}), "nginx:ghosts").unwrap_err();
        assert_eq!(group, "unable to find group ghosts: no matching entries in group file");
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let who = "(pod: \"p_ns(u)\", container: c)";
        let root = format!("container has runAsNonRoot and image will run as root {who}");
        let own = format!("container's runAsUser breaks non-root policy {who}");
        let name = format!(
            "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root {who}"
        );
        let must = || json!({"runAsNonRoot": true});
        let table = [
            (must(), json!({}), "", Err(root.clone())),
            (must(), json!({}), "0", Err(root.clone())),
            (must(), json!({}), "0:50", Err(root.clone())),
            (must(), json!({}), "nginx", Err(name.clone())),
            (must(), json!({}), "nginx:staff", Err(name)),
            (must(), json!({}), "101", Ok(())),
            (must(), json!({"runAsUser": 0}), "101", Err(own.clone())),
            (must(), json!({"runAsUser": 5}), "", Ok(())),
            (must(), json!({"runAsNonRoot": false}), "", Ok(())),
            (json!({}), must(), "", Err(root)),
            (json!({"runAsUser": 0}), must(), "101", Err(own)),
            (json!({}), json!({}), "", Ok(())),
        ];
        for (of_pod, of_container, image, expected) in table {
            let told = format!("{of_pod} {of_container} {image}");
            assert_eq!(run(of_pod, of_container, image).map(drop), expected, "{told}");
        }
    }

    #[test]
    fn tokens_belong_to_the_user_that_all_containers_are() {
        let (one, _) = pod(json!({"runAsUser": 5}), json!({}));
        assert_eq!(common_user(&one), Some(5));
        let (none, _) = pod(json!({}), json!({}));
        assert_eq!(common_user(&none), None);
        let mut two = one;
        let mut other = two.spec.as_ref().unwrap().containers[0].clone();
        other.security_context.get_or_insert_default().run_as_user = Some(6);
        two.spec.as_mut().unwrap().containers.push(other);
        assert_eq!(common_user(&two), None);
    }
}
