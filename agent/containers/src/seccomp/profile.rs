//! A profile of system calls, and how it is read from JSON: the form of the OCI runtime specification, and Docker's, which
//! adds conditions. Pure; names that this architecture does not have are kept, the compiler skips them.

use serde::Deserialize;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Errno(u16),
    KillProcess,
    KillThread,
    Trap,
    Log,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Compare {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// The argument, masked with the value, is the second value.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArgTest {
    /// Which argument, from 0 to 5.
    pub(crate) index: u8,
    #[serde(default)]
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    #[serde(rename = "op")]
    pub(crate) compare: Compare,
}

/// What happens to some calls if all tests hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    pub(crate) tests: Vec<ArgTest>,
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// For calls that no rule names.
    pub(crate) default: Action,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Option<Vec<Calls>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<ArgTest>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

/// Docker's: for whom a rule is.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
}

/// Docker's name of this architecture.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// Reads a profile for a process with these capabilities. Errors are sentences without the file's name.
pub(crate) fn parse(json: &[u8], capabilities: &[String]) -> Result<Profile, String> {
    let document: Document = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let default = action(&document.default_action, document.default_errno_ret)?;
    let mut rules = Vec::new();
    for calls in document.syscalls.unwrap_or_default() {
        if !applies(calls.includes.as_ref(), calls.excludes.as_ref(), capabilities) {
            continue;
        }
        let action = action(&calls.action, calls.errno_ret)?;
        let names: Vec<String> = calls.names.into_iter().chain(calls.name).collect();
        let tests = calls.args.unwrap_or_default();
        if let Some(test) = tests.iter().find(|test| test.index > 5) {
            return Err(format!("argument {} of {names:?} does not exist; there are 0 to 5", test.index));
        }
        // A kernel's filter can test an argument once; runc takes several tests of one as alternatives, and so do we.
        let repeated = tests
            .iter()
            .enumerate()
            .any(|(at, test)| tests[..at].iter().any(|earlier| earlier.index == test.index));
        if repeated {
            for test in tests {
                rules.push(Rule { names: names.clone(), action, tests: vec![test] });
            }
        } else {
            rules.push(Rule { names, action, tests });
        }
    }
    Ok(Profile { default, rules })
}

fn applies(includes: Option<&Condition>, excludes: Option<&Condition>, capabilities: &[String]) -> bool {
    let arch = |list: &[String]| list.iter().any(|name| name == ARCHITECTURE);
    let held = |name: &String| capabilities.contains(name);
    if let Some(condition) = includes {
        if condition.arches.as_ref().is_some_and(|list| !list.is_empty() && !arch(list)) {
            return false;
        }
        if condition.caps.as_ref().is_some_and(|list| !list.iter().all(held)) {
            return false;
        }
    }
    if let Some(condition) = excludes {
        if condition.arches.as_ref().is_some_and(|list| arch(list)) {
            return false;
        }
        if condition.caps.as_ref().is_some_and(|list| list.iter().any(held)) {
            return false;
        }
    }
    true
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    let errno = errno.unwrap_or(rustix::io::Errno::PERM.raw_os_error() as u16);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        other => {
            return Err(format!(
                "the action {other} is not supported; it can be SCMP_ACT_ALLOW, _ERRNO, _KILL, _KILL_THREAD, _KILL_PROCESS, _TRAP or _LOG"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_oci_is_read() {
        let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}]}"#;
        let profile = parse(json, &[]).unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        assert_eq!(profile.rules.len(), 2);
        assert_eq!(profile.rules[1].tests[0].compare, Compare::Equal);
    }

    #[test]
    fn rules_for_capabilities_and_architectures_hold_for_those_only() {
        let json = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"name":"reboot","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_BOOT"]}},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["swapcontext"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["ppc64le"]}}]}"#;
        let names = |capabilities: &[&str]| {
            let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
            let profile = parse(json, &capabilities).unwrap();
            profile.rules.into_iter().flat_map(|rule| rule.names).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["clone3"]);
        assert_eq!(names(&["CAP_SYS_BOOT", "CAP_SYS_ADMIN"]), ["reboot"]);
    }

    #[test]
    fn several_tests_of_one_argument_are_alternatives() {
        let json =
            br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW",
            "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert_eq!(parse(json, &[]).unwrap().rules.len(), 2);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let story = parse(br#"{"defaultAction":"SCMP_ACT_TRACE"}"#, &[]).unwrap_err();
        assert!(story.contains("SCMP_ACT_TRACE"), "{story}");
        assert!(parse(b"{", &[]).is_err());
    }
}
