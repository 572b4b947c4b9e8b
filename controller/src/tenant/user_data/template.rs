//! Go templates over `.Values`, as MachineConfigTemplates are written.

use super::{UserDataError, sprig};
use gotmpl::{Template, Value as GoValue};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What a template may use; the rest of a site is not its business.
#[derive(Clone, Debug, Default)]
pub struct TemplateValues {
    /// The objects as JSON; `null` where there is none.
    pub node_claim: Value,
    pub project: Value,
    pub bare_metal_host: Value,
    pub properties: BTreeMap<String, String>,
    pub ssh_keys: Vec<String>,
    pub allocated_ip: Option<Ipv4Addr>,
    pub prefix_length: Option<u8>,
    pub netmask: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
}

/// Rounds of all `range`s of one template: machines have no more of anything.
const ROUNDS_MAX: u64 = 10_000;
/// What a template may grow to; the config drive has 64 MiB for everything.
const OUTPUT_MAX: usize = 4 << 20;
/// What Go prints for a value that is not there.
const NO_VALUE: &str = "<no value>";

/// Fills a template in. `from` names it in errors, for example `MachineConfigTemplate ubuntu: cloudInitTemplate`.
pub fn render(from: &str, template: &str, values: &TemplateValues) -> Result<String, UserDataError> {
    let fail = |why: String| UserDataError::Template {
        from: from.to_owned(),
        why,
    };
    let data = json!({ "Values": {
        "NodeClaim": as_go(&values.node_claim),
        "Project": as_go(&values.project),
        "BareMetalHost": as_go(&values.bare_metal_host),
        "Properties": values.properties,
        "SSHKeys": values.ssh_keys,
        "AllocatedIP": values.allocated_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        "PrefixLength": values.prefix_length.unwrap_or_default(),
        "Netmask": values.netmask.map(|ip| ip.to_string()).unwrap_or_default(),
        "Gateway": values.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
    }});
    let data: GoValue = gotmpl::to_value(&data).map_err(|e| fail(e.to_string()))?;
    let parsed = Template::new("template")
        .max_range_iters(ROUNDS_MAX)
        .funcs(sprig::functions())
        .parse(template);
    let mut out = Bounded(String::new());
    let done = parsed
        .map_err(|e| fail(e.to_string()))?
        .execute_fmt(&mut out, &data);
    if out.0.len() >= OUTPUT_MAX {
        return Err(fail("it grows beyond 4 MiB".into()));
    }
    done.map_err(|e| fail(e.to_string()))?;
    if let Some(line) = out.0.lines().find(|line| line.contains(NO_VALUE)) {
        let line: String = line.trim().chars().take(120).collect();
        return Err(fail(format!(
            "a field that it uses does not exist, in the line {line:?}"
        )));
    }
    Ok(out.0)
}

struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = OUTPUT_MAX.saturating_sub(self.0.len());
        if text.len() > room {
            self.0.push_str(&" ".repeat(room));
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Maps whose keys are data, not fields.
const FREE: [&str; 12] = [
    "labels",
    "annotations",
    "properties",
    "matchLabels",
    "nodeSelector",
    "capacity",
    "allocatable",
    "desiredCapacity",
    "resources",
    "requests",
    "limits",
    "devices",
];

/// An object as its Go type looks to a template: `.Name`, `.Spec.ProviderRef`; the JSON spelling works as well.
fn as_go(object: &Value) -> Value {
    let Value::Object(map) = object else {
        return object.clone();
    };
    let mut go = fields(map);
    // Go embeds ObjectMeta, so its fields are the object's own, too.
    if let Some(Value::Object(metadata)) = map.get("metadata") {
        for (key, value) in fields(metadata) {
            if key.starts_with(|c: char| c.is_ascii_uppercase()) && !go.contains_key(&key) {
                go.insert(key, value);
            }
        }
    }
    Value::Object(go)
}

fn fields(map: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in map {
        let value = match value {
            Value::Object(inner) if !FREE.contains(&key.as_str()) => Value::Object(fields(inner)),
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| match item {
                        Value::Object(inner) => Value::Object(fields(inner)),
                        other => other.clone(),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        out.insert(go_name(key), value.clone());
        out.insert(key.clone(), value);
    }
    out
}

/// Go's name of a JSON field: initialisms are upper case.
fn go_name(key: &str) -> String {
    match key {
        "metadata" => "ObjectMeta".into(),
        "uid" | "id" | "url" | "ip" | "mac" | "bmc" | "cpu" => key.to_ascii_uppercase(),
        _ => {
            let mut chars = key.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> TemplateValues {
        TemplateValues {
            node_claim: json!({
                "metadata": {"name": "machine-1", "namespace": "p-default", "uid": "u-1", "labels": {"team": "ml"}},
                "spec": {"providerRef": "metal3", "properties": {"a": "b"}, "desiredCapacity": {"cpu": "2"}},
            }),
            project: json!({"metadata": {"name": "default"}}),
            properties: BTreeMap::from([("vcluster.com/node-type".into(), "dgx".into())]),
            ssh_keys: vec!["ssh-ed25519 A".into(), "ssh-ed25519 B".into()],
            allocated_ip: Some([10, 100, 0, 5].into()),
            prefix_length: Some(24),
            netmask: Some([255, 255, 255, 0].into()),
            gateway: None,
            ..TemplateValues::default()
        }
    }

    fn check(template: &str, want: Result<&str, &str>) {
        let got = render("T x: cloudInitTemplate", template, &values());
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{template}"),
            (Err(got), Err(want)) => {
                let got = got.to_string();
                assert!(
                    got.starts_with("T x: cloudInitTemplate: ") && got.contains(want),
                    "{template}: {got}"
                );
            }
            (got, want) => panic!("{template}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn fields_in_either_spelling() {
        check("{{ .Values.NodeClaim.Name }}", Ok("machine-1"));
        check(
            "{{ .Values.NodeClaim.metadata.name }}/{{ .Values.NodeClaim.ObjectMeta.UID }}",
            Ok("machine-1/u-1"),
        );
        check(
            "{{ .Values.NodeClaim.Spec.ProviderRef }} {{ .Values.Project.Name }}",
            Ok("metal3 default"),
        );
        check(
            "{{ range $k, $v := .Values.NodeClaim.Labels }}{{ $k }}={{ $v }} {{ end }}",
            Ok("team=ml "),
        );
        check(
            "{{ index .Values.Properties \"vcluster.com/node-type\" }}",
            Ok("dgx"),
        );
        check(
            "{{ .Values.AllocatedIP }}/{{ .Values.PrefixLength }} {{ .Values.Netmask }}",
            Ok("10.100.0.5/24 255.255.255.0"),
        );
        check("{{ if .Values.Gateway }}x{{ else }}none{{ end }}", Ok("none"));
        check(
            "{{- range .Values.SSHKeys }}\n- {{ . }}{{ end }}",
            Ok("\n- ssh-ed25519 A\n- ssh-ed25519 B"),
        );
        check("{{ .Values.BareMetalHost | default \"none\" }}", Ok("none"));
    }

    #[test]
    fn errors_name_template_and_field() {
        check("a\n{{ .Values.NodeClaim.Nmae }}", Err("does not exist"));
        check("{{ .Values.NodeClaim.Name", Err("unclosed"));
        check("{{ nosuch 1 }}", Err("nosuch"));
        check(
            "{{ required \"hostname is needed\" \"\" }}",
            Err("hostname is needed"),
        );
        check("{{ range until 20000 }}x{{ end }}", Err("range"));
        check("{{ repeat 9999999999 \"x\" }}", Err("repeat"));
    }
}
