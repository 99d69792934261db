//! The table of messages: which fields each has, under which number and name, and what stands in them. Must never be
//! changed but by the facts of a newer release.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::kind::GroupVersionKind;

/// No message has more fields: what is seen of one is kept in as many bits.
pub(super) const MAX_FIELDS: usize = 64;
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bool,
    Int32,
    Int64,
    Double,
    /// In JSON as base64.
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// Any object, or any JSON, inside its own message.
    Raw,
    /// JSON inside its own message.
    Json,
    /// Texts inside their own message.
    Texts,
    /// A schema or a flag.
    SchemaOrBool(usize),
    /// A schema or a list of them.
    SchemaOrArray(usize),
    /// A schema or a list of texts.
    SchemaOrTexts(usize),
    /// The message with this number in the table.
    Message(usize),
}

/// How often it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Always: what is not given is written as empty.
    One,
    /// Once or not at all.
    Pointer,
    List,
    /// By texts.
    Map,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// The name in JSON.
    pub(super) name: Box<str>,
    pub(super) of: Type,
    pub(super) shape: Shape,
    /// Left out in JSON when empty.
    pub(super) omit_empty: bool,
    /// Left out in JSON when it is the moment that is none.
    pub(super) omit_zero: bool,
    /// Its fields stand in the same object in JSON.
    pub(super) inline: bool,
}

/// A message of the table.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) name: Box<str>,
    /// By number.
    pub(super) fields: Vec<Field>,
    /// Places in `fields`, by name.
    by_name: Vec<usize>,
    /// Places in `fields` of those that JSON shows also when the bytes do not.
    pub(super) always: Vec<usize>,
}

impl Layout {
    pub(super) fn by_name(&self, name: &str) -> Option<usize> {
        let found = self.by_name.binary_search_by(|at| (*self.fields[*at].name).cmp(name)).ok()?;
        Some(self.by_name[found])
    }

    pub(super) fn by_number(&self, number: u32) -> Option<usize> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }
}

/// All messages.
#[derive(Debug)]
pub struct Messages {
    layouts: Vec<Layout>,
    kinds: HashMap<Box<str>, Vec<Kind>>,
}

/// A kind of some name.
#[derive(Debug)]
struct Kind {
    /// A star is any.
    group: Box<str>,
    version: Box<str>,
    /// Its place in the table.
    message: usize,
}

/// One message: how objects of a kind are written.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub(super) messages: &'a Messages,
    pub(super) layout: &'a Layout,
}

impl Messages {
    /// Those of the built-in kinds.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Messages> = LazyLock::new(|| {
            read(include_str!("../../data/protobuf.tsv"))
                .unwrap_or_else(|error| panic!("protobuf.tsv: {error}"))
        });
        &BUILTIN
    }

    /// That of a kind; nothing for kinds that have no protobuf. Options and Status are those of every group.
    #[must_use]
    pub fn of_kind(&self, kind: &GroupVersionKind) -> Option<Message<'_>> {
        self.find(&kind.group, &kind.version, &kind.kind)
    }

    pub(super) fn find(&self, group: &str, version: &str, kind: &str) -> Option<Message<'_>> {
        let candidates = self.kinds.get(kind)?;
        let right = |one: &&Kind| &*one.group == "*" || (&*one.group == group && &*one.version == version);
        candidates.iter().find(right).map(|one| self.at(one.message))
    }

    /// Those of all kinds, sorted by name.
    #[cfg(test)]
    pub(super) fn of_kinds(&self) -> impl Iterator<Item = Message<'_>> {
        let places = self.kinds.values().flatten().map(|kind| kind.message);
        places.collect::<std::collections::BTreeSet<_>>().into_iter().map(|at| self.at(at))
    }

    pub(super) fn at(&self, at: usize) -> Message<'_> {
        Message { messages: self, layout: &self.layouts[at] }
    }
}

impl<'a> Message<'a> {
    /// The message of a field.
    pub(super) fn field_message(&self, name: &str) -> Option<Message<'a>> {
        match self.layout.fields.get(self.layout.by_name(name)?)?.of {
            Type::Message(at) => Some(self.messages.at(at)),
            _ => None,
        }
    }
}

/// A line that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
struct TableError {
    line: usize,
    why: &'static str,
}

fn read(text: &str) -> Result<Messages, TableError> {
    let names = text.lines().filter(|line| !line.starts_with(['#', '\t']) && !line.contains('\t'));
    let numbers: HashMap<&str, usize> = names.enumerate().map(|(at, name)| (name, at)).collect();
    let mut messages = Messages { layouts: Vec::with_capacity(numbers.len()), kinds: HashMap::new() };
    for (at, line) in text.lines().enumerate() {
        if !line.starts_with('#') {
            read_line(line, &numbers, &mut messages).map_err(|why| TableError { line: at + 1, why })?;
        }
    }
    for layout in &mut messages.layouts {
        index(layout);
    }
    Ok(messages)
}

fn read_line(
    line: &str,
    numbers: &HashMap<&str, usize>,
    messages: &mut Messages,
) -> Result<(), &'static str> {
    let parts: Vec<&str> = line.split('\t').collect();
    match parts.as_slice() {
        [name] => messages.layouts.push(Layout {
            name: (*name).into(),
            fields: Vec::new(),
            by_name: Vec::new(),
            always: Vec::new(),
        }),
        ["", number, name, of] => {
            let field = read_field(number, name, of, numbers)?;
            let fields =
                &mut messages.layouts.last_mut().ok_or("a field must stand below its message")?.fields;
            if fields.last().is_some_and(|last| last.number >= field.number) {
                return Err("fields must be in the order of their numbers");
            }
            if fields.len() == MAX_FIELDS {
                return Err("a message has too many fields");
            }
            fields.push(field);
        }
        [group, version, kind, message] => {
            let group = if *group == "core" { "" } else { group };
            let message = *numbers.get(message).ok_or("there is no such message")?;
            let kind = (*kind).into();
            let version = (*version).into();
            messages.kinds.entry(kind).or_default().push(Kind { group: group.into(), version, message });
        }
        _ => return Err("a line is a kind, a message or a field"),
    }
    Ok(())
}

fn read_field(
    number: &str,
    name: &str,
    of: &str,
    numbers: &HashMap<&str, usize>,
) -> Result<Field, &'static str> {
    let number = number.parse().map_err(|_| "the number of a field is none")?;
    let (omit_empty, of) = of.strip_prefix('?').map_or((false, of), |of| (true, of));
    let (omit_zero, of) = of.strip_prefix('0').map_or((false, of), |of| (true, of));
    let (shape, of) = [("*", Shape::Pointer), ("[]", Shape::List), ("{}", Shape::Map)]
        .into_iter()
        .find_map(|(prefix, shape)| Some((shape, of.strip_prefix(prefix)?)))
        .unwrap_or((Shape::One, of));
    let message = |name: &str| numbers.get(name).copied().ok_or("there is no such type");
    let of = match of {
        "string" => Type::Text,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "micro-time" => Type::MicroTime,
        "duration" => Type::Duration,
        "quantity" => Type::Quantity,
        "int-or-string" => Type::IntOrString,
        "raw" => Type::Raw,
        "json" | "fields" => Type::Json,
        "strings" => Type::Texts,
        "schema-or-bool" => Type::SchemaOrBool(message(SCHEMA)?),
        "schema-or-array" => Type::SchemaOrArray(message(SCHEMA)?),
        "schema-or-strings" => Type::SchemaOrTexts(message(SCHEMA)?),
        name => Type::Message(message(name)?),
    };
    Ok(Field { number, name: name.into(), of, shape, omit_empty, omit_zero, inline: name == "-" })
}

fn index(layout: &mut Layout) {
    let fields = &layout.fields;
    let mut by_name: Vec<usize> = (0..fields.len()).filter(|at| !fields[*at].inline).collect();
    by_name.sort_by(|left, right| fields[*left].name.cmp(&fields[*right].name));
    layout.by_name = by_name;
    layout.always = (0..fields.len()).filter(|at| is_always_shown(&fields[*at])).collect();
}

/// Go leaves out what is empty, but a structure is never empty.
fn is_always_shown(field: &Field) -> bool {
    let structure = match field.of {
        Type::Text | Type::Bool | Type::Int32 | Type::Int64 | Type::Double | Type::Bytes | Type::Texts => {
            false
        }
        Type::Time | Type::MicroTime => !field.omit_zero,
        _ => true,
    };
    !field.omit_empty && !field.omit_zero || field.shape == Shape::One && structure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Builtin;

    #[test]
    fn every_kind_of_the_resources_has_its_message_and_most_a_list() {
        let messages = Messages::builtin();
        // Everybody reads what is measured as JSON.
        let all = Builtin::table().all().iter().filter(|one| &*one.name.group != "metrics.k8s.io");
        for resource in all {
            let kind = resource.name.group_version().kind(&resource.kind);
            assert!(messages.of_kind(&kind).is_some(), "{kind}");
            if resource.verbs.contains(&crate::resources::Verb::List) {
                let list = resource.name.group_version().kind(&format!("{}List", resource.kind));
                assert!(messages.of_kind(&list).is_some(), "{list}");
            }
            for below in &resource.subresources {
                assert!(messages.of_kind(&below.kind).is_some(), "{}", below.kind);
            }
        }
    }

    #[test]
    fn options_are_those_of_every_group() {
        let messages = Messages::builtin();
        for (group, version) in [("", "v1"), ("apps", "v1"), ("meta.k8s.io", "v1")] {
            let options = messages.of_kind(&GroupVersionKind::new(group, version, "DeleteOptions")).unwrap();
            assert_eq!(&*options.layout.name, "meta.v1.DeleteOptions");
        }
        let metadata = |group| messages.of_kind(&GroupVersionKind::new(group, "v1", "PartialObjectMetadata"));
        assert!(metadata("meta.k8s.io").is_some() && metadata("apps").is_none());
        assert!(messages.of_kind(&GroupVersionKind::new("example.com", "v1", "Pod")).is_none());
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let table = [
            ("\t1\ta\tstring", "line 1: a field must stand below its message"),
            ("m\n\tx\ta\tstring", "line 2: the number of a field is none"),
            ("m\n\t1\ta\tfoo", "line 2: there is no such type"),
            ("m\n\t2\ta\tbool\n\t1\tb\tbool", "line 3: fields must be in the order of their numbers"),
            ("core\tv1\tPod\tp", "line 1: there is no such message"),
            ("a\tb", "line 1: a line is a kind, a message or a field"),
        ];
        for (text, error) in table {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
    }
}
