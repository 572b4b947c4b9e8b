//! Boot scripts. They hold nothing secret: whoever is in the provisioning network can read them.

use super::mac::Mac;
use steelyard_core::intent::{BootPlan, BootPurpose};

/// What a site may add, and where the agent finds us.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScriptSettings {
    /// `http://VIP:8080`.
    pub(crate) http_url: String,
    /// `--inspector-extra-kernel-param`
    pub(crate) inspector_params: Vec<String>,
    /// `--installer-extra-kernel-param`
    pub(crate) installer_params: Vec<String>,
    /// `--inspector-collectors`
    pub(crate) collectors: String,
}

/// For a host that nothing is planned for: on to the next boot device.
pub(crate) const NO_PLAN: &str = "#!ipxe\necho Steelyard has no boot plan for this server\nexit\n";

/// The script that boots the deploy agent as this plan wants.
pub(crate) fn script(settings: &ScriptSettings, host: &str, mac: Mac, plan: &BootPlan) -> String {
    let url = &settings.http_url;
    let purpose = match plan.purpose {
        BootPurpose::Inspect => "inspect",
        BootPurpose::Deploy => "deploy",
    };
    format!(
        "#!ipxe\n\
         echo Steelyard: {purpose} {host}\n\
         imgfree\n\
         kernel {url}/boot/vmlinuz {}\n\
         initrd {url}/boot/initramfs\n\
         boot\n",
        kernel_params(settings, mac, plan).join(" ")
    )
}

fn kernel_params(settings: &ScriptSettings, mac: Mac, plan: &BootPlan) -> Vec<String> {
    let url = &settings.http_url;
    // A UEFI kernel finds its ramdisk by this name, which is the last part of the URL.
    let mut params = vec![
        "initrd=initramfs".to_owned(),
        "nofb".to_owned(),
        "vga=normal".to_owned(),
        format!("ipa-api-url={url}"),
        format!("BOOTIF={mac}"),
    ];
    if let Some(ntp) = plan.ntp.first() {
        params.push(format!("ipa-ntp-server={ntp}"));
    }
    let extra = match plan.purpose {
        BootPurpose::Inspect => {
            params.push(format!(
                "ipa-inspection-callback-url={url}{}",
                steelyard_agent_api::paths::INSPECTION
            ));
            params.push(format!("ipa-inspection-collectors={}", settings.collectors));
            params.push("ipa-collect-lldp=1".to_owned());
            &settings.inspector_params
        }
        BootPurpose::Deploy => &settings.installer_params,
    };
    params.extend(extra.iter().cloned());
    params
}

/// A parameter that the script can carry as one word; the message says why not.
pub(crate) fn check_param(param: &str) -> Result<(), String> {
    let name = param.split('=').next().unwrap_or_default();
    if param.is_empty() || !param.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "{param:?} must be one word of printable characters, as in key=value"
        ));
    }
    if matches!(
        name,
        "ipa-agent-token" | "ipa-api-url" | "ipa-inspection-callback-url" | "BOOTIF" | "initrd"
    ) {
        return Err(format!("{name} is set by Steelyard itself: leave it out"));
    }
    // iPXE expands ${...} and ends commands at && and ||.
    if param.contains("${") || param.contains("&&") || param.contains("||") {
        return Err(format!("{param:?} holds characters that iPXE interprets"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ScriptSettings {
        ScriptSettings {
            http_url: "http://192.168.100.4:8080".into(),
            inspector_params: vec!["console=ttyS0".into()],
            installer_params: vec!["console=ttyS1,115200n8".into()],
            collectors: "default,pci-devices".into(),
        }
    }

    fn plan(purpose: BootPurpose) -> BootPlan {
        BootPlan {
            operation: "op-1".into(),
            purpose,
            mac: "52:54:00:00:00:01".into(),
            address: "192.168.100.10/24".parse().unwrap(),
            gateway: None,
            dns: vec![],
            ntp: vec![],
            node_uuid: "uuid-1".into(),
        }
    }

    #[test]
    fn inspection_script() {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        insta::assert_snapshot!(script(&settings(), "bare-metal-1", mac, &plan(BootPurpose::Inspect)), @r"
        #!ipxe
        echo Steelyard: inspect bare-metal-1
        imgfree
        kernel http://192.168.100.4:8080/boot/vmlinuz initrd=initramfs nofb vga=normal ipa-api-url=http://192.168.100.4:8080 BOOTIF=52:54:00:00:00:01 ipa-inspection-callback-url=http://192.168.100.4:8080/v1/continue_inspection ipa-inspection-collectors=default,pci-devices ipa-collect-lldp=1 console=ttyS0
        initrd http://192.168.100.4:8080/boot/initramfs
        boot
        ");
    }

    #[test]
    fn deploy_script_asks_for_no_inspection() {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        let text = script(&settings(), "bare-metal-1", mac, &plan(BootPurpose::Deploy));
        assert!(
            text.contains("console=ttyS1,115200n8") && !text.contains("inspection"),
            "{text}"
        );
        assert!(
            !text.contains("uuid-1") && !text.contains("op-1"),
            "ids are for the agent API: {text}"
        );
    }

    #[test]
    fn parameters_of_the_site_are_checked() {
        assert!(check_param("console=ttyS0,115200n8").is_ok() && check_param("quiet").is_ok());
        for bad in [
            "",
            "a b",
            "x\ny",
            "ipa-agent-token=1",
            "BOOTIF=1",
            "a=${net0/mac}",
            "a=1&&exit",
        ] {
            assert!(check_param(bad).is_err(), "{bad:?}");
        }
    }
}
