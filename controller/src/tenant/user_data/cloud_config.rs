//! The user's cloud-config with what we add: SSH keys, and our commands after the user's own.

use super::{UserDataError, write};
use crate::secret::Secret;
use serde_json::{Map, Value, json};

const HEADER: &str = "#cloud-config";

/// The command that makes a machine join; `endpoint` is the join service's `HOST[:PORT]`. It holds the token.
pub fn join_command(endpoint: &str, token: &Secret) -> Secret {
    // sh reports the failure of a pipe's last command only: an error text that is no script fails as one. A controller
    // that restarts meanwhile answers 503 or nothing; curl tries again for five minutes.
    Secret::new(format!(
        "curl -fsSLk \"https://{endpoint}/node/join?token={}\" --retry 150 --retry-delay 2 --retry-connrefused | sh -",
        token.reveal()
    ))
}

/// `base`: the user's own cloud-config, or a filled-in template; `from` names it in errors. `commands` run last.
/// The result holds their tokens.
pub fn cloud_config(
    from: &str,
    base: Option<&str>,
    ssh_keys: &[String],
    commands: &[Secret],
) -> Result<Secret, UserDataError> {
    let mut config = read(from, base.unwrap_or_default())?;
    add_keys(from, &mut config, ssh_keys)?;
    if !commands.is_empty() {
        let ours = commands.iter().map(|command| json!(command.reveal()));
        list(from, &mut config, "runcmd")?.extend(ours);
    }
    Ok(Secret::new(format!(
        "{HEADER}\n{}",
        write::yaml(&Value::Object(config))
    )))
}

fn read(from: &str, text: &str) -> Result<Map<String, Value>, UserDataError> {
    let wrong = |why: &str| UserDataError::CloudConfig {
        from: from.to_owned(),
        why: why.to_owned(),
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("#!") {
        return Err(wrong(
            "it is a script; put the script under runcmd or write_files",
        ));
    }
    if text.to_ascii_lowercase().starts_with("content-type:")
        || text.to_ascii_lowercase().starts_with("mime-version:")
    {
        return Err(wrong("it is a MIME archive, which nothing can be added to"));
    }
    // Other first lines (#include, ## template: jinja) mean other formats; a plain comment does not.
    let first = text.lines().next().unwrap_or_default().trim_end();
    if [
        "#include",
        "#part-handler",
        "#upstart-job",
        "#cloud-boothook",
        "#cloud-config-archive",
        "#cloud-config-jsonp",
        "## template:",
    ]
    .iter()
    .any(|kind| first.starts_with(kind))
    {
        return Err(wrong(&format!("its first line is {first:?}, not {HEADER}")));
    }
    match steelyard_api::yaml::read(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(wrong("it is a list or a single value, not a map of modules")),
        // Nothing but comments, or nothing at all, is an empty configuration.
        Err(_)
            if text
                .lines()
                .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) =>
        {
            Ok(Map::new())
        }
        Err(why) => Err(UserDataError::Yaml {
            from: from.to_owned(),
            why: why.to_string(),
        }),
    }
}

/// The list under `key`, made if it is not there.
fn list<'a>(
    from: &str,
    config: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Vec<Value>, UserDataError> {
    let slot = config.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!([]);
    }
    let wrong = || UserDataError::CloudConfig {
        from: from.to_owned(),
        why: format!("{key} must be a list"),
    };
    slot.as_array_mut().ok_or_else(wrong)
}

/// For the default user; and where the user list leaves that one out, for the first user that it names, because
/// nobody could log in otherwise.
fn add_keys(from: &str, config: &mut Map<String, Value>, keys: &[String]) -> Result<(), UserDataError> {
    if keys.is_empty() {
        return Ok(());
    }
    let add = |to: &mut Vec<Value>| {
        for key in keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty()) {
            if !to.iter().any(|have| have.as_str().map(str::trim) == Some(key)) {
                to.push(json!(key));
            }
        }
    };
    add(list(from, config, "ssh_authorized_keys")?);
    let Some(users) = config.get_mut("users").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    let is_default =
        |user: &Value| user == "default" || user.get("name").is_some_and(|name| name == "default");
    if !users.iter().any(is_default)
        && let Some(user) = users.iter_mut().find_map(Value::as_object_mut)
    {
        add(list(from, user, "ssh_authorized_keys")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(base: Option<&str>, keys: &[&str]) -> Result<String, UserDataError> {
        let keys: Vec<_> = keys.iter().map(|k| k.to_string()).collect();
        let join = join_command("192.168.101.254", &Secret::new("abcdef.0123456789abcdef"));
        cloud_config("property vcluster.com/user-data", base, &keys, &[join]).map(|s| s.reveal().to_owned())
    }

    #[test]
    fn nothing_of_the_users_own() {
        insta::assert_snapshot!(build(None, &["ssh-ed25519 AAAA demo@example"]).unwrap(), @r#"
        #cloud-config
        ssh_authorized_keys:
        - ssh-ed25519 AAAA demo@example
        runcmd:
        - "curl -fsSLk \"https://192.168.101.254/node/join?token=abcdef.0123456789abcdef\" --retry 150 --retry-delay 2 --retry-connrefused | sh -"
        "#);
    }

    #[test]
    fn ours_comes_last_and_theirs_stays() {
        let base = "#cloud-config\n# a comment\nhostname: m-1\nusers:\n  - name: ubuntu\n    ssh_authorized_keys:\n      - K1\n\
                    write_files:\n- path: /etc/x\n  permissions: '0644'\n  content: |\n    a\n     b\nruncmd:\n- [ls, -l]\n- echo hi\n";
        insta::assert_snapshot!(build(Some(base), &["K1", "K2"]).unwrap());
    }

    #[test]
    fn the_default_user_is_enough() {
        let text = build(Some("#cloud-config\nusers: [default, {name: a}]\n"), &["K1"]).unwrap();
        assert_eq!(text.matches("K1").count(), 1, "{text}");
    }

    #[test]
    fn refusals_say_what_and_where() {
        for (base, want) in [
            ("#!/bin/sh\nid\n", "it is a script"),
            ("#cloud-config\nruncmd: id\n", "runcmd must be a list"),
            ("#cloud-config\n- a\n", "not a map"),
            ("#cloud-config\na: [1\n", "not YAML"),
            ("## template: jinja\n#cloud-config\na: 1\n", "first line"),
            ("MIME-Version: 1.0\n", "MIME"),
        ] {
            let error = build(Some(base), &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("property vcluster.com/user-data") && error.contains(want),
                "{base}: {error}"
            );
        }
        assert!(
            build(Some("# only a comment\n"), &[])
                .unwrap()
                .starts_with("#cloud-config\nruncmd:")
        );
    }
}
