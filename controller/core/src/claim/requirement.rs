//! Requirements against properties, as Kubernetes' node selectors read them.

use std::collections::BTreeMap;
use steelyard_api::loft::{Requirement, RequirementOperator as Operator};

/// Why a requirement is not met, in words.
pub(super) fn unmet(requirement: &Requirement, properties: &BTreeMap<String, String>) -> Option<String> {
    let key = &requirement.key;
    let wanted = requirement.values.join(", ");
    let found = properties.get(key).map(String::as_str);
    let has = |value: &str| found.is_some_and(|found| values(found).any(|v| v == value || v == "*"));
    let any = || {
        requirement
            .values
            .iter()
            .any(|value| value == "*" && found.is_some() || has(value))
    };
    match requirement.operator {
        Operator::In if any() => None,
        Operator::NotIn if !any() => None,
        Operator::Exists if found.is_some() => None,
        Operator::DoesNotExist | Operator::NotExists if found.is_none() => None,
        Operator::Gt | Operator::Lt => compare(requirement, found),
        Operator::In => Some(match found {
            Some(found) => format!("{key} is {found}, {wanted} is asked for"),
            None => format!("it has no property {key}, {wanted} is asked for"),
        }),
        Operator::NotIn => Some(format!(
            "{key} is {}, which is excluded",
            found.unwrap_or_default()
        )),
        Operator::Exists => Some(format!("it has no property {key}")),
        Operator::DoesNotExist | Operator::NotExists => Some(format!("it has property {key}")),
        Operator::Unknown => Some(format!("the operator of requirement {key} is unknown")),
    }
}

fn compare(requirement: &Requirement, found: Option<&str>) -> Option<String> {
    let key = &requirement.key;
    let greater = requirement.operator == Operator::Gt;
    let limit = requirement
        .values
        .first()
        .and_then(|value| value.parse::<i64>().ok());
    let value = found.and_then(|found| found.parse::<i64>().ok());
    match (value, limit) {
        (Some(value), Some(limit)) if (greater && value > limit) || (!greater && value < limit) => None,
        (Some(value), Some(limit)) => Some(format!(
            "{key} is {value}, {} than {limit} is asked for",
            if greater { "more" } else { "less" }
        )),
        (_, None) => Some(format!(
            "requirement {key} compares with something that is no number"
        )),
        (None, _) => Some(format!("{key} is no number")),
    }
}

fn values(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(operator: Operator, values: &[&str], found: Option<&str>) -> bool {
        let requirement = Requirement {
            key: "k".into(),
            operator,
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ..Requirement::default()
        };
        let properties = found
            .map(|found| ("k".to_owned(), found.to_owned()))
            .into_iter()
            .collect();
        unmet(&requirement, &properties).is_none()
    }

    #[test]
    fn operators_read_lists_and_wildcards() {
        for (operator, wanted, found, expected) in [
            (Operator::In, &["a"][..], Some("a"), true),
            (Operator::In, &["a"], Some("b, a"), true),
            (Operator::In, &["a"], Some("*"), true),
            (Operator::In, &["*"], Some("b"), true),
            (Operator::In, &["*"], None, false),
            (Operator::In, &["a"], Some("b"), false),
            (Operator::In, &["a"], None, false),
            (Operator::NotIn, &["a"], Some("b"), true),
            (Operator::NotIn, &["a"], None, true),
            (Operator::NotIn, &["a"], Some("a,b"), false),
            (Operator::Exists, &[], Some("x"), true),
            (Operator::Exists, &[], None, false),
            (Operator::NotExists, &[], None, true),
            (Operator::DoesNotExist, &[], Some("x"), false),
            (Operator::Gt, &["4"], Some("8"), true),
            (Operator::Gt, &["8"], Some("8"), false),
            (Operator::Lt, &["8"], Some("4"), true),
            (Operator::Lt, &["many"], Some("4"), false),
            (Operator::Unknown, &["a"], Some("a"), false),
        ] {
            assert_eq!(
                met(operator, wanted, found),
                expected,
                "{operator} {wanted:?} with {found:?}"
            );
        }
    }
}
