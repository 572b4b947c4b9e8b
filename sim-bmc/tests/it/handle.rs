//! Engine and machine together. The clock is paused: every wait is virtual.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::StatusCode;
use sim_bmc::faults::{Effect, Rule};
use sim_bmc::{
    BmcHandle, BootProgress, BootTarget, Machine, MachineCommand, MachineError, MachineState, Power,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{SYSTEM, bmc_of, memory_machine, reset, send, system};

/// Polls until the system shows what is wanted, and returns how long that took.
async fn until(bmc: &BmcHandle, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> Duration {
    let start = Instant::now();
    let waiting = async {
        while !holds(&system(bmc).await) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(120), waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
    start.elapsed()
}

async fn until_power(bmc: &BmcHandle, power: &str) -> Duration {
    until(bmc, power, |system| system["PowerState"] == power).await
}

#[tokio::test(start_paused = true)]
async fn a_whole_life() {
    let machine = memory_machine(MachineState::OFF);
    let bmc = bmc_of(Arc::new(machine.clone()));
    let life = async {
        let body = r#"{"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}}"#;
        assert_eq!(send(&bmc, "PATCH", SYSTEM, body).await.status(), 200);
        assert_eq!(reset(&bmc, "On").await, 204);
        assert_eq!(system(&bmc).await["PowerState"], "PoweringOn");
        let took = until_power(&bmc, "On").await;
        assert!((2000..2100).contains(&took.as_millis()), "{took:?}");
        until(&bmc, "firmware asked", |system| {
            system["Boot"]["BootSourceOverrideEnabled"] == "Disabled"
        })
        .await;
        until(&bmc, "OS runs", |system| {
            system["BootProgress"]["LastState"] == "OSRunning"
        })
        .await;
        assert_eq!(reset(&bmc, "PowerCycle").await, 204);
        until_power(&bmc, "Off").await;
        until_power(&bmc, "PoweringOn").await;
        until_power(&bmc, "On").await;
        assert_eq!(reset(&bmc, "GracefulShutdown").await, 204);
        until_power(&bmc, "PoweringOff").await;
        until_power(&bmc, "Off").await;
        assert_eq!(system(&bmc).await["BootProgress"]["LastState"], "None");
    };
    tokio::select! {
        biased;
        () = life => {}
        () = bmc.run() => {}
        () = machine.clone().run(bmc.clone()) => {}
    }
    use MachineCommand::{ForceOff, GracefulShutdown, On};
    assert_eq!(machine.history(), [On, ForceOff, On, GracefulShutdown]);
}

/// A machine that records what it is told and takes a while to do it.
struct Slow {
    log: Mutex<Vec<MachineCommand>>,
    state: Mutex<MachineState>,
    takes: Duration,
}

impl Slow {
    fn new(state: MachineState, takes: Duration) -> Arc<Slow> {
        Arc::new(Slow {
            log: Mutex::default(),
            state: Mutex::new(state),
            takes,
        })
    }

    fn log(&self) -> Vec<MachineCommand> {
        self.log.lock().unwrap().clone()
    }
}

impl Machine for Slow {
    fn state(&self) -> BoxFuture<'_, MachineState> {
        async { *self.state.lock().unwrap() }.boxed()
    }

    fn apply(&self, command: MachineCommand) -> BoxFuture<'_, Result<(), MachineError>> {
        async move {
            self.log.lock().unwrap().push(command);
            sleep(self.takes).await;
            match command {
                MachineCommand::On => *self.state.lock().unwrap() = MachineState::ON,
                MachineCommand::ForceOff => *self.state.lock().unwrap() = MachineState::OFF,
                MachineCommand::Nmi => {
                    return Err(MachineError::Backend {
                        command,
                        reason: "no such wire".to_owned(),
                    });
                }
                _ => {}
            }
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn commands_are_applied_once_and_in_order() {
    let machine = Slow::new(MachineState::OFF, Duration::from_secs(30));
    let bmc = bmc_of(machine.clone());
    let story = async {
        assert_eq!(reset(&bmc, "On").await, 204);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(machine.log(), [MachineCommand::On], "is being applied");
        assert_eq!(
            system(&bmc).await["PowerState"],
            "PoweringOn",
            "until the machine is on"
        );
        assert_eq!(
            reset(&bmc, "On").await,
            204,
            "a repeated request is accepted and does nothing"
        );
        assert_eq!(reset(&bmc, "ForceRestart").await, 409);
        assert_eq!(reset(&bmc, "ForceOff").await, 204, "force-off always wins");
        until_power(&bmc, "Off").await;
    };
    tokio::select! {
        biased;
        () = story => {}
        () = bmc.run() => {}
    }
    assert_eq!(machine.log(), [MachineCommand::On, MachineCommand::ForceOff]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_driver_repeats_nothing() {
    let machine = Slow::new(MachineState::OFF, Duration::from_secs(30));
    let bmc = bmc_of(machine.clone());
    assert_eq!(reset(&bmc, "On").await, 204);
    assert!(timeout(Duration::from_secs(5), bmc.run()).await.is_err());
    assert_eq!(machine.log(), [MachineCommand::On], "dropped in the middle");
    *machine.state.lock().unwrap() = MachineState::ON;
    tokio::select! {
        biased;
        took = until_power(&bmc, "On") => assert!(took < Duration::from_secs(1)),
        () = bmc.run() => {}
    }
    assert_eq!(machine.log(), [MachineCommand::On]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_command_leaves_the_truth() {
    let machine = Slow::new(MachineState::ON, Duration::ZERO);
    let bmc = bmc_of(machine.clone());
    let story = async {
        assert_eq!(reset(&bmc, "Nmi").await, 204);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(machine.log(), [MachineCommand::Nmi]);
        assert_eq!(reset(&bmc, "ForceOff").await, 204, "not stuck");
        until_power(&bmc, "Off").await;
    };
    tokio::select! {
        biased;
        () = story => {}
        () = bmc.run() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn guests_report_themselves() {
    let bmc = bmc_of(Slow::new(MachineState::ON, Duration::ZERO));
    bmc.machine_changed(MachineState {
        power: Power::On,
        boot_progress: BootProgress::OsBootStarted,
    });
    assert_eq!(system(&bmc).await["BootProgress"]["LastState"], "OSBootStarted");
    bmc.machine_changed(MachineState::OFF);
    assert_eq!(system(&bmc).await["PowerState"], "Off");
    assert_eq!(bmc.post_begins().target, BootTarget::None);
    assert_eq!(
        bmc.boot_order().first().map(|option| option.target()),
        Some(BootTarget::Hdd)
    );
}

#[tokio::test(start_paused = true)]
async fn faults_come_and_go() {
    let bmc = bmc_of(Slow::new(MachineState::OFF, Duration::ZERO));
    {
        let _late = bmc.fault(Rule::always(Effect::Delay(Duration::from_secs(7))));
        let start = Instant::now();
        system(&bmc).await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }
    {
        let _busy = bmc.fault(
            Rule::always(Effect::Unavailable {
                retry_after_seconds: 3,
            })
            .times(1),
        );
        let reply = send(&bmc, "GET", SYSTEM, "").await;
        assert_eq!(
            (
                reply.status().as_u16(),
                reply.headers()["retry-after"].to_str().unwrap()
            ),
            (503, "3")
        );
        system(&bmc).await;
    }
    {
        let _rotated = bmc.fault(Rule::always(Effect::RefuseCredentials));
        assert_eq!(send(&bmc, "GET", SYSTEM, "").await.status(), 401);
        assert_eq!(send(&bmc, "GET", "/redfish/v1/", "").await.status(), 200);
    }
    {
        let _lie = bmc.fault(Rule::always(Effect::ReportPower(Power::On)));
        assert_eq!(system(&bmc).await["PowerState"], "On");
    }
    {
        let lost = Rule::always(Effect::AppliedButAnswers(StatusCode::BAD_GATEWAY));
        let _lost = bmc.fault(lost.on(http::Method::PATCH, SYSTEM));
        assert_eq!(
            send(&bmc, "PATCH", SYSTEM, r#"{"AssetTag": "kept"}"#)
                .await
                .status(),
            502
        );
    }
    {
        let _closed = bmc.fault(Rule::always(Effect::RefuseConnections));
        assert!(!bmc.accepts_connections());
    }
    assert!(bmc.accepts_connections());
    let system = system(&bmc).await;
    assert_eq!(
        (&system["PowerState"], &system["AssetTag"]),
        (&"Off".into(), &"kept".into())
    );
}
