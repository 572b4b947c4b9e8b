//! Every label, annotation, finalizer, property and data key, each spelled once.

/// Finalizers.
pub mod finalizer {
    /// On a BareMetalHost, as Metal3 does.
    pub const HOST: &str = "baremetalhost.metal3.io";
    /// On a HardwareData, as Metal3 does.
    pub const HARDWARE_DATA: &str = "baremetalhost.metal3.io/hardwareData";
    /// On the Secret with BMC credentials, as Metal3 does.
    pub const HOST_SECRET: &str = "baremetalhost.metal3.io/secret";
    /// On a NodeClaim, until its host is free again.
    pub const CLAIM: &str = "steelyard.dev/claim";
    /// On a VirtualClusterInstance, until its claims are gone.
    pub const VIRTUAL_CLUSTER: &str = "steelyard.dev/claims";
}

/// Labels.
pub mod label {
    /// On a host: name of the NodeClaim that has it.
    pub const NODE_CLAIM: &str = "metal3.vcluster.com/node-claim";
    /// On a host: namespace of that NodeClaim.
    pub const NODE_CLAIM_NAMESPACE: &str = "metal3.vcluster.com/node-claim-namespace";
    /// On Secrets that belong to a host: `baremetal`.
    pub const ENVIRONMENT: &str = "environment.metal3.io";
    pub const ENVIRONMENT_BAREMETAL: &str = "baremetal";
    /// On a NodeType: the provider that made it.
    pub const PROVIDER: &str = "vcluster.com/node-provider";
    /// On a NodeClaim of a pool: the VirtualClusterInstance and the pool.
    pub const VIRTUAL_CLUSTER: &str = "vcluster.loft.sh/vcluster";
    pub const POOL: &str = "vcluster.loft.sh/static-node-pool";
    /// On a Secret that Steelyard made for a claim: the claim's name.
    pub const OWNED_BY_CLAIM: &str = "steelyard.dev/claim";
    /// On a Secret that Steelyard made for a host: the host's name.
    pub const OWNED_BY_HOST: &str = "steelyard.dev/host";
    /// On a node.
    pub const NODE_TYPE: &str = "vcluster.com/node-type";
    pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    pub const OS: &str = "kubernetes.io/os";
    pub const ARCH: &str = "kubernetes.io/arch";
    pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
}

/// Annotations.
pub mod annotation {
    /// On a host: its address as CIDR, the router, and comma lists of DNS and NTP servers.
    pub const IP_ADDRESS: &str = "metal3.vcluster.com/ip-address";
    pub const GATEWAY: &str = "metal3.vcluster.com/gateway";
    pub const DNS_SERVERS: &str = "metal3.vcluster.com/dns-servers";
    pub const NTP_SERVERS: &str = "metal3.vcluster.com/ntp-servers";
    /// What a claim changed on a host, with the values from before.
    pub const RESTORE: &str = "steelyard.dev/restore";

    /// On a Secret made for a claim: the claim and the address that it was made for.
    pub const RENDERED_FOR: &str = "steelyard.dev/rendered-for";

    pub const PAUSED: &str = "baremetalhost.metal3.io/paused";
    pub const DETACHED: &str = "baremetalhost.metal3.io/detached";
    pub const STATUS: &str = "baremetalhost.metal3.io/status";
    pub const INSPECT: &str = "inspect.metal3.io";
    pub const HARDWARE_DETAILS: &str = "inspect.metal3.io/hardwaredetails";
    /// Once: removed when the host was seen off.
    pub const REBOOT: &str = "reboot.metal3.io";
    /// With a suffix: off until whoever set it removes it.
    pub const REBOOT_PREFIX: &str = "reboot.metal3.io/";
    /// Cluster API: not to be given out.
    pub const UNHEALTHY: &str = "capi.metal3.io/unhealthy";

    /// On a NodeClaim: reboot its machine once.
    pub const MACHINE_REBOOT: &str = "machines.vcluster.com/reboot";
    /// On a NodeClaim: take this one first when its pool shrinks.
    pub const PREFERRED_DELETION: &str = "vcluster.com/preferred-deletion";
}

/// Properties of providers, types, environments and claims; the more specific wins.
pub mod property {
    pub const OS_IMAGE: &str = "vcluster.com/os-image";
    pub const IMAGE_URL: &str = "metal3.vcluster.com/image-url";
    pub const IMAGE_CHECKSUM: &str = "metal3.vcluster.com/image-checksum";
    pub const IMAGE_CHECKSUM_TYPE: &str = "metal3.vcluster.com/image-checksum-type";
    pub const NETWORK_CIDR: &str = "metal3.vcluster.com/network-cidr";
    pub const NETWORK_IP_RANGE: &str = "metal3.vcluster.com/network-ip-range";
    pub const DNS_SERVERS: &str = "metal3.vcluster.com/dns-servers";
    pub const NTP_SERVERS: &str = "metal3.vcluster.com/ntp-servers";
    pub const NETWORK_DATA: &str = "metal3.vcluster.com/network-data";
    pub const NETWORK_DATA_TEMPLATE: &str = "vcluster.com/network-data-template-config";
    pub const USER_DATA: &str = "vcluster.com/user-data";
    pub const USER_DATA_TEMPLATE: &str = "vcluster.com/user-data-template-config";
    pub const SSH_KEYS: &str = "vcluster.com/ssh-keys";
    pub const NETWORK_ENVIRONMENT: &str = "vcluster.com/network-environment";
    pub const SERVER_NAME: &str = "metal3.vcluster.com/server-name";
    /// The Netris server cluster (tenant network) that the machine's ports join.
    pub const SERVER_CLUSTER: &str = "netris.vcluster.com/server-cluster";

    /// Built in: known of every type without being written anywhere.
    pub const NODE_TYPE: &str = super::label::NODE_TYPE;
    pub const NODE_PROVIDER: &str = super::label::PROVIDER;
    pub const INSTANCE_TYPE: &str = super::label::INSTANCE_TYPE;
    pub const OS: &str = super::label::OS;
    pub const ZONE: &str = super::label::ZONE;
    pub const CAPACITY_TYPE: &str = super::label::CAPACITY_TYPE;
}

/// Keys of Secrets.
pub mod secret {
    pub const USERNAME: &str = "username";
    pub const PASSWORD: &str = "password";
    pub const USER_DATA: &str = "userData";
    pub const NETWORK_DATA: &str = "networkData";
    pub const META_DATA: &str = "metaData";
    /// Read where the key above is missing, as Metal3 does.
    pub const VALUE: &str = "value";
    /// A tenant's kubeconfig, in Secret `vc-NAME`.
    pub const KUBECONFIG: &str = "config";

    /// Name of the Secret with a tenant's kubeconfig.
    pub fn kubeconfig_of(virtual_cluster: &str) -> String {
        format!("vc-{virtual_cluster}")
    }

    /// Names of the Secrets made for a claim's machine, in the host's namespace.
    pub fn user_data_of(claim_namespace: &str, claim: &str) -> String {
        format!("{claim_namespace}-{claim}-user-data")
    }
    pub fn network_data_of(claim_namespace: &str, claim: &str) -> String {
        format!("{claim_namespace}-{claim}-network-data")
    }
    /// Name of the Secret with what a host's agent proved itself with.
    pub fn agent_of(host: &str) -> String {
        format!("{host}-steelyard-agent")
    }
}

/// Resource names, as in Kubernetes.
pub mod resource {
    pub const CPU: &str = "cpu";
    pub const MEMORY: &str = "memory";
    pub const STORAGE: &str = "storage";
    pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
    pub const PODS: &str = "pods";
    pub const GPU: &str = "nvidia.com/gpu";

    /// Resources that every machine has: what is not among them is custom, and a type that has it is used
    /// only when it is asked for.
    pub fn is_custom(name: &str) -> bool {
        !matches!(name, CPU | MEMORY | STORAGE | EPHEMERAL_STORAGE | PODS) && !name.starts_with("hugepages-")
    }
}

/// Where the controller lives.
pub mod controller {
    pub const NAMESPACE: &str = "steelyard-system";
    pub const SERVICE_ACCOUNT: &str = "steelyard-controller";
    pub const USER: &str = "system:serviceaccount:steelyard-system:steelyard-controller";
    pub const LEASE: &str = "steelyard-controller";
}
