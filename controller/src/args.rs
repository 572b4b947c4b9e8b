//! The controller's flags. Each is one definition: name, environment, default, help. The core never sees
//! them; it gets a [`Policy`].

use clap::Parser;
use ipnet::Ipv4Net;
use jiff::SignedDuration;
use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};
use steelyard_core::{backoff::Backoff, host::view::Policy};

/// Turns racks of bare-metal servers into a programmable, tenant-isolated cloud with Kubernetes YAML.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "steelyard-controller",
    version,
    max_term_width = 110,
    args_override_self = true
)]
pub struct Args {
    /// Namespace of our own objects: the leader's Lease.
    #[arg(long, env = "STEELYARD_NAMESPACE", default_value = "steelyard-system")]
    pub namespace: String,
    /// Who we are among replicas; made up when absent.
    #[arg(long, env = "STEELYARD_IDENTITY")]
    pub identity: Option<String>,
    /// How long a leader's term lasts without renewal.
    #[arg(long, default_value = "30s", value_parser = go_duration)]
    pub lease_duration: Duration,
    #[arg(long, default_value = "5s", value_parser = go_duration)]
    pub lease_renew: Duration,

    /// CA of the BMCs' certificates: a PEM file, or PEM text. Without it only hosts with
    /// disableCertificateVerification can be reached.
    #[arg(long, env = "STEELYARD_BMC_CA")]
    pub bmc_ca: Option<PemSource>,
    /// How long a BMC may take to answer.
    #[arg(long, default_value = "20s", value_parser = go_duration)]
    pub bmc_timeout: Duration,
    /// Conversations with BMCs at one time.
    #[arg(long, default_value_t = 64)]
    pub bmc_connections: usize,
    /// How often the BMC of a host in a steady state is asked.
    #[arg(long, default_value = "60s", value_parser = go_duration)]
    pub bmc_poll: Duration,
    /// How often a BMC or the fabric is asked while something is awaited of it.
    #[arg(long, default_value = "3s", value_parser = go_duration)]
    pub bmc_watch: Duration,

    /// Range of the provisioning network: a host without an address annotation boots with one of it.
    #[arg(long, env = "STEELYARD_PROVISIONING_CIDR")]
    pub provisioning_cidr: Option<Ipv4Net>,
    /// Router of the provisioning network, told to hosts; the first address of the range when absent.
    #[arg(long)]
    pub provisioning_gateway: Option<std::net::Ipv4Addr>,
    /// Our address in the provisioning network: DHCP, TFTP, HTTP boot and the agent's callbacks.
    #[arg(long, env = "STEELYARD_PROVISIONING_VIP", default_value = "192.168.100.4")]
    pub provisioning_vip: std::net::Ipv4Addr,
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
    /// Where the boot file, kernel and ramdisk come from: a directory or an http(s) URL with
    /// snponly.efi, vmlinuz and initramfs.
    #[arg(long, env = "STEELYARD_BOOT_ASSETS")]
    pub boot_assets: String,
    /// Kernel parameters added for inspection.
    #[arg(long = "inspector-extra-kernel-param")]
    pub inspector_kernel_params: Vec<String>,
    /// Kernel parameters added for deployment and cleaning.
    #[arg(long = "installer-extra-kernel-param")]
    pub installer_kernel_params: Vec<String>,
    /// How long an agent may be silent: told to it, and what its heartbeats are timed by.
    #[arg(long, default_value = "300s", value_parser = go_duration)]
    pub agent_heartbeat: Duration,

    /// Fetch images whose URL begins with PREFIX from URL instead.
    #[arg(long, value_name = "PREFIX=URL")]
    pub image_mirror: Vec<crate::image::Mirror>,
    /// Keep fetched images in this directory; in memory when absent.
    #[arg(long, env = "STEELYARD_IMAGE_CACHE")]
    pub image_cache: Option<PathBuf>,
    /// CA for https image upstreams and boot assets: a PEM file, or PEM text.
    #[arg(long)]
    pub upstream_ca: Option<PemSource>,

    /// Secret (NAMESPACE/NAME) with url, username, password and optionally ca.crt of the Netris controller.
    #[arg(long, env = "STEELYARD_FABRIC_SECRET")]
    pub fabric_secret: Option<SecretName>,
    /// Server cluster that servers are inspected, written and wiped in.
    #[arg(long, default_value = "provisioning")]
    pub provisioning_cluster: String,
    /// Server cluster template that a tenant's network is made from.
    #[arg(long, default_value = "tenant")]
    pub tenant_template: String,

    /// Where we serve /node/join to tenants' machines.
    #[arg(long, default_value = "192.168.101.254:443")]
    pub join_listen: SocketAddr,
    /// How machines reach that, HOST[:PORT]; JOIN_LISTEN when absent.
    #[arg(long)]
    pub join_endpoint: Option<String>,
    /// How often a tenant's kubeconfig is looked for until it is there.
    #[arg(long, default_value = "5s", value_parser = go_duration)]
    pub tenant_poll: Duration,
    /// How long a join token is good for.
    #[arg(long, default_value = "2h", value_parser = go_duration)]
    pub ticket_validity: Duration,

    /// Hosts that may inspect, write or wipe at one time.
    #[arg(long, default_value_t = 20)]
    pub max_busy_hosts: usize,
    /// Wipe only metadata between users. Not safe between tenants that do not trust each other.
    #[arg(long)]
    pub metadata_clean: bool,
    /// Failed deployments of one image before it is not tried again; 0 = no limit.
    #[arg(long, default_value_t = 5)]
    pub max_provisioning_retries: u32,
    /// Wait after a first failure; doubled with each further one, up to 8 h.
    #[arg(long, default_value = "2m", value_parser = go_duration)]
    pub retry_after: Duration,
    /// From power-on to the inventory.
    #[arg(long, default_value = "30m", value_parser = go_duration)]
    pub inspect_timeout: Duration,
    /// From power-on to the agent's first heartbeat.
    #[arg(long, default_value = "30m", value_parser = go_duration)]
    pub agent_timeout: Duration,
    #[arg(long, default_value = "60m", value_parser = go_duration)]
    pub write_timeout: Duration,
    #[arg(long, default_value = "24h", value_parser = go_duration)]
    pub erase_timeout: Duration,
    #[arg(long, default_value = "5m", value_parser = go_duration)]
    pub power_timeout: Duration,
    #[arg(long, default_value = "10m", value_parser = go_duration)]
    pub fabric_timeout: Duration,
    /// From power-on in the tenant's network to a Ready node.
    #[arg(long, default_value = "60m", value_parser = go_duration)]
    pub join_timeout: Duration,

    /// Log as JSON lines.
    #[arg(long)]
    pub log_json: bool,
}

impl Args {
    /// Flags that only make sense together. `management`: the longest that one order to a fabric or an agent may take.
    pub(crate) fn check(&self, management: Duration) -> Result<(), String> {
        // Fenced: no order is begun that could last longer than our term is certain to.
        let order = self.bmc_timeout.max(management);
        if self.lease_duration <= self.lease_renew + order {
            return Err(format!(
                "--lease-duration must be longer than --lease-renew and one order together ({} s + {} s): nothing could ever be done within a term",
                self.lease_renew.as_secs_f32(),
                order.as_secs_f32(),
            ));
        }
        Ok(())
    }

    pub fn policy(&self, has_fabric: bool) -> Policy {
        Policy {
            home_network: has_fabric.then(|| self.provisioning_cluster.clone()),
            metadata_clean: self.metadata_clean,
            backoff: Backoff {
                first: signed(self.retry_after),
                cap: SignedDuration::from_hours(8),
            },
            inspect_within: signed(self.inspect_timeout),
            agent_within: signed(self.agent_timeout),
            write_within: signed(self.write_timeout),
            erase_within: signed(self.erase_timeout),
            power_within: signed(self.power_timeout),
            fabric_within: signed(self.fabric_timeout),
            join_within: signed(self.join_timeout),
            bmc_poll: signed(self.bmc_poll),
            bmc_watch: signed(self.bmc_watch),
            max_provisioning_retries: self.max_provisioning_retries,
        }
    }
}

pub(crate) fn signed(d: Duration) -> SignedDuration {
    SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX)
}

/// Durations as Kubernetes users write them: `1h30m`, `300ms`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text
        .parse()
        .map_err(|e| format!("{text:?} is not a duration such as 90s or 1h30m: {e}"))?;
    Ok(parsed.into())
}

/// A PEM file, or the text itself.
#[derive(Clone, Debug)]
pub struct PemSource(String);

impl FromStr for PemSource {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(PemSource(s.to_owned()))
    }
}

impl PemSource {
    /// The text, and what to call it in errors.
    pub fn read(&self) -> Result<(String, String), std::io::Error> {
        if self.0.trim_start().starts_with("-----BEGIN") {
            return Ok((self.0.clone(), "the given PEM text".into()));
        }
        std::fs::read_to_string(&self.0)
            .map(|text| (text, self.0.clone()))
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", self.0)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    pub namespace: String,
    pub name: String,
}

impl FromStr for SecretName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(SecretName {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(format!("{s:?} is not NAMESPACE/NAME")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_later_flag_wins() {
        let args = Args::try_parse_from([
            "x",
            "--boot-assets=/a",
            "--boot-assets=/b",
            "--image-mirror=a=http://a",
            "--image-mirror=b=http://b",
        ]);
        let args = args.unwrap();
        assert_eq!((args.boot_assets.as_str(), args.image_mirror.len()), ("/b", 2));
    }

    #[test]
    fn a_term_is_longer_than_an_order() {
        let check = |flags: &[&str]| {
            let all = ["x", "--boot-assets", "/b"].iter().chain(flags).copied();
            Args::try_parse_from(all).unwrap().check(Duration::from_secs(20))
        };
        assert_eq!(check(&[]), Ok(()));
        assert!(
            check(&["--lease-duration", "25s"])
                .unwrap_err()
                .contains("5 s + 20 s")
        );
        assert!(
            check(&["--bmc-timeout", "30s"])
                .unwrap_err()
                .contains("5 s + 30 s")
        );
    }

    #[test]
    fn bad_values_say_what_is_wanted() {
        let error = |flags: &[&str]| {
            let all = ["x", "--boot-assets", "/b"].iter().chain(flags).copied();
            Args::try_parse_from(all).unwrap_err().to_string()
        };
        assert!(error(&["--image-mirror", "ubuntu"]).contains("is not PREFIX=URL"));
        assert!(error(&["--fabric-secret", "fabric"]).contains("is not NAMESPACE/NAME"));
        assert!(error(&["--bmc-poll", "soon"]).contains("such as 90s or 1h30m"));
    }
}
