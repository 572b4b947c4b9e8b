//! Conversion between versions: for custom resources a relabelling (strategy None), for the two built-ins that
//! are served in two shapes a mapping of fields.

use serde_json::{Map, Value, json};

/// Core Event fields and their names in events.k8s.io.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(crate) fn convert(value: &mut Value, storage: &str, wanted: &str, custom: bool) {
    let from = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    if from == wanted {
        return;
    }
    if !custom {
        match (storage, from.as_str(), wanted) {
            ("/events", "v1", _) => rename(value, |old, new| (old, new)),
            ("/events", _, "v1") => rename(value, |old, new| (new, old)),
            (_, "autoscaling/v1", "autoscaling/v2") => autoscaler_up(value),
            (_, "autoscaling/v2", "autoscaling/v1") => autoscaler_down(value),
            _ => {}
        }
    }
    value["apiVersion"] = wanted.into();
}

fn rename<'a>(value: &mut Value, direction: impl Fn(&'a str, &'a str) -> (&'a str, &'a str)) {
    let Some(map) = value.as_object_mut() else { return };
    let pairs: Vec<(&str, &str)> = EVENT_FIELDS
        .iter()
        .map(|(core, new)| direction(core, new))
        .collect();
    let renamed: Map<String, Value> = std::mem::take(map)
        .into_iter()
        .map(|(key, value)| match pairs.iter().find(|(from, _)| *from == key) {
            Some((_, to)) => ((*to).to_owned(), value),
            None => (key, value),
        })
        .collect();
    *map = renamed;
}

fn autoscaler_up(value: &mut Value) {
    let Some(spec) = value.pointer_mut("/spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(target) = spec.shift_remove("targetCPUUtilizationPercentage") {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}});
        spec.insert("metrics".into(), json!([metric]));
    }
}

fn autoscaler_down(value: &mut Value) {
    let Some(spec) = value.pointer_mut("/spec").and_then(Value::as_object_mut) else {
        return;
    };
    let metrics = spec.shift_remove("metrics");
    spec.shift_remove("behavior");
    let cpu = metrics
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|m| m["resource"]["name"] == "cpu");
    if let Some(percent) = cpu.map(|m| m["resource"]["target"]["averageUtilization"].clone()) {
        spec.insert("targetCPUUtilizationPercentage".into(), percent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_both_ways() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "m", "involvedObject": {"kind": "Pod"}, "reason": "r"});
        let mut value = core.clone();
        convert(&mut value, "/events", "events.k8s.io/v1", false);
        assert_eq!(value["note"], "m");
        assert_eq!(value["regarding"]["kind"], "Pod");
        convert(&mut value, "/events", "v1", false);
        assert_eq!(value, core);
    }
}
