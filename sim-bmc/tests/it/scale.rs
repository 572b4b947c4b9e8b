//! A thousand BMCs in one process are cheap.

use std::sync::Arc;

use sim_bmc::{BmcHandle, Config, Identity, Mac, MachineState, Password, Personality};
use uuid::Uuid;

use crate::{memory_machine, system, tokio_clock};

const COUNT: usize = 1000;
/// Measured 14 KiB for the largest personality (serial numbers, ids and MACs of 52 parts); twice that is the alarm.
const MAX_BYTES_EACH: usize = 28 * 1024;

/// Resident memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_bmc_holds_little() {
    let personality = Personality::named("dgx-h100").unwrap();
    let clock = tokio_clock();
    let make = |n: usize| {
        let mac = |port: usize| Mac([0x52, 0x54, (n >> 8) as u8, n as u8, 0, port as u8]);
        let identity = Identity {
            serial: format!("SN{n:06}"),
            uuid: Uuid::from_u128(n as u128),
            macs: (0..personality.nic_count()).map(mac).collect(),
            bmc_mac: mac(99),
        };
        let config = Config {
            hardware: personality.hardware(&identity).unwrap(),
            personality: personality.clone(),
            username: "admin".to_owned(),
            password: Password::new("secret"),
            seed: n as u64,
        };
        BmcHandle::new(config, Arc::new(memory_machine(MachineState::OFF)), clock.clone())
    };
    // What is made once, such as parsed data files, does not count.
    system(&make(0)).await;
    let before = resident();
    let bmcs: Vec<BmcHandle> = (1..=COUNT).map(make).collect();
    for bmc in bmcs.iter().step_by(10) {
        assert_eq!(system(bmc).await["PowerState"], "Off");
    }
    let each = resident().saturating_sub(before) / COUNT;
    assert!(each < MAX_BYTES_EACH, "{each} bytes for each BMC");
}
