//! cloud-init's subset that our user data uses, carried out on what the config drive says.
//!
//! Order as in cloud-init: bootcmd (every boot), write_files, hostname, users and keys (once per instance), then runcmd and
//! power_state (once per instance, after the network is up). "Once" is a semaphore file per module below
//! `/var/lib/cloud/instances/ID/sem`, on the disk, so that a reboot does not join twice and a new instance does.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::chassis::End;
use super::iso::ConfigDrive;
use super::os::Os;
use super::rootfs::FsError;
use super::shell::{Io, Shell};

/// User data after decompression (OpenStack allows 64 KiB, ours is smaller than both).
const USER_DATA_MAX: u64 = 1 << 20;
const DEFAULT_USER: &str = "ubuntu";
const RUNCMD: &str = "/var/lib/cloud/instance/scripts/runcmd";

/// What user data asks for, as far as this OS does it.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct CloudConfig {
    hostname: Option<String>,
    fqdn: Option<String>,
    preserve_hostname: bool,
    users: Vec<Value>,
    ssh_authorized_keys: Vec<String>,
    write_files: Vec<WriteFile>,
    bootcmd: Vec<Value>,
    runcmd: Vec<Value>,
    power_state: Option<PowerState>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct WriteFile {
    path: String,
    content: String,
    encoding: Option<String>,
    permissions: Option<Value>,
    append: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct PowerState {
    mode: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UserDataError {
    #[error("user data: multipart archives are not supported by this OS; send one #cloud-config")]
    Multipart,
    #[error("user data: jinja templates are not supported by this OS")]
    Jinja,
    #[error("user data starts with {0:?}: neither #cloud-config nor a script (#!)")]
    Unknown(String),
    #[error("user data: {0}")]
    Yaml(String),
    #[error("user data: cannot decompress: {0}")]
    Gzip(std::io::Error),
    #[error("user data is not UTF-8")]
    Encoding,
    #[error("meta_data.json: {0}")]
    MetaData(serde_json::Error),
}

/// What cloud-init found on the config drive.
#[derive(Debug, Default)]
pub(crate) struct Instance {
    /// `uuid` of meta_data.json: a new one means a new instance.
    pub id: String,
    pub hostname: Option<String>,
    public_keys: Vec<String>,
    pub config: CloudConfig,
    /// User data that is a script.
    script: Option<String>,
}

/// Reads the drive's latest OpenStack version. Bad user data does not take the metadata with it.
pub(crate) fn read(drive: &ConfigDrive) -> (Instance, Vec<UserDataError>) {
    let (mut instance, mut errors) = (Instance::default(), Vec::new());
    if let Some(bytes) = drive.files.get("openstack/latest/meta_data.json") {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(meta) => {
                let text = |key: &str| {
                    meta[key]
                        .as_str()
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned)
                };
                instance.id = text("uuid").unwrap_or_default();
                instance.hostname = text("local-hostname").or(text("hostname")).or(text("name"));
                instance.public_keys = keys(&meta["public_keys"]);
            }
            Err(error) => errors.push(UserDataError::MetaData(error)),
        }
    }
    if instance.id.is_empty() {
        "iid-datasource-none".clone_into(&mut instance.id);
    }
    if let Some(bytes) = drive.files.get("openstack/latest/user_data") {
        match parse(bytes) {
            Ok((config, script)) => {
                instance.config = config;
                instance.script = script;
            }
            Err(error) => errors.push(error),
        }
    }
    (instance, errors)
}

fn keys(value: &Value) -> Vec<String> {
    let texts: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        text => vec![text],
    };
    texts
        .into_iter()
        .filter_map(Value::as_str)
        .map(|key| key.trim().to_owned())
        .collect()
}

fn parse(bytes: &[u8]) -> Result<(CloudConfig, Option<String>), UserDataError> {
    let mut plain = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes)
            .take(USER_DATA_MAX)
            .read_to_end(&mut plain)
            .map_err(UserDataError::Gzip)?;
        &plain[..]
    } else {
        bytes
    };
    let text = std::str::from_utf8(bytes).map_err(|_| UserDataError::Encoding)?;
    let first = text.trim_start().lines().next().unwrap_or_default();
    match first {
        "" => Ok(Default::default()),
        line if line.starts_with("#cloud-config") => {
            let options = serde_saphyr::options! { legacy_octal_numbers: true };
            let config: Option<CloudConfig> = serde_saphyr::from_str_with_options(text, options)
                .map_err(|error| UserDataError::Yaml(error.to_string()))?;
            Ok((config.unwrap_or_default(), None))
        }
        line if line.starts_with("#!") => Ok((CloudConfig::default(), Some(text.to_owned()))),
        line if line.starts_with("## template: jinja") => Err(UserDataError::Jinja),
        line if line.starts_with("Content-Type: multipart") || line.starts_with("MIME-Version:") => {
            Err(UserDataError::Multipart)
        }
        // Only the start: user data may hold secrets.
        line => Err(UserDataError::Unknown(line.chars().take(20).collect())),
    }
}

/// Carries an instance out on an OS.
pub(crate) struct CloudInit<'a> {
    pub os: &'a Arc<Os>,
    pub instance: &'a Instance,
}

impl CloudInit<'_> {
    fn log(&self, text: impl AsRef<str>) {
        self.os.chassis.say(format!("cloud-init: {}", text.as_ref()));
    }

    fn semaphore(&self, module: &str) -> String {
        format!(
            "/var/lib/cloud/instances/{}/sem/config_{module}",
            self.instance.id.replace('/', "_")
        )
    }

    /// Whether a module still has to run for this instance; marks it as run. cloud-init marks first as well: a module that
    /// fails is not repeated at the next boot.
    fn once(&self, module: &str) -> bool {
        let path = self.semaphore(module);
        if self.os.fs.is_file(&path) {
            return false;
        }
        let now = (self.os.chassis.clock)().to_string();
        if let Err(error) = self.os.fs.write(&path, now.as_bytes()) {
            self.log(format!("{module}: {error}"));
        }
        true
    }

    fn warn(&self, module: &str, result: Result<(), FsError>) {
        if let Err(error) = result {
            self.log(format!("WARNING: {module}: {error}"));
        }
    }

    /// The stage before the network is used: bootcmd, files, names, keys.
    pub(crate) async fn init(&self) -> Result<(), End> {
        let config = &self.instance.config;
        self.log(format!("datasource ConfigDrive, instance {}", self.instance.id));
        self.warn(
            "instance-id",
            self.os
                .fs
                .write("/var/lib/cloud/data/instance-id", self.instance.id.as_bytes()),
        );
        for key in config.others.keys() {
            self.log(format!("module for {key:?} is not part of this OS, ignored"));
        }
        if !config.bootcmd.is_empty() {
            self.shell("bootcmd", &script(&config.bootcmd)).await?;
        }
        if self.once("write_files") {
            for file in &config.write_files {
                match self.write_file(file) {
                    Ok(()) => self.log(format!("wrote {}", file.path)),
                    Err(reason) => self.log(format!("WARNING: write_files: {}: {reason}", file.path)),
                }
            }
        }
        if self.once("set_hostname") && !config.preserve_hostname {
            let name = config
                .hostname
                .as_ref()
                .or(config.fqdn.as_ref())
                .or(self.instance.hostname.as_ref());
            if let Some(name) = name {
                let short = name.split('.').next().unwrap_or(name);
                self.warn("set_hostname", self.os.set_hostname(short));
            }
        }
        if self.once("users_groups") {
            self.users();
        }
        Ok(())
    }

    /// The stages with the network: runcmd, a user's script, power state.
    pub(crate) async fn finish(&self) -> Result<(), End> {
        let config = &self.instance.config;
        if self.once("scripts_user") {
            if !config.runcmd.is_empty() {
                let text = script(&config.runcmd);
                self.warn("runcmd", self.os.fs.write(RUNCMD, text.as_bytes()));
                self.log(format!("running {} commands of runcmd", config.runcmd.len()));
                self.shell("runcmd", &text).await?;
            }
            if let Some(text) = &self.instance.script {
                self.shell("part-001", text).await?;
            }
        }
        self.log("final stage finished");
        if let Some(power) = &config.power_state
            && self.once("power_state_change")
        {
            self.log(format!("power_state: {}", power.mode));
            return Err(if power.mode == "reboot" {
                End::Reboot
            } else {
                End::PowerOff
            });
        }
        Ok(())
    }

    async fn shell(&self, name: &str, text: &str) -> Result<(), End> {
        let io = Io::console(&self.os.chassis.console);
        let status = Shell::new(self.os.clone()).run(text, &io).await?;
        if status != 0 {
            self.log(format!("WARNING: {name} failed with exit status {status}"));
        }
        Ok(())
    }

    fn write_file(&self, file: &WriteFile) -> Result<(), String> {
        let content = decode(file)?;
        // Checked, though the root file system has no modes: a mistake here fails on a real machine.
        mode(file.permissions.as_ref())?;
        let result = if file.append {
            self.os.fs.append(&file.path, &content)
        } else {
            self.os.fs.write(&file.path, &content)
        };
        result.map_err(|error| error.to_string())
    }

    fn users(&self) {
        let config = &self.instance.config;
        let mut default = config.ssh_authorized_keys.clone();
        default.extend(self.instance.public_keys.iter().cloned());
        let mut default_wanted = config.users.is_empty();
        for user in &config.users {
            let (name, own) = match user {
                Value::String(name) => (name.as_str(), Vec::new()),
                user => match user["name"].as_str() {
                    Some(name) => (name, keys(&user["ssh_authorized_keys"])),
                    None => {
                        self.log("WARNING: users_groups: a user without a name");
                        continue;
                    }
                },
            };
            if name == "default" || name == DEFAULT_USER {
                default_wanted = true;
                default.extend(own);
            } else {
                self.add_user(name, &own);
            }
        }
        if default_wanted {
            self.add_user(DEFAULT_USER, &default);
        }
    }

    fn add_user(&self, name: &str, keys: &[String]) {
        let fs = &self.os.fs;
        let home = if name == "root" {
            "/root".to_owned()
        } else {
            format!("/home/{name}")
        };
        let passwd = fs.read_text("/etc/passwd").unwrap_or_default();
        if !passwd.lines().any(|line| line.split(':').next() == Some(name)) {
            let id = 1000 + passwd.lines().count();
            let line = format!("{name}:x:{id}:{id}::{home}:/bin/bash\n");
            self.warn("users_groups", fs.append("/etc/passwd", line.as_bytes()));
        }
        if !keys.is_empty() {
            let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
            let path = format!("{home}/.ssh/authorized_keys");
            self.warn("ssh", fs.append(&path, text.as_bytes()));
        }
        self.log(format!("user {name} with {} SSH keys", keys.len()));
    }
}

fn decode(file: &WriteFile) -> Result<Vec<u8>, String> {
    let base64 = || {
        STANDARD
            .decode(file.content.split_whitespace().collect::<String>())
            .map_err(|e| e.to_string())
    };
    let gunzip = |bytes: &[u8]| {
        let mut out = Vec::new();
        let read = flate2::read::GzDecoder::new(bytes)
            .take(USER_DATA_MAX)
            .read_to_end(&mut out);
        read.map(|_| out).map_err(|error| error.to_string())
    };
    match file.encoding.as_deref().unwrap_or("text/plain") {
        "text/plain" | "" => Ok(file.content.as_bytes().to_vec()),
        "b64" | "base64" => base64(),
        "gz+b64" | "gz+base64" | "gzip+base64" | "gzip+b64" => gunzip(&base64()?),
        other => Err(format!("encoding {other:?} is not known")),
    }
}

/// `'0644'`, or the number that YAML made of 0644.
fn mode(permissions: Option<&Value>) -> Result<u16, String> {
    match permissions {
        None => Ok(0o644),
        Some(Value::String(text)) => {
            let digits = text.trim_start_matches("0o");
            u16::from_str_radix(digits, 8).map_err(|_| format!("permissions {text:?} are not octal"))
        }
        Some(Value::Number(number)) => number
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("permissions {number} are not a mode")),
        Some(other) => Err(format!("permissions {other} are not a mode")),
    }
}

/// cloud-init's `shellify`: a text is a line of the script, a list is one command with its arguments quoted.
fn script(commands: &[Value]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut text = "#!/bin/sh\n".to_owned();
    for command in commands {
        let line = match command {
            Value::Array(words) => words
                .iter()
                .map(|word| quote(&plain(word)))
                .collect::<Vec<_>>()
                .join(" "),
            other => plain(other),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(user_data: &str) -> ConfigDrive {
        let mut drive = ConfigDrive::default();
        let meta = r#"{"uuid": "i-1", "name": "host", "local-hostname": "n1", "public_keys": {"a": "ssh-ed25519 A"}}"#;
        drive.files.insert(
            "openstack/latest/meta_data.json".to_owned(),
            meta.as_bytes().to_vec(),
        );
        drive.files.insert(
            "openstack/latest/user_data".to_owned(),
            user_data.as_bytes().to_vec(),
        );
        drive
    }

    #[test]
    fn reads_what_our_user_data_has() {
        let (instance, errors) = read(&drive(concat!(
            "#cloud-config\nhostname: n2\nusers:\n- default\n- name: admin\n  ssh_authorized_keys: [k1]\n",
            "write_files:\n- path: /etc/a\n  permissions: 0600\n  content: |\n    x\npackages: [jq]\n",
            "runcmd:\n- echo \"a b\" > /f\n- [echo, \"it's\"]\n- curl -fsSLk \"https://v/node/join?token=a.b\" | sh -\n",
        )));
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(
            (instance.id.as_str(), instance.hostname.as_deref()),
            ("i-1", Some("n1"))
        );
        assert_eq!(instance.public_keys, ["ssh-ed25519 A"]);
        assert_eq!(instance.config.hostname.as_deref(), Some("n2"));
        assert_eq!(
            mode(instance.config.write_files[0].permissions.as_ref()),
            Ok(0o600)
        );
        assert_eq!(instance.config.others.keys().collect::<Vec<_>>(), ["packages"]);
        assert_eq!(
            script(&instance.config.runcmd),
            "#!/bin/sh\necho \"a b\" > /f\n'echo' 'it'\\''s'\ncurl -fsSLk \"https://v/node/join?token=a.b\" | sh -\n"
        );
    }

    #[test]
    fn refusals_name_the_reason_and_keep_the_metadata() {
        let cases = [
            (
                "Content-Type: multipart/mixed; boundary=x\n",
                "multipart archives are not supported",
            ),
            (
                "## template: jinja\n#cloud-config\n",
                "jinja templates are not supported",
            ),
            ("hello", "neither #cloud-config nor a script"),
            ("#cloud-config\nruncmd: {a: b}\n", "user data: "),
            ("#cloud-config\n  a: b\n c: d\n", "user data: "),
        ];
        for (user_data, expected) in cases {
            let (instance, errors) = read(&drive(user_data));
            assert_eq!(errors.len(), 1, "{user_data}");
            assert!(
                errors[0].to_string().contains(expected),
                "{user_data}: {}",
                errors[0]
            );
            assert_eq!(instance.id, "i-1");
        }
        for empty in ["", "#cloud-config\n"] {
            let (instance, errors) = read(&drive(empty));
            assert!(errors.is_empty(), "{empty}: {errors:?}");
            assert_eq!(instance.config, CloudConfig::default());
        }
    }
}
