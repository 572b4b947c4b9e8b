//! The machine behind a BMC: Redfish asks, the machine does, and what the machine does by itself is seen by Redfish.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use sim_bmc::{BmcHandle, Config, Password, Personality};

use super::super::IPXE_MAGIC;
use super::site::Site;
use super::{clock, host, install, machine, within};

const SYSTEM: &str = "/redfish/v1/Systems/1";

async fn redfish(bmc: &BmcHandle, method: &str, path: &str, body: Value) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(
            "authorization",
            format!("Basic {}", STANDARD.encode("admin:secret")),
        )
        .header("content-type", "application/json")
        .body(if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        })
        .unwrap();
    let answer = bmc.handle(request).await;
    assert!(
        answer.status() < StatusCode::BAD_REQUEST,
        "{method} {path}: {:?}",
        answer.body()
    );
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_once_override_is_used_once_and_progress_is_seen() {
    let (host, cable) = host();
    let mut site = Site::new();
    site.tftp.insert("snponly.efi".to_owned(), IPXE_MAGIC.to_vec());
    site.http.insert(
        "/ipxe/script".to_owned(),
        b"#!ipxe\nsanboot --drive 0x80\n".to_vec(),
    );
    install(&host.disks()[0]);
    let config = Config {
        hardware: (*machine()).clone(),
        personality: Personality::named("cpu-epyc").unwrap(),
        username: "admin".to_owned(),
        password: Password::new("secret"),
        seed: 1,
    };
    let bmc = BmcHandle::new(config, Arc::new(host.clone()), clock());
    let test = async {
        let boot =
            json!({ "Boot": { "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once" } });
        redfish(&bmc, "PATCH", SYSTEM, boot).await;
        let reset = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
        redfish(&bmc, "POST", &reset, json!({ "ResetType": "On" })).await;
        within(&host, 300, "the network boot", site.wait_for("GET /ipxe/script")).await;
        within(&host, 300, "the OS", running(&bmc)).await;
        // The override is spent: the next boot takes the disk, without a question to the network.
        site.seen.send_modify(Vec::clear);
        redfish(&bmc, "POST", &reset, json!({ "ResetType": "ForceRestart" })).await;
        within(
            &host,
            300,
            "a second boot",
            host.status().wait_for(|s| s.boots == 2),
        )
        .await
        .unwrap();
        within(&host, 300, "the OS", running(&bmc)).await;
        let network_boot = site.seen.borrow().iter().any(|line| line.contains("PXE"));
        assert!(!network_boot, "{:?}", site.seen.borrow());
        redfish(&bmc, "POST", &reset, json!({ "ResetType": "GracefulShutdown" })).await;
        within(&host, 300, "off", async {
            while redfish(&bmc, "GET", SYSTEM, Value::Null).await["PowerState"] != "Off" {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        })
        .await;
    };
    tokio::select! {
        biased;
        () = test => {}
        () = host.run(Some(bmc.clone())) => panic!("the machine's run ended"),
        () = bmc.run() => panic!("the BMC's run ended"),
        () = site.stack.run(cable) => panic!("the cable ended"),
        () = site.serve() => panic!("the site ended"),
    }
}

async fn running(bmc: &BmcHandle) {
    while redfish(bmc, "GET", SYSTEM, Value::Null).await["BootProgress"]["LastState"] != "OSRunning" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
