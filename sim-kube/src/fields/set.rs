//! A set of field paths, in memory a trie, on the wire FieldsV1.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    Field(String),
    /// An item of a map list, by its key fields as canonical JSON.
    Key(String),
    /// An item of a set, as JSON.
    Value(String),
    Index(usize),
}

impl Element {
    fn wire(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(json) => format!("k:{json}"),
            Element::Value(json) => format!("v:{json}"),
            Element::Index(at) => format!("i:{at}"),
        }
    }

    fn parse(wire: &str) -> Option<Element> {
        let (kind, rest) = wire.split_once(':')?;
        Some(match kind {
            "f" => Element::Field(rest.to_owned()),
            "k" => Element::Key(
                serde_json::from_str::<BTreeMap<String, Value>>(rest)
                    .ok()
                    .map(key_json)?,
            ),
            "v" => Element::Value(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "i" => Element::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// As conflicts name it: `.spec.ports[name="a"].number`.
    fn shown(&self) -> String {
        match self {
            Element::Field(name) => format!(".{name}"),
            Element::Key(json) => {
                let pairs: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", pairs.join(","))
            }
            Element::Value(json) => format!("[={json}]"),
            Element::Index(at) => format!("[{at}]"),
        }
    }
}

/// Key fields in order of name, as JSON.
pub(super) fn key_json(pairs: BTreeMap<String, Value>) -> String {
    Value::Object(pairs.into_iter().collect()).to_string()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// The path that leads here is itself in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn child(&mut self, element: Element) -> &mut FieldSet {
        self.children.entry(element).or_default()
    }

    pub(crate) fn from_wire(value: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        for (key, child) in value.as_object().into_iter().flatten() {
            if key == "." {
                set.member = true;
                continue;
            }
            let Some(element) = Element::parse(key) else {
                continue;
            };
            let mut parsed = FieldSet::from_wire(child);
            if child.as_object().is_some_and(Map::is_empty) {
                parsed.member = true;
            }
            set.children.insert(element, parsed);
        }
        set
    }

    pub(crate) fn to_wire(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        let mut pairs: Vec<(String, Value)> = self
            .children
            .iter()
            .map(|(e, c)| (e.wire(), c.to_wire()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        map.extend(pairs);
        map.into()
    }

    pub(super) fn union(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, theirs) in &other.children {
            self.child(element.clone()).union(theirs);
        }
    }

    /// Takes out the members of `other`, path by path.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(element) {
                mine.subtract(theirs);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    /// Takes out the members of `other` and everything below them.
    pub(super) fn subtract_deep(&mut self, other: &FieldSet) {
        if other.member {
            *self = FieldSet::default();
            return;
        }
        for (element, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(element) {
                mine.subtract_deep(theirs);
                if mine.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet {
            member: self.member && other.member,
            ..FieldSet::default()
        };
        for (element, mine) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                let both = mine.intersection(theirs);
                if !both.is_empty() {
                    out.children.insert(element.clone(), both);
                }
            }
        }
        out
    }

    /// The paths of all members, as conflicts print them.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, path: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(path.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{path}{}", element.shown()), out);
        }
    }
}
