//! From power-on to a kernel, and everything that can go wrong on the way.

use sim_bmc::{BootProgress, Machine, MachineCommand, MachineState, Power};

use super::super::IPXE_MAGIC;
use super::super::image::artefacts;
use super::site::{Site, VIP};
use super::{host, install, within};

fn script(lines: &str) -> Vec<u8> {
    format!("#!ipxe\n{lines}\n").into_bytes()
}

fn site(lines: &str) -> Site {
    let mut site = Site::new();
    // More than one block, and not a whole number of them.
    site.tftp
        .insert("snponly.efi".to_owned(), [IPXE_MAGIC, &[7; 3000]].concat());
    site.http.insert("/ipxe/script".to_owned(), script(lines));
    site
}

/// Runs host and site, and what the test does with them.
macro_rules! drive {
    ($host:expr, $site:expr, $cable:expr, $test:expr) => {
        tokio::select! {
            biased;
            out = $test => out,
            () = $host.run(None) => panic!("the machine's run ended"),
            () = $site.stack.run($cable) => panic!("the cable ended"),
            () = $site.serve() => panic!("the site ended"),
        }
    };
}

#[tokio::test(start_paused = true)]
async fn pxe_loads_ipxe_and_starts_the_agent() {
    let (host, cable) = host();
    let url = format!("http://{VIP}:8080");
    let mut site = site(&format!(
        "imgfree\nkernel {url}/boot/vmlinuz ipa-api-url={url} BOOTIF=${{mac}} initrd=initramfs\ninitrd {url}/boot/initramfs\nboot"
    ));
    let built = artefacts(1).unwrap();
    site.http
        .insert("/boot/vmlinuz".to_owned(), built.kernel.to_vec());
    site.http
        .insert("/boot/initramfs".to_owned(), built.initrd.to_vec());
    drive!(host, site, cable, async {
        host.apply(MachineCommand::On).await.unwrap();
        // The agent has come up when it looks for its service.
        within(&host, 120, "a request of the agent", async {
            let mut seen = site.seen.subscribe();
            let agent = |line: &String| line == "GET /" || line.contains("/v1/");
            seen.wait_for(|seen| seen.iter().any(agent)).await.unwrap();
        })
        .await;
        assert_eq!(host.state().await.boot_progress, BootProgress::OsBootStarted);
    });
    let seen = site.seen.borrow().clone();
    let expected = [
        "DISCOVER PXE",
        "REQUEST PXE",
        "TFTP snponly.efi",
        "DISCOVER IPXE",
        "REQUEST IPXE",
        "GET /ipxe/script",
        "GET /boot/vmlinuz",
        "GET /boot/initramfs",
        "DISCOVER OS",
        "REQUEST OS",
    ];
    assert_eq!(seen[..expected.len()], expected);
}

#[tokio::test(start_paused = true)]
async fn each_failure_says_why_and_the_next_entry_is_tried() {
    let cases = [
        ("exit", IPXE_MAGIC.to_vec(), "iPXE went back to the firmware"),
        (
            "menu x",
            IPXE_MAGIC.to_vec(),
            "iPXE: line 2: menu: command not found",
        ),
        (
            "boot",
            IPXE_MAGIC.to_vec(),
            "iPXE: line 2: boot: no kernel is loaded",
        ),
        (
            "exit",
            b"MZ something else".to_vec(),
            "is not a program that this firmware can start",
        ),
        (
            "chain http://192.168.100.4:8080/none",
            IPXE_MAGIC.to_vec(),
            "HTTP status 404",
        ),
        (
            "sanboot --no-describe --drive 0x85",
            IPXE_MAGIC.to_vec(),
            "disk 0x85: no such drive",
        ),
        ("sanboot --no-describe --drive 0x80", IPXE_MAGIC.to_vec(), "no "),
    ];
    for (lines, program, expected) in cases {
        let (host, cable) = host();
        let mut site = site(lines);
        site.tftp.insert("snponly.efi".to_owned(), program);
        drive!(host, site, cable, async {
            host.apply(MachineCommand::On).await.unwrap();
            within(&host, 60, expected, host.console().wait_for("Entering setup")).await;
            let pxe = |line: &String| line.contains("PXEv4 eth0") && line.contains(expected);
            assert!(
                host.console().lines().iter().any(pxe),
                "{expected}:\n{}",
                host.console()
            );
            let state = MachineState {
                power: Power::On,
                boot_progress: BootProgress::SetupEntered,
            };
            within(
                &host,
                1,
                "setup",
                host.status().wait_for(|status| status.state == state),
            )
            .await
            .unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn without_dhcp_the_disk_is_next_and_an_empty_port_costs_nothing() {
    // A port in the wrong VLAN: the cable leads to somebody who has no DHCP.
    let (host, cable) = host();
    install(&host.disks()[1]);
    let site = Site::new();
    let start = tokio::time::Instant::now();
    tokio::select! {
        biased;
        () = async {
            host.apply(MachineCommand::On).await.unwrap();
            let booted = |status: &super::super::HostStatus| status.state.boot_progress == BootProgress::OsRunning;
            within(&host, 120, "the OS", host.status().wait_for(booted)).await.unwrap();
        } => {}
        () = host.run(None) => panic!("the machine's run ended"),
        () = site.stack.run(cable) => panic!("the cable ended"),
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert!(host.status().borrow().stage.starts_with("OS lab-os"));
}

#[tokio::test(start_paused = true)]
async fn power_is_honest() {
    let (host, cable) = host();
    let site = site("exit");
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drive!(host, site, cable, async {
        let wrong = host.apply(MachineCommand::GracefulShutdown).await;
        assert!(wrong.is_err(), "a machine that is off has no button to press");
        host.apply(MachineCommand::ForceOff).await.unwrap();
        for stage in ["DISCOVER PXE", "TFTP", "GET /ipxe/script"] {
            host.apply(MachineCommand::On).await.unwrap();
            assert!(host.apply(MachineCommand::On).await.is_err(), "it is on already");
            site.seen.send_modify(Vec::clear);
            within(&host, 60, stage, site.wait_for(stage)).await;
            host.apply(MachineCommand::ForceOff).await.unwrap();
            assert_eq!(host.state().await, MachineState::OFF);
            site.seen.send_modify(Vec::clear);
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            let quiet = site.seen.borrow().is_empty();
            assert!(
                quiet,
                "a machine without power still asks: {:?}",
                site.seen.borrow()
            );
        }
        assert_eq!(
            tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            tasks,
            "tasks of a dead boot"
        );

        // A reset starts over at POST; the button turns it off after a moment.
        host.apply(MachineCommand::On).await.unwrap();
        let boots = host.status().borrow().boots;
        host.apply(MachineCommand::ForceRestart).await.unwrap();
        within(
            &host,
            60,
            "a second boot",
            host.status().wait_for(|s| s.boots == boots + 1),
        )
        .await
        .unwrap();
        host.apply(MachineCommand::GracefulShutdown).await.unwrap();
        within(
            &host,
            60,
            "off",
            host.status().wait_for(|s| s.state == MachineState::OFF),
        )
        .await
        .unwrap();
    });
    // The owner cuts everything; a new run finds a machine without power that can be turned on again.
    let (near, _far) = (host.clone(), ());
    tokio::select! {
        biased;
        () = async { near.apply(MachineCommand::On).await.unwrap() } => {}
        () = near.run(None) => panic!("the machine's run ended"),
    }
    assert_eq!(near.state().await.power, Power::On);
}
