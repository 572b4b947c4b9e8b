//! Kernel parameters (ipa `utils.py`, `config.py`): words `key=value` of `/proc/cmdline`.

use std::time::Duration;

use steelyard_agent_api::AgentToken;

/// What the kernel command line tells the agent. Parameters that it doesn't know are another release's and are ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Base URLs of the service, without a slash at the end.
    pub api_urls: Vec<String>,
    pub callback_urls: Vec<String>,
    pub collectors: Vec<String>,
    pub token: Option<AgentToken>,
    pub global_request_id: Option<String>,
    /// MAC with colons.
    pub boot_interface: Option<String>,
    pub insecure: bool,
    pub listen_port: u16,
    pub ip_lookup_attempts: u32,
    pub ip_lookup_timeout: Duration,
    pub lookup_timeout: Duration,
    pub lookup_interval: Duration,
    pub http_request_timeout: Duration,
    pub download_timeout: Duration,
    pub download_retries: u32,
    pub download_retry_interval: Duration,
    pub guard_special_filesystems: bool,
}

/// A parameter that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameter {
    #[error("kernel parameter {name}={value}: {wanted} wanted")]
    Value {
        name: &'static str,
        value: String,
        wanted: &'static str,
    },
    #[error("kernel parameter ipa-api-url is missing: the agent would not know whom to serve")]
    NoApi,
    #[error("kernel parameter {0}=mdns: multicast DNS is not supported; name the URL")]
    Mdns(&'static str),
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            api_urls: Vec::new(),
            callback_urls: Vec::new(),
            // IPA's default is default,logs. GPUs are found only through PCI, and no service has to ask for it.
            collectors: ["default", "logs", "pci-devices"].map(str::to_owned).to_vec(),
            token: None,
            global_request_id: None,
            boot_interface: None,
            insecure: false,
            listen_port: 9999,
            ip_lookup_attempts: 6,
            ip_lookup_timeout: Duration::from_secs(10),
            lookup_timeout: Duration::from_secs(600),
            lookup_interval: Duration::from_secs(1),
            http_request_timeout: Duration::from_secs(30),
            download_timeout: Duration::from_secs(60),
            download_retries: 9,
            download_retry_interval: Duration::from_secs(10),
            guard_special_filesystems: true,
        }
    }
}

impl Parameters {
    /// Reads a command line. The last of equal keys wins, as in IPA's dictionary.
    pub fn parse(cmdline: &str) -> Result<Self, BadParameter> {
        let mut parameters = Self::default();
        for (key, value) in cmdline.split_whitespace().filter_map(|word| word.split_once('=')) {
            parameters.set(key, value)?;
        }
        if parameters.api_urls.is_empty() {
            return Err(BadParameter::NoApi);
        }
        Ok(parameters)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BadParameter> {
        match key {
            "ipa-api-url" => self.api_urls = urls("ipa-api-url", value)?,
            "ipa-inspection-callback-url" => self.callback_urls = urls("ipa-inspection-callback-url", value)?,
            "ipa-inspection-collectors" => self.collectors = list(value).map(str::to_owned).collect(),
            "ipa-agent-token" => self.token = Some(AgentToken::new(value)),
            "ipa-global-request-id" => self.global_request_id = Some(value.to_owned()),
            "BOOTIF" => self.boot_interface = mac(value),
            "ipa-insecure" => self.insecure = boolean("ipa-insecure", value)?,
            "ipa-listen-port" => self.listen_port = number("ipa-listen-port", value)?,
            "ipa-ip-lookup-attempts" => self.ip_lookup_attempts = number("ipa-ip-lookup-attempts", value)?,
            "ipa-ip-lookup-timeout" => self.ip_lookup_timeout = seconds("ipa-ip-lookup-timeout", value)?,
            "ipa-lookup-timeout" => self.lookup_timeout = seconds("ipa-lookup-timeout", value)?,
            "ipa-lookup-interval" => self.lookup_interval = seconds("ipa-lookup-interval", value)?,
            "ipa-http-request-timeout" => {
                self.http_request_timeout = seconds("ipa-http-request-timeout", value)?
            }
            "ipa-image-download-connection-timeout" => {
                self.download_timeout = seconds("ipa-image-download-connection-timeout", value)?;
            }
            "ipa-image-download-connection-retries" => {
                self.download_retries = number("ipa-image-download-connection-retries", value)?;
            }
            "ipa-image-download-connection-retry-interval" => {
                self.download_retry_interval =
                    seconds("ipa-image-download-connection-retry-interval", value)?;
            }
            "ipa-guard-special-filesystems" => {
                self.guard_special_filesystems = boolean("ipa-guard-special-filesystems", value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether this collector runs.
    pub(crate) fn collects(&self, name: &str) -> bool {
        self.collectors.iter().any(|collector| collector == name)
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn urls(name: &'static str, value: &str) -> Result<Vec<String>, BadParameter> {
    list(value)
        .map(|url| match url {
            "mdns" => Err(BadParameter::Mdns(name)),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(url.trim_end_matches('/').to_owned())
            }
            _ => Err(bad(name, url, "an http or https URL")),
        })
        .collect()
}

fn bad(name: &'static str, value: &str, wanted: &'static str) -> BadParameter {
    BadParameter::Value {
        name,
        value: value.chars().take(100).collect(),
        wanted,
    }
}

fn number<T: std::str::FromStr>(name: &'static str, value: &str) -> Result<T, BadParameter> {
    value.parse().map_err(|_| bad(name, value, "a number"))
}

fn seconds(name: &'static str, value: &str) -> Result<Duration, BadParameter> {
    let seconds: f64 = number(name, value)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| bad(name, value, "seconds"))
}

fn boolean(name: &'static str, value: &str) -> Result<bool, BadParameter> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(bad(name, value, "true or false")),
    }
}

/// `BOOTIF` in pxelinux's form (`01-aa-bb-..`, 01 is the hardware type) or plain; anything else is no MAC.
fn mac(value: &str) -> Option<String> {
    let text = value.to_ascii_lowercase().replace('-', ":");
    let text = if text.len() == 20 {
        text.strip_prefix("01:")?
    } else {
        &text
    };
    let parts: Vec<&str> = text.split(':').collect();
    let valid = parts.len() == 6
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    valid.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_as_the_boot_script_has_it() {
        let parameters = Parameters::parse(
            "nofb vga=normal ipa-api-url=http://192.168.100.4:8080/,http://10.0.0.2:6385 ipa-insecure=1 \
             ipa-inspection-callback-url=http://192.168.100.4:8080/v1/continue_inspection BOOTIF=01-52-54-00-AA-BB-01 \
             ipa-lookup-timeout=5 ipa-agent-token=abc initrd=initramfs",
        )
        .unwrap();
        assert_eq!(
            parameters.api_urls,
            ["http://192.168.100.4:8080", "http://10.0.0.2:6385"]
        );
        assert_eq!(
            parameters.callback_urls,
            ["http://192.168.100.4:8080/v1/continue_inspection"]
        );
        assert_eq!(parameters.boot_interface.as_deref(), Some("52:54:00:aa:bb:01"));
        assert!(parameters.insecure);
        assert_eq!(parameters.lookup_timeout, Duration::from_secs(5));
        assert_eq!(parameters.listen_port, 9999);
    }

    #[test]
    fn values_that_cannot_be_used_name_the_parameter() {
        for (line, part) in [
            ("quiet", "ipa-api-url is missing"),
            ("ipa-api-url=mdns", "ipa-api-url=mdns"),
            ("ipa-api-url=ftp://x", "http or https"),
            (
                "ipa-api-url=http://x ipa-lookup-timeout=soon",
                "ipa-lookup-timeout=soon: a number",
            ),
            ("ipa-api-url=http://x ipa-lookup-timeout=-1", "seconds wanted"),
            ("ipa-api-url=http://x ipa-insecure=maybe", "true or false"),
        ] {
            let error = Parameters::parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn boot_interfaces() {
        for (value, expected) in [
            ("01-aa-bb-cc-dd-ee-ff", Some("aa:bb:cc:dd:ee:ff")),
            ("AA:BB:CC:DD:EE:FF", Some("aa:bb:cc:dd:ee:ff")),
            ("aa-bb-cc-dd-ee-ff", Some("aa:bb:cc:dd:ee:ff")),
            ("20-aa-bb-cc-dd-ee-ff", None),
            ("aa:bb:cc:dd:ee", None),
            ("", None),
        ] {
            assert_eq!(mac(value).as_deref(), expected, "{value}");
        }
    }
}
