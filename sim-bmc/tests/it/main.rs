//! The BMC as the outside sees it: handle and machine under a paused clock, and the server over in-memory and loopback
//! streams.

mod handle;
mod scale;
mod server;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sim_bmc::{
    BmcHandle, Config, Identity, Mac, Machine, MachineState, MemoryMachine, MemoryTimings, Now, Password,
    Personality,
};
use uuid::Uuid;

const SYSTEM: &str = "/redfish/v1/Systems/1";
const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
/// `admin:secret`.
const ADMIN: &str = "Basic YWRtaW46c2VjcmV0";

fn config() -> Config {
    let personality = Personality::named("small-vm").unwrap();
    let identity = Identity {
        serial: "SN0001".to_owned(),
        uuid: Uuid::from_u128(42),
        macs: vec![Mac([0x52, 0x54, 0, 0, 0, 1])],
        bmc_mac: Mac([0x52, 0x54, 0, 0, 0, 2]),
    };
    Config {
        hardware: personality.hardware(&identity).unwrap(),
        personality,
        username: "admin".to_owned(),
        password: Password::new("secret"),
        seed: 1,
    }
}

/// A clock that follows tokio's, so that it stands when tokio's is paused.
fn tokio_clock() -> Now {
    let origin = tokio::time::Instant::now();
    let start: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    Arc::new(move || start.checked_add(origin.elapsed()).unwrap())
}

fn bmc_of(machine: Arc<dyn Machine>) -> BmcHandle {
    BmcHandle::new(config(), machine, tokio_clock())
}

fn memory_machine(state: MachineState) -> MemoryMachine {
    MemoryMachine::new(state, MemoryTimings::default())
}

async fn send(bmc: &BmcHandle, method: &str, path: &str, body: &str) -> http::Response<Bytes> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", ADMIN)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap();
    bmc.handle(request).await
}

async fn system(bmc: &BmcHandle) -> Value {
    let reply = send(bmc, "GET", SYSTEM, "").await;
    assert_eq!(reply.status(), 200);
    serde_json::from_slice(reply.body()).unwrap()
}

async fn reset(bmc: &BmcHandle, kind: &str) -> u16 {
    send(bmc, "POST", RESET, &format!(r#"{{"ResetType": "{kind}"}}"#))
        .await
        .status()
        .as_u16()
}
