//! The part of a vcluster.yaml that decides about nodes: `controlPlane.endpoint` and `privateNodes`.
//!
//! The text comes from `spec.template.helmRelease.values`. Older files write `autoNodes` as one map, newer ones
//! as a list; a provider is a name or an object with one; properties are a map or a list. All are read, and an
//! error names the field by its path, as its author would look for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{Properties, RequirementOperator, lenient_properties};
use crate::metal3::Taint;

/// More nodes than one pool may ask for: a mistyped quantity must not become a million objects.
const MAX_POOL: u64 = 10_000;

/// A field of the configuration that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("spec.template.helmRelease.values is not YAML: {0}")]
    Syntax(String),
    #[error("spec.template.helmRelease.values: {field}: {problem}")]
    Field { field: String, problem: String },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct VclusterConfig {
    /// `controlPlane.endpoint`: host and port of the tenant's API as nodes reach it.
    pub endpoint: Option<String>,
    pub private_nodes: bool,
    pub auto_nodes: Vec<AutoNodes>,
    pub default_profile: Option<String>,
}

/// Pools out of one provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoNodes {
    pub provider: String,
    pub properties: Properties,
    pub static_pools: Vec<StaticPool>,
    /// How many dynamic pools there are: they are decided by pending pods, not here.
    pub dynamic_pools: usize,
}

/// So many nodes, always.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StaticPool {
    pub name: String,
    pub quantity: u32,
    pub properties: Properties,
    pub node_type_selector: Vec<SelectorTerm>,
    pub node_labels: Properties,
    pub taints: Vec<Taint>,
    pub profile: Option<String>,
}

/// One line of a `nodeTypeSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorTerm {
    pub property: String,
    pub operator: RequirementOperator,
    pub values: Vec<String>,
}

impl VclusterConfig {
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value: Value = crate::yaml::read(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        let root = Node {
            value: &value,
            path: String::new(),
        };
        let private = root.at("privateNodes");
        let auto_nodes = private.at("autoNodes");
        let auto_nodes = match auto_nodes.value {
            Value::Object(_) => vec![auto_nodes],
            _ => auto_nodes.list()?,
        };
        Ok(Self {
            endpoint: root.at("controlPlane").at("endpoint").text()?,
            private_nodes: private.at("enabled").flag()?.unwrap_or(false),
            auto_nodes: auto_nodes.iter().map(pools).collect::<Result<_, _>>()?,
            default_profile: profile(&private.at("defaultProfile"))?,
        })
    }
}

fn pools(node: &Node<'_>) -> Result<AutoNodes, ConfigError> {
    let provider = node.at("provider");
    let name = match provider.value {
        Value::Object(_) => provider.at("name").text()?,
        _ => provider.text()?,
    };
    Ok(AutoNodes {
        provider: name.ok_or_else(|| provider.wrong("expected the name of a NodeProvider"))?,
        properties: node.at("properties").properties()?,
        static_pools: node
            .at("static")
            .list()?
            .iter()
            .map(static_pool)
            .collect::<Result<_, _>>()?,
        dynamic_pools: match node.at("dynamic").value {
            Value::Object(_) => 1,
            _ => node.at("dynamic").list()?.len(),
        },
    })
}

fn static_pool(node: &Node<'_>) -> Result<StaticPool, ConfigError> {
    let name = node.at("name");
    let quantity = node.at("quantity");
    Ok(StaticPool {
        name: name
            .text()?
            .ok_or_else(|| name.wrong("expected the pool's name"))?,
        quantity: quantity.count()?,
        properties: node.at("properties").properties()?,
        node_type_selector: node
            .at("nodeTypeSelector")
            .list()?
            .iter()
            .map(term)
            .collect::<Result<_, _>>()?,
        node_labels: node.at("nodeLabels").properties()?,
        taints: node
            .at("taints")
            .list()?
            .iter()
            .map(taint)
            .collect::<Result<_, _>>()?,
        profile: profile(&node.at("profile"))?,
    })
}

fn term(node: &Node<'_>) -> Result<SelectorTerm, ConfigError> {
    let property = node.at("property");
    let operator = node.at("operator");
    let word = operator.text()?;
    let read = word
        .as_deref()
        .map_or(RequirementOperator::In, RequirementOperator::from);
    if read == RequirementOperator::Unknown {
        return Err(operator.wrong("expected In, NotIn, Exists or NotExists"));
    }
    let mut values: Vec<String> = node
        .at("values")
        .list()?
        .iter()
        .map(|value| Ok(value.text()?.unwrap_or_default()))
        .collect::<Result<_, _>>()?;
    values.extend(node.at("value").text()?);
    let needs_values = matches!(read, RequirementOperator::In | RequirementOperator::NotIn);
    if needs_values && values.is_empty() {
        return Err(node
            .at("value")
            .wrong("expected a value for the operator In or NotIn"));
    }
    Ok(SelectorTerm {
        property: property
            .text()?
            .ok_or_else(|| property.wrong("expected the name of a property"))?,
        operator: read,
        values,
    })
}

fn taint(node: &Node<'_>) -> Result<Taint, ConfigError> {
    let (key, effect) = (node.at("key"), node.at("effect"));
    Ok(Taint {
        key: key.text()?.ok_or_else(|| key.wrong("expected the taint's key"))?,
        effect: effect
            .text()?
            .ok_or_else(|| effect.wrong("expected NoSchedule, PreferNoSchedule or NoExecute"))?,
        value: node.at("value").text()?,
        time_added: None::<Time>,
    })
}

/// A profile is a name, or an object with one.
fn profile(node: &Node<'_>) -> Result<Option<String>, ConfigError> {
    match node.value {
        Value::Object(_) => node.at("name").text(),
        _ => node.text(),
    }
}

/// A value and the path that led to it.
struct Node<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    fn at(&self, field: &str) -> Node<'a> {
        let path = if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        };
        Node {
            value: self.value.get(field).unwrap_or(&Value::Null),
            path,
        }
    }

    /// What stands here is not what was expected.
    fn wrong(&self, expected: &str) -> ConfigError {
        let found = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Object(_) => "a map".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            scalar => scalar.to_string(),
        };
        ConfigError::Field {
            field: self.path.clone(),
            problem: format!("{expected}, found {found}"),
        }
    }

    fn list(&self) -> Result<Vec<Node<'a>>, ConfigError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, value)| Node {
                    value,
                    path: format!("{}[{index}]", self.path),
                })
                .collect()),
            _ => Err(self.wrong("expected a list")),
        }
    }

    fn text(&self) -> Result<Option<String>, ConfigError> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(word) => Ok(Some(word.to_string())),
            _ => Err(self.wrong("expected a string")),
        }
    }

    fn flag(&self) -> Result<Option<bool>, ConfigError> {
        match self.value {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(self.wrong("expected true or false")),
        }
    }

    fn count(&self) -> Result<u32, ConfigError> {
        match self.value.as_u64() {
            Some(count) if count <= MAX_POOL => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            _ => Err(self.wrong("expected a number from 0 to 10000")),
        }
    }

    fn properties(&self) -> Result<Properties, ConfigError> {
        lenient_properties(self.value).map_err(|problem| ConfigError::Field {
            field: self.path.clone(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = "
controlPlane: {endpoint: '192.168.100.2:8443'}
privateNodes:
  enabled: true
  autoNodes:
    provider: metal3
    properties: {vcluster.com/os-image: ubuntu-noble}
    static:
      - name: bare-metal
        quantity: 1
";
    const NEWER: &str = "
controlPlane: {endpoint: '192.168.100.2:8443', statefulSet: {anything: goes}}
privateNodes:
  enabled: true
  autoNodes:
    - provider: {name: metal3}
      properties: [{property: vcluster.com/os-image, value: ubuntu-noble}]
      static:
        - name: bare-metal
          quantity: 1
";

    #[test]
    fn older_and_newer_files_say_the_same() {
        let older = VclusterConfig::parse(OLDER).unwrap();
        assert_eq!(older, VclusterConfig::parse(NEWER).unwrap());
        assert_eq!(older.endpoint.as_deref(), Some("192.168.100.2:8443"));
        assert_eq!(older.auto_nodes[0].static_pools[0].quantity, 1);
        assert_eq!(
            older.auto_nodes[0].properties.get("vcluster.com/os-image"),
            Some("ubuntu-noble")
        );
    }

    #[test]
    fn a_selector_has_an_operator_and_values() {
        let text = "
privateNodes:
  autoNodes:
    - provider: metal3
      static:
        - name: gpu
          quantity: 2
          nodeTypeSelector:
            - {property: vcluster.com/node-type, value: dgx-h100}
            - {property: zone, operator: NotIn, values: [a, b]}
            - {property: rack, operator: Exists}
";
        let config = VclusterConfig::parse(text).unwrap();
        let terms = &config.auto_nodes[0].static_pools[0].node_type_selector;
        let words: Vec<_> = terms
            .iter()
            .map(|t| (t.operator.as_str(), t.values.join("+")))
            .collect();
        assert_eq!(
            words,
            [
                ("In", "dgx-h100".into()),
                ("NotIn", "a+b".into()),
                ("Exists", String::new())
            ]
        );
    }

    #[test]
    fn errors_name_the_field() {
        let pool =
            |line: &str| format!("privateNodes: {{autoNodes: [{{provider: m, static: [{{{line}}}]}}]}}");
        for (text, want) in [
            (
                pool("name: a, quantity: many"),
                "privateNodes.autoNodes[0].static[0].quantity: expected a number",
            ),
            (
                pool("name: a, quantity: -1"),
                "privateNodes.autoNodes[0].static[0].quantity: expected a number",
            ),
            (
                pool("quantity: 1"),
                "privateNodes.autoNodes[0].static[0].name: expected the pool's name, found nothing",
            ),
            (
                pool("name: a, quantity: 1, nodeTypeSelector: [{property: x, operator: Like}]"),
                "static[0].nodeTypeSelector[0].operator: expected In, NotIn, Exists or NotExists, found \"Like\"",
            ),
            (
                pool("name: a, quantity: 1, properties: {x: [1]}"),
                "privateNodes.autoNodes[0].static[0].properties: x: expected a string",
            ),
            (
                "privateNodes: {autoNodes: [{static: []}]}".to_owned(),
                "privateNodes.autoNodes[0].provider: expected",
            ),
            (
                "privateNodes: {enabled: maybe}".to_owned(),
                "privateNodes.enabled: expected true or false",
            ),
            ("a: [".to_owned(), "values is not YAML"),
        ] {
            let error = VclusterConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}\n  gave {error}\n  want {want}");
        }
    }

    #[test]
    fn no_values_are_no_pools() {
        assert_eq!(VclusterConfig::parse("  \n").unwrap(), VclusterConfig::default());
        assert_eq!(
            VclusterConfig::parse("# nothing yet\n").unwrap(),
            VclusterConfig::default()
        );
    }
}
