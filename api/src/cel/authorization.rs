//! Rights in expressions: `authorizer.group('apps').resource('deployments').check('get').allowed()`. Who may what is asked of
//! whoever gave the variable; must never be known here.

use std::fmt;
use std::sync::Arc;

use super::machine::{Budget, EvalError};
use super::value::Val;
use crate::names::{dns_label, dns_subdomain};

/// What one question costs, in units of a budget: it may walk over all roles.
const PER_QUESTION: u64 = 350_000;

/// Whoever knows who may what.
pub trait Authority: fmt::Debug + Sync {
    /// Whether a service account, or without one whoever the expression is about, may do this.
    fn decide(&self, account: Option<&Account>, question: &Question) -> Verdict;
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Where it is.
    pub namespace: String,
    /// What it is called there.
    pub name: String,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A path that is no resource.
    Path {
        /// The path.
        path: String,
        /// The method.
        verb: String,
    },
    /// Something with a resource.
    Resource {
        /// What it is done with.
        what: Resource,
        /// What is done.
        verb: String,
    },
}

/// What something is done with; texts are empty where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The group; empty for core.
    pub group: String,
    /// The collection.
    pub resource: String,
    /// What hangs below an object.
    pub subresource: String,
    /// Empty for the whole cluster.
    pub namespace: String,
    /// Of an object.
    pub name: String,
    /// Which objects of a list, by fields; as it is written.
    pub field_selector: String,
    /// The same by labels.
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether somebody may.
    pub allowed: bool,
    /// Why; empty where nothing is said.
    pub reason: String,
    /// What went wrong; nothing where nothing did.
    pub error: Option<String>,
}

/// A step on the way to an answer.
#[derive(Clone, Debug)]
pub enum Access<'a> {
    /// `authorizer`
    Authorizer(Asker<'a>),
    /// `authorizer.path()`
    Path(Asker<'a>, String),
    /// `authorizer.group()`
    Group(Asker<'a>, String),
    /// `authorizer.group().resource()`, and `authorizer.requestResource`
    Resource(Asker<'a>, Resource),
    /// What `check()` says.
    Verdict(Verdict),
}

/// Who is asked, and about whom.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    authority: &'a dyn Authority,
    account: Option<Account>,
}

impl<'a> Val<'a> {
    /// The variable `authorizer`.
    #[must_use]
    pub fn authorizer(authority: &'a dyn Authority) -> Self {
        Self::Access(Arc::new(Access::Authorizer(Asker { authority, account: None })))
    }

    /// The variable `authorizer.requestResource`.
    #[must_use]
    pub fn resource_check(authority: &'a dyn Authority, resource: Resource) -> Self {
        Self::Access(Arc::new(Access::Resource(Asker { authority, account: None }, resource)))
    }
}

impl Access<'_> {
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::Path(..) => "kubernetes.authorization.PathCheck",
            Self::Group(..) => "kubernetes.authorization.GroupCheck",
            Self::Resource(..) => "kubernetes.authorization.ResourceCheck",
            Self::Verdict(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// Functions of these values.
pub(super) fn member<'a>(
    budget: &mut Budget,
    name: &str,
    access: &Access<'a>,
    args: &[Val<'a>],
) -> Result<Val<'a>, EvalError> {
    let texts: Option<Vec<&str>> = args.iter().map(Val::as_text).collect();
    let texts = texts.ok_or(EvalError::NoSuchOverload)?;
    let next = |access| Ok(Val::Access(Arc::new(access)));
    match (access, name, texts.as_slice()) {
        (Access::Authorizer(asker), "path", [path]) => {
            next(Access::Path(asker.clone(), given("path", path)?))
        }
        (Access::Authorizer(asker), "group", [group]) => {
            next(Access::Group(asker.clone(), (*group).to_owned()))
        }
        (Access::Authorizer(asker), "serviceAccount", [namespace, name]) => {
            if !dns_subdomain(name).is_empty() {
                return Err(EvalError::other("Invalid service account name"));
            }
            if !dns_label(namespace).is_empty() {
                return Err(EvalError::other("Invalid service account namespace"));
            }
            let account = Account { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            next(Access::Authorizer(Asker { account: Some(account), ..*asker }))
        }
        (Access::Group(asker, group), "resource", [resource]) => {
            let resource = given("resource", resource)?;
            let resource = Resource { group: group.clone(), resource, ..Resource::default() };
            next(Access::Resource(asker.clone(), resource))
        }
        (Access::Path(asker, path), "check", [verb]) => {
            let question = Question::Path { path: path.clone(), verb: (*verb).to_owned() };
            next(Access::Verdict(asker.ask(budget, &question)?))
        }
        (Access::Resource(asker, what), "check", [verb]) => {
            let question = Question::Resource { what: what.clone(), verb: (*verb).to_owned() };
            next(Access::Verdict(asker.ask(budget, &question)?))
        }
        (Access::Resource(asker, resource), field, [text]) => {
            let mut resource = resource.clone();
            let place = match field {
                "subresource" => &mut resource.subresource,
                "namespace" => &mut resource.namespace,
                "name" => &mut resource.name,
                "fieldSelector" => &mut resource.field_selector,
                "labelSelector" => &mut resource.label_selector,
                _ => return Err(EvalError::NoSuchOverload),
            };
            (*text).clone_into(place);
            next(Access::Resource(asker.clone(), resource))
        }
        (Access::Verdict(verdict), "allowed", []) => Ok(Val::Bool(verdict.allowed)),
        (Access::Verdict(verdict), "reason", []) => Ok(Val::text(verdict.reason.as_str())),
        (Access::Verdict(verdict), "errored", []) => Ok(Val::Bool(verdict.error.is_some())),
        (Access::Verdict(verdict), "error", []) => {
            Ok(Val::text(verdict.error.as_deref().unwrap_or_default()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn given(what: &str, text: &str) -> Result<String, EvalError> {
    if text.trim().is_empty() {
        return Err(EvalError::other(format!("{what} must not be empty")));
    }
    Ok(text.to_owned())
}

impl Asker<'_> {
    fn ask(&self, budget: &mut Budget, question: &Question) -> Result<Verdict, EvalError> {
        budget.pay(PER_QUESTION)?;
        Ok(self.authority.decide(self.account.as_ref(), question))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, Environment, PER_OBJECT, Program, convert};
    use super::*;

    /// Says what it was asked, and allows what `root` asks.
    #[derive(Debug)]
    struct Echo;

    impl Authority for Echo {
        fn decide(&self, account: Option<&Account>, question: &Question) -> Verdict {
            let who = account.map_or("me".to_owned(), |one| format!("{}:{}", one.namespace, one.name));
            let (what, verb) = match question {
                Question::Path { path, verb } => (path.clone(), verb),
                Question::Resource { what, verb } => {
                    let Resource { group, resource, subresource, namespace, name, .. } = what;
                    let selectors = format!("{} {}", what.field_selector, what.label_selector);
                    (format!("{group}/{resource}/{subresource}/{namespace}/{name} {selectors}"), verb)
                }
            };
            let error = (verb == "fail").then(|| "out of order".to_owned());
            Verdict { allowed: who == "a:root", reason: format!("{who} {verb} {what}"), error }
        }
    }

    fn evaluate(source: &str) -> String {
        let environment = Environment::default().with("authorizer", None);
        let program = match Program::compile(&environment, source, None) {
            Ok(program) => program,
            Err(error) => return error.to_string(),
        };
        let own = Resource { group: "apps".into(), resource: "deployments".into(), ..Resource::default() };
        let activation = Activation::default().with("authorizer", Val::authorizer(&Echo)).with_field(
            "authorizer",
            "requestResource",
            Ok(Val::resource_check(&Echo, own)),
        );
        match program.evaluate(&activation, &mut Budget::new(PER_OBJECT)) {
            Ok(value) => convert::plain_text(&value),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rights_are_asked_step_by_step() {
        let table = [
            ("authorizer.path('/healthz').check('get').reason()", "me get /healthz"),
            ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
            (
                "authorizer.group('').resource('pods').subresource('log').namespace('n').name('p').check('get').reason()",
                "me get /pods/log/n/p  ",
            ),
            ("authorizer.group('').resource('')", "resource must not be empty"),
            (
                "authorizer.group('').resource('pods').fieldSelector('a=b').labelSelector('c').check('list').reason()",
                "me list /pods/// a=b c",
            ),
            ("authorizer.requestResource.check('get').reason()", "me get apps/deployments///  "),
            (
                "authorizer.requestResource.subresource('scale').check('x').reason()",
                "me x apps/deployments/scale//  ",
            ),
            ("authorizer.serviceAccount('a', 'root').path('/x').check('get').allowed()", "true"),
            ("authorizer.serviceAccount('a', 'b').path('/x').check('get').allowed()", "false"),
            ("authorizer.serviceAccount('A', 'b')", "Invalid service account namespace"),
            ("authorizer.serviceAccount('a', 'B')", "Invalid service account name"),
            ("authorizer.path('/x').check('fail').errored()", "true"),
            ("authorizer.path('/x').check('fail').error()", "out of order"),
            ("authorizer.path('/x').check('get').error()", ""),
            ("authorizer.path('/x').check('get').errored()", "false"),
            ("authorizer.path('/x').allowed()", "no such overload"),
            ("authorizer.check('get').allowed()", "no such overload"),
            ("authorizer.group('').resource(1)", "no such overload"),
            ("authorizer == authorizer", "false"),
        ];
        for (source, expected) in table {
            assert_eq!(evaluate(source), expected, "{source}");
        }
        assert!(evaluate("authorizer.path('/x', 'y')").contains("found no matching overload for 'path'"));
    }

    #[test]
    fn few_questions_are_paid_for() {
        let ask = "authorizer.path('/x').check('get').errored()";
        let three = format!("{ask} || {ask} || {ask}");
        assert_eq!(evaluate(&format!("{ask} || {ask}")), "false");
        assert_eq!(evaluate(&three), "operation cancelled: actual cost limit exceeded");
    }
}
